"""YAML from people: unique keys, bounded expansion of aliases, errors in one sentence."""

import re
from pathlib import Path
from typing import Any

import yaml

DEEPEST, MOST_NODES, MOST_DIGITS, MOST_BYTES = 64, 100_000, 40, 1 << 20
"""Limits on levels, values after the expansion of aliases, digits of an integer, and bytes of a file."""
MOST_LETTERS = 200
"""Limit on a key, which names a setting, a score, a selection or a column."""
INTEGER = "tag:yaml.org,2002:int"
SHOWN = 120
"""Characters of a faulty value in a message."""


class PlainLoader(yaml.SafeLoader):
    """PyYAML's safe loader with limits; raises YAMLError beyond them and for a duplicate key."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        self.depth += 1
        if self.depth > DEEPEST:
            raise _fault(f"values are nested more than {DEEPEST} deep", parent)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def get_single_node(self) -> yaml.Node | None:
        node = super().get_single_node()
        if node is not None:
            self._refuse_bomb(node, {})
        return node

    def _refuse_bomb(self, node: yaml.Node, known: dict[int, tuple[int, int]]) -> tuple[int, int]:
        """Values and levels after expansion of a node; 0 values mark a node still under expansion."""
        if id(node) in known:
            if not known[id(node)][0]:
                raise _fault("an alias stands within its own value", node)
            return known[id(node)]
        known[id(node)] = 0, 0
        parts = node.value if isinstance(node, yaml.CollectionNode) else []
        flat = [item for pair in parts for item in pair] if isinstance(node, yaml.MappingNode) else parts
        inner = [self._refuse_bomb(item, known) for item in flat]
        size, levels = 1 + sum(size for size, _ in inner), 1 + max((levels for _, levels in inner), default=0)
        if size > MOST_NODES:
            raise _fault(f"aliases unfold to more than {MOST_NODES} values", node)
        if levels > DEEPEST:
            raise _fault(f"values are nested more than {DEEPEST} deep", node)
        known[id(node)] = size, levels
        return size, levels

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """Refuse a duplicate key here, before merges add keys that may repeat."""
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if len(key.value) > MOST_LETTERS:
                    raise _fault(f"a key of {len(key.value)} letters, and a name has at most {MOST_LETTERS}", key)
                if (key.tag, key.value) in seen:
                    raise _fault(f"key {key.value[:SHOWN]!r} stands twice", key)
                seen.add((key.tag, key.value))
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """Turn any error of PyYAML's constructors on a value of the wrong type into a YAMLError."""
        if isinstance(node, yaml.ScalarNode) and node.tag == INTEGER and len(node.value) > MOST_DIGITS:
            raise _fault(f"a whole number of {len(node.value)} digits", node)
        try:
            value = super().construct_object(node, deep=deep)
        except (ValueError, LookupError, AttributeError, TypeError, ArithmeticError) as error:
            raise _fault(f"{str(node.value)[:40]!r} is no {node.tag.rpartition(':')[2]}", node) from error
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            raise _fault(f"{node.value} is beyond 64 bits: write a code in quotes", node)
        return value


def _fault(problem: str, at: yaml.Node | None) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=at.start_mark if at else None)  # type: ignore[arg-type]


def read_yaml(path: Path) -> Any:
    """The content of a file; raises ValueError with line and fault, which repeats at most one line of the file."""
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ValueError(f"{path.stat().st_size} bytes, and a study has at most {MOST_BYTES}")
        return yaml.load(path.read_text(encoding="utf-8"), PlainLoader)
    except yaml.MarkedYAMLError as error:
        where = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise ValueError(f"{where}{shortened(error.problem or error.context or 'not YAML')}") from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(shortened(str(error))) from error


def within_bounds(message: str) -> str:
    """A message with words of 300 characters or more cut to `SHOWN`, and lines cut to 2,000."""
    cut = re.sub(r"\S{300,}", lambda word: f"{word[0][: SHOWN - 1]}…", message)
    return "\n".join(line if len(line) <= 2000 else f"{line[:1999]}…" for line in cut.splitlines())


def shortened(text: str) -> str:
    """A text in one line of at most `SHOWN` characters."""
    line = " ".join(text.split())
    return line if len(line) <= SHOWN else f"{line[: SHOWN - 1]}…"


def flowed(value: Any) -> str:
    """A value in flow style for the rest of a line, folded if it is long."""
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=100, allow_unicode=True)
    return text.removesuffix("\n").removesuffix("\n...").replace("\n", "\n  ")
