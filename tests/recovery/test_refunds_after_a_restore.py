"""A database is set back while money was given back: no refund is repeated, and the sum of each capture is right."""

from command import Run
from service import Service, eventually
from set_back import Backup, start

from billing.states import WorkState
from billing.tables.entities import Capture, Invoice, Refund


def refunded(service: Service, capture: str, amount: int | None, state: str = "succeeded") -> str:
    refund = service.ask_for_refund(capture, amount)
    assert service.settle(refund) == [state]
    return refund


def turn(service: Service) -> None:
    service.relay.round()
    for queue in ("captures", "refunds"):
        service.work_off(queue)


def test_refunds_of_the_gap_are_known_again_by_the_archive_and_by_stripe_and_none_is_repeated(
    service: Service, run: Run, bucket: None, backup: Backup
) -> None:
    """[70, 81] One was archived, one is only known at Stripe, and so is the capture of a third."""
    before = service.captured_one()
    kept = refunded(service, before, 100)
    service.plan()
    assert run("archive", "run", "--once").status == 0
    backup.take()

    archived = refunded(service, before, 200)
    service.by_hand(
        "/v1/refunds", f"payment_intent={service.row(Capture, before).payment_intent}&amount=1400"
    )  # so little is left at Stripe that the next one is refused
    refused = refunded(service, before, 500, "refused")
    service.plan()
    assert run("archive", "run", "--once").status == 0
    lost = refunded(service, before, 150)
    lost_capture = service.captured_one()
    of_lost = refunded(service, lost_capture, None)
    sent, given = len(service.posts("/v1/refunds")), len(service.effects("refund"))

    backup.put_back()
    start()
    done = run("recover", "--apply", "--reason", "INC-17", "--json")
    assert (done.status, done.json["differences"]) == (0, []), done.out
    assert run("recover", "--release", "--reason", "nothing differs, INC-17").status == 0
    eventually(lambda: turn(service) or set(service.states_of_work()) == {WorkState.DONE}, "all work is done")

    assert (len(service.posts("/v1/refunds")), len(service.effects("refund"))) == (sent, given)
    known = {each: service.row(Refund, each).state for each in (kept, archived, refused, lost, of_lost)}
    assert known == dict.fromkeys((kept, archived, lost, of_lost), "succeeded") | {refused: "refused"}
    assert service.row(Refund, lost).stripe_refund is not None
    # The trigger has counted what was brought back: 100 + 200 + 150, and not what was refused.
    assert service.row(Capture, before).refunds_minor == 450
    assert service.row(Capture, lost_capture).refunds_minor == 1999
    assert service.row(Refund, of_lost).capture_id == lost_capture


def test_an_application_that_asks_again_after_a_restore_gets_the_receipt_of_the_first(
    service: Service, run: Run, backup: Backup
) -> None:
    """By the digest of its request id, which Stripe has in the refund's metadata."""
    capture = service.captured_one()
    backup.take()
    forgotten = service.ask_for_refund(capture, None, reason="duplicate")
    assert service.settle(forgotten) == ["succeeded"]
    backup.put_back()
    start()
    assert run("recover", "--apply", "--reason", "INC-17").status == 0
    assert run("recover", "--release", "--reason", "INC-17").status == 0
    service._asked -= 1
    assert service.ask_for_refund(capture, None, reason="duplicate") == forgotten
    assert service.row(Capture, capture).refunds_minor == 1999
    assert len(service.posts("/v1/refunds")) == 1


def test_a_refund_of_a_later_part_that_only_stripe_knows_belongs_to_that_part_again(
    service: Service, run: Run, backup: Backup
) -> None:
    """[81] The first part has as much left; the refund's metadata names the other one."""
    several = "&payment_method_options[card][request_multicapture]=if_available"
    card = "amount=1999&currency=usd&capture_method=manual&payment_method=pm_card_visa&confirm=true"
    intent = service.by_hand("/v1/payment_intents", card + several)
    first = service.ask_for_capture(intent, 700, remainder="keep")
    second = service.ask_for_capture(intent, 1299, authorization=None)
    assert service.settle(first, second) == ["captured", "captured"]
    backup.take()
    forgotten = service.ask_for_refund(second, 500)
    assert service.settle(forgotten) == ["succeeded"]
    backup.put_back()
    start()
    assert run("recover", "--apply", "--reason", "INC-17").status == 0
    assert service.row(Refund, forgotten).capture_id == second
    assert [service.row(Capture, each).refunds_minor for each in (first, second)] == [0, 500]


def test_refunds_of_an_invoice_are_known_again_by_the_archive_and_by_stripe_and_none_is_repeated(
    service: Service, run: Run, bucket: None, backup: Backup
) -> None:
    """[70, 81] One was archived, one is only known at Stripe, and one was asked for and not made yet."""
    invoice = service.paid_invoice()
    service.plan()
    assert run("archive", "run", "--once").status == 0
    backup.take()
    archived = service.refund_invoice(invoice, 200)
    assert service.settle(archived) == ["succeeded"]
    waits = service.refund_invoice(invoice, 300)
    service.plan()
    assert run("archive", "run", "--once").status == 0
    lost = service.refund_invoice(invoice, 150)
    service.execute(
        "UPDATE billing.work SET due_at = now() + interval '1 hour', state = 'waiting' WHERE entity_id = :id", id=waits
    )
    assert service.settle(lost) == ["succeeded"]

    backup.put_back()
    start()
    done = run("recover", "--apply", "--reason", "INC-17", "--json")
    assert (done.status, done.json["differences"]) == (0, []), done.out
    assert service.row(Invoice, invoice).returned_minor == 650
    assert run("recover", "--release", "--reason", "nothing differs, INC-17").status == 0
    eventually(lambda: turn(service) or set(service.states_of_work()) == {WorkState.DONE}, "all work is done")
    assert {each: service.row(Refund, each).state for each in (archived, waits, lost)} == dict.fromkeys(
        (archived, waits, lost), "succeeded"
    )
    assert [service.refunded(each) for each in (archived, waits, lost)] == [[200], [300], [150]]
    assert service.row(Refund, lost).invoice_id == invoice
