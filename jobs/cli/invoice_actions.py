"""What is done with an invoice that has its number, through the same functions as an application."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from jobs.cli.acting import Acting, acting
from jobs.cli.output import Actor, AsJson
from jobs.cli.requests import REQUEST_ID, Correlation, Timeout, Wait, answer

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from billing import InvoiceActionReceipt

INVOICE = Annotated[str, typer.Argument(metavar="INV", help="inv_..., in_..., or its request id")]
RequestId = Annotated[str, REQUEST_ID]


def pay(
    invoice: INVOICE,
    request_id: RequestId,
    payment_method: Annotated[
        str | None, typer.Option(help="pm_...; without it, the invoice's own, or the customer's default one.")
    ] = None,
    correlation_id: Correlation = None,
    actor: Actor = "",
    wait: Wait = False,
    timeout_s: Timeout = 120.0,
    as_json: AsJson = False,
) -> None:
    """Charge an invoice once. A charge that is declined is not tried again: that is another request id.

    \b
    Examples:
      billing invoice pay inv_0198f0c2... --request-id sub-7-again --wait
      billing invoice pay sub-7-2026-11 --payment-method pm_123 \\
          --request-id sub-7-new-card
    """
    import billing

    asked = {"request_id": request_id, "correlation_id": correlation_id, "payment_method": payment_method}
    with acting("invoice pay", actor) as act:
        _ask(act, billing.pay_invoice, "a charge of", invoice, asked, wait=wait, timeout_s=timeout_s, as_json=as_json)


def mark_paid(
    invoice: INVOICE,
    request_id: RequestId,
    correlation_id: Correlation = None,
    actor: Actor = "",
    wait: Wait = False,
    timeout_s: Timeout = 120.0,
    as_json: AsJson = False,
) -> None:
    """Mark an invoice as paid out of band: the money came in another way, and nothing is charged.

    \b
    Example:
      billing invoice mark-paid inv_0198f0c2... --request-id sub-7-transfer
    """
    import billing

    asked = {"request_id": request_id, "correlation_id": correlation_id}
    with acting("invoice mark-paid", actor) as act:
        _ask(
            act,
            billing.mark_invoice_paid,
            "a payment out of band of",
            invoice,
            asked,
            wait=wait,
            timeout_s=timeout_s,
            as_json=as_json,
        )


def void(
    invoice: INVOICE,
    request_id: RequestId,
    correlation_id: Correlation = None,
    actor: Actor = "",
    wait: Wait = False,
    timeout_s: Timeout = 120.0,
    as_json: AsJson = False,
) -> None:
    """Void an invoice: it keeps its number, and cannot be paid any more. One that is paid is refunded instead.

    \b
    Example:
      billing invoice void inv_0198f0c2... --request-id sub-7-mistake --wait
    """
    import billing

    asked = {"request_id": request_id, "correlation_id": correlation_id}
    with acting("invoice void", actor) as act:
        _ask(act, billing.void_invoice, "a void of", invoice, asked, wait=wait, timeout_s=timeout_s, as_json=as_json)


def mark_uncollectible(
    invoice: INVOICE,
    request_id: RequestId,
    correlation_id: Correlation = None,
    actor: Actor = "",
    wait: Wait = False,
    timeout_s: Timeout = 120.0,
    as_json: AsJson = False,
) -> None:
    """Give an invoice up: it counts as bad debt at Stripe. It may still be paid, or voided.

    \b
    Example:
      billing invoice mark-uncollectible inv_0198f0c2... --request-id sub-7-lost
    """
    import billing

    asked = {"request_id": request_id, "correlation_id": correlation_id}
    with acting("invoice mark-uncollectible", actor) as act:
        _ask(
            act,
            billing.mark_invoice_uncollectible,
            "giving up of",
            invoice,
            asked,
            wait=wait,
            timeout_s=timeout_s,
            as_json=as_json,
        )


def credit_void(
    credit_note: Annotated[str, typer.Argument(metavar="CRN", help="crn_..., cn_..., or its request id")],
    request_id: RequestId,
    correlation_id: Correlation = None,
    actor: Actor = "",
    wait: Wait = False,
    timeout_s: Timeout = 120.0,
    as_json: AsJson = False,
) -> None:
    """Void a credit note: what it took off its invoice is due again. Stripe does so while the invoice is open.

    \b
    Example:
      billing invoice credit-void crn_0198f0c2... --request-id sub-7-no-less
    """
    import billing

    asked = {"request_id": request_id, "correlation_id": correlation_id}
    with acting("invoice credit-void", actor) as act:
        _ask(
            act,
            billing.void_credit_note,
            "a void of a credit note of",
            credit_note,
            asked,
            kind="credit_note",
            wait=wait,
            timeout_s=timeout_s,
            as_json=as_json,
        )


def _ask(
    act: Acting,
    ask: "Callable[..., InvoiceActionReceipt]",
    words: str,
    name: str,
    asked: Mapping[str, str | None],
    *,
    kind: str = "invoice",
    wait: bool,
    timeout_s: float,
    as_json: bool,
) -> None:
    """Ask for it and answer. `words`: what it is, before the invoice's id. `name`: of what, which is of this kind."""
    receipt = act.inside(
        lambda session: ask(session, actor=act.actor, **{kind: _found(session, name, kind)}, **asked),
        about=lambda receipt: receipt.action_id,
        count=lambda receipt: int(receipt.new),
    )
    about = f"{words} {receipt.invoice_id}"
    answer(act, receipt.action_id, about, receipt.new, wait=wait, timeout_s=timeout_s, as_json=as_json)


def _found(session: "Session", name: str, kind: str) -> str:
    """The operation of this kind that this name leads to. Raises BadParameter if there is none, or are several."""
    from billing.finding import find
    from billing.operations import operation_of

    found = find(session, name)
    wanted = [each for each in found if operation_of(each).kind == kind]
    if not wanted:
        raise typer.BadParameter(f"{name} leads to {found[0]}, which is no {kind.replace('_', ' ')}")
    if len(wanted) > 1:
        raise typer.BadParameter(f"{name} leads to {', '.join(wanted)}: name one of them")
    return wanted[0]
