"""`billing erase`: what Postgres says about a customer in words is erased; amounts and evidence stay."""

from typing import TYPE_CHECKING, Annotated

import typer

from jobs.cli.acting import acting
from jobs.cli.output import FINANCE, Actor, AsJson, Reason, counted, print_json, print_line

if TYPE_CHECKING:
    from billing.erasure import Erased

AT_STRIPE = "https://docs.stripe.com/privacy/redaction"
"""Read on 2026-11-29. A transaction can be redacted 90 days after it."""

BY_NAME_ONLY = (
    "captures whose payment has no customer, that took nothing, or from before migration 0069, voids of their "
    "authorizations, and e-mails to ids of your application's"
)


def add_to(app: typer.Typer) -> None:
    erase = typer.Typer(
        no_args_is_help=True, help="Erase what is personal of a customer; amounts and evidence stay valid."
    )
    erase.command()(customer)
    app.add_typer(erase, name="erase", rich_help_panel=FINANCE)


def customer(
    customer: Annotated[str, typer.Argument(metavar="CUSTOMER", help="The customer's id at Stripe, cus_...")],
    reason: Reason,
    also: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ID", help="What else is this customer's, such as cap_..., void_... or eml_...; may be repeated."
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Erase nothing: count, and say what is not over.")] = False,
    actor: Actor = "",
    as_json: AsJson = False,
) -> None:
    """Erase the texts about one customer in Postgres, and say what is left to do elsewhere.

    It erases the descriptions of the customer's invoices, the texts and metadata of captures, the memos of credit
    notes, the bodies of the calls that sent them, and what operators and the application wrote in words: reasons, and
    names of who asked. It finds invoices and e-mails by the customer, captures that took money of the customer, as
    Stripe named it, or are invoiced to it, and all that hangs on these: refunds, voids, credit notes, actions and
    documents. Name others with --also, because they name no customer here; what hangs on them is found. Amounts, ids,
    states, keys and times stay, and so do the archive and its verification: none of what is erased was ever archived.

    It refuses while an operation of the customer is not over, or was over less than a day ago, and while a legal hold
    names the customer. It cannot be undone. The reason is kept: write the number of the request, and no name.

    docs/finance/privacy.md says where else personal data is. The exit status is 1 if something is not over.

    \b
    Examples:
      billing erase customer cus_123 --reason "DSR-12" --dry-run
      billing erase customer cus_123 --also cap_0198f0c2... --reason "DSR-12"
    """
    from functools import partial

    from billing import erasure
    from jobs.process.patience import patiently

    with acting("erase customer", actor, reason) as act:
        ask = partial(patiently, act.runtime)
        ids = erasure.operations_of(ask, customer, also or ())
        found = erasure.count(ask, ids, customer)
        if found.anything and not dry_run:
            if found.not_over:
                raise erasure.not_over(customer, found.not_over)
            with act.outside(about=customer, count=found.operations):
                found = erasure.erase(ask, ids, customer)
    _show(customer, found, dry_run, as_json)
    if found.not_over:
        raise typer.Exit(1)


def _show(customer: str, found: "Erased", dry_run: bool, as_json: bool) -> None:
    if as_json:
        print_json({"customer": customer, "dry_run": dry_run, "erased": found, "at_stripe": AT_STRIPE})
        return
    what = "nothing is left to erase"
    if found.anything:
        texts = (
            counted(found.descriptions, "description"),
            f"the text of {counted(found.bodies, 'call')}",
            f"words in {counted(found.facts, 'fact')} and {counted(found.notes, 'note')}",
        )
        what = f"{'would be erased' if dry_run else 'erased'}: {', '.join(texts)}"
    print_line(f"{customer}: {counted(found.operations, 'operation')}; {what}")
    for entity_id in found.not_over:
        print_line(f"not over for a day: {entity_id}; `billing explain {entity_id}` says what it waits for")
    print_line(f"not found by a customer: {BY_NAME_ONLY}; name them with --also")
    print_line(f"still to do at Stripe: redact {customer} there, at the earliest 90 days after a payment: {AT_STRIPE}")
    print_line("still to do elsewhere: your application, backups, logs that you keep: docs/finance/privacy.md")
