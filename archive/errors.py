"""The errors of the archive, named by what is known about the evidence.

ArchiveError
├── StoreAway        S3 did not answer, is overloaded or full, or our clock is wrong: nothing is lost, try again
├── StoreRefused     S3 refused: a setting or a permission is wrong
├── WrongBucket      the bucket belongs to another environment, cannot hold evidence, or was never set up
├── EvidenceDiffers  S3 or Postgres holds something other than it must: a person must look
├── ExposedCache     other users could change the verified copies
├── BadKey           what should sign manifests is not a key
├── BadHeads         a file that should hold published heads holds none
├── BadRetention     the retention file is missing or wrong
├── BadHold          there is no such legal hold, or it is released, or asks for something else
├── NotWritten       a file that was asked for cannot be written, or there is one in its place
├── BadQuestion      there is no such query, a parameter is wrong, or the time range is empty
├── BadQuery         the SQL is wrong, or a query file contradicts its header
├── TooLarge         a query needs more time, memory, disk or rows than it may have
├── BadScratch       facts cannot be brought back there: the place, the name, or what is in it
├── BadExport        a file is no export, is not whole, or does not fit the other two
└── NotClosable      something stands in the way of closing a month
"""


class ArchiveError(Exception):
    """Every error of this package. The message is one line."""


class StoreAway(ArchiveError):
    """S3 could not be reached, or asked us to try again later."""


class StoreRefused(ArchiveError):
    """S3 refused, and trying again does not help."""


class WrongBucket(ArchiveError):
    """This bucket must not be used."""


class EvidenceDiffers(ArchiveError):
    """What is stored under a key of ours, or in Postgres for a batch, is not what must be there."""

    def __init__(self, key: str, what: str) -> None:
        super().__init__(f"{key}: {what}")
        self.key = key
        self.what = what


class ExposedCache(ArchiveError):
    """Other users can write to the directory of the copies."""


class BadKey(ArchiveError):
    """What should sign manifests is not a private key of the right kind, or there is a file in its place."""


class BadHeads(ArchiveError):
    """A file or a directory that should hold published heads cannot be read, or holds none of this installation."""


class BadRetention(ArchiveError):
    """The retention file is missing or wrong, wants COMPLIANCE without the line that confirms it, or is shortened."""


class BadHold(ArchiveError):
    """A legal hold of this name cannot be placed or released."""


class NotWritten(ArchiveError):
    """A file that was asked for on this machine cannot be written, or there is one in its place."""


class BadQuestion(ArchiveError):
    """There is no such query, or what it is asked for is not of the form that it takes."""


class BadQuery(ArchiveError):
    """The SQL cannot be run, is not one SELECT, or does not return what the header of its file declares."""


class TooLarge(ArchiveError):
    """A query was stopped, because it needs more time, memory, disk or rows than it may have."""


class BadScratch(ArchiveError):
    """A scratch schema cannot be made, replaced or dropped, or its database not be used."""


class BadExport(ArchiveError):
    """A file is no export, is not whole, or does not fit the other two."""

    def __init__(self, path: object, what: str) -> None:
        super().__init__(f"{path} {what}")


class NotClosable(ArchiveError):
    """A month cannot be closed now; the message says why."""

    def __init__(self, month: str, why: str) -> None:
        super().__init__(f"{month} cannot be closed: {why}")
        self.month = month
        self.why = why
