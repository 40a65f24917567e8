"""How S3 is reached: at which address, and with whose keys.

The keys are those of the settings, or those that AWS's SDK finds, such as a role's. The SDK fetches keys that end anew
before they do, also in an archiver that runs for months.
"""

from functools import cache
from typing import Any

import boto3
import botocore.session
from botocore.config import Config

READ_TIMEOUT_S = 20.0
"""How long S3 may be silent in an answer."""

METHODS = {
    "explicit": "the settings",
    "env": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    "shared-credentials-file": "a profile",
    "config-file": "a profile",
    "assume-role": "a role that a profile names",
    "assume-role-with-web-identity": "a role, by web identity",
    "sso": "a profile, by single sign-on",
    "login": "a profile, by a person's login",
    "custom-process": "a profile, from a program that it names",
    "container-role": "the role of this container",
    "iam-role": "the role of this machine",
}
"""What the SDK calls each way to find keys, and what that is."""


@cache
def _models() -> Any:
    """What the SDK reads about S3, some hundred milliseconds of CPU: once for all clients of this process and of those
    that it forks."""
    return botocore.session.get_session().get_component("data_loader")


class Connection:
    """A client of S3, and the session that has its keys. It asks nobody for keys before they are needed.

    Arguments as in `Store`. Raises what the SDK raises.
    """

    def __init__(
        self,
        *,
        endpoint: str | None,
        region: str,
        access_key: str | None,
        secret_key: str | None,
        profile: str | None,
        addressing: str,
        connections: int,
        timeout_s: float,
    ) -> None:
        session = botocore.session.get_session()
        session.register_component("data_loader", _models())
        self._session = boto3.session.Session(
            aws_access_key_id=access_key,
            aws_secret_access_key=secret_key,
            profile_name=profile,
            region_name=region,
            botocore_session=session,
        )
        # Each session of boto3's adds its own place to them.
        _models().search_paths[:] = dict.fromkeys(_models().search_paths)
        self.client: Any = self._session.client(
            "s3",
            endpoint_url=endpoint,
            config=Config(
                connect_timeout=3,
                # Also of links, which the SDK else signs in the old way, without a region.
                signature_version="s3v4",
                read_timeout=timeout_s,
                retries={"mode": "standard", "total_max_attempts": 1},
                max_pool_connections=connections,
                s3={"addressing_style": "path" if endpoint and addressing == "auto" else addressing},
                # Each object is sent with its SHA-256 in a header. By default the SDK adds a CRC32, over https behind
                # the body, where some S3 servers take it for a part of the object.
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
                # No proxy from a variable of the shell: evidence goes straight to S3.
                proxies={},
            ),
        )

    def credentials(self) -> str:
        """Where the keys come from, as in `the role of this container (container-role)`, and never a part of them."""
        found = self._session.get_credentials()
        if found is None:
            return "nowhere: AWS's SDK finds none"
        return f"{METHODS.get(found.method, 'somewhere that the SDK knows')} ({found.method})"
