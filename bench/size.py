"""How much code there is: `make size`, or `python -m bench.size`.

A line counts if a part of a statement is on it. Blank lines, comments and docstrings do not count; a docstring
is every statement that is nothing but a string. SQL in its own file counts like SQL in a string. README.md states
these numbers, rounded to hundreds, in a line that `--write` updates and tests/test_size.py compares.
"""

import io
import re
import sys
import tokenize
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
MIGRATIONS = ROOT / "billing" / "migrations"
"""Migrations never change and only grow, and nobody needs them to understand the service."""
TESTS = ("tests", "stripe_standin/tests", "stripe_standin/conformance", "stripe_standin/judge")
_OPENING = "Lines of code (`make size`):"
_LINE = re.compile(rf"^{re.escape(_OPENING)}.*$", re.MULTILINE)
_DASHES = (".sql", ".lua")
"""Their comments begin with two."""
_LAYOUT = {tokenize.COMMENT, tokenize.NL, tokenize.INDENT, tokenize.DEDENT, tokenize.ENCODING, tokenize.ENDMARKER}


def code_lines(path: Path) -> int:
    source = path.read_text()
    return _lines_with_dashes(source) if path.suffix in _DASHES else lines_of_python(source)


def _lines_with_dashes(source: str) -> int:
    return sum(bool(line.strip()) and not line.strip().startswith("--") for line in source.splitlines())


def lines_of_python(source: str) -> int:
    lines: set[int] = set()
    statement: list[tokenize.TokenInfo] = []
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.NEWLINE:
            if any(part.type != tokenize.STRING for part in statement):
                lines |= {line for part in statement for line in range(part.start[0], part.end[0] + 1)}
            statement = []
        elif token.type not in _LAYOUT:
            statement.append(token)
    # A text of several lines, such as an SQL statement, may contain blank ones.
    return sum(bool(text.strip()) for number, text in enumerate(source.splitlines(), 1) if number in lines)


def files_of_one_capture() -> list[Path]:
    """Those in the first table of README.md's map, from the request to the archive, each with its SQL or Lua."""
    table = README.read_text().partition("\n## The map\n")[2].partition("\n|---")[2].partition("\n\n")[0]
    rooms = [ROOT / link for link in re.findall(r"\]\(([^)]+\.py)\)", table)]
    beside = [path.with_suffix(suffix) for path in rooms for suffix in _DASHES]
    return rooms + [path for path in beside if path.exists()]


def parts() -> Mapping[str, list[Path]]:
    """What is counted, by the name that it has in README.md."""
    service = [path for room in ("billing", "archive", "jobs") for path in _code(room)]
    return {
        "the way of one capture": files_of_one_capture(),
        "the service": [path for path in service if MIGRATIONS not in path.parents],
        "the stand-in": _code("stripe_standin/src"),
        "the tests": [path for room in TESTS for path in _code(room)],
    }


def sizes() -> dict[str, int]:
    """Lines of code, by part."""
    return {part: sum(map(code_lines, paths)) for part, paths in parts().items()}


def line_of_readme() -> str:
    return f"{_OPENING} {', '.join(f'{part} {round(size, -2):,}' for part, size in sizes().items())}."


def stated() -> dict[str, int]:
    """The same numbers as README.md has them."""
    (line,) = _LINE.findall(README.read_text())
    return {part: int(size.replace(",", "")) for part, size in re.findall(r"(the [a-z -]+?) ([\d,]*\d)", line)}


def main() -> None:
    if "--write" in sys.argv:
        README.write_text(_LINE.sub(line_of_readme(), README.read_text()))
    print(f"{'lines of code':>14}{'lines in all':>14}{'files':>7}")
    for part, paths in parts().items():
        in_all = sum(len(path.read_text().splitlines()) for path in paths)
        print(f"{sizes()[part]:14,}{in_all:14,}{len(paths):7}  {part}")


def _code(room: str) -> list[Path]:
    return sorted(path for path in (ROOT / room).rglob("*") if path.suffix in (".py", *_DASHES))


if __name__ == "__main__":
    main()
