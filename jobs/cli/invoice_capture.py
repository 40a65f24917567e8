"""`billing invoice capture`: has one capture invoiced, at once or with its period, as an application does."""

from typing import Annotated

import typer

from jobs.cli.acting import acting
from jobs.cli.output import Actor, AsJson, print_json, print_line
from jobs.cli.requests import Timeout, Wait, answer


def capture(
    capture_id: Annotated[str, typer.Argument(metavar="CAPTURE", help="cap_...; it need not be over.")],
    customer: Annotated[str, typer.Option(help="To whom: a customer at Stripe, cus_...")],
    description: Annotated[str, typer.Option(help="The text of its line, as the customer reads it.")],
    at_once: Annotated[
        bool, typer.Option("--at-once", help="On an invoice of its own, now; else with its period, once that is over.")
    ] = False,
    actor: Actor = "",
    wait: Wait = False,
    timeout_s: Timeout = 120.0,
    as_json: AsJson = False,
) -> None:
    """Ask for a capture to be invoiced, once. The money was taken, so the invoice is paid already.

    Without --at-once it is collected with what the same customer paid in the same month, week or day, as
    BILLING_INVOICE_PERIODS says: docs/moves/invoicing-captures.md. --wait goes with --at-once.

    \b
    Examples:
      billing invoice capture cap_0198f0c2... --customer cus_123 \\
          --description "Order 42, 3 seats" --at-once --wait
      billing invoice capture cap_0198f0c2... --customer cus_123 --description "Order 42"
    """
    import billing

    if wait and not at_once:
        raise typer.BadParameter("--wait goes with --at-once: a period is invoiced once it is over")
    with acting("invoice capture", actor) as act:
        receipt = act.inside(
            lambda session: billing.invoice_capture(
                session,
                capture=capture_id,
                customer=customer,
                description=description,
                when="at_once" if at_once else "period",
                account=act.runtime.settings.stripe_account,
                actor=act.actor,
            ),
            about=capture_id,
            count=lambda receipt: int(receipt.new),
        )
        if receipt.invoice_id is not None:
            answer(act, receipt.invoice_id, capture_id, receipt.new, wait=wait, timeout_s=timeout_s, as_json=as_json)
            return
    if as_json:
        print_json(receipt)
    else:
        known = "asked for" if receipt.new else "asked for before"
        print_line(f"{capture_id}: on the invoice of its period, once that is over; {known}")
