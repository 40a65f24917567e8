"""Options that several commands have: they stand once, as the parameters of a function that makes one value of them."""

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


def options_of(gather: Callable[..., T]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A decorator for a command whose first parameter is what `gather` returns: the parameters of `gather` become
    options of that command."""
    gathered = inspect.signature(gather).parameters

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        _, *own = inspect.signature(command).parameters.values()
        required = [each for each in own if each.default is each.empty]
        optional = [each for each in own if each.default is not each.empty]

        # Without the annotations: Typer reads the signature below.
        @functools.wraps(command, assigned=("__module__", "__name__", "__qualname__", "__doc__"))
        def with_options(**given: Any) -> Any:
            return command(gather(**{name: given.pop(name) for name in gathered}), **given)

        with_options.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            [each.replace(kind=each.KEYWORD_ONLY) for each in (*required, *gathered.values(), *optional)]
        )
        return with_options

    return decorate
