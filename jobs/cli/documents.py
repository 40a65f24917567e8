"""Documents: ask for one, list those that are not kept, and get at one that is."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jobs.cli.acting import acting
from jobs.cli.output import ASKING, Actor, AsJson, Reason, clock, print_json, print_line

if TYPE_CHECKING:
    from billing.documents import DocumentStatus
    from jobs.process.runtime import Runtime

Which = Annotated[str, typer.Argument(metavar="ID", help="doc_..., or the inv_... or crn_... that it is of")]


def add_to(app: typer.Typer) -> None:
    document = typer.Typer(
        no_args_is_help=True,
        help="The documents of invoices and credit notes: ask for one, list them, get at one.",
    )
    document.command()(request)
    document.command("list")(list_documents)
    document.command()(link)
    document.command()(get)
    app.add_typer(document, name="document", rich_help_panel=ASKING)


def request(
    which: Which,
    reason: Reason,
    actor: Actor = "",
    as_json: AsJson = False,
) -> None:
    """Ask for a document that is missing, or have a refused one fetched again.

    Each finalized invoice and each credit note gets its document by itself, and one of before documents were kept
    within a day: this does the same at once. Actor and reason are kept as a fact.

    \b
    Examples:
      billing document request inv_0198f0c2... --reason "asked for by the auditor"
      billing document request doc_0198f0c2... --reason "Stripe is well again"
    """
    from billing.documents import document, request_missing
    from billing.errors import UnknownEntity
    from billing.finding import find
    from billing.states import DocumentState
    from jobs.process.patience import patiently
    from jobs.road.quarantine import reopen

    with acting("document request", actor, reason) as act:
        if not act.runtime.settings.keeps_documents:
            raise typer.BadParameter(
                "documents are not kept: BILLING_ARCHIVE_BUCKET is not set, or BILLING_DOCUMENTS=off"
            )

        def standing() -> "DocumentStatus | None":
            try:
                return patiently(act.runtime, lambda session: document(session, which))
            except UnknownEntity:
                return None

        found = standing()
        if found is None:
            if which.startswith("doc_"):
                raise UnknownEntity(which)
            patiently(act.runtime, lambda session: find(session, which))  # or it is unknown
            asked = act.inside(lambda session: request_missing(session, only=which)[0], about=which)
            found = standing()
            if not asked or found is None:
                raise typer.BadParameter(
                    f"{which} is no finalized invoice and no issued credit note, so there is no document of it"
                )
            done = "it is asked for"
        elif found.state == DocumentState.REFUSED:
            document_id = found.document_id
            act.inside(
                lambda session: reopen(session, document_id, actor=act.actor, reason=reason), about=found.document_id
            )
            done = "it is fetched again"
        else:
            done = f"nothing to do: it is {found.state}"
    if as_json:
        print_json({"document_id": found.document_id, "invoice_id": found.invoice_id, "done": done})
    else:
        print_line(f"{found.document_id} of {found.invoice_id}: {done}")


def list_documents(
    refused: Annotated[bool, typer.Option("--refused", help="Only those that are not kept.")] = False,
    state: Annotated[str | None, typer.Option(help="requested, stored or refused.")] = None,
    most: Annotated[int, typer.Option("--most", min=1, max=10_000, help="So many, the newest first.")] = 50,
    as_json: AsJson = False,
) -> None:
    """List documents, the newest first. A refused one is a task for a person: the law wants it kept.

    \b
    Examples:
      billing document list --refused
      billing document list --state requested --most 10
    """
    from sqlalchemy import select

    from billing.documents import shown
    from billing.states import DOCUMENT, DocumentState
    from billing.tables.documents import Document
    from jobs.cli.opening import opened
    from jobs.process.patience import patiently

    if state is not None and state not in DOCUMENT.states:
        raise typer.BadParameter(f"--state must be one of {', '.join(DOCUMENT.states)}")
    only = DocumentState.REFUSED if refused else state
    wanted = select(Document).order_by(Document.id.desc()).limit(most)
    if only is not None:
        wanted = wanted.where(Document.state == only)
    with opened() as runtime:
        found = patiently(runtime, lambda session: [shown(row) for row in session.scalars(wanted)])
    if as_json:
        print_json(found)
        return
    for each in found:
        size = f", {each.size_bytes:,} bytes" if each.size_bytes else ""
        print_line(
            f"{each.document_id}  {each.kind} of {each.invoice_id}: {each.state}, since {clock(each.since)} UTC{size}"
            + (f" ({each.reason})" if each.reason else "")
        )
    if not found:
        print_line(f"no document is {only}" if only else "there is no document")


def link(
    which: Which,
    minutes: Annotated[int, typer.Option("--minutes", min=1, max=60, help="How long it can be used, 1 to 60.")] = 5,
    as_json: AsJson = False,
) -> None:
    """Print a link to a stored document. Whoever has it can read the document until it ends, without a login.

    It is signed with the keys of S3 of this shell: those of `reader` or `operator`. Nothing is sent.

    \b
    Example:
      billing document link inv_0198f0c2... --minutes 10
    """
    from datetime import UTC, datetime, timedelta

    from archive.documents import links
    from jobs.cli.opening import opened
    from jobs.process import buckets

    with opened() as runtime, buckets.opened(runtime.settings) as store:
        found, name = _stored(runtime, which)
        lasts = timedelta(minutes=minutes)
        ends = datetime.now(UTC) + lasts
        url = links.link(store, str(found.object_key), str(found.object_version), name=name, lasts=lasts)
    if as_json:
        print_json({"document_id": found.document_id, "link": url, "ends": ends})
    else:
        print_line(url)


def get(
    which: Which,
    to_file: Annotated[Path, typer.Option(metavar="FILE", help="Where it is written; a file that exists stays.")],
    as_json: AsJson = False,
) -> None:
    """Write a stored document into a file, after its bytes were compared with the digest that is known of them.

    If they differ, nothing is written, and the exit status is 2.

    \b
    Example:
      billing document get inv_0198f0c2... --to-file invoice.pdf
    """
    from archive.documents import stored
    from archive.files import write_new
    from jobs.cli.opening import opened
    from jobs.process import buckets

    with opened() as runtime, buckets.opened(runtime.settings) as store:
        found, _ = _stored(runtime, which)
        body = stored.read(store, str(found.object_key), str(found.object_version), sha256=str(found.sha256))
    write_new("--to-file", to_file, body)
    if as_json:
        print_json({"document_id": found.document_id, "sha256": found.sha256, "file": str(to_file)})
    else:
        print_line(f"{found.document_id}: {len(body):,} bytes, SHA-256 {found.sha256}: {to_file}")


def _stored(runtime: "Runtime", which: str) -> "tuple[DocumentStatus, str]":
    """A document that is stored, and the name of a file for it: the number that stands on it."""
    from billing.documents import document, number_of
    from billing.states import DocumentState
    from jobs.process.patience import patiently

    found = patiently(runtime, lambda session: document(session, which))
    if found.state != DocumentState.STORED:
        why = f" ({found.reason})" if found.reason else ""
        raise typer.BadParameter(f"{found.document_id} is not stored: it is {found.state}{why}")
    number = patiently(runtime, lambda session: number_of(session, found.document_id))
    return found, number or found.invoice_id
