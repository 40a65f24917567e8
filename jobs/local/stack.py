"""The whole service on one machine: local servers, a relay, workers, an archiver and a server for webhooks, each a
process of its own.

Each process has a login of its own on each of our servers, with the rights of its kind (`jobs.access.kinds`).

    with Stack() as stack:
        stack.start_processes()
        ...                       # `stack.environment` is what another terminal needs

Nothing outlives it: not on Ctrl-C, and on Linux not on a `kill -9` of this process either.
"""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

from pydantic import ValidationError
from sqlalchemy import text

from billing import database, ids
from billing.timing import SHORT
from jobs.access import credentials, migrate
from jobs.config import queues
from jobs.config.secrets import Secret
from jobs.config.settings import Settings
from jobs.config.sources import PREFIX, SettingsError
from jobs.local import forked, webhooks
from jobs.local.servers import LocalServers
from jobs.local.supervisor import Child, LocalServerError
from jobs.local.your_servers import check
from jobs.process import buckets
from jobs.process.service import ServiceProcess

STRIPE_KEY = "sk_test_local"
"""The stand-in takes any well-formed key."""
ENVIRONMENT = "development"
_ADDRESSES = ("STRIPE_API_BASE", "BILLING_STRIPE_RATE", "S3_ENDPOINT_URL")
"""Addresses are not secret; the rate is that of the stand-in there. `setup` also gets the DATABASE_URL of the owner."""
_KINDS = {"relay": "relay", "worker": "worker", "archive": "archiver", "serve": "web"}
"""The kind of a process, by the command that it runs."""


class Stack:
    """A context manager. `given` is where servers of your own are named (DATABASE_URL, REDIS_URL, STRIPE_API_BASE,
    S3_ENDPOINT_URL). With a database of yours and no S3 of yours nothing is archived: the bucket is removed at the end,
    and your facts would name it as their place. On a server of yours every process uses the login that you gave; you
    set up its rights (`billing access`).

    `more` are further settings by their variables. Settings of this shell, and a billing.toml in the working
    directory, are not used, so that the same runs everywhere. With `fork` its processes and commands are forked from
    one that has imported the service (`jobs.local.forked`): each then costs a tenth of the CPU to start.
    """

    def __init__(
        self,
        *,
        given: Mapping[str, str] | None = None,
        more: Mapping[str, str] | None = None,
        durable: bool = False,
        fork: bool = False,
    ) -> None:
        self._given = os.environ if given is None else given
        theirs, s3 = bool(self._given.get("DATABASE_URL")), bool(self._given.get("S3_ENDPOINT_URL"))
        self.archives = s3 or not theirs
        self._bucket = (self._given.get("BILLING_ARCHIVE_BUCKET", "") if theirs else "") or ids.new("billing").replace(
            "_", "-"
        )
        self.servers = LocalServers(durable=durable, given=given, s3=self.archives, users=ENVIRONMENT)
        self._more = dict(more or {})
        self._fork = fork
        self.processes: list[Child] = []
        self._started = 0

    def __enter__(self) -> Self:
        check(self._given)
        if self._fork:
            forked.begin()  # it imports while the servers start
        self.servers.start()
        try:
            self.servers.supervisor.watch_directory()
            (self.servers.directory / "billing.toml").touch()
            migrate.upgrade(self.servers.environment["DATABASE_URL"], environment=ENVIRONMENT, livemode=False)
            if not self._given.get("DATABASE_URL"):
                self._make_logins()
            if self.archives:
                with buckets.opened(self.runtime("setup", "setup").settings) as store:
                    store.set_up(ENVIRONMENT)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self, grace_s: float = 5.0) -> None:
        """Stop the processes first, so that each settles its calls; then the servers, and remove the directory."""
        self.servers.supervisor.stop([child for child in self.processes if child.poll() is None], grace_s)
        self.servers.stop()

    @property
    def environment(self) -> dict[str, str]:
        """The variables for an operator's terminal, with the secrets themselves."""
        return {name: _revealed(value) for name, value in self.environment_of("operator").items()}

    def environment_of(self, kind: str, s3: str | None = None) -> dict[str, str]:
        """The variables for a process of this kind, with references to its own secrets; `s3`: the kind whose keys of S3
        it has, if that is another one."""
        own = {name: value for name, value in self.servers.environment.items() if self._given.get(name)}
        shown = _ADDRESSES if kind != "setup" else (*_ADDRESSES, "DATABASE_URL")
        own |= {name: self.servers.environment[name] for name in shown if name in self.servers.environment}
        return {
            **own,
            **credentials.references(self.servers.access, kind, s3),
            "BILLING_ENVIRONMENT": ENVIRONMENT,
            "BILLING_STRIPE_KEY": STRIPE_KEY,
            "BILLING_TIMING": "short",
            "BILLING_LOG_LEVEL": "info",
            "BILLING_CONFIG": str(self.servers.directory / "billing.toml"),
            "BILLING_HEALTH_DIRECTORY": str(self.servers.directory / "health"),
            "BILLING_CACHE_DIRECTORY": str(self.servers.directory / "cache"),
            **({"BILLING_ARCHIVE_BUCKET": self._bucket, "BILLING_ARCHIVE_WAIT_S": "1"} if self.archives else {}),
            **({"BILLING_WEBHOOK_SECRETS": f"file:{self._webhook_secrets}"} if kind == "web" else {}),
            **self._more,
        }

    def runtime(self, name: str, kind: str = "operator") -> ServiceProcess:
        """A process of this kind in this process. Raises SettingsError."""
        values = {variable.removeprefix(PREFIX).lower(): v for variable, v in self.environment_of(kind).items()}
        values.pop("config")
        try:
            return ServiceProcess(Settings.model_validate(values), name)
        except ValidationError as error:
            raise SettingsError(f"the local stack: {error.errors(include_input=False)[0]['msg']}") from None

    def start_processes(self, workers: Mapping[str, int] | None = None, events: Sequence[str] = ()) -> None:
        """Start one relay, one archiver, and one worker for each queue, or as many as `workers` says; for e-mails only
        where a mail server is set, and for documents only where there is a bucket. With `events` start `billing serve`,
        too, to which our own stand-in sends these types of events, or `*`: all."""
        self.relay = self.spawn("relay")
        if self.archives:
            self.spawn("archive", "run")
        mails = "BILLING_EMAIL_SERVER" in self.environment_of("worker")
        left_out = (frozenset() if mails else queues.MAILING) | (frozenset() if self.archives else queues.KEEPING)
        for queue in [name for name in queues.NAMES if name not in left_out]:
            for _ in range((workers or {}).get(queue, 1)):
                self.spawn("worker", queue)
        if events and not self._given.get("STRIPE_API_BASE"):
            self._take_webhooks(events)

    def _take_webhooks(self, events: Sequence[str]) -> None:
        secrets = self._webhook_secrets
        webhooks.make_secrets(secrets)
        server = self.spawn("serve", "--port", "0")
        runtime = self.runtime("webhooks")
        try:
            webhooks.lead_to(server, runtime, secrets, events)
        finally:
            runtime.close()

    @property
    def _webhook_secrets(self) -> Path:
        return self.servers.directory / "webhook_secrets"

    def spawn(self, role: str, *arguments: str) -> Child:
        """One more process of the service: `spawn("worker", "captures")`."""
        s3 = "documents" if role == "worker" and queues.KEEPING.intersection(arguments) else None
        child = self._start("-".join((role, *arguments)), (role, *arguments), _KINDS[role], s3)
        self.processes.append(child)
        return child

    def start_command(self, *arguments: str, kind: str = "operator") -> Child:
        """A `billing` command, with a login of this kind. Both of its outputs are the child's output."""
        return self._start(f"command-{arguments[0]}", arguments, kind)

    def _start(self, name: str, arguments: Sequence[str], kind: str, s3: str | None = None) -> Child:
        self._started += 1
        name = f"{name}-{self._started}"
        clean = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
        environment = {**clean, **self.environment_of(kind, s3), "PYTHONUNBUFFERED": "1"}
        supervisor = self.servers.supervisor
        if not self._fork:
            return supervisor.spawn(name, [sys.executable, "-m", "jobs.cli", *arguments], environment)
        child = forked.child(name, arguments, environment, supervisor.directory / f"{name}.log")
        supervisor.adopt(child)
        return child

    def verdict(self, place: Path, arguments: Sequence[str], within_s: float = 60.0) -> str:
        """What `verify.py` in this directory prints about our bucket. It runs as an auditor would run it: with the keys
        of a reader, and none of our settings. Raises LocalServerError if something differs, or it could not check."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
        reader = {name: _revealed(value) for name, value in self.environment_of("reader").items()}
        ours = {"AWS_ACCESS_KEY_ID": "BILLING_S3_ACCESS_KEY", "AWS_SECRET_ACCESS_KEY": "BILLING_S3_SECRET_KEY"}
        environment |= {theirs: reader[name] for theirs, name in ours.items() if name in reader}
        environment.setdefault("AWS_DEFAULT_REGION", "us-east-1")
        endpoint = self.servers.environment["S3_ENDPOINT_URL"]
        program = [sys.executable, "verify.py", self._bucket, "--endpoint-url", endpoint, *arguments]
        ran = subprocess.run(  # noqa: S603 - our own file, and no shell
            program, cwd=place, env=environment, capture_output=True, text=True, timeout=within_s, check=False
        )
        if ran.returncode:
            raise LocalServerError(f"verify.py ended with status {ran.returncode}: {(ran.stdout + ran.stderr)[-500:]}")
        return ran.stdout

    def _make_logins(self) -> None:
        url = self.servers.environment["DATABASE_URL"]
        engine = database.open_engine(url, SHORT, name="access", pooled=False)
        with engine.begin() as connection:
            logins = credentials.apply(connection, self.servers.access)
            # An application creates its own tables beside ours, and an operator tries the same in a terminal.
            mine = ", ".join(f'"{each.login}"' for each in logins if each.kind in ("application", "operator"))
            connection.execute(text(f"GRANT CREATE ON SCHEMA public TO {mine}"))


def _revealed(value: str) -> str:
    return Secret.referred(value, "").reveal() if value.startswith("file:") else value
