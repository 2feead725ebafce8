"""Forms of Dagster's launchpad for settings of scorers, selectors and configs, derived from their signatures."""

from collections.abc import Mapping, Sequence
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import dagster as dg
from pydantic import BaseModel, Field, ValidationError, create_model
from pydantic.fields import FieldInfo


def form(
    settings: type[BaseModel], defaults: Mapping[str, Any], optional: tuple[str, ...] = (), given: tuple[str, ...] = ()
) -> type[dg.Config]:
    """A launchpad form of a settings model with a study's values as defaults.

    Names in `optional` may be empty: the validation split selects them. Names in `given` are not in the form:
    the study supplies them.
    """
    fields: dict[str, Any] = {}
    for name, declared in settings.model_fields.items():
        if name in given:
            continue
        shown = offered(declared.annotation)
        annotation: Any = shown | None if name in optional else shown
        value = plain(defaults.get(name, None if name in optional else declared.get_default(call_default_factory=True)))
        filled = {"default": value, "default_factory": None, "annotation": annotation}
        fields[name] = (annotation, FieldInfo.merge_field_infos(declared, **filled))
    return create_model(f"{settings.__name__}_form", __base__=dg.Config, **fields)


def offered(annotation: Any) -> Any:
    """The annotation in a form that Dagster supports.

    Tuples and sequences become lists. Types that Dagster's forms cannot distinguish, such as counts and fractions, and
    nested settings become `Any`: the declaration itself rejects wrong values when the run starts.
    """
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin in (tuple, Sequence):
        return list[offered(parts[0])]  # type: ignore[misc]
    if origin is Annotated:
        return offered(parts[0])
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return Any
    if origin in (Union, UnionType):
        several = [part for part in parts if part is not type(None)]
        return Any if len(several) > 1 or offered(several[0]) is Any else annotation
    return annotation


def plain(value: Any) -> Any:
    """A default as a YAML value."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    return list(value) if isinstance(value, tuple) else value


def refuse_out_of_range(context: dg.AssetExecutionContext) -> None:
    """Raise ValueError if a setting of any step of this run is out of range, before the first step works.

    The launchpad checks only types; otherwise a step would check its settings when its turn comes, after trainings.
    """
    given: Mapping[str, Any] = context.run.run_config.get("ops", {})  # type: ignore[assignment]
    faults = []
    for node in context.op_execution_context.job_def.nodes:
        form_of = getattr(node.definition, "compute_fn", None)
        if node.name not in given or form_of is None or not form_of.has_config_arg():
            continue
        try:
            form_of.get_config_arg().annotation(**given[node.name].get("config", {}))
        except ValidationError as error:
            faults += [f"{node.name}.{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()]
    if faults:
        raise ValueError(f"launchpad: {'; '.join(faults)}")


def forms(name: str, parts: Mapping[str, type[dg.Config]]) -> type[dg.Config]:
    """A form with one section for each given form, all with defaults."""
    fields: dict[str, Any] = {key: (part, Field(default_factory=part)) for key, part in parts.items()}
    return create_model(name, __base__=dg.Config, **fields)
