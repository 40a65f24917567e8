"""The worker of `bench.documents`: the service's own, whose processes for single documents also say what CPU they used.

Each of these ends long before the program that forked it, and that one ignores its children's ends, so no table of the
kernel sums them up. So each writes its own time, and that of the process which waits for it, before it answers.
"""

import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

USED = "BENCH_DOCUMENTS_USED"
"""The file to which each process of a document adds a line: nanoseconds of CPU."""


def worker(queue: str) -> None:
    from jobs.cli import main  # noqa: PLC0415 - this process is that command
    from jobs.process import service  # noqa: PLC0415

    service.DOCUMENT = (sys.executable, "-m", "bench.document_worker")  # type: ignore[attr-defined]
    sys.argv = ["billing", "worker", queue]
    main()


def document() -> None:
    from jobs.process import document  # noqa: PLC0415

    def answer(asked: Mapping[str, Any]) -> dict[str, Any]:
        try:
            return document._answer(asked)
        finally:
            waits = int(Path(f"/proc/{os.getppid()}/schedstat").read_text().split()[0])
            line = f"{time.process_time_ns() + waits}\n".encode()
            with open(os.environ[USED], "ab", buffering=0) as file:
                file.write(line)

    document.main(answer)


if __name__ == "__main__":
    worker(sys.argv[1]) if sys.argv[1:] else document()
