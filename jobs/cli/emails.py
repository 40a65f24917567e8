"""E-mails: ask for one, see one without sending it, list those that were not sent, and read what came back."""

from typing import Annotated

import typer

from jobs.cli.acting import acting
from jobs.cli.email_bounces import bounces
from jobs.cli.email_preview import Data, Language, Template, preview, read_json
from jobs.cli.output import ASKING, Actor, AsJson, clock, print_json, print_line
from jobs.cli.requests import Correlation, RequestId, Timeout, Wait, answer


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
        about = read_json(data)
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
