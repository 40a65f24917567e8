"""`billing growth`: how large the tables and Redis are, how fast they grow, and how large they will be."""

from typing import TYPE_CHECKING

import typer

from jobs.cli.output import RUNNING, AsJson, counted, print_json, print_line, print_table

if TYPE_CHECKING:
    from jobs.growth.redis_memory import Keys, Memory
    from jobs.growth.tables import Growth

LOOK_S = 5.0
"""So long it counts what could be removed."""


def add_to(app: typer.Typer) -> None:
    app.command(rich_help_panel=RUNNING)(growth)


def growth(as_json: AsJson = False) -> None:
    """Show how large each table is, how much it grows, how large it will be, and what could be removed now.

    Rows are Postgres' estimates. A forecast goes on as the last 7 days did, and nothing is removed meanwhile.

    \b
    Examples:
      billing growth
      billing growth --json
    """
    from redis.exceptions import RedisError

    from jobs.cli.opening import opened
    from jobs.config.secrets import SecretError
    from jobs.config.sources import SettingsError
    from jobs.growth import redis_memory, tables
    from jobs.growth.clean_up import clean_up
    from jobs.rq import bells

    memory, keys, missing = None, None, ""
    with opened() as runtime:
        found = tables.growth(runtime.engine)
        days = runtime.settings.keep_days
        removable = clean_up(runtime.engine, at_least_days=days, only_count=True, within_s=LOOK_S)
        try:
            with bells.open_redis(runtime.redis_url) as redis:
                memory = redis_memory.memory(redis)
                keys = redis_memory.keys(redis, runtime.settings.environment)
        except (RedisError, SettingsError, SecretError) as error:
            missing = type(error).__name__
    if as_json:
        print_json({"tables": found, "removable": removable, "redis": memory, "redis_keys": keys})
        return
    _show_tables(found)
    more = "" if removable.complete else "at least "
    print_line(
        f"removable now: {more}{removable.work} of work, {removable.calls} of idempotency_records, "
        f"of {counted(removable.operations, 'operation')} that ended {days} days ago and are archived"
        + (": billing housekeeping run" if removable.operations else "")
    )
    _show_redis(memory, keys, missing)


def _show_tables(found: "list[Growth]") -> None:
    columns = ("table", "rows", "dead", "bytes", "heap", "indexes", "other", "rows a day", "in 30 days", "in 90 days")
    rows = [
        (
            of.size.name,
            of.size.rows,
            of.size.dead_rows,
            _bytes(of.bytes),
            _bytes(of.size.heap_bytes),
            _bytes(of.size.index_bytes),
            _bytes(of.size.other_bytes),
            "" if of.per_day is None else f"{of.per_day:.0f}",
            *(_bytes(ahead.bytes) for ahead in of.forecasts),
        )
        for of in found
    ]
    print_table("tables", columns, rows)
    counted_ = [of for of in found if of.by_day]
    if counted_:
        periods = len(counted_[0].by_day or ())
        titles = ("table", *(f"{counted(day, 'day')} ago" if day else "last 24 h" for day in range(periods)))
        print_table(
            "rows written, of those that are still there",
            titles,
            [(of.size.name, *(of.by_day or ())) for of in counted_],
        )
    total = sum(of.bytes for of in found)
    ahead = [
        sum(next((f.bytes for f in of.forecasts if f.days == days), of.bytes) for of in found) for days in (30, 90)
    ]
    print_line(f"all tables: {_bytes(total)}; in 30 days {_bytes(ahead[0])}, in 90 days {_bytes(ahead[1])}")


def _show_redis(memory: "Memory | None", keys: "Keys | None", missing: str) -> None:
    if memory is None or keys is None:
        print_line(f"redis: not known ({missing})")
        return
    limit = f"of {_bytes(memory.limit_bytes)} ({memory.policy})" if memory.limit_bytes else "and no limit is set"
    ours = ", ".join(f"{count} {kind}" for kind, count in keys.by_kind.items()) or "none"
    print_line(f"redis: {_bytes(memory.used_bytes)} {limit}; our keys: {ours}{'' if keys.complete else ', or more'}")


def _bytes(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"
