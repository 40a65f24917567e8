"""E-mails: ask for one, see one without sending it, list those that were not sent, and read what came back."""

from pathlib import Path
from typing import Annotated, Any

import typer

from jobs.cli.acting import acting
from jobs.cli.email_bounces import bounces
from jobs.cli.output import ASKING, Actor, AsJson, clock, print_json, print_line
from jobs.cli.requests import Correlation, RequestId, Timeout, Wait, answer

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


def add_to(app: typer.Typer) -> None:
    email = typer.Typer(
        no_args_is_help=True, help="Ask for an e-mail, preview one, list those that were not sent, and read bounces."
    )
    email.command()(send)
    email.command()(preview)
    email.command("list")(list_emails)
    email.command()(bounces)
    app.add_typer(email, name="email", rich_help_panel=ASKING)


def send(
    template: Template,
    to: Annotated[str, typer.Option(help="A customer at Stripe, cus_..., or an id of your application's; no address.")],
    data: Data,
    request_id: RequestId,
    locale: Language = None,
    correlation_id: Correlation = None,
    actor: Actor = "",
    wait: Wait = False,
    timeout_s: Timeout = 120.0,
    as_json: AsJson = False,
) -> None:
    """Ask for one e-mail to one recipient. A worker reads the address, renders the template and hands it over.

    It is sent once. If no answer to the whole message comes, nobody knows whether it was taken; it is then never sent
    again by a machine: docs/moves/email.md.

    \b
    Example:
      billing email send refund_made --to cus_123 --data refund.json \\
          --request-id refund-42-mail --wait
    """
    import billing

    with acting("email send", actor) as act:
        about = _read(data)
        receipt = act.inside(
            lambda session: billing.request_email(
                session,
                template=template,
                to=to,
                data=about,
                locale=locale,
                request_id=request_id,
                correlation_id=correlation_id,
                account=act.runtime.settings.stripe_account,
                actor=act.actor,
            ),
            about=lambda receipt: receipt.email_id,
            count=lambda receipt: int(receipt.new),
        )
        told = f"{template} to {to}"
        answer(act, receipt.email_id, told, receipt.new, wait=wait, timeout_s=timeout_s, as_json=as_json)


def preview(
    template: Template,
    data: Data,
    to_file: Annotated[Path, typer.Option(metavar="FILE", help="Where the page is written; .txt, the text instead.")],
    locale: Language = None,
    name: Annotated[str, typer.Option(help="The name of the recipient, as Stripe has it.")] = "",
    invoice: Annotated[
        Path | None, typer.Option(metavar="FILE", help="JSON: the invoice to show, as Stripe's API shows it.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Render one e-mail into a file, with the templates of BILLING_EMAIL_TEMPLATES. Nothing is sent, and nothing read.

    \b
    Example:
      billing email preview invoice_sent --data invoice.json \\
          --locale ar --to-file /tmp/invoice.html
    """
    from billing.emails import bounded
    from jobs.config.loading import load
    from jobs.config.sources import SettingsError

    try:
        from jobs.email.messages import sender
        from jobs.email.rendering import NotRendered, Templates
    except ImportError:
        raise SettingsError("e-mails need the extra `email`: pip install 'billing-reference[email]'") from None
    settings = load()
    sent_by = sender(settings.email_from or "Example <billing@example.com>")
    templates = Templates(settings.email_templates)
    try:
        rendered = templates.render(
            template,
            data=bounded(_read(data)),
            locale=locale,
            sender=sent_by.display_name or sent_by.domain,
            name=name,
            invoice=_shown(invoice) if invoice is not None else None,
        )
    except NotRendered as error:
        known = ", ".join(templates.names())
        raise typer.BadParameter(f"{template} is not rendered: {error}. There are: {known}") from None
    try:
        to_file.write_text(rendered.text if to_file.suffix == ".txt" else rendered.html, encoding="utf-8")
    except OSError as error:
        raise typer.BadParameter(f"--to-file: {error.strerror}") from None
    if as_json:
        print_json({"subject": rendered.subject, "locale": rendered.locale, "file": str(to_file)})
    else:
        print_line(f"{rendered.subject} ({rendered.locale}): {to_file}")


def list_emails(
    state: Annotated[str, typer.Option(help="requested, sent, bounced, complained or refused.")] = "refused",
    bounced: Annotated[bool, typer.Option("--bounced", help="Those that bounced, or were complained about.")] = False,
    most: Annotated[int, typer.Option("--most", min=1, max=10_000, help="So many, the newest first.")] = 50,
    as_json: AsJson = False,
) -> None:
    """List e-mails by their state: by default those that were refused, each a task for a person.

    Mend what the reason names, such as the customer's address at Stripe, and have the application ask again under a new
    request id. Undecided ones: billing quarantine list --undecided.

    \b
    Examples:
      billing email list
      billing email list --bounced
      billing email list --state requested --most 10
    """
    from sqlalchemy import literal_column, select

    from billing.states import EMAIL, EmailState
    from billing.tables.entities import Email
    from jobs.cli.opening import opened
    from jobs.process.patience import patiently

    if state not in EMAIL.states:
        raise typer.BadParameter(f"--state must be one of {', '.join(EMAIL.states)}")
    columns = (Email.id, Email.template, Email.recipient, Email.state, Email.state_since, Email.reason)
    states = (EmailState.BOUNCED, EmailState.COMPLAINED) if bounced else (state,)
    # Literals, so that the partial index fits.
    meant = Email.state.in_([literal_column(f"'{each}'") for each in states])
    wanted = select(*columns).where(meant).order_by(Email.id.desc()).limit(most)
    with opened() as runtime:
        found = patiently(runtime, lambda session: session.execute(wanted).all())
    if as_json:
        print_json([dict(each._mapping) for each in found])
        return
    for each in found:
        print_line(
            f"{each.id}  {each.template} to {each.recipient}: {each.state}, since {clock(each.state_since)} UTC"
            + (f" ({each.reason})" if each.reason else "")
        )
    if not found:
        print_line(f"no e-mail is {' or '.join(states)}")


def _shown(path: Path) -> Any:
    from jobs.email.invoices import shown_of
    from jobs.email.recipients import Unresolved

    data = _read(path, "--invoice")
    try:
        return shown_of(data, data["lines"]["data"])
    except (Unresolved, TypeError, KeyError, AttributeError):
        raise typer.BadParameter("--invoice: the file holds no invoice as Stripe's API shows it") from None


def _read(path: Path, option: str = "--data") -> Any:
    import json

    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise typer.BadParameter(f"{option}: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise typer.BadParameter(f"{option}: the file holds no JSON") from None
