"""What all acts of the demo share: the processes, how a command is run and shown, and how one waits."""

import shlex
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from uuid import uuid4

import billing
from billing import database
from billing.finding import find
from jobs.demo.count import Offence
from jobs.demo.scraping import Scrapes
from jobs.demo.tally import Progress, Tally
from jobs.local.stack import Stack
from jobs.local.supervisor import Child, LocalServerError
from jobs.process.patience import patiently
from jobs.process.service import ServiceProcess
from stripe_standin.control import Control

PATIENCE_S = 120.0
"""What is waited for takes a few seconds. After this time it will not come, and the demo says so."""
COMMAND_S = 120.0
"""As for what is waited for; some commands wait themselves."""
POLL_S = 0.05

PrintEvent = Callable[[str], None]
Watch = Callable[[Progress], None]


@dataclass(frozen=True, slots=True)
class Running:
    """A command that was started, as a reader would type it."""

    typed: str
    child: Child


@dataclass(slots=True)
class Stage:
    """`say` prints a line, `watch` shows counts. `runtime` is an operator's terminal."""

    stack: Stack
    runtime: ServiceProcess
    say: PrintEvent
    watch: Watch
    tag: str = field(default_factory=lambda: f"demo-{uuid4().hex[:8]}")
    """Every request id of this run begins with it."""
    expected: dict[str, str] = field(default_factory=dict)
    """Request -> the state in which it must end."""
    offences: list[Offence] = field(default_factory=list)
    """What commands found that must not be."""
    faults: Counter[str] = field(default_factory=Counter)
    """Those that happened."""
    killed: list[Child] = field(default_factory=list)
    scrapes: Scrapes = field(default_factory=Scrapes)
    hidden: str = ""
    """Left out of what is shown: the private directory of files that a reader would have beside the terminal."""
    standin: Control = field(init=False)

    def __post_init__(self) -> None:
        self.standin = Control(self.stack.environment["STRIPE_API_BASE"])

    @property
    def tally(self) -> Tally:
        """Of all requests of this run."""
        return Tally(self.tag)

    @property
    def shop_tag(self) -> str:
        """So begin the request ids of the third act, whose progress is shown."""
        return f"{self.tag}-shop"

    def title(self, words: str) -> None:
        self.say("")
        self.say(words)

    # Commands.

    def begin(self, *arguments: str, kind: str = "operator") -> Running:
        """Start a command; several may run at once. `kind`: whose login it needs."""
        typed = shlex.join(("billing", *arguments)).replace(self.hidden or "\0", "")
        return Running(typed, self.stack.start_command(*arguments, kind=kind))

    def show(
        self, running: Running, why: str = "", *, only: Callable[[str], bool] = lambda _: True, may_differ: bool = False
    ) -> list[str]:
        """Wait for its end, and print why it was run, the command, and what it printed; or only some of its lines,
        which are returned. `may_differ`: status 1 says that something differs, which ends the demo with status 1, too.

        Raises LocalServerError if it was not done.
        """
        status = running.child.wait(COMMAND_S)
        output = running.child.output().replace(self.hidden or "\0", "")
        if status and not (status == 1 and may_differ):
            raise LocalServerError(f"`{running.typed}` ended with status {status}: {output[-500:]}")
        if status:
            self.offences.append(Offence("differs", running.typed.split()[1], "what it found is printed above"))
        if why:
            self.say(f"# {why}")
        self.say(f"$ {running.typed}")
        lines = [line.rstrip() for line in output.splitlines() if only(line)]
        for line in lines:
            self.say(f"  {line}" if line else "")
        return lines

    def ends(self, running: Running, state: str, why: str) -> str:
        """Show a command that asks for something and waits, in one line, and expect this state of it. Returns its
        id."""
        lines = self.show(running, why, only=lambda line: ", since " in line)
        request = lines[-1].partition(":")[0]
        self.expected[request] = state
        return request

    def operate(self, *arguments: str, why: str = "", kind: str = "operator") -> list[str]:
        """Run a command and show it."""
        return self.show(self.begin(*arguments, kind=kind), why)

    # Waiting.

    def status(self, name: str) -> billing.Status:
        """Of a request, by our id or the request id."""
        with database.transaction(self.runtime.engine) as session:
            return billing.status(session, find(session, name)[0])

    def until(self, condition: Callable[[], bool], what: str) -> bool:
        """Wait for it, and show the counts meanwhile. If it does not come, say so."""
        give_up = time.monotonic() + PATIENCE_S
        while not condition():
            if time.monotonic() > give_up:
                self.say(f"waited {PATIENCE_S:.0f} s without success: {what}")
                return False
            self.pause(POLL_S)
        return True

    def pause(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while True:
            self.progress()
            if time.monotonic() >= until:
                return
            time.sleep(POLL_S)

    def progress(self) -> Progress:
        """The counts now. Raises LocalServerError if a process has ended that nobody killed."""
        for child in self.stack.processes:
            if child not in self.killed and child.poll() is not None:
                raise LocalServerError(f"{child.name} ended with status {child.poll()}: {child.output()[-500:]}")
        progress = patiently(self.runtime, Tally(self.shop_tag).progress)
        self.watch(progress)
        return progress
