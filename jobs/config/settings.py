"""All settings of a process: one frozen value, read and checked once at the start.

They come from BILLING_* variables and the URLs DATABASE_URL, REDIS_URL, STRIPE_API_BASE and S3_ENDPOINT_URL, then from
`billing.toml` in the working directory, or the file that BILLING_CONFIG names.
A setting that nobody knows is an error: a misspelt name must not leave a default in force. What Kubernetes and Docker
put into the environment for a neighbor of our name is none (`service_links`).
"""

import difflib
import os
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, Self

from pydantic import (
    BeforeValidator,
    Field,
    PlainSerializer,
    ValidationError,
    ValidationInfo,
    create_model,
    field_validator,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from jobs.config import connection_strings, postgres_url, redis_url
from jobs.config.connection_strings import Address
from jobs.config.queues import QUEUES
from jobs.config.secrets import SCHEMES, SUPPORTED, BadReference, Secret, bare
from jobs.config.service_links import is_link

PREFIX = "BILLING_"
CONFIG = "BILLING_CONFIG"
# The test suite's own knobs; no process of the service reads them.
_TESTS_ONLY = "BILLING_TEST_"

_TEST_KEYS = ("sk_test_", "rk_test_")
_LIVE_KEYS = ("sk_live_", "rk_live_")
_S3_KEYS = ("s3_access_key", "s3_secret_key")
_URLS: dict[str, tuple[Callable[[str], Address], str]] = {
    "database_url": (postgres_url.read, postgres_url.FORM),
    "redis_url": (redis_url.read, redis_url.FORM),
}


class SettingsError(Exception):
    """The settings are wrong. The message is one line that names the setting and says how to mend it."""


def _secret(value: object, info: ValidationInfo) -> Secret:
    """A reference, or what this setting allows as a literal."""
    field = info.field_name or ""
    if isinstance(value, Secret):
        return value
    text = bare(value) if isinstance(value, str) else ""
    if not text.isprintable():
        raise ValueError("has more than one line, or a control character in it; remove that")
    setting = variable(field)
    read, form = _URLS.get(field, (None, ""))
    if read is not None and "://" in text and text.partition(":")[0] not in SCHEMES:
        # Refused now, if it is. What a reference leads to is read when it is needed.
        read(text)
        return Secret.literal(text, setting)
    if field == "stripe_key" and text.startswith(_TEST_KEYS):
        return Secret.literal(text, setting)
    environment = info.data.get("environment", "production")
    if field == "stripe_key" and text.startswith(_LIVE_KEYS) and environment != "production":
        raise ValueError(
            f"a live key is refused where BILLING_ENVIRONMENT is {environment}; "
            "use one that begins with sk_test_ or rk_test_"
        )
    # No key of S3 has a colon in it, and every reference has one.
    if field in _S3_KEYS and text and ":" not in text:
        return Secret.literal(text, setting)
    try:
        return Secret.referred(text, setting)
    except BadReference:
        allowed = f"{form}, or {SUPPORTED}" if form else SUPPORTED
        raise ValueError(f"write {allowed}") from None


def _base(field: str, text: str) -> str:
    """The address of Stripe or of S3, without a slash at its end."""
    no_path = "a bucket is named by BILLING_ARCHIVE_BUCKET" if field == "s3_endpoint_url" else "remove its path"
    return connection_strings.http(text, no_path=no_path)


SecretField = Annotated[Secret, BeforeValidator(_secret), PlainSerializer(str)]


class QueueSettings(NamedTuple):
    """What a queue's workers and its relay are told."""

    crew: int
    slice_s: float
    workers: int


def _of_every_queue() -> dict[str, Any]:
    """The fields of `QueueSettings` once for each queue, as `crew_captures`, `slice_captures_s`, `workers_captures`."""
    fields: dict[str, Any] = {}
    for queue in QUEUES:
        fields[f"crew_{queue.name}"] = (
            int,
            Field(
                queue.crew,
                ge=1,
                le=256,
                description=f"provider calls that one {queue.name} worker has in flight, 1 to 256",
            ),
        )
        # A bell is trusted for 15 minutes (jobs/rq/bells.py): the slice, the last call and its settling must fit.
        fields[f"slice_{queue.name}_s"] = (
            float,
            Field(600, gt=0, le=600, description=f"seconds after which a shift on {queue.name} ends, at most 600"),
        )
        fields[f"workers_{queue.name}"] = (
            int,
            Field(1, ge=1, le=1000, description=f"{queue.name} workers that the relay rings for, 1 to 1000"),
        )
    return fields


if TYPE_CHECKING:
    _Queues = BaseSettings
else:
    _Queues = create_model("_Queues", __base__=BaseSettings, **_of_every_queue())


class Settings(_Queues):
    """What a process is told. No default where a wrong value moves money or hides that it did."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        # An empty variable is how compose files and shells write "not set".
        env_ignore_empty=True,
        frozen=True,
        extra="forbid",
        arbitrary_types_allowed=True,
        validate_default=False,
        # A rejected value may be a secret that was put in the wrong place.
        hide_input_in_errors=True,
    )

    environment: Literal["development", "test", "staging", "production"] = Field(
        description="one of development, test, staging, production; only production uses a live key"
    )
    service: str = Field(
        "billing",
        pattern=r"^[a-z0-9][a-z0-9-]{0,39}$",
        description="the first part of every idempotency key: a-z, 0-9 and -, at most 40 characters; "
        "two services on one Stripe account need two names",
    )
    database_url: SecretField = Field(
        validation_alias="database_url", description="postgresql://user:password@host/database, or a reference"
    )
    redis_url: SecretField = Field(
        Secret.unset("REDIS_URL"),
        validation_alias="redis_url",
        description="redis://user:password@host/0, or a reference; only relays, workers and the doctor need it",
    )
    stripe_api_base: str = Field(
        "https://api.stripe.com",
        validation_alias="stripe_api_base",
        description="where Stripe, or the stand-in, listens: https://host or http://host:port, without a path",
    )
    stripe_key: SecretField = Field(
        Secret.unset("BILLING_STRIPE_KEY"),
        description=f"{SUPPORTED}; in development and test also a literal that begins with sk_test_ or rk_test_",
    )
    stripe_account: str | None = Field(
        None,
        pattern=r"^acct_[A-Za-z0-9]+$",
        description="the connected account (acct_...) of what the command asks for; not set, our own",
    )

    s3_endpoint_url: str | None = Field(
        None,
        validation_alias="s3_endpoint_url",
        description="where S3 listens: https://host or http://host:port, without a path; not set, Amazon's own",
    )
    s3_region: str = Field(
        "us-east-1", pattern=r"^[a-z][a-z0-9-]{0,61}[a-z0-9]$", description="the region of the bucket"
    )
    s3_access_key: SecretField = Field(
        Secret.unset("BILLING_S3_ACCESS_KEY"),
        description=f"{SUPPORTED}; in development and test also the key itself; with neither key, what AWS's SDK finds",
    )
    s3_secret_key: SecretField = Field(
        Secret.unset("BILLING_S3_SECRET_KEY"),
        description=f"{SUPPORTED}; in development and test also the key itself; with neither key, what AWS's SDK finds",
    )
    archive_bucket: str | None = Field(
        None,
        pattern=r"^[a-z0-9][a-z0-9-]{1,61}[a-z0-9]$",
        description="the bucket of the evidence, made by `billing archive setup`; one for each database",
    )
    archive_retention: str | None = Field(
        None, description="the file that says how long evidence is locked; not set, 90 days that can be lifted"
    )
    archive_wait_s: float = Field(
        60, ge=0, le=3600, description="seconds for which facts are gathered before a batch is written, at most 3600"
    )
    cache_directory: str | None = Field(
        None, description="where verified copies of the evidence are kept for queries; private to one user"
    )

    timing: Literal["production", "short"] = Field(
        "production", description="production, or short: crashes are lived through in seconds, for tests"
    )

    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="debug, info, warning or error")
    log_format: Literal["json", "console"] = Field("json", description="json or console")
    health_directory: str | None = Field(
        None, description="where processes leave the files by which their health is judged"
    )

    def queue(self, name: str) -> QueueSettings:
        """The settings of this queue."""
        values = (f"crew_{name}", f"slice_{name}_s", f"workers_{name}")
        return QueueSettings(*(getattr(self, field) for field in values))

    @property
    def livemode(self) -> bool:
        """True where Stripe's live mode is used, that is, where money is real."""
        return self.environment == "production"

    @field_validator("environment", "timing", "log_level", "log_format", mode="before")
    @classmethod
    def _in_any_case(cls, value: object) -> object:
        """One of a few words: hosting, and other programs, write them in capitals."""
        word = value.lower() if isinstance(value, str) else value
        return "warning" if word == "warn" else word

    @field_validator("archive_retention", "cache_directory", "health_directory")
    @classmethod
    def _as_path(cls, value: str | None) -> str | None:
        if value is not None and not value.isprintable():
            raise ValueError("has a control character in it; remove it")
        return value

    @field_validator("stripe_api_base", "s3_endpoint_url", mode="after")
    @classmethod
    def _as_base(cls, value: str | None, info: ValidationInfo) -> str | None:
        return value if value is None else _base(str(info.field_name), value)

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if self.livemode and self.timing == "short":
            raise ValueError(
                "BILLING_TIMING=short is for tests and BILLING_ENVIRONMENT is production; unset BILLING_TIMING"
            )
        if self.livemode and not self.stripe_api_base.startswith("https://"):
            # Loopback, too: the stand-in, forgotten in production, would say "captured" to everything.
            raise ValueError(
                "STRIPE_API_BASE must begin with https:// where BILLING_ENVIRONMENT is production; "
                "unset it to use Stripe itself"
            )
        if self.stripe_key.shown == "literal" and self.environment not in ("development", "test"):
            raise ValueError(
                f"BILLING_STRIPE_KEY: a literal key is refused where BILLING_ENVIRONMENT is {self.environment}; "
                f"write {SUPPORTED}"
            )
        for name in _S3_KEYS:
            if getattr(self, name).shown == "literal" and self.environment not in ("development", "test"):
                raise ValueError(
                    f"{variable(name)}: the key itself is refused where BILLING_ENVIRONMENT is {self.environment}; "
                    f"write {SUPPORTED}"
                )
        given = [variable(name) for name in _S3_KEYS if getattr(self, name).is_set]
        if len(given) == 1:
            missing = next(variable(name) for name in _S3_KEYS if not getattr(self, name).is_set)
            raise ValueError(
                f"{missing} is not set, and {given[0]} is; set both, or neither to use the role or profile of AWS's SDK"
            )
        host = (self.s3_endpoint_url or "").partition("://")[2]
        if self.archive_bucket and host.startswith(f"{self.archive_bucket}."):
            raise ValueError(
                "S3_ENDPOINT_URL: its host begins with the bucket of BILLING_ARCHIVE_BUCKET; leave the bucket out"
            )
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        assert isinstance(env_settings, EnvSettingsSource)
        # A variable that holds nothing but blanks or quotes is how env files write "not set".
        bared = {name: bare(value) for name, value in env_settings.env_vars.items() if value is not None}
        env_settings.env_vars = {name: value for name, value in bared.items() if value}
        return init_settings, env_settings, InitSettingsSource(settings_cls, _file_values(os.environ))


def load() -> Settings:
    """The settings of this process. Raises SettingsError."""
    in_file = _file_values(os.environ)
    _refuse_unknown(os.environ, in_file)
    try:
        return Settings()  # type: ignore[call-arg]  # the values come from the sources above
    except ValidationError as error:
        problems = [_told(problem, in_file) for problem in error.errors(include_url=False, include_input=False)]
    # Raised outside of the handler: pydantic's error is not to be printed beside ours.
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    raise SettingsError(problems[0] + more)


def variable(field: str) -> str:
    """The environment variable of a setting: `database_url` is DATABASE_URL, `crew_captures` BILLING_CREW_CAPTURES."""
    alias = Settings.model_fields[field].validation_alias
    return field.upper() if alias else f"{PREFIX}{field.upper()}"


def _file_values(environment: Mapping[str, str]) -> dict[str, Any]:
    """What the settings file says; nothing if there is none and none was named."""
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
        raise SettingsError(f"{path}: not text in UTF-8; save it as that") from None


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
    like_the_known = name.upper() if known[0].isupper() else name.lower().removeprefix(PREFIX.lower())
    unprefixed = like_the_known.removeprefix(PREFIX)
    nearest = [unprefixed] if unprefixed in known else difflib.get_close_matches(like_the_known, known, n=1)
    return f"did you mean {nearest[0]}?" if nearest else "remove it"


def _told(problem: Mapping[str, Any], in_file: Mapping[str, Any]) -> str:
    """One of pydantic's findings in one line, without the value."""
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
