"""The JSON-LD of a manifest: a Croissant 1.1 description of the kept rows, in one canonical form.

Vocabulary, context and the use of PROV-O: Croissant Format Specification 1.1, "Dataset-level Information", "Resources"
and "Provenance Representation" (http://mlcommons.org/croissant/1.1). Data of secateur alone stand under one key,
`secateur`, as a JSON literal that other readers may ignore.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RECORDS = "kept"
"""Name of the record set, as in `mlcroissant.Dataset(…).records("kept")`."""

PROSE = frozenset({"description", "name", "prov:label"})
"""Keys of text for people; the wording may change between versions."""

CONTEXT: dict[str, Any] = json.loads(Path(__file__).with_name("croissant_context.json").read_text(encoding="utf-8"))
"""The context of Croissant 1.1 and the key `secateur`."""


@dataclass(frozen=True)
class Column:
    """A column of the kept rows: its name, its Croissant data types and its description, one sentence."""

    name: str
    types: tuple[str, ...]
    meaning: str


@dataclass(frozen=True)
class ParquetFile:
    """A Parquet file beside manifest.json: its name, size in bytes and SHA-256."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Records:
    """A further table of a manifest: the name of its record set, and the description of a record, one sentence."""

    name: str
    meaning: str
    file: ParquetFile
    columns: Sequence[Column]


def describe(
    *,
    name: str,
    description: str,
    file: ParquetFile,
    columns: Sequence[Column],
    derived_from: str,
    generated_by: str,
    agent: str,
    extra: Mapping[str, str],
    more: Sequence[Records] = (),
) -> dict[str, Any]:
    """A Croissant 1.1 document of a Parquet file and of `more`, without the key `secateur`; `extra` are plain
    properties.

    `derived_from` names the pruned data set, `generated_by` the selection and `agent` the software, for PROV-O.
    """
    return {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.1",
        "name": name,
        "description": description,
        "version": f"1.0.0+{file.sha256[:12]}",
        **extra,
        "prov:wasDerivedFrom": {"@type": "prov:Entity", "prov:label": derived_from},
        "prov:wasGeneratedBy": {
            "@type": "prov:Activity",
            "prov:label": generated_by,
            "prov:wasAssociatedWith": {"@type": "prov:SoftwareAgent", "prov:label": agent},
        },
        "distribution": [part for one in (file, *(each.file for each in more)) for part in distribution(one)],
        "recordSet": [
            _records(Records(RECORDS, "One record per kept row, in ascending order of row.", file, columns))
            | {"key": {"@id": f"{RECORDS}/row"}},
            *map(_records, more),
        ],
    }


def _records(told: Records) -> dict[str, Any]:
    return {
        "@type": "cr:RecordSet",
        "@id": told.name,
        "name": told.name,
        "description": told.meaning,
        "field": [_field(column, told) for column in told.columns],
    }


def distribution(file: ParquetFile) -> list[dict[str, Any]]:
    """The FileObject of a Parquet file for a document."""
    return [
        {
            "@type": "cr:FileObject",
            "@id": file.name,
            "name": file.name,
            "contentUrl": file.name,
            "contentSize": f"{file.size} B",
            "encodingFormat": "application/x-parquet",
            "sha256": file.sha256,
        }
    ]


def _field(column: Column, told: Records) -> dict[str, Any]:
    return {
        "@type": "cr:Field",
        "@id": f"{told.name}/{column.name}",
        "name": column.name,
        "description": column.meaning,
        "dataType": list(column.types) if len(column.types) > 1 else column.types[0],
        "source": {"fileObject": {"@id": told.file.name}, "extract": {"column": column.name}},
    }


def serialise(document: Mapping[str, Any]) -> bytes:
    """A document's canonical bytes: UTF-8, keys sorted, two spaces, a final newline.

    Raises ValueError for NaN, infinity and text that UTF-8 cannot hold.
    """
    text = json.dumps(document, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False)
    return f"{text}\n".encode()


def root_of(document: Mapping[str, Any]) -> str:
    """SHA-256 of a document without its `secateur.root`, as compact UTF-8 JSON with sorted keys: 64 hex digits."""
    own = {key: value for key, value in document["secateur"].items() if key != "root"}
    content = {**document, "secateur": own}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def parse(content: bytes) -> dict[str, Any]:
    """A document from its bytes; raises ValueError, in one sentence, for bytes that `serialise` does not write.

    Other encodings, repeated keys, NaN and any changed byte are therefore refused, even where JSON allows them.
    """
    try:
        document = json.loads(content.decode(), object_pairs_hook=_unique, parse_constant=_refuse_constant)
        whole = isinstance(document, dict) and serialise(document) == content
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except UnicodeError:
        raise ValueError("it is not UTF-8 text") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"it is not JSON ({error})") from None
    if not isinstance(document, dict):
        raise ValueError("it holds no JSON object")
    if not whole:
        raise ValueError("its bytes are not in the canonical form that it was written in, so it was changed")
    return document


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    unique = dict(pairs)
    if len(unique) < len(pairs):
        raise ValueError("it repeats a key")
    return unique


def _refuse_constant(constant: str) -> None:
    raise ValueError(f"it holds {constant}, which is no JSON number")
