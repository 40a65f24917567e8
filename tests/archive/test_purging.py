"""Facts leave Postgres only after each was compared with the archive; what leaves is still known, and proven."""

import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from io import BytesIO
from typing import Any

import pyarrow.parquet as pq
import pytest
from dying import At, Died, watched_commits
from evidence import Archive
from long_ago import happened_long_ago
from service import Service
from sqlalchemy import text
from sqlalchemy.orm import Session
from test_verification import Attacker, verify

import billing
from archive.errors import StoreAway, StoreRefused
from archive.format import manifests, records
from archive.purging import purger as purging
from archive.purging.purger import Purged, Purger
from billing import database
from billing.operations import OPERATIONS
from billing.tables.entities import Capture
from billing.tables.facts import RETENTION_CLASS
from jobs.growth import clean_up, retention

KEEP = timedelta(days=90)
LOGINS = ("archiver", "operator")


@pytest.fixture(autouse=True)
def no_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clean_up, "REST", 0)
    monkeypatch.setattr(purging, "REST", 0)


def purger(archive: Archive, login: str = "archiver", **terms: Any) -> Purger:
    store = terms.pop("store", archive.store)
    return Purger(archive.service.engines[login], store, terms.pop("keep", KEEP), **terms)


def purge(archive: Archive, login: str = "archiver", **terms: Any) -> Purged:
    return purger(archive, login, **terms).run()


def archive_all(archive: Archive) -> None:
    archive.service.plan()
    archive.archive_all()


def over(archive: Archive, count: int = 1) -> list[str]:
    """Captures that were taken 120 days ago, are archived, and whose work and calls are gone."""
    service = archive.service
    captures = [service.ask_for_capture(intent) for intent in service.intents(count)]
    assert set(service.settle(*captures)) == {"captured"}
    leave_behind(archive)
    return captures


def told(archive: Archive, count: int = 1) -> None:
    """The same, written as rows: nothing was asked or taken."""
    for number in range(count):
        its = {"of": f"cap_{number}", "at": "current_date - interval '120 days' + interval '12 hours'"}
        archive.service.execute(
            "INSERT INTO billing.captures (id, request_id, payment_intent, amount_minor, currency, state, state_since)"
            " VALUES (:id, :id, :intent, 1999, 'USD', 'captured', now() - interval '120 days')",
            id=its["of"],
            intent=f"pi_{number}",
        )
        archive.tell("capture.requested", "capture.attempted", "capture.captured", minor=1999, currency="USD", **its)
    archive.archive_all()


def leave_behind(archive: Archive) -> None:
    archive.service.plan()
    happened_long_ago(archive.service)
    archive_all(archive)
    clean_up.clean_up(archive.service.engines["worker"])


def facts(service: Service, where: str = "true") -> Counter[tuple[Any, ...]]:
    """(id, topic, entity, version) of each fact in Postgres."""
    query = f"SELECT id, topic, entity_id, entity_version FROM billing.facts WHERE {where}"
    with database.transaction(service.engine) as session:
        return Counter(tuple(row) for row in session.execute(text(query)))


OF_REQUESTS = "entity_type IN ('capture', 'invoice')"
PURGES = "entity_type = 'batch'"


def everything(archive: Archive) -> Counter[tuple[Any, ...]]:
    """Each fact that is in Postgres or in the bucket, by a checker that shares no code with the service."""
    archived = {
        (row["fact_id"], row["topic"], row["entity_id"], row["entity_version"])
        for rows in archive.outside.facts().values()
        for row in rows
    }
    return Counter(set(facts(archive.service)) | archived)


def nothing_lost(archive: Archive, before: Counter[tuple[Any, ...]]) -> None:
    """All facts from before are in Postgres or in the archive, and each batch accounts for its own."""
    assert before - everything(archive) == Counter()
    assert sum(batch.purged_rows for batch in archive.known()) == (before - facts(archive.service)).total()
    with database.transaction(archive.service.engine) as session:
        told = session.execute(text(f"SELECT entity_id, payload FROM billing.facts WHERE {PURGES}")).all()
    by_batch: Counter[str] = Counter()
    for entity_id, payload in told:
        by_batch[entity_id] += payload["count"]
    known = {f"batch_{each.retention_class}_{each.number}": each.purged_rows for each in archive.known()}
    assert by_batch == {name: rows for name, rows in known.items() if rows}


def troubles(purged: Purged) -> list[str]:
    return [str(trouble) for trouble in purged.troubles]


# What leaves.


@pytest.mark.parametrize("login", LOGINS)
def test_facts_of_what_ended_long_ago_leave_and_everything_else_goes_on(archive: Archive, login: str) -> None:
    service = archive.service
    ids = [service.ask_for_capture(), service.ask_for_invoice()]
    assert service.settle(*ids) == ["captured", "sent"]
    leave_behind(archive)
    before, status = facts(service), [service.status(each) for each in ids]
    purged = purge(archive, login, by="grace")
    assert (purged.facts, purged.captured, purged.troubles) == (facts_of_requests(before), {"USD": 1999}, ())
    assert purged.complete
    assert facts(service, OF_REQUESTS) == Counter()
    nothing_lost(archive, before)
    assert [service.status(each) for each in ids] == status
    # The fact about it says how many, how much, and who.
    with database.transaction(service.engine) as session:
        told = session.execute(text(f"SELECT entity_id, actor, payload FROM billing.facts WHERE {PURGES}")).all()
    assert {row.actor for row in told} == {"grace"}
    sums = {row.entity_id: row.payload["captured"] for row in told}
    assert sums == {"batch_attempt_1": {}, "batch_capture_1": {"USD": 1999}, "batch_invoice_1": {}}
    # It is archived like any other, and verification misses nothing.
    archive_all(archive)
    assert verify(archive).told == []
    assert purge(archive, login) == Purged()


def facts_of_requests(found: Counter[tuple[Any, ...]]) -> int:
    return sum(entity.startswith(("cap_", "inv_")) for _, _, entity, _ in found)


def test_a_request_id_stays_used_and_an_authorization_stays_taken(archive: Archive) -> None:
    (capture_id,) = over(archive)
    assert purge(archive).facts
    service, intent = archive.service, archive.service.row(Capture, capture_id).payment_intent
    service._asked -= 1
    assert service.ask_for_capture(intent) == capture_id
    service._asked -= 1
    with pytest.raises(billing.RequestReused):
        service.ask_for_capture(intent, amount=1)
    with pytest.raises(billing.AuthorizationTaken):
        service.ask_for_capture(intent)


def test_attempts_of_runs_and_probes_leave_and_what_people_did_stays(archive: Archive) -> None:
    service = archive.service
    archive.tell("run.attempted", "run.done", of="run_1")
    archive.tell("command.done", of="cmd_1", command="switch pull")
    service.execute("INSERT INTO billing.scheduled_runs (id, schedule, at, state) VALUES ('run_1', 's', now(), 'done')")
    leave_behind(archive)
    assert purge(archive).facts == 1
    assert {topic for _, topic, _, _ in facts(service)} == {"run.done", "command.done", "batch.purged"}


def test_a_batch_may_leave_in_parts(archive: Archive) -> None:
    """One of two captures is still in quarantine; once it is decided, the rest of the batch leaves."""
    _, second = over(archive, 2)
    before = facts(archive.service)
    archive.service.execute(
        "INSERT INTO billing.work (id, contract, version, queue, entity_id, scopes, state, urgency, dedupe_key)"
        " VALUES ('wrk_z', 'take_capture', 1, 'captures', :id, '{}', 'quarantined', now(), 'z')",
        id=second,
    )
    purge(archive)
    assert {entity for _, _, entity, _ in facts(archive.service, OF_REQUESTS)} == {second}
    nothing_lost(archive, before)
    archive.service.execute("DELETE FROM billing.work")
    purge(archive)
    assert facts(archive.service, OF_REQUESTS) == Counter()
    nothing_lost(archive, before)
    with database.transaction(archive.service.engine) as session:
        versions = session.scalars(
            text(
                f"SELECT entity_version FROM billing.facts WHERE {PURGES} AND entity_id = 'batch_capture_1' ORDER BY 1"
            )
        ).all()
    assert versions == [1, 2]


# What stays.

_WORK = (
    "INSERT INTO billing.work (id, contract, version, queue, entity_id, scopes, state, urgency, dedupe_key)"
    " SELECT 'wrk_z', 'take_capture', 1, 'captures', id, '{}', 'done', now(), 'z' FROM billing.captures"
)
_CALL = (
    "INSERT INTO billing.idempotency_records (id, operation_id, step, generation, work_id, queue, key, method, path,"
    " body, livemode, api_version) SELECT 'rec_z', id, 'capture', 1, 'wrk_z', 'captures', 'z', 'POST', '/', '', false,"
    " 'v' FROM billing.captures"
)
_FACT = (
    "INSERT INTO billing.facts (topic, entity_type, entity_id, entity_version, actor, payload, planned_version,"
    " batch_no) SELECT 'capture.looked', 'capture', id, 99, 'billing', '{}', 1, %s FROM billing.captures"
)
STAYS = {
    "it has work": _WORK,
    "it has a call": _CALL,
    "a later fact is not archived": _FACT % "NULL",
    "a later fact was set aside": _FACT % "0",
    "a later fact is in a batch that was not read back": _FACT % "99",
    "it has not ended": "UPDATE billing.captures SET state = 'requested'",
    "it ended lately": "UPDATE billing.captures SET state_since = now() - interval '89 days'",
    "it has no row": "DELETE FROM billing.captures",
    "its batches are not archived": "UPDATE billing.archive_batches SET state = 'claimed'",
}


@pytest.mark.parametrize("why", STAYS)
def test_what_is_not_over_or_not_archived_stays(archive: Archive, why: str) -> None:
    told(archive)
    archive.service.execute(STAYS[why])
    before = facts(archive.service)
    assert purge(archive) == Purged()
    assert facts(archive.service) == before


def test_an_invoice_that_may_be_reopened_keeps_its_facts(archive: Archive) -> None:
    archive.tell("invoice.requested", "invoice.refused", of="inv_1", at="now() - interval '120 days'")
    archive.service.execute(
        "INSERT INTO billing.invoices (id, request_id, customer, currency, total_minor, days_until_due, state,"
        " state_since) VALUES ('inv_1', 'i', 'cus_1', 'EUR', 1, 14, 'refused', now() - interval '120 days')"
    )
    archive.archive_all()
    assert purge(archive) == Purged()


def test_the_setting_keeps_for_longer_and_nothing_makes_it_shorter_than_90_days(archive: Archive) -> None:
    told(archive)
    assert purge(archive, keep=timedelta(days=130)) == Purged()
    archive.service.execute("UPDATE billing.captures SET state_since = now() - interval '89 days'")
    assert purge(archive, keep=timedelta(days=-1000)) == Purged()


def test_facts_whose_copy_may_soon_be_disposed_of_stay(archive: Archive) -> None:
    told(archive)
    archive.service.execute("UPDATE billing.archive_batches SET locked_until = now() + interval '23 hours'")
    before = facts(archive.service)
    assert purge(archive) == Purged(unprotected=2)
    assert facts(archive.service) == before


def test_the_function_knows_the_classes_and_the_ends_of_this_version(archive: Archive) -> None:
    with database.transaction(archive.service.engine) as session:
        source = session.execute(text("SELECT prosrc FROM pg_proc WHERE proname = 'purge_facts'")).scalar_one()
    for name in "fo":
        shared = RETENTION_CLASS.replace("topic", f"{name}.topic").replace("entity_type", f"{name}.entity_type")
        assert "".join(shared.split()) in "".join(source.split())
    for kind, operation in OPERATIONS.items():
        ends = {str(state) for state in operation.table.life.states if operation.table.life.is_final(state)}
        kept = {state for state in ends if retention.KEPT[kind][state] is None}
        part = source[source.index(f"WHEN '{kind}' THEN EXISTS") :].split(")")[0]
        assert {state for state in operation.table.life.states if f"'{state}'" in part} == ends - kept


# What differs: nothing of it leaves, and the alarm names it.


def _in_postgres(statement: str) -> Callable[[Archive], None]:
    return lambda archive: archive.service.execute(statement)


def _in_the_bucket(act: Callable[[Attacker, str], object], what: str = "object") -> Callable[[Archive], None]:
    def attack(archive: Archive) -> None:
        attacker = Attacker(archive)
        act(attacker, attacker.key(1) if what == "object" else manifests.key("capture", 1))

    return attack


def _swap(attacker: Attacker, key: str) -> None:
    attacker.archive.service.execute(
        "UPDATE billing.archive_batches SET object_version = :version WHERE class = 'capture'",
        version=attacker.replace(key, b"something else"),
    )


DIFFERS = {
    "an amount": _in_postgres(
        "UPDATE billing.facts SET payload = payload || '{\"minor\": 1}' WHERE topic = 'capture.captured'"
    ),
    "a currency": _in_postgres(
        "UPDATE billing.facts SET payload = payload || '{\"currency\": \"EUR\"}' WHERE topic = 'capture.captured'"
    ),
    "a time": _in_postgres(
        "UPDATE billing.facts SET happened_at = happened_at - interval '1 microsecond' WHERE topic = 'capture.captured'"
    ),
    "a topic": _in_postgres("UPDATE billing.facts SET topic = 'capture.declined' WHERE topic = 'capture.captured'"),
    "who did it": _in_postgres("UPDATE billing.facts SET actor = 'mallory' WHERE topic = 'capture.captured'"),
    "an amount that is no whole number": _in_postgres(
        "UPDATE billing.facts SET payload = payload || '{\"minor\": 1.5}' WHERE topic = 'capture.captured'"
    ),
    "numbers that were exchanged": _in_postgres(
        "UPDATE billing.facts SET archive_seq = 3 - archive_seq WHERE batch_no = 1 AND entity_type = 'capture'"
        " AND topic IN ('capture.requested', 'capture.captured')"
    ),
    "a number beyond its batch": _in_postgres(
        "UPDATE billing.facts SET archive_seq = 1000 WHERE topic = 'capture.captured'"
    ),
    "a payload that cannot be archived": _in_postgres(
        "UPDATE billing.facts SET payload = '[]' WHERE topic = 'capture.captured'"
    ),
    "a fact that somebody deleted": _in_postgres("DELETE FROM billing.facts WHERE topic = 'capture.captured'"),
    "the digest of the object": _in_postgres(
        "UPDATE billing.archive_batches SET object_sha256 = repeat('0', 64) WHERE class = 'capture'"
    ),
    "the digest of the manifest": _in_postgres(
        "UPDATE billing.archive_batches SET manifest_sha256 = repeat('0', 64) WHERE class = 'capture'"
    ),
    "an object that is gone": _in_the_bucket(lambda attacker, key: attacker.destroy(key)),
    "an object with other bytes": _in_the_bucket(_swap),
    "a manifest that is gone": _in_the_bucket(lambda attacker, key: attacker.destroy(key), "manifest"),
    "a manifest with other bytes": _in_the_bucket(lambda attacker, key: attacker.put(key, b"{}"), "manifest"),
    "a lock that was lifted": _in_postgres(
        "UPDATE billing.archive_batches SET lock_mode = 'COMPLIANCE' WHERE class = 'capture'"
    ),
}


@pytest.mark.parametrize("what", DIFFERS)
def test_nothing_leaves_of_a_batch_that_differs_and_the_others_leave(archive: Archive, what: str) -> None:
    told(archive)
    DIFFERS[what](archive)
    before = facts(archive.service, "topic IN ('capture.requested', 'capture.captured', 'capture.declined')")
    purged = purge(archive)
    (trouble,) = troubles(purged)
    assert "capture" in trouble
    assert before == facts(archive.service, "topic IN ('capture.requested', 'capture.captured', 'capture.declined')")
    # The attempts are in another batch.
    assert (purged.facts > 0, purged.captured) == (True, {})
    (batch,) = (each for each in archive.known() if each.retention_class == "capture")
    assert batch.purged_rows == 0


class Refuses:
    """A bucket that answers everything but reading objects."""

    def __init__(self, archive: Archive, error: Exception) -> None:
        self._store, self._error = archive.store, error

    def get(self, key: str, *version: str) -> Any:
        if "class=capture" in key:
            raise self._error
        return self._store.get(key, *version)


def test_an_object_that_may_not_be_read_keeps_its_facts(archive: Archive) -> None:
    told(archive)
    purged = purge(archive, store=Refuses(archive, StoreRefused("403 AccessDenied")))
    assert ["403 AccessDenied" in each and "class=capture" in each for each in troubles(purged)] == [True]
    assert facts(archive.service, "topic = 'capture.captured'")


def test_while_the_bucket_is_away_nothing_leaves(archive: Archive) -> None:
    told(archive)
    with pytest.raises(StoreAway):
        purge(archive, store=Refuses(archive, StoreAway("no answer")))
    assert facts(archive.service, "topic = 'capture.captured'")


def test_other_bytes_with_the_same_rows_are_not_what_was_archived(archive: Archive) -> None:
    class WritesAnew(Refuses):
        def get(self, key: str, *version: str) -> Any:
            found = self._store.get(key, *version)
            if not key.endswith(".parquet"):
                return found
            sink = BytesIO()
            pq.write_table(records.read(found.body), sink, compression="none")
            return replace(found, body=sink.getvalue())

    told(archive)
    found = troubles(purge(archive, store=WritesAnew(archive, StoreAway(""))))
    assert ["its bytes are not those that were archived" in each for each in found] == [True, True]
    assert facts(archive.service, PURGES) == Counter()


@pytest.mark.parametrize("lie", ['{"count": 1}', '{"captured": {"USD": 1}}'])
def test_a_deletion_whose_own_fact_says_something_else_is_undone(archive: Archive, lie: str) -> None:
    told(archive, 2)
    archive.service.execute(
        "CREATE FUNCTION public.lie() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " NEW.payload = NEW.payload || CAST(TG_ARGV[0] AS jsonb); RETURN NEW; END $$"
    )
    archive.service.execute(
        "CREATE TRIGGER lie BEFORE INSERT ON billing.facts FOR EACH ROW WHEN (NEW.topic = 'batch.purged')"
        f" EXECUTE FUNCTION public.lie('{lie}')"
    )
    before = facts(archive.service)
    assert len(troubles(purge(archive))) == 2
    assert facts(archive.service) == before
    archive.service.execute("DROP FUNCTION public.lie() CASCADE")


# Many at once, and whoever dies.


@pytest.mark.parametrize("place", ["commit.before", "commit.after"])
def test_a_purger_may_die_at_any_commit_and_the_next_goes_on(archive: Archive, place: str) -> None:
    told(archive, 3)
    before, deaths = facts(archive.service), 0
    for number in range(1, 40):
        dies = At(f"{place}:{number}")
        try:
            with watched_commits(dies):
                purger(archive, _limit=purging.BatchLimit(2)).run()
        except Died:
            deaths += 1
            nothing_lost(archive, before)
        else:
            break
    assert deaths > 3
    assert facts(archive.service, OF_REQUESTS) == Counter()
    nothing_lost(archive, before)


def test_two_purgers_and_an_archiver_at_once_lose_and_double_nothing(archive: Archive) -> None:
    told(archive, 6)
    service = archive.service
    young = [service.ask_for_capture(intent) for intent in service.intents(3)]
    service.settle(*young)
    service.plan()
    before, done, failed = facts(service), list[Purged](), list[BaseException]()

    def run(step: Callable[[], object]) -> threading.Thread:
        def guarded() -> None:
            try:
                step()
            except BaseException as error:  # noqa: BLE001 - the test raises it in its own thread
                failed.append(error)

        thread = threading.Thread(target=guarded)
        thread.start()
        return thread

    def small(login: str) -> Callable[[], None]:
        return lambda: done.append(purge(archive, login, _limit=purging.BatchLimit(2)))

    for thread in [run(small("archiver")), run(small("operator")), run(archive.archive_all)]:
        thread.join()
    assert failed == []
    # Each skips what the other holds at that moment, so a third run may find some.
    done.append(purge(archive))
    assert [trouble for each in done for trouble in troubles(each)] == []
    assert sum((Counter(each.captured) for each in done), Counter()) == {"USD": 6 * 1999}
    assert {entity for _, _, entity, _ in facts(service, OF_REQUESTS)} == set(young)
    archive_all(archive)
    nothing_lost(archive, before)
    assert verify(archive).told == []


def test_a_batch_that_somebody_holds_is_skipped(archive: Archive) -> None:
    told(archive)
    with database.transaction(archive.service.engine) as session:
        session.execute(text("SELECT FROM billing.archive_batches WHERE class = 'capture' FOR UPDATE"))
        assert purge(archive).captured == {}
        assert facts(archive.service, "topic = 'capture.captured'")
    assert purge(archive).captured == {"USD": 1999}


def test_a_page_that_is_too_slow_is_tried_with_half_as_many(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    told(archive, 4)
    sizes, delete = [], Purger._delete

    def slow(self: Purger, session: Session, batch: Any, after: int, *, most: int) -> Any:
        sizes.append(most)
        if most > 2:
            session.execute(text("SELECT set_config('statement_timeout', '1', true)"))
            session.execute(text("SELECT pg_sleep(60)"))
        return delete(self, session, batch, after, most=most)

    monkeypatch.setattr(Purger, "_delete", slow)
    assert purge(archive, _limit=purging.BatchLimit(8)).captured == {"USD": 4 * 1999}
    assert sizes[:4] == [1, 8, 4, 2]


def test_a_run_that_ends_early_says_that_there_may_be_more(archive: Archive) -> None:
    told(archive)
    assert not purger(archive).run(most=1).complete
    assert not purger(archive).run(stop_requested=lambda: True).complete
    assert not purger(archive).run(within_s=-1).complete


def test_a_dry_run_compares_everything_and_changes_nothing(archive: Archive) -> None:
    told(archive)
    before, batches = facts(archive.service), [batch.purged_rows for batch in archive.known()]
    counted = purge(archive, "operator", only_count=True)
    assert (facts(archive.service), [batch.purged_rows for batch in archive.known()]) == (before, batches)
    assert purge(archive) == counted
    assert counted.captured == {"USD": 1999}


# The feed of changes.


def changes(service: Service, after: int, **how: int) -> billing.Changes:
    with database.transaction(service.engines["application"]) as session:
        return billing.changes(session, after, **how)


def test_a_follower_that_was_not_behind_goes_on_and_one_that_was_is_told(archive: Archive) -> None:
    service = archive.service
    archive.tell("command.done", of="cmd_1")
    begun = changes(service, 0).cursor
    told(archive, 2)
    older, current = changes(service, 0, limit=1).cursor, changes(service, 0).cursor
    assert 0 < older < current
    purge(archive)
    # The fact at this cursor is still there, and changes after it are not.
    with pytest.raises(billing.UnknownCursor):
        changes(service, begun)
    # Also the newest change of all was purged.
    archive.service.execute("DELETE FROM billing.facts")
    assert changes(service, current) == billing.Changes((), current, more=False, behind=False)
    with pytest.raises(billing.UnknownCursor):
        changes(service, older)
    capture = service.ask_for_capture()
    assert [each.id for each in changes(service, current).changes] == [capture]
    # Whoever begins gets what is kept.
    assert [each.id for each in changes(service, 0).changes] == [capture]
    with pytest.raises(billing.UnknownCursor):
        changes(service, older)
    with pytest.raises(billing.UnknownCursor):
        changes(service, current + 10**6)


def test_the_function_serves_nobody_for_nothing(archive: Archive) -> None:
    """A login that was taken over gets no further than a purger: what it may not remove is not a question of its
    arguments."""
    told(archive)
    archive.service.execute("UPDATE billing.captures SET state = 'requested'")
    call = text("SELECT id FROM billing.purge_facts('capture', 1, '-10 years', 0, 1000000, 'mallory')")
    for login in LOGINS:
        with database.transaction(archive.service.engines[login]) as session:
            assert session.execute(call).all() == []
