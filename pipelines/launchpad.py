"""Settings of scorers, selectors and recipes as forms of Dagster's launchpad: declared once, in their signatures."""

from collections.abc import Mapping
from typing import Any

import dagster as dg
from pydantic import BaseModel, Field, create_model
from pydantic.fields import FieldInfo


def form(settings: type[BaseModel], defaults: Mapping[str, Any], optional: tuple[str, ...] = ()) -> type[dg.Config]:
    """A launchpad form of a settings model with a study's values as defaults.

    Names in `optional` may be left empty: they are chosen on the validation split.
    """
    fields: dict[str, Any] = {}
    for name, declared in settings.model_fields.items():
        annotation: Any = declared.annotation | None if name in optional else declared.annotation  # type: ignore[operator]
        value = defaults.get(name, None if name in optional else declared.default)
        fields[name] = (annotation, FieldInfo.merge_field_infos(declared, default=value, annotation=annotation))
    return create_model(f"{settings.__name__}_form", __base__=dg.Config, **fields)


def forms(name: str, parts: Mapping[str, type[dg.Config]]) -> type[dg.Config]:
    """A form with one section for each of the given ones, all filled in."""
    fields: dict[str, Any] = {key: (part, Field(default_factory=part)) for key, part in parts.items()}
    return create_model(name, __base__=dg.Config, **fields)
