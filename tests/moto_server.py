"""A second S3, independent of the first: moto's server, as a process on loopback. It also has IAM and STS of AWS.

It is no store for evidence: see `test_abilities`. Which it differs in otherwise, the tests on both servers name.
"""

import contextlib
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator

from archive.s3.store import Store
from jobs.local.server import LocalServer
from jobs.local.supervisor import Child

REGION = "us-east-1"


class MotoServer(LocalServer):
    """Any keys will do, unless `checking_keys`."""

    name = "moto"
    access_key, secret_key = "AKMOTO", "moto"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def _prepare(self) -> None: ...

    def _spawn(self) -> Child:
        program = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)]
        environment = {"PATH": os.defpath, "HOME": str(self._home), "TMPDIR": str(self._home)}
        return self._supervisor.spawn(self.name, program, environment, cwd=self._home)

    def _answers(self) -> bool:
        with contextlib.suppress(urllib.error.URLError, OSError):
            self._ask("data.json")
            return True
        return False

    def store(self, bucket: str) -> Store:
        return Store(bucket, endpoint=self.url, region=REGION, access_key=self.access_key, secret_key=self.secret_key)

    @contextlib.contextmanager
    def checking_keys(self) -> Iterator[None]:
        """Meanwhile each request must be signed with keys that IAM or STS gave, and may do what their policy says."""
        self._unchecked("0")
        try:
            yield
        finally:
            self._unchecked("inf")

    def _unchecked(self, requests: str) -> None:
        self._ask("reset-auth", requests.encode())

    def _ask(self, path: str, body: bytes | None = None) -> None:
        request = urllib.request.Request(f"{self.url}/moto-api/{path}", body, {"Content-Type": "text/plain"})  # noqa: S310
        urllib.request.urlopen(request, timeout=20).close()  # noqa: S310 - our own http
