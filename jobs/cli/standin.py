"""`billing standin`: make an authorization or a customer at the Stripe stand-in, to try the service with."""

from typing import Annotated

import typer

from jobs.cli.amounts import minor_units, money
from jobs.cli.output import TRYING, AsJson, print_json, print_line


def add_to(app: typer.Typer) -> None:
    standin = typer.Typer(no_args_is_help=True, help="Make an authorization or a customer at the stand-in.")
    standin.command()(authorize)
    standin.command()(customer)
    app.add_typer(standin, name="standin", rich_help_panel=TRYING)


def authorize(
    amount_minor: Annotated[
        int,
        typer.Argument(metavar="AMOUNT", parser=minor_units, help="In minor units: 1999 is 19.99 USD, 500 is 500 JPY."),
    ],
    currency: Annotated[str, typer.Argument(metavar="CURRENCY", help="ISO code, such as USD.")],
    as_json: AsJson = False,
) -> None:
    """Authorize a card, as a shop's checkout does, and print the PaymentIntent that can now be captured.

    If STRIPE_API_BASE is not the stand-in, it refuses and sends nothing.

    \b
    Example:
      billing standin authorize 1999 USD
    """
    from jobs.cli.opening import open_process
    from jobs.local import checkout

    amount = money(amount_minor, currency, amount_as="AMOUNT", currency_as="CURRENCY")
    runtime = open_process("standin")
    try:
        intent = checkout.authorize(runtime, amount)
    finally:
        runtime.close()
    print_json(
        {"payment_intent": intent, "minor": amount.minor, "currency": amount.currency}
    ) if as_json else print_line(intent)


def customer(as_json: AsJson = False) -> None:
    """Make a customer to whom invoices can be sent, and print the id.

    If STRIPE_API_BASE is not the stand-in, it refuses and sends nothing.

    \b
    Example:
      billing standin customer
    """
    from jobs.cli.opening import open_process
    from jobs.local import checkout

    runtime = open_process("standin")
    try:
        made = checkout.customer(runtime)
    finally:
        runtime.close()
    print_json({"customer": made}) if as_json else print_line(made)
