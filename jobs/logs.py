"""One JSON line per outcome: a static event name, ids instead of objects, and no free text.

docs/logs.md lists every event. A line about one operation carries its id and its correlation id (`about`); an exception
is logged by its class and its place, because its message may quote a row, a parameter or a body.
"""

import logging
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Literal, TextIO, cast

import sqlalchemy.event
import structlog
from sqlalchemy.orm import Session

from billing.tables.entities import Entity
from billing.tables.facts import Fact
from billing.tables.work import Work
from billing.traceparent import Traced, trace_id

log = structlog.get_logger()

_ROOT = Path(__file__).parents[1]
_FRAMES = 30
"""So many of the innermost frames are logged; more would not help."""


def configure(level: str = "info", style: Literal["json", "console"] = "json", *, heard: bool = False) -> None:
    """Set up logging for this process, once. Lines go to standard error; standard output is for answers.

    `heard`: somebody will hear the lines (`hear_lines`), so those from info up are made whatever `level` is, and
    dropped after that.
    """
    made = "info" if heard and level in _ABOVE_INFO else level
    logging.basicConfig(level=logging.WARNING, handlers=[Libraries()])
    # Another library's debug lines print bodies: the SDK's own are never shown below WARNING.
    logging.getLogger("stripe").setLevel(logging.WARNING)
    _PROCESSORS[:] = [
        structlog.contextvars.merge_contextvars,
        _LEVEL,
        *([_dropping(level)] if made != level else []),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _without_messages,
        _with_the_trace_as_its_id,
        # Both escape control characters: no field can begin another line, or color one.
        structlog.processors.JSONRenderer()
        if style == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), repr_native_str=True),
    ]
    structlog.configure(
        processors=_PROCESSORS,
        wrapper_class=structlog.make_filtering_bound_logger(made),
        logger_factory=structlog.PrintLoggerFactory(cast("TextIO", _StandardError())),
        cache_logger_on_first_use=True,
    )


class _StandardError:
    """A line that it does not take is lost: its disk is full, or what read it has gone. The line tells what was done,
    and must not keep the process from going on."""

    def __init__(self) -> None:
        self._file = sys.stderr

    def write(self, text: str) -> None:
        with suppress(OSError):
            self._file.write(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._file.flush()


# One list, changed in place: a logger keeps the list that it was first used with.
_PROCESSORS: list[structlog.typing.Processor] = []
_LEVEL = structlog.processors.add_log_level
_ABOVE_INFO = ("warning", "error")


def hear_lines(hear: Callable[[Mapping[str, Any]], object]) -> None:
    """From now on call this with every line before it is written. It must not raise."""

    def heard(_logger: object, _name: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        hear(event)
        return event

    _PROCESSORS.insert(_PROCESSORS.index(_LEVEL) + 1, heard)


def _dropping(level: str) -> structlog.typing.Processor:
    """What ends every line below this level."""
    least = structlog.processors.NAME_TO_LEVEL[level]

    def dropped(_logger: object, name: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        if structlog.processors.NAME_TO_LEVEL[name] < least:
            raise structlog.DropEvent
        return event

    return dropped


def own_the_process() -> None:
    """Log uncaught exceptions and warnings as events, instead of printing them on standard error."""
    logging.captureWarnings(True)
    sys.excepthook = _crashed
    threading.excepthook = lambda raised: _crashed(raised.exc_type, raised.exc_value, raised.exc_traceback)


def owns_the_process() -> bool:
    """Whether it is a process with a log, and no command."""
    return sys.excepthook is _crashed


def about(entity: Entity | Work | Fact) -> dict[str, str | None]:
    """The two ids of a line about one operation. A search for either shows its whole life."""
    operation_id = entity.entity_id if isinstance(entity, Work | Fact) else entity.id
    return {"operation_id": operation_id, "correlation_id": entity.correlation_id}


def once_committed(session: Session, write: Callable[[], object]) -> None:
    """Call `write` after the commit, and never if the transaction is rolled back: a line says what became true."""
    sqlalchemy.event.listen(session, "after_commit", lambda _: write(), once=True)


class Libraries(logging.Handler):
    """Logs warnings and errors of libraries as events of ours: the library, the place, and the text without its values.

    If the library has put values into the text itself, the text is left out, because it may quote anything.
    """

    def emit(self, record: logging.LogRecord) -> None:
        log.log(
            record.levelno,
            "library.reported",
            library=record.name,
            place=f"{record.module}:{record.lineno}",
            text=record.msg if record.args and isinstance(record.msg, str) else None,
            exc_info=record.exc_info,
        )


def _crashed(kind: type[BaseException], error: BaseException | None, place: TracebackType | None) -> None:
    if error is None or issubclass(kind, KeyboardInterrupt | SystemExit):
        return
    log.critical("process.crashed", exc_info=error.with_traceback(place))


def _without_messages(_logger: object, _name: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """`exc_info` becomes `raised`: the exception and its causes, each with its class and its place."""
    exc_info = event.pop("exc_info", None)
    error = sys.exc_info()[1] if exc_info is True else exc_info[1] if isinstance(exc_info, tuple) else exc_info
    if isinstance(error, BaseException):
        event["raised"] = list(chain_of(error))
    return event


def _with_the_trace_as_its_id(
    _logger: object, _name: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """What `trace` holds is for those who hear the lines. What is written of it is the id of the trace, if the
    application named one."""
    trace = event.pop("trace", None)
    if isinstance(trace, Traced) and trace.traceparent is not None:
        event["trace"] = trace_id(trace.traceparent)
    return event


class RaisedElsewhere(Exception):
    """An exception of another process. `raised`: its chain, as `chain_of` gave it there."""

    def __init__(self, raised: list[dict[str, Any]]) -> None:
        super().__init__(raised[0]["kind"])
        self.raised = raised


def class_of(error: BaseException) -> str:
    """The name of its class, without its module."""
    kind = error.raised[0]["kind"] if isinstance(error, RaisedElsewhere) else type(error).__name__
    return str(kind).rpartition(".")[2]


def chain_of(error: BaseException | None) -> Iterator[dict[str, Any]]:
    """An exception and its causes without their messages: class, place, and Postgres' code and constraint if any."""
    if isinstance(error, RaisedElsewhere):
        yield from error.raised
        return
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        kind = type(error)
        diagnosis = getattr(error, "diag", None)
        codes = {
            "sqlstate": getattr(error, "sqlstate", None),
            "constraint": getattr(diagnosis, "constraint_name", None),
        }
        yield {
            "kind": f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins."),
            **{name: code for name, code in codes.items() if code},
            "at": _places(traceback.extract_tb(error.__traceback__)),
        }
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def places(frame: FrameType | None) -> list[str]:
    """The stack of a thread, innermost last: files, lines and functions, without values."""
    return _places(traceback.extract_stack(frame)) if frame is not None else []


def _places(frames: Iterable[traceback.FrameSummary]) -> list[str]:
    return [f"{_short(frame.filename)}:{frame.lineno} {frame.name}" for frame in frames][-_FRAMES:]


def _short(filename: str) -> str:
    path = Path(filename)
    return str(path.relative_to(_ROOT)) if path.is_relative_to(_ROOT) else "/".join(path.parts[-2:])
