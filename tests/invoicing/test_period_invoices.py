"""Captures of a period are invoiced once it is over: every one of them, once, whatever happens in between."""

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from zoneinfo import available_timezones

import pytest
from collected import ask, captured, check_all_invoiced, collected, count_invoices, lines, row, run
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from service import Service, eventually
from sqlalchemy import event
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from billing import database, ids, period_invoices
from billing.currencies import CURRENCIES
from billing.period_invoices import ClosedElsewhere
from billing.periods import LENGTHS, Calendar, Calendars
from jobs.schedules import invoicing

OCTOBER, NOVEMBER = datetime(2025, 10, 15, 12, tzinfo=UTC), datetime(2025, 11, 2, 12, tzinfo=UTC)
CUSTOMERS = ("cus_anna", "cus_boris")


def invoices_of(service: Service, captures: list[str]) -> list[tuple[str | None, int | None]]:
    """The invoice and the part of each."""
    return [(row(service, each).invoice_id, row(service, each).part) for each in captures]


def test_what_a_customer_paid_in_a_month_is_one_invoice_in_the_order_in_which_it_was_paid(service: Service) -> None:
    later, first = collected(service, OCTOBER + timedelta(days=2), OCTOBER)
    (other,) = collected(service, NOVEMBER)
    (of_boris,) = collected(service, OCTOBER, customer="cus_boris")
    (in_euro,) = collected(service, OCTOBER, currency="EUR")
    assert run(service)["invoices"] == 4
    captures = [first, later, other, of_boris, in_euro]
    check_all_invoiced(service, captures)
    invoices = [invoice for invoice, _ in invoices_of(service, captures)]
    assert invoices[0] == invoices[1]
    assert len(set(invoices)) == 4
    assert [row(service, each).position for each in (first, later)] == [0, 1]
    assert run(service)["invoices"] == 0


def test_a_period_that_is_not_over_is_not_invoiced(service: Service) -> None:
    (capture,) = collected(service, datetime.now(UTC))
    assert run(service)["ended"] == 1
    assert row(service, capture).period_end > datetime.now(UTC)
    assert row(service, capture).invoice_id is None


def test_the_day_on_which_it_was_captured_is_that_of_the_account_s_zone(service: Service) -> None:
    late = datetime(2025, 10, 31, 23, 30, tzinfo=UTC)
    tokyo = Calendars(Calendar("month", "Asia/Tokyo"), {"acct_1": Calendar("month", "America/New_York")})
    (own,) = collected(service, late)
    (connected,) = collected(service, late, account="acct_1")
    run(service, tokyo)
    assert row(service, own).period_start == datetime(2025, 10, 31, 15, tzinfo=UTC)
    assert row(service, connected).period_start == datetime(2025, 10, 1, 4, tzinfo=UTC)
    check_all_invoiced(service, [own, connected])


def test_what_becomes_known_late_is_on_the_next_part_of_its_period(service: Service) -> None:
    first = collected(service, OCTOBER)
    run(service)
    before = lines(service, row(service, first[0]).invoice_id)
    late = collected(service, OCTOBER - timedelta(days=1))
    run(service)
    assert [part for _, part in invoices_of(service, first + late)] == [1, 2]
    assert lines(service, row(service, first[0]).invoice_id) == before
    check_all_invoiced(service, first + late)


@pytest.mark.parametrize(("count", "parts"), [(250, [250]), (251, [250, 1]), (501, [250, 250, 1])])
def test_more_captures_than_an_invoice_has_lines_are_parts(service: Service, count: int, parts: list[int]) -> None:
    captures = collected(service, *(OCTOBER + timedelta(seconds=number) for number in range(count)))
    assert run(service)["invoices"] == len(parts)
    each = [part for _, part in invoices_of(service, captures)]
    assert each == [number for number, size in enumerate(parts, start=1) for _ in range(size)]
    check_all_invoiced(service, captures)


def test_captures_that_come_to_more_than_an_invoice_may_are_parts(service: Service) -> None:
    most = CURRENCIES["USD"].most_minor
    captures = [captured(service, OCTOBER + timedelta(seconds=number), minor=most // 2 + 1) for number in range(3)]
    for capture in captures:
        ask(service, capture)
    assert run(service)["invoices"] == 3
    check_all_invoiced(service, captures)


def test_what_was_given_back_before_is_not_invoiced(service: Service) -> None:
    some = captured(service, OCTOBER, minor=1000, back=300)
    (untouched,) = collected(service, OCTOBER)
    ask(service, some)
    whole = captured(service, OCTOBER, minor=1000)
    ask(service, whole)
    service.execute("UPDATE billing.captures SET refunds_minor = 1000 WHERE id = :id", id=whole)
    run(service)
    assert [row(service, each).billed_minor for each in (some, untouched, whole)] == [700, 1999, None]
    check_all_invoiced(service, [some, untouched, whole])


def test_a_period_waits_for_a_capture_of_it_that_is_still_open_but_no_longer_than_three_days(service: Service) -> None:
    """The answer to its call was lost: nobody knows whether it took the money, and if so, it was in this period."""
    open_ = service.ask_for_capture()
    ask(service, open_)
    service.plan()
    service.prepared()
    then = datetime.now(UTC) - timedelta(days=2)
    service.execute("UPDATE billing.idempotency_records SET first_sent_at = :at", at=then)
    (held,) = collected(service, then)
    (free,) = collected(service, then, customer="cus_boris")
    daily = Calendars(Calendar("day"))
    assert (run(service, daily)["waiting"], row(service, held).invoice_id) == (1, None)
    assert row(service, free).part == 1
    service.execute(
        "UPDATE billing.invoiced_captures SET period_end = period_end - interval '3 days',"
        " period_start = period_start - interval '3 days', captured_at = captured_at - interval '3 days'"
        " WHERE capture_id = :id",
        id=held,
    )
    service.execute("UPDATE billing.idempotency_records SET first_sent_at = first_sent_at - interval '3 days'")
    assert run(service, daily)["waiting"] == 0
    assert row(service, held).part == 1


def test_what_an_open_capture_took_is_of_the_period_in_which_its_call_was_first_sent(service: Service) -> None:
    capture = service.ask_for_capture()
    ask(service, capture)
    assert service.settle(capture) == ["captured"]
    service.execute("UPDATE billing.idempotency_records SET first_sent_at = :at", at=OCTOBER)
    run(service)
    assert row(service, capture).captured_at == OCTOBER
    check_all_invoiced(service, [capture])


def test_a_line_that_cannot_be_made_stops_no_other(service: Service) -> None:
    good, bad = collected(service, OCTOBER, OCTOBER)
    service.execute("UPDATE billing.invoiced_captures SET description = E'\\u0007' WHERE capture_id = :id", id=bad)
    assert run(service)["captures"] == 1
    assert (row(service, good).part, row(service, bad).left_out) == (1, "unfit")


def test_whoever_closes_a_period_is_alone_with_it(service: Service) -> None:
    (capture,) = collected(service, OCTOBER)
    with database.transaction(service.engines["worker"]) as session:
        period_invoices.see_ends(session, Calendars())
        (group,) = period_invoices.over(session)
    with database.transaction(service.engines["worker"]) as one:
        assert period_invoices.close_next(one, group) is not None
        with database.transaction(service.engines["worker"]) as other, pytest.raises(ClosedElsewhere):
            period_invoices.close_next(other, group)
    check_all_invoiced(service, [capture])


def test_any_number_of_runs_at_once_invoice_everything_once(service: Service) -> None:
    captures = [
        each for number in range(60) for each in collected(service, OCTOBER, NOVEMBER, customer=CUSTOMERS[number % 2])
    ]
    threads = [threading.Thread(target=run, args=(service,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    eventually(lambda: run(service)["complete"], "all is seen")
    check_all_invoiced(service, captures)
    assert count_invoices(service) == 4


def test_a_period_that_another_run_begins_just_now_is_used(service: Service) -> None:
    """Its commit comes between the two statements that read the periods."""
    capture, of_another = collected(service, OCTOBER, OCTOBER)
    engine, begun = service.engines["worker"], list[bool]()

    def begin_it(*told: object) -> None:
        if "AS before" in str(told[2]) and not begun:
            begun.append(True)
            service.execute(
                "INSERT INTO billing.invoice_periods (account, period_start, period_end, length, zone)"
                " VALUES ('own', '2025-10-01 00:00Z', '2025-11-01 00:00Z', 'month', 'UTC')"
            )

    event.listen(engine, "before_cursor_execute", begin_it)
    try:
        assert run(service)["complete"]
    finally:
        event.remove(engine, "before_cursor_execute", begin_it)
    assert begun == [True]
    check_all_invoiced(service, [capture, of_another])


def test_a_run_that_dies_anywhere_is_continued_by_the_next(service: Service) -> None:
    """At each boundary between two transactions, and before each commit."""
    for stop in range(1, 12):
        captures = collected(service, *[OCTOBER + timedelta(seconds=stop)] * 2, NOVEMBER, customer=f"cus_{stop}")
        times = iter([60.0] * stop)
        invoicing.invoice_captures(service.engines["worker"], Calendars(), lambda: next(times, 0.0))  # noqa: B023
        assert run(service)["complete"]
        check_all_invoiced(service, captures)


class _Died(Exception):
    pass


def test_nothing_is_left_of_a_transaction_that_did_not_commit(service: Service) -> None:
    captures = collected(service, OCTOBER, OCTOBER)

    def dies(step: Callable[[Session], object]) -> None:
        with database.transaction(service.engines["worker"]) as session:
            step(session)
            raise _Died

    with pytest.raises(_Died):
        dies(lambda session: period_invoices.see_ends(session, Calendars()))
    assert row(service, captures[0]).captured_at is None
    with database.transaction(service.engines["worker"]) as session:
        period_invoices.see_ends(session, Calendars())
        (group,) = period_invoices.over(session)
    with pytest.raises(_Died):
        dies(lambda session: period_invoices.close_next(session, group))
    assert count_invoices(service) == 0
    run(service)
    check_all_invoiced(service, captures)


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE billing.invoiced_captures SET billed_minor = 1",
        "UPDATE billing.invoiced_captures SET invoice_id = NULL, position = NULL, billed_minor = NULL",
        "UPDATE billing.invoiced_captures SET position = 7",
    ],
)
def test_postgres_keeps_the_invoice_that_a_capture_is_on(service: Service, change: str) -> None:
    collected(service, OCTOBER)
    run(service)
    with pytest.raises(IntegrityError, match="is on the invoice"):
        service.execute(change)


def test_postgres_refuses_periods_that_overlap(service: Service) -> None:
    collected(service, OCTOBER)
    run(service)
    with pytest.raises(IntegrityError, match="invoice_periods_apart"):
        service.execute("INSERT INTO billing.invoice_periods VALUES ('own', '2025-10-31', '2025-11-03', 'day', 'UTC')")
    service.execute("INSERT INTO billing.invoice_periods VALUES ('acct_1', '2025-10-31', '2025-11-03', 'day', 'UTC')")


def test_what_is_set_anew_begins_where_the_period_in_use_ends(service: Service) -> None:
    captures = collected(service, OCTOBER, OCTOBER + timedelta(days=14))
    run(service)
    captures += collected(service, OCTOBER + timedelta(days=16), OCTOBER + timedelta(days=18))
    run(service, Calendars(Calendar("week", "Europe/Berlin")))
    starts = [row(service, each).period_start for each in captures]
    ends = [row(service, each).period_end for each in captures]
    october = datetime(2025, 10, 1, tzinfo=UTC), datetime(2025, 11, 1, tzinfo=UTC)
    # The week of 27 October is cut: its first days are October's.
    assert list(zip(starts, ends, strict=True)) == [
        october,
        october,
        october,
        (datetime(2025, 11, 1, tzinfo=UTC), datetime(2025, 11, 2, 23, tzinfo=UTC)),
    ]
    check_all_invoiced(service, captures)


moments = st.integers(0, 200_000).map(lambda minutes: datetime(2025, 1, 1, tzinfo=UTC) + timedelta(minutes=minutes))
calendars = st.builds(Calendar, st.sampled_from(LENGTHS), st.sampled_from(sorted(available_timezones())))
payments = st.tuples(
    moments,
    st.integers(1, 10**9),
    st.sampled_from(sorted(CURRENCIES)),
    st.sampled_from(CUSTOMERS),
    st.sampled_from([None, "acct_1"]),
    st.sampled_from([0, 0, 0, 1, 2]),
)


@given(st.lists(st.tuples(calendars, st.lists(payments, max_size=8)), min_size=1, max_size=4))
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_no_minor_unit_is_lost_or_invoiced_twice_in_any_currency_zone_or_seam(
    service: Service, told: list[tuple[Calendar, list[tuple[datetime, int, str, str, str | None, int]]]]
) -> None:
    """Each batch of captures comes under another calendar, after the invoices of the one before: what is late is on
    another part, and seams are cut."""
    service.execute("TRUNCATE billing.invoice_periods")
    captures: list[str] = []
    example = ids.new("cus")
    for calendar, batch in told:
        for at, steps, currency, customer, account, back in batch:
            step = CURRENCIES[currency].step
            minor = min(steps * step, CURRENCIES[currency].most_minor // step * step)
            given_back = {0: 0, 1: minor // 2 // step * step, 2: minor}[back]
            capture = captured(service, at, minor, currency, account=account)
            ask(service, capture, f"{example}_{customer}")
            service.execute(
                "UPDATE billing.captures SET refunds_minor = :back WHERE id = :id", back=given_back, id=capture
            )
            captures.append(capture)
        assert run(service, Calendars(calendar))["complete"]
    check_all_invoiced(service, captures)
