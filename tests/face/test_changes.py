"""The feed of changes: none is missing and none comes twice, whatever order transactions end in."""

import os
import random
import threading
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest
from cases import case
from service import Service, drop_database, eventually, make_database
from sqlalchemy import Engine, NullPool, create_engine, text
from sqlalchemy.orm import Session

import billing
from jobs.local.servers import LocalServers

SEED = int(os.environ.get("BILLING_TEST_SEED", "20261129"))


@pytest.fixture
def writers(service: Service) -> Iterator[Engine]:
    """Each session of its own connection: transactions that lie beside each other."""
    engine = create_engine(service.url, poolclass=NullPool)
    yield engine
    engine.dispose()


@pytest.fixture
def page(service: Service) -> Callable[..., billing.Changes]:
    """As an application asks, under its own rights."""

    def page(after: int = 0, *, wait_s: float = 0.0, **more: Any) -> billing.Changes:
        with Session(service.engines["application"]) as session:
            return billing.changes(session, after, wait_s=wait_s, **more)

    return page


class Naive:
    """What one would write first: whatever has an id above the largest that was seen."""

    def __init__(self, engine: Engine) -> None:
        self.engine, self.cursor = engine, 0
        self.seen: list[tuple[str, int]] = []

    def follow(self) -> None:
        newer = text("SELECT id, entity_id, entity_version FROM billing.facts WHERE id > :after ORDER BY id")
        with self.engine.connect() as connection:
            for each in connection.execute(newer, {"after": self.cursor}):
                self.cursor = each.id
                self.seen.append((each.entity_id, each.entity_version))


def ask(session: Session) -> str:
    name = uuid4().hex
    return billing.request_capture(
        session, payment_intent=f"pi_{name}", amount=billing.Money(1, "USD"), request_id=f"order-{name}"
    ).capture_id


def told(page: billing.Changes) -> list[str]:
    return [change.id for change in page.changes]


# What a change says.


def test_a_capture_is_told_from_its_request_to_its_end_and_its_calls_are_not(service: Service, page: Any):
    capture_id = service.ask_for_capture(correlation_id="ship-1")
    (requested,) = (asked := page()).changes
    assert (requested.id, requested.kind, requested.state, requested.version) == (capture_id, "capture", "requested", 1)
    assert (requested.request_id, requested.correlation_id, requested.reason) == ("order-1", "ship-1", None)
    service.settle(capture_id)
    (captured,) = (settled := page(asked.cursor)).changes
    assert (captured.id, captured.state, captured.version) == (capture_id, "captured", 3)
    assert captured.at > requested.at
    assert settled == billing.Changes((captured,), settled.cursor, more=False, behind=False)
    assert page(settled.cursor) == billing.Changes((), settled.cursor, more=False, behind=False)
    assert page(limit=1000).changes == (requested, captured)


def test_an_invoice_is_told_step_by_step(service: Service, page: Any):
    invoice_id = service.ask_for_invoice()
    service.settle(invoice_id)
    states = [(change.kind, change.state) for change in page().changes]
    assert states == [("invoice", state) for state in ("requested", "drafted", "lines_added", "finalized", "sent")]


def test_a_refusal_is_told_with_its_reason_while_it_stands_and_that_it_was_reopened(service: Service, page: Any):
    from jobs.road.quarantine import reopen_invoice

    invoice_id = service.ask_for_invoice("cus_unknown")
    assert service.settle(invoice_id) == ["refused"]
    refused = page().changes[-1]
    assert (refused.state, refused.reason) == ("refused", service.status(invoice_id).reason)
    with Session(service.engine) as session, session.begin():
        reopen_invoice(session, invoice_id, actor="grace", reason="INC-1")
    *_, refused, reopened = page().changes
    assert (refused.state, refused.reason) == ("refused", None)
    assert reopened.state == "in_progress"


@pytest.mark.parametrize("contradicted", [False, True], ids=["in-the-call", "after-its-end"])
def test_a_conflict_and_its_end_are_told(service: Service, page: Any, contradicted: bool):
    """Where its end is a decision alone, and no call follows that would tell of it, the decision is told."""
    from jobs.road.quarantine import replay

    capture_id = service.ask_for_capture()
    service.standin.add_fault("500_saved" if contradicted else "other_amount", path="/capture$", times=1)
    if contradicted:
        service.settle(capture_id)
        service.execute(
            "UPDATE billing.idempotency_records SET state = 'conflict' WHERE generation = 1 AND operation_id = :id",
            id=capture_id,
        )
        service.execute("UPDATE billing.work SET state = 'quarantined'")
    else:
        service.plan()
        service.work_off()
        conflict = page().changes[-1]
        assert (conflict.state, conflict.reason) == ("conflict", service.status(capture_id).reason)
    assert service.status(capture_id).needs_decision
    before = page()
    with Session(service.engine) as session, session.begin():
        replay(session, service.work(capture_id).id, actor="grace", reason="INC-1")
    assert service.settle(capture_id) == ["captured"]
    assert [change.state for change in page(before.cursor).changes] == ["captured"]
    assert ("upheld" in service.topics(capture_id)) == contradicted


def test_what_the_own_transaction_asked_for_is_told_in_it_and_gone_with_it(service: Service, page: Any):
    with Session(service.engines["application"]) as session:
        capture_id = ask(session)
        assert told(billing.changes(session)) == [capture_id]
    assert page() == billing.Changes((), 0, more=False, behind=False)


# The order in which transactions end.


def test_what_commits_after_a_larger_id_is_not_lost_as_it_is_by_its_id_alone(
    service: Service, writers: Engine, page: Any
):
    naive = Naive(service.engine)
    with Session(writers) as first, Session(writers) as second:
        early = ask(first)
        late = ask(second)
        second.commit()
        naive.follow()
        assert page() == billing.Changes((), 0, more=False, behind=True)
        first.commit()
    naive.follow()
    assert [each for each, _ in naive.seen] == [late]
    assert told(page()) == [early, late]


@pytest.mark.parametrize("end", ["rollback", "a rollback to a savepoint"])
def test_what_is_rolled_back_is_never_told_and_holds_nothing_up(writers: Engine, page: Any, end: str):
    with Session(writers) as first, Session(writers) as second:
        if end == "rollback":
            ask(first)
        else:
            savepoint = first.begin_nested()
            ask(first)
            savepoint.rollback()
        late = ask(second)
        second.commit()
        # A savepoint that is rolled back gives its locks back, and its rows will never be there.
        assert page().behind == (end == "rollback")
        first.rollback()
    assert told(page()) == [late]


def test_what_is_prepared_for_two_phases_is_waited_for(writers: Engine, page: Any):
    with writers.connect() as connection:
        if connection.scalar(text("SHOW max_prepared_transactions")) == "0":
            pytest.skip("this server of your own takes no prepared transactions")
    prepared = f"test-{uuid4().hex}"
    with Session(writers) as first, Session(writers) as second:
        early = ask(first)
        first.execute(text(f"PREPARE TRANSACTION '{prepared}'"))
        late = ask(second)
        second.commit()
    assert page(wait_s=0.05).behind
    with writers.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text(f"COMMIT PREPARED '{prepared}'"))
    assert told(page()) == [early, late]


def test_a_transaction_that_is_prepared_while_it_is_waited_for_is_still_waited_for(
    service: Service, writers: Engine, page: Any
):
    with writers.connect() as connection:
        if connection.scalar(text("SHOW max_prepared_transactions")) == "0":
            pytest.skip("this server of your own takes no prepared transactions")
    prepared = f"test-{uuid4().hex}"
    with Session(writers) as first, Session(writers) as second:
        early = ask(first)
        late = ask(second)
        second.commit()
        following = Following(page, 0)
        following.begins_to_wait(service)
        first.execute(text(f"PREPARE TRANSACTION '{prepared}'"))
    with writers.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        assert following.result is None
        connection.execute(text(f"COMMIT PREPARED '{prepared}'"))
    assert told(following.ends()) == [early, late]


class Following:
    """A page that is asked for in a thread of its own, with all patience."""

    def __init__(self, page: Any, after: int) -> None:
        self.result: billing.Changes | None = None

        def follow() -> None:
            self.result = page(after, wait_s=60)

        self.thread = threading.Thread(target=follow)
        self.thread.start()

    def begins_to_wait(self, service: Service) -> None:
        waiting = text(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'SELECT pg_sleep%'"
        )

        def waits() -> bool:
            with service.engine.connect() as connection:
                return connection.scalar(waiting) == 1

        eventually(waits, "it waits for who writes")

    def ends(self) -> billing.Changes:
        self.thread.join()
        assert self.result is not None
        return self.result


def test_only_who_wrote_already_is_waited_for_and_not_who_comes_later(service: Service, writers: Engine, page: Any):
    """Otherwise a busy table would never be followed: somebody writes at every moment."""
    with Session(writers) as first, Session(writers) as second, Session(writers) as third:
        early = ask(first)
        late = ask(second)
        second.commit()
        following = Following(page, 0)
        following.begins_to_wait(service)
        latest = ask(third)
        first.commit()
        seen = following.ends()
        assert (told(seen), seen.behind) == ([early, late], False)
        assert page(seen.cursor) == billing.Changes((), seen.cursor, more=False, behind=False)
        third.commit()
    assert told(page(seen.cursor)) == [latest]


def test_who_writes_in_another_database_of_the_server_is_not_waited_for(
    template: LocalServers, writers: Engine, page: Any
):
    """Copied from one template, the tables of both have the same number in Postgres."""
    name = f"test_{uuid4().hex}"
    other = create_engine(make_database(template, name), poolclass=NullPool)
    with Session(other) as elsewhere, Session(writers) as here:
        ask(elsewhere)
        capture_id = ask(here)
        here.commit()
        assert told(page()) == [capture_id]
    drop_database(template, name)


def test_an_id_is_drawn_when_it_is_used(service: Service):
    """A session that kept ids in store would use an old one in a transaction that nobody had to wait for."""
    with service.engine.connect() as connection:
        sizes = connection.scalars(
            text(
                "SELECT seqcache FROM pg_sequence"
                " WHERE seqrelid = CAST(pg_get_serial_sequence('billing.facts', 'id') AS regclass)"
            )
        ).all()
    assert sizes == [1]


class History:
    """Transactions beside each other, one step at a time: the same seed makes the same history."""

    def __init__(self, writers: Engine, rng: random.Random) -> None:
        self.rng = rng
        self.sessions = [Session(writers) for _ in range(4)]
        self.open: list[list[tuple[str, int]]] = [[] for _ in self.sessions]
        self.saved: list[tuple[Any, int] | None] = [None for _ in self.sessions]
        self.committed: list[tuple[str, int]] = []

    def step(self) -> None:
        n = self.rng.randrange(len(self.sessions))
        self.rng.choice((self._ask, self._ask, self._move, self._save, self._unsave, self._commit, self._roll_back))(n)

    def end(self) -> None:
        for n, session in enumerate(self.sessions):
            self._commit(n)
            session.close()

    def _ask(self, n: int) -> None:
        self.open[n].append((ask(self.sessions[n]), 1))

    def _move(self, n: int) -> None:
        """One that was asked for comes to another state, under its row's lock."""
        locked = {each for others in self.open for each, _ in others}
        free = sorted({each for each, _ in self.committed} - locked)
        if not free:
            return
        capture_id = self.rng.choice(free)
        version = self.sessions[n].scalar(
            text("UPDATE billing.captures SET version = version + 1 WHERE id = :id RETURNING version"),
            {"id": capture_id},
        )
        topic = self.rng.choice(["capture.declined", "capture.expired", "capture.refused"])
        self.sessions[n].execute(
            text(
                "INSERT INTO billing.facts (topic, entity_type, entity_id, entity_version, actor, payload)"
                " VALUES (:topic, 'capture', :id, :version, 'test', '{}')"
            ),
            {"topic": topic, "id": capture_id, "version": version},
        )
        self.open[n].append((capture_id, version))

    def _save(self, n: int) -> None:
        if self.saved[n] is None:
            self.saved[n] = self.sessions[n].begin_nested(), len(self.open[n])

    def _unsave(self, n: int) -> None:
        if (saved := self.saved[n]) is not None:
            saved[0].rollback()
            del self.open[n][saved[1] :]
            self.saved[n] = None

    def _commit(self, n: int) -> None:
        self.sessions[n].commit()
        self.committed += self.open[n]
        self.open[n], self.saved[n] = [], None

    def _roll_back(self, n: int) -> None:
        self.sessions[n].rollback()
        self.open[n], self.saved[n] = [], None


def test_over_random_histories_every_change_is_told_once_and_in_the_order_of_its_operation(
    service: Service, writers: Engine, page: Any
):
    print(f"seed {SEED}")
    rng = random.Random(SEED)
    naive, cursor, early = Naive(service.engine), 0, 0
    seen: list[tuple[str, int]] = []
    history = History(writers, rng)
    for _ in range(25):
        for _ in range(rng.randint(1, 25)):
            history.step()
        naive.follow()
        found = page(cursor, limit=rng.randint(1, 30))
        if rng.random() < 0.8:  # else the application dies before it has stored the cursor, and asks again
            seen += [(change.id, change.version) for change in found.changes]
            cursor = found.cursor
            early += len(found.changes)
        if rng.random() < 0.3:
            for n in range(len(history.sessions)):
                history._commit(n)
    history.end()
    naive.follow()
    more = True
    while more:
        found = page(cursor)
        seen += [(change.id, change.version) for change in found.changes]
        cursor, more = found.cursor, found.more
    assert sorted(seen) == sorted(history.committed)
    for capture_id in {each for each, _ in seen}:
        versions = [version for each, version in seen if each == capture_id]
        assert versions == sorted(versions)
    assert early > 0, "it moves while others write"
    assert len(naive.seen) < len(history.committed), "the control: by its id alone it loses rows of the same history"


def test_threads_that_write_at_once_lose_nothing(service: Service, writers: Engine, page: Any):
    committed: list[str] = []

    def write(seed: int) -> None:
        rng = random.Random(seed)
        for _ in range(12):
            with Session(writers) as session:
                asked = [ask(session) for _ in range(rng.randint(1, 3))]
                if rng.random() < 0.8:
                    session.commit()
                    committed.extend(asked)

    threads = [threading.Thread(target=write, args=(SEED + n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    seen: list[str] = []
    cursor, last = 0, False
    while not last:
        last = not any(thread.is_alive() for thread in threads)
        found = page(cursor, wait_s=60)
        seen += told(found)
        cursor = found.cursor
        last = last and not found.more
    assert sorted(seen) == sorted(committed)
    assert len(set(seen)) == len(seen)


# Pages, cursors, and what is refused.


def test_a_page_is_bounded_and_says_that_there_is_more(writers: Engine, page: Any):
    with Session(writers) as session:
        asked = [ask(session) for _ in range(5)]
        session.commit()
    first = page(limit=2)
    second = page(first.cursor, limit=2)
    third = page(second.cursor, limit=2)
    assert [told(each) for each in (first, second, third)] == [asked[:2], asked[2:4], asked[4:]]
    assert [each.more for each in (first, second, third)] == [True, True, False]
    assert not page(limit=5).more


def test_many_facts_of_calls_are_passed_over_page_by_page(service: Service, page: Any, monkeypatch: Any):
    import sys

    monkeypatch.setattr(sys.modules["billing.changes"], "NEAR", 2)
    capture_id = service.ask_for_capture()
    service.standin.add_fault("429_rate", path="/capture$", times=4)
    service.settle(capture_id)
    pages = [page()]
    while pages[-1].more:
        pages.append(page(pages[-1].cursor))
    assert [change.state for each in pages for change in each.changes] == ["requested", "captured"]
    assert len(pages) > 2
    assert any(each.more and not each.changes for each in pages)


def test_a_cursor_whose_fact_is_no_longer_kept_is_refused_and_the_beginning_is_not(service: Service, page: Any):
    first, second = (service.ask_for_capture(f"pi_{n}") for n in range(2))
    cursor = page(limit=1).cursor
    service.execute("DELETE FROM billing.facts WHERE entity_id = :id", id=first)
    with pytest.raises(billing.UnknownCursor, match="older than what is kept, or of another database"):
        page(cursor)
    assert told(page(0)) == [second]
    with pytest.raises(billing.UnknownCursor):
        page(page().cursor + 1)


def test_an_unknown_fact_is_passed_over(service: Service, page: Any):
    """One without an operation, which an application may write, and one of a version that is newer than its own."""
    for topic, entity_id in (("capture.captured", "cap_none"), ("capture.from_a_newer_version", "cap_none")):
        service.execute(
            "INSERT INTO billing.facts (topic, entity_type, entity_id, entity_version, actor, payload)"
            " SELECT :topic, 'capture', :id, 1 + count(*), 'x', '{}' FROM billing.facts",
            topic=topic,
            id=entity_id,
        )
    found = page()
    assert (found.changes, found.more, found.cursor > 0) == ((), False, True)


@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
def test_a_transaction_that_sees_only_the_past_is_refused(service: Service, level: Any):
    engine = service.engines["application"].execution_options(isolation_level=level)
    with Session(engine) as session, pytest.raises(billing.InvalidRequest, match=f"not at {level.lower()}"):
        billing.changes(session)


NO_BOUNDS = [
    {"after": -1},
    {"after": "1"},
    {"after": None},
    {"after": True},
    {"limit": 0},
    {"limit": 1001},
    {"limit": 1.5},
    {"wait_s": -1},
    {"wait_s": float("nan")},
    {"wait_s": "1"},
]


def test_what_is_no_cursor_or_bound_is_refused_by_name(service: Service):
    with Session(service.engine) as session:
        for wrong in NO_BOUNDS:
            with case(wrong), pytest.raises(billing.InvalidRequest, match=next(iter(wrong))):
                billing.changes(session, **wrong)


def test_something_else_than_a_session_is_refused(service: Service):
    with pytest.raises(billing.WrongSession):
        billing.changes(service.engine)  # type: ignore[arg-type]
