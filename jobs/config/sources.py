"""Where settings come from: environment variables, and one TOML file.

The file is `billing.toml` in the working directory, or the one that BILLING_CONFIG names. Where both set a value, the
environment wins.
"""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jobs.config.secrets import bare

PREFIX = "BILLING_"
CONFIG = "BILLING_CONFIG"
WITHOUT_PREFIX = ("database_url", "redis_url", "stripe_api_base", "s3_endpoint_url", "otel_exporter_otlp_endpoint")
"""Settings whose variables have the names that hosting providers and OpenTelemetry use."""


class SettingsError(Exception):
    """The settings are wrong. The message is one line that names the setting and says how to correct it."""


def variable(field: str) -> str:
    """The environment variable of a setting: `database_url` is DATABASE_URL, `crew_captures` BILLING_CREW_CAPTURES."""
    return field.upper() if field in WITHOUT_PREFIX else f"{PREFIX}{field.upper()}"


def without_blanks(variables: Mapping[str, str | None]) -> dict[str, str]:
    """Without variables that hold only blanks or quotes: that is how env files write "not set"."""
    values = {name: bare(value) for name, value in variables.items() if value is not None}
    return {name: value for name, value in values.items() if value}


def file_values(environment: Mapping[str, str]) -> dict[str, Any]:
    """The values in the settings file; none if there is no file and BILLING_CONFIG names none. Raises SettingsError."""
    named = bare(environment.get(CONFIG, ""))
    path = Path(named or "billing.toml")
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8-sig"))
        return {name: bare(value) if isinstance(value, str) else value for name, value in values.items()}
    except FileNotFoundError:
        if named:
            raise SettingsError(f"{CONFIG}={named}: there is no such file; create it or unset {CONFIG}") from None
        return {}
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}; make it readable or remove it") from None
    except tomllib.TOMLDecodeError as error:
        where = error.args[0] if error.args else ""
        raise SettingsError(f"{path}: not TOML ({where}); correct that line") from None
    except UnicodeDecodeError:
        raise SettingsError(f"{path}: not text in UTF-8; save it as UTF-8") from None
