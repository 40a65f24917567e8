"""What cannot be done as asked is told in one line that names the setting; exit status 2, and never a traceback."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
from cases import case
from command import whole
from sqlalchemy.engine import make_url

from billing.errors import InvalidText, PossibleCardNumber, WrongDatabase
from billing.next_action import ADVICE
from jobs.cli import complaints
from jobs.config.settings import Settings
from jobs.config.sources import variable

BILLING = Path(__file__).parents[2] / "billing"

CAPTURE = ("capture", "--payment-intent", "pi_1", "--amount", "1999", "--currency", "USD", "--request-id", "order-1")

DUE_14 = ("--days-until-due", "14", "--request-id", "r")
DUE_0 = ("--days-until-due", "0", "--request-id", "r")


def one_line(ran) -> str:
    assert ran.status == 2, ran
    lines = ran.err.strip().splitlines()
    assert len(lines) == 1, ran.err
    assert lines[0].startswith("billing")
    return lines[0]


@pytest.mark.parametrize(
    ("name", "value", "named"),
    [
        ("BILLING_ENVIRONMENT", None, "BILLING_ENVIRONMENT is not set"),
        ("BILLING_ENVIROMENT", "test", "BILLING_ENVIRONMENT"),
        ("BILLING_ENVIRONMENT", "prod", "BILLING_ENVIRONMENT"),
        ("DATABASE_URL", None, "DATABASE_URL is not set"),
        ("DATABASE_URL", "mysql://x", "DATABASE_URL"),
        ("DATABASE_URL", "postgresql://a:secret@127.0.0.1:1/x", "DATABASE_URL"),
        ("DATABASE_URL", "postgresql://127.0.0.1:port/x", "DATABASE_URL"),
        ("DATABASE_URL", "env:NOT_SET_ANYWHERE", "NOT_SET_ANYWHERE"),
    ],
)
def test_a_wrong_setting_or_a_server_away_names_the_setting(run, monkeypatch, name, value, named):
    if value is None:
        monkeypatch.delenv(name)
    else:
        monkeypatch.setenv(name, value)
    line = one_line(run(*CAPTURE))
    assert named in line
    assert "secret" not in line.replace("secret reference", "")


def test_a_database_of_another_environment_is_refused(run, monkeypatch):
    monkeypatch.setenv("BILLING_ENVIRONMENT", "staging")
    monkeypatch.setenv("BILLING_STRIPE_KEY", "env:KEY")
    line = one_line(run(*CAPTURE))
    told = (
        "this database belongs to environment 'test' (test mode), and this process to environment 'staging' (test mode)"
    )
    assert line.startswith(f"billing: DATABASE_URL, or BILLING_ENVIRONMENT: {told}")


def test_a_database_that_was_never_set_up_says_how_to(run, settings, monkeypatch, stack):
    monkeypatch.setenv("DATABASE_URL", stack.environment["DATABASE_URL"])
    assert "billing migrate" in one_line(run(*CAPTURE))


def test_migrating_a_database_of_another_environment_changes_nothing(run, monkeypatch):
    monkeypatch.setenv("BILLING_ENVIRONMENT", "staging")
    monkeypatch.setenv("BILLING_STRIPE_KEY", "env:KEY")
    assert "belongs to environment 'test'" in one_line(run("migrate"))


BAD_INPUT = [
    (*CAPTURE[:4], "0", *CAPTURE[5:]),
    (*CAPTURE[:6], "XXX", *CAPTURE[7:]),
    (*CAPTURE[:2], "", *CAPTURE[3:]),
    ("invoice", "issue", "--customer", "c", "--line", " =5", "--currency", "EUR", *DUE_14),
    ("invoice", "issue", "--customer", "c", "--line", "x=5", "--currency", "EUR", *DUE_0),
    ("switch", "pull", "everybody", "--reason", "x"),
    ("switch", "pull", "captures", "--reason", ""),
    ("switch", "release", "captures", "--reason", "x"),
    ("status", "cap_unknown"),
    ("explain", "order-unknown"),
    ("quarantine", "show", "wrk_unknown"),
    ("quarantine", "replay", "wrk_unknown", "--reason", "x"),
    ("invoice", "reopen", "inv_unknown", "--reason", "x"),
]


def test_bad_input_and_unknown_ids_are_told_in_one_line(run):
    for arguments in BAD_INPUT:
        with case(*arguments):
            one_line(run(*arguments))


@pytest.mark.parametrize(
    ("environment", "key", "named"),
    [
        ("test", "env:KEY", "live key"),
        ("production", "env:KEY", "test key"),
        ("test", "env:NOT_SET_ANYWHERE", "NOT_SET_ANYWHERE"),
    ],
    ids=["live-in-test", "test-in-production", "missing"],
)
def test_a_worker_with_the_wrong_key_does_not_start(run_apart, service, monkeypatch, environment, key, named):
    monkeypatch.setenv("BILLING_ENVIRONMENT", environment)
    monkeypatch.setenv("BILLING_STRIPE_KEY", key)
    monkeypatch.setenv("KEY", "sk_live_x" if environment == "test" else "sk_test_x")
    if environment == "production":
        monkeypatch.setenv("STRIPE_API_BASE", "https://127.0.0.1:9")
        monkeypatch.delenv("BILLING_TIMING")
        service.execute("UPDATE billing.installation SET environment = 'production', livemode = true")
    line = one_line(run_apart("worker", "captures"))
    assert named in line
    assert "BILLING_STRIPE_KEY" in line


@pytest.mark.parametrize("role", [("relay",), ("worker", "captures")], ids=" ".join)
def test_a_process_with_the_redis_of_another_environment_does_not_start(run_apart, service, role):
    service.redis.set("billing:stamp", "staging")
    assert "REDIS_URL" in one_line(run_apart(*role))


ISSUE = ("invoice", "issue", "--customer", "c", "--currency", "EUR", *DUE_14)


WRITTEN_WRONGLY = [
    (("captrue",), "billing: no such command 'captrue'; did you mean 'capture'?"),
    (("switch", "pul"), "billing switch: no such command 'pul'; did you mean 'pull'?"),
    (
        ("capture", "--paymnt-intent", "pi_1"),
        "billing capture: no such option --paymnt-intent; did you mean --payment-intent?",
    ),
    (("doctor", "--zzz"), "billing doctor: no such option --zzz"),
    (
        ("capture", "--payment-intent", "pi_1"),
        "billing capture: --amount is missing; `billing capture --help` shows an example",
    ),
    (("worker",), "billing worker: QUEUE is missing; `billing worker --help` shows an example"),
    (
        ("worker", "letters"),
        "billing worker: 'letters' is not a queue; choose one of: captures, refunds, invoices, emails, documents, "
        "maintenance",
    ),
    (("doctor", "now"), "billing doctor: got unexpected extra argument(s) (now)"),
    (("status", "--timeout"), "billing: --timeout needs a value"),
    (("status", "x", "--timeout", "soon"), "billing status: --timeout must be a valid number"),
    (("status", "x", "--timeout", "-1"), "billing status: --timeout must be greater than or equal to 0"),
    ((*CAPTURE[:4], "0", *CAPTURE[5:]), "billing capture: --amount must be positive"),
    (
        (*CAPTURE[:4], "1.5", *CAPTURE[5:]),
        "billing capture: --amount is in minor units, a whole number of up to 12 digits: 1999 is 19.99 USD",
    ),
    (
        (*CAPTURE[:6], "EURO", *CAPTURE[7:]),
        "billing capture: --currency must be one of Stripe's presentment currencies, by its code of three letters: "
        "use 'EUR' (docs/currencies.md lists them)",
    ),
    (
        (*CAPTURE[:2], "pi/1", *CAPTURE[3:]),
        "billing: --payment-intent must be the id of a payment intent, pi_...; letters, digits and _ only, at most "
        "255 characters",
    ),
    ((*ISSUE, "--line", "foo=0"), "billing invoice issue: --line 1: the amount must be positive"),
    (
        (*ISSUE, "--line", "x=1", "--line", "foo"),
        "billing invoice issue: --line 2 is not DESCRIPTION=MINOR_UNITS, such as '3 seats=4500'",
    ),
    (
        (*ISSUE, "--line", f"foo={'9' * 5000}"),
        "billing invoice issue: --line 1 is not DESCRIPTION=MINOR_UNITS, such as '3 seats=4500'",
    ),
    (
        ("standin", "authorize", "19.99", "USD"),
        "billing standin authorize: AMOUNT is in minor units, a whole number of up to 12 digits: 1999 is 19.99 USD",
    ),
]


def test_what_is_written_wrongly_is_told_in_one_line_that_names_it(run):
    for arguments, told in WRITTEN_WRONGLY:
        with case(*arguments):
            assert one_line(run(*arguments)) == told


def test_an_unknown_role_is_a_matter_of_usage(run):
    assert "'baker' is not a role" in one_line(run("health", "baker"))


def test_a_live_key_outside_of_production_is_refused_by_its_mode(run, monkeypatch):
    monkeypatch.setenv("BILLING_STRIPE_KEY", "sk_live_canary")
    line = one_line(run(*CAPTURE))
    assert "a live key is refused where BILLING_ENVIRONMENT is test; use one that begins with sk_test_" in line
    assert "canary" not in line


OF_HOSTING = [
    "pgbouncer=true",
    "schema=public&connection_limit=1",
    "statement_timeout=5000",
    "ssl=false",
    "target_session_attrs=any",
    "application_name=shop&connect_timeout=30",
]


def test_what_hosting_writes_into_a_database_url_is_no_reason_to_migrate(run, monkeypatch, service):
    capture = service.ask_for_capture()
    for query in OF_HOSTING:
        with case(query):
            monkeypatch.setenv("DATABASE_URL", f'"{service.url}?{query}"\n')
            ran = run("status", capture)
            assert ran.status == 0, ran.err
            ran = run("doctor")
            assert ("ignored in " in ran.out) == (query not in ("ssl=false", "target_session_attrs=any"))


def test_several_hosts_are_tried_in_turn(run, monkeypatch, service):
    capture = service.ask_for_capture()
    url = make_url(service.url)
    login = f"{url.username}:{url.password}"
    monkeypatch.setenv("DATABASE_URL", f"postgresql://{login}@127.0.0.1:1,127.0.0.1:{url.port}/{url.database}")
    assert run("status", capture).status == 0


def test_only_a_missing_table_is_a_reason_to_migrate(run, monkeypatch, service):
    """A login without rights, and a database of an older version, are told apart from one that was never set up."""
    role = f"nobody_{make_url(service.url).database}"
    service.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'pw'")
    try:
        monkeypatch.setenv(
            "DATABASE_URL", make_url(service.url).set(username=role, password="pw").render_as_string(False)
        )
        assert "permission denied for schema billing" in one_line(run("status", "cap_1"))
    finally:
        service.execute(f"DROP ROLE {role}")
    monkeypatch.setenv("DATABASE_URL", service.url)
    service.execute("ALTER TABLE billing.installation RENAME COLUMN stripe_account TO another")
    told = one_line(run("status", "cap_1"))
    assert "this database has the tables of an older version; run `billing migrate`" in told


@pytest.mark.parametrize("query", ["ssl=true", "socket_timeout=9", "ssl_cert_reqs=CERT_NONE", "anything=1"])
def test_whatever_stands_in_a_redis_url_is_no_bug_of_ours(run, monkeypatch, query):
    """Nobody listens there: it is taken, and Redis is away, or it is refused by its name."""
    monkeypatch.setenv("REDIS_URL", f"rediss://127.0.0.1:1/0?{query}")
    ran = run("doctor")
    refused = "FAIL settings cannot be used -> REDIS_URL: ?anything= is not a known parameter"
    told = " ".join(ran.out.split())
    assert (refused if query.startswith("anything") else "FAIL redis Error 111 connecting") in told
    assert ran.err == ""


def texts(page: Path) -> list[str]:
    """Every text of this page that is no docstring."""
    tree = ast.parse(page.read_text())
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    constants = [node for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in docstrings]
    return [node.value for node in constants if isinstance(node.value, str)]


def is_typed(told: str) -> bool:
    """Whether this text is one whole command and nothing else, for a field that holds what an operator types.

    Only options and names to fill in may follow its words, and it is a command that there is, with these options."""
    if not re.fullmatch(r"billing(?: [a-z]+)+(?: (?:\{\w+\}|--[a-z-]+|[A-Z]+))*", told):
        return False
    command = whole()
    for word in re.findall(r"(?<= )[a-z]+(?= |$)", told):
        command = getattr(command, "commands", {}).get(word)
        if command is None:
            return False
    options = {name for each in command.params for name in each.opts}
    return not hasattr(command, "commands") and set(re.findall(r"--[a-z-]+", told)) <= options


def test_no_message_of_the_domain_names_a_setting_or_an_option():
    """Who asks through a program of his own has neither; the command adds how a setting or an option is called.

    Advice is for the operator who asked with `billing explain`: it has the command to type in a field of its own, and
    says what to do beside it, with the settings that they have. No program of others gets it."""
    settings = "|".join(map(re.escape, map(variable, Settings.model_fields)))
    named = re.compile(rf"\b(?:{settings})\b|(?<![\w-])--[a-z]")
    beside = {do for _, command, do in ADVICE.values() if command is not None}
    for page in sorted(BILLING.glob("*.py")):
        wrong = [told for told in texts(page) if named.search(told) and not is_typed(told) and told not in beside]
        assert wrong == [], page.name


@pytest.mark.parametrize(
    ("told", "typed"),
    [
        ("billing switch release {scope} --reason WHY", True),
        ("billing switch release {scope} --apply", False),
        ("billing switch free {scope} --reason WHY", False),
        ("billing switch --reason WHY", False),
        ("billing switch release {scope} --reason WHY, then wait", False),
        ("run it with --reason", False),
        ("set BILLING_STRIPE_KEY", False),
    ],
)
def test_only_a_whole_command_that_there_is_counts_as_one_to_type(told, typed):
    assert is_typed(told) is typed


@pytest.mark.parametrize("kind", WrongDatabase.__subclasses__(), ids=lambda kind: kind.__name__)
def test_the_command_knows_the_setting_of_every_database_that_is_refused(kind):
    assert complaints._SETTINGS[kind]


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (InvalidText("request_id", "must be shorter"), "--request-id must be shorter"),
        (InvalidText("lines", "must be fewer"), "lines must be fewer"),
        (PossibleCardNumber("correlation_id"), "--correlation-id may be a card number: "),
    ],
)
def test_a_parameter_is_called_as_its_option(told, expected):
    assert (complaints.complaint(told) or "").startswith(expected)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="what stands for a full disk is a file of Linux's")
def test_an_output_for_which_there_is_no_room_is_no_bug_of_ours():
    command = [sys.executable, "-m", "jobs.cli", "--help"]
    with open("/dev/full", "w") as full:
        told = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert told.returncode == 2
    assert told.stderr.startswith("billing: no space is left on the disk where the output of this command goes")
