"""An auditor: has `verify.py` as a file outside of every package, credentials, public keys and published heads."""

import contextlib
import importlib.util
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3

from jobs.local.seaweed import SeaweedFS

VERIFIER = Path(__file__).parents[2] / "archive" / "verifying" / "verify.py"
LATER = timedelta(hours=2)
"""An object without a manifest is a difference only once it is an hour old."""


@dataclass(frozen=True)
class Said:
    """What the verifier printed, and its exit status."""

    status: int
    out: str
    err: str

    @property
    def differs(self) -> list[str]:
        return [line.removeprefix("DIFFERS ") for line in self.out.splitlines() if line.startswith("DIFFERS ")]


class Auditor:
    """Runs it in this process: to start Python and its libraries would take longer than all that a test does."""

    def __init__(self, s3: SeaweedFS, directory: Path) -> None:
        self._s3, self._directory = s3, directory
        self.session = boto3.session.Session(s3.access_key, s3.secret_key)
        spec = importlib.util.spec_from_file_location("verify", VERIFIER)
        assert spec is not None
        assert spec.loader is not None
        self._module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(self._module)

    def verify(
        self,
        bucket: str,
        keys: Sequence[bytes] = (),
        heads: Sequence[bytes] = (),
        *options: str,
        after: timedelta = LATER,
        session: Any = None,
    ) -> Said:
        """`after`: how much later than now it is for the verifier. `session`: of other credentials."""
        given = [each for path in self._files("key.pem", keys) for each in ("--key", path)]
        given += ["--heads", *self._files("heads.json", heads)] if heads else []
        out, err = io.StringIO(), io.StringIO()
        with (
            self._as_default(session or self.session),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            arguments = [bucket, "--endpoint-url", self._s3.url, *given, *options]
            status = self._module.main(arguments, datetime.now(UTC) + after)
        return Said(status, out.getvalue(), err.getvalue())

    def _files(self, name: str, bodies: Sequence[bytes]) -> list[str]:
        paths = [self._directory / f"{number}-{name}" for number, _ in enumerate(bodies)]
        for path, body in zip(paths, bodies, strict=True):
            path.write_bytes(body)
        return list(map(str, paths))

    @contextlib.contextmanager
    def _as_default(self, session: Any) -> Iterator[None]:
        """Where boto3 finds its credentials, which it would look up anew for each test."""
        before, boto3.DEFAULT_SESSION = boto3.DEFAULT_SESSION, session
        try:
            yield
        finally:
            boto3.DEFAULT_SESSION = before
