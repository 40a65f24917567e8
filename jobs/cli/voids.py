"""Asking for an authorization to be given back, through the same function as an application."""

from typing import Annotated

import typer

from jobs.cli.acting import acting
from jobs.cli.output import ASKING, Actor, AsJson, print_line
from jobs.cli.requests import Correlation, RequestId, Timeout, Wait, report


def add_to(app: typer.Typer) -> None:
    app.command(rich_help_panel=ASKING)(void)


def void(
    payment_intent: Annotated[str, typer.Option(help="The authorized PaymentIntent, pi_...")],
    reason: Annotated[
        str, typer.Option(metavar="WHY", help="duplicate, fraudulent, requested_by_customer or abandoned.")
    ],
    request_id: RequestId,
    correlation_id: Correlation = None,
    actor: Actor = "",
    wait: Wait = False,
    timeout_s: Timeout = 120.0,
    as_json: AsJson = False,
) -> None:
    """Ask for an authorization to be given back: nothing is captured, and the customer's money is free again.

    It is refused if a capture has the authorization; money that was captured is refunded.

    \b
    Example:
      billing void --payment-intent pi_123 --reason requested_by_customer \\
          --request-id order-42-void --wait
    """
    import billing

    with acting("void", actor, reason) as act:
        receipt = act.inside(
            lambda session: billing.request_void(
                session,
                payment_intent=payment_intent,
                reason=reason,
                request_id=request_id,
                correlation_id=correlation_id,
                account=act.runtime.settings.stripe_account,
                actor=act.actor,
            ),
            about=lambda receipt: receipt.void_id,
            count=lambda receipt: int(receipt.new),
        )
        if not as_json:
            print_line(f"{receipt.void_id}: {payment_intent}" + ("" if receipt.new else ", asked for before"))
        report(act.runtime, receipt.void_id, wait, timeout_s, as_json)
