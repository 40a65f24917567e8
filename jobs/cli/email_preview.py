"""`billing email preview`: one e-mail in a file, with a file's values or with an invoice as Stripe has it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jobs.cli.output import AsJson, print_json, print_line

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from jobs.config.settings import Settings

READ_S = 20.0
"""So long an invoice may take to be read, all pages of its lines together."""

Template = Annotated[
    str, typer.Argument(metavar="TEMPLATE", help="invoice, capture_receipt, refund_made, or one of yours.")
]
Data = Annotated[
    Path,
    typer.Option(
        "--data", metavar="FILE", help='JSON: what it is about, as {"amount": {"minor": 1999, "currency": "EUR"}}.'
    ),
]
Language = Annotated[str | None, typer.Option("--locale", help="As de, pt_BR; without it, the recipient's own.")]


def preview(
    template: Template,
    to_file: Annotated[Path, typer.Option(metavar="FILE", help="Where the page is written; .txt, the text instead.")],
    data: Annotated[Path | None, typer.Option(metavar="FILE", help="JSON: what it is about, as for `send`.")] = None,
    locale: Language = None,
    name: Annotated[str, typer.Option(help="The name of the recipient, as Stripe has it.")] = "",
    invoice: Annotated[
        Path | None, typer.Option(metavar="FILE", help="JSON: the invoice to show, as Stripe's API shows it.")
    ] = None,
    of: Annotated[
        str | None,
        typer.Option(
            metavar="ID",
            help="in_...: an invoice, read from Stripe with BILLING_STRIPE_KEY; cap_... or ref_...: its receipt.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Render one e-mail into a file, with the templates of BILLING_EMAIL_TEMPLATES. Nothing is sent.

    Nothing is read but the files that are named; with --of, also an invoice at Stripe, or a capture or a refund here.

    \b
    Examples:
      billing email preview refund_made --data refund.json --locale ar --to-file /tmp/refund.html
      billing email preview invoice --of in_1PqR... --to-file /tmp/invoice.html
      billing email preview capture_receipt --of cap_0198f0c2... --to-file /tmp/receipt.html
    """
    from archive.files import write_file
    from billing.emails import bounded
    from jobs.config.loading import load
    from jobs.config.sources import SettingsError

    try:
        from jobs.email.invoices import SHOWN
        from jobs.email.messages import sender
        from jobs.email.rendering import NotRendered, Templates
    except ImportError:
        raise SettingsError("e-mails need the extra `email`: pip install 'billing-reference[email]'") from None
    if of is not None and invoice is not None:
        raise typer.BadParameter("give --of or --invoice, not both")
    settings = load()
    sent_by = sender(settings.email_from or "Example <billing@example.com>")
    templates = Templates(settings.email_templates)
    about = {} if data is None else read_json(data)
    of_ours = of is not None and of.startswith(("cap_", "ref_"))
    if of is not None:
        about = {**(_receipt(of) if of_ours else {SHOWN: of}), **about}
    try:
        rendered = templates.render(
            template,
            data=bounded(about),
            locale=locale,
            sender=sent_by.display_name or sent_by.domain,
            name=name,
            invoice=_at_stripe(settings, of) if of is not None and not of_ours else _in_file(invoice),
        )
    except NotRendered as error:
        known = ", ".join(templates.names())
        raise typer.BadParameter(f"{template} is not rendered: {error}. There are: {known}") from None
    page = rendered.text if to_file.suffix == ".txt" else rendered.html
    write_file("--to-file", to_file, lambda there: there.write_text(page, encoding="utf-8"))
    if as_json:
        print_json({"subject": rendered.subject, "locale": rendered.locale, "file": str(to_file)})
    else:
        print_line(f"{rendered.subject} ({rendered.locale}): {to_file}")


def _receipt(of: str) -> dict[str, Any]:
    """What the receipt of this capture or refund of ours shows. Raises UnknownEntity."""
    from billing import receipts
    from billing.errors import UnknownEntity
    from billing.operations import operation_of
    from jobs.cli.opening import opened
    from jobs.process.patience import patiently

    def read(session: "Session") -> dict[str, Any]:
        row = session.get(operation_of(of).table, of)
        if row is None:
            raise UnknownEntity(of)
        return receipts.data_of(row)

    with opened() as runtime:
        return patiently(runtime, read)


def _at_stripe(settings: "Settings", of: str) -> Any:
    """The invoice as a worker would read it for this e-mail."""
    from billing.gateway import Budget, boot_clock
    from jobs.cli.opening import open_process
    from jobs.config.secrets import check_stripe_key
    from jobs.email.invoices import read
    from jobs.email.recipients import Unresolved

    process = open_process("cli")
    try:
        check_stripe_key(process.settings.stripe_key, process.settings)
        until = boot_clock() + READ_S
        return read(process.gateway(1), of, "", settings.stripe_account, Budget(until, until))
    except Unresolved as error:
        answer = error.answer
        raise typer.BadParameter(f"--of: {getattr(answer, 'error_code', None) or 'invoice_not_read'}") from None
    finally:
        process.close()


def _in_file(path: Path | None) -> Any:
    from jobs.email.invoices import shown_of
    from jobs.email.recipients import Unresolved

    if path is None:
        return None
    data = read_json(path, "--invoice")
    try:
        return shown_of(data, data["lines"]["data"])
    except (Unresolved, TypeError, KeyError, AttributeError):
        raise typer.BadParameter("--invoice: the file holds no invoice as Stripe's API shows it") from None


def read_json(path: Path, option: str = "--data") -> Any:
    """What the file holds. Raises typer.BadParameter, which names the option."""
    import json

    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise typer.BadParameter(f"{option}: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise typer.BadParameter(f"{option}: the file holds no JSON") from None
