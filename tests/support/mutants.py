"""Changes of a file in one place each: an operator, a bound, a constant, a `not`, a result; every one valid Python."""

import ast
import copy
import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

BESIDE = """Lt LtE GtE,LtE Lt Gt,Gt GtE LtE,GtE Gt Lt,Eq NotEq,NotEq Eq,Is IsNot,IsNot Is,In NotIn,NotIn In,And Or,
Or And,Add Sub,Sub Add,Mult FloorDiv,FloorDiv Mult,Div Mult,MatMult Mult,Mod FloorDiv,Pow Mult,BitAnd BitOr,
BitOr BitAnd,BitXor BitOr,LShift RShift,RShift LShift"""
OPERATORS = {name: others for name, *others in (part.split() for part in BESIDE.split(","))}
"""Operators in place of another: its neighbour at the bound, and its opposite."""
RESULTS = {"bool": (True, False), "int": (0,), "float": (0.0,), "str": ("",)}
"""Results of a function in place of its own, by its annotation; None for all others."""


@dataclass(frozen=True)
class Mutant:
    """A file of the product and the text that stands in it from one byte to another."""

    path: str
    line: int
    start: int
    stop: int
    text: str

    def apply(self, source: bytes) -> bytes:
        """The changed source."""
        return source[: self.start] + self.text.encode() + source[self.stop :]

    def diff(self, source: bytes) -> str:
        """The lines that differ."""
        lines = (text.decode().splitlines() for text in (source, self.apply(source)))
        return "\n".join(line for line in [*difflib.unified_diff(*lines, n=0, lineterm="")][2:] if line[0] != "@")


def changes(node: ast.AST, results: tuple[Any, ...]) -> Iterator[ast.AST]:
    """Nodes that may stand where this one does."""
    changed = copy.copy(node)
    match node:
        case ast.Compare(ops=ops):
            for place, name in ((at, name) for at, op in enumerate(ops) for name in OPERATORS[type(op).__name__]):
                changed.ops = [*ops[:place], getattr(ast, name)(), *ops[place + 1 :]]  # type: ignore[attr-defined]
                yield changed
        case ast.BoolOp(op=op) | ast.BinOp(op=op):
            changed.op = getattr(ast, OPERATORS[type(op).__name__][0])()  # type: ignore[attr-defined]
            yield changed
        case ast.UnaryOp(op=ast.Not() | ast.USub(), operand=operand):
            yield operand
        case ast.Constant(value=bool(value)):
            yield ast.Constant(not value)
        case ast.Constant(value=int(value)):
            yield from (ast.Constant(value + 1), ast.Constant(value - 1))
        case ast.Constant(value=float(value)):
            yield from (ast.Constant(value * 2), ast.Constant(value / 2 if value else 1.0))
        case ast.Return(value=ast.expr() as value) if not isinstance(value, ast.Constant):
            yield from (ast.Return(ast.Constant(result)) for result in results)


def mutable(node: ast.AST, results: tuple[Any, ...] = (None,)) -> Iterator[tuple[ast.AST, tuple[Any, ...]]]:
    """A node and those below, each with the results of the function around; no annotation, decorator, error or text."""
    yield node, results
    if isinstance(node, ast.FunctionDef):
        results = RESULTS.get(ast.unparse(node.returns) if node.returns else "", (None,))
    for field, value in ast.iter_fields(node):
        if field not in ("annotation", "returns", "decorator_list", "exc", "pattern"):
            for each in value if isinstance(value, list) else [value]:
                if isinstance(each, ast.AST) and not isinstance(each, ast.JoinedStr | ast.arg):
                    yield from mutable(each, results)


def mutants_of(path: str, source: bytes) -> list[Mutant]:
    """All mutants of one file."""
    starts, found = [0], []
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    for node, results in mutable(ast.parse(source)):
        for text in (ast.unparse(changed) for changed in changes(node, results)):
            start, stop = starts[node.lineno - 1] + node.col_offset, starts[node.end_lineno - 1] + node.end_col_offset
            text = text if isinstance(node, ast.Constant | ast.Return) else f"({text})"
            found.append(Mutant(path, node.lineno, start, stop, text))
    return found
