"""The process of one document, which eats all memory for the document that EATS names, and is the real one else."""

import os
from collections.abc import Mapping
from typing import Any

from jobs.process import document
from jobs.process.forking import serve


def answer(asked: Mapping[str, Any]) -> dict[str, Any]:
    if os.environ["EATS"] in asked["body"]:
        return {"eaten": len(bytearray(os.urandom(1)) * (2 << 30))}
    return document._answer(asked)


if __name__ == "__main__":
    serve(answer)
