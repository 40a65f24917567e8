"""RQ as it comes: answers what is in a queue and ends. Arguments: Redis URL, queue, serializer."""

import sys

from redis import Redis
from rq import SimpleWorker

url, queue, serializer = sys.argv[1:]
with Redis.from_url(url) as connection:
    SimpleWorker([queue], connection=connection, serializer=serializer).work(burst=True)
