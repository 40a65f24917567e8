"""`billing invoice credit`: asking for a credit note, or what one would come to, as an application does."""

import re
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jobs.cli.acting import acting
from jobs.cli.amounts import minor_units, money
from jobs.cli.from_file import missing
from jobs.cli.output import Actor, AsJson, amount, print_error, print_json, print_line
from jobs.cli.requests import REQUEST_ID, Correlation, Timeout, Wait, answer

if TYPE_CHECKING:
    from billing import CreditLine
    from billing.credit_note_preview import CreditPreview


def credit(
    invoice: Annotated[str, typer.Argument(metavar="ID", help="inv_..., in_..., or a request id")],
    settle: Annotated[
        str,
        typer.Option(help="reduce (an open invoice); of a paid one balance, out_of_band or refund."),
    ],
    amount_minor: Annotated[
        int | None,
        typer.Option(
            "--amount-minor",
            "--amount",
            parser=minor_units,
            metavar="MINOR_UNITS",
            help="In minor units of the invoice's currency: 500 is 5.00 EUR.",
        ),
    ] = None,
    line: Annotated[
        list[str] | None,
        typer.Option(
            help='Instead: "POSITION=MINOR UNITS" or "POSITIONxQUANTITY", from 0; repeat it for more lines. Of an '
            "invoice with taxes or discounts, beside --amount: what they come to with these."
        ),
    ] = None,
    credit_reason: Annotated[
        str | None,
        typer.Option(help="For Stripe: duplicate, fraudulent, order_change or product_unsatisfactory."),
    ] = None,
    memo: Annotated[
        str | None, typer.Option(help="A text for the customer, on the note; up to 1,500 characters.")
    ] = None,
    request_id: Annotated[str | None, REQUEST_ID] = None,
    preview: Annotated[bool, typer.Option("--preview", help="Only show what it would come to at Stripe.")] = False,
    correlation_id: Correlation = None,
    actor: Actor = "",
    wait: Wait = False,
    timeout_s: Timeout = 120.0,
    as_json: AsJson = False,
) -> None:
    """Ask for an amount to be taken off an invoice that was issued: a credit note. Workers carry the request out.

    Of an open invoice less is due then. What was paid becomes the customer's credit at Stripe, is given back outside of
    Stripe, or is refunded: then the refund is asked for, too, and the note comes after it. Postgres refuses more than
    was invoiced or paid, all refunds and notes together.

    With --preview nothing is created, here or at Stripe; exit status 1 if Stripe reckons otherwise than would be asked
    for.

    \b
    Examples:
      billing invoice credit inv_0198f0c2... --amount 500 \\
          --settle refund --request-id sub-7-return --wait
      billing invoice credit sub-7-2026-11 --line "0x1" --line "2=300" \\
          --settle reduce --credit-reason order_change \\
          --request-id sub-7-less
      billing invoice credit sub-7-2026-11 --amount 500 --settle balance --preview
    """
    import billing

    if amount_minor is None and not line:
        raise typer.BadParameter("give --amount or --line")
    if preview:
        _preview(invoice, settle, amount_minor, line or [], credit_reason, as_json=as_json)
        return
    if request_id is None:
        raise missing("invoice credit", {"request_id": request_id})
    with acting("invoice credit", actor) as act:
        own, currency = _found(act.runtime, invoice)
        asked = _asked(amount_minor, line or [], currency)
        given: dict[str, Any] = {"reason": credit_reason, "settle": settle, "memo": memo}
        receipt = act.inside(
            lambda session: billing.issue_credit_note(
                session,
                invoice=own,
                **asked,
                **given,
                request_id=request_id,
                correlation_id=correlation_id,
                actor=act.actor,
            ),
            about=lambda receipt: receipt.credit_note_id,
            count=lambda receipt: int(receipt.new),
        )
        about = f"{receipt.amount} off {own}" + (f", after {receipt.refund_id}" if receipt.refund_id else "")
        answer(act, receipt.credit_note_id, about, receipt.new, wait=wait, timeout_s=timeout_s, as_json=as_json)


def _asked(amount_minor: int | None, lines: list[str], currency: str) -> dict[str, Any]:
    asked: dict[str, Any] = {} if amount_minor is None else {"amount": money(amount_minor, currency)}
    named = [_line(number, text, currency) for number, text in enumerate(lines, start=1)]
    return {**asked, "lines": named} if named else asked


def _line(number: int, text: str, currency: str) -> "CreditLine":
    import billing

    found = re.fullmatch(r"([0-9]{1,3})([=x])([0-9]{1,12})", text.strip())
    if found is None:
        raise typer.BadParameter(f"--line {number} is not POSITION=MINOR_UNITS or POSITIONxQUANTITY, such as 0=500")
    position, way, value = int(found[1]), found[2], int(found[3])
    if way == "x":
        return billing.CreditLine(position, quantity=value)
    return billing.CreditLine(position, money(value, currency, amount_as=f"--line {number}: the amount"))


def _found(runtime: Any, name: str) -> tuple[str, str]:
    """The invoice that this name leads to, and its currency."""
    from sqlalchemy import select

    from billing.finding import find
    from billing.operations import operation_of
    from billing.tables.entities import Invoice
    from jobs.process.patience import patiently

    found = patiently(runtime, lambda session: find(session, name))
    # The same request id may name a capture, too.
    own = next((each for each in found if operation_of(each).table is Invoice), None)
    if own is None:
        raise typer.BadParameter(f"{name} leads to {found[0]}; only an invoice is credited")
    currency = patiently(runtime, lambda session: session.scalar(select(Invoice.currency).where(Invoice.id == own)))
    return own, str(currency)


def _preview(
    name: str, settle: str, amount_minor: int | None, lines: list[str], reason: str | None, *, as_json: bool
) -> None:
    from billing.credit_note_preview import preview
    from billing.credit_note_requests import known_words
    from billing.creditable import check_state, credited_amount, credited_invoice
    from billing.reading import patient_readers
    from jobs.cli.opening import open_process, opened
    from jobs.config.secrets import check_stripe_key
    from jobs.process.patience import patiently

    known_words(settle, reason)
    with opened() as runtime:
        own, currency = _found(runtime, name)
        asked = _asked(amount_minor, lines, currency)
        of = patiently(runtime, lambda session: credited_invoice(session, None, own))
        check_state(of, settle)
        # Of an open invoice it shows what lines come to that nobody has reckoned.
        unknown = of.computed and amount_minor is None and settle == "reduce"
        of_lines = of._replace(computed=of.computed and not unknown)
        minor, named = patiently(
            runtime, lambda session: credited_amount(session, of_lines, asked.get("amount"), asked.get("lines"))
        )
    process = open_process("cli")
    try:
        check_stripe_key(process.settings.stripe_key, process.settings)
        readers = patient_readers(process.gateway(1), process.call_settings)
        shown = preview(readers(of.account), of, None if unknown else minor, named, settle, reason)
    finally:
        process.close()
    print_json(shown) if as_json else _show(shown)
    if shown.differs:
        print_error(f"Stripe reckons otherwise than would be asked for, which is {minor}")
        raise typer.Exit(1)


def _show(shown: "CreditPreview") -> None:
    print_line(f"credit note: {amount(shown.minor, shown.currency)}")
    print_line(f"less is due: {amount(shown.reduces_due_minor, shown.currency)}")
    print_line(f"of what was paid: {amount(shown.of_what_was_paid_minor, shown.currency)}")
    print_line("Nothing was created.")
