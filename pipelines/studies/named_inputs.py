"""Content digests of the files, folders and code that a study's settings name, beside its source.

Fields carry their own mark, see `NamesInput`; a new key needs nothing else.
"""

import re
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from secateur.pipelines.files.contents import content_at
from secateur.pipelines.files.own_code import code_content, code_of, refuse_changed
from secateur.scorers.settings import NamesInput, parts_of

CODE_NAME = re.compile(r"(?P<module>[\w.]+):\w+")


def contents_of(settings: BaseModel, base: Path | None = None) -> dict[str, str]:
    """Digest of the content of each input that settings name, by its key, such as `proxy.model`.

    Paths relative to the study's file are resolved below `base`, and ignored without it. Raises OSError for an
    unreadable input.
    """
    found: dict[str, list[str]] = {}
    for key, text, marked in named_in(settings):
        if marked.code and (named := CODE_NAME.fullmatch(text)):
            found.setdefault(key, []).append(code_content(named["module"]))
        elif marked.paths and (path := path_of(text, base if marked.from_study else Path())):
            found.setdefault(key, []).append(content_at(path))
    return {key: " ".join(digests) for key, digests in found.items()}


def refuse_changed_code(*settings: BaseModel) -> None:
    """Raise ValueError if the settings name code that has changed since this process loaded it."""
    for _, text, marked in chain.from_iterable(map(named_in, settings)):
        if marked.code and (named := CODE_NAME.fullmatch(text)):
            refuse_changed(code_of(named["module"])[0].values())


def named_in(settings: BaseModel, above: str = "") -> Iterator[tuple[str, str, NamesInput]]:
    """Key, text and mark of every text in a marked field, of the settings and of nested models."""
    for name, field in type(settings).model_fields.items():
        value, key = getattr(settings, name), f"{above}{name}"
        for mark in field.metadata:
            if isinstance(mark, NamesInput):
                texts = (part for part in parts_of(value) if isinstance(part, str | Path))
                yield from ((key, str(text), mark) for text in texts)
        yield from (found for inner, part in models_in(value, key) for found in named_in(part, f"{inner}."))


def models_in(value: Any, key: str) -> Iterator[tuple[str, BaseModel]]:
    """Models at any depth of a field's value, by their keys."""
    if isinstance(value, BaseModel):
        yield key, value
    elif isinstance(value, Mapping):
        for name, part in value.items():
            yield from models_in(part, f"{key}.{name}")
    elif isinstance(value, list | tuple):
        for part in value:
            yield from models_in(part, key)


def path_of(text: str, base: Path | None) -> Path | None:
    """The file or folder with that name; None if it does not exist, or is the working folder or a parent of it."""
    if base is None or not text:
        return None
    path = base / text
    try:
        there = path.exists() and not Path.cwd().is_relative_to(path.resolve())
    except (OSError, ValueError):  # the name is too long or contains a null
        return None
    return path if there else None
