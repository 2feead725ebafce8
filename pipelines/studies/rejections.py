"""Checks of settings from YAML when they load: each error names the key, the fault and the allowed values."""

import difflib
import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Annotated, Any, get_args

import yaml
from pydantic import AfterValidator, BaseModel, ValidationError, WithJsonSchema

from secateur.pipelines.studies.folders import SHIPPED
from secateur.pipelines.studies.plain_yaml import shortened


def plain_name(text: str) -> str:
    """Return a valid name of a study, score or selection; raise ValueError for an invalid one.

    Names become folders and parts of asset keys, and must stay distinct on file systems that ignore case.
    """
    if not re.fullmatch("[a-z][a-z0-9_]{0,99}", text):
        raise ValueError("a name is at most 100 lower-case letters, digits and _, the first one a letter")
    return text


Name = Annotated[
    str, AfterValidator(plain_name), WithJsonSchema({"type": "string", "pattern": "^[a-z][a-z0-9_]{0,99}$"})
]


def shipped(name: str) -> Callable[[dict[str, Any]], None]:
    """Make a shipped study the example in a model's JSON schema, which `dg` shows and scaffolds."""

    def add(schema: dict[str, Any]) -> None:
        schema["examples"] = [yaml.safe_load((SHIPPED / f"{name}.yaml").read_text(encoding="utf-8"))]

    return add


def mapping(given: Any) -> dict[str, Any]:
    if not isinstance(given, dict):
        raise ValueError(f"must be a mapping from names to settings, got {shortened(repr(given))}")
    return given


def nested(name: str, body: Any, kind: str, own: set[str]) -> Any:
    """Convert YAML's flat form, with settings beside `scorer` or `selector`, to the model's nested form."""
    if body is None:
        body = {}
    if not isinstance(body, dict):
        return body
    if "settings" in body and isinstance(body["settings"], dict):
        return {kind: name} | body
    flat = {key: value for key, value in body.items() if key not in {kind, *own}}
    return {kind: body.get(kind, name), "settings": flat} | {key: body[key] for key in own if key in body}


def require(
    name: str, known: Mapping[str, Any], where: str, others: Callable[[], Mapping[str, str]] | None = None
) -> None:
    """Raise ValueError with the known names, the nearest first, if `name` is not among them.

    `others` maps existing but unsuitable names to their purposes.
    """
    if name not in known:
        name = name if len(name) <= 100 else f"{name[:99]}…"
        if others and (purpose := others().get(name)):
            raise ValueError(f"{where}: {name!r} is for {purpose}; there are: {', '.join(sorted(known))}")
        told = did_you_mean(name, known)
        raise ValueError(f"{where}: there is no {name!r}; {told}there are: {', '.join(sorted(known))}")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A question that suggests the nearest known name, with a trailing space; empty if none is near."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"did you mean {near[0]!r}? " if near else ""


def checked(
    settings: type[BaseModel],
    given: Mapping[str, Any],
    where: str,
    refuse: Callable[[Any], object] = lambda _: None,
) -> None:
    """Validate settings against a declaration; raise ValueError with key, fault and allowed names.

    `refuse` raises ValueError for settings that are valid one by one but not in combination.
    """
    try:
        refuse(settings(**given))
    except ValidationError as error:
        faults = "; ".join(fault_text(fault, settings) for fault in error.errors())
        raise ValueError(f"{where}: {faults}") from error
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def fault_text(fault: Mapping[str, Any], model: type[BaseModel] | None = None) -> str:
    """One pydantic fault as `key: fault, got value`; for an unknown key, with the model's keys."""
    where = ".".join(str(part) for part in fault["loc"] if not str(part).startswith(("function-", "[")))
    if fault["type"] == "extra_forbidden" and model:
        *path, key = fault["loc"]
        known = keys_at(model, path)
        return f"{where}: there is no such key; {did_you_mean(str(key), known)}there are: {', '.join(known) or 'none'}"
    text = str(fault["msg"]).removeprefix("Value error, ")
    shown = fault["type"] not in ("missing", "value_error")
    return f"{where}: {text}" + (f", got {shortened(repr(fault['input']))}" if shown else "") if where else text


def keys_at(model: type[BaseModel], path: Iterable[int | str]) -> list[str]:
    """Keys of the models at a fault's path, through fields, entries of mappings and tags of unions."""
    models = [model]
    for part in path:
        fields = [each.model_fields[str(part)].annotation for each in models if part in each.model_fields]
        tagged = [
            each
            for each in models
            if part in (f"[{each.__name__}]", *get_args(getattr(each.model_fields.get("kind"), "annotation", None)))
        ]
        models = [inner for field in fields for inner in models_in(field)] or tagged or models
    return list(dict.fromkeys(key for each in models for key in each.model_fields))


def models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """Every model at any depth of an annotation."""
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from models_in(inner)
