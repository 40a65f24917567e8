"""Loads the settings of this process once, at its start, and refuses what is wrong in one line.

A setting that does not exist is an error: a misspelled name must not leave a default in force. Variables that
Kubernetes and Docker set for a neighbor with our name are no settings (`service_links`).
"""

import difflib
import os
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from jobs.config.secrets import bare
from jobs.config.service_links import is_link
from jobs.config.settings import Settings
from jobs.config.sources import CONFIG, PREFIX, SettingsError, file_values, variable

# Settings of the test suite; no process of the service reads them.
_TESTS_ONLY = "BILLING_TEST_"


def load() -> Settings:
    """The settings of this process. Raises SettingsError."""
    in_file = file_values(os.environ)
    _refuse_unknown(os.environ, in_file)
    try:
        return Settings()  # type: ignore[call-arg]  # the values come from `sources`
    except ValidationError as error:
        problems = [_message(problem, in_file) for problem in error.errors(include_url=False, include_input=False)]
    # Raised outside of the handler, so that pydantic's error is not printed beside ours.
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    raise SettingsError(problems[0] + more)


def _refuse_unknown(environment: Mapping[str, str], in_file: Mapping[str, Any]) -> None:
    fields = sorted(Settings.model_fields)
    variables = [CONFIG, *map(variable, fields)]
    for name in sorted(environment):
        ours = name.startswith(PREFIX) and not name.startswith(_TESTS_ONLY)
        if ours and name not in variables and not is_link(name, environment):
            raise SettingsError(f"{name}: no such setting; {_advice(name, variables)}")
    for name in sorted(in_file):
        if name not in fields:
            raise SettingsError(f"{name} in the settings file: no such setting; {_advice(name, fields)}")


def _advice(name: str, known: list[str]) -> str:
    in_their_form = name.upper() if known[0].isupper() else name.lower().removeprefix(PREFIX.lower())
    # Compared without the prefix, which would make any two short names similar.
    by_rest = {each.removeprefix(PREFIX): each for each in known}
    nearest = difflib.get_close_matches(in_their_form.removeprefix(PREFIX), by_rest, n=1)
    return f"did you mean {by_rest[nearest[0]]}?" if nearest else "remove it"


def _message(problem: Mapping[str, Any], in_file: Mapping[str, Any]) -> str:
    """One problem that pydantic found, in one line, without the value."""
    reason = str(problem.get("ctx", {}).get("error", ""))
    if not problem["loc"]:
        return reason
    field = str(problem["loc"][0])
    name = variable(field)
    expected = f"expected {Settings.model_fields[field].description}"
    if problem["type"] == "missing":
        return f"{name} is not set; {expected}"
    if field in in_file and not bare(os.environ.get(name, "")):
        name = f"{field} in the settings file"
    return f"{name}: {reason or f'not valid; {expected}'}"
