"""Settings from YAML, checked when they load: each refusal says key, fault and what is allowed."""

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
    """The name of a study, a score or a selection; raises ValueError for a text that is none.

    Such names become folders, keys of assets and parts of each other, on file systems that know one case alone too.
    """
    if not re.fullmatch("[a-z][a-z0-9_]{0,99}", text):
        raise ValueError("a name is at most 100 lower-case letters, digits and _, the first one a letter")
    return text


Name = Annotated[
    str, AfterValidator(plain_name), WithJsonSchema({"type": "string", "pattern": "^[a-z][a-z0-9_]{0,99}$"})
]


def shipped(name: str) -> Callable[[dict[str, Any]], None]:
    """Make a study that ships the example in a model's JSON schema: what `dg` shows of a component, and fills in."""

    def add(schema: dict[str, Any]) -> None:
        schema["examples"] = [yaml.safe_load((SHIPPED / f"{name}.yaml").read_text(encoding="utf-8"))]

    return add


def mapping(given: Any) -> dict[str, Any]:
    if not isinstance(given, dict):
        raise ValueError(f"must be a mapping from names to settings, got {shortened(repr(given))}")
    return given


def nested(name: str, body: Any, kind: str, own: set[str]) -> Any:
    """The YAML's flat form, settings beside `scorer`/`selector`, as the model's nested one."""
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
    """Raise ValueError with the names there are, nearest first, where `name` is not one of them.

    `others` gives names that exist and do not suit, with what they are for.
    """
    if name not in known:
        name = name if len(name) <= 100 else f"{name[:99]}…"
        if others and (purpose := others().get(name)):
            raise ValueError(f"{where}: {name!r} is for {purpose}; there are: {', '.join(sorted(known))}")
        told = did_you_mean(name, known)
        raise ValueError(f"{where}: there is no {name!r}; {told}there are: {', '.join(sorted(known))}")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A question that names the nearest of the known names, with a space behind it; empty where none is near."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"did you mean {near[0]!r}? " if near else ""


def checked(
    settings: type[BaseModel],
    given: Mapping[str, Any],
    where: str,
    refuse: Callable[[Any], object] = lambda _: None,
) -> None:
    """Validate settings against a declaration; raise ValueError that says key, fault and allowed names.

    `refuse` raises ValueError for settings that are each in their bounds and do not go together.
    """
    try:
        refuse(settings(**given))
    except ValidationError as error:
        faults = "; ".join(fault_text(fault, settings) for fault in error.errors())
        raise ValueError(f"{where}: {faults}") from error
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def fault_text(fault: Mapping[str, Any], model: type[BaseModel] | None = None) -> str:
    """One pydantic fault as `key: what is wrong, got what`; an unknown key of a model with the keys that there are."""
    where = ".".join(str(part) for part in fault["loc"] if not str(part).startswith(("function-", "[")))
    if fault["type"] == "extra_forbidden" and model:
        *path, key = fault["loc"]
        known = keys_at(model, path)
        return f"{where}: there is no such key; {did_you_mean(str(key), known)}there are: {', '.join(known) or 'none'}"
    text = str(fault["msg"]).removeprefix("Value error, ")
    shown = fault["type"] not in ("missing", "value_error")
    return f"{where}: {text}" + (f", got {shortened(repr(fault['input']))}" if shown else "") if where else text


def keys_at(model: type[BaseModel], path: Iterable[int | str]) -> list[str]:
    """Keys of the models that a fault's path leads to, through fields, entries of mappings and tags of unions."""
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
    """Every model in an annotation, however deep."""
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from models_in(inner)
