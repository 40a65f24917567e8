"""Asking for an authorization to be given back, through the same function as an application."""

from typing import Annotated

import typer

from jobs.cli.acting import acting
from jobs.cli.bulk import ask_for
from jobs.cli.from_file import FromFile, alone, from_file, missing
from jobs.cli.output import ASKING, Actor, AsJson
from jobs.cli.requests import REQUEST_ID, Correlation, Timeout, Wait, answer
from jobs.cli.shared_options import options_of


def add_to(app: typer.Typer) -> None:
    app.command(rich_help_panel=ASKING)(void)


@options_of(from_file)
def void(
    file: FromFile,
    payment_intent: Annotated[str | None, typer.Option(help="The authorized PaymentIntent, pi_...")] = None,
    request_id: Annotated[str | None, REQUEST_ID] = None,
    correlation_id: Correlation = None,
    actor: Actor = "",
    wait: Wait = False,
    timeout_s: Timeout = 120.0,
    as_json: AsJson = False,
) -> None:
    """Ask for an authorization to be given back: nothing is captured, and the customer's money is free again.

    It is refused if a capture has the authorization; money that was captured is refunded. --reason is what Stripe
    shows: duplicate, fraudulent, requested_by_customer or abandoned.

    With --from-file ask for each row of a file, with the columns payment_intent, reason (as above) and, if you like,
    request_id, correlation_id and account. There, --reason says why the file is asked for: docs/moves/bulk.md.

    \b
    Examples:
      billing void --payment-intent pi_123 --reason requested_by_customer \\
          --request-id order-42-void --wait
      billing void --from-file canceled.csv --reason "OPS-7"
    """
    import billing

    if file.path is not None:
        alone(payment_intent=payment_intent, request_id=request_id, correlation_id=correlation_id, wait=wait)
        with acting("void", actor, file.reason) as act:
            ask_for(act, "void", file, as_json=as_json)
        return
    reason = file.reason
    if payment_intent is None or reason is None or request_id is None:
        raise missing("void", {"payment_intent": payment_intent, "reason": reason, "request_id": request_id})
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
        answer(act, receipt.void_id, payment_intent, receipt.new, wait=wait, timeout_s=timeout_s, as_json=as_json)
