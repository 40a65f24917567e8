"""Every number that a process exports to Prometheus: one table. docs/operate/metrics.md is written from it."""

from collections.abc import Callable, Mapping
from importlib import metadata

from billing.events import Refused
from billing.operations import OPERATIONS
from billing.registration import BusinessMetric, Operation
from jobs.config import queues
from jobs.metrics.sources import FromDatabase, FromLog, FromProcess, Instrument, Kind, Line, Process

RELAY, WORKER, ARCHIVER, WEB = "relay", "worker", "archiver", "web"
ALL = (RELAY, WORKER, ARCHIVER, WEB)
SERVERS = ("postgres", "redis", "s3", "secrets")

_CALLS = (0.05, 0.1, 0.2, 0.3, 0.5, 1, 2, 5, 10, 20, 30)
"""Seconds: a call has 30 in all (billing/timing.py)."""
_WORK = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 3600, 21600, 86400)
"""Seconds: from work that nothing delays to a day without Stripe."""


def _each(_line: Line) -> float:
    return 1


def _each_with(field: str) -> Callable[[Line], float | None]:
    """One for each line where this field says something."""
    return lambda line: None if line.get(field) is None else 1


def _sum_of(field: str) -> Callable[[Line], float | None]:
    return lambda line: line.get(field)


def _seconds_of(field: str) -> Callable[[Line], float | None]:
    """Of a field in milliseconds."""
    return lambda line: None if line.get(field) is None else line[field] / 1000


_NOT_STRIPES = {
    each.name
    for operation in OPERATIONS.values()
    for each in operation.contracts
    if each.queue in queues.LOCAL | queues.MAILING | queues.KEEPING
}


def _seconds_at_stripe(line: Line) -> float | None:
    """Of a call at Stripe: functions of ours are not called there, e-mails are handed to a mail server, and documents
    are stored."""
    return None if line.get("took_ms") is None or line.get("contract") in _NOT_STRIPES else line["took_ms"] / 1000


def _counter(
    name: str,
    unit: str,
    labels: str,
    roles: tuple[str, ...],
    meaning: str,
    source: FromLog | FromProcess,
    from_zero: tuple[tuple[str, ...], ...] = (),
) -> Instrument:
    return Instrument(name, Kind.COUNTER, unit, tuple(labels.split()), roles, meaning, source, from_zero=from_zero)


def _histogram(name: str, labels: str, meaning: str, source: FromLog, buckets: tuple[float, ...]) -> Instrument:
    return Instrument(name, Kind.HISTOGRAM, "seconds", tuple(labels.split()), (WORKER,), meaning, source, buckets)


def _read(name: str, unit: str, labels: str, meaning: str, statement: str, column: str) -> Instrument:
    source = FromDatabase(statement, column)
    return Instrument(name, Kind.GAUGE, unit, tuple(labels.split()), (RELAY,), meaning, source)


def _asked(name: str, unit: str, label: str, meaning: str, ask: Callable[[Process], Mapping[str, float]]) -> Instrument:
    return Instrument(name, Kind.GAUGE, unit, tuple(label.split()), ALL, meaning, FromProcess(ask))


_SETTLED = ("operation.settled",)
_RARE = tuple(
    (event, level)
    for level, events in {
        "warning": "postgres.away redis.away redis.lost provider.silent provider.throttled archive.away archive.failed",
        "error": "operation.settled work.quarantined settle.kept call.crashed call.abandoned evidence.differs",
    }.items()
    for event in events.split()
)
"""Lines that alerts count: a series that begins with its first line would not seem to have grown."""

READS = _counter(
    "billing_database_reads_total",
    "statements",
    "statement outcome",
    (RELAY,),
    "what became of reading these numbers: those of a statement that was too slow, or failed, are missing meanwhile",
    FromLog(),
)
UNCOUNTED = _counter(
    "billing_lines_uncounted_total",
    "lines",
    "",
    ALL,
    "lines whose counting failed, a bug of ours; they were written all the same",
    FromLog(),
)

_OF_EVERYTHING = (
    _histogram(
        "billing_wait_seconds",
        "contract",
        "from a request to the first call for it",
        FromLog(("operation.prepared",), _seconds_of("waited_ms")),
        _WORK,
    ),
    _histogram(
        "billing_run_seconds",
        "contract",
        "from the first call for an operation to its end",
        FromLog(_SETTLED, _seconds_of("ran_ms")),
        _WORK,
    ),
    _histogram(
        "billing_provider_call_seconds",
        "contract called answer",
        "how long calls at Stripe took, by what came back",
        FromLog(("operation.prepared", *_SETTLED), _seconds_at_stripe),
        _CALLS,
    ),
    _counter(
        "billing_ended_total",
        "operations",
        "contract state",
        (WORKER,),
        "operations that came to a final state",
        FromLog(_SETTLED, _each_with("ran_ms")),
    ),
    _counter(
        "billing_settled_total",
        "times",
        "contract standing",
        (WORKER,),
        "how often an operation was left without a call in hand; but for `concluded`, each is a retry or a stop",
        FromLog(_SETTLED, _each),
    ),
    _counter(
        "billing_planned_total",
        "pieces of work",
        "contract",
        (RELAY,),
        "requests that were turned into work",
        FromLog(("operation.planned",), _each),
    ),
    _counter(
        "billing_archived_facts_total",
        "facts",
        "",
        (ARCHIVER,),
        "facts that are in S3, locked and read back",
        FromLog(("batch.archived",), _sum_of("rows")),
    ),
    _counter(
        "billing_archived_bytes_total",
        "bytes",
        "",
        (ARCHIVER,),
        "the objects that hold them",
        FromLog(("batch.archived",), _sum_of("bytes")),
    ),
    _counter(
        "billing_postgres_errors_total",
        "times",
        "sqlstate",
        ALL,
        "what Postgres refused or ended, as far as a line tells its code",
        FromLog((), _each_with("sqlstate")),
        (("53100",),),
    ),
    _counter(
        "billing_log_lines_total",
        "lines",
        "event level",
        ALL,
        "lines of the log from `info` up, whatever `BILLING_LOG_LEVEL` leaves out of it",
        FromLog((), _each),
        _RARE,
    ),
    UNCOUNTED,
    _counter(
        "billing_webhooks_received_total",
        "events",
        "",
        (WEB,),
        "events that are new in the inbox",
        FromLog(("webhooks.stored",), _sum_of("new")),
    ),
    _counter(
        "billing_webhooks_duplicates_total",
        "events",
        "",
        (WEB,),
        "events that were in the inbox already: Stripe sends some twice",
        FromLog(("webhooks.stored",), _sum_of("duplicates")),
    ),
    _counter(
        "billing_webhooks_refused_total",
        "requests",
        "reason",
        (WEB,),
        "webhooks that were not taken; docs/moves/webhooks.md says what to do about each reason",
        FromLog(("webhook.refused",), _each),
        tuple((reason,) for reason in Refused),
    ),
    _read(
        "billing_events_unmatched",
        "events",
        "",
        "events in the inbox whose operation is not known yet, counted up to 20,000",
        "events",
        "unmatched",
    ),
    _read(
        "billing_events_unmatched_oldest_seconds",
        "seconds",
        "",
        "since the oldest of them came; after an hour it counts as somebody else's",
        "events",
        "oldest_s",
    ),
    _read(
        "billing_events_strange",
        "events",
        "",
        "events of the last day that name an operation which is not known here, counted up to 20,000",
        "strange_events",
        "events",
    ),
    _read(
        "billing_work",
        "pieces of work",
        "queue state",
        "work that is not done, counted up to 20,000 in each state",
        "work",
        "pieces",
    ),
    _read(
        "billing_work_oldest_seconds",
        "seconds",
        "queue state",
        "for how long the oldest of it has been in its state",
        "work",
        "oldest_s",
    ),
    _read(
        "billing_in_doubt_operations",
        "operations",
        "operation currency",
        "operations whose call may have had an effect, without an answer",
        "in_doubt",
        "operations",
    ),
    _read(
        "billing_in_doubt_money_minor", "minor units", "operation currency", "what they are about", "in_doubt", "minor"
    ),
    _read(
        "billing_in_doubt_oldest_seconds",
        "seconds",
        "operation currency",
        "since the first call of the oldest of them",
        "in_doubt",
        "oldest_s",
    ),
    _read(
        "billing_undecided_calls",
        "calls",
        "queue",
        "calls that no look could decide so far; each was logged once as an error",
        "undecided",
        "calls",
    ),
    _read(
        "billing_stopped_money_minor",
        "minor units",
        "operation state currency",
        "what work that is held, parked or quarantined is about",
        "stopped_money",
        "minor",
    ),
    _read(
        "billing_expiring_captures",
        "captures",
        "currency",
        "captures not taken yet whose authorization lapses within 24 hours, or has lapsed; counted up to 20,000",
        "expiring",
        "captures",
    ),
    _read(
        "billing_expiring_money_minor",
        "minor units",
        "currency",
        "the money that is at risk with them",
        "expiring",
        "minor",
    ),
    _read(
        "billing_captures_not_invoiced",
        "captures",
        "",
        "captures whose period is over and that are on no invoice, counted up to 20,000",
        "not_invoiced",
        "captures",
    ),
    _read(
        "billing_captures_not_invoiced_oldest_seconds",
        "seconds",
        "",
        "since the end of the earliest of these periods",
        "not_invoiced",
        "oldest_s",
    ),
    _read(
        "billing_documents_not_stored",
        "documents",
        "state",
        "documents of invoices and credit notes that are `requested`, or `refused` and need a decision, counted up to"
        " 20,000 in each state",
        "documents",
        "documents",
    ),
    _read(
        "billing_unplanned_facts",
        "facts",
        "",
        "facts that no relay has planned, counted up to 20,000",
        "unplanned",
        "facts",
    ),
    _read("billing_relay_lag_seconds", "seconds", "", "the age of the oldest of them", "unplanned", "oldest_s"),
    _read(
        "billing_unarchived_facts",
        "facts",
        "retention_class",
        "planned facts that are in no batch of the archive, counted up to 20,000",
        "unarchived",
        "facts",
    ),
    _read(
        "billing_archive_lag_seconds",
        "seconds",
        "retention_class",
        "the age of the oldest of them",
        "unarchived",
        "oldest_s",
    ),
    _read(
        "billing_facts_set_aside",
        "facts",
        "withheld_from",
        "facts that could not be planned or archived, counted up to 20,000",
        "set_aside",
        "facts",
    ),
    _read(
        "billing_queue_lag_seconds",
        "seconds",
        "queue",
        "for how long the oldest of the requests that are started next has waited",
        "loads",
        "lag_s",
    ),
    _read(
        "billing_queue_behind",
        "0 or 1",
        "queue",
        "1: that is longer than the SLO of its queue, although requests are started",
        "loads",
        "behind",
    ),
    _read(
        "billing_differences_open",
        "differences",
        "class",
        "where our rows and Stripe's own records say different things, counted up to 20,000",
        "differences",
        "differences",
    ),
    _read(
        "billing_difference_oldest_seconds",
        "seconds",
        "class",
        "for how long the oldest of them is open",
        "differences",
        "oldest_s",
    ),
    _read(
        "billing_reconciliation_lag_seconds",
        "seconds",
        "",
        "the age of what was compared with Stripe last; two hours are usual, and 0 if nothing ever was",
        "reconciliation",
        "lag_s",
    ),
    _read("billing_switches_pulled", "switches", "", "switches that stop sends", "switches", "switches"),
    _read(
        "billing_table_bytes",
        "bytes",
        "table",
        "the size of each table, with its indexes",
        "tables",
        "bytes",
    ),
    Instrument(
        "billing_redis_memory_bytes",
        Kind.GAUGE,
        "bytes",
        ("memory",),
        (RELAY,),
        "the memory of Redis: how much is used, and its limit, where one is set",
        FromProcess(lambda process: process.redis_bytes()),
    ),
    READS,
    _asked(
        "billing_process_info",
        "1",
        "version",
        "that this process runs, and as which version",
        lambda _process: {_version(): 1},
    ),
    _counter(
        "billing_loop_turns_total",
        "turns",
        "",
        ALL,
        "how often the process's loop has turned",
        FromProcess(lambda process: {"": process.turns()}),
    ),
    _asked(
        "billing_loop_quiet_seconds",
        "seconds",
        "",
        "since its loop last turned; a loop turns several times a second, and its process ends itself after 120 s",
        lambda process: {"": process.quiet_s()},
    ),
    _asked(
        "billing_waits_for_server",
        "0 or 1",
        "server",
        "1: the process waits for this server before it starts",
        lambda process: {server: server == process.waits_for() for server in SERVERS},
    ),
    _counter(
        "billing_spans_total",
        "spans",
        "outcome",
        ALL,
        "what became of the spans of traces; none where traces are off",
        FromProcess(lambda process: process.spans()),
    ),
    _asked(
        "billing_postgres_connections",
        "connections",
        "use",
        "of the process's pool",
        lambda process: process.connections(),
    ),
)


def _version() -> str:
    try:
        return metadata.version("billing-reference")
    except metadata.PackageNotFoundError:
        return "none"


def instruments() -> list[Instrument]:
    """The whole table: what a business counts, as each operation's registration says, and the numbers of everything."""
    business = [_of_business(operation, each) for operation in OPERATIONS.values() for each in operation.business]
    return [*business, *_OF_EVERYTHING]


def _of_business(operation: Operation, metric: BusinessMetric) -> Instrument:
    names = {contract.name for contract in operation.contracts}

    def adds(line: Line) -> float | None:
        # Only the line that tells its end has `ran_ms`.
        if line.get("ran_ms") is None or line.get("state") != metric.state or line.get("contract") not in names:
            return None
        return line.get("minor") if metric.money else line.get("bytes") if metric.size else 1

    unit = "minor units" if metric.money else "bytes" if metric.size else f"{operation.kind}s"
    # What is not about money has no currency, and begins at zero.
    labels = "currency" if operation.amount else ""
    return _counter(f"billing_{metric.name}_total", unit, labels, (WORKER,), metric.meaning, FromLog(_SETTLED, adds))
