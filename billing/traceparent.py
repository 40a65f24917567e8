"""Which trace of OpenTelemetry an operation belongs to, as W3C writes it: `traceparent`, 55 characters.

    00-<trace: 32 hex digits>-<span: 16>-<flags: 2; an odd number says that the trace is recorded>

It is carried as the correlation id is: in the fact that requests, in the work that is planned from it, and in every
fact that a worker writes about it. Nothing depends on it: what is no traceparent is dropped, and never an error.
"""

import re
import sys
from dataclasses import dataclass
from typing import Any

LENGTH = 55


@dataclass(frozen=True, slots=True)
class Traced:
    """The field `trace` of a line of the log: what a span needs beside the line. Only the id of the trace is written.

    `began_ns`: when what the line tells began, by this machine's clock, in nanoseconds since 1970. `about`: the report
    of a call, or the facts of a batch.
    """

    traceparent: str | None
    began_ns: int
    about: Any = None


# No trace and no span has an id of zeros, and no version is ff. Later versions begin in the same way.
_SHAPE = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}", re.ASCII)


def traceparent(written: object) -> str | None:
    """The value, if it can be a traceparent. An application's login writes facts, so a fact may hold anything."""
    return written if isinstance(written, str) and _SHAPE.fullmatch(written) else None


def trace_id(written: str | None) -> str | None:
    """The id of its trace: 32 hex digits."""
    valid = traceparent(written)
    return None if valid is None else valid.split("-")[1]


def current() -> str | None:
    """Of the span that is open in the caller's thread or task; None where the application traces nothing.

    OpenTelemetry is asked only if the application itself has imported it.
    """
    api = sys.modules.get("opentelemetry.trace")
    if api is None:
        return None
    try:
        span = api.get_current_span().get_span_context()
        return traceparent(f"00-{span.trace_id:032x}-{span.span_id:016x}-{span.trace_flags:02x}")
    except Exception:  # noqa: BLE001 - whatever is wrong with a trace must not keep an application from asking for money
        return None
