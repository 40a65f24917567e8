"""Asking for invoices, and what one would come to, through the same functions as an application."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jobs.cli.acting import acting
from jobs.cli.amounts import is_whole, money
from jobs.cli.credit_notes import credit
from jobs.cli.from_file import alone, missing
from jobs.cli.invoice_actions import credit_void, mark_paid, mark_uncollectible, pay, void
from jobs.cli.invoice_capture import capture
from jobs.cli.invoice_captures import captures
from jobs.cli.invoice_many import issue_many
from jobs.cli.invoice_preview import preview
from jobs.cli.output import ASKING, Actor, AsJson, Reason, amount, print_json, print_line
from jobs.cli.requests import REQUEST_ID, Correlation, Timeout, Wait, answer

if TYPE_CHECKING:
    from billing import Line
    from billing.invoice_terms import Collect
    from jobs.bulk.invoices import InvoiceFile

FILE = typer.Option(
    metavar="FILE",
    help="The invoice, JSON or TOML (.toml): docs/moves/invoices.md lists the fields. Without the options for it.",
)


def add_to(app: typer.Typer) -> None:
    invoice = typer.Typer(
        no_args_is_help=True,
        help="Ask for an invoice, preview one, have a refused one made anew; charge, credit or void it, or give it up.",
    )
    invoice.command()(issue)
    invoice.command("issue-many")(issue_many)
    invoice.command()(preview)
    invoice.command()(credit)
    invoice.command("credit-void")(credit_void)
    invoice.command()(reopen)
    invoice.command()(capture)
    invoice.command()(captures)
    invoice.command()(pay)
    invoice.command("mark-paid")(mark_paid)
    invoice.command()(void)
    invoice.command("mark-uncollectible")(mark_uncollectible)
    app.add_typer(invoice, name="invoice", rich_help_panel=ASKING)


def issue(
    customer: Annotated[str | None, typer.Option(help="The Stripe customer, cus_...")] = None,
    line: Annotated[list[str] | None, typer.Option(help='"DESCRIPTION=MINOR UNITS"; repeat it for more lines.')] = None,
    currency: Annotated[str | None, typer.Option(help="ISO code, such as EUR.")] = None,
    days_until_due: Annotated[int | None, typer.Option(help="Days until it is due, 1 to 365.")] = None,
    charge: Annotated[bool, typer.Option("--charge", help="Stripe charges the customer, and sends nothing.")] = False,
    payment_method: Annotated[
        str | None, typer.Option(help="With --charge: pm_...; without it, the customer's default one.")
    ] = None,
    request_id: Annotated[str | None, REQUEST_ID] = None,
    from_file: Annotated[Path | None, FILE] = None,
    correlation_id: Correlation = None,
    actor: Actor = "",
    wait: Wait = False,
    timeout_s: Timeout = 120.0,
    as_json: AsJson = False,
) -> None:
    """Ask for an invoice to be drafted, filled, compared, finalized, and sent or charged by Stripe.

    With --from-file it may have all that an invoice has: quantities and prices by unit, taxes, discounts, credits,
    texts, up to 250 lines. --request-id may stand beside the file, or in it.

    \b
    Examples:
      billing invoice issue --customer cus_123 \\
          --line "3 seats=4500" --line "setup=1000" --currency EUR \\
          --days-until-due 14 --request-id sub-7-2026-11 --wait
      billing invoice issue --customer cus_123 \\
          --line "3 seats=4500" --currency EUR --charge \\
          --request-id sub-7-2026-12 --wait
      billing invoice issue --from-file invoice.json \\
          --request-id sub-7-2026-11
    """
    import billing

    if from_file is not None:
        alone(
            customer=customer,
            line=line,
            currency=currency,
            days_until_due=days_until_due,
            charge=charge,
            payment_method=payment_method,
        )
        asked = _in_file(from_file, request_id, correlation_id)
    else:
        if payment_method is not None and not charge:
            raise typer.BadParameter("--payment-method is of an invoice that Stripe charges: add --charge")
        if charge and days_until_due is not None:
            raise typer.BadParameter("--charge and --days-until-due exclude each other: it is charged, or sent")
        given: dict[str, object] = {"customer": customer, "line": line, "currency": currency}
        given |= {} if charge else {"days_until_due": days_until_due}
        if None in (*given.values(), request_id):
            raise missing("invoice issue", {**given, "request_id": request_id})
        collect = billing.ChargeAutomatically(payment_method) if charge else billing.SendInvoice(days_until_due)
        asked = _in_options(str(customer), line or [], str(currency), collect, str(request_id), correlation_id)
    how, request = asked.collect, asked.request_id
    assert how is not None, "both ways above say how it is collected"
    assert request is not None, "both ways above name the request"
    with acting("invoice issue", actor) as act:
        receipt = act.inside(
            lambda session: billing.issue_invoice(
                session,
                customer=asked.customer,
                lines=asked.lines,
                collect=how,
                request_id=request,
                correlation_id=asked.correlation_id,
                account=act.runtime.settings.stripe_account,
                actor=act.actor,
                currency=asked.currency,
                terms=asked.terms,
            ),
            about=lambda receipt: receipt.invoice_id,
            count=lambda receipt: int(receipt.new),
        )
        about = f"{_worth(asked)} to {asked.customer}"
        answer(act, receipt.invoice_id, about, receipt.new, wait=wait, timeout_s=timeout_s, as_json=as_json)


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


def _in_file(path: Path, request_id: str | None, correlation_id: str | None) -> "InvoiceFile":
    """What the file asks for, checked as a whole. What names the request may stand beside the file, once."""
    from dataclasses import replace

    from billing.invoice_requests import wanted_invoice
    from jobs.cli.invoice_file import read, told

    asked = read(path)
    for name, beside in (("request_id", request_id), ("correlation_id", correlation_id)):
        if beside is not None and getattr(asked, name) is not None:
            raise typer.BadParameter(f"--{name.replace('_', '-')} stands in {path.name}, too; keep one of them")
    asked = replace(
        asked, request_id=asked.request_id or request_id, correlation_id=asked.correlation_id or correlation_id
    )
    if asked.request_id is None:
        raise typer.BadParameter(f"--request-id is missing, and {path.name} has no request_id")
    collect = asked.collect
    if collect is None:
        raise typer.BadParameter(f"{path.name}: days_until_due or due_date is missing, or charge")
    told(path, lambda: wanted_invoice(asked.lines, collect, asked.currency, asked.terms))
    return asked


def _in_options(
    customer: str, line: list[str], currency: str, collect: "Collect", request_id: str, correlation_id: str | None
) -> "InvoiceFile":
    from billing.invoice_requests import NO_TERMS
    from jobs.bulk.invoices import InvoiceFile

    return InvoiceFile(
        customer=customer,
        lines=[_line(number, text, currency) for number, text in enumerate(line, start=1)],
        collect=collect,
        currency=None,
        request_id=request_id,
        correlation_id=correlation_id,
        terms=NO_TERMS,
    )


def _worth(asked: "InvoiceFile") -> str:
    """What the lines come to, as far as that is known here."""
    from billing.invoice_requests import wanted_invoice

    assert asked.collect is not None, "it was asked for"
    wanted = wanted_invoice(asked.lines, asked.collect, asked.currency, asked.terms)
    known = amount(wanted.known_minor, wanted.currency)
    return f"{known} before what Stripe reckons" if wanted.computed else known


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
