"""Asking for captures and invoices, and the status of what was asked, through the same functions as an application."""

import time
from typing import TYPE_CHECKING, Annotated, cast

import typer

from jobs.cli.acting import acting
from jobs.cli.amounts import is_whole, minor_units, money
from jobs.cli.bulk import ask_for
from jobs.cli.capture_terms import Descriptor, Fee, Metadata, Rest, Suffix, Transfer, terms_of
from jobs.cli.from_file import FromFile, alone, from_file, missing
from jobs.cli.output import ASKING, Actor, AsJson, Reason, amount, clock, print_error, print_json, print_line
from jobs.cli.shared_options import options_of

if TYPE_CHECKING:
    from billing import Line, Status
    from billing.capture_terms import Remainder
    from jobs.process.runtime import Runtime

REQUEST_ID = typer.Option(help="Your own name for this request. Asking again with the same one asks for nothing new.")
RequestId = Annotated[str, REQUEST_ID]
Correlation = Annotated[str | None, typer.Option(help="An id for facts and logs; by default the request id.")]
Wait = Annotated[
    bool,
    typer.Option("--wait", help="Wait until it is final, or an operator has to act. Exit status 1 if it failed."),
]
Timeout = Annotated[float, typer.Option("--timeout", metavar="SECONDS", min=0, help="How long to wait at most.")]
POLL_S = 0.1


def add_to(app: typer.Typer) -> None:
    invoice = typer.Typer(no_args_is_help=True, help="Ask for an invoice, or have a refused one made again.")
    invoice.command()(issue)
    invoice.command()(reopen)
    app.command(rich_help_panel=ASKING)(capture)
    app.command(rich_help_panel=ASKING)(status)
    app.add_typer(invoice, name="invoice", rich_help_panel=ASKING)


@options_of(from_file)
def capture(
    file: FromFile,
    payment_intent: Annotated[str | None, typer.Option(help="The authorized PaymentIntent, pi_...")] = None,
    amount_minor: Annotated[
        int | None,
        typer.Option(
            "--amount-minor",
            "--amount",
            parser=minor_units,
            metavar="MINOR_UNITS",
            help="In minor units: 1999 is 19.99 USD, 500 is 500 JPY.",
        ),
    ] = None,
    currency: Annotated[str | None, typer.Option(help="ISO code, such as USD.")] = None,
    request_id: Annotated[str | None, REQUEST_ID] = None,
    remainder: Rest = "release",
    application_fee: Fee = None,
    transfer: Transfer = None,
    statement_descriptor: Descriptor = None,
    statement_descriptor_suffix: Suffix = None,
    metadata: Metadata = None,
    correlation_id: Correlation = None,
    actor: Actor = "",
    wait: Wait = False,
    timeout_s: Timeout = 120.0,
    as_json: AsJson = False,
) -> None:
    """Ask for an authorization to be captured, in full or in part. Workers carry the request out.

    With --from-file ask for each row of a file, CSV or JSON lines, with the columns payment_intent, amount (19.99 USD,
    or minor units beside the column currency), and, if you like, request_id, correlation_id and account. Every row is
    checked first, and nothing is asked for if one is bad. If it is interrupted, the same command goes on where it
    stands, and asks for nothing twice: docs/moves/bulk.md.

    \b
    Examples:
      billing capture --payment-intent pi_123 --amount 1999 \\
          --currency USD --request-id order-42 --wait
      billing capture --payment-intent pi_123 --amount 700 \\
          --currency USD --request-id order-42-first-parcel --remainder keep
      billing capture --from-file orders.csv --dry-run
      billing capture --from-file orders.csv --reason "OPS-7" --confirm 1200
    """
    import billing

    if file.path is not None:
        alone(payment_intent=payment_intent, amount=amount_minor, currency=currency, request_id=request_id)
        alone(correlation_id=correlation_id, wait=wait, remainder=remainder != "release", metadata=metadata)
        alone(application_fee=application_fee, transfer=transfer, statement_descriptor=statement_descriptor)
        alone(statement_descriptor_suffix=statement_descriptor_suffix)
        with acting("capture", actor, file.reason) as act:
            ask_for(act, "capture", file, as_json=as_json)
        return
    if payment_intent is None or amount_minor is None or currency is None or request_id is None:
        given = {"payment_intent": payment_intent, "amount": amount_minor, "currency": currency}
        raise missing("capture", {**given, "request_id": request_id})
    amount_asked = money(amount_minor, currency)
    terms = terms_of(currency, application_fee, transfer, statement_descriptor, statement_descriptor_suffix, metadata)
    with acting("capture", actor, file.reason) as act:
        receipt = act.inside(
            lambda session: billing.request_capture(
                session,
                payment_intent=payment_intent,
                amount=amount_asked,
                request_id=request_id,
                correlation_id=correlation_id,
                account=act.runtime.settings.stripe_account,
                actor=act.actor,
                # Any text may be typed here; it is checked there.
                remainder=cast("Remainder", remainder),
                terms=terms,
            ),
            about=lambda receipt: receipt.capture_id,
            count=lambda receipt: int(receipt.new),
        )
        if not as_json:
            print_line(
                f"{receipt.capture_id}: {amount_asked} of {payment_intent}"
                + ("" if receipt.new else ", asked for before")
            )
        report(act.runtime, receipt.capture_id, wait, timeout_s, as_json)


def issue(
    customer: Annotated[str, typer.Option(help="The Stripe customer, cus_...")],
    line: Annotated[list[str], typer.Option(help='"DESCRIPTION=MINOR UNITS"; repeat it for more lines.')],
    currency: Annotated[str, typer.Option(help="ISO code, such as EUR.")],
    days_until_due: Annotated[int, typer.Option(help="Days until it is due, 1 to 365.")],
    request_id: RequestId,
    correlation_id: Correlation = None,
    actor: Actor = "",
    wait: Wait = False,
    timeout_s: Timeout = 120.0,
    as_json: AsJson = False,
) -> None:
    """Ask for an invoice to be drafted, filled, compared, finalized and sent by Stripe.

    \b
    Example:
      billing invoice issue --customer cus_123 \\
          --line "3 seats=4500" --line "setup=1000" --currency EUR \\
          --days-until-due 14 --request-id sub-7-2026-11 --wait
    """
    import billing

    lines = [_line(number, text, currency) for number, text in enumerate(line, start=1)]
    with acting("invoice issue", actor) as act:
        receipt = act.inside(
            lambda session: billing.issue_invoice(
                session,
                customer=customer,
                lines=lines,
                collect=billing.SendInvoice(days_until_due),
                request_id=request_id,
                correlation_id=correlation_id,
                account=act.runtime.settings.stripe_account,
                actor=act.actor,
            ),
            about=lambda receipt: receipt.invoice_id,
            count=lambda receipt: int(receipt.new),
        )
        if not as_json:
            total = amount(sum(each.amount.minor for each in lines), lines[0].amount.currency)
            print_line(f"{receipt.invoice_id}: {total} to {customer}" + ("" if receipt.new else ", asked for before"))
        report(act.runtime, receipt.invoice_id, wait, timeout_s, as_json)


def reopen(
    invoice: Annotated[str, typer.Argument(metavar="ID", help="inv_..., in_..., or a request id")],
    reason: Reason,
    actor: Actor = "",
    as_json: AsJson = False,
) -> None:
    """Have a refused invoice made again, under a new key. Actor and reason are stored in a fact.

    First correct what made Stripe refuse it, such as a total that differs or a customer that is gone. The first draft
    was deleted, or never made.

    \b
    Example:
      billing invoice reopen inv_0198f0c2... \\
          --reason "tax is switched off at Stripe now"
    """
    from billing.finding import find
    from billing.operations import operation_of
    from jobs.process.patience import patiently
    from jobs.road.quarantine import reopen_invoice

    with acting("invoice reopen", actor, reason) as act:
        found = patiently(act.runtime, lambda session: find(session, invoice))
        # The same request id may name a capture, too.
        invoice_id = next((each for each in found if operation_of(each).reopen is not None), None)
        if invoice_id is None:
            raise typer.BadParameter(f"{invoice} is the capture {found[0]}; only an invoice is made again")
        replayed = act.inside(
            lambda session: reopen_invoice(session, invoice_id, actor=act.actor, reason=reason), about=invoice_id
        )
    print_json(replayed) if as_json else print_line(f"{invoice_id} is reopened: {'; '.join(replayed.done)}")


def status(
    name: Annotated[
        str,
        typer.Argument(
            metavar="ID", help="cap_..., void_..., ref_..., inv_..., eml_..., pi_..., in_... or a request id"
        ),
    ],
    wait: Wait = False,
    timeout_s: Timeout = 120.0,
    as_json: AsJson = False,
) -> None:
    """Show the state of a capture, a void, a refund, an invoice or an e-mail, since when, and what happens next.

    \b
    Examples:
      billing status cap_0198f0c2...
      billing status order-42 --wait
    """
    from billing.finding import find
    from jobs.cli.opening import opened
    from jobs.process.patience import patiently

    with opened() as runtime:
        entity_id = patiently(runtime, lambda session: find(session, name)[0])
        report(runtime, entity_id, wait, timeout_s, as_json)


def report(runtime: "Runtime", entity_id: str, wait: bool, timeout_s: float, as_json: bool) -> None:
    """Show the status; with `wait`, once it is final or stuck. Exits with 1 if it did not succeed."""
    import billing
    from jobs.process.patience import patiently

    began, shown = time.monotonic(), ""
    while True:
        now = patiently(runtime, lambda session: billing.status(session, entity_id))
        if now.final or not wait or _stuck(now) or time.monotonic() > began + timeout_s:
            break
        line = f"{now.state}: {now.next}"
        if line != shown:
            print_error(f"  {time.monotonic() - began:5.1f} s  {line}")
            shown = line
        time.sleep(POLL_S)
    if as_json:
        print_json(now)
    else:
        _show(now)
    if wait and _stuck(now):
        print_error(f"waiting does not help; next: {now.next}")
    elif wait and not now.final:
        print_error(f"not final after {timeout_s:g} s; next: {now.next}{_missing(now.next)}")
    if wait and now.state not in ("captured", "voided", "succeeded", "sent", "paid"):
        raise typer.Exit(1)


def _show(now: "Status") -> None:
    print_line(f"{now.id}: {now.state}, since {clock(now.since)} UTC" + (f" ({now.reason})" if now.reason else ""))
    print_line(f"next: {now.next}")


def _stuck(now: "Status") -> bool:
    """It stays as it is until an operator acts: decides, releases a switch, or installs a newer worker."""
    if now.final:
        return False
    return now.needs_decision or now.next.startswith("nothing until")


def _missing(what_is_next: str) -> str:
    for process in ("relay", "worker"):
        if what_is_next.startswith(f"a {process} "):
            return f"; is a {process} running?"
    return ""


def _line(number: int, text: str, currency: str) -> "Line":
    """The line of an invoice. An error names it by its number, because its text may name a person."""
    import billing
    from billing.errors import InvalidText

    description, equals, minor = text.rpartition("=")
    option = f"--line {number}"
    if not equals or not is_whole(minor):
        raise typer.BadParameter(f"{option} is not DESCRIPTION=MINOR_UNITS, such as '3 seats=4500'")
    try:
        return billing.Line(description.strip(), money(int(minor), currency, amount_as=f"{option}: the amount"))
    except InvalidText as error:
        raise typer.BadParameter(f"{option}: {error}") from None
