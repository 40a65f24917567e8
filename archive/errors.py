"""The errors of the archive, named by what is known about the evidence.

ArchiveError
├── StoreAway        S3 did not answer, or not now: nothing is lost, try again
├── StoreRefused     S3 said no: a setting or a permission is wrong
├── WrongBucket      the bucket belongs to another environment, cannot lock, or was never set up
├── EvidenceDiffers  what lies there is not what must lie there: a person must look
├── ExposedCache     others could change the verified copies
├── BadRetention     the retention file cannot be followed
└── BadQuestion      no such query, or a range that is none
"""


class ArchiveError(Exception):
    """Every error of this package. The message is one line."""


class StoreAway(ArchiveError):
    """S3 could not be reached, or asked to be asked again."""


class StoreRefused(ArchiveError):
    """S3 refused for a reason that trying again does not mend."""


class WrongBucket(ArchiveError):
    """This bucket must not be used."""


class EvidenceDiffers(ArchiveError):
    """Somebody, or some mistake, put something else where our evidence lies or belongs."""

    def __init__(self, key: str, what: str) -> None:
        super().__init__(f"{key}: {what}")
        self.key = key
        self.what = what


class ExposedCache(ArchiveError):
    """The directory of the copies is not this user's alone."""


class BadRetention(ArchiveError):
    """The retention file is missing, wrong, or asks for what cannot be undone without saying so."""


class BadQuestion(ArchiveError):
    """Finance asked for something that is not there."""
