"""Secrets and personal data, planted wherever they can come from, are nowhere in what the system writes.

`ALLOWED` is the whole list of what may be stored, by column. Every place is searched by other means than our own code
(`places`), and the controls show that each search sees what is written there on purpose.
"""

import contextlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import canaries
import places
import provider
import psycopg
import pytest
from canaries import KINDS, Canaries
from command import BILLING, process_as_before
from outside import Outside
from provider import Provider
from service import PATIENCE_S, Service, eventually
from sqlalchemy.engine import make_url

import billing
from billing import database, switches
from jobs.cli import main
from jobs.local.seaweed import SeaweedFS
from jobs.local.servers import LocalServers
from jobs.local.supervisor import Child

HERE = Path(__file__).parent
SETTINGS, WRONG, LINES, STAFF, REQUEST, PLANNED, BROKEN, ARGUMENTS, STRANGER = (
    Canaries(place)
    for place in (
        *("settings", "wrong settings", "lines", "staff", "request", "planned", "broken", "arguments", "stranger"),
    )
)

# What a caller asks to have stored, and the columns in which it is: for Stripe, who prints it, and as evidence of who
# did what, and why. It is in no other column, and outside of Postgres nowhere at all.
ALLOWED = {
    LINES: {"invoice_lines.description", "idempotency_records.body"},
    STAFF: {"switches.actor", "switches.reason", "facts.actor", "facts.payload"},
    REQUEST: {"captures.request_id"},
    # A fact of another program that writes to our table; ours hold nothing of the kind.
    PLANNED: {"facts.payload", "facts.correlation_id"},
}
# Postgres' own files hold its rows, as SQL shows them.
ROWS_ON_DISK = "file base/"
_STRANGERS = tuple(f"redis billing-test:rq3:{kind}" for kind in ("job:stranger-", "results:stranger-", "failed:"))
EVERYBODY = [SETTINGS, WRONG, LINES, STAFF, REQUEST, PLANNED, BROKEN, ARGUMENTS, STRANGER, *provider.ALL]


def leaks(written: places.Written) -> list[str]:
    """Place, kind and column of all that stands where it must not."""
    return [
        f"{kind} of {planted.place} in {place}"
        for place, body in written.items()
        for planted in EVERYBODY
        if place not in ALLOWED.get(planted, set())
        and not (place.startswith(ROWS_ON_DISK) and planted in ALLOWED)
        # What a stranger put into Redis lies there for a minute, his job's id also in RQ's own keys.
        and not (planted is STRANGER and place.startswith(_STRANGERS))
        for kind in canaries.search(planted, body)
    ]


class Deployment:
    """Processes of the service whose every secret is a canary, behind a provider that is poisoned."""

    def __init__(self, service: Service, stack: LocalServers, s3: SeaweedFS, stripe: Provider, folder: Path) -> None:
        self.service, self.stack, self.s3, self.folder = service, stack, s3, folder
        self.said: places.Written = {}
        key = folder / "stripe_key"
        key.touch(mode=0o600)
        key.write_text(SETTINGS["stripe_key"])
        bucket = f"test-{os.urandom(8).hex()}"
        store = s3.store(bucket)
        store.set_up("test")
        store.close()
        self.outside = Outside(s3.url, s3.access_key, s3.secret_key, bucket)
        url = make_url(service.url)
        self.role = f"canary_{os.urandom(4).hex()}"
        service.execute(f"CREATE ROLE {self.role} LOGIN SUPERUSER PASSWORD '{SETTINGS['dsn_password']}'")
        service.redis.execute_command(
            *("ACL", "SETUSER", "canary", "on", f">{SETTINGS['redis_password']}", "~*", "&*", "+@all")
        )
        host = make_url(service.redis_url)
        self.environment = {
            "BILLING_ENVIRONMENT": "test",
            "BILLING_TIMING": "short",
            "BILLING_LOG_LEVEL": "debug",
            "BILLING_STRIPE_KEY": f"file:{key}",
            "STRIPE_API_BASE": stripe.url,
            "STRIPE_LOG": "debug",
            "DATABASE_URL": url.set(username=self.role, password=SETTINGS["dsn_password"]).render_as_string(False),
            "REDIS_URL": f"redis://canary:{SETTINGS['redis_password']}@{host.host}:{host.port}/0",
            "S3_ENDPOINT_URL": s3.url,
            "BILLING_S3_ACCESS_KEY": s3.access_key,
            "BILLING_S3_SECRET_KEY": s3.secret_key,
            "BILLING_ARCHIVE_BUCKET": bucket,
            "BILLING_ARCHIVE_WAIT_S": "0",
            "BILLING_CACHE_DIRECTORY": str(folder / "cache"),
            "BILLING_HEALTH_DIRECTORY": str(folder / "health"),
        }

    def close(self) -> None:
        self.service.redis.execute_command("ACL", "DELUSER", "canary")
        self.service.execute(f"DROP ROLE {self.role}")

    def run(self, *arguments: str, **changed: str) -> str:
        """A command, in this process: its exit status and all that it says, which is kept."""
        out, err = io.StringIO(), io.StringIO()
        with (
            mock.patch.dict(os.environ, {**self.environment, **changed}),
            mock.patch.object(sys, "argv", ["billing", *arguments]),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            process_as_before(),
            pytest.raises(SystemExit) as ended,
        ):
            main()
        return self._kept(f"{int(ended.value.code or 0)}\n{out.getvalue()}\n{err.getvalue()}", arguments[0])

    def start_and_stop(self, *words: str, **changed: str) -> None:
        """A process that cannot do its work: it ends, or waits for a server. All that it says is kept."""
        environment = {**os.environ, "PYTHONPATH": str(HERE.parents[1]), **self.environment, **changed}
        said = self.folder / f"said by {words[0]}"
        with said.open("wb") as out:
            program = [sys.executable, "-m", "jobs.cli", *words]
            child = subprocess.Popen(program, stdout=out, stderr=subprocess.STDOUT, env=environment)
            eventually(lambda: said.stat().st_size and b"\n" in said.read_bytes(), f"{words} says something")
            child.terminate()
            assert child.wait(PATIENCE_S) is not None
        self._kept(said.read_text(), words[0])

    def run_apart(self, *words: str, stdin: str = "", **changed: str) -> str:
        """The same in a process of its own; or a program of these tests."""
        ours = () if words[0].endswith((".py", "-c")) else ("-m", "jobs.cli")
        environment = {**os.environ, "PYTHONPATH": str(HERE.parents[1]), **self.environment, **changed}
        program = [sys.executable, *ours, *words]
        ran = subprocess.run(program, input=stdin, capture_output=True, text=True, env=environment, check=False)
        return self._kept(f"{ran.returncode}\n{ran.stdout}\n{ran.stderr}", words[0])

    def _kept(self, told: str, name: str) -> str:
        self.said[f"output {len(self.said)} of {name}"] = told.encode()
        return told

    def written(self, processes: list[Child]) -> places.Written:
        """Everything, wherever it lies."""
        self.service.execute("CHECKPOINT")
        plain = make_url(self.service.url).set(drivername="postgresql").render_as_string(hide_password=False)
        with psycopg.connect(plain) as connection:
            (where,) = connection.execute(
                "SELECT current_setting('data_directory') || '/base/' || oid FROM pg_database"
                " WHERE datname = current_database()"
            ).fetchone() or ("",)
        logs = {f"log {path.name}": path.read_bytes() for path in self.stack.directory.glob("*.log")}
        return {
            **self.said,
            **logs,
            **places.postgres(plain),
            **{f"file base/{name}": body for name, body in places.files(Path(where)).items()},
            **places.in_redis(self.service.redis_url),
            **places.in_s3(self.outside),
            **{f"run directory {p}": b for p in ("health", "cache") for b in [self._below(p)]},
            **places.processes([process.pid for process in processes if process.poll() is None]),
        }

    def _below(self, name: str) -> bytes:
        return b"\n".join(places.files(self.folder / name).values())


@pytest.fixture
def stripe(service: Service) -> Iterator[Provider]:
    with Provider(service.stripe_api_base) as between:
        yield between


@pytest.fixture
def deployment(
    service: Service,
    template: LocalServers,
    s3: SeaweedFS,
    stripe: Provider,
    tmp_path: Path,
    spawn: Callable[..., Child],
) -> Iterator[Deployment]:
    deployment = Deployment(service, template, s3, stripe, tmp_path)
    yield deployment
    for child in template._others:
        child.terminate()
    deployment.close()


def ask(deployment: Deployment, stripe: Provider) -> list[str]:
    """Captures that meet every kind of poisoned answer, and an invoice whose lines say what they must not."""
    service = deployment.service
    plain, declined, page, error, lie, saved = service.intents(6)
    service.standin.add_fault("402_declined", path=f"{declined}/capture$", times=1)
    service.standin.add_fault("500_saved", path=f"{saved}/capture$", times=1)
    stripe.behave |= {page: "page", error: "hostile_error", lie: "hostile_object"}
    asked = [service.ask_for_capture(intent) for intent in (plain, declined, page, error, lie, saved)]
    asked.append(service.ask_for_capture(service.intents()[0], authorization=None))
    with database.transaction(service.engine) as session:
        invoice = billing.issue_invoice(
            session,
            customer=service.customer(),
            lines=[billing.Line(LINES.uncarded, billing.Money(4500, "EUR"))],
            collect=billing.SendInvoice(days_until_due=14),
            request_id="invoice-of-canaries",
        )
        switches.pull(session, "account:acct_9", actor=STAFF["email"], reason=STAFF.uncarded)
        switches.release(session, "account:acct_9", actor=STAFF["name"], reason=STAFF["address"])
    return [*asked, invoice.invoice_id]


def break_things(deployment: Deployment) -> None:
    """Exceptions in planning, in settling, in the gateway and in SQL, each with words in it."""
    service = deployment.service
    service.execute(
        "INSERT INTO billing.facts (topic, entity_type, entity_id, entity_version, actor, payload) VALUES"
        " ('capture.requested', 'capture', 'cap_planned', 1, 'other', CAST(:payload AS jsonb))",
        payload=json.dumps({"capture_before": PLANNED.text, "authorized": True, **provider.about_a_person(PLANNED)}),
    )
    eventually(lambda: "fact.unplannable" in _log(deployment, "relay"), "planning fails")
    # One that is archived, with secrets where ids of their very shape stand.
    ids = {"payment_intent": PLANNED["stripe_secret"], "charge": "ch_1_secret_" + PLANNED.secret_word}
    service.execute(
        "INSERT INTO billing.facts (topic, entity_type, entity_id, entity_version, actor, correlation_id, payload)"
        " VALUES ('capture.looked', 'capture', 'cap_planned', 2, 'other', :key, CAST(:payload AS jsonb))",
        key=PLANNED["stripe_key"],
        payload=json.dumps({**ids, "why": PLANNED["stripe_key"], "step": PLANNED["stripe_key"]}),
    )
    service.execute("ALTER TABLE billing.captures ADD CONSTRAINT never CHECK (state <> 'captured') NOT VALID")
    with database.transaction(service.engine) as session:
        billing.request_capture(
            session,
            payment_intent=service.intents()[0],
            amount=billing.Money(1999, "USD"),
            request_id=f"{REQUEST['phone']}-{REQUEST['iban']}",
            # Without one the request id is it, and is logged and archived: docs/inputs.md.
            correlation_id="order-of-canaries",
            authorization=billing.Authorization(1999, "USD", None),
        )
    eventually(lambda: "settle.kept" in _log(deployment, "worker-captures"), "settling fails")


def _log(deployment: Deployment, name: str) -> str:
    return (deployment.stack.directory / f"{name}.log").read_text()


def speak_to_it(deployment: Deployment, asked: list[str]) -> None:
    """Every command whose answer could show something, with right and with wrong arguments and settings."""
    run = deployment.run
    for entity in asked:
        assert run("explain", entity).startswith("0")
        assert run("explain", entity, "--json").startswith("0")
    for command in (["doctor"], ["doctor", "--json"], ["quarantine", "list"], ["status", asked[0]], ["health"]):
        run(*command)
    assert run("archive", "run", "--once").startswith("0")
    assert run("archive", "query", "captures_by_day").startswith("0")
    capture = ("capture", "--amount", "1999", "--currency", "USD")
    issue = ("--currency", "EUR", "--days-until-due", "14", "--request-id", "x")
    card, email = ARGUMENTS["card"], ARGUMENTS["email"]
    # Bare, it may be an order number: see docs/inputs.md.
    in_fours = canaries.grouped(card, "-")
    for arguments in (
        *((*capture, "--payment-intent", secret, "--request-id", "x") for secret in ARGUMENTS.secrets.values()),
        *((*capture, "--payment-intent", "pi_1", "--request-id", secret) for secret in ARGUMENTS.secrets.values()),
        (*capture, "--payment-intent", "pi_1", "--request-id", "x", "--correlation-id", ARGUMENTS["stripe_secret"]),
        (*("invoice", "issue", "--customer", "cus_1", "--line", f"{ARGUMENTS['stripe_key']}=1"), *issue),
        (*("invoice", "issue", "--customer", ARGUMENTS["stripe_secret"], "--line", "a=1"), *issue),
        *(("explain", ARGUMENTS[kind]) for kind in ("stripe_key", "stripe_secret")),
        *(("status", ARGUMENTS[kind]) for kind in ("stripe_key", "stripe_secret")),
        ("switch", "pull", "captures", "--reason", f"leaked: {ARGUMENTS['stripe_key']}"),
        ("switch", "pull", f"account:{ARGUMENTS['stripe_key']}", "--reason", "x"),
        (*capture, "--payment-intent", card, "--request-id", "x"),
        (*capture, "--payment-intent", "pi_1", "--request-id", in_fours),
        (*capture, "--payment-intent", "pi_1", "--request-id", email),
        (*capture, "--payment-intent", "pi_1", "--request-id", "x", "--correlation-id", email),
        (*("invoice", "issue", "--customer", ARGUMENTS["name"], "--line", "a=1"), *issue),
        *(("explain", ARGUMENTS[kind]) for kind in ("card", "email", "name", "address")),
        *(("status", ARGUMENTS[kind]) for kind in ("card", "email", "name", "address")),
        ("switch", "pull", "captures", "--reason", f"complaint about {card}"),
        ("switch", "pull", ARGUMENTS["name"], "--reason", "x"),
        ("quarantine", "replay", ARGUMENTS["name"], "--reason", "x"),
    ):
        assert run(*arguments)[0] == "2", arguments
    (deployment.folder / "bad.toml").write_text(
        f'stripe_key = {WRONG["stripe_key"]}\nredis_url = "{WRONG["redis_password"]}"\n'
    )
    host = make_url(deployment.service.url)
    there = f"{host.host}:{host.port}/{host.database}"
    for changed in (
        {"DATABASE_URL": f"postgresql://app:x@{WRONG['dsn_password']}@{there}"},
        {"DATABASE_URL": f"postgresql://app:{WRONG['dsn_password']}@{there}"},
        {"DATABASE_URL": f"postgresql://app:1/{WRONG['dsn_password']}@{there}"},
        {"DATABASE_URL": WRONG["dsn_password"]},
        {"REDIS_URL": f"redis://:{WRONG['redis_password']}@127.0.0.1:1/0"},
        {"REDIS_URL": f"redis://:1/{WRONG['redis_password']}@127.0.0.1:1/0"},
        {"REDIS_URL": f"redis://:x@{WRONG['redis_password']}@127.0.0.1:1/0"},
        {"REDIS_URL": WRONG["redis_password"]},
        {"BILLING_STRIPE_KEY": WRONG["stripe_key"].replace("test", "live")},
        {"BILLING_STRIPE_KEY": f"file:{deployment.folder}/nothing"},
        {"BILLING_STRIPE_KEY": WRONG["bearer"]},
        {"BILLING_STRIPE_KEY": f"env:{WRONG['stripe_key']}"},
        {"BILLING_S3_SECRET_KEY": WRONG["s3_secret"]},
        {"BILLING_S3_SECRET_KEY": f"env:{WRONG['s3_secret']}"},
        {"BILLING_CREW_CAPTURES": WRONG["card"]},
        {"BILLING_ENVIRONMENT": WRONG["name"]},
        {"BILLING_ARCHIVE_RETENTION": str(deployment.folder / "bad.toml")},
        {"BILLING_CONFIG": str(deployment.folder / "bad.toml")},
    ):
        assert run("doctor", **changed)[0] in "12", changed
        run("quarantine", "list", **changed)
        run("archive", "status", **changed)
    password, key = f"postgresql://app:{WRONG['dsn_password']}@{there}", WRONG["stripe_key"].replace("test", "live")
    deployment.start_and_stop("relay", DATABASE_URL=password)
    deployment.start_and_stop("worker", "captures", BILLING_STRIPE_KEY=key)
    deployment.start_and_stop("archive", "run", BILLING_S3_SECRET_KEY=WRONG["s3_secret"])


def send_a_stranger(deployment: Deployment) -> None:
    """A job that somebody else wrote into Redis, with words in every field, and an id that is no bell's."""
    client, prefix = deployment.service.redis, "billing-test:rq3"
    job_id = f"stranger-{STRANGER['bearer']}-{STRANGER['card']}"
    fields = dict.fromkeys(("data", "description", "origin", "exc_info", "meta", "worker_name"), STRANGER.text)
    client.hset(f"{prefix}:job:{job_id}", mapping={**fields, "status": "queued", "created_at": STRANGER["card"]})
    client.rpush(f"{prefix}:queue:captures", job_id)
    eventually(lambda: "bell.refused" in _log(deployment, "worker-captures"), "the job is refused")


def test_nothing_that_is_secret_or_about_a_person_is_written_anywhere(
    deployment: Deployment, stripe: Provider, spawn: Callable[..., Child]
) -> None:
    """[65]"""
    service = deployment.service
    roles: list[tuple[str, ...]] = [("relay",), ("worker", "captures"), ("worker", "invoices"), ("archive", "run")]
    processes = [spawn(*role, program=BILLING, **deployment.environment) for role in roles]
    asked = ask(deployment, stripe)

    def decided() -> bool:
        return all(service.status(entity).final or service.status(entity).state == "conflict" for entity in asked)

    eventually(decided, f"all of {asked} are decided", 180)
    states = [service.status(entity).state for entity in asked]
    expected = ["captured", "declined", "captured", "declined", "conflict", "captured", "captured", "sent"]
    assert states == expected
    send_a_stranger(deployment)
    speak_to_it(deployment, asked)
    break_things(deployment)
    eventually(lambda: _all_archived(service), "all facts are archived")
    processes.pop(1).terminate()
    service.ask_for_capture()
    eventually(lambda: service.states_of_work()["ready"], "there is work for the broken worker")
    told = deployment.run_apart(str(HERE / "breaking.py"), stdin=BROKEN.text)
    assert "call.crashed" in told
    assert "process.crashed" in told
    written = deployment.written(processes)
    for sort in ("output ", "log relay", "log postgres", "redis ", "s3 v1", "file base/", "run directory", "arguments"):
        assert any(place.startswith(sort) and body for place, body in written.items()), sort
    assert leaks(written) == []
    numbers = [(place, found) for place, text in places.texts(written) for found in canaries.card_numbers(text)]
    planted = {card for canary in ALLOWED for card in canary.cards}
    assert [(place, found) for place, found in numbers if found not in planted] == []
    # The control of all of it: what may be stored was really planted, and is found where it may be.
    for planted_there, columns in ALLOWED.items():
        for column in columns:
            assert canaries.search(planted_there, written[column]), column
    # Each line of every process is still one JSON object; the last may be half written.
    for process in processes:
        for line in process.output().split("\n")[:-1]:
            json.loads(line)


def _all_archived(service: Service) -> bool:
    with database.transaction(service.engine) as session:
        left = "SELECT count(*) FROM billing.facts WHERE batch_no IS NULL AND planned_version > 0"
        return not session.connection().exec_driver_sql(left).scalar_one()


# The controls: each search sees what is written on purpose.

SEEN = Canaries("a control")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "written",
    [
        lambda value: value,
        str.upper,
        lambda value: json.dumps({"x": f"a {value} b"}),
        lambda value: value.encode().hex(),
        lambda value: value.replace(" ", ""),
    ],
    ids=["plain", "capitals", "json", "hex", "without blanks"],
)
def test_the_search_sees_every_kind(kind: str, written: Callable[[str], str]) -> None:
    body = b"\x00\xff" + written(SEEN[kind]).encode() + b"\x00"
    assert canaries.search(SEEN, body) == [kind]
    assert canaries.search(Canaries("another"), body) == []


@pytest.mark.parametrize("mark", ["", " ", "-"])
def test_both_searches_see_a_card_number_of_every_network(mark: str) -> None:
    for number in SEEN.cards:
        shown = canaries.grouped(number, mark)
        assert canaries.search(SEEN, shown.encode()) == ["card"]
        assert canaries.card_numbers(f'{{"x": "order {shown}."}}'.replace(".", "")) == [number]
        assert canaries.card_numbers(shown[:-1] + str((int(shown[-1]) + 1) % 10)) == []


def test_what_we_write_ourselves_is_not_taken_for_a_card_number() -> None:
    for ours in (
        "cap_01a2110df8c371938010911077d83bce",
        "4e424242424242424242424242424242",
        "42424242-4242-4242-4242-424242424242",
        "2026-11-25T04:54:18.456117+00:00",
        "b000000000012-000000004711-000000004790.parquet",
        "1764045000.4242424242",
    ):
        assert canaries.card_numbers(ours) == []


def test_each_place_is_searched(deployment: Deployment, spawn: Callable[..., Child]) -> None:
    """A canary written into every place on purpose, and each is found there."""
    service, text = deployment.service, SETTINGS.text
    service.execute("CREATE TABLE public.leaky (plain text, raw bytea, kept jsonb, many text[])")
    service.execute(
        "INSERT INTO public.leaky VALUES (:t, convert_to(:t, 'UTF8'), to_jsonb(repeat(:t, 50)), ARRAY[:t])",
        t=text,
    )
    client = service.redis
    client.set("a", text)
    client.rpush("b", text)
    client.sadd("c", text)
    client.zadd("d", {text: 1})
    client.hset("e", "field", text)
    client.xadd("f", {"field": text})
    client.set(f"key {text}", "")
    deployment.outside.s3.put_object(Bucket=deployment.outside.bucket, Key="plain", Body=text.encode())
    rows = _parquet(text)
    deployment.outside.s3.put_object(Bucket=deployment.outside.bucket, Key="rows.parquet", Body=rows)
    for name in ("health", "cache"):
        (deployment.folder / name).mkdir()
        (deployment.folder / name / "x").write_bytes(rows)
    (deployment.stack.directory / "leaky.log").write_text(text)
    sleeper = deployment.stack.spawn("leaky", [sys.executable, "-c", "import time; time.sleep(60)", text])
    deployment.run_apart("-c", f"print({text!r})")
    written = deployment.written([sleeper])
    found = {place for place, body in written.items() if canaries.search(SETTINGS, body)}
    sleeper.terminate()
    (deployment.stack.directory / "leaky.log").unlink()
    assert {f"leaky.{column}" for column in ("plain", "raw", "kept", "many")} <= found
    assert {f"redis {key}" for key in "abcdef"} <= found
    assert any(place.startswith("redis key") for place in found)
    assert {"s3 plain", "s3 rows.parquet", "run directory health", "run directory cache", "log leaky.log"} <= found
    assert {f"arguments {sleeper.pid}", "output 0 of -c"} <= found
    assert any(place.startswith("file base/") for place in found)


def _parquet(text: str) -> bytes:
    import pyarrow as pa

    sink = places.io.BytesIO()
    places.pq.write_table(pa.table({"x": [text] * 3}), sink, compression="zstd")
    return sink.getvalue()


def columns_of_text(connection: Any) -> set[str]:
    return {
        f"{table}.{column}"
        for table, column in connection.execute(
            "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'billing'"
        )
    }


def test_the_allowed_columns_exist(service: Service) -> None:
    with database.transaction(service.engine) as session:
        known = columns_of_text(session.connection().connection.driver_connection)
    assert set().union(*ALLOWED.values()) <= known
