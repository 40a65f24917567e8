"""The best rival: one process with N of Huey's threads."""

import os
import sys

from huey import RedisHuey
from sqlalchemy.orm import Session

from bench import bare_job

huey = RedisHuey("bench", url=os.environ["REDIS_URL"])
# A session returns its connection before the call, so a few connections serve many threads.
engine = bare_job.open_engine(pool_size=int(os.environ.get("BENCH_THREADS", "64")) // 4, max_overflow=0)
client = bare_job.open_client()


@huey.task()
def take(capture_id: str) -> None:
    with Session(engine, expire_on_commit=False) as session:
        bare_job.take(session, client, capture_id)


def main() -> None:
    print("started", flush=True)
    huey.create_consumer(workers=int(sys.argv[1]), worker_type="thread").run()
