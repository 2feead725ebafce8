"""YAML that a person wrote: a key once, nothing that unfolds to far more than it is, faults in one sentence."""

from pathlib import Path
from typing import Any

import yaml

DEEPEST, MOST_NODES, MOST_DIGITS, MOST_BYTES = 64, 100_000, 40, 1 << 20
"""Levels, values once aliases are unfolded, digits of a whole number, and bytes that a file may have."""
SHOWN = 120
"""Characters of a fault that a message repeats."""


class PlainLoader(yaml.SafeLoader):
    """PyYAML's safe loader with limits; raises YAMLError for what is beyond them, and for a key that stands twice."""

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

    def _refuse_bomb(self, node: yaml.Node, sizes: dict[int, int]) -> int:
        """Values that a node unfolds to; 0 stands for one that holds itself."""
        if id(node) in sizes:
            if not sizes[id(node)]:
                raise _fault("an alias stands within its own value", node)
            return sizes[id(node)]
        sizes[id(node)] = 0
        parts = node.value if isinstance(node, yaml.CollectionNode) else []
        flat = [item for pair in parts for item in pair] if isinstance(node, yaml.MappingNode) else parts
        size = 1 + sum(self._refuse_bomb(item, sizes) for item in flat)
        if size > MOST_NODES:
            raise _fault(f"aliases unfold to more than {MOST_NODES} values", node)
        sizes[id(node)] = size
        return size

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value if isinstance(node, yaml.MappingNode) else []:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if (key.tag, key.value) in seen:
                    raise _fault(f"key {key.value[:SHOWN]!r} stands twice", key)
                seen.add((key.tag, key.value))
        return super().construct_mapping(node, deep=deep)

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        if len(node.value) > MOST_DIGITS:
            raise _fault(f"a whole number of {len(node.value)} digits", node)
        return super().construct_yaml_int(node)

    def construct_yaml_timestamp(self, node: yaml.ScalarNode) -> Any:
        try:
            return super().construct_yaml_timestamp(node)
        except ValueError as error:
            raise _fault(f"{node.value[:SHOWN]} is no date: {error}", node) from error


PlainLoader.add_constructor("tag:yaml.org,2002:int", PlainLoader.construct_yaml_int)
PlainLoader.add_constructor("tag:yaml.org,2002:timestamp", PlainLoader.construct_yaml_timestamp)


def _fault(problem: str, at: yaml.Node | None) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=at.start_mark if at else None)  # type: ignore[arg-type]


def read_yaml(path: Path) -> Any:
    """What a file holds; ValueError that says line and fault, and repeats at most a line of the file."""
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ValueError(f"{path.stat().st_size} bytes, and a study has at most {MOST_BYTES}")
        return yaml.load(path.read_text(encoding="utf-8"), PlainLoader)
    except yaml.MarkedYAMLError as error:
        where = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise ValueError(f"{where}{shortened(error.problem or error.context or 'not YAML')}") from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(shortened(str(error))) from error


def shortened(text: str) -> str:
    """A text in one line of at most `SHOWN` characters."""
    line = " ".join(text.split())
    return line if len(line) <= SHOWN else f"{line[: SHOWN - 1]}…"
