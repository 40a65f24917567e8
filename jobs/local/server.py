"""What every embedded server can do: start on a free loopback port, stop, be killed, restart in place."""

import importlib.util
import platform
import secrets
import socket
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path

from jobs.local.supervisor import Child, LocalServerError, Supervisor, wait_until

# Below the range from which Linux (32768) and macOS (49152) give ports to outgoing connections, so
# that no connection sits on the port of a server while it restarts.
_FIRST_PORT, _PORTS = 20_000, 12_000
_PORTS_TRIED = 5
_TAKEN = "ddress already in use"  # Postgres, Valkey and uvicorn all say it, with either capital


class LocalServer(ABC):
    """One server, its data and its port, which stay the same after a restart.

    With `durable` data survives a crash of the machine, as in production; without it, only a crash of the process.
    `environment` is where overrides such as PG_BINDIR are read.
    """

    name: str
    start_timeout_s = 30.0  # recovery after kill -9 on a busy disk; usually 0.1 s
    # Messages of a failed start after which another try may succeed.
    passing: tuple[str, ...] = (_TAKEN,)

    def __init__(self, supervisor: Supervisor, *, durable: bool, environment: Mapping[str, str]) -> None:
        self._supervisor = supervisor
        self._durable = durable
        self._given = environment
        self._home = supervisor.directory / self.name
        self._child: Child | None = None
        self.port = 0

    @property
    @abstractmethod
    def url(self) -> str:
        """Where clients find it, with the password."""

    @abstractmethod
    def _prepare(self) -> None:
        """Make what the server needs before its first start; `_home` exists."""

    @abstractmethod
    def _spawn(self) -> Child:
        """Start the process on `port`."""

    @abstractmethod
    def _answers(self) -> bool:
        """True when a client is served."""

    @property
    def child(self) -> Child:
        """The process. Raises LocalServerError before the first start."""
        if self._child is None:
            raise LocalServerError(f"{self.name} has not been started")
        return self._child

    def start(self) -> None:
        """Return when it answers. Raises LocalServerError with the server's last lines if it does not."""
        if self.port:
            wait_until(self._started_on_its_port, f"{self.name} on its old port", self.start_timeout_s)
            return
        self._home.mkdir(mode=0o700)
        self._prepare()
        for _ in range(_PORTS_TRIED):
            self.port = self._free_port()
            if self._started_on_its_port():
                return
        raise LocalServerError(f"{_PORTS_TRIED} free ports were all taken before {self.name} had them")

    def stop(self) -> None:
        """Ask it to stop, and wait until it has."""
        self.child.terminate()

    def kill(self) -> None:
        """`kill -9`."""
        self.child.kill()

    def restart(self) -> None:
        """Stop it if it runs, and start it on the same port with the same data."""
        self.stop()
        self.start()

    def _free_port(self) -> int:
        """A port that was free a moment ago. Another process may take it before the server does."""
        return free_port()

    def _started_on_its_port(self) -> bool:
        self._child = self._spawn()
        try:
            self._child.wait_until(self._answers, f"{self.name} to answer", self.start_timeout_s)
        except LocalServerError:
            if any(words in self._child.output() for words in self.passing):
                return False
            raise
        return True


def free_port() -> int:
    """A port on which nobody listened a moment ago."""
    while True:
        port = _FIRST_PORT + secrets.randbelow(_PORTS)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def from_wheel(package: str, program: str, advice: str) -> Path:
    """A program inside an installed wheel. Raises LocalServerError saying `advice` where there is none.

    The package is found and not imported, because some of these wheels do much on import.
    """
    found = importlib.util.find_spec(package)
    for directory in (found and found.submodule_search_locations) or ():
        if (path := Path(directory) / program).exists():
            return path
    here = f"{platform.system()} {platform.machine()}"
    raise LocalServerError(f"{package} has no server for this platform ({here}): {advice}")
