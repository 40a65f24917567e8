"""A new kind of operation is one file: this one, with everything that it says about itself. No other file knows it.

A label writes a short text into the metadata of a payment intent. It goes the whole road: asked for, planned, claimed,
called, settled, shown, explained, stopped by its switch, put back by a person, told in the log, and archived.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, ClassVar, TypeAlias
from uuid import uuid4

import pytest
import structlog
from service import Service
from sqlalchemy import CheckConstraint, MetaData, String, UniqueConstraint
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Mapped, mapped_column
from structlog.testing import LogCapture

import billing
from archive.format.manifests import Source
from archive.policy import retention_file
from archive.writing.batch_size import BatchSize
from archive.writing.writer import Writer
from billing import database, ids, operations, row_io, switches
from billing.differences import differences
from billing.explain import explain
from billing.facts import new_fact
from billing.finding import find
from billing.learned import Learned
from billing.provider_ids import IdKind, object_path
from billing.registration import Contract, Operation, Retry
from billing.states import OPERATOR, WORKER, Life, Transition, set_state
from billing.steps import METADATA_KEY, Ask, Json, Judgment, LoadedOperation, LookResult, Reader, Step, read_object
from billing.tables.entities import Requested
from billing.tables.facts import Fact
from billing.tables.schema import SCHEMA
from jobs.local.seaweed import SeaweedFS
from jobs.road import planning, quarantine, quarantine_list, work_log

# What a label is.

LIFE = Life(
    of="label",
    states={
        "requested": "somebody asked for a label",
        "written": "the label stands at Stripe",
        "refused": "the label is impossible",
    },
    transitions=(
        Transition("requested", "written", WORKER, "Stripe's answer or a look shows it"),
        Transition("requested", "refused", WORKER, "there is nothing to write it on"),
        Transition("refused", "requested", OPERATOR, "asked for again"),
    ),
    topics={"praised": "somebody liked the label"},
)


class Label(Requested):
    # Apart from the service's own tables, which migrations are compared with.
    metadata: ClassVar[MetaData] = MetaData(schema=SCHEMA)
    life = LIFE
    __tablename__ = "labels"
    __table_args__ = (
        UniqueConstraint("account", "request_id", postgresql_nulls_not_distinct=True),
        CheckConstraint("text <> ''", name="text_there"),
    )

    state: Mapped[str] = mapped_column(String(20), server_default=LIFE.first)
    payment_intent: Mapped[str] = mapped_column(String(255))
    text: Mapped[str] = mapped_column(String(80))


Loaded: TypeAlias = LoadedOperation


def request_label(service: Service, payment_intent: str, text: str, request_id: str) -> str:
    """Ask for it, as an application does in its own transaction."""
    row = Label(id=ids.new("lab"), correlation_id=request_id, version=0)
    values = {"id": row.id, "correlation_id": request_id, "request_id": request_id, "version": 1}
    with database.transaction(service.engines["application"]) as session:
        session.execute(insert(Label).values(payment_intent=payment_intent, text=text, **values))
        row_io.save(session, (), [new_fact(row, "requested", account=None)])
    return row.id


def path(loaded: Loaded) -> str:
    return object_path(IdKind.PAYMENT_INTENT, loaded.row.payment_intent)  # type: ignore[attr-defined]


def is_written(loaded: Loaded, intent: Json) -> bool:
    return not differences(intent, within="metadata", **{METADATA_KEY: loaded.row.id})


def find_label(loaded: Loaded, read: Reader, livemode: bool) -> LookResult:
    expected = ("payment_intent", loaded.row.payment_intent)  # type: ignore[attr-defined]
    intent = read_object(read, path(loaded), expected, livemode=livemode)
    return LookResult(Learned.FOUND_OURS if is_written(loaded, intent) else Learned.ABSENT, intent)


def apply(loaded: Loaded, outcome: Learned, _data: Json, why: str) -> list[Fact]:
    set_state(loaded.row, "written" if outcome is Learned.SUCCEEDED else "refused")
    loaded.row.reason = why or None
    return [new_fact(loaded.row, loaded.row.state)]


WRITE = Step(
    name="write",
    ask=lambda loaded: Ask(
        "POST",
        path(loaded),
        {"metadata": {METADATA_KEY: loaded.row.id, "label": loaded.row.text}},  # type: ignore[attr-defined]
        loaded.row.payment_intent,  # type: ignore[attr-defined]
    ),
    judge=lambda loaded, data: Judgment(Learned.SUCCEEDED if is_written(loaded, data) else Learned.MISMATCH),
    find=find_label,
    apply=apply,
)

OPERATION = Operation(
    table=Label,
    prefix="lab",
    contracts=(
        Contract(
            name="write_label",
            topic="requested",
            queue="captures",
            max_attempts=2,
            call_budget_s=20,
            retry=Retry.PROMPT,
            owner="tests",
            purpose="write one label",
            payload={"account": "text or null"},
        ),
    ),
    next_step=lambda loaded: WRITE if loaded.row.state == "requested" else None,
    steps={WRITE.name: WRITE}.__getitem__,
    belongs_to=(),
    scope="labels",
    found_by={"pi": Label.payment_intent},
    shown=lambda _session, row: {"payment_intent": row.payment_intent, "text": row.text},
)


def make_table(service: Service) -> None:
    Label.metadata.create_all(service.engine)
    service.execute("GRANT SELECT, INSERT ON billing.labels TO billing_application")
    service.execute("GRANT SELECT, UPDATE ON billing.labels TO billing_worker")


@pytest.fixture
def labels(service: Service) -> Iterator[Service]:
    """A service that knows labels."""
    make_table(service)
    operations.register(OPERATION)
    yield service
    operations.OPERATIONS.pop(OPERATION.kind)


def road(service: Service) -> None:
    service.plan()
    service.work_off()


def explained(service: Service, name: str) -> Any:
    with database.transaction(service.engine) as session:
        return explain(session, name).operations[0]


# What everybody makes of it.


def test_it_is_planned_claimed_called_and_settled(labels: Service) -> None:
    (intent,) = labels.intents()
    label = request_label(labels, intent, "gift", "label-1")
    assert labels.status(label).next == "a relay plans the work"
    labels.plan()
    work = labels.work(label)
    assert work.contract == "write_label"
    assert work.scopes == ["account:own", "contract:write_label", "everything", "labels", f"queue:{work.queue}"]
    labels.work_off()
    assert (labels.status(label).state, labels.status(label).final) == ("written", True)
    assert labels.topics(label) == ["requested", "attempted", "written"]
    assert labels.record(label).key == f"billing:test:{label}:write:g1"
    assert labels.work(label).state == "done"


def test_a_lost_answer_is_asked_for_again_under_the_same_key(labels: Service) -> None:
    (intent,) = labels.intents()
    labels.standin.add_fault("drop_after_commit", path=f"{intent}$", times=1)
    label = request_label(labels, intent, "gift", "label-1")
    assert labels.settle(label) == ["written"]
    assert (len(labels.records(label)), labels.record(label).sends) == (1, 2)


def test_it_is_found_by_its_names_and_explained_with_what_was_asked(labels: Service) -> None:
    (intent,) = labels.intents()
    label = request_label(labels, intent, "gift", "label-1")
    road(labels)
    for name in (label, intent, "label-1", labels.work(label).id, labels.record(label).id):
        with database.transaction(labels.engine) as session:
            assert find(session, name) == [label]
    story = explained(labels, "label-1")
    assert story.request.items() >= {"request_id": "label-1", "payment_intent": intent, "text": "gift"}.items()
    assert [fact.meaning for fact in story.facts][::2] == [LIFE.states["requested"], LIFE.states["written"]]
    assert [call.step for call in story.calls] == ["write"]


def test_its_own_switch_stops_it_and_no_other_kind(labels: Service) -> None:
    (intent,) = labels.intents()
    with database.transaction(labels.engine) as session:
        switches.pull(session, "labels", actor="ops", reason="enough labels")
    label, capture = request_label(labels, intent, "gift", "label-1"), labels.ask_for_capture()
    road(labels)
    assert (labels.work(label).state, labels.status(capture).state) == ("held", "captured")
    assert labels.status(label).next == "nothing until the switch is released (labels: enough labels)"
    with database.transaction(labels.engine) as session:
        assert switches.unanswered(session, "labels").in_flight == 0
        switches.release(session, "labels", actor="ops", reason="labels again")
    assert labels.settle(label) == ["written"]


def test_refused_credentials_pull_the_switch_of_its_account(labels: Service) -> None:
    (intent,) = labels.intents()
    labels.standin.add_fault("401", path=f"{intent}$", times=1)
    label = request_label(labels, intent, "gift", "label-1")
    road(labels)
    assert labels.work(label).state == "held"
    with database.transaction(labels.engine) as session:
        assert switches.lock_and_read_pulled(session, ["account:own"])


def test_what_it_cannot_settle_waits_for_a_person_who_puts_it_back(labels: Service) -> None:
    labels.execute("ALTER TABLE billing.labels ADD CONSTRAINT never CHECK (state <> 'written')")
    (intent,) = labels.intents()
    label = request_label(labels, intent, "gift", "label-1")
    road(labels)
    with database.transaction(labels.engine) as session:
        assert [each.entity_id for each in quarantine_list.listed(session)] == [label]
    labels.execute("ALTER TABLE billing.labels DROP CONSTRAINT never")
    with database.transaction(labels.engine) as session:
        replayed = quarantine.replay(session, labels.work(label).id, actor="ops", reason="mended")
    assert replayed.done == ["write g1 is in doubt: Stripe is looked at, and this key is never sent again"]
    assert labels.settle(label) == ["written"]
    assert labels.record(label).sends == 1


def test_each_line_about_it_names_it_and_the_word_that_its_caller_gave(
    labels: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    (intent,) = labels.intents()
    label = request_label(labels, intent, "gift", "label-1")
    lines = LogCapture()
    for room in (planning, work_log):
        every_level = structlog.make_filtering_bound_logger(0)
        monkeypatch.setattr(room, "log", structlog.wrap_logger(None, processors=[lines], wrapper_class=every_level))
    road(labels)
    mine = [line for line in lines.entries if line.get("operation_id") == label]
    assert [line["event"] for line in mine] == ["operation.planned", "operation.prepared", "operation.settled"]
    assert {line["correlation_id"] for line in mine} == {"label-1"}
    assert mine[-1]["state"] == "written"


def test_its_facts_are_archived(labels: Service, s3: SeaweedFS) -> None:
    (intent,) = labels.intents()
    label = request_label(labels, intent, "gift", "label-1")
    road(labels)
    labels.plan()
    bucket = s3.store(f"test-{uuid4().hex}")
    bucket.set_up("test")
    terms: dict[str, Any] = {"wait_s": 0.0, "patience_s": 0.0}
    writer = Writer(
        BatchSize(labels.engines["archiver"]), bucket, retention_file.load(), Source("test", "ins_test"), **terms
    )
    while writer.round().archived:
        pass
    bucket.close()
    assert {fact.topic for fact in labels.facts(label) if fact.batch_no} == {
        *("label.requested", "label.attempted", "label.written")
    }


def test_a_version_of_its_fact_that_it_does_not_accept_waits_for_a_relay_that_does(
    labels: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    (intent,) = labels.intents()
    label = request_label(labels, intent, "gift", "label-1")
    labels.execute("UPDATE billing.facts SET version = 2 WHERE entity_id = :id", id=label)
    labels.relay.round()
    assert [fact.planned_version for fact in labels.facts(label)] == [None]
    newer = replace(OPERATION, contracts=(replace(OPERATION.contracts[0], fact_versions=(1, 2)),))
    monkeypatch.setitem(operations.OPERATIONS, "label", newer)
    assert labels.settle(label) == ["written"]


def test_a_fact_that_it_does_not_name_is_refused(labels: Service) -> None:
    assert operations.topics()["label.praised"] == "somebody liked the label"
    with pytest.raises(KeyError, match=r"label\.cursed"):
        new_fact(Label(id="lab_1", version=0), "cursed")


def test_a_kind_is_registered_once(labels: Service) -> None:
    with pytest.raises(ValueError, match="label"):
        operations.register(OPERATION)


def test_nobody_knows_it_where_it_is_not_registered(service: Service) -> None:
    assert operations.by_id("lab_1") is None
    with pytest.raises(billing.UnknownEntity):
        service.status("lab_1")
