"""A file of requests, checked and carried out by the code of the command, in this process."""

from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any, ClassVar

import pytest
from service import Service

from billing import bulks, database
from billing.bulks import Given, Progress
from billing.many import MOVABLE
from jobs.bulk import checking
from jobs.bulk.carrying_out import carry_out
from jobs.bulk.checking import File, check
from jobs.bulk.lines import digest_of
from jobs.bulk.problems import Problems


@pytest.fixture(autouse=True)
def files_closed() -> Iterator[None]:
    """After each test of a module that imports it."""
    with ExitStack() as Bulk.files:
        yield


class Bulk:
    """One file of requests of this kind; each part as a process of its own would."""

    files: ClassVar[ExitStack]

    def __init__(
        self, service: Service, path: str, engine: Any = None, bulk: str = "june", kind: str = "capture"
    ) -> None:
        self.engine = engine or service.engine
        stream = self.files.enter_context(open(path, "rb"))  # noqa: SIM115 - the fixture closes it
        self.file = File(stream, digest_of(stream), MOVABLE[kind], bulk, None, "grace")
        self.problems = Problems()

    def transact(self, step: Any) -> Any:
        with database.transaction(self.engine) as session:
            return step(session)

    def begun(self) -> Progress | None:
        file = self.file
        return self.transact(  # type: ignore[no-any-return]
            lambda session: bulks.find(session, file.bulk, kind=file.movable.kind, digest=file.digest, account=None)
        )

    def check(self, after_line: int = 0) -> checking.Checked:
        return check(self.file, self.transact, self.problems, lambda *_: None, after_line=after_line)

    def begin(self, checked: checking.Checked) -> Progress:
        file = self.file
        given = Given(file.bulk, file.movable.kind, file.digest, None, checked.rows, "grace", "OPS-7")
        return self.transact(partial(bulks.begin, given=given))  # type: ignore[no-any-return]

    def carry_out(self, checked: checking.Checked, begun: Progress, room: Any = lambda _: None) -> Progress:
        return carry_out(self.file, checked, begun, self.transact, room, lambda _: None)

    def run(self) -> Progress:
        begun = self.begun()
        checked = self.check(begun.done_upto if begun else 0)
        return self.carry_out(checked, self.begin(checked))
