"""Functions that a stranger would name in Redis. They leave a file where WITNESS points."""

import os
from pathlib import Path


def see(*_: object) -> None:
    Path(os.environ["WITNESS"]).touch()


def fail() -> None:
    raise RuntimeError
