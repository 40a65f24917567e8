"""`billing invoice issue-many`: an invoice for each line of a file."""

import typer

from jobs.cli.acting import acting
from jobs.cli.bulk import ask_for
from jobs.cli.from_file import FromFile, from_file
from jobs.cli.output import Actor, AsJson
from jobs.cli.shared_options import options_of


@options_of(from_file)
def issue_many(file: FromFile, actor: Actor = "", as_json: AsJson = False) -> None:
    """Ask for an invoice for each line of a file: one JSON object a line, with the fields of `billing invoice issue`.

    Each needs a request_id, so that a corrected file does not ask for an invoice twice. Every line is checked before
    anything is asked for. --dry-run shows what they come to, and writes nothing; where taxes, discounts or prices are
    on it, only Stripe reckons that: `billing invoice preview` asks it for one. An interrupted file is continued by the
    same command: docs/moves/bulk.md.

    \b
    Examples:
      billing invoice issue-many --from-file november.jsonl --dry-run
      billing invoice issue-many --from-file november.jsonl \\
          --reason "invoices of November" --confirm 1200
    """
    if file.path is None:
        raise typer.BadParameter("--from-file is missing; `billing invoice issue` asks for one invoice by options")
    with acting("invoice issue-many", actor, file.reason) as act:
        ask_for(act, "invoice", file, as_json=as_json)
