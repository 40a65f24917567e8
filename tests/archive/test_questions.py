"""The questions of a controller: each answer is that of plain Python over the same facts, which shares no SQL with it.

The facts are random histories with errors in them (`histories`). A question is asked for the whole time and for a range
that begins or ends at a changeover of clocks.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from histories import Copies, History, Told

from archive import queries
from billing.states import DOCUMENT, EMAIL, REFUND

Rows = list[tuple[Any, ...]]
ENDS = ("declined", "refused", "expired", "canceled")


@dataclass(frozen=True)
class Asked:
    """One question: what was given, and what it means."""

    facts: list[Told]
    given: dict[str, str]
    since: datetime
    until: datetime
    zone: ZoneInfo

    @property
    def as_of(self) -> datetime:
        return self.until

    @property
    def before(self) -> list[Told]:
        return [fact for fact in self.facts if fact.happened_at < self.until]

    @property
    def within(self) -> list[Told]:
        return [fact for fact in self.before if fact.happened_at >= self.since]

    def local(self, moment: datetime) -> datetime:
        return moment.astimezone(self.zone)


def bounds(since: str, until: str, zone: str) -> tuple[datetime, ...]:
    return tuple(datetime.fromisoformat(day).replace(tzinfo=ZoneInfo(zone)).astimezone(UTC) for day in (since, until))


def asked(history: History, since: str, until: str, zone: str, **given: str) -> Asked:
    first, end = bounds(since, until, zone)
    return Asked(history.facts, {"since": since, "until": until, "tz": zone, **given}, first, end, ZoneInfo(zone))


RANGES = {
    1: ("2026-01-01", "2026-12-01", "UTC"),
    2: ("2026-03-29", "2026-10-26", "Europe/Berlin"),
    3: ("2026-03-01", "2026-11-01", "America/New_York"),
}
"""By the seed of the history that is asked about."""


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[History, Copies]]:
    histories = [History(seed, bounds(*RANGES[seed])) for seed in RANGES]
    return [(history, Copies(history, tmp_path_factory.mktemp("copies"))) for history in histories]


Check = Callable[..., None]


@pytest.fixture
def check(told: list[tuple[History, Copies]]) -> Check:
    """Ask the question of each history, and compare the answer with what `expected` computes."""

    def compare(
        name: str, expected: Callable[[Asked], Iterable[tuple[Any, ...]]], *, without: str = "", **given: Any
    ) -> None:
        some = 0
        for history, copies in told:
            more = {key: value(history) if callable(value) else value for key, value in given.items()}
            question = asked(history, *RANGES[history.seed], **more)
            options = {key: text for key, text in question.given.items() if key not in without.split()}
            answer = queries.ask(copies, name, options)  # type: ignore[arg-type]
            rows = [tuple(map(in_utc, row.values())) for row in answer.table.to_pylist()]
            assert rows == list(expected(question)), history.seed
            some += len(rows)
        assert some, "it was asked about something"

    return compare


def in_utc(value: Any) -> Any:
    """In other zones Python takes no two times for equal that lie in an hour which comes twice."""
    return value.astimezone(UTC) if isinstance(value, datetime) else value


def none_first(value: Any) -> tuple[bool, Any]:
    return (value is not None, "" if value is None else value)


def none_last(value: Any) -> tuple[bool, Any]:
    return (value is None, "" if value is None else value)


def grouped(facts: Iterable[Told], key: Callable[[Told], Any]) -> dict[Any, list[Told]]:
    groups: dict[Any, list[Told]] = defaultdict(list)
    for fact in facts:
        groups[key(fact)].append(fact)
    return groups


def lives(facts: Iterable[Told], *kinds: str) -> dict[str, list[Told]]:
    """The facts of each operation, in their order."""
    groups = grouped((fact for fact in facts if fact.entity_type in kinds), lambda fact: fact.entity_id)
    return {key: sorted(life, key=lambda fact: fact.entity_version) for key, life in groups.items()}


def request_of(life: list[Told]) -> Told | None:
    return next((fact for fact in life if fact.what == "requested"), None)


def totals(lines: Iterable[tuple[tuple[Any, ...], int | None]]) -> Iterator[tuple[Any, ...]]:
    """Groups with how many there are and the sum of their amounts; None if no amount is known."""
    sums: dict[tuple[Any, ...], list[int | None]] = defaultdict(list)
    for key, minor in lines:
        sums[key].append(minor)
    for key in sorted(sums, key=lambda key: tuple(map(none_first, key))):
        known = [minor for minor in sums[key] if minor is not None]
        yield (*key, len(sums[key]), sum(known) if known else None)


def captured(q: Asked) -> list[Told]:
    return [fact for fact in q.within if fact.topic == "capture.captured"]


# Money.


def test_what_was_captured_by_local_day_account_and_currency(check: Check) -> None:
    check(
        "captures_by_day",
        lambda q: totals(
            ((q.local(fact.happened_at).date(), fact.account or "unknown", fact.currency), fact.minor)
            for fact in captured(q)
        ),
    )


def test_what_was_invoiced_and_credited_in_each_month(check: Check) -> None:
    def expected(q: Asked) -> Iterator[tuple[Any, ...]]:
        def key(fact: Told) -> tuple[Any, ...]:
            return q.local(fact.happened_at).date().replace(day=1), fact.account or "unknown", fact.currency

        topics = ("invoice.finalized", "credit_note.issued", "credit_note.voided")
        for group, facts in sorted(grouped((f for f in q.within if f.topic in topics and f.currency), key).items()):
            invoiced = [fact.minor for fact in facts if fact.topic == "invoice.finalized"]
            signs = {"credit_note.issued": 1, "credit_note.voided": -1}
            notes = [(fact.settle, signs[fact.topic] * fact.minor) for fact in facts if fact.topic in signs]
            by_way = [
                sum(minor for way, minor in notes if way == settle)
                for settle in ("reduce", "balance", "out_of_band", "refund")
            ]
            count = sum(signs.get(fact.topic, 0) for fact in facts)
            yield (*group, len(invoiced), sum(invoiced), count, *by_way, sum(invoiced) - sum(by_way))

    check("credit_notes", expected)


def test_what_was_given_back_and_what_came_of_other_refunds(check: Check) -> None:
    check(
        "refunds_by_day",
        lambda q: totals(
            (
                (
                    q.local(fact.happened_at).date(),
                    fact.account or "unknown",
                    fact.currency,
                    fact.what,
                    fact.refund_reason,
                    fact.why or None,
                ),
                fact.minor,
            )
            for fact in q.within
            if fact.entity_type == "refund" and fact.what in REFUND.states and fact.what != "requested"
        ),
    )


def booked(facts: Iterable[Told]) -> list[Told]:
    """What Stripe's ledger said, each entry once."""
    told = sorted((fact for fact in facts if fact.what == "booked"), key=lambda f: (f.happened_at, f.archive_seq))
    return list({(fact.account, fact.entry): fact for fact in reversed(told)}.values())


def in_figures(facts: Sequence[Told]) -> tuple[int, int, int, int, int, int]:
    captures = [fact.minor for fact in facts if fact.entity_type == "capture"]
    refunds = [fact.minor for fact in facts if fact.entity_type == "refund"]
    fees, net = sum(fact.fee_minor for fact in facts), sum(fact.net_minor for fact in facts)
    return len(captures), sum(captures), sum(minor < 0 for minor in refunds), -sum(refunds), fees, net


def test_what_a_month_brought_less_stripes_fees(check: Check) -> None:
    def expected(q: Asked) -> Iterator[tuple[Any, ...]]:
        at = lambda fact: datetime.fromisoformat(fact.booked_at)  # noqa: E731
        mine = [fact for fact in booked(q.facts) if q.since <= at(fact) < q.until]
        groups = grouped(mine, lambda f: (q.local(at(f)).date().replace(day=1), f.account, f.currency))
        yield from ((*key, *in_figures(facts)) for key, facts in sorted(groups.items()))

    check("fees_and_net", expected)


def test_which_captures_and_refunds_explain_a_payout(check: Check) -> None:
    def expected(q: Asked) -> Iterator[tuple[Any, ...]]:
        groups = grouped((f for f in booked(q.facts) if f.payout), lambda f: (f.account, f.payout, f.currency))
        for (account, payout, currency), facts in sorted(groups.items(), key=lambda each: (first(each[1]), each[0])):
            if q.since <= first(facts) < q.until:
                figures = in_figures(facts)
                paid = facts[0].payout_minor
                told = q.local(first(facts)).date()
                yield told, account, payout, currency, paid, *figures, paid - figures[-1]

    def first(facts: Sequence[Told]) -> datetime:
        return min(fact.happened_at for fact in facts)

    check("payouts", lambda q: sorted(expected(q)))


def test_what_was_captured_and_is_not_paid_out(check: Check) -> None:
    def expected(q: Asked) -> Iterable[tuple[Any, ...]]:
        paid = {fact.entity_id for fact in q.before if fact.topic == "capture.booked" and fact.payout}
        waiting = [fact for fact in q.before if fact.topic == "capture.captured" and fact.entity_id not in paid]
        return totals(
            ((q.local(fact.happened_at).date(), fact.account or "unknown", fact.currency), fact.minor)
            for fact in waiting
        )

    check("not_paid_out", expected, without="since")


def test_which_emails_were_asked_for_sent_and_refused(check: Check) -> None:
    def expected(q: Asked) -> Iterator[tuple[Any, ...]]:
        counted: dict[tuple[Any, ...], int] = defaultdict(int)
        for fact in q.within:
            if fact.entity_type == "email" and fact.what in EMAIL.states:
                account = fact.account or ("own" if fact.what == "requested" else "unknown")
                day = q.local(fact.happened_at).date()
                counted[(day, account, fact.template, fact.what, fact.why or None)] += 1
        for key in sorted(
            counted, key=lambda each: (each[0], each[1], none_first(each[2]), each[3], none_first(each[4]))
        ):
            yield *key, counted[key]

    check("emails_by_day", expected)


def test_which_documents_were_asked_for_stored_and_refused(check: Check) -> None:
    def expected(q: Asked) -> Iterator[tuple[Any, ...]]:
        groups: dict[tuple[Any, ...], list[Told]] = defaultdict(list)
        for fact in q.within:
            if fact.entity_type == "document" and fact.what in DOCUMENT.states:
                account = fact.account or ("own" if fact.what == "requested" else "unknown")
                day = q.local(fact.happened_at).date()
                groups[(day, account, fact.kind, fact.what, fact.why or None)].append(fact)
        for key in sorted(groups, key=lambda each: (*each[:4], none_first(each[4]))):
            sizes = [fact.size_bytes for fact in groups[key] if fact.size_bytes is not None]
            yield *key, len(groups[key]), sum(sizes) if sizes else None

    check("documents", expected)


def test_at_which_hours_of_the_week_money_is_captured(check: Check) -> None:
    check(
        "captures_by_hour",
        lambda q: totals(
            ((at.isoweekday(), at.hour, fact.currency), fact.minor)
            for fact in captured(q)
            if (at := q.local(fact.happened_at))
        ),
    )


def outcome_of(life: list[Told]) -> tuple[str, str | None]:
    """How a capture stands after these facts, and why."""
    state: tuple[str, str | None] = ("open", None)
    ended: tuple[str, str | None] | None = None
    conflict = was_captured = False
    for fact in life:
        match fact.what:
            case "captured":
                was_captured = True
            case "conflict":
                conflict = True
            case "replayed":
                conflict, state = False, ("open", None)
            case "upheld" if ended is not None:
                state = ended
            case what if what in ENDS:
                state = ended = (what, fact.why)
    if was_captured:
        return ("captured", None)
    return ("conflict", None) if conflict else state


def test_what_became_of_what_was_requested_and_why_the_rest_was_not_captured(check: Check) -> None:
    def expected(q: Asked) -> Iterator[tuple[Any, ...]]:
        lines = []
        for life in lives(q.before, "capture").values():
            request = request_of(life)
            if request is not None and request.happened_at >= q.since:
                lines.append(((request.account or "own", request.currency, *outcome_of(life)), request.minor))
        for *key, count, minor in totals(lines):
            taken = minor if key[2] == "captured" else 0
            yield (*key, count, minor, taken, minor - taken)

    check("requested_and_captured", expected)


def test_what_was_declined_or_refused_for_which_reason_and_what_succeeded_later(check: Check) -> None:
    def expected(q: Asked) -> Iterator[tuple[Any, ...]]:
        all_lives = lives(q.before, "capture", "invoice")
        lines: dict[tuple[Any, ...], list[tuple[int | None, bool]]] = defaultdict(list)
        for life in all_lives.values():
            request = request_of(life)
            for fact in life:
                bad = fact.topic in ("capture.declined", "capture.refused", "capture.canceled", "invoice.refused")
                if not bad or fact.happened_at < q.since:
                    continue
                intent = request and request.payment_intent
                later = any(
                    other.topic in ("capture.captured", "invoice.finalized")
                    and other.happened_at > fact.happened_at
                    and (other.entity_id == fact.entity_id or (intent is not None and other.payment_intent == intent))
                    for each in all_lives.values()
                    for other in each
                )
                account = fact.account or ((request.account or "own") if request else "unknown")
                currency, minor = (
                    fact.currency or (request and request.currency),
                    fact.minor or (request and request.minor),
                )
                lines[fact.entity_type, fact.what, fact.why, account, currency].append((minor, later))
        for key in sorted(lines, key=lambda key: tuple(map(none_first, key))):
            known = [minor for minor, _ in lines[key] if minor is not None]
            yield (*key, len(lines[key]), sum(known) if known else None, sum(later for _, later in lines[key]))

    check("declines_and_refusals", expected)


def authorized(fact: Told) -> int | None:
    known: int | None = fact.authorized_minor
    return known if known is not None and known >= fact.minor else None


def test_how_much_authorized_money_was_released(check: Check) -> None:
    def expected(q: Asked) -> Iterator[tuple[Any, ...]]:
        groups = grouped(
            captured(q),
            lambda fact: (
                fact.account or "unknown",
                fact.currency,
                "unknown" if authorized(fact) is None else "full" if authorized(fact) == fact.minor else "part",
            ),
        )
        for key, facts in sorted(groups.items()):
            taken = sum(fact.minor for fact in facts)
            held = None if key[2] == "unknown" else sum(authorized(fact) or 0 for fact in facts)
            yield (*key, len(facts), held, taken, None if held is None else held - taken)

    check("released_money", expected)


def test_which_captures_took_less_than_was_authorized(check: Check) -> None:
    check(
        "partial_captures",
        lambda q: [
            (
                *(fact.happened_at, fact.account, fact.payment_intent, fact.entity_id, fact.currency),
                *(fact.authorized_minor, fact.minor, fact.authorized_minor - fact.minor),
            )
            for fact in sorted(captured(q), key=lambda fact: (fact.happened_at, fact.entity_id))
            if (authorized(fact) or 0) > fact.minor
        ],
    )


def test_which_money_was_lost_because_its_authorization_lapsed(check: Check) -> None:
    def expected(q: Asked) -> Iterator[tuple[Any, ...]]:
        lines = []
        for key, life in lives(q.before, "capture").items():
            request = request_of(life)
            what = {fact.what for fact in life}
            lapsed = max((fact.happened_at for fact in life if fact.what == "expired"), default=None)
            times = [datetime.fromisoformat(fact.capture_before) for fact in life if fact.capture_before]
            before = max(times, default=None)
            stands = None
            if "captured" not in what and lapsed is not None and lapsed >= q.since:
                stands = "lapsed"
            elif not what & {"captured", *ENDS} and before is not None and before < q.as_of:
                stands = "past its time"
            if stands is not None:
                said = request or next((fact for fact in life if fact.what == "expired"), None)
                account = (request.account or "own") if request else "unknown"
                money = (said.currency, said.minor) if said else (next(f.currency for f in life if f.currency), None)
                intent = next((fact.payment_intent for fact in life if fact.payment_intent), None)
                lines.append((stands, key, account, intent, *money, request and request.happened_at, before, lapsed))
        yield from sorted(lines, key=lambda line: (line[0], none_first(line[7]), line[1]))

    check("lapsed_authorizations", expected)


def test_what_was_requested_captured_and_invoiced_in_each_month(check: Check) -> None:
    def counted(fact: Told) -> bool:
        captures = ("requested", "captured", *ENDS)
        invoices = ("requested", "finalized", "sent", "paid", "refused")
        refunds = ("requested", "succeeded", "failed", "canceled", "refused")
        notes = ("requested", "issued", "voided", "refused")
        counted = {"capture": captures, "refund": refunds, "invoice": invoices, "credit_note": notes}
        return fact.what in counted.get(fact.entity_type, ())

    check(
        "month_totals",
        lambda q: totals(
            (
                (
                    q.local(fact.happened_at).date().replace(day=1),
                    fact.account or ("own" if fact.what == "requested" else "unknown"),
                    fact.currency,
                    f"{fact.entity_type} {fact.what}",
                ),
                fact.minor,
            )
            for fact in q.within
            if counted(fact)
        ),
    )


# What is not known, and proofs.


def opens_doubt(fact: Told) -> bool:
    if (fact.step or "").startswith(("read_", "list_", "delete_duplicate_")):
        return False
    unanswered = fact.what == "attempted" and (fact.outcome == "no_answer" or fact.learned == "ask")
    return unanswered or fact.what in ("attempt_lapsed", "undecided", "conflict")


CALLS = (
    *("attempted", "attempt_lapsed", "looked", "late_answer", "undecided", "conflict", "disproved", "replayed"),
    "noticed",
)


def doubts(life: list[Told]) -> Iterator[tuple[str, datetime]]:
    """What is open after these facts: one fact after the other is opened, and closed by what follows."""
    for n, fact in enumerate(life):
        if not opens_doubt(fact):
            continue
        rest = life[n + 1 :]
        if fact.what == "conflict":
            decision = next((m for m, later in enumerate(rest) if later.what == "replayed"), None)
            if decision is None:
                yield "conflict", fact.happened_at
            elif all(later.what in CALLS for later in rest[decision:]):
                yield "in doubt", fact.happened_at
        elif all(
            later.what in CALLS
            and not (later.what == "disproved" and (later.step, later.generation) == (fact.step, fact.generation))
            for later in rest
        ):
            yield ("undecided" if fact.what == "undecided" else "in doubt"), fact.happened_at


def test_what_was_in_doubt_and_for_how_long(check: Check) -> None:
    def expected(q: Asked) -> Iterator[tuple[Any, ...]]:
        lines = []
        for key, life in lives(q.before, "capture", "refund", "invoice", "credit_note").items():
            if not (open_now := list(doubts(life))):
                continue
            state = next(each for each in ("conflict", "undecided", "in doubt") if each in dict(open_now))
            since = min(at for _, at in open_now)
            request = request_of(life)
            account = (request.account or "own") if request else "unknown"
            said = [
                getattr(request, name) if request else None
                for name in ("payment_intent", "customer", "currency", "minor")
            ]
            hours = (q.as_of - since) // timedelta(hours=1)
            lines.append((state, life[0].entity_type, key, account, *said, since, hours))
        yield from sorted(lines, key=lambda line: (line[8], line[2]))

    check("in_doubt", expected, without="since")


def test_that_nothing_was_captured_twice(check: Check) -> None:
    def expected(q: Asked) -> Iterator[tuple[Any, ...]]:
        ids, intents = ({getattr(fact, name) for fact in captured(q)} for name in ("entity_id", "payment_intent"))
        ever = [fact for fact in q.facts if fact.topic == "capture.captured"]
        successes = [
            fact
            for fact in q.facts
            if fact.topic in ("capture.attempted", "capture.late_answer")
            and (fact.step, fact.learned, fact.replayed) == ("capture", "succeeded", False)
        ]
        for what, facts, wanted, name in (
            ("authorization", ever, intents - {None}, "payment_intent"),
            ("capture", ever, ids, "entity_id"),
            ("provider success", successes, ids, "entity_id"),
        ):
            times: dict[int, list[str]] = defaultdict(list)
            for key, group in grouped(facts, lambda fact, name=name: getattr(fact, name)).items():  # type: ignore[misc]
                if key in wanted:
                    times[len(group)].append(key)
            yield from ((what, n, len(keys), min(keys) if n > 1 else None) for n, keys in sorted(times.items()))

    check("duplicate_proof", expected)


def test_how_many_calls_and_looks_captures_took(check: Check) -> None:
    def expected(q: Asked) -> Iterator[tuple[Any, ...]]:
        ids = {fact.entity_id for fact in captured(q)}
        efforts: dict[tuple[int, int], int] = defaultdict(int)
        for key, life in lives(q.facts, "capture").items():
            if key in ids:
                seen = [fact.what for fact in life if fact.happened_at < q.until]
                calls = sum(what in ("attempted", "attempt_lapsed", "late_answer") for what in seen)
                efforts[calls, seen.count("looked")] += 1
        return ((*effort, count) for effort, count in sorted(efforts.items()))

    check("attempts_per_capture", expected)


def test_which_calls_were_made_for_one_payment(check: Check) -> None:
    def expected(q: Asked) -> Iterator[tuple[Any, ...]]:
        for key, life in sorted(lives(q.facts, "capture").items()):
            request = request_of(life)
            if request is None or request.payment_intent != q.given["payment_intent"]:
                continue
            for fact in life:
                said = (
                    fact.step,
                    fact.generation,
                    fact.outcome,
                    fact.learned,
                    fact.status,
                    fact.request_id,
                    fact.took_ms,
                )
                yield (key, fact.entity_version, fact.happened_at, fact.what, *said, fact.replayed, fact.why)

    most = lambda history: max(lives(history.facts, "capture").values(), key=len)[0].entity_id  # noqa: E731
    check(
        "payment_attempts",
        expected,
        payment_intent=lambda history: f"pi_{most(history).removeprefix('cap_').rstrip('x')}",
        without="since until",
    )


def test_the_whole_history_of_one_operation(check: Check) -> None:
    def expected(q: Asked) -> Iterator[tuple[Any, ...]]:
        life = [fact for fact in q.facts if fact.entity_id == q.given["entity_id"]]
        for fact in sorted(life, key=lambda fact: (fact.entity_version, fact.id)):
            told = records_of(fact)
            yield (
                fact.entity_version,
                fact.happened_at,
                fact.topic,
                fact.actor,
                fact.minor,
                fact.currency,
                fact.why,
                told,
            )

    one_of = {1: "cap_03", 2: "inv_04", 3: "swi_03"}
    check("history", expected, entity_id=lambda history: one_of[history.seed], without="since until")


def records_of(fact: Told) -> str:
    from archive.format.records import canonical

    return canonical(fact.payload)


def test_how_long_captures_and_calls_take(check: Check) -> None:
    def share(times: list[int], percent: int) -> int:
        """The smallest time that so many of a hundred do not exceed."""
        return sorted(times)[-(-len(times) * percent // 100) - 1]

    def expected(q: Asked) -> Iterator[tuple[Any, ...]]:
        took: dict[tuple[Any, str], list[int]] = defaultdict(list)
        asked_at = {fact.entity_id: fact.happened_at for fact in q.before if fact.topic == "capture.requested"}
        for fact in q.within:
            day = q.local(fact.happened_at).date()
            if fact.topic == "capture.captured" and fact.entity_id in asked_at:
                ms = (fact.happened_at - asked_at[fact.entity_id]) // timedelta(milliseconds=1)
                took[day, "request to money"].append(ms)
            answered = fact.status is not None and fact.took_ms is not None
            if fact.topic in ("capture.attempted", "capture.late_answer") and answered:
                took[day, "one call"].append(fact.took_ms)
        for key, times in sorted(took.items()):
            yield (*key, len(times), *(share(times, percent) for percent in (50, 95, 99)), max(times))

    check("latency", expected)


# Invoices.


def test_invoices_by_state_and_age(check: Check) -> None:
    def expected(q: Asked) -> Iterator[tuple[Any, ...]]:
        states = (
            "requested",
            "drafted",
            "lines_added",
            "lines_differ",
            "finalized",
            "sent",
            "unpaid",
            "paid",
            "uncollectible",
            "voided",
            "refused",
            "reopened",
        )
        lines = []
        for life in lives(q.before, "invoice").values():
            known = [fact.what for fact in life if fact.what in states]
            if not known:
                continue
            state = known[-1]
            if state == "reopened":
                state = "finalized" if any(fact.number for fact in life) else "requested"
            numbered = [fact.happened_at for fact in life if fact.what == "finalized"]
            days = (q.as_of - min(numbered or [fact.happened_at for fact in life])).days
            age = (
                "over 90 days"
                if days > 90
                else "61-90 days"
                if days > 60
                else "31-60 days"
                if days > 30
                else "0-30 days"
            )
            request = request_of(life)
            account = (request.account or "own") if request else "unknown"
            money = [next((getattr(f, name) for f in life if getattr(f, name)), None) for name in ("currency", "minor")]
            lines.append(((state, age, account, money[0]), money[1]))
        return totals(lines)

    check("invoices_by_state_and_age", expected, without="since")


def test_the_numbers_of_invoices_and_what_explains_their_gaps(check: Check) -> None:
    def expected(q: Asked) -> Iterator[tuple[Any, ...]]:
        lines = []
        series: dict[tuple[str, str], dict[int, str]] = defaultdict(dict)
        holders: dict[tuple[str, str], set[str]] = defaultdict(set)
        for key, life in lives(q.before, "invoice").items():
            request = request_of(life)
            account = (request.account or "own") if request else "unknown"
            for number in sorted({fact.number for fact in life if fact.number}):
                prefix, _, counter = number.rpartition("-")
                series[account, f"{prefix}-"][int(counter)] = number
                holders[account, number].add(key)
                named = [fact for fact in life if fact.number == number]
                if named[-1].what == "refused":
                    why = "ours, and refused after it had its number: " + (named[-1].why or "no reason is archived")
                    lines.append((account, f"{prefix}-", "refused", number, number, 1, key, why))
        for (account, prefix), numbers in series.items():
            first, last = min(numbers), max(numbers)
            lines.append((account, prefix, "issued", numbers[first], numbers[last], len(numbers), None, None))
            missing = [n for n in range(first, last) if n not in numbers]
            for begin in (n for n in missing if n - 1 not in missing):
                end = next(n for n in range(begin, last) if n + 1 not in missing)
                why = "no invoice of ours: look in Stripe for who made it, or deleted or voided it"
                name = [f"{prefix}{n:04}" for n in (begin, end)]
                lines.append((account, prefix, "gap", *name, end - begin + 1, None, why))
        for (account, number), keys in holders.items():
            if len(keys) > 1:
                why = "several invoices of ours have this number: a person must look"
                prefix = f"{number.rpartition('-')[0]}-"
                lines.append((account, prefix, "used twice", number, number, len(keys), min(keys), why))
        yield from sorted(lines, key=lambda line: (*line[:4], none_last(line[6])))

    check("invoice_numbers", expected, without="since")


def test_what_was_captured_and_not_invoiced(check: Check) -> None:
    def expected(q: Asked) -> Iterator[tuple[Any, ...]]:
        orders: dict[tuple[str, str], set[str]] = defaultdict(set)
        for life in lives(q.before, "invoice").values():
            request = request_of(life)
            if life[0].correlation_id is None:
                continue
            turns = [fact.what for fact in life if fact.what in ("requested", "refused", "reopened")]
            has_number = any(fact.what == "finalized" for fact in life)
            stands = "refused" if turns and turns[-1] == "refused" else "issued" if has_number else "not issued yet"
            named = next((fact.account for fact in life if fact.account), None)
            account = named or ("own" if request else "unknown")
            orders[life[0].correlation_id, account].add(stands)
        requests = {fact.entity_id: fact.account or "own" for fact in q.before if fact.topic == "capture.requested"}
        for fact in sorted(captured(q), key=lambda fact: (fact.happened_at, fact.entity_id)):
            account = fact.account or requests.get(fact.entity_id, "unknown")
            found = orders.get((fact.correlation_id or "", account), set())
            if "issued" in found:
                continue
            stands = "unknown" if fact.correlation_id is None else "none" if not found else "refused"
            stands = "not issued yet" if "not issued yet" in found else stands
            said = (fact.entity_id, fact.payment_intent, fact.correlation_id, fact.currency, fact.minor, stands)
            yield (fact.happened_at, account, *said)

    check("captured_not_invoiced", expected)


def test_which_invoices_are_not_paid_and_what_was_paid_and_credited_of_them(check: Check) -> None:
    def expected(q: Asked) -> Iterable[tuple[Any, ...]]:
        credited: dict[str, int] = defaultdict(int)
        for life in lives(q.before, "credit_note").values():
            told = {fact.what: fact for fact in life}
            if "issued" in told and "voided" not in told:
                credited[told["issued"].invoice] += told["issued"].minor
        rows = []
        for key, life in lives(q.before, "invoice").items():
            issued = [fact for fact in life if fact.what == "finalized"]
            if not issued:
                continue
            begun = issued[0].happened_at
            state, since, why = "open", begun, None
            for fact in life:
                match fact.what:
                    case "unpaid" | "uncollectible" | "voided" | "refused" | "paid":
                        state, since, why = fact.what, fact.happened_at, fact.why
                    case "finalized" | "sent" | "reopened":
                        state, since, why = "open", begun, None
            if state == "paid":
                continue
            account = next((f.account for f in life if f.account), "own" if request_of(life) else "unknown")
            about = [next((getattr(f, k) for f in life if getattr(f, k)), None) for k in ("number", "customer")]
            days = (q.as_of - since) // timedelta(days=1)
            paid = max((fact.paid_minor for fact in life if fact.what == "partly_paid"), default=0)
            money = issued[-1].currency, issued[-1].minor, paid, credited[key]
            rows.append((begun, account, key, *about, state, since, days, *money, why))
        return sorted(rows, key=lambda row: (row[0], row[2]))

    check("invoices_not_paid", expected, without="since")


def test_to_which_customers_most_was_invoiced(check: Check) -> None:
    def expected(q: Asked) -> Iterator[tuple[Any, ...]]:
        requests = {fact.entity_id: fact for fact in q.facts if fact.topic == "invoice.requested"}
        issued = {fact.entity_id for fact in q.within if fact.topic == "invoice.finalized"}
        of = grouped(
            (requests[key] for key in issued & requests.keys()), lambda f: (f.currency, f.account or "own", f.customer)
        )
        for currency in sorted({key[0] for key in of}):
            sums = [
                (-sum(f.minor for f in facts), *key[1:], len(facts)) for key, facts in of.items() if key[0] == currency
            ]
            for rank, (minor, account, customer, count) in enumerate(sorted(sums)[:2], start=1):
                yield currency, rank, account, customer, count, -minor

    check("top_customers", expected, limit="2")


# People.


def test_which_switches_were_pulled_by_whom_for_how_long_and_what_they_held(check: Check) -> None:
    def held(q: Asked, scope: str, end: datetime) -> dict[str, list[int]]:
        found: dict[str, list[int]] = defaultdict(list)
        for life in lives(q.before, "capture", "refund", "invoice", "credit_note").values():
            request, kind = request_of(life), life[0].entity_type
            over = {
                "capture": ("captured", *ENDS),
                "refund": ("succeeded", "failed", "canceled", "refused"),
                "invoice": ("sent", "paid", "refused"),
                "credit_note": ("issued", "refused"),
            }[kind]
            if request is None or request.happened_at >= end:
                continue
            if any(fact.what in over and fact.happened_at < end for fact in life):
                continue
            group = "invoice" if kind == "credit_note" else kind
            names = {f"{group}s", f"queue:{group}s"}
            if scope in names | {"everything", f"account:{request.account or 'own'}", f"currency:{request.currency}"}:
                found[request.currency].append(request.minor)
        return found

    def expected(q: Asked) -> Iterator[tuple[Any, ...]]:
        lines = []
        for key, life in lives(q.before, "switch").items():
            pulls = [fact for fact in life if fact.what == "pulled"]
            release = next((fact for fact in life if fact.what == "released"), None)
            end = release.happened_at if release else q.as_of
            if not pulls or end < q.since:
                continue
            scope, rate = pulls[0].scope, release and release.per_hour
            continued = "still pulled" if release is None else f"at {rate} an hour" if rate else "all at once"
            who = ", ".join(fact.actor for fact in pulls if fact.actor)
            minutes = (end - pulls[0].happened_at) // timedelta(minutes=1)
            released = (release.happened_at, release.actor) if release else (None, None)
            line = (scope, pulls[0].happened_at, who, *released, minutes, continued)
            for currency, minors in sorted(held(q, scope, end).items()) or [(None, [])]:
                lines.append((line, key, (len(minors), currency, sum(minors) if minors else None)))
        for line, _, what in sorted(lines, key=lambda each: (each[0][1], each[0][0], each[1], none_last(each[2][1]))):
            yield (*line, *what)

    check("switches", expected)


def test_who_decided_about_quarantine_and_what_became_of_it(check: Check) -> None:
    def expected(q: Asked) -> Iterator[tuple[Any, ...]]:
        lines = []
        work = {fact.work_id: fact.entity_id for fact in q.before if fact.work_id}
        all_lives = lives(q.before, "capture", "refund", "invoice", "credit_note")
        for life in all_lives.values():
            for n, fact in enumerate(life):
                discarded = fact.what == "refused" and fact.why in ("discarded", "ruled_out")
                if fact.happened_at < q.since or not (fact.what in ("replayed", "reopened") or discarded):
                    continue
                decision = {"replayed": "replay", "reopened": "reopen"}.get(fact.what, "discard")
                decision = "conclude" if fact.why == "ruled_out" else decision
                since = None
                for earlier in life[:n]:
                    if earlier.what == "conflict" and since is None:
                        since = earlier.happened_at
                    if earlier.what == "replayed":
                        since = None
                ends = ("captured", *ENDS, "succeeded", "failed", "sent", "paid", "upheld", "conflict")
                became = "refused" if discarded else next((f.what for f in life[n + 1 :] if f.what in ends), None)
                lines.append((fact, decision, fact.work_id, fact.entity_id, since, became))
        for fact in q.within:
            if fact.topic == "command.done" and fact.command == "quarantine assign":
                lines.append((fact, "assign", fact.about, work.get(fact.about), None, None))
        lines.sort(key=lambda line: (line[0].happened_at, none_last(line[2]), line[1], none_last(line[3])))
        for fact, decision, work_id, key, since, became in lines:
            request = request_of(all_lives.get(key, []))
            money = (request.account or "own", request.currency, request.minor) if request else (None, None, None)
            yield (fact.happened_at, fact.actor, decision, work_id, key, *money, since, became)

    check("quarantine_decisions", expected)


def test_what_operators_did(check: Check) -> None:
    def expected(q: Asked) -> Iterator[tuple[Any, ...]]:
        groups: dict[tuple[str, str], list[list[Told]]] = defaultdict(list)
        for life in lives(q.before, "command").values():
            if life[0].happened_at >= q.since:
                name = next((fact.command for fact in life if fact.command), "unknown")
                groups[next((fact.actor for fact in life if fact.actor), "unknown"), name].append(life)
        for key, group in sorted(groups.items()):
            ends = [{fact.what for fact in life} for life in group]
            things = sum(
                next((fact.payload["count"] for fact in life if "count" in fact.payload), 0)
                for life, end in zip(group, ends, strict=True)
                if "done" in end
            )
            failed, unfinished = sum("failed" in end for end in ends), sum(end == {"begun"} for end in ends)
            first = [life[0].happened_at for life in group]
            yield (*key, len(group), things, failed, unfinished, min(first), max(first))

    check("operator_actions", expected)


# The archive itself.


def test_how_much_evidence_there_is_and_until_when_it_is_locked(told: list[tuple[History, Copies]]) -> None:
    for history, copies in told:
        answer = queries.ask(copies, "facts_by_class")  # type: ignore[arg-type]
        rows = {row["retention_class"]: row for row in answer.table.to_pylist()}
        classes = grouped(history.facts, lambda fact: fact.retention_class)
        assert {name: row["facts"] for name, row in rows.items()} == {
            name: len(facts) for name, facts in classes.items()
        }
        for part in copies.bring(classes):
            row, locks = rows[part.retention_class], [manifest.lock.until for manifest in part.manifests]
            assert (row["first_lock_ends"], row["last_lock_ends"]) == (min(locks), max(locks))
            assert (row["objects"], row["bytes"]) == (len(locks), sum(manifest.size for manifest in part.manifests))


def test_which_facts_came_late(check: Check) -> None:
    def expected(q: Asked) -> Iterator[tuple[Any, ...]]:
        for name, facts in sorted(grouped(q.facts, lambda fact: fact.retention_class).items()):
            newest = datetime.min.replace(tzinfo=UTC)
            for fact in sorted(facts, key=lambda fact: fact.archive_seq):
                newest = max(newest, fact.happened_at)
                behind = newest - fact.happened_at
                if behind >= timedelta(hours=1) and q.since <= fact.happened_at < q.until:
                    late = behind // timedelta(minutes=1)
                    yield name, fact.archive_seq, fact.topic, fact.entity_id, fact.happened_at, late

    check("late_facts", expected)


def test_whether_any_fact_is_missing_or_there_twice(check: Check) -> None:
    def runs(numbers: list[int]) -> Iterator[tuple[int, int]]:
        missing = sorted(set(range(1, max(numbers) + 1)) - set(numbers))
        for begin in (n for n in missing if n - 1 not in missing):
            yield begin, next(n for n in range(begin, max(numbers) + 1) if n + 1 not in missing)

    def expected(q: Asked) -> Iterator[tuple[Any, ...]]:
        lines = []
        for name, facts in grouped(q.facts, lambda fact: fact.retention_class).items():
            for begin, end in runs([fact.archive_seq for fact in facts]):
                why = "these numbers of the class are missing: verify the archive"
                lines.append(("class", name, begin, end, end - begin + 1, why))
            numbers = [fact.archive_seq for fact in facts]
            for number in {n for n in numbers if numbers.count(n) > 1}:
                why = "this number of the class is there twice: verify the archive"
                lines.append(("class", name, number, number, 2, why))
        newest_call = max(fact.happened_at for fact in q.facts if fact.retention_class == "attempt")
        for (kind, key), facts in grouped(q.facts, lambda fact: (fact.entity_type, fact.entity_id)).items():
            numbers = [fact.entity_version for fact in facts]
            for begin, end in runs(numbers):
                after = min(fact.happened_at for fact in facts if fact.entity_version == end + 1)
                why = "missing: set aside, kept for a shorter time, or removed"
                if after > newest_call:
                    why = "may be on its way: ask again when the class attempt is archived up to now"
                lines.append((kind, key, begin, end, end - begin + 1, why))
            for number in {n for n in numbers if numbers.count(n) > 1}:
                lines.append((kind, key, number, number, 2, "this fact is there twice"))
        yield from sorted(lines)

    check("completeness", expected, without="since until")


def test_a_whole_archive_is_proven_by_an_empty_answer(tmp_path: Any) -> None:
    whole = History(1)
    whole.facts = [fact for fact in whole.facts if fact.entity_id in ("cap_00", "cap_01")]
    for name in ("capture", "attempt"):
        mine = [fact for fact in whole.facts if fact.retention_class == name]
        for number, fact in enumerate(mine, start=1):
            fact.archive_seq = number
    answer = queries.ask(Copies(whole, tmp_path), "completeness")  # type: ignore[arg-type]
    assert answer.rows == []


def test_each_question_has_a_test_here() -> None:
    """Whoever adds a question is told to compare it, too."""
    from pathlib import Path

    here = Path(__file__).read_text()
    assert [name for name in queries.NAMES if f'"{name}"' not in here] == []
