"""The slips of one file: the place, the text there, and the text instead."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

FLIPPED = {
    ast.Lt: ast.GtE,
    ast.GtE: ast.Lt,
    ast.Gt: ast.LtE,
    ast.LtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
SHIFTED = {ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt}

_IS_SQL = re.compile(r"\b(SELECT|UPDATE|INSERT INTO|WHERE|ORDER BY|IS (NOT )?NULL|clock_timestamp)\b")
_END_OF_ORDER = r"\s+LIMIT|\s+FOR UPDATE|\)|\"|\n|\Z"
_SQL = (
    (
        "order dropped",
        re.compile(r"\s*\bORDER BY (?:[^()\n\"]|\([^()]*\))*?(?=\s+LIMIT|\s+FOR UPDATE|\)|\"|\n|\Z)"),
        "",
    ),
    ("limit dropped", re.compile(r"\s+LIMIT (?:%\(\w+\)s|:\w+|\d+)"), ""),
    ("lock dropped", re.compile(r"\s+FOR UPDATE(?: OF \w+)?(?: SKIP LOCKED)?"), ""),
    ("lock waits", re.compile(r"\s+SKIP LOCKED"), ""),
    ("condition negated", re.compile(r"IS NULL"), "IS NOT NULL"),
    ("condition negated", re.compile(r"IS NOT NULL"), "IS NULL"),
    ("condition negated", re.compile(r"NOT EXISTS"), "EXISTS"),
    ("comparison shifted", re.compile(r"(?<=\s)<=(?=\s)"), "<"),
    ("comparison shifted", re.compile(r"(?<=\s)<(?=\s)"), "<="),
    ("comparison shifted", re.compile(r"(?<=\s)>=(?=\s)"), ">"),
    ("comparison shifted", re.compile(r"(?<=\s)>(?=\s)"), ">="),
    ("comparison flipped", re.compile(r"(?<=\s)>=?(?=\s)"), "<"),
    ("comparison flipped", re.compile(r"(?<=\s)=(?=\s)"), "<>"),
    ("duplicates kept", re.compile(r"\bDISTINCT "), ""),
)


@dataclass(frozen=True, slots=True)
class Slip:
    """`before` and `after` are the text at this place; `start` and `end` are bytes of the file."""

    path: str
    line: int
    kind: str
    start: int
    end: int
    before: str
    after: str

    def put_into(self, source: bytes) -> bytes:
        return source[: self.start] + self.after.encode() + source[self.end :]


def slips(root: Path, path: str) -> list[Slip]:
    """Every slip of this Python or SQL file that can still be parsed, in the order of the file."""
    source = (root / path).read_bytes()
    if path.endswith(".sql"):
        text = source.decode()
        changed = [(kind, after) for kind, after in _in_sql(text) if _in_its_comments(text) == _in_its_comments(after)]
        return [
            Slip(path, 1 + _first_difference(text, after), kind, 0, len(source), text, after) for kind, after in changed
        ]
    tree = ast.parse(source)
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))

    def place(node: ast.expr | ast.stmt) -> tuple[int, int]:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return starts[node.lineno - 1] + node.col_offset, starts[node.end_lineno - 1] + node.end_col_offset

    found = []
    for node, decides in _code(tree):
        start, end = place(node)
        before = source[start:end].decode()
        instead = list(_replacements(node, before))
        if decides and isinstance(node, ast.Name | ast.Attribute | ast.Call | ast.Subscript):
            instead.append(("condition negated", f"(not {before})"))
        for kind, after in instead:
            line = node.lineno + _first_difference(before, after)
            found.append(Slip(path, line, kind, start, end, before, after))
    return [slip for slip in dict.fromkeys(found) if _compiles(slip.put_into(source))]


def _code(node: ast.AST) -> Iterator[tuple[ast.expr | ast.stmt, bool]]:
    """The nodes that are executed, each with whether it is a condition.

    No docstrings, annotations, log lines or messages.
    """
    for name, value in ast.iter_fields(node):
        for child in value if isinstance(value, list) else [value]:
            if not isinstance(child, ast.AST) or name in ("annotation", "returns", "decorator_list"):
                continue
            if _is_left_out(child):
                continue
            if isinstance(child, ast.expr | ast.stmt):
                yield child, name in ("test", "ifs")
            # Before Python 3.12 an f-string's inner positions are not those of the file, so it is one text here.
            if not isinstance(child, ast.JoinedStr):
                yield from _code(child)


def _is_left_out(node: ast.AST) -> bool:
    match node:
        case ast.Raise() | ast.Assert() | ast.Import() | ast.ImportFrom():
            return True
        case ast.Expr(value=ast.Constant(value=str())):
            return True
        case ast.Expr(value=ast.Call(func=ast.Attribute(value=ast.Name(id="log")))):
            return True
        case ast.If(test=ast.Name(id="TYPE_CHECKING")):
            return True
    return False


def _replacements(node: ast.expr | ast.stmt, text: str) -> Iterator[tuple[str, str]]:
    match node:
        case ast.Compare(left=left, ops=[op], comparators=[right]):
            for kind, others in (("comparison flipped", FLIPPED), ("comparison shifted", SHIFTED)):
                if type(op) in others:
                    yield kind, f"({ast.unparse(ast.Compare(left, [others[type(op)]()], [right]))})"
        case ast.BoolOp(op=op, values=values):
            other = ast.Or() if isinstance(op, ast.And) else ast.And()
            yield "and for or", f"({ast.unparse(ast.BoolOp(other, values))})"
            for n in range(len(values)):
                kept = values[:n] + values[n + 1 :]
                rest = ast.BoolOp(op, kept) if len(kept) > 1 else kept[0]
                yield "condition dropped", f"({ast.unparse(rest)})"
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            yield "not removed", f"({ast.unparse(operand)})"
        case ast.IfExp(test=test, body=body, orelse=orelse):
            yield "condition negated", f"({ast.unparse(ast.IfExp(test, orelse, body))})"
        case ast.Constant(value=bool(value)):
            yield "true for false", str(not value)
        case ast.Constant(value=int(value)):
            yield "off by one", str(value + 1)
            if value > 1:
                yield "constant doubled", str(value * 2)
        case ast.Constant(value=float(value)):
            yield "constant doubled", str(value * 2)
        case ast.Constant(value=str()) | ast.JoinedStr() if _IS_SQL.search(text):
            yield from _in_sql(text)
        case ast.Expr(value=ast.Call() | ast.YieldFrom()):
            yield "statement dropped", "pass"
        case ast.AugAssign():
            yield "statement dropped", "pass"
        case ast.Call(func=ast.Attribute(value=value, attr="order_by" | "limit" | "with_for_update" as what)):
            yield {"order_by": "order dropped", "limit": "limit dropped"}.get(what, "lock dropped"), ast.unparse(value)
        case ast.Call(func=func, args=args, keywords=keywords):
            for keyword in keywords:
                if keyword.arg:
                    kept_keywords = [each for each in keywords if each is not keyword]
                    yield "keyword dropped", ast.unparse(ast.Call(func, args, kept_keywords))
            if len(args) > 1 and not any(isinstance(arg, ast.Starred) for arg in args[:2]):
                swapped = ast.unparse(ast.Call(func, [args[1], args[0], *args[2:]], keywords))
                if swapped != ast.unparse(node):
                    yield "arguments swapped", swapped


def _in_sql(text: str) -> Iterator[tuple[str, str]]:
    for kind, there, instead in _SQL:
        for match in there.finditer(text):
            yield kind, text[: match.start()] + instead + text[match.end() :]


def _in_its_comments(sql: str) -> list[str]:
    return [line for line in sql.splitlines() if line.startswith("--")]


def _first_difference(before: str, after: str) -> int:
    """Lines from the beginning of `before`."""
    same = 0
    while same < min(len(before), len(after)) and before[same] == after[same]:
        same += 1
    return before.count("\n", 0, same)


def _compiles(source: bytes) -> bool:
    try:
        compile(source, "slip", "exec")
    except SyntaxError:
        return False
    return True
