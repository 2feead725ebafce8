"""Every key that a YAML file may hold, as Markdown, from the JSON schema of the model that checks it."""

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel

from secateur.pipelines.markdown_tables import one_line, table
from secateur.pipelines.search import Search
from secateur.pipelines.study import Study
from secateur.pipelines.unit_study import PruningStudy
from secateur.trainers.tasks import TASKS

Schema = Mapping[str, Any]
NAMES = {"string": "text", "integer": "whole number", "number": "number", "boolean": "true or false", "null": "nothing"}
BOUNDS = {"minimum": "from {}", "exclusiveMinimum": "above {}", "maximum": "to {}", "exclusiveMaximum": "below {}"}
HEAD = ("key", "type", "default", "what it is")


def study_keys() -> str:
    """Every key of a study, one table per part; what `task` takes is that of the three modalities."""
    tasks = [part for kind, task in TASKS.items() for part in parts_of(task, f"task, where columns name {kind}")]
    return "\n\n".join([*parts_of(Study, ""), *tasks])


def search_keys() -> str:
    """Every key of a search that is not one of a study's too."""
    return "\n\n".join(parts_of(Search, "", but=set(Study.model_json_schema()["$defs"])))


def pruning_keys() -> str:
    """Every key of a study of other units."""
    return "\n\n".join(parts_of(PruningStudy, ""))


def parts_of(model: type[BaseModel], name: str, but: Iterable[str] = ()) -> list[str]:
    """A heading, a sentence and a table for the model and for each model below it, in the order of their keys."""
    schema = model.model_json_schema()
    places: dict[str, list[str]] = {}
    visit(schema, "", schema.get("$defs", {}), places)
    told = [section(schema, [name], top=not name)]
    return told + [section(schema["$defs"][each], where) for each, where in places.items() if each not in but]


def visit(schema: Schema, path: str, models: Schema, places: dict[str, list[str]]) -> None:
    """Note below which keys each model stands; a model that contains itself would be noted once."""
    for key, declared in schema.get("properties", {}).items():
        for named, kind in models_in(declared, f"{path}{key}"):
            first = kind not in places
            places.setdefault(kind, []).append(named)
            if first:
                visit(models[kind], f"{named}.", models, places)


def models_in(declared: Any, path: str) -> Iterable[tuple[str, str]]:
    """Paths and models that a key may hold; the values of a mapping stand below `NAME`."""
    if isinstance(declared, list):
        for each in declared:
            yield from models_in(each, path)
    elif isinstance(declared, Mapping):
        if "$ref" in declared:
            yield path, declared["$ref"].rsplit("/", 1)[1]
        for key in ("anyOf", "oneOf", "items"):
            yield from models_in(declared.get(key), path)
        yield from models_in(declared.get("additionalProperties"), f"{path}.NAME")


def section(schema: Schema, places: list[str], *, top: bool = False) -> str:
    """One model: where it stands, its docstring, its keys."""
    kind = schema.get("properties", {}).get("kind", {}).get("const")
    heading = ", ".join(f"`{place}`" if " " not in place else place for place in places)
    heading += f" of kind `{kind}`" if kind and not top else ""
    required = set(schema.get("required", ()))
    rows = [
        (f"`{key}`", type_of(declared), default_of(key, declared, required), description_of(key, declared))
        for key, declared in schema.get("properties", {}).items()
    ]
    said = "" if top else f"### {heading}\n\n{schema.get('description', '')}\n\n"
    return f"{said}{table(HEAD, rows)}"


def description_of(key: str, declared: Schema) -> str:
    """What the declaration says; of a key that tells models apart, just that."""
    return one_line(declared.get("description") or ("says which of them it is" if "const" in declared else ""))


def default_of(key: str, declared: Schema, required: Iterable[str]) -> str:
    """The default as YAML would write it; of a part with keys of its own, nothing."""
    if key in required:
        return "required"
    default = declared.get("default")
    if default is None or default in ("", [], {}):
        return ""
    if isinstance(default, Mapping):
        return "its own defaults"
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


def type_of(declared: Schema) -> str:
    """A type in words, with its bounds."""
    if "$ref" in declared or "oneOf" in declared:
        return "keys, below"
    if "const" in declared:
        return f"`{declared['const']}`"
    if "enum" in declared:
        return " or ".join(f"`{each}`" for each in declared["enum"])
    if "anyOf" in declared:
        told = (type_of(each) for each in declared["anyOf"] if each.get("type") != "null")
        return " or ".join(dict.fromkeys(told))
    if "prefixItems" in declared:
        return f"list of {len(declared['prefixItems'])}"
    if declared.get("type") == "array":
        return f"list of {type_of(declared['items'])}" if "items" in declared else "list"
    if declared.get("type") == "object":
        return "names with keys, below" if "$ref" in str(declared.get("additionalProperties")) else "settings by name"
    bounds = [text.format(declared[bound]) for bound, text in BOUNDS.items() if bound in declared]
    return " ".join([NAMES.get(declared.get("type", ""), "any value"), *bounds])
