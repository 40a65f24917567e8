"""The table of all settings: name, type, default and meaning. One frozen value per process.

`sources` says where the values come from, `checks` what they must be, and `loading` reads them.
"""

import os
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, Self

from pydantic import (
    BeforeValidator,
    Field,
    PlainSerializer,
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

from billing.periods import Calendars
from jobs.config import checks
from jobs.config.queues import QUEUES
from jobs.config.secrets import SUPPORTED, Secret
from jobs.config.service_links import is_link
from jobs.config.sources import PREFIX, file_values, variable, without_blanks


def _secret(value: object, info: ValidationInfo) -> Secret:
    return checks.secret(value, info.field_name or "", info.data.get("environment", "production"))


SecretField = Annotated[Secret, BeforeValidator(_secret), PlainSerializer(str)]


class QueueSettings(NamedTuple):
    """The settings of one queue."""

    crew: int
    slice_s: float
    workers: int
    memory_mb: int
    recycle: int


def _of_every_queue() -> dict[str, Any]:
    """The fields of `QueueSettings` once for each queue, as `crew_captures` or `memory_captures_mb`."""
    fields: dict[str, Any] = {}
    for queue in QUEUES:
        fields[f"crew_{queue.name}"] = (
            int,
            Field(
                queue.crew,
                ge=1,
                le=256,
                description=f"processes that one {queue.name} worker runs at once, 1 to 256"
                if queue.apart
                else f"provider calls that one {queue.name} worker has in flight, 1 to 256",
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
        fields[f"memory_{queue.name}_mb"] = (
            int,
            Field(
                512,
                ge=128,
                le=1_000_000,
                description=f"MB of memory that each call on {queue.name} may use, in a process of its own"
                if queue.apart
                else f"a {queue.name} worker that has used more MB of memory ends after its shift, to be restarted",
            ),
        )
        fields[f"recycle_{queue.name}"] = (
            int,
            Field(
                0,
                ge=0,
                le=100_000_000,
                description=f"a {queue.name} worker ends after so many calls, to be restarted; 0, never",
            ),
        )
    return fields


if TYPE_CHECKING:
    _Queues = BaseSettings
else:
    _Queues = create_model("_Queues", __base__=BaseSettings, **_of_every_queue())


class Settings(_Queues):
    """All settings. No default where a wrong value moves money or hides that it did."""

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
    webhook_secrets: SecretField = Field(
        Secret.unset("BILLING_WEBHOOK_SECRETS"),
        description=f"{SUPPORTED}, of the signing secrets of webhooks (whsec_...), separated by commas: one for each "
        "endpoint at Stripe, and a new one beside the old while it is rolled; only `billing serve` needs them",
    )
    stripe_account: str | None = Field(
        None,
        pattern=r"^acct_[A-Za-z0-9]+$",
        description="the connected account (acct_...) of what the command asks for; not set, our own",
    )
    function_niceness: int = Field(
        10,
        ge=0,
        le=19,
        description="how much what is scheduled gives way to other programs: 0, not at all, to 19; at 10 a tenth",
    )
    stripe_rate: float | None = Field(
        None,
        ge=1,
        le=100_000,
        description="requests per second to one Stripe account, by all workers together; not set, what Stripe "
        "documents: 100 in production, else 25",
    )

    email_server: SecretField = Field(
        Secret.unset("BILLING_EMAIL_SERVER"),
        description="smtps://user:password@host:465, smtp://user:password@host:587 (with STARTTLS), ses://REGION, or a "
        "reference to such a URL; only workers of the queue emails need it",
    )
    email_from: str | None = Field(None, description="whom e-mails come from: Name <address>, in one line")
    email_templates: str | None = Field(
        None, description="a folder of templates and words that replace those of the package, each by itself"
    )
    email_recipients: str | None = Field(
        None,
        pattern=r"^[A-Za-z_][A-Za-z0-9_.]{0,200}:[A-Za-z_][A-Za-z0-9_]{0,99}$",
        description="module:function of your application that knows the address behind an id that is no customer of "
        "Stripe's; not set, only customers (cus_...) get e-mails",
    )

    invoice_emails: str = Field(
        "stripe",
        pattern=r"^(stripe|own)(, *acct_[A-Za-z0-9]+=(stripe|own)){0,500}$",
        description="who e-mails an invoice that is to be sent: stripe, or own for this service; for connected "
        "accounts otherwise, as stripe,acct_123=own; read when the invoice is finalized",
    )
    receipt_emails: str = Field(
        "none",
        pattern=r"^(none|own)(, *acct_[A-Za-z0-9]+=(none|own)){0,500}$",
        description="who e-mails receipts for captures and refunds to the payment's customer: own for this service, or "
        "none; for connected accounts otherwise, as none,acct_123=own; read when the money was taken or given back",
    )
    ses_topics: str | None = Field(
        None,
        pattern=r"^arn:aws[a-z-]{0,7}:sns:[a-z0-9-]{3,30}:[0-9]{12}:[A-Za-z0-9_-]{1,256}"
        r"(, *arn:aws[a-z-]{0,7}:sns:[a-z0-9-]{3,30}:[0-9]{12}:[A-Za-z0-9_-]{1,256}){0,19}$",
        description="the ARNs of the SNS topics, separated by commas, by which Amazon SES tells `billing serve` of "
        "bounces and complaints; not set, it takes none",
    )
    documents: Literal["auto", "off"] = Field(
        "auto",
        description="auto: the documents of invoices are kept where BILLING_ARCHIVE_BUCKET is set; off, nowhere",
    )
    document_hosts: str = Field(
        "pay.stripe.com,files.stripe.com",
        pattern=r"^[a-z0-9.-]{1,100}(,[a-z0-9.-]{1,100}){0,9}$",
        description="the hosts from which documents may come, by https, separated by commas; beside that of "
        "STRIPE_API_BASE",
    )
    document_most_mb: int = Field(
        20, ge=1, le=100, description="a document of more MB is not read, 1 to 100; Stripe's have less than 1"
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
    s3_addressing: Literal["auto", "path", "virtual"] = Field(
        "auto",
        description="where a request names the bucket: path (https://host/bucket) or virtual (https://bucket.host); "
        "auto, path if S3_ENDPOINT_URL is set, else what AWS's SDK chooses",
    )
    s3_encryption: Literal["sse-s3", "sse-kms"] | None = Field(
        None,
        description="how S3 encrypts each object: sse-s3, with keys of its own, or sse-kms, with BILLING_S3_KMS_KEY "
        "and bucket keys; not set, as the bucket does by itself",
    )
    s3_kms_key: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9/_:-]{1,256}$",
        description="the key in AWS KMS for sse-kms: its id or ARN; an ARN if the bucket is of another account",
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
        600,
        ge=0,
        le=3600,
        description="seconds for which facts are gathered before a batch is written, at most 3600; a tenth of it once "
        "1,000 facts of a class wait",
    )
    signing_key: SecretField = Field(
        Secret.unset("BILLING_SIGNING_KEY"),
        description=f"{SUPPORTED}, of the private key in PEM with which archivers sign (`billing archive key new`)",
    )
    signing_kms_key: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9/_:-]{1,256}$",
        description="the key in AWS KMS with which archivers sign instead: its id, ARN or alias (ECC_NIST_P256)",
    )
    heads_bucket: str | None = Field(
        None,
        pattern=r"^[a-z0-9][a-z0-9-]{1,61}[a-z0-9]$",
        description="a second bucket with Object Lock, best of another account, to which heads are published every day",
    )
    heads_endpoint_url: str | None = Field(
        None,
        description="where the S3 of the second bucket listens, if it is another provider's; not set, as for the first",
    )
    heads_region: str | None = Field(
        None,
        pattern=r"^[a-z][a-z0-9-]{0,61}[a-z0-9]$",
        description="the region of the second bucket; not set, that of the first",
    )
    heads_profile: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9_.@+-]{1,64}$",
        description="the profile of AWS's SDK with which the second bucket is used, such as a role of another account",
    )
    heads_access_key: SecretField = Field(
        Secret.unset("BILLING_HEADS_ACCESS_KEY"),
        description=f"{SUPPORTED}; not set, the second bucket is used with the keys of the first",
    )
    heads_secret_key: SecretField = Field(
        Secret.unset("BILLING_HEADS_SECRET_KEY"),
        description=f"{SUPPORTED}; not set, the second bucket is used with the keys of the first",
    )
    heads_directory: str | None = Field(
        None, description="a directory to which archivers publish heads, a file per day: for mail, or a file server"
    )
    cache_directory: str | None = Field(
        None, description="where verified copies of the evidence are kept for queries; private to one user"
    )

    cache_most_mb: int = Field(
        10_000,
        ge=100,
        le=10_000_000,
        description="megabytes that these copies may take, at least 100; those that were not used for longest go first",
    )

    compacted_bucket: str | None = Field(
        None,
        pattern=r"^[a-z0-9][a-z0-9-]{1,61}[a-z0-9]$",
        description="a bucket without Object Lock, for sorted copies of months (`billing archive compact`)",
    )
    compacted_access_key: SecretField = Field(
        Secret.unset("BILLING_COMPACTED_ACCESS_KEY"),
        description=f"{SUPPORTED}; not set, the copies are written with the keys of the archive",
    )
    compacted_secret_key: SecretField = Field(
        Secret.unset("BILLING_COMPACTED_SECRET_KEY"),
        description=f"{SUPPORTED}; not set, the copies are written with the keys of the archive",
    )
    scratch_url: SecretField = Field(
        Secret.unset("BILLING_SCRATCH_URL"),
        description="postgresql://user:password@host/database, or a reference: a database of its own, into which "
        "`billing archive restore` brings facts for an investigation",
    )

    invoice_periods: str = Field(
        "month UTC",
        description="by which periods captures are collected on invoices: month, week or day, and the zone in which "
        "its days begin, such as `week Europe/Berlin`; for one account `acct_...=day Asia/Tokyo`, for that of our own "
        "key `own=...`, with commas between",
    )
    warn_hours: int = Field(
        24,
        ge=1,
        le=720,
        description="hours before its authorization lapses from which on a capture that has not ended is warned of",
    )
    keep_days: int = Field(
        90,
        ge=90,
        le=36500,
        description="days for which work and calls of ended operations stay in Postgres, at least 90; only what is "
        "archived is removed",
    )
    keep_facts_days: int | None = Field(
        None,
        ge=90,
        le=36500,
        description="days after which facts of ended operations leave Postgres, at least 90; an archiver compares each "
        "with the archive first; not set, facts stay",
    )

    actor: str | None = Field(
        None,
        description="who runs the commands here, kept with whatever they change; --actor goes first; not set, the "
        "shell's user (shell:anna), which production refuses",
    )

    timing: Literal["production", "short"] = Field(
        "production", description="production, or short: crashes are lived through in seconds, for tests"
    )

    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="debug, info, warning or error")
    log_format: Literal["json", "console"] = Field("json", description="json or console")
    health_directory: str | None = Field(
        None, description="where processes leave the files by which their health is judged"
    )

    metrics_port: int | None = Field(
        None,
        ge=0,
        le=65535,
        description="where this process answers Prometheus, each on a port of its own; not set, nowhere; 0, a free one",
    )
    metrics_host: str = Field(
        "127.0.0.1",
        pattern=r"^[0-9A-Za-z.:-]{1,253}$",
        description="the address on which it answers Prometheus; another machine reaches 0.0.0.0, or an address of its",
    )
    otel_exporter_otlp_endpoint: str | None = Field(
        None,
        validation_alias="otel_exporter_otlp_endpoint",
        pattern=r"^https?://[^\s@]{1,500}$",
        description="where traces go: the collector's address for OTLP over HTTP, as http://collector:4318; "
        "not set, nowhere",
    )

    def queue(self, name: str) -> QueueSettings:
        """The settings of this queue."""
        values = (f"crew_{name}", f"slice_{name}_s", f"workers_{name}", f"memory_{name}_mb", f"recycle_{name}")
        return QueueSettings(*(getattr(self, field) for field in values))

    def mails_invoices(self, account: str | None) -> bool:
        """Whether this service e-mails the invoices of this account, and not Stripe."""
        return _of_account(self.invoice_emails, account) == "own"

    def mails_receipts(self, account: str | None) -> bool:
        """Whether this service e-mails receipts for captures and refunds of this account."""
        return _of_account(self.receipt_emails, account) == "own"

    @property
    def topics(self) -> frozenset[str]:
        """The SNS topics whose messages are taken."""
        return frozenset((self.ses_topics or "").replace(",", " ").split())

    @property
    def calendars(self) -> Calendars:
        """By which periods the captures of each account are collected on invoices."""
        return checks.calendars(self.invoice_periods)

    @property
    def calls_per_s(self) -> float:
        """How fast one Stripe account may be called. Source of the defaults: docs.stripe.com/rate-limits."""
        return self.stripe_rate if self.stripe_rate is not None else 100.0 if self.livemode else 25.0

    @property
    def keeps_documents(self) -> bool:
        """Whether the documents of invoices are kept."""
        return self.documents != "off" and self.archive_bucket is not None

    @property
    def livemode(self) -> bool:
        """True where Stripe's live mode is used, that is, where money is real."""
        return self.environment == "production"

    @field_validator(
        "environment", "timing", "log_level", "log_format", "s3_addressing", "s3_encryption", mode="before"
    )
    @classmethod
    def _one_of_a_few(cls, value: object) -> object:
        return checks.one_of_a_few(value)

    @field_validator("email_from")
    @classmethod
    def _sender(cls, value: str | None) -> str | None:
        return checks.sender(value)

    @field_validator("invoice_periods")
    @classmethod
    def _periods(cls, value: str) -> str:
        checks.calendars(value)
        return value

    @field_validator("archive_retention", "heads_directory", "cache_directory", "health_directory", "email_templates")
    @classmethod
    def _path(cls, value: str | None) -> str | None:
        return checks.path(value)

    @field_validator("stripe_api_base", "s3_endpoint_url", "heads_endpoint_url", mode="after")
    @classmethod
    def _base(cls, value: str | None, info: ValidationInfo) -> str | None:
        return checks.base(value, info.field_name or "")

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        """Refuse values that contradict each other, or that would move money in the wrong environment."""
        if self.livemode and self.timing == "short":
            raise ValueError(
                "BILLING_TIMING=short is for tests and BILLING_ENVIRONMENT is production; unset BILLING_TIMING"
            )
        if self.livemode and not self.stripe_api_base.startswith("https://"):
            # Loopback, too: a stand-in left in production would answer "captured" to everything.
            raise ValueError(
                "STRIPE_API_BASE must begin with https:// where BILLING_ENVIRONMENT is production; "
                "unset it to use Stripe itself"
            )
        if self.stripe_key.shown == "literal" and self.environment not in ("development", "test"):
            raise ValueError(
                f"BILLING_STRIPE_KEY: a literal key is refused where BILLING_ENVIRONMENT is {self.environment}; "
                f"write {SUPPORTED}"
            )
        for name in checks.S3_KEYS:
            if getattr(self, name).shown == "literal" and self.environment not in ("development", "test"):
                raise ValueError(
                    f"{variable(name)}: the key itself is refused where BILLING_ENVIRONMENT is {self.environment}; "
                    f"write {SUPPORTED}"
                )
        named = [variable(name) for name in checks.S3_KEYS if getattr(self, name).is_set]
        if len(named) == 1:
            missing = next(variable(name) for name in checks.S3_KEYS if not getattr(self, name).is_set)
            raise ValueError(
                f"{missing} is not set, and {named[0]} is; set both, or neither to use the role or profile of AWS's SDK"
            )
        if self.heads_access_key.is_set != self.heads_secret_key.is_set:
            raise ValueError(
                "BILLING_HEADS_ACCESS_KEY and BILLING_HEADS_SECRET_KEY are needed together; set both, or neither"
            )
        if self.heads_access_key.is_set and self.heads_profile is not None:
            raise ValueError("BILLING_HEADS_PROFILE and BILLING_HEADS_ACCESS_KEY are both set; unset one of them")
        if self.heads_endpoint_url is not None and not (self.heads_access_key.is_set or self.heads_profile):
            raise ValueError(
                "BILLING_HEADS_ENDPOINT_URL is set, and no keys for that provider; set BILLING_HEADS_ACCESS_KEY and "
                "BILLING_HEADS_SECRET_KEY, or BILLING_HEADS_PROFILE"
            )
        same_place = self.heads_endpoint_url in (None, self.s3_endpoint_url)
        if self.heads_bucket is not None and self.heads_bucket == self.archive_bucket and same_place:
            raise ValueError("BILLING_HEADS_BUCKET is the archive's own bucket; name another one")
        if self.compacted_access_key.is_set != self.compacted_secret_key.is_set:
            raise ValueError(
                "BILLING_COMPACTED_ACCESS_KEY and BILLING_COMPACTED_SECRET_KEY belong together; set both, or neither"
            )
        if self.compacted_bucket is not None and self.compacted_bucket in (self.archive_bucket, self.heads_bucket):
            raise ValueError("BILLING_COMPACTED_BUCKET is a bucket of evidence, which is never replaced; name another")
        if (self.s3_encryption == "sse-kms") != (self.s3_kms_key is not None):
            raise ValueError(
                "BILLING_S3_KMS_KEY is needed where BILLING_S3_ENCRYPTION is sse-kms, and only there; set both, or "
                "neither"
            )
        if self.signing_key.is_set and self.signing_kms_key is not None:
            raise ValueError("BILLING_SIGNING_KMS_KEY and BILLING_SIGNING_KEY are both set; unset one of them")
        for url, bucket in (("s3_endpoint_url", "archive_bucket"), ("heads_endpoint_url", "heads_bucket")):
            host = (getattr(self, url) or "").partition("://")[2]
            if getattr(self, bucket) and host.startswith(f"{getattr(self, bucket)}."):
                raise ValueError(
                    f"{variable(url)}: its host begins with the bucket of {variable(bucket)}; leave the bucket out"
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
        values = without_blanks(env_settings.env_vars)
        # A Service called `billing-metrics` puts BILLING_METRICS_PORT=tcp://... into every pod: no port of ours.
        env_settings.env_vars = {name: value for name, value in values.items() if not _is_a_link(name)}
        return init_settings, env_settings, InitSettingsSource(settings_cls, file_values(os.environ))


def _is_a_link(name: str) -> bool:
    return name.upper() in os.environ and is_link(name.upper(), os.environ)


def _of_account(written: str, account: str | None) -> str:
    """What a setting such as `stripe,acct_123=own` says for this account."""
    default, *others = written.replace(" ", "").split(",")
    return dict(each.split("=") for each in others).get(account or "", default)
