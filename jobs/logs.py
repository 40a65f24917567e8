"""One JSON line per outcome: a static event name, ids instead of objects, and no traceback shows a variable."""

import logging
import sys
from typing import Literal

import structlog


def configure(level: str = "info", style: Literal["json", "console"] = "json") -> None:
    """Set up logging for this process, once. Lines go to standard error; standard output is for answers."""
    # Another library's debug lines print bodies: the SDK's own are never shown below INFO.
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(message)s")
    logging.getLogger("stripe").setLevel(logging.WARNING)
    show: list[structlog.typing.Processor] = (
        [
            # Frames carry local variables, and a local variable may be a key.
            structlog.processors.ExceptionRenderer(structlog.tracebacks.ExceptionDictTransformer(show_locals=False)),
            structlog.processors.JSONRenderer(),
        ]
        if style == "json"
        else [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *show,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
