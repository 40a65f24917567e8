"""`billing doctor`: one line for each part, and how to correct it."""

from typing import TYPE_CHECKING

import typer

from jobs.cli.output import ON_CALL, AsJson, print_json, print_line

if TYPE_CHECKING:
    from jobs.checkup import Finding

_MARKS = {"ok": "ok  ", "warn": "WARN", "fail": "FAIL"}


def add_to(app: typer.Typer) -> None:
    app.command(rich_help_panel=ON_CALL)(doctor)


def doctor(as_json: AsJson = False) -> None:
    """Check every part and say how to correct it: settings, key, Postgres, Redis, Stripe, S3, and waiting work.

    It changes nothing, except that it leaves an empty object in the archive's bucket, to test that the bucket refuses
    to delete locked objects. Exit status 1 if something fails; warnings leave it at 0.

    \b
    Examples:
      billing doctor
      billing doctor --json
    """
    from jobs.checkup import Finding, Level, examine
    from jobs.cli.opening import open_process
    from jobs.config.sources import SettingsError

    findings = []
    try:
        runtime = open_process("doctor")
    except SettingsError as error:
        findings.append(Finding("settings", Level.FAIL, "cannot be used", str(error)))
        if not as_json:
            _show(findings[0])
    else:
        try:
            for finding in examine(runtime):
                findings.append(finding)
                if not as_json:
                    _show(finding)
        finally:
            runtime.close()
    if as_json:
        print_json(findings)
    if any(finding.level is Level.FAIL for finding in findings):
        raise typer.Exit(1)


def _show(finding: "Finding") -> None:
    print_line(
        f"{_MARKS[finding.level]}  {finding.part:<18} {finding.message}" + (f" -> {finding.fix}" if finding.fix else "")
    )
