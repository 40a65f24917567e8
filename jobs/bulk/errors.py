"""The errors of a file of requests.

    BulkError
    ├── UnusableFile   it cannot be read as a whole, so no row of it is asked for
    └── FileChanged    it is another one than was checked; nothing of what changed was asked for

What is wrong with one row is no error but a `Problem` (`jobs.bulk.problems`). No message repeats what a row holds,
except for what looks like an amount: it may be a secret or a name.
"""


class BulkError(Exception):
    """Every error of this folder."""


class UnusableFile(BulkError):
    """`line`: where in the file, from 1; None for the file as a whole."""

    def __init__(self, why: str, line: int | None = None) -> None:
        super().__init__(why if line is None else f"line {line} {why}")
        self.line = line


class FileChanged(BulkError):
    """Somebody wrote into the file while it was read. What was asked for before is as it was checked."""

    def __init__(self, line: int) -> None:
        super().__init__(
            f"the file was changed after it was checked, at line {line} or before it; nothing was asked for of what "
            "changed. Run the command again with a file that stays as it is"
        )
        self.line = line
