"""Old and new versions share a database: changes that one of them could not consume are refused, and no others."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from keeping import finalized
from mailing import ask_for_email
from service import Service
from test_toy_operation import OPERATION as LABEL

import billing
from billing import database, switches
from billing.captures import OPERATION as CAPTURE
from billing.invoices import OPERATION as INVOICE
from billing.operations import OPERATIONS
from billing.probes import OPERATION as PROBE
from billing.registration import Contract, Operation, Retry, payload_fits
from billing.schedules import SCHEDULES
from jobs.local import golden_files
from jobs.road import golden, ticks
from jobs.road.contracts import contracts
from jobs.road.golden import Golden, Registered

CORPUS = golden.released()
EXAMPLE = next(each for each in CORPUS if each.called == "take_capture:1").facts[0]["fact"]
World = tuple[Sequence[Golden], Registered]


def capture(*contracts: Contract, **operation: Any) -> World:
    """The released corpus, and captures with these contracts beside the others that take or observe them; the other
    kinds are as they are."""
    given = {(each.name, each.version) for each in contracts}
    others = [each for each in CAPTURE.contracts[1:] if (each.name, each.version) not in given]
    return changed(CAPTURE, *contracts, *(others if contracts else ()), **operation)


def changed(changes: Operation, *contracts: Contract, **operation: Any) -> World:
    new = replace(changes, **operation)
    kinds = [new if each is changes else each for each in OPERATIONS.values()]
    chosen = {id(new): contracts or new.contracts}
    return CORPUS, [(kind, each) for kind in kinds for each in chosen.get(id(kind), kind.contracts)]


def take(**changes: Any) -> Contract:
    return replace(CAPTURE.contracts[0], **changes)


def without(payload: Any, *names: str) -> dict[str, str]:
    return {name: kind for name, kind in payload.items() if name not in names}


def with_file(world: World, operation: Operation, contract: Contract, fact: dict[str, Any]) -> World:
    """As after `make golden` for this new contract."""
    corpus, now = world
    return [*corpus, golden.recorded(operation, contract, [("minimal", fact)])], now


TAKE, PAYLOAD = take(), take().payload
TAKE_3 = take(version=3, fact_versions=(3,), payload={**PAYLOAD, "tip": "integer"})
RECEIPT = take(name="write_receipt", since=2)

BREAKING: dict[str, tuple[str, Callable[[], World]]] = {
    "a field became required": (
        "the field tip is required, and older applications do not write it",
        lambda: capture(take(payload={**PAYLOAD, "tip": "integer"})),
    ),
    "a field is not written any more": (
        "the field currency is not written any more, and older relays expect it",
        lambda: capture(take(payload=without(PAYLOAD, "currency"))),
    ),
    "a field was renamed": (
        "the field account is not written any more",
        lambda: capture(take(payload={**without(PAYLOAD, "account"), "merchant": "optional text or null"})),
    ),
    "a field has another type": (
        "the field minor was integer, and is text",
        lambda: capture(take(payload={**PAYLOAD, "minor": "text"})),
    ),
    "a field may be null": (
        "the field currency was text, and is text or null",
        lambda: capture(take(payload={**PAYLOAD, "currency": "text or null"})),
    ),
    "another queue": ("queue of its work was captures, and is invoices", lambda: capture(take(queue="invoices"))),
    "a queue that no worker takes": ("no worker takes the queue express", lambda: capture(take(queue="express"))),
    "another name": ("take_capture:1: is not known any more", lambda: capture(take(name="capture_money"))),
    "a version was dropped": ("take_capture:1: is not known any more", lambda: capture(take(version=2))),
    "a version of the fact is refused": (
        "is not started by capture.requested:1 any more",
        lambda: capture(take(fact_versions=(2,))),
    ),
    "another topic": ("is not started by capture.requested:1 any more", lambda: capture(take(topic="captured"))),
    "another urgency before the deadline is read": (
        "urgency of its work was 2025-01-31",
        lambda: capture(take(comes_first=lambda _payload: False)),
    ),
    "no deadline": ("urgency of its work was 2026-02-07", lambda: capture(deadline=None)),
    "another switch": ("scopes of its work was", lambda: capture(scope="payments")),
    "other ids": ("entity_id must be the id of a capture", lambda: capture(prefix="pay")),
    "fewer facts start it": (
        "its fact does not start probe_provider:1 any more",
        lambda: changed(PROBE, replace(PROBE.contracts[0], wanted=lambda _payload: False)),
    ),
    "more facts start it": (
        "its fact now starts probe_provider:1",
        lambda: changed(PROBE, replace(PROBE.contracts[0], wanted=lambda _payload: True)),
    ),
    "two versions take the same fact": (
        "its fact now starts take_capture:3 as well as take_capture:1",
        lambda: with_file(capture(TAKE, take(version=3, since=2)), CAPTURE, take(version=3, since=2), EXAMPLE),
    ),
    "a released contract came later": ("says since=2, and was released with 1", lambda: capture(take(since=2))),
    "a call may take longer than older workers wait": (
        "a call may take 30 s, and older workers take it for over after 20 s",
        lambda: ([replace(each, longest_call_s=20) for each in CORPUS], contracts()),
    ),
    "a call of an older worker may take longer than this version waits": (
        "a call of an older worker may take 40 s, and this version takes it for over after 30 s",
        lambda: ([replace(each, longest_call_s=40) for each in CORPUS], contracts()),
    ),
    "a new contract that older relays pass over": (
        "raise CONTRACTS_VERSION to 2 and write since=2",
        lambda: capture(TAKE, replace(RECEIPT, since=1)),
    ),
    "a contract without a file": ("has no file in the golden corpus", lambda: capture(TAKE, TAKE_3)),
}

SAFE: dict[str, Callable[[], World]] = {
    "nothing at all": lambda: (CORPUS, contracts()),
    "an optional field": lambda: capture(take(payload={**PAYLOAD, "tip": "optional integer"})),
    "an optional field is not written any more": lambda: changed(
        PROBE, replace(PROBE.contracts[0], payload=without(PROBE.contracts[0].payload, "account"))
    ),
    "another owner and purpose": lambda: capture(take(owner="treasury", purpose="take it")),
    "more attempts": lambda: capture(take(max_attempts=9)),
    "less time for a call": lambda: capture(take(call_budget_s=5)),
    "another way to try again": lambda: capture(take(retry=Retry.PATIENT)),
    "one more version of the fact": lambda: capture(take(fact_versions=(1, 3))),
    "a new version for a new version of the fact": lambda: with_file(
        capture(TAKE, TAKE_3), CAPTURE, TAKE_3, {**EXAMPLE, "version": 3}
    ),
    "another contract of the same fact, that came later": lambda: with_file(
        capture(TAKE, RECEIPT), CAPTURE, RECEIPT, EXAMPLE
    ),
    "a new kind of operation": lambda: with_file(
        (CORPUS, [*contracts(), (LABEL, LABEL.contracts[0])]),
        LABEL,
        LABEL.contracts[0],
        {**EXAMPLE, "topic": "label.requested", "entity_id": "lab_" + "0" * 32, "payload": {"account": None}},
    ),
    "a drained version is dropped and retired": lambda: (
        [replace(each, retired=each.name in ("issue_invoice", "observe_invoice")) for each in CORPUS],
        [(operation, contract) for operation, contract in contracts() if operation is not INVOICE],
    ),
    "another order": lambda: (CORPUS, contracts()[::-1]),
    "other steps": lambda: capture(next_step=lambda _loaded: None),
}


@pytest.mark.parametrize("change", BREAKING)
def test_a_change_that_an_older_or_newer_process_could_not_consume_is_refused_with_its_reason(change: str) -> None:
    reason, world = BREAKING[change]
    assert reason in "\n".join(str(finding) for finding in golden.check(*world()))


@pytest.mark.parametrize("change", SAFE)
def test_a_change_that_both_can_consume_is_no_false_alarm(change: str) -> None:
    assert golden.check(*SAFE[change]()) == []


def test_all_breaking_changes_are_refused_and_no_safe_one(capsys: pytest.CaptureFixture[str]) -> None:
    refused = [name for name, (_, world) in BREAKING.items() if golden.check(*world())]
    alarms = [name for name, world in SAFE.items() if golden.check(*world())]
    with capsys.disabled():
        print(
            f"\nbreaking changes refused: {len(refused)} of {len(BREAKING)}; false alarms: {len(alarms)} of {len(SAFE)}"
        )
    assert (len(refused), len(alarms)) == (len(BREAKING), 0)
    assert min(len(BREAKING), len(SAFE)) >= 10


def test_every_finding_says_what_to_do() -> None:
    findings = [finding for _, world in BREAKING.values() for finding in golden.check(*world())]
    assert all(finding.problem and finding.fix and "\n" not in str(finding) for finding in findings)


# The corpus.


def test_each_contract_has_its_file_and_each_file_its_name() -> None:
    assert {path.stem for path in golden.FOLDER.glob("*.json")} == {f"{each.name}-{each.version}" for each in CORPUS}
    assert all(len(each.facts) >= 2 for each in CORPUS)
    ids = [example["fact"]["id"] for each in CORPUS for example in each.facts]
    assert len(ids) == len(set(ids))


def payloads(service: Service, topic: str, versions: Sequence[int]) -> list[dict[str, Any]]:

    with service.engine.connect() as connection:
        rows = connection.exec_driver_sql(
            f"SELECT payload FROM billing.facts WHERE topic = '{topic}' AND version = ANY (%(versions)s) ORDER BY id",
            {"versions": list(versions)},
        )

        return [row.payload for row in rows]


def test_what_this_version_writes_has_the_fields_that_its_contracts_promise(service: Service) -> None:
    whole = billing.Authorization(1999, "USD", 1_800_000_000)
    service.notice(service.ask_for_capture(authorization=None))
    service.notice(service.ask_for_capture(authorization=whole, account="acct_1"))
    service.ask_for_capture()
    intent, fee = service.intents()[0], billing.CaptureTerms(application_fee=billing.Money(50, "USD"))
    service.ask_for_capture(intent, 500, authorization=whole, remainder="keep")
    service.ask_for_capture(intent, 500, authorization=None)
    service.ask_for_capture(authorization=whole, account="acct_1", terms=fee)
    service.notice(service.ask_for_void(), service.ask_for_void(account="acct_1"))
    service.notice(service.ask_for_invoice(), service.ask_for_invoice(account="acct_1"))
    many = [billing.Line("a seat", billing.Money(100, "EUR"))] * 101
    service.ask_for_invoice(lines=many)
    service.ask_for_invoice(lines=many, account="acct_1")
    taxed = billing.InvoiceTerms(tax_rates=["txr_1"])
    service.ask_for_invoice(terms=taxed)
    service.ask_for_invoice(collect=billing.ChargeAutomatically())
    taken = service.captured_one()
    service.notice(service.ask_for_refund(taken), service.ask_for_refund(taken, None, reason="duplicate"))
    service.compensate(service.ask_for_capture())
    service.compensate(service.ask_for_capture(account="acct_1"), reason="duplicate")
    service.notice(*(service.credit(service.sent_invoice(), 500) for _ in range(2)))
    paid = service.paid_invoice()
    service.credit(paid, 100, "refund", reason="duplicate")
    service.refund_invoice(paid)
    service.refund_invoice(paid, None, reason="duplicate")
    customer = service.by_hand("/v1/customers", "name=T&email=t%40example.com", account="acct_1")
    opened = [service.ask_for_invoice(), service.ask_for_invoice(customer, account="acct_1")]
    assert service.settle(*opened) == ["sent", "sent"]
    service.notice(service.act_on(opened[0], "void_invoice"))
    service.notice(service.act_on(opened[1], "pay_invoice", payment_method="pm_1"))
    service.notice(ask_for_email(service, account="acct_1"), ask_for_email(service, locale="de"))
    finalized(service, 2)
    service.pull("captures")
    refuse_credentials(service)
    service.pull("account:own")
    with database.transaction(service.engines["operator"]) as session:
        for schedule in SCHEDULES * 2:
            ticks.ask_for(session, schedule, actor="anna")
    for operation, contract in contracts():
        written = payloads(service, f"{operation.kind}.{contract.topic}", contract.fact_versions)
        assert len(written) >= 2
        assert [payload for payload in written if not payload_fits(payload, contract.payload)] == []
        newest = next(each for each in CORPUS if each.called == f"{contract.name}:{contract.version}")
        recorded = [example["fact"]["payload"] for example in newest.facts]
        assert {frozenset(payload) for payload in written} <= {frozenset(payload) for payload in recorded}


def refuse_credentials(service: Service) -> None:
    """The service itself pulls the switch of its own account."""
    with database.transaction(service.engines["worker"]) as session:
        switches.pull(session, "account:own", actor="billing", reason="Stripe answers 401", probes=True)


@pytest.mark.parametrize(
    ("payload", "fits"),
    [
        ({"a": 1, "b": None}, True),
        ({"a": 1, "b": "2026-01-31T12:00:00Z", "c": "x"}, True),
        ({"a": True, "b": None}, False),
        ({"a": 1}, False),
        ({"a": 1, "b": "2026-01-31"}, False),
        ({"a": 1, "b": None, "c": None}, False),
        ({"a": 1, "b": None, "d": 1}, False),
    ],
)
def test_a_payload_fits_if_it_has_the_fields_and_each_has_its_type(payload: dict[str, Any], fits: bool) -> None:
    assert payload_fits(payload, {"a": "integer", "b": "time or null", "c": "optional text"}) is fits


# Recording a new contract.


def test_a_new_file_is_completed_from_its_examples_and_what_was_recorded_is_never_changed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "take_capture-1.json"
    path.write_text(json.dumps({"facts": [{"form": "minimal", "fact": EXAMPLE}]}))
    assert golden_files.main(tmp_path) == 0
    (made,) = golden.released(tmp_path)
    released = next(each for each in CORPUS if each.called == "take_capture:1")
    # An optional field that came after the release.
    payload = {**released.payload, "request_digest": "optional text"}
    assert made == replace(released, facts=made.facts, payload=payload)
    assert made.facts == [{"form": "minimal", "fact": EXAMPLE, "work": golden.plan(EXAMPLE)}]
    first = path.read_text()
    assert golden_files.main(tmp_path) == 0
    assert path.read_text() == first
    changed_by_hand = json.loads(first)
    changed_by_hand["facts"][0]["work"][0]["queue"] = "of_old"
    changed_by_hand["facts"].append({"form": "another", "fact": EXAMPLE})
    path.write_text(json.dumps(changed_by_hand))
    assert golden_files.main(tmp_path) == 0
    assert [example["work"][0]["queue"] for example in golden.released(tmp_path)[0].facts] == ["of_old", "captures"]


def test_a_file_of_a_contract_that_is_not_here_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "take_capture-9.json").write_text(json.dumps({"facts": [{"form": "minimal", "fact": EXAMPLE}]}))
    assert golden_files.main(tmp_path) == 1
    assert "no contract take_capture:9" in capsys.readouterr().err
