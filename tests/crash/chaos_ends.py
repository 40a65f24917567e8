"""How everything that was asked for in a chaos ends: none is stuck, and a person does what only a person can."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress

from chaos_asking import Asking
from mail_server import MailServer
from mailing import undecided
from service import Service, eventually
from sqlalchemy import select

import billing
from billing import database
from billing.begun_emails import request_id_of
from billing.idempotency import MAX_ROTATIONS
from billing.invoice_emails import NAME
from billing.learned import Learned
from billing.schedules import BY_NAME
from billing.states import RunState
from billing.tables.documents import Document
from billing.tables.entities import Email, Invoice
from billing.tables.idempotency_records import Record
from billing.tables.received_events import ReceivedEvent
from billing.tables.scheduled_runs import ScheduledRun
from jobs.road import concluding


def everything_ends(service: Service, restart_ended: Callable[[], object], asking: Asking) -> None:
    by_hand: dict[str, str] = {}

    def wait_for(ends: Mapping[str, str]) -> None:
        """However much is left on a busy machine, it goes on: stuck is what makes no progress."""
        waiting = set(ends)
        while waiting:
            eventually(
                lambda: (
                    restart_ended() or _take_out(service, waiting, ends, by_hand) or _settle_by_hand(service, by_hand)
                ),
                lambda: f"of {len(waiting)} that are left one more ends: {service.how_they_stand(waiting)}",
            )

    wait_for(asking.ends)
    print(f"{len(by_hand)} calls met a fault with each of their keys, and were made by hand")
    _webhooks_are_worked_off(service, restart_ended)
    # What Stripe alone tells: of some invoices by webhooks, and of those whose webhooks are lost by its list of events.
    invoices = [each for each in asking.of("inv") if asking.ends[each] == "sent"]
    told, lost = invoices[::2], invoices[1::2]
    _pay(service, told)
    wait_for(dict.fromkeys(told, "paid"))
    service.standin.set_webhooks(outage=True)
    _pay(service, lost)
    asking.run(BY_NAME["sweep_events"])
    wait_for(dict.fromkeys(lost, "paid"))
    with database.transaction(service.engine) as session:
        assert set(session.scalars(select(ReceivedEvent.source))) == {"webhook", "sweep"}
    runs = set(asking.runs)
    while runs:  # one after the other, and one that reads much at Stripe takes twenty seconds
        eventually(lambda: _take_out_runs(service, runs), f"one more run of {len(runs)} is over")
    documents = documents_of(service)
    wait_for(dict.fromkeys(documents, "stored"))


def documents_of(service: Service) -> list[str]:
    with database.transaction(service.engine) as session:
        return list(session.scalars(select(Document.id)))


def emails_of_invoices(service: Service) -> dict[str, str]:
    """Those that this service sends: by the invoice, the e-mail."""
    with database.transaction(service.engine) as session:
        mine = {request_id_of(each, NAME): each for each in session.scalars(select(Invoice.id))}
        found = session.execute(select(Email.request_id, Email.id).where(Email.request_id.in_(mine)))
        return {mine[each.request_id]: each.id for each in found}


def emails_end(service: Service, mail: MailServer, asking: Asking) -> None:
    """Each came once, or it is recorded that nobody knows, and then a person reads the server's log. One of an invoice
    that is voided by then is refused."""
    of_invoices = emails_of_invoices(service)
    emails = [*asking.emails, *of_invoices.values()]
    waiting, unknown = set(emails), set[str]()

    def one_more() -> bool:
        for each in waiting.intersection(undecided(service)) - unknown:
            # Not while its call may still be under way.
            with suppress(billing.InvalidRequest), database.transaction(service.engines["operator"]) as session:
                came = len(mail.of(each)) == 1
                concluding.conclude(session, each, actor="anna", reason="the server's log", it_happened=came)
                unknown.add(each)
        over = {each for each in waiting if service.status(each).final}
        waiting.difference_update(over)
        return bool(over)

    while waiting:
        eventually(one_more, lambda: f"one more e-mail of {len(waiting)} ends: {service.how_they_stand(waiting)}")
    ended = {each: (service.status(each).state, len(mail.of(each))) for each in emails}
    assert set(ended.values()) <= {("sent", 1), ("refused", 0)}, ended
    voided = {of_invoices[each] for each in asking.acted["void_invoice"] if each in of_invoices}
    refused = {each for each, (state, _) in ended.items() if state == "refused"} - unknown
    assert refused <= voided, refused - voided
    assert {service.status(each).reason for each in refused} <= {"invoice_not_open"}
    assert set(mail.mailbox.values()) <= {1}
    print(
        f"{len(ended)} e-mails, {len(of_invoices)} of them of invoices; {len(unknown)} were in doubt,"
        f" and {len(refused)} not sent because their invoice was voided"
    )


def _take_out(service: Service, waiting: set[str], ends: Mapping[str, str], by_hand: Mapping[str, str]) -> bool:
    """Take out those that have ended, each as it must. An invoice that was sent may still be paid, voided or given up,
    and a note be voided; what a person has done to an invoice, an action finds to be somebody else's."""
    found = {status.id: status.state for status in map(service.status, waiting) if status.final}
    over = {each for each, state in found.items() if state == ends[each] or _overtaken(each, state, by_hand)}
    assert {found[each] for each in found.keys() - over} <= {"sent", "issued"}, found
    waiting.difference_update(over)
    return bool(over)


def _overtaken(operation: str, state: str, by_hand: Mapping[str, str]) -> bool:
    return operation.startswith("iac_") and state == "refused" and operation in by_hand.values()


def _settle_by_hand(service: Service, by_hand: dict[str, str]) -> bool:
    """Faults may use up all keys of a call. Then nothing of it happened, and a person does it in Stripe's dashboard, as
    docs/operate/in-doubt-grows.md says: the webhook of that, or the next look, ends the operation. `by_hand`: these
    records, with their operations."""
    given_up = (
        select(Record)
        .where(Record.concluded_at.is_(None), Record.parked_at.is_not(None), Record.learned == Learned.ABSENT)
        .where(Record.look_only, Record.id.not_in(by_hand))
    )
    with database.transaction(service.engine) as session:
        found = session.scalars(given_up).all()
        earlier = Counter(
            session.scalars(select(Record.operation_id + Record.step).where(Record.conclusion.is_not(None)))
        )
    for record in found:
        assert earlier[record.operation_id + record.step] == MAX_ROTATIONS, record.id
        service.by_hand(record.path, record.body, record.method)
        by_hand[record.id] = record.operation_id
    return bool(found)


def _take_out_runs(service: Service, runs: set[str]) -> bool:
    over = {run for run in runs if service.row(ScheduledRun, run).state == RunState.DONE}
    runs.difference_update(over)
    return bool(over)


def _webhooks_are_worked_off(service: Service, restart_ended: Callable[[], object]) -> None:
    """Those of the chaos come first, and on a busy machine they are many thousands."""

    def due() -> int:
        found: int = service.standin.webhooks(after=2**53)["due"]  # the count alone, and no attempts
        return found

    while left := due():
        eventually(
            lambda left=left: restart_ended() or due() < left,
            f"fewer than {left} webhooks are left",
        )


def _pay(service: Service, invoices: Iterable[str]) -> None:
    """As their customers do, after they were sent."""
    for invoice in invoices:
        at_stripe = service.row(Invoice, invoice).stripe_invoice
        service.by_hand(f"/v1/invoices/{at_stripe}/pay", "paid_out_of_band=true")
