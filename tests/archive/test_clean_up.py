"""What ended long ago and is archived is removed, and nothing else, whoever asks and however often."""

import threading
from dataclasses import replace

import pytest
from evidence import Archive
from long_ago import make_older
from service import Service
from sqlalchemy import text
from sqlalchemy.orm import Session

import billing
from billing import database
from billing.explain import explain_one
from billing.operations import OPERATIONS
from billing.states import OPERATOR
from billing.tables.entities import Capture
from billing.tables.facts import RETENTION_CLASS
from jobs.growth import clean_up, retention
from jobs.growth.clean_up import Removed

KINDS = ("worker", "operator")


@pytest.fixture(autouse=True)
def no_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clean_up, "REST", 0)


def remove(service: Service, kind: str = "worker", **how: object) -> Removed:
    return clean_up.clean_up(service.engines[kind], **how)  # type: ignore[arg-type]


def rows(service: Service, entity_id: str) -> tuple[int, int]:
    """How many pieces of work and how many calls it has."""
    with database.transaction(service.engine) as session:
        found = session.execute(
            text(
                "SELECT (SELECT count(*) FROM billing.work WHERE entity_id = :id),"
                " (SELECT count(*) FROM billing.idempotency_records WHERE operation_id = :id)"
            ),
            {"id": entity_id},
        ).one()
    return found[0], found[1]


def left(service: Service, table: str) -> int:
    with database.transaction(service.engine) as session:
        return int(session.execute(text(f"SELECT count(*) FROM billing.{table}")).scalar_one())


def long_over(archive: Archive, count: int = 1) -> list[str]:
    """Captures that were taken 91 days ago, and are archived."""
    service = archive.service
    captures = [service.ask_for_capture(intent) for intent in service.intents(count)]
    assert set(service.settle(*captures)) == {"captured"}
    archive_all(archive)
    make_older(service)
    return captures


def archive_all(archive: Archive) -> None:
    archive.service.plan()
    archive.archive_all()


def feed(service: Service) -> tuple[billing.Change, ...]:
    with database.transaction(service.engines["application"]) as session:
        return billing.changes(session).changes


# What is removed.


@pytest.mark.parametrize("kind", KINDS)
def test_of_what_ended_long_ago_work_calls_and_failures_go_and_its_row_and_facts_stay(
    archive: Archive, kind: str
) -> None:
    service = archive.service
    ids = [service.ask_for_capture(), service.ask_for_invoice()]
    assert service.settle(*ids) == ["captured", "sent"]
    service.execute(
        "INSERT INTO billing.work_failures (work_id, quarantined, attempts, tries, code_version, contracts_version)"
        " SELECT id, true, 1, 1, '1', 1 FROM billing.work"
    )
    service.execute(
        "INSERT INTO billing.quarantine_touches (work_id, since, touched_by) SELECT id, now(), 'anna' FROM billing.work"
    )
    archive_all(archive)
    make_older(service)
    changes, topics, status = feed(service), service.topics(ids[1]), service.status(ids[1])
    counted = remove(service, kind, only_count=True)
    assert (counted.operations, counted.work, counted.failures) == (2, 2, 2)
    assert counted.calls == sum(rows(service, each)[1] for each in ids) > 4
    assert remove(service, kind) == counted
    assert [rows(service, each) for each in ids] == [(0, 0), (0, 0)]
    assert left(service, "work_failures") == left(service, "quarantine_touches") == 0
    # What an application and an operator see of it stays as it was, but for the calls.
    assert (feed(service), service.topics(ids[1])) == (changes, topics)
    assert service.status(ids[1]) == replace(status, work=None)
    with database.transaction(service.engines["operator"]) as session:
        story = explain_one(session, ids[1])
    assert (story.work, story.calls, [fact.topic.partition(".")[2] for fact in story.facts]) == ([], [], topics)
    assert remove(service, kind) == Removed()


def test_a_request_id_stays_used(archive: Archive) -> None:
    (capture_id,) = long_over(archive)
    remove(archive.service)
    intent = archive.service.row(Capture, capture_id).payment_intent
    archive.service._asked -= 1
    assert archive.service.ask_for_capture(intent) == capture_id
    archive.service._asked -= 1
    with pytest.raises(billing.RequestReused):
        archive.service.ask_for_capture(intent, amount=1)


def test_work_that_is_planned_again_by_hand_calls_nothing(archive: Archive) -> None:
    (capture_id,) = long_over(archive)
    remove(archive.service)
    archive.service.execute("UPDATE billing.facts SET planned_version = NULL WHERE topic = 'capture.requested'")
    assert archive.service.settle(capture_id) == ["captured"]
    assert rows(archive.service, capture_id) == (1, 0)
    assert archive.service.captured(capture_id) == {1999: 1}


# What is not.

KEPT = {
    "one call is in conflict": "UPDATE billing.idempotency_records SET state = 'conflict' WHERE generation = 1",
    "one call is open": "UPDATE billing.idempotency_records SET concluded_at = NULL WHERE generation = 1",
    "one call was concluded lately": "UPDATE billing.idempotency_records SET concluded_at = now() WHERE generation = 1",
    "its work is in quarantine": "UPDATE billing.work SET state = 'quarantined'",
    "its work ended lately": "UPDATE billing.work SET state_since = now()",
    "its work was planned lately": "UPDATE billing.work SET created_at = now()",
    "it has other work": "INSERT INTO billing.work (id, contract, version, queue, entity_id, scopes, state, urgency,"
    " dedupe_key) SELECT 'wrk_z', contract, version, queue, entity_id, scopes, 'ready', now(), 'z' FROM billing.work",
    "it has not ended": "UPDATE billing.captures SET state = 'requested'",
    "a fact is not archived": "UPDATE billing.facts SET batch_no = NULL WHERE topic = 'capture.captured'",
    "a fact was set aside": "UPDATE billing.facts SET batch_no = 0 WHERE topic = 'capture.attempted'",
    "a batch was not read back": "UPDATE billing.archive_batches SET state = 'claimed' WHERE class = 'attempt'",
    "a fact is missing": "DELETE FROM billing.facts WHERE topic = 'capture.attempted'",
    "all facts are missing": "DELETE FROM billing.facts",
}


@pytest.mark.parametrize("why", KEPT)
def test_what_may_still_be_needed_stays(archive: Archive, why: str) -> None:
    (capture_id,) = long_over(archive)
    archive.service.execute(KEPT[why])
    before = rows(archive.service, capture_id)
    for kind in KINDS:
        assert remove(archive.service, kind) == Removed()
    assert rows(archive.service, capture_id) == before


def test_nothing_goes_before_it_is_archived(archive: Archive) -> None:
    capture_id = archive.service.ask_for_capture()
    archive.service.settle(capture_id)
    archive.service.plan()
    make_older(archive.service)
    assert remove(archive.service) == Removed()
    archive.archive_all()
    assert remove(archive.service).operations == 1


def test_a_refused_invoice_keeps_its_generations_because_it_may_be_reopened_at_any_time(archive: Archive) -> None:
    service = archive.service
    invoice_id = service.ask_for_invoice()
    service.standin.add_fault("other_amount", path="/add_lines$", times=1)
    assert service.settle(invoice_id) == ["refused"]
    archive_all(archive)
    make_older(service, 5000)
    assert remove(service) == Removed()
    used = max(record.generation for record in service.records(invoice_id))
    service.reopen(invoice_id)
    assert service.settle(invoice_id) == ["sent"]
    made = [record.generation for record in service.records(invoice_id) if record.step == "create"]
    assert max(made) > used


def test_settings_lengthen_a_window(archive: Archive) -> None:
    long_over(archive)
    assert remove(archive.service, at_least_days=92) == Removed()
    assert remove(archive.service, at_least_days=91).operations == 1


# Postgres itself keeps what must be kept.


def test_a_worker_that_was_taken_over_can_remove_nothing_young_or_undecided(archive: Archive) -> None:
    young, undecided = archive.service.ask_for_capture(), archive.service.ask_for_capture()
    archive.service.settle(young, undecided)
    archive_all(archive)
    make_older(archive.service, 29)
    call = "SELECT operations FROM billing.remove_concluded('capture', :ids, '-1 year', false)"
    with database.transaction(archive.service.engines["worker"]) as session:
        assert session.execute(text(call), {"ids": [young, undecided]}).scalar_one() == 0
    make_older(archive.service, 2)
    archive.service.execute(
        "UPDATE billing.idempotency_records SET state = 'conflict' WHERE operation_id = :id", id=undecided
    )
    for kind in ("invoice", "capture"):
        with database.transaction(archive.service.engines["worker"]) as session:
            removed = session.execute(text(call.replace("'capture'", f"'{kind}'")), {"ids": [young, undecided]})
            assert removed.scalar_one() == (kind == "capture")
    assert (rows(archive.service, young)[0], rows(archive.service, undecided)[0]) == (0, 1)


def test_the_function_knows_the_classes_in_which_facts_are_archived(archive: Archive) -> None:
    with database.transaction(archive.service.engine) as session:
        source = session.execute(text("SELECT prosrc FROM pg_proc WHERE proname = 'remove_concluded'")).scalar_one()
    assert RETENTION_CLASS.strip() in source


# Many at once, and whoever dies.


def test_what_somebody_holds_is_left_for_the_next_run(archive: Archive) -> None:
    first, second = long_over(archive, 2)
    with database.transaction(archive.service.engine) as session:
        session.execute(text("SELECT FROM billing.work WHERE entity_id = :id FOR UPDATE"), {"id": first})
        assert remove(archive.service).operations == 1
    assert (rows(archive.service, first)[0], rows(archive.service, second)[0]) == (1, 0)
    assert remove(archive.service).operations == 1


def test_what_was_changed_while_it_waited_for_its_turn_is_seen(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody reopens, or a late answer contradicts, after the page was read and before it is locked."""
    (capture_id,) = long_over(archive)
    ended = clean_up._ended

    def changed(session: Session, *arguments: object) -> list[str]:
        found = ended(session, *arguments)  # type: ignore[arg-type]
        archive.service.execute("UPDATE billing.work SET state = 'quarantined'")
        return found

    monkeypatch.setattr(clean_up, "_ended", changed)
    assert remove(archive.service) == Removed()
    assert rows(archive.service, capture_id)[0] == 1


def test_two_runs_at_once_remove_everything_once(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clean_up, "PAGE", 2)
    captures = long_over(archive, 12)
    done: list[Removed] = []
    runs = [threading.Thread(target=lambda kind=kind: done.append(remove(archive.service, kind))) for kind in KINDS]
    for each in runs:
        each.start()
    for each in runs:
        each.join()
    # Each skips what the other holds at that moment, so a third run may find some.
    done.append(remove(archive.service))
    assert sum(each.operations for each in done) == len(captures)
    assert left(archive.service, "work") == left(archive.service, "idempotency_records") == 0


class Died(Exception):
    pass


def test_a_run_that_dies_between_pages_loses_nothing_and_the_next_goes_on(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clean_up, "PAGE", 2)
    captures = long_over(archive, 6)
    asked = iter([False, False])

    def dies() -> bool:
        try:
            return next(asked)
        except StopIteration:
            raise Died from None

    with pytest.raises(Died):
        remove(archive.service, stop_requested=dies)
    assert left(archive.service, "work") == 2
    assert remove(archive.service).operations == len(captures) - 4


@pytest.mark.parametrize(
    "how", [{"most": 2}, {"within_s": -1}, {"stop_requested": lambda: True}], ids=lambda how: next(iter(how))
)
def test_a_run_that_ends_early_says_that_there_may_be_more(
    archive: Archive, monkeypatch: pytest.MonkeyPatch, how: dict[str, object]
) -> None:
    monkeypatch.setattr(clean_up, "PAGE", 2)
    long_over(archive, 4)
    ended = remove(archive.service, **how)
    assert (ended.operations, ended.complete) == (2 if "most" in how else 0, False)


def test_a_page_that_takes_too_long_is_tried_with_half_as_many_rows(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    long_over(archive, 4)
    sizes, page = [], clean_up._page

    def slow(session: Session, after: str, size: int, days: int) -> object:
        sizes.append(size)
        if size > clean_up.PAGE // 4:
            session.execute(text("SELECT set_config('statement_timeout', '1', true)"))
            session.execute(text("SELECT pg_sleep(60)"))
        return page(session, after, size, days)

    monkeypatch.setattr(clean_up, "_page", slow)
    assert remove(archive.service).operations == 4
    assert sizes[:3] == [500, 250, 125]


def test_no_table_is_read_as_a_whole(archive: Archive) -> None:
    long_over(archive, 4)

    def scans() -> int:
        with database.transaction(archive.service.engine) as session:
            session.execute(text("SELECT pg_stat_force_next_flush()"))
        query = "SELECT sum(seq_scan) FROM pg_stat_all_tables WHERE schemaname = 'billing' AND relname <> :small"
        with database.transaction(archive.service.engine) as session:
            return int(session.execute(text(query), {"small": "installation"}).scalar_one())

    before = scans()
    worker = archive.service.engines["worker"]
    assert remove(archive.service).operations == 4
    with database.transaction(worker) as session:
        session.execute(text("SELECT pg_stat_force_next_flush()"))
    assert scans() == before


# The table of windows is complete.


@pytest.mark.parametrize("kind", OPERATIONS)
def test_every_final_state_says_how_long_its_calls_are_kept(kind: str) -> None:
    life = OPERATIONS[kind].table.life
    assert retention.KEPT[kind].keys() == {state for state in life.states if life.is_final(state)}


def test_whatever_an_operator_may_reopen_is_kept_for_ever() -> None:
    reopened = {
        (kind, each.start)
        for kind, operation in OPERATIONS.items()
        for each in operation.table.life.transitions
        if operation.reopen is not None and each.who == OPERATOR and operation.table.life.is_final(each.start)
    }
    assert reopened == {("invoice", "refused"), ("document", "refused")}
    assert [state for state in reopened if retention.KEPT[state[0]][state[1]] is not None] == []
