"""Breaks the service from inside, with words in every exception: a worker's shift whose gateway raises, then SQL.

python breaking.py WORDS     (with the settings of a process in its environment)
"""

import random
import sys

from sqlalchemy import text

from billing import database
from billing.gateway import Answer, Budget, Request
from jobs.cli.opening import open_process
from jobs.road.runner import Runner
from jobs.road.shift import Control, Shift

words = sys.stdin.read()


class Raising:
    livemode = False

    def send(self, request: Request, budget: Budget) -> Answer:
        secret = words
        raise RuntimeError(f"in the gateway: {secret}")


runtime = open_process("breaking", logs_too=True)
runner = Runner(runtime.call_settings, random.Random(1))
Shift(runtime.engine, Raising(), runner, "captures", crew=1, slice_s=5).run(Control())
with database.transaction(runtime.engine) as session:
    session.execute(text("SELECT CAST(:words AS int)"), {"words": words})
