"""Turns the AWS SDK's errors into ours, which say whether trying again may help.

No header or credential gets into the text. It begins with the setting that may be wrong.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple, NoReturn

from botocore import exceptions
from botocore.exceptions import BotoCoreError, ClientError

from archive.errors import StoreAway, StoreRefused


class SettingNames(NamedTuple):
    """The settings that lead to a bucket, by their names."""

    endpoint: str
    keys: str
    region: str


ARCHIVE = SettingNames("S3_ENDPOINT_URL", "BILLING_S3_ACCESS_KEY and BILLING_S3_SECRET_KEY", "BILLING_S3_REGION")

_ABOUT_KEYS = frozenset(
    "SignatureDoesNotMatch InvalidAccessKeyId InvalidSecurity InvalidToken ExpiredToken TokenRefreshRequired"
    " CredentialsNotSupported UnrecognizedClientException".split()
)
_ABOUT_REGION = frozenset(
    "AuthorizationHeaderMalformed PermanentRedirect IllegalLocationConstraintException"
    " InvalidLocationConstraint".split()
)
"""Source of both: docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html"""
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
_NO_KEYS = (exceptions.NoCredentialsError, exceptions.PartialCredentialsError)
_WRONG_CONFIGURATION = (
    exceptions.ProfileNotFound,
    exceptions.InvalidConfigError,
    exceptions.ConfigNotFound,
    exceptions.ConfigParseError,
    exceptions.InfiniteLoopConfigError,
    exceptions.UnknownCredentialError,
    exceptions.SSOError,
    exceptions.LoginError,
    # The SDK's own request for the keys of a role has no valid parameters.
    exceptions.ParamValidationError,
)
_NO_ANSWER_ABOUT_KEYS = (exceptions.CredentialRetrievalError, exceptions.MetadataRetrievalError)
_ROLE = "the role that AWS's SDK finds"


@contextmanager
def translated(what: str, names: SettingNames = ARCHIVE) -> Iterator[None]:
    """Raise StoreAway or StoreRefused for any error of the SDK. `what` names the key or bucket in the message."""
    try:
        yield
    except ClientError as error:
        _answered(what, names, error)
    except _NO_KEYS:
        raise StoreRefused(
            f"{names.keys}: {what}: neither is set, and AWS's SDK finds none; set both, or give this process a role"
        ) from None
    except _WRONG_CONFIGURATION as error:
        raise StoreRefused(
            f"{names.keys}: {what}: neither is set, and AWS's SDK cannot use its own configuration"
            f" ({type(error).__name__}); correct AWS_PROFILE, AWS_ROLE_ARN and the file of profiles"
        ) from None
    except _NO_ANSWER_ABOUT_KEYS:
        raise StoreAway(f"{names.keys}: {what}: neither is set, and {_ROLE} gives no keys now") from None
    except BotoCoreError as error:
        raise StoreAway(f"{names.endpoint}: {what}: S3 cannot be reached ({type(error).__name__})") from None
    except (FileNotFoundError, PermissionError) as error:
        # The SDK opens the file with the token of a web identity each time it fetches keys.
        raise StoreRefused(
            f"AWS_WEB_IDENTITY_TOKEN_FILE: {what}: {error.filename}: {error.strerror}; mount the token, or unset it"
        ) from None
    except RuntimeError as error:
        # The SDK has no class for this, only these words.
        if "refreshed credentials are still expired" not in str(error):
            raise
        raise StoreAway(f"{names.keys}: {what}: {_ROLE} gives keys that have ended; check the clock") from None


def _answered(what: str, names: SettingNames, error: ClientError) -> NoReturn:
    if error.operation_name.startswith("AssumeRole"):
        begin, who = f"AWS_ROLE_ARN: {what}: {_ROLE} cannot be assumed", "STS"
    else:
        about = {**dict.fromkeys(_ABOUT_KEYS, names.keys), **dict.fromkeys(_ABOUT_REGION, names.region)}
        setting = about.get(code(error), names.endpoint)
        begin, who = f"{setting}: {what}", "S3"
    advice = f"; {_ADVICE[code(error)]}" if code(error) in _ADVICE else ""
    message = f"{begin}: {who} answers {status(error)} {code(error)}{advice}"
    if passing(error) or status(error) == 409:
        raise StoreAway(message) from None
    raise StoreRefused(message) from None


def passing(error: ClientError) -> bool:
    """Whether it says nothing about the request: a later one may be answered otherwise."""
    return status(error) >= 500 or status(error) == 429 or code(error) in _PASSING


def status(error: ClientError) -> int:
    """The HTTP status; 0 if there is none."""
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def code(error: ClientError) -> str:
    """S3's name of the error, such as `NoSuchKey`."""
    return str(error.response.get("Error", {}).get("Code", ""))
