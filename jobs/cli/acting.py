"""How a command that changes something names its actor and is recorded as a fact: one way for all commands.

    with acting("switch release", actor, reason) as act:
        act.inside(lambda session: release(session, scope, actor=act.actor, reason=reason), about=scope)

`inside` changes what is in Postgres; `outside` is around any other change. A test takes every command of the program
and fails for one that neither only reads nor is listed by `billing audit` afterwards.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import typer

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from billing.audit import Command
    from jobs.config.settings import Settings
    from jobs.process.runtime import Runtime

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Acting:
    """One command that is about to change something, on a database that is ours."""

    runtime: "Runtime"
    command: "Command"

    @property
    def actor(self) -> str:
        return self.command.actor

    def inside(
        self,
        change: "Callable[[Session], T]",
        *,
        about: str | Callable[[T], str],
        count: Callable[[T], int] = lambda _: 1,
    ) -> T:
        """Make the change and record it, in one transaction. `about` and `count` may depend on the result: what was
        changed, and how many. With 0 nothing was changed, and nothing is recorded."""
        from billing import audit
        from jobs.process.patience import patiently

        def both(session: "Session") -> T:
            changed = change(session)
            if number := count(changed):
                subject = about if isinstance(about, str) else about(changed)
                audit.done(session, self.command, about=subject, count=number)
            return changed

        return patiently(self.runtime, both)

    def outside(self, *, about: str, count: int = 1) -> AbstractContextManager[None]:
        """Around a change elsewhere than in Postgres: recorded as begun before it, and as done or failed after it."""
        from functools import partial

        from billing import audit
        from jobs.process.patience import patiently

        return audit.around(partial(patiently, self.runtime), self.command, about=about, count=count)


@contextmanager
def acting(name: str, actor: str, reason: str | None = None) -> Iterator[Acting]:
    """`name` as it is typed, without arguments. Raises as `as_command` and `opened` do."""
    from jobs.cli.opening import opened
    from jobs.config.loading import load

    command = as_command(load(), name, actor, reason)
    with opened() as runtime:
        yield Acting(runtime, command)


def as_command(settings: "Settings", name: str, actor: str, reason: str | None = None) -> "Command":
    """Who does this, and why. Raises InvalidText, and typer.BadParameter in production if nobody is named."""
    from billing import audit

    return audit.command(name, actor=_actor(settings, actor), reason=reason)


def _actor(settings: "Settings", given: str) -> str:
    """As given, else as BILLING_ACTOR says; else the user of this shell, shown as such, where no money is real."""
    import getpass

    from billing import audit

    if given:
        return audit.named(given)
    if settings.actor:
        return audit.named(settings.actor, "BILLING_ACTOR")
    if settings.livemode:
        raise typer.BadParameter(
            "production must know who does this, and the user of a shell may be anybody; say it with --actor, or set "
            "BILLING_ACTOR"
        )
    try:
        return f"{audit.OF_THIS_SHELL}{getpass.getuser()}"
    except (KeyError, OSError):
        # A container may run as a mere number.
        raise typer.BadParameter("this user has no name here; say with --actor who does it") from None
