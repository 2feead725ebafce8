"""Users' settings as models whose errors name the wrong key and the reason."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, get_args

from pydantic import BaseModel, ConfigDict, model_validator

LARGEST = 10**12
"""Largest number of a field without a bound of its own."""


@dataclass(frozen=True)
class NamesInput:
    """Marks a field, by `Annotated`, whose texts name inputs of a study besides its source: their content decides
    results as the settings do.

    `paths` are files and folders, relative ones from the working folder or, with `from_study`, from the study's file;
    a text without a file there names something else, such as a model of the hub. `code` is `module:name`.
    """

    paths: bool = True
    code: bool = False
    from_study: bool = False


PATHS: Final = NamesInput()
CODE: Final = NamesInput(paths=False, code=True)
PATHS_OR_CODE: Final = NamesInput(code=True)
STUDY_PATHS: Final = NamesInput(from_study=True)


class Settings(BaseModel):
    """Refuses unknown keys, and for a number: infinity, NaN, true or false, which Python takes for 1 and 0, and numbers
    beyond `LARGEST` where the field has no bound of its own.
    """

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _numbers_are_possible(cls, given: Any) -> Any:
        for name, value in given.items() if isinstance(given, dict) else ():
            if name not in cls.model_fields:
                continue
            field = cls.model_fields[name]
            kinds, parts = set(types_in(field.annotation)), list(parts_of(value))
            if bool not in kinds and kinds & {int, float} and any(isinstance(part, bool) for part in parts):
                raise ValueError(f"{name}: must be a number, got {str(value).lower()}")
            bounded = any(hasattr(each, "le") or hasattr(each, "lt") for each in field.metadata)
            numbers = [part for part in parts if isinstance(part, int | float) and LARGEST < abs(part) < float("inf")]
            if numbers and not bounded and kinds & {int, float}:
                raise ValueError(f"{name}: {numbers[0]} is beyond {LARGEST:,}")
        return given


def parts_of(value: Any) -> Iterator[Any]:
    """A value, or the values in lists and mappings, however deep."""
    if not isinstance(value, list | tuple | dict):
        yield value
        return
    for part in value.values() if isinstance(value, dict) else value:
        yield from parts_of(part)


def types_in(annotation: Any) -> Iterator[Any]:
    """An annotation without parts, or the parts of all of its parts."""
    parts = get_args(annotation)
    if not parts:
        yield annotation
    for part in parts:
        yield from types_in(part)
