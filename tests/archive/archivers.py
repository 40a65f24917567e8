"""A nursery of archivers: each is a process that kills itself somewhere at random, and is followed by another.

    python archivers.py DATABASE_URL BUCKET ENDPOINT SEED     (the keys of S3 and for signing are in its environment)

Each of them also purges, a batch after each round. It dies at one of its own places, or wherever it happens to be when
its time is up: in a statement, in a request.

Forked from here, because loading S3 and Parquet anew for each would take longer than its life. Nothing of theirs is
used before the fork. Until SIGTERM; then it prints how often which place was the end of one.
"""

import json
import os
import random
import signal
import sys
import time
import traceback
from collections import Counter
from datetime import timedelta

from dying import Watched, watched_commits
from sqlalchemy.exc import SQLAlchemyError

from archive.errors import EvidenceDiffers, StoreAway
from archive.format.manifests import Source
from archive.policy import retention_file
from archive.purging import purger as purging
from archive.purging.purger import Purger
from archive.s3.store import Store
from archive.signing.ed25519 import Ed25519Signer
from archive.writing.batch_size import BatchSize
from archive.writing.writer import Writer
from billing import database
from billing.batch_limit import BatchLimit
from billing.timing import SHORT

DEATH = 0.02
"""At each place; a batch has fourteen."""
DAILY = 0.02
"""Before each round."""
LIFE_S = 3.0
"""The longest."""
ANYWHERE = "anywhere"


def live(seed: str, tell: int) -> None:
    """Archive until death. The last place is written to `tell`."""
    url, bucket, endpoint = sys.argv[1:4]
    rng = random.Random(seed)

    def passes(place: str) -> None:
        if rng.random() < DEATH:
            os.write(tell, place.encode())
            os.kill(os.getpid(), signal.SIGKILL)

    keys = {"access_key": os.environ["ACCESS"], "secret_key": os.environ["SECRET"]}
    store = Store(bucket, endpoint=endpoint, region="us-east-1", **keys)
    engine = database.open_engine(url, SHORT, name="archiver")
    watched: Store = Watched(store, passes)  # type: ignore[assignment]
    terms, policy = {"wait_s": 0.0, "patience_s": 0.3}, retention_file.load()
    published, signer = False, Ed25519Signer.read(os.environ["SIGNING_KEY"])
    writer = Writer(BatchSize(engine), watched, policy, Source("test", "ins_test"), **terms, signer=signer)
    purging.REST = 0
    purger = Purger(engine, watched, timedelta(days=90), _limit=BatchLimit(50))
    with watched_commits(passes):
        while True:
            try:
                # As an archiver does at its start, and once a minute: the public key, and days without facts.
                if rng.random() < DAILY or not published:
                    writer.daily()
                    published = True
                moved = writer.round().archived
                step = purger.next()
                for trouble in step.troubles if step else ():
                    # Postgres may be slow; evidence may not differ.
                    if isinstance(trouble, EvidenceDiffers):
                        os.write(2, f"{trouble}\n".encode())
                        os._exit(4)
            except (SQLAlchemyError, StoreAway):
                moved = 0
            if not moved:
                time.sleep(0.01)


def main() -> None:
    deaths: Counter[str] = Counter()
    rng = random.Random(sys.argv[4])
    child = 0

    def end(*_: object) -> None:
        if child:
            os.kill(child, signal.SIGKILL)
        print(json.dumps(deaths), flush=True)
        os._exit(0)

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGALRM, lambda *_: os.kill(child, signal.SIGKILL) if child else None)
    while True:
        told, tell = os.pipe()
        child = os.fork()
        if not child:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            try:
                live(f"{sys.argv[4]}-{deaths.total()}", tell)
            except BaseException:  # noqa: BLE001 - a forked child must not go on as a second nursery
                traceback.print_exc()
            os._exit(3)
        os.close(tell)
        signal.setitimer(signal.ITIMER_REAL, rng.uniform(0.05, LIFE_S))
        # Not reaped before the alarm is off: its number could be another's by then.
        os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
        signal.setitimer(signal.ITIMER_REAL, 0)
        _, status = os.waitpid(child, 0)
        place = os.read(told, 100).decode() or ANYWHERE
        os.close(told)
        child = 0
        if status != signal.SIGKILL:
            sys.exit(f"an archiver ended by itself with {status}")
        deaths[place] += 1


if __name__ == "__main__":
    main()
