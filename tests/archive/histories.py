"""Random histories, as the facts that the service would have written, and the errors that an archive may have.

Each change of a state is a transition of `billing.states`, and each topic is one that the service knows. Times lie
around the changeovers of clocks and the ends of months, because that is where days and months are counted wrongly.
"""

import random
import tempfile
from collections import defaultdict, namedtuple
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from archive.copies import cache
from archive.copies.cache import Evidence
from archive.format import allowed, records
from archive.format.manifests import Manifest
from billing.facts import OF_COMMANDS, topics_of
from billing.states import CAPTURE, CREDIT_NOTE, DOCUMENT, EMAIL, FREES_THE_AUTHORIZATION, INVOICE, REFUND, SWITCH, Life

CLOCKS = ("2026-03-28", "2026-03-29", "2026-03-30", "2026-10-24", "2026-10-25", "2026-11-01")
DAYS = (*CLOCKS, "2026-02-28", "2026-03-01", "2026-09-01", "2026-10-01", "2026-10-31")
CURRENCIES = ("USD", "JPY", "KWD")
ACCOUNTS = (None, "acct_1")
PEOPLE = ("anna", "grace", "shell:anna", None)
SCOPES = ("everything", "captures", "invoices", "account:own", "account:acct_1", "currency:JPY", "queue:captures")


@dataclass
class Told:
    """One fact. Its payload is what may be archived of it."""

    topic: str
    entity_type: str
    entity_id: str
    entity_version: int
    actor: str | None
    correlation_id: str | None
    happened_at: datetime
    payload: dict[str, Any]
    version: int = 1
    id: int = 0
    archive_seq: int = 0

    @property
    def what(self) -> str:
        return self.topic.partition(".")[2]

    @property
    def retention_class(self) -> str:
        if self.what in ("attempted", "attempt_lapsed", "looked", "late_answer"):
            return "attempt"
        if self.entity_type in ("capture", "void", "refund"):
            return "capture"
        return "invoice" if self.entity_type in ("invoice", "credit_note", "document") else "admin"

    def __getattr__(self, key: str) -> Any:
        """A key of the payload; None where it has none."""
        if key in allowed.PAYLOAD:
            return self.payload.get(key)
        raise AttributeError(key)


@dataclass
class Row:
    """A capture, invoice or switch whose facts are told one after the other."""

    history: "History"
    life: Life
    id: str
    at: datetime
    order: str | None = None
    version: int = 0
    state: str | None = None

    def tell(self, topic: str, *, actor: str | None = "billing", at: datetime | None = None, **payload: Any) -> None:
        if topic in self.life.states:
            self.become(topic)
        assert f"{self.life.of}.{topic}" in topics_of(self.life)
        self.version += 1
        self.at = at or self.history.after(self.at)
        self.history.add(
            Told(f"{self.life.of}.{topic}", self.life.of, self.id, self.version, actor, self.order, self.at, payload)
        )

    def become(self, state: str) -> None:
        assert self.state in (None, state) or (self.state, state) in self.life.legal
        self.state = state


@dataclass
class History:
    """What happened, and what of it is archived. The same seed tells the same history.

    `bounds`: what happens around these moments, often happens in that very moment.
    """

    seed: int
    bounds: tuple[datetime, ...] = ()
    facts: list[Told] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)
        self._numbers: dict[str, int] = defaultdict(int)
        self._orders = [f"order-{n}" for n in range(40)]
        self._work: list[str] = []
        for n in range(150):
            self._capture(f"{n:02}", f"pi_{n:02}", self._moment(), *self._whose())
        for n, bound in enumerate(self.bounds):
            self._at_a_bound(n, bound)
        for n in range(60):
            self._invoice(f"{n:02}")
        for n in range(8):
            self._switch(f"{n:02}")
        for n in range(12):
            self._command(f"{n:02}")
        for n in range(50):
            self._refund(f"{n:02}")
        for n in range(40):
            self._credit_note(f"{n:02}")
        for n in range(20):
            self._email(f"{n:02}")
        kept = self.rng.getstate()  # what else is told stays as it was before there were documents
        for n in range(20):
            self._document(f"{n:02}")
        self.rng.setstate(kept)
        self._book()
        self._spoil()
        self._archive()

    def after(self, last: datetime) -> datetime:
        """When the next thing happens."""
        pause_us = self.rng.choice((1, 400_000, 7_000_000, 300_000_000, 9_000_000_000)) + self.rng.randrange(900_000)
        at = last + timedelta(microseconds=pause_us)
        return next((bound for bound in self.bounds if last < bound <= at and self.rng.random() < 0.7), at)

    def add(self, fact: Told) -> None:
        fact.payload = {key: fact.payload[key] for key in records.members(fact.payload)}
        self.facts.append(fact)

    def _moment(self) -> datetime:
        if self.bounds and self.rng.random() < 0.3:
            before_us = self.rng.choice((1, 10**6, 3 * 10**8, 9 * 10**9))
            return self.rng.choice(self.bounds) - timedelta(microseconds=before_us)
        day = datetime.fromisoformat(self.rng.choice(DAYS)).replace(tzinfo=UTC)
        return day + timedelta(microseconds=self.rng.randrange(86_400_000_000))

    def _whose(self) -> tuple[str | None, str, int]:
        return self.rng.choice(ACCOUNTS), self.rng.choice(CURRENCIES), self.rng.randrange(1, 10**6)

    # Captures.

    def _capture(self, n: str, intent: str, at: datetime, account: str | None, currency: str, minor: int) -> None:
        rng = self.rng
        row = Row(self, CAPTURE, f"cap_{n}", at, rng.choice([*self._orders, None]))
        before = rng.choice((None, at + timedelta(hours=rng.randrange(1, 200))))
        authorized_minor = minor + rng.choice((0, 0, rng.randrange(10**5)))
        known = rng.random() < 0.7
        until = before.isoformat() if before else None
        row.tell(
            "requested",
            minor=minor,
            currency=currency,
            payment_intent=intent,
            account=account,
            authorized=known,
            capture_before=until if known else None,
        )
        if not known:
            if rng.random() < 0.3:
                row.tell("attempt_lapsed", step="read_authorization", generation=1)
            row.tell("looked", step="read_authorization", generation=1, learned="succeeded", took_ms=90)
            row.tell("authorization_read", minor=authorized_minor, currency=currency, capture_before=until)
        money: dict[str, Any] = {"minor": minor, "currency": currency}
        taken: dict[str, Any] = {"payment_intent": intent, "charge": f"ch_{n}"}
        if rng.random() < 0.85:  # else an older version wrote its facts
            money["account"], taken["authorized_minor"] = account or "own", authorized_minor
        generation = self._troubles(row, "capture")
        end = rng.choice(("captured",) * 8 + ("declined", "refused", "expired", "canceled", "open", "open", "conflict"))
        if end == "captured":
            self._answered(row, "capture", generation, "succeeded", 200)
            row.tell("captured", **money, **taken, why=rng.choice(("", "found_ours")))
        elif end == "refused" and row.version == 1:
            row.tell("refused", actor=rng.choice(PEOPLE), why="discarded", work_id=self._work_of(n), **money)
        elif end == "conflict":
            self._answered(row, "capture", generation, "mismatch", 200)
            self._contradicted(row, n, money, taken)
        elif end != "open":
            self._answered(row, "capture", generation, end, 402 if end == "declined" else 400)
            row.tell(end, **money, why=rng.choice(("card_declined", "insufficient_funds", "canceled_at_stripe", "")))
            if rng.random() < 0.3:
                late = {"outcome": "learned", "learned": "succeeded", "replayed": False}
                row.tell("late_answer", step="capture", generation=generation, **late)
                self._contradicted(row, n, money, taken)
            elif end in FREES_THE_AUTHORIZATION and rng.random() < 0.5 and not n.endswith("x"):
                self._capture(n + "x", intent, row.at, account, currency, minor)

    def _at_a_bound(self, n: int, bound: datetime) -> None:
        """What ends in the very moment in which a range begins or ends."""
        for end in ("captured", "declined", "expired"):
            row = Row(self, CAPTURE, f"cap_{end}{n}", bound, "order-1")
            money = {"minor": 700, "currency": "USD", "payment_intent": f"pi_{end}{n}"}
            row.tell("requested", at=bound - timedelta(hours=1), authorized=True, **money)
            row.tell(end, at=bound, account="own", authorized_minor=900, **money)

    def _contradicted(self, row: Row, n: str, money: dict[str, Any], taken: dict[str, Any]) -> None:
        """It is in conflict; an operator decides, or nobody does."""
        rng, ended = self.rng, row.state
        row.tell("conflict", step="capture", generation=1, why="late_success")
        if rng.random() < 0.3:
            return
        row.tell("replayed", actor=rng.choice(PEOPLE), work_id=self._work_of(n))
        if ended != "requested" and rng.random() < 0.4:
            row.tell("upheld", actor="anna")
            return
        row.become("requested")
        if (then := rng.choice(("captured", "captured", "declined", None))) is not None:
            row.tell("looked", step="capture", generation=1, learned="found_ours", took_ms=rng.randrange(2000))
            row.tell(then, **money, **(taken if then == "captured" else {}))

    def _troubles(self, row: Row, step: str) -> int:
        """What may go wrong before an end, and the generation that is called after it."""
        generation = 1
        for _ in range(self.rng.choice((0, 0, 0, 1, 2, 4))):
            call = {"step": step, "generation": generation}
            match self.rng.randrange(7):
                case 0:
                    row.tell("attempted", **call, outcome="no_answer", took_ms=self.rng.randrange(30_000))
                case 1:
                    row.tell("attempt_lapsed", **call)
                case 2:
                    row.tell("attempted", **call, outcome="throttled", status=429, took_ms=self.rng.randrange(900))
                case 3:
                    row.tell("looked", **call, learned="absent", took_ms=self.rng.randrange(900))
                    row.tell("disproved", **call)
                    generation += 1
                case 4:
                    row.tell("undecided", **call)
                case 5:
                    row.tell("attempted", **call, outcome="learned", learned="ask", status=400, request_id="req_ask")
                case 6:
                    row.tell("looked", **call, learned="unprovable")
        return generation

    def _answered(self, row: Row, step: str, generation: int, learned: str, status: int) -> None:
        row.tell(
            "attempted",
            step=step,
            generation=generation,
            outcome="learned",
            learned=learned,
            status=status,
            request_id=f"req_{row.id}_{row.version}",
            replayed=self.rng.random() < 0.1,
            took_ms=self.rng.randrange(5000),
        )

    def _work_of(self, n: str) -> str:
        self._work.append(f"wrk_{n}")
        return self._work[-1]

    # Invoices.

    def _invoice(self, n: str) -> None:
        rng = self.rng
        account, currency, minor = self._whose()
        customer = rng.randrange(5)
        row = Row(self, INVOICE, f"inv_{n}", self._moment(), rng.choice([*self._orders, None]))
        money: dict[str, Any] = {"minor": minor, "currency": currency}
        row.tell("requested", **money, customer=f"cus_{customer}", account=account, lines=2)
        new = rng.random() < 0.85
        if new:
            money["account"] = account or "own"
        number = None
        while row.state != "sent":
            if rng.random() < 0.12:
                return
            self._troubles(row, "create")
            match row.state:
                case "requested":
                    row.tell("drafted", stripe_invoice=f"in_{n}", generation=1)
                case "drafted":
                    if rng.random() < 0.15:
                        row.tell("lines_differ", minor=minor, theirs=minor + 1, why="total_differs")
                    else:
                        row.tell("lines_added", minor=minor, currency=currency)
                case "lines_added":
                    number = self._number(account, customer)
                    row.tell("finalized", number=number, **money)
                case "finalized" if rng.random() < 0.2:
                    if random.Random(f"{self.seed} {row.id} charged").random() < 0.5:
                        row.tell("unpaid", number=number, why="card_declined", **money)
                        self._end_invoice(row, {**money, "number": number})
                        return
                    row.tell("paid", number=number, **money)
                    return
                case "finalized" if rng.random() < 0.8:
                    row.tell("sent", number=number, **money)
                case "lines_differ" | "finalized":
                    told = {**money, "number": number} if new else {}
                    row.tell("refused", why=rng.choice(("not_open", "total_differs")), **told)
                    if rng.random() < 0.4:
                        return
                    row.tell("reopened", actor=rng.choice(PEOPLE), **({"number": number} if new else {}))
                    row.become("finalized" if number else "requested")
        self._end_invoice(row, {**money, "number": number})

    def _end_invoice(self, row: Row, about: dict[str, Any]) -> None:
        """What becomes of one that was sent. It has numbers of its own, so that what else is told stays as it was."""
        rng = random.Random(f"{self.seed} {row.id}")

        def tell(topic: str, **more: Any) -> None:
            row.tell(topic, at=row.at + timedelta(hours=rng.randrange(1, 900)), **about, **more)

        if rng.random() < 0.3:
            part = about["minor"] // 3
            tell("partly_paid", paid_minor=part)
            if rng.random() < 0.5:
                tell("partly_paid", paid_minor=2 * part)
        for end in rng.choice(((), (), ("paid",), ("voided",), ("uncollectible",), ("uncollectible", "paid"))):
            tell(end)

    def _number(self, account: str | None, customer: int) -> str:
        """Somebody else may have taken some; once in a while one is given twice, which must never be."""
        series = f"{'OWN' if account is None else 'ACCT'}{customer}"
        self._numbers[series] += self.rng.choice((1, 1, 1, 1, 2, 5))
        again = self.rng.random() < 0.04 and self._numbers[series] > 1
        return f"{series}-{self._numbers[series] - again:04}"

    # Refunds.

    def _refund(self, n: str) -> None:
        rng = self.rng
        account, currency, minor = self._whose()
        row = Row(self, REFUND, f"ref_{n}", self._moment(), rng.choice([*self._orders, None]))
        of: dict[str, Any] = {"capture": f"cap_{n}", "payment_intent": f"pi_{n}"}
        of |= {"minor": minor, "currency": currency, "refund_reason": rng.choice((None, "duplicate"))}
        row.tell("requested", account=account, all_left=rng.random() < 0.5, **of)
        of |= {"account": account or "own", "stripe_refund": f"re_{n}"}
        self._troubles(row, "refund")
        if rng.random() < 0.2:
            row.tell("refused", why=rng.choice(("charge_already_refunded", "discarded", "ruled_out")), **of)
            return
        if rng.random() < 0.4:
            row.tell("pending", why="processing", **of)
        end = rng.choice(("succeeded", "succeeded", "failed", "canceled", None))
        if end is not None:
            row.tell(end, why="expired_or_canceled_card" if end == "failed" else "", **of)
        if end == "succeeded" and rng.random() < 0.2:
            row.tell("failed", why="expired_or_canceled_card", **of)

    # Credit notes.

    def _credit_note(self, n: str) -> None:
        rng = self.rng
        account, currency, minor = self._whose()
        settle = rng.choice(("reduce", "balance", "out_of_band", "refund"))
        row = Row(self, CREDIT_NOTE, f"crn_{n}", self._moment(), rng.choice([*self._orders, None]))
        of: dict[str, Any] = {"minor": minor, "currency": currency, "settle": settle, "invoice": f"inv_{n}"}
        row.tell("requested", account=account, **of)
        of |= {"account": account or "own"}
        self._troubles(row, "issue")
        end = rng.choice(("issued", "issued", "issued", "refused", None))
        if end == "refused":
            row.tell("refused", why=rng.choice(("not_given_back", "discarded", "ruled_out")), **of)
        elif end == "issued":
            row.tell("issued", stripe_credit_note=f"cn_{n}", number=f"OWN1-{n}-CN-01", why="", **of)
            if rng.random() < 0.3:
                row.tell("voided", stripe_credit_note=f"cn_{n}", why="", **of)

    # What Stripe's ledger said of them.

    def _book(self) -> None:
        """Some money went to the bank; a database that was restored has told some of it twice, and a bank has sent some
        back."""
        rng = random.Random(self.seed)
        versions = {fact.entity_id: fact.entity_version for fact in self.facts}
        moved = [fact for fact in self.facts if fact.topic in ("capture.captured", "refund.succeeded")]
        for number, fact in enumerate(each for each in moved if rng.random() < 0.8):
            gains, fee = (1, fact.minor // 50) if fact.entity_type == "capture" else (-1, 0)
            minor, at = gains * fact.minor, fact.happened_at + timedelta(seconds=rng.randrange(90))
            payout = None if rng.random() < 0.1 else f"po_{fact.account}{fact.currency}{at:%m}"
            said = {"minor": minor, "currency": fact.currency, "account": fact.account or "own", "fee_minor": fee}
            said |= {"net_minor": minor - fee, "booked_at": at.isoformat(), "available_on": at.isoformat()}
            said |= {"entry": f"txn_{number}", "payout": payout, "payout_minor": 10**9 if payout else None}
            of, version = fact.entity_id, versions[fact.entity_id] + 1
            then = at + timedelta(days=rng.randrange(1, 9))
            told = Told(f"{fact.entity_type}.booked", fact.entity_type, of, version, "billing", None, then, said)
            self.add(told)
            further: dict[str, Any] | None = {} if rng.random() < 0.05 else None
            if further is None and fact.entity_type == "refund" and rng.random() < 0.2:
                further = {"minor": -minor, "net_minor": -minor, "entry": f"txn_{number}b"}
            if further is not None:
                version, then = version + 1, then + timedelta(days=2)
                self.add(replace(told, payload=told.payload | further, happened_at=then, entity_version=version))
            versions[of] = version

    # E-mails.

    def _email(self, n: str) -> None:
        rng = self.rng
        account = rng.choice((None, None, "acct_1"))
        row = Row(self, EMAIL, f"eml_{n}", self._moment(), rng.choice([*self._orders, None]))
        template = rng.choice(("refund_made", "invoice_sent"))
        row.tell("requested", template=template, recipient=f"cus_{n}", locale=None, account=account)
        end, about = rng.choice(("sent", "sent", "refused", None)), {"template": template, "account": account or "own"}
        if end == "sent":
            row.tell("sent", why="", provider_message=f"4XyZ{n}", **about)
        elif end == "refused":
            row.tell("refused", why=rng.choice(("no_address", "smtp_550", "discarded")), **about)

    # Documents.

    def _document(self, n: str) -> None:
        rng = self.rng
        account = rng.choice((None, None, "acct_1"))
        row = Row(self, DOCUMENT, f"doc_{n}", self._moment(), rng.choice([*self._orders, None]))
        of = {"invoice": f"inv_{n}", "kind": rng.choice(("invoice_pdf", "credit_note_pdf"))}
        row.tell("requested", stripe_object=f"in_{n}", account=account, **of)
        end, about = rng.choice(("stored", "stored", "refused", None)), {**of, "account": account or "own"}
        if end == "stored":
            row.tell("stored", why="", sha256="0" * 64, size_bytes=rng.randrange(1, 100_000), **about)
        elif end == "refused":
            row.tell("refused", why=rng.choice(("not_a_pdf", "too_large")), **about)

    # Operators.

    def _switch(self, n: str) -> None:
        rng = self.rng
        row = Row(self, SWITCH, f"swi_{n}", self._moment())
        scope = rng.choice(SCOPES)
        row.tell("pulled", actor=rng.choice(("anna", "billing")), scope=scope, probes=False)
        if rng.random() < 0.3:
            row.tell("pulled", actor="grace", scope=scope, probes=False)
        if rng.random() < 0.8:
            rate = {"per_hour": 600} if rng.random() < 0.3 else {}
            row.tell("released", actor=rng.choice(PEOPLE), scope=scope, **rate)

    def _command(self, n: str) -> None:
        rng, at, actor = self.rng, self._moment(), self.rng.choice(PEOPLE)
        name = rng.choice(("switch pull", "quarantine assign", "archive setup", "schedule run", "quarantine assign"))
        about = rng.choice(self._work) if name == "quarantine assign" and self._work else "captures"
        said: dict[str, Any] = {"command": name, "about": about, "count": rng.randrange(1, 5)}
        parts = rng.choice((("done",), ("begun", "done"), ("begun", "failed"), ("begun",)))
        for number, part in enumerate(parts, start=1):
            assert part in OF_COMMANDS
            payload = said if number == 1 else {}
            self.add(Told(f"command.{part}", "command", f"cmd_{n}", number, actor, None, at, payload))
            at = self.after(at)

    # What an archive may have that it must not have, or have late.

    def _spoil(self) -> None:
        rng = self.rng
        requests = [fact for fact in self.facts if fact.what == "requested"]
        lost = {id(fact) for fact in (*rng.sample(self.facts, self.seed), *rng.sample(requests, 8 * (self.seed - 1)))}
        self.facts = [fact for fact in self.facts if id(fact) not in lost]
        if self.seed % 2:
            twice = rng.choice([fact for fact in self.facts if fact.topic == "capture.captured"])
            later, number = twice.happened_at + timedelta(minutes=3), twice.entity_version + 1
            self.facts.append(replace(twice, happened_at=later, entity_version=number, correlation_id=None))

    def _archive(self) -> None:
        """Number the facts in the order of their time, but for some that were committed late."""
        self.facts.sort(key=lambda fact: (fact.happened_at, fact.entity_id, fact.entity_version))
        for number, fact in enumerate(self.facts, start=1):
            fact.id = number
        late = set(self.rng.sample(range(len(self.facts)), 6))
        order = sorted(self.facts, key=lambda fact: fact.id + (40 if fact.id in late else 0))
        numbers: dict[str, int] = defaultdict(int)
        for fact in order:
            numbers[fact.retention_class] += 1
            fact.archive_seq = numbers[fact.retention_class]
        if self.seed % 3 == 0:
            self.facts.remove(self.rng.choice(order[10:-10]))
        if self.seed % 3 == 2:
            self.facts.append(replace(self.rng.choice(order)))
        self.facts.sort(key=lambda fact: (fact.retention_class, fact.archive_seq))


class Copies:
    """Copies of an archive that were made here, without a bucket: an object for each class and month."""

    def __init__(self, history: History, root: Path) -> None:
        self._objects: dict[str, list[tuple[date, Path, Manifest]]] = defaultdict(list)
        grouped: dict[tuple[str, date], list[Told]] = defaultdict(list)
        for fact in history.facts:
            grouped[fact.retention_class, fact.happened_at.date().replace(day=1)].append(fact)
        for number, ((name, month), facts) in enumerate(sorted(grouped.items()), start=1):
            path = root / f"class={name}" / f"event_date={month}" / f"{number}.parquet"
            path.parent.mkdir(parents=True)
            path.write_bytes(records.parquet(records.table(list(map(_as_read, facts)))))
            self._objects[name].append((month, path, _manifest(name, number, month, facts, path)))

    @contextmanager
    def reading(
        self, classes: Any, *, since: date = date.min, until: date = date.max, **_: Any
    ) -> Iterator[cache.Copies]:
        """As `Cache.reading`."""
        with tempfile.TemporaryDirectory() as scratch:
            evidence = self._evidence(classes, since, until)
            yield cache.Copies(evidence, Path(scratch), lambda _sought: evidence)

    def bring(self, classes: Any) -> list[Evidence]:
        """As `Cache.bring`."""
        return self._evidence(classes, date.min, date.max)

    def _evidence(self, classes: Any, since: date, until: date) -> list[Evidence]:
        found = []
        for name in classes:
            wanted = [each for each in self._objects[name] if since.replace(day=1) <= each[0] <= until]
            manifests, files = tuple(each[2] for each in wanted), tuple(each[1] for each in wanted)
            found.append(Evidence(name, len(self._objects[name]), "0" * 64, manifests, files))
        return found


def _manifest(name: str, number: int, month: date, facts: list[Told], path: Path) -> Manifest:
    said: dict[str, Any] = {
        "retention_class": name,
        "number": number,
        "event_date": str(month),
        "key": str(path),
        "sha256": "0" * 64,
        "version": "1",
        "size": path.stat().st_size,
        "rows": len(facts),
        "first_seq": facts[0].archive_seq,
        "last_seq": facts[-1].archive_seq,
        "lock_mode": "GOVERNANCE",
        "locked_until": f"2027-0{1 + number % 9}-01T00:00:00+00:00",
    }
    return Manifest(**{each.name: said.get(each.name) for each in fields(Manifest)})


_Read = namedtuple("_Read", [each.name for each in fields(Told)])


def _as_read(fact: Told) -> Any:
    """As a row of Postgres."""
    return _Read(*(getattr(fact, name) for name in _Read._fields))
