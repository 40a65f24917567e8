"""`billing doctor`: one line for each part, with the mend."""

import typer

from jobs.cli.output import ON_CALL, AsJson, print_json, say

_MARKS = {"ok": "ok  ", "warn": "WARN", "fail": "FAIL"}


def add_to(app: typer.Typer) -> None:
    app.command(rich_help_panel=ON_CALL)(doctor)


def doctor(as_json: AsJson = False) -> None:
    """Reach every part and say how it is mended: settings, key, Postgres, Redis, Stripe, and what waits.

    It changes nothing. Exit status 1 if something fails; warnings leave it at 0.

    \b
    Examples:
      billing doctor
      billing doctor --json
    """
    from jobs.checkup import Finding, Level, examine
    from jobs.cli.opening import open_runtime
    from jobs.settings import SettingsError

    findings = []
    try:
        runtime = open_runtime("doctor")
    except SettingsError as error:
        findings.append(Finding("settings", Level.FAIL, "cannot be used", str(error)))
    else:
        try:
            for finding in examine(runtime):
                findings.append(finding)
                if not as_json:
                    _show(finding.part, finding.level, finding.told, finding.mend)
        finally:
            runtime.close()
    if as_json:
        print_json(findings)
    elif len(findings) == 1:
        _show(findings[0].part, findings[0].level, findings[0].told, findings[0].mend)
    if any(finding.level is Level.FAIL for finding in findings):
        raise typer.Exit(1)


def _show(part: str, level: str, told: str, mend: str) -> None:
    say(f"{_MARKS[level]}  {part:<14} {told}" + (f" -> {mend}" if mend else ""))
