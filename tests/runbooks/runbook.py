"""A runbook of docs/operate: its commands in their order, and what the page shows of each answer."""

import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from command import Ran, Run
from service import eventually

FOLDER = Path(__file__).parents[2] / "docs" / "operate"
SECTIONS = ("You see", "First three commands", "Decide", "It is over")
"""Of every runbook, in this order."""

READS = re.compile(
    r"billing (doctor|health|retries|queues|limits|status|explain|audit|growth|switch list|quarantine (list|show)|"
    r"archive (status|verify)|differences (list|show)|contracts \w+|schedule list)\b"
)
"""What changes nothing may be asked again, as a person would: what an incident does to the rows takes a moment."""

Hands = Mapping[str, Callable[[], object]]
"""What the scenario does where the page has a command of the deployment: `docker compose restart relay`."""


@dataclass(frozen=True)
class Command:
    words: str
    shown: list[str]
    """The lines of its answer that matter, in their order."""


def commands(text: str) -> list[Command]:
    """Every command in the `console` blocks of this text."""
    blocks = re.findall(r"^```console\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    parts = [part for block in blocks for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]]
    found = []
    for part in parts:
        words, _, answer = re.sub(r" *\\\n *", " ", part).partition("\n")
        found.append(Command(words, answer.splitlines()))
    return found


def sections(text: str) -> dict[str, str]:
    """What stands under each heading."""
    _, *parts = re.split(r"^## (.+)\n", text, flags=re.MULTILINE)
    return dict(zip(parts[::2], parts[1::2], strict=True))


def plain(line: str) -> str:
    """Without what differs from run to run: times, ids, addresses, versions, and how wide a column is."""
    line = re.sub(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d[.\d]*(\+00:00|Z)?", "TIME", line)
    line = re.sub(r"\d{4}-\d\d-\d\d", "DAY", line)
    line = re.sub(r"\b(wrk|cap|inv|ins|dif|req|re|pi|po|acct|eml|doc)_\w+", r"\1", line)
    line = re.sub(r"127\.0\.0\.1|localhost|\b(postgres|valkey|seaweedfs|standin)(?=:\d)", "HOST", line)
    line = re.sub(r"HOST:\d+", "HOST", line)
    line = re.sub(r"\b\d+(\.\d+)? s\b", "SECONDS", re.sub(r"\b(\d+ days?, )?\d+:\d\d:\d\d\b", "SECONDS", line))
    return " ".join(re.sub(r"version [\d.]+", "version", line).split())


def is_shown(shown: list[str], answer: str) -> bool:
    """Whether these lines are in the answer, in this order; it may have more. `…` stands for anything."""
    lines = iter([plain(line) for line in answer.splitlines()])
    wanted = [re.escape(plain(line)).replace("…", ".*") for line in shown]
    return all(any(re.fullmatch(each, line) for line in lines) for each in wanted)


@dataclass
class Play:
    """One page, followed by somebody who knows nothing but the page.

    `terminals`: who runs the commands that begin with these words. `hands`: what is done instead of other commands.
    `names`: for an id or a name on the page, that of this incident. Every command is run in the order of the page, and
    once; those of the last section, and what only reads, until their answers are as shown.
    """

    page: str
    terminals: Mapping[str, Run]
    names: dict[str, str] = field(default_factory=dict)
    hands: Hands = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._text = (FOLDER / f"{self.page}.md").read_text()
        self._left = commands(self._text)

    def follow(self, section: str) -> None:
        """Run the commands of this section; each says what the page shows."""
        for command in self._next(section):
            if READS.match(command.words):
                eventually(lambda command=command: self._says_what_is_shown(command), command.words)
            else:
                assert self._says_what_is_shown(command), command.words

    def until_over(self) -> None:
        """Run those of the last section until each says what the page shows; then the page is at its end."""
        for command in self._next(SECTIONS[-1]):
            eventually(lambda command=command: self._says_what_is_shown(command), command.words)
        assert self._left == []

    def _says_what_is_shown(self, command: Command) -> bool:
        ran = self._run(command.words)
        # The last answer is what pytest shows if it was another one.
        print(f"$ {command.words}\n{ran.out}{ran.err}")
        return is_shown(command.shown, ran.out + ran.err)

    def _next(self, section: str) -> list[Command]:
        wanted = commands(sections(self._text)[section])
        assert self._left[: len(wanted)] == wanted, f"{section} is not what comes next on {self.page}"
        del self._left[: len(wanted)]
        return wanted

    def _run(self, words: str) -> Ran:
        for name, here in self.names.items():
            words = words.replace(name, here)
        if words in self.hands:
            return Ran(0, str(self.hands[words]() or ""), "")
        terminal = next((each for each in self.terminals if words.startswith(f"{each} ")), None)
        assert terminal is not None, f"nobody here does: {words}"
        return self.terminals[terminal](*shlex.split(words.removeprefix(terminal)))
