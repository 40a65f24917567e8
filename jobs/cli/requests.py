"""Asking for captures, and the status of what was asked, through the same functions as an application."""

import time
from typing import TYPE_CHECKING, Annotated, cast

import typer

from jobs.cli.acting import Acting, acting
from jobs.cli.amounts import minor_units, money
from jobs.cli.bulk import ask_for
from jobs.cli.capture_terms import Descriptor, Fee, Metadata, Rest, Suffix, Transfer, terms_of
from jobs.cli.from_file import FromFile, alone, from_file, missing
from jobs.cli.output import ASKING, Actor, AsJson, clock, print_error, print_json, print_line
from jobs.cli.shared_options import options_of

if TYPE_CHECKING:
    from billing import Status
    from billing.capture_terms import Remainder
    from jobs.process.runtime import Runtime

REQUEST_ID = typer.Option(help="Your own name for this request. Asking again with the same one asks for nothing new.")
RequestId = Annotated[str, REQUEST_ID]
Correlation = Annotated[str | None, typer.Option(help="An id for facts and logs; by default the request id.")]
Wait = Annotated[
    bool,
    typer.Option("--wait", help="Wait until it is final, or an operator has to act. Exit status 1 if it failed."),
]
Timeout = Annotated[float, typer.Option("--timeout", metavar="SECONDS", min=0, help="How long to wait at most.")]
POLL_S = 0.1


def add_to(app: typer.Typer) -> None:
    app.command(rich_help_panel=ASKING)(capture)
    app.command(rich_help_panel=ASKING)(status)


@options_of(from_file)
def capture(
    file: FromFile,
    payment_intent: Annotated[str | None, typer.Option(help="The authorized PaymentIntent, pi_...")] = None,
    amount_minor: Annotated[
        int | None,
        typer.Option(
            "--amount-minor",
            "--amount",
            parser=minor_units,
            metavar="MINOR_UNITS",
            help="In minor units: 1999 is 19.99 USD, 500 is 500 JPY.",
        ),
    ] = None,
    currency: Annotated[str | None, typer.Option(help="ISO code, such as USD.")] = None,
    request_id: Annotated[str | None, REQUEST_ID] = None,
    remainder: Rest = "release",
    application_fee: Fee = None,
    transfer: Transfer = None,
    statement_descriptor: Descriptor = None,
    statement_descriptor_suffix: Suffix = None,
    metadata: Metadata = None,
    correlation_id: Correlation = None,
    actor: Actor = "",
    wait: Wait = False,
    timeout_s: Timeout = 120.0,
    as_json: AsJson = False,
) -> None:
    """Ask for an authorization to be captured, in full or in part. Workers carry the request out.

    With --from-file ask for each row of a file, CSV or JSON lines, with the columns payment_intent, amount (19.99 USD,
    or minor units beside the column currency), and, if you like, request_id, correlation_id and account. Every row is
    checked first, and nothing is asked for if one is bad. If it is interrupted, the same command goes on where it
    stands, and asks for nothing twice: docs/moves/bulk.md.

    \b
    Examples:
      billing capture --payment-intent pi_123 --amount 1999 \\
          --currency USD --request-id order-42 --wait
      billing capture --payment-intent pi_123 --amount 700 \\
          --currency USD --request-id order-42-first-parcel --remainder keep
      billing capture --from-file orders.csv --dry-run
      billing capture --from-file orders.csv --reason "OPS-7" --confirm 1200
    """
    import billing

    if file.path is not None:
        alone(payment_intent=payment_intent, amount=amount_minor, currency=currency, request_id=request_id)
        alone(correlation_id=correlation_id, wait=wait, remainder=remainder != "release", metadata=metadata)
        alone(application_fee=application_fee, transfer=transfer, statement_descriptor=statement_descriptor)
        alone(statement_descriptor_suffix=statement_descriptor_suffix)
        with acting("capture", actor, file.reason) as act:
            ask_for(act, "capture", file, as_json=as_json)
        return
    if payment_intent is None or amount_minor is None or currency is None or request_id is None:
        given = {"payment_intent": payment_intent, "amount": amount_minor, "currency": currency}
        raise missing("capture", {**given, "request_id": request_id})
    amount_asked = money(amount_minor, currency)
    terms = terms_of(currency, application_fee, transfer, statement_descriptor, statement_descriptor_suffix, metadata)
    with acting("capture", actor, file.reason) as act:
        receipt = act.inside(
            lambda session: billing.request_capture(
                session,
                payment_intent=payment_intent,
                amount=amount_asked,
                request_id=request_id,
                correlation_id=correlation_id,
                account=act.runtime.settings.stripe_account,
                actor=act.actor,
                # Any text may be typed here; it is checked there.
                remainder=cast("Remainder", remainder),
                terms=terms,
            ),
            about=lambda receipt: receipt.capture_id,
            count=lambda receipt: int(receipt.new),
        )
        about = f"{amount_asked} of {payment_intent}"
        answer(act, receipt.capture_id, about, receipt.new, wait=wait, timeout_s=timeout_s, as_json=as_json)


def status(
    name: Annotated[
        str,
        typer.Argument(
            metavar="ID", help="cap_..., void_..., ref_..., inv_..., eml_..., pi_..., in_... or a request id"
        ),
    ],
    wait: Wait = False,
    timeout_s: Timeout = 120.0,
    as_json: AsJson = False,
) -> None:
    """Show the state of a capture, a void, a refund, an invoice or an e-mail, since when, and what happens next.

    \b
    Examples:
      billing status cap_0198f0c2...
      billing status order-42 --wait
    """
    from billing.finding import find
    from jobs.cli.opening import opened
    from jobs.process.patience import patiently

    with opened() as runtime:
        entity_id = patiently(runtime, lambda session: find(session, name)[0])
        report(runtime, entity_id, wait, timeout_s, as_json)


def answer(act: Acting, own_id: str, about: str, new: bool, *, wait: bool, timeout_s: float, as_json: bool) -> None:
    """How a command ends that has asked for something: what, whether it was asked for before, and its status."""
    if not as_json:
        print_line(f"{own_id}: {about}" + ("" if new else ", asked for before"))
    report(act.runtime, own_id, wait, timeout_s, as_json)


def report(runtime: "Runtime", entity_id: str, wait: bool, timeout_s: float, as_json: bool) -> None:
    """Show the status; with `wait`, once it is final or stuck. Exits with 1 if it did not succeed."""
    import billing
    from jobs.process.patience import patiently

    began, shown = time.monotonic(), ""
    while True:
        now = patiently(runtime, lambda session: billing.status(session, entity_id))
        if now.final or not wait or _stuck(now) or time.monotonic() > began + timeout_s:
            break
        line = f"{now.state}: {now.next}"
        if line != shown:
            print_error(f"  {time.monotonic() - began:5.1f} s  {line}")
            shown = line
        time.sleep(POLL_S)
    if as_json:
        print_json(now)
    else:
        _show(now)
    if wait and _stuck(now):
        print_error(f"waiting does not help; next: {now.next}")
    elif wait and not now.final:
        print_error(f"not final after {timeout_s:g} s; next: {now.next}{_missing(now.next)}")
    if wait and now.state not in ("captured", "voided", "succeeded", "sent", "paid", "done", "issued"):
        raise typer.Exit(1)


def _show(now: "Status") -> None:
    print_line(f"{now.id}: {now.state}, since {clock(now.since)} UTC" + (f" ({now.reason})" if now.reason else ""))
    print_line(f"next: {now.next}")


def _stuck(now: "Status") -> bool:
    """It stays as it is until an operator acts: decides, releases a switch, or installs a newer worker."""
    if now.final:
        return False
    return now.needs_decision or now.next.startswith("nothing until")


def _missing(what_is_next: str) -> str:
    for process in ("relay", "worker"):
        if what_is_next.startswith(f"a {process} "):
            return f"; is a {process} running?"
    return ""
