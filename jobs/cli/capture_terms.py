"""The options of `billing capture` that say what is sent beside the amount."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from jobs.cli.amounts import minor_units, money

if TYPE_CHECKING:
    from billing import CaptureTerms

Rest = Annotated[
    str,
    typer.Option(
        metavar="release|keep",
        help="What becomes of the part that is not captured: Stripe releases it, or keeps it for another capture.",
    ),
]
Fee = Annotated[
    int | None,
    typer.Option(
        "--application-fee",
        parser=minor_units,
        metavar="MINOR_UNITS",
        help="Your platform's part of it, where a connected account is paid.",
    ),
]
Transfer = Annotated[
    int | None,
    typer.Option(
        parser=minor_units,
        metavar="MINOR_UNITS",
        help="The connected account's part of it, instead of a fee.",
    ),
]
Descriptor = Annotated[
    str | None, typer.Option(help="Replaces your name on the customer's bank statement: 5 to 22 characters.")
]
Suffix = Annotated[
    str | None, typer.Option(help="Stands after your name on the customer's bank statement; the one for cards.")
]
Metadata = Annotated[
    list[str] | None,
    typer.Option(metavar="KEY=VALUE", help="Stored at Stripe with the payment; repeat it for more. Nothing personal."),
]


def terms_of(
    currency: str,
    fee: int | None,
    transfer: int | None,
    descriptor: str | None,
    suffix: str | None,
    metadata: Sequence[str] | None,
) -> "CaptureTerms":
    """What these options say. Raises BadParameter for metadata that is not KEY=VALUE."""
    import billing

    return billing.CaptureTerms(
        application_fee=None if fee is None else money(fee, currency, amount_as="--application-fee"),
        transfer=None if transfer is None else money(transfer, currency, amount_as="--transfer"),
        statement_descriptor=descriptor,
        statement_descriptor_suffix=suffix,
        metadata=dict(_pair(number, text) for number, text in enumerate(metadata or (), start=1)) or None,
    )


def _pair(number: int, text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals:
        raise typer.BadParameter(f"--metadata {number} is not KEY=VALUE, such as order=42")
    return key, value
