"""Asking for refunds, and for a capture to be undone, through the same functions as an application."""

from collections.abc import Sequence
from typing import Annotated

import typer

from jobs.cli.acting import acting
from jobs.cli.amounts import minor_units, money
from jobs.cli.bulk import ask_for
from jobs.cli.from_file import FromFile, alone, from_file, missing
from jobs.cli.output import ASKING, Actor, AsJson, Reason
from jobs.cli.requests import REQUEST_ID, Correlation, Timeout, Wait, answer
from jobs.cli.shared_options import options_of


def add_to(app: typer.Typer) -> None:
    app.command(rich_help_panel=ASKING)(refund)
    app.command(rich_help_panel=ASKING)(compensate)


RefundReason = Annotated[
    str | None,
    typer.Option(help="For Stripe: duplicate, fraudulent (also blocks the card) or requested_by_customer."),
]


@options_of(from_file)
def refund(
    file: FromFile,
    capture: Annotated[str | None, typer.Option(help="The capture, cap_...")] = None,
    payment_intent: Annotated[str | None, typer.Option(help="Or its PaymentIntent, pi_...")] = None,
    charge: Annotated[str | None, typer.Option(help="Or its charge, ch_...")] = None,
    invoice: Annotated[str | None, typer.Option(help="Or a paid invoice, inv_...")] = None,
    amount_minor: Annotated[
        int | None,
        typer.Option(
            "--amount-minor",
            "--amount",
            parser=minor_units,
            metavar="MINOR_UNITS",
            help="In minor units: 500 is 5.00 USD. Without it, all that is left.",
        ),
    ] = None,
    currency: Annotated[str | None, typer.Option(help="ISO code of the amount, such as USD.")] = None,
    refund_reason: RefundReason = None,
    request_id: Annotated[str | None, REQUEST_ID] = None,
    correlation_id: Correlation = None,
    actor: Actor = "",
    wait: Wait = False,
    timeout_s: Timeout = 120.0,
    as_json: AsJson = False,
) -> None:
    """Ask for money of one capture, or of a paid invoice, to be given back. Workers carry the request out.

    Name the capture, its PaymentIntent or its charge; or the invoice, whose payment is read from Stripe. Postgres
    refuses more than was captured or invoiced, all refunds together. A bank may take days; the state is `pending` until
    then.

    With --from-file ask for each row of a file, with the columns capture, payment_intent or charge, and, if you like,
    amount (empty: all that is left), currency, reason (Stripe's), request_id, correlation_id and account. A row with an
    amount needs a request_id. There, --reason says why the file is asked for: docs/moves/bulk.md.

    \b
    Examples:
      billing refund --capture cap_0198f0c2... --request-id order-42-return
      billing refund --payment-intent pi_123 --amount 500 \\
          --currency USD --request-id order-42-discount --wait
      billing refund --invoice inv_0198f0c2... --request-id sub-7-return
      billing refund --from-file returns.csv --reason "OPS-7"
    """
    import billing

    if file.path is not None:
        alone(capture=capture, payment_intent=payment_intent, charge=charge, invoice=invoice)
        alone(amount=amount_minor, currency=currency)
        alone(refund_reason=refund_reason, request_id=request_id, correlation_id=correlation_id, wait=wait)
        with acting("refund", actor, file.reason) as act:
            ask_for(act, "refund", file, as_json=as_json)
        return
    if request_id is None:
        raise missing("refund", {"request_id": request_id})
    _check(refund_reason)
    if (amount_minor is None) != (currency is None):
        raise typer.BadParameter("--amount and --currency belong together; write both, or neither for all that is left")
    asked = None if amount_minor is None or currency is None else money(amount_minor, currency)
    with acting("refund", actor, file.reason) as act:
        receipt = act.inside(
            lambda session: billing.request_refund(
                session,
                capture=capture,
                payment_intent=payment_intent,
                charge=charge,
                invoice=invoice,
                amount=asked,
                reason=refund_reason,
                request_id=request_id,
                correlation_id=correlation_id,
                account=act.runtime.settings.stripe_account,
                actor=act.actor,
            ),
            about=lambda receipt: receipt.refund_id,
            count=lambda receipt: int(receipt.new),
        )
        about = f"{receipt.amount} of {capture or payment_intent or charge or invoice}"
        answer(act, receipt.refund_id, about, receipt.new, wait=wait, timeout_s=timeout_s, as_json=as_json)


def compensate(
    name: Annotated[str, typer.Argument(metavar="ID", help="cap_..., or another id that leads to one capture")],
    reason: Reason,
    refund_reason: RefundReason = None,
    actor: Actor = "",
    wait: Wait = False,
    timeout_s: Timeout = 120.0,
    as_json: AsJson = False,
) -> None:
    """Undo a capture that nobody wants any more: give back all that is left of what it took, once that is proven.

    A capture that was not sent yet is withdrawn, and takes nothing. Otherwise the refund waits for its end, also while
    it is in doubt; if nothing was taken, the refund ends as refused. Asked for twice, it is done once.

    \b
    Examples:
      billing compensate cap_0198f0c2... --reason "order 42 was canceled"
      billing compensate order-42 --reason "OPS-7" --wait
    """
    import billing
    from billing.finding import find
    from jobs.process.patience import patiently

    _check(refund_reason)
    with acting("compensate", actor, reason) as act:
        capture = _one_capture(name, patiently(act.runtime, lambda session: find(session, name)))
        receipt = act.inside(
            lambda session: billing.compensate(session, capture, reason=refund_reason, actor=act.actor),
            about=lambda receipt: receipt.refund_id,
            count=lambda receipt: int(receipt.new),
        )
        about = f"{receipt.amount} of {capture}, once it is captured"
        answer(act, receipt.refund_id, about, receipt.new, wait=wait, timeout_s=timeout_s, as_json=as_json)


def _check(refund_reason: str | None) -> None:
    from billing.tables.entities import REFUND_REASONS

    if refund_reason is not None and refund_reason not in REFUND_REASONS:
        raise typer.BadParameter(f"--refund-reason must be one of {', '.join(REFUND_REASONS)}")


def _one_capture(name: str, found: Sequence[str]) -> str:
    """The capture that this name leads to. Raises BadParameter that says what undoes another kind of operation."""
    from billing.operations import operation_of

    captures = [each for each in found if operation_of(each).compensation.by is not None]
    if not captures:
        first = operation_of(found[0])
        raise typer.BadParameter(f"{found[0]} is a {first.kind}; what undoes it: {first.compensation.what}")
    if len(captures) > 1:
        raise typer.BadParameter(f"{name} leads to several captures: {', '.join(captures)}; name one")
    return captures[0]
