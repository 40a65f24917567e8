"""`billing invoice preview`: what an invoice would come to, with Stripe's taxes and discounts; nothing is created."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jobs.cli.output import AsJson, amount, print_error, print_json, print_line, print_table

if TYPE_CHECKING:
    from billing.invoice_preview import Preview

FILE = typer.Option(metavar="FILE", help="The invoice, JSON or TOML (.toml), as for `billing invoice issue`.")


def preview(from_file: Annotated[Path, FILE], as_json: AsJson = False) -> None:
    """Show what an invoice would come to: its lines, discount, tax and total. Nothing is created, here or at Stripe.

    Asks Stripe for a preview, with this process's BILLING_STRIPE_KEY. Exit status 1 if Stripe reckons otherwise than
    the file says: then the invoice would be refused before it is finalized.

    \b
    Examples:
      billing invoice preview --from-file invoice.json
      billing invoice preview --from-file invoice.toml --json
    """
    from billing.invoice_preview import preview as ask
    from billing.invoice_requests import wanted_invoice
    from billing.invoice_terms import SendInvoice
    from billing.reading import patient_readers
    from jobs.cli.invoice_file import read, told
    from jobs.cli.opening import open_process
    from jobs.config.secrets import check_stripe_key

    asked = read(from_file)
    # When it is due changes no amount.
    collect = asked.collect or SendInvoice(1)
    wanted = told(from_file, lambda: wanted_invoice(asked.lines, collect, asked.currency, asked.terms))
    process = open_process("cli")
    try:
        check_stripe_key(process.settings.stripe_key, process.settings)
        gateway, account = process.gateway(1), process.settings.stripe_account
        readers = patient_readers(gateway, process.call_settings)
        shown = ask(gateway, readers(account), account, asked.customer, wanted)
    finally:
        process.close()
    print_json(shown) if as_json else _show(shown)
    for each in shown.differs:
        print_error(f"it would be refused: {each}")
    if shown.differs:
        raise typer.Exit(1)


def _show(shown: "Preview") -> None:
    of = shown.currency
    rows = [
        (number, line.description, line.quantity, amount(line.minor, of))
        for number, line in enumerate(shown.lines, start=1)
    ]
    print_table("lines", ("", "description", "quantity", "amount"), rows)
    for name, minor in (
        ("subtotal", shown.subtotal_minor),
        ("discount", -shown.discount_minor),
        ("tax", shown.tax_minor),
        ("total", shown.total_minor),
    ):
        print_line(f"{name}: {amount(minor, of)}")
    print_line("Nothing was created.")
