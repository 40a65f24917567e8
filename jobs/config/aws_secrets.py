"""Secrets at AWS: in Secrets Manager, and in the Parameter Store of Systems Manager.

Credentials and region are found as in every program that uses AWS: environment, profile, or the role of its task or
machine. AWS_ENDPOINT_URL_SECRETS_MANAGER and AWS_ENDPOINT_URL_SSM are used. `jobs.config.secrets` reads
through here.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError, HTTPClientError, NoCredentialsError, NoRegionError
from botocore.exceptions import ConnectionError as NotConnected

# A starting process waits this long at most, and so does the first call after a 401.
_CONFIG = Config(connect_timeout=3, read_timeout=5, retries={"mode": "standard", "total_max_attempts": 2})


class NotRead(Exception):
    """Nothing usable is stored there. The message is one line and shows no part of what is stored."""


class NotReached(NotRead):
    """AWS did not answer, or refused for now."""


def from_secrets_manager(place: str) -> str:
    """`NAME`, the whole string, or `NAME#field`, that field of the JSON object it holds. Raises NotRead."""
    name, hash_sign, field = place.partition("#")
    with _asked("secretsmanager") as client:
        text = _usable(client.get_secret_value(SecretId=name).get("SecretString"))
    if not hash_sign:
        return text
    try:
        fields = json.loads(text)
    except ValueError:
        # Not chained, because that error shows the text.
        raise NotRead(f"it is not JSON; leave out #{field}, or store it as JSON") from None
    if not isinstance(fields, dict) or field not in fields:
        raise NotRead(f"there is no field {field!r} in it")
    return _usable(fields[field])


def from_parameter_store(name: str) -> str:
    """The parameter of this name, decrypted. Raises NotRead."""
    with _asked("ssm") as client:
        found: object = client.get_parameter(Name=name, WithDecryption=True)["Parameter"].get("Value")
    return _usable(found)


@contextmanager
def _asked(service: str) -> Iterator[Any]:
    try:
        # A session of its own, because threads must not share boto3's default session.
        client = boto3.session.Session().client(service, config=_CONFIG)
        try:
            yield client
        finally:
            client.close()
    except NotRead:
        raise
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code"))
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        later = status >= 500 or status == 429 or "Throttl" in code
        # The code is part of the answer, so it is shown only if it is a plain name.
        raise (NotReached if later else NotRead)(f"AWS answers {code if code.isalnum() else 'with an error'}") from None
    except NoRegionError:
        raise NotRead("AWS has many regions; set AWS_DEFAULT_REGION") from None
    except NoCredentialsError:
        raise NotRead("no credentials for AWS; give this process a role, or set AWS_PROFILE") from None
    except (NotConnected, HTTPClientError) as error:
        raise NotReached(f"AWS could not be asked ({type(error).__name__})") from None
    except Exception as error:  # noqa: BLE001 - the SDK has no complete list of errors, and their texts may quote anything
        raise NotRead(f"AWS could not be asked ({type(error).__name__})") from None


def _usable(found: object) -> str:
    if not isinstance(found, str):
        raise NotRead("it is not text")
    if not found.strip():
        raise NotRead("what is stored there is empty")
    return found
