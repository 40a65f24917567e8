"""Turns the AWS SDK's errors into ours, which say whether trying again may help.

No header or credential gets into the text. It begins with the setting that may be wrong.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, PartialCredentialsError

from archive.errors import StoreAway, StoreRefused

_KEYS = "BILLING_S3_ACCESS_KEY and BILLING_S3_SECRET_KEY"
_ABOUT_KEYS = frozenset(
    "SignatureDoesNotMatch InvalidAccessKeyId InvalidSecurity InvalidToken ExpiredToken TokenRefreshRequired"
    " AuthorizationHeaderMalformed CredentialsNotSupported UnrecognizedClientException".split()
)
"""Source: docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html"""
_PASSING = frozenset({"RequestTimeTooSkewed", "RequestTimeout"})
"""Answers 403 and 400 that a later request does not get: the clock is set, the network is quicker."""
_FULL = "it has no room left; make some there"
_ADVICE = {
    "AccessDenied": "a right is missing (docs/access.md), or the bucket's policy denies it",
    "InsufficientStorage": _FULL,
    "QuotaExceeded": _FULL,
    "RequestTimeTooSkewed": "set this machine's clock: it differs from S3's by more than 15 minutes",
    "SlowDown": "it asks for fewer requests",
    "XMinioStorageFull": _FULL,
}
"""What an operator should know of an error, where its name does not say it."""


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Raise StoreAway or StoreRefused for any error of the SDK. `what` names the key or bucket in the message."""
    try:
        yield
    except ClientError as error:
        setting = _KEYS if code(error) in _ABOUT_KEYS else "S3_ENDPOINT_URL"
        advice = f"; {_ADVICE[code(error)]}" if code(error) in _ADVICE else ""
        message = f"{setting}: {what}: S3 answers {status(error)} {code(error)}{advice}"
        if status(error) >= 500 or status(error) in (409, 429) or code(error) in _PASSING:
            raise StoreAway(message) from None
        raise StoreRefused(message) from None
    except (NoCredentialsError, PartialCredentialsError):
        raise StoreRefused(
            f"{_KEYS}: {what}: neither is set, and AWS's SDK finds none; set both, or give this process a role"
        ) from None
    except BotoCoreError as error:
        raise StoreAway(f"S3_ENDPOINT_URL: {what}: S3 cannot be reached ({type(error).__name__})") from None


def status(error: ClientError) -> int:
    """The HTTP status; 0 if there is none."""
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def code(error: ClientError) -> str:
    """S3's name of the error, such as `NoSuchKey`."""
    return str(error.response.get("Error", {}).get("Code", ""))
