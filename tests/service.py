"""A whole service on a database of its own: what tests ask, run, and look at."""

import os
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import uuid4

import psycopg
import urllib3
from psycopg import sql
from redis import Redis
from sqlalchemy import Connection, Engine, event, select, text, update
from sqlalchemy.engine import make_url

import billing
from billing import database, effects, ids, observing, row_io, switches
from billing.call_settings import CallSettings
from billing.calls import Call, Report
from billing.gateway import Answer, Budget, Gateway, Request, Response, boot_clock
from billing.operations import operation_of
from billing.schedules import SCHEDULES
from billing.states import RunState
from billing.steps import LookResult, Reader
from billing.stripe_gateway import API_VERSION, StripeGateway
from billing.tables.entities import Capture, Invoice
from billing.tables.facts import Fact
from billing.tables.idempotency_records import Record
from billing.tables.scheduled_runs import ScheduledRun
from billing.tables.work import Work
from billing.timing import SHORT, Timing
from jobs.local.servers import LocalServers
from jobs.road import discarding, quarantine, ticks
from jobs.road.planning import plan, stamp_the_rest
from jobs.road.relay import Relay
from jobs.road.ringer import Ringer
from jobs.road.runner import Runner
from jobs.road.shift import Control, Shift
from jobs.rq import bells
from stripe_standin.control import Control as StandIn

TEMPLATE = "billing_template"
QUEUES = ("captures", "refunds", "invoices")
"""The queues whose work is Stripe's."""
OWNER = "owner"
KINDS = ("application", "relay", "worker", "archiver", "operator", "web")


QUICK = replace(
    SHORT,
    linger_s=0.02,
    retry_first_s=0.05,
    retry_max_s=0.5,
    look_first_s=0.1,
    look_max_s=0.5,
    not_after_s=2.9,
    transaction_timeout_s=2.9,
)
"""What a test runs by itself rests for less than the demo's processes: between two turns nothing happens. Its claims
and its calls may take as long as its lease of 3 s allows: where one of them is given up on a busy machine, a turn does
less than the test asks of it."""

CUSTOMER = "name=Test&email=test%40example.com"
IN_PARTS = (
    "currency=usd&capture_method=manual&payment_method=pm_card_visa&confirm=true"
    "&payment_method_options[card][request_multicapture]=if_available"
)
"""Of a payment intent that is authorized, and of which several parts may be captured; its amount is missing."""

WAIT_FOR_LOCKS = "SELECT set_config('lock_timeout', '0', true), set_config('statement_timeout', '0', true)"
PATIENCE_S = float(os.environ.get("BILLING_TEST_PATIENCE_S", "90"))
"""How long a test waits for what must happen. It is no promise of the service: a busy machine may take long, and only
what will never happen waits in vain: as much of what `bench.mutants` breaks, which waits for less."""


def eventually(condition: Callable[[], Any], what: str | Callable[[], str], within_s: float = PATIENCE_S) -> Any:
    """Wait until the condition is true and return it; a test never sleeps for a guess.

    What takes long is asked for less often: asking costs the others who wait their processor. `what` may be computed:
    once the time is over, it says how everything stands by then.
    """
    deadline, pause_s = time.monotonic() + within_s, 0.01
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within_s} s: {what if isinstance(what, str) else what()}")
        time.sleep(pause_s)
        pause_s = min(1.3 * pause_s, 0.1)
    return value


class Service:
    """One service: its database, the relay's and the workers' code in this process, and the stand-in."""

    def __init__(
        self, stack: LocalServers, url: str, timing: Timing = QUICK, engines: Mapping[str, Engine] | None = None
    ) -> None:
        """`engines`: those of this database, which somebody else closes."""
        self.url = url
        self.timing = timing
        self.stripe_api_base = stack.environment["STRIPE_API_BASE"]
        self.stripe_key = "sk_test_house"
        self.redis_url = stack.environment["REDIS_URL"]
        self._owns_engines = engines is None
        self.engines = dict(engines_of(url, timing) if engines is None else engines)
        self.engine: Engine = self.engines.pop(OWNER)
        self.redis: Redis = bells.open_redis(self.redis_url, PATIENCE_S)
        self.standin = StandIn(self.stripe_api_base)
        self.call_settings = CallSettings("billing", "test", False, API_VERSION, timing, own_account(self))
        self.relay = Relay(
            self.engines["relay"],
            timing,
            Ringer(self.redis, "test", workers=dict.fromkeys(QUEUES, 1), crews=dict.fromkeys(QUEUES, 8)),
        )
        self._asked = 0

    def ask_at(self, address: str, key: str) -> None:
        """From now on Stripe is there, and nothing is known of it but its own API: no faults, no clock, no effects."""
        self.stripe_api_base, self.stripe_key = address, key
        self.call_settings = replace(self.call_settings, own_account=own_account(self))

    def close(self) -> None:
        if self._owns_engines:
            self.forget_connections()
        self.redis.close()

    def forget_connections(self) -> None:
        """Close those to Postgres; what is asked next opens new ones."""
        for engine in (self.engine, *self.engines.values()):
            engine.dispose()

    # Asking, as an application does.

    def gateway(self) -> StripeGateway:
        return StripeGateway(lambda: self.stripe_key, self.stripe_api_base, livemode=False, connections=8)

    def intents(self, count: int = 1, *, amount: int = 1999, currency: str = "usd", **more: Any) -> list[str]:
        made = self.standin.authorizations(count=count, amount=amount, currency=currency, **more)
        return [intent if isinstance(intent, str) else intent["id"] for intent in made]

    def by_hand(self, path: str, body: str = "", method: str = "POST", account: str | None = None) -> str:
        """What a person does at Stripe. Returns the object's id."""
        key = f"by-hand-{uuid4()}" if method == "POST" else None
        request = Request(method, path, body.replace(" ", "+"), key=key, account=account)
        answer = self.gateway().send(request, Budget(boot_clock() + 5, boot_clock() + 10))
        assert isinstance(answer, Response), answer
        assert answer.status == 200, answer
        return str((answer.data or {})["id"])

    def standin_object(self, path: str) -> dict[str, Any]:
        """An object at the stand-in as it is there, with all that `billing.excerpts` leaves out."""
        headers = {"Authorization": f"Bearer {self.stripe_key}"}
        answer = urllib3.request("GET", self.stripe_api_base + path, headers=headers, retries=False)
        assert answer.status == 200, answer.data
        return dict(answer.json())

    def read_list(self, path: str, **which: Any) -> list[dict[str, Any]]:
        """Every object of a list at Stripe, as far as `billing.excerpts` lets it in."""

        def get(path: str) -> Answer:
            return self.gateway().send(Request("GET", path), Budget(boot_clock() + 5, boot_clock() + 10))

        return [dict(each) for each in Reader(get).pages(path, which)]

    def by_hand_despite_faults(self, path: str, body: str) -> str:
        """As `by_hand`, with the stand-in's faults at work: what was lost may have been made, and is made again."""
        return str(eventually(lambda: self._try_by_hand(path, body), path))

    def _try_by_hand(self, path: str, body: str) -> str | None:
        try:
            return self.by_hand(path, body)
        except AssertionError:
            return None

    def customer(self) -> str:
        return self.by_hand("/v1/customers", CUSTOMER)

    def payer(self, card: str = "pm_card_visa") -> tuple[str, str]:
        """A customer whose default payment method is made of this test card of Stripe's, and the method's id."""
        customer = self.by_hand("/v1/customers", "name=Test")
        method = self.by_hand(f"/v1/payment_methods/{card}/attach", f"customer={customer}")
        self.by_hand(f"/v1/customers/{customer}", f"invoice_settings[default_payment_method]={method}")
        return customer, method

    def payer_despite_faults(self) -> str:
        """As `payer`, the customer alone."""
        customer = self.by_hand_despite_faults("/v1/customers", CUSTOMER)
        method = self.by_hand_despite_faults("/v1/payment_methods/pm_card_visa/attach", f"customer={customer}")
        self.by_hand_despite_faults(f"/v1/customers/{customer}", f"invoice_settings[default_payment_method]={method}")
        return customer

    def customer_despite_faults(self) -> str:
        return self.by_hand_despite_faults("/v1/customers", CUSTOMER)

    def ask_for_capture(self, intent: str | None = None, amount: int = 1999, **more: Any) -> str:
        self._asked += 1
        more.setdefault("authorization", billing.Authorization(1999, "USD", None))
        with database.transaction(self.engines["application"]) as session:
            return billing.request_capture(
                session,
                payment_intent=intent or self.intents()[0],
                amount=billing.Money(amount, "USD"),
                request_id=f"order-{self._asked}",
                **more,
            ).capture_id

    def ask_for_void(self, intent: str | None = None, **more: Any) -> str:
        self._asked += 1
        more = {"reason": "requested_by_customer", "request_id": f"void-{self._asked}", **more}
        with database.transaction(self.engines["application"]) as session:
            return billing.request_void(session, payment_intent=intent or self.intents()[0], **more).void_id

    def captured_one(self, **more: Any) -> str:
        """A capture that took 19.99 USD."""
        capture = self.ask_for_capture(self.intents(**more)[0])
        assert self.settle(capture) == ["captured"]
        return capture

    def paid_invoice(self, paying: str = "payment_method=pm_card_visa", **more: Any) -> str:
        """An invoice of 45.01 EUR that the customer paid after it was sent, and that is known here to be paid."""
        invoice = self.ask_for_invoice(**more)
        assert self.settle(invoice) == ["sent"]
        with database.transaction(self.engine) as session:
            at_stripe = session.get_one(Invoice, invoice).stripe_invoice
        self.by_hand(f"/v1/invoices/{at_stripe}/pay", paying)
        self.notice(invoice)
        eventually(lambda: self.settle(invoice) == ["paid"], f"{invoice} is paid")
        return invoice

    def refund_invoice(self, invoice: str, amount: int | None = 500, **more: Any) -> str:
        self._asked += 1
        with database.transaction(self.engines["application"]) as session:
            return billing.request_refund(
                session,
                invoice=invoice,
                amount=amount and billing.Money(amount, "EUR"),
                request_id=f"return-{self._asked}",
                **more,
            ).refund_id

    def sent_invoice(self, **more: Any) -> str:
        """An invoice of 45.01 EUR that was sent, and is open."""
        invoice = self.ask_for_invoice(**more)
        assert self.settle(invoice) == ["sent"]
        return invoice

    def credit(self, invoice: str, amount: int | None, settle: Any = "reduce", **more: Any) -> str:
        self._asked += 1
        more.setdefault("request_id", f"credit-{self._asked}")
        with database.transaction(self.engines["application"]) as session:
            return billing.issue_credit_note(
                session, invoice=invoice, amount=amount and billing.Money(amount, "EUR"), settle=settle, **more
            ).credit_note_id

    def void_note(self, note: str) -> str:
        self._asked += 1
        with database.transaction(self.engines["application"]) as session:
            return billing.void_credit_note(session, credit_note=note, request_id=f"action-{self._asked}").action_id

    def credited(self, note: str) -> list[int]:
        """Amounts that were really credited at Stripe for this note, but for what was voided."""
        of_ours = [e for e in self.effects("credit_note.created") if e["metadata"].get("billing_operation") == note]
        return [effect["amount"] for effect in of_ours]

    def ask_for_refund(self, capture: str, amount: int | None = 500, **more: Any) -> str:
        self._asked += 1
        with database.transaction(self.engines["application"]) as session:
            return billing.request_refund(
                session,
                capture=capture,
                amount=amount and billing.Money(amount, "USD"),
                request_id=f"return-{self._asked}",
                **more,
            ).refund_id

    def ask_for_invoice_of_capture(self, capture: str, customer: str, **more: Any) -> str:
        """At once, on an invoice of its own."""
        with database.transaction(self.engines["application"]) as session:
            receipt = billing.invoice_capture(
                session, capture=capture, customer=customer, description="an order", when="at_once", **more
            )
        assert receipt.invoice_id is not None
        return receipt.invoice_id

    def ask_for_refund_of_invoice(self, invoice: str, **more: Any) -> str:
        self._asked += 1
        with database.transaction(self.engines["application"]) as session:
            return billing.request_refund(
                session, invoice=invoice, request_id=f"return-{self._asked}", **more
            ).refund_id

    def compensate(self, capture: str, **more: Any) -> str:
        with database.transaction(self.engines["application"]) as session:
            return billing.compensate(session, capture, **more).refund_id

    def ask_for_invoice(
        self,
        customer: str | None = None,
        lines: Sequence[billing.Line] | None = None,
        collect: billing.SendInvoice | billing.ChargeAutomatically = billing.SendInvoice(days_until_due=14),  # noqa: B008 - frozen
        **more: Any,
    ) -> str:
        self._asked += 1
        with database.transaction(self.engines["application"]) as session:
            return billing.issue_invoice(
                session,
                customer=customer or self.customer(),
                lines=lines
                or [
                    billing.Line("3 seats", billing.Money(4500, "EUR")),
                    billing.Line("fee", billing.Money(1, "EUR")),
                ],
                collect=collect,
                request_id=f"invoice-{self._asked}",
                **more,
            ).invoice_id

    def act_on(self, invoice: str, action: str, **more: Any) -> str:
        """Ask for this to be done with an invoice: `pay_invoice`, `void_invoice` and so on."""
        self._asked += 1
        with database.transaction(self.engines["application"]) as session:
            asked = {"invoice": invoice, "request_id": f"action-{self._asked}", **more}
            receipt: billing.InvoiceActionReceipt = getattr(billing, action)(session, **asked)
            return receipt.action_id

    # Running.

    def plan(self) -> None:
        """Only the planning of the relay: nothing is taken back, so that a test decides what comes back when."""
        with database.transaction(self.engines["relay"]) as session:
            plan(session, self.timing)
            stamp_the_rest(session)

    def work_off(self, queue: str = "captures", gateway: Gateway | None = None, *, crew: int = 4) -> int:
        """One shift until its queue is empty."""
        runner = Runner(self.call_settings, random.Random(1))
        shift = Shift(self.engines["worker"], gateway or self.gateway(), runner, queue, crew=crew, slice_s=60)
        return shift.run(Control())

    def prepared(self, queue: str = "captures", most: int = 1) -> dict[str, Call]:
        """Calls that a worker has prepared and not made, by operation: it is silent until `report`."""
        runner = Runner(self.call_settings, random.Random(1))
        with database.transaction(self.engines["worker"]) as session:
            calls = runner.start(session, runner.claim(session, queue, most)).calls
        return {call.loaded.row.id: call for call in calls}

    def report(self, call: Call, came_back: Answer | LookResult | None = None) -> None:
        """The worker settles what its call brought; where nothing is said, the call is made now."""
        budget = Budget(boot_clock() + 10, boot_clock() + 20)
        brought = effects.call(self.gateway(), call, budget) if came_back is None else Report(call, came_back, 1)
        with database.transaction(self.engines["worker"]) as session:
            Runner(self.call_settings, random.Random(1)).finish(session, [brought])

    def settle(self, *entity_ids: str, within_s: float = PATIENCE_S, gateway: Gateway | None = None) -> list[str]:
        """Relay and workers, turn by turn, until all of these are final; returns their states."""
        queues = {contract.queue for each in entity_ids for contract in operation_of(each).contracts}

        def turn() -> bool:
            self.relay.round()
            for queue in queues:
                self.work_off(queue, gateway)
            return all(self.status(entity_id).final for entity_id in entity_ids)

        eventually(turn, lambda: f"final: {entity_ids}: {self.how_they_stand(entity_ids)}", within_s)
        return [self.status(entity_id).state for entity_id in entity_ids]

    def notice(self, *entity_ids: str) -> None:
        """Somebody hears that something about these may have changed at Stripe."""
        with database.transaction(self.engine) as session:
            for each in entity_ids:
                (row,) = row_io.locked(session, operation_of(each).table, [each])
                row_io.save(session, [row], [observing.notice(row, source=observing.WEBHOOK, event="evt_1")])

    # What an operator does.

    def replay(self, *entity_ids: str) -> None:
        for work in map(self.work, entity_ids):
            with database.transaction(self.engines["operator"]) as session:
                quarantine.replay(session, work.id, actor="anna", reason="mended")

    def discard(self, *entity_ids: str) -> None:
        for work in map(self.work, entity_ids):
            with database.transaction(self.engines["operator"]) as session:
                discarding.discard(session, work.id, actor="anna", reason="ordered twice")

    def reopen(self, invoice: str) -> None:
        with database.transaction(self.engines["operator"]) as session:
            quarantine.reopen_invoice(session, invoice, actor="anna", reason="mended at Stripe")

    def pull(self, scope: str) -> None:
        with database.transaction(self.engines["operator"]) as session:
            switches.pull(session, scope, actor="anna", reason="a drill")

    def release(self, scope: str) -> None:
        with database.transaction(self.engines["operator"]) as session:
            switches.release(session, scope, actor="anna", reason="over")

    def make_no_ticks(self) -> None:
        """For a relay beside no worker of `maintenance`: at the full hour it would write runs that wait for ever. Those
        of the last and of the next hours are there already."""
        with database.transaction(self.engine) as session:
            now = database.now(session)
            for schedule in SCHEDULES:
                at = next(ticks.backwards(schedule, now))
                while at < now + timedelta(hours=3):
                    made = {"at": at, "state": RunState.DONE, "version": 1}
                    session.add(ScheduledRun(id=ids.new("run"), schedule=schedule.name, **made))
                    at = ticks.following(schedule, at)

    # Looking.

    def status(self, entity_id: str) -> billing.Status:
        with database.transaction(self.engine) as session:
            return billing.status(session, entity_id)

    def records(self, operation_id: str) -> list[Record]:
        with database.transaction(self.engine) as session:
            query = select(Record).where(Record.operation_id == operation_id).order_by(Record.generation)
            return list(session.scalars(query))

    def record(self, operation_id: str) -> Record:
        return self.records(operation_id)[-1]

    def work(self, entity_id: str) -> Work:
        with database.transaction(self.engine) as session:
            return session.scalars(select(Work).where(Work.entity_id == entity_id)).one()

    def row(self, table: type[Any], entity_id: str) -> Any:
        with database.transaction(self.engine) as session:
            return session.get_one(table, entity_id)

    def states_of_work(self, *queues: str) -> Counter[str]:
        """Of all work, or of these queues."""
        wanted = select(Work.state).where(Work.queue.in_(queues)) if queues else select(Work.state)
        with database.transaction(self.engine) as session:
            return Counter(session.scalars(wanted))

    def how_they_stand(self, entity_ids: Iterable[str]) -> dict[tuple[object, ...], int]:
        """How many pieces of their work are in which state, at which step, and why."""
        with database.transaction(self.engine) as session:
            rows = session.execute(
                select(Work.state, Record.step, Record.state, Record.learned, Work.reason)
                .outerjoin(Record, (Record.work_id == Work.id) & Record.concluded_at.is_(None))
                .where(Work.entity_id.in_(entity_ids))
            )
            return dict(Counter(tuple(row) for row in rows))

    def facts(self, entity_id: str) -> list[Fact]:
        with database.transaction(self.engine) as session:
            query = select(Fact).where(Fact.entity_id == entity_id).order_by(Fact.entity_version)
            return list(session.scalars(query))

    def topics(self, entity_id: str) -> list[str]:
        return [fact.topic.partition(".")[2] for fact in self.facts(entity_id)]

    def execute(self, statement: str, **values: Any) -> None:
        """It waits for as long as it takes: autovacuum, or a process that stands still, may hold a table's lock."""
        with database.transaction(self.engine) as session:
            session.execute(text(WAIT_FOR_LOCKS))
            session.execute(text(statement), values)

    def checks_of(self, table: str) -> list[str]:
        """The names of a table's CHECK constraints: a test drops those that older rows never knew."""
        query = "SELECT conname FROM pg_constraint WHERE contype = 'c' AND conrelid = to_regclass('billing.' || :table)"
        with database.transaction(self.engine) as session:
            return list(session.scalars(text(query), {"table": table}))

    def age(self, operation_id: str, seconds: float) -> None:
        """Let the open record of this operation be so much older, leases and reports included."""
        shift = text(f"interval '{seconds} seconds'")
        with database.transaction(self.engine) as session:
            session.execute(
                update(Record)
                .where(Record.operation_id == operation_id, Record.concluded_at.is_(None))
                .values(
                    {
                        name: getattr(Record, name) - shift
                        for name in ("first_sent_at", "last_prepared_at", "last_reported_at", "lease_until", "look_at")
                    }
                )
            )

    def effects(self, kind: str, of: str | None = None) -> list[dict[str, Any]]:
        """What really happened at the stand-in, of one kind, and of one object."""
        return [effect for effect in self.standin.effects(kind) if of is None or effect["id"] == of]

    def posts(self, path_end: str) -> list[dict[str, Any]]:
        """Every POST that reached the stand-in on a path with this end."""
        return [r for r in self.standin.requests() if r["method"] == "POST" and r["path"].endswith(path_end)]

    def refunded(self, refund_id: str) -> list[int]:
        """Amounts that were really given back for this refund."""
        made = self.effects("refund")
        return [effect["amount"] for effect in made if effect["metadata"].get("billing_operation") == refund_id]

    def captured(self, capture_id: str) -> Counter[int]:
        """Amounts that were really taken for this capture, with how often."""
        with database.transaction(self.engine) as session:
            intent = session.get_one(Capture, capture_id).payment_intent
        return Counter(effect["amount"] for effect in self.effects("capture", intent))


_ACCOUNTS: dict[tuple[str, str], str] = {}


def own_account(service: Service) -> str:
    """The account of our key, as the first service was told that asked there."""
    there = (service.stripe_api_base, service.stripe_key)
    if there not in _ACCOUNTS:
        _ACCOUNTS[there] = service.by_hand("/v1/account", method="GET")
    return _ACCOUNTS[there]


class Through:
    """The real gateway, with something done before a request, or to its answer."""

    livemode = False

    def __init__(
        self,
        service: Service,
        change: Callable[[Request, Answer], Answer] = lambda _request, answer: answer,
        before: Callable[[Request], Answer | None] = lambda _request: None,
    ) -> None:
        self._gateway, self._change, self._before = service.gateway(), change, before
        self.asked: list[Request] = []

    def send(self, request: Request, budget: Budget) -> Answer:
        """An answer that `before` gives is Stripe's, and nothing is sent."""
        self.asked.append(request)
        return self._before(request) or self._change(request, self._gateway.send(request, budget))


def engines_of(url: str, timing: Timing = QUICK) -> dict[str, Engine]:
    """In every test each process may what its kind may, and no more; the test itself is the owner."""
    kinds = {kind: acting_as(kind, url, timing) for kind in KINDS}
    return {OWNER: patient_engine(url, timing, name="test"), **kinds}


def patient_engine(url: str, timing: Timing = SHORT, *, name: str, **options: Any) -> Engine:
    """An engine of the service's, as `database.open_engine` opens it, whose sessions may be idle in a transaction.

    A test's thread may stand still between two statements: on a busy machine for longer than such a session lives.
    """
    return with_settings(database.open_engine(url, timing, name=name, **options), session_settings(OWNER))


def acting_as(kind: str, url: str, timing: Timing = SHORT, **settings: str) -> Engine:
    """An engine of the owner's that is held to what this kind of process may; `settings` are Postgres' own."""
    engine = database.open_engine(url, timing, name=f"test-{kind}", paging=kind == "archiver")
    return with_settings(engine, session_settings(kind, **settings))


def session_settings(kind: str, **settings: str) -> sql.Composed:
    """What a session of this kind sets when it is opened: it is patient, and has these settings."""
    role = {} if kind == OWNER else {"role": f"billing_{kind}"}
    every = {"idle_in_transaction_session_timeout": "0", **role, **settings}
    return sql.SQL("; ").join(
        sql.SQL("SET {} = {}").format(sql.Identifier(name), sql.Literal(value)) for name, value in every.items()
    )


def with_settings(engine: Engine, statement: sql.Composed) -> Engine:
    """Its sessions begin with this statement."""

    @event.listens_for(engine, "connect")
    def _(connection: Any, _record: Any) -> None:
        # One round trip, and no transaction.
        connection.autocommit = True
        connection.execute(statement)
        connection.autocommit = False

    return engine


def make_template(stack: LocalServers) -> None:
    """A migrated, stamped database that every test's own is copied from."""
    from jobs.access import migrate

    admin_url = make_url(stack.environment["DATABASE_URL"])
    with psycopg.connect(_plain(admin_url), autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(TEMPLATE)))
    url = admin_url.set(database=TEMPLATE).render_as_string(hide_password=False)
    migrate.upgrade(url, environment="test", livemode=False)
    # A copy would be found to be one, and send nothing.
    with psycopg.connect(_plain(admin_url.set(database=TEMPLATE))) as connection:
        connection.execute("UPDATE billing.lineage SET cluster = NULL, database_oid = NULL")


def make_old_database(stack: LocalServers, name: str, revision: str) -> str:
    """As an older version left it: only the migrations up to this one have run."""
    from jobs.access import migrate

    admin_url = make_url(stack.environment["DATABASE_URL"])
    with psycopg.connect(_plain(admin_url), autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    url = admin_url.set(database=name).render_as_string(hide_password=False)
    migrate.upgrade(url, environment="test", livemode=False, to=revision)
    return url


def make_database(stack: LocalServers, name: str) -> str:
    admin_url = make_url(stack.environment["DATABASE_URL"])
    # Copying the files writes no WAL, and costs a fraction of what Postgres does by default.
    copy = sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY")
    with psycopg.connect(_plain(admin_url), autocommit=True) as admin:
        admin.execute(copy.format(sql.Identifier(name), sql.Identifier(TEMPLATE)))
    return admin_url.set(database=name).render_as_string(hide_password=False)


def empty(connection: Connection, keep: Sequence[str] = ("installation", "alembic_version")) -> None:
    """No rows, and numbers that begin with 1 again, but in these tables. To truncate a table takes about a millisecond,
    whether it has rows or not, so only those are that were written to."""
    connection.execute(text(WAIT_FOR_LOCKS))
    if written := connection.scalars(text(WRITTEN), {"keep": list(keep)}).all():
        connection.execute(text(f"TRUNCATE {', '.join(written)} RESTART IDENTITY CASCADE"))


WRITTEN = """
    SELECT CAST(tables.oid::regclass AS text) FROM pg_class AS tables
    WHERE relnamespace = 'billing'::regnamespace AND relkind = 'r' AND NOT relname = ANY (:keep)
        AND (pg_relation_size(tables.oid) > 0 OR EXISTS (
            -- A row that was refused has taken a number, too.
            SELECT FROM pg_sequence JOIN pg_depend ON objid = seqrelid
            WHERE refobjid = tables.oid AND pg_sequence_last_value(seqrelid) IS NOT NULL
        ))
"""


def drop_database(stack: LocalServers, name: str) -> None:
    with psycopg.connect(_plain(make_url(stack.environment["DATABASE_URL"])), autocommit=True) as admin:
        admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def _plain(url: Any) -> str:
    return str(url.set(drivername="postgresql").render_as_string(hide_password=False))
