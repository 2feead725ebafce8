"""Write an audit for Argilla: two folders for `rg.Dataset.from_disk`, of suspicious labels and of pairs.

A folder holds `.argilla/dataset.json`, `.argilla/settings.json` and `records.json`, as argilla 2.8 writes them
(https://docs.argilla.io/latest/how_to_guides/import_export, read 2026-11). Pictures are in the records, as data URIs.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from secateur.pipelines.audits.sheets import COPY, OTHER, Held, Item, Sheets
from secateur.pipelines.files.data_uris import data_uri

AGENT = "secateur audit"
ASK = {
    "labels": "Which label is right? The given one may be wrong; the suggested one is that of a small model.",
    "pairs": "Are these two copies of each other, so that one of them tells a model nothing new?",
}


def write_argilla(sheets: Sheets, folder: Path) -> None:
    """Fill an empty folder with the folders `labels` and `pairs`, unless they would have no rows."""
    for name, listed in (("labels", sheets.suspects), ("pairs", sheets.pairs)):
        if listed:
            (folder / name / ".argilla").mkdir(parents=True)
            parts = {
                ".argilla/dataset.json": dataset_of(name, sheets),
                ".argilla/settings.json": settings_of(name, sheets),
                "records.json": [record_of(name, sheets, item) for item in listed],
            }
            for file, content in parts.items():
                text = json.dumps(content, indent=1, ensure_ascii=False)
                (folder / name / file).write_text(text, encoding="utf-8")


def dataset_of(name: str, sheets: Sheets) -> dict[str, Any]:
    """The data set's identity and status."""
    return {
        "id": None, "inserted_at": None, "updated_at": None, "name": f"audit-{name}", "status": "draft",
        "guidelines": ASK[name], "allow_extra_metadata": True, "workspace_id": None, "last_activity_at": None,
        "distribution": {"strategy": "overlap", "min_submitted": 1},
    }  # fmt: skip


def settings_of(name: str, sheets: Sheets) -> dict[str, Any]:
    """Fields, the question, and metadata to filter by."""
    shown = {"type": "image"} if sheets.kind == "image" else {"type": "text", "use_markdown": False}
    fields = [titled(key, shown, required=key == "sample") for key in fields_of(name)]
    return {
        "guidelines": ASK[name],
        "questions": [titled("answer", question_of(name, sheets), required=True)],
        "fields": [*fields, titled("given", {"type": "text", "use_markdown": False}, required=False)],
        "vectors": [],
        "metadata": [
            {"id": None, "name": one, "title": one, "settings": {"type": "terms", "values": None},
             "visible_for_annotators": True}
            for one in ("finding", "split", "drawn")
        ],
        "allow_extra_metadata": True,
        "distribution": {"strategy": "overlap", "min_submitted": 1},
        "mapping": None,
    }  # fmt: skip


def fields_of(name: str) -> Sequence[str]:
    """Fields to show."""
    return ("sample", "other") if name == "pairs" else ("sample",)


def titled(name: str, settings: dict[str, Any], *, required: bool) -> dict[str, Any]:
    """A field or a question."""
    return {
        "id": None, "name": name, "title": name, "description": None, "required": required, "settings": settings,
        "type": settings["type"],
    }  # fmt: skip


def question_of(name: str, sheets: Sheets) -> dict[str, Any]:
    """The question to the annotator; a number is entered as text."""
    asked = (COPY, OTHER) if name == "pairs" else sheets.labels
    if len(asked) < 2:
        return {"type": "text", "use_markdown": False}
    several = name == "labels" and sheets.several
    options = {"options": [{"value": one, "text": one, "description": None} for one in asked], "visible_options": None}
    return options | (
        {"type": "multi_label_selection", "options_order": "natural"} if several else {"type": "label_selection"}
    )


def record_of(name: str, sheets: Sheets, item: Item) -> dict[str, Any]:
    """A row or a pair, with the audit's suggestion."""
    fields = {"sample": shown(item.held, sheets), "given": ", ".join(item.given)}
    if name == "pairs":
        fields["other"] = shown(item.other or Held(), sheets)
    metadata = {"finding": item.finding, "drawn": "yes" if item.drawn else "no"} | {
        key: value if type(value) in (int, float) else str(value) for key, value in item.facts.items()
    }
    answer: Any = COPY if name == "pairs" else item.suggested if sheets.several else ", ".join(item.suggested)
    suggestion = {"value": answer, "score": share_in(item), "agent": AGENT}
    return {
        "id": item.name,
        "fields": {key: value for key, value in fields.items() if value},
        "metadata": metadata,
        "suggestions": {"answer": suggestion} if answer else {},
        "responses": {},
        "vectors": {},
        "_server_id": None,
    }


def share_in(item: Item) -> float | None:
    """The suggestion's score where it is a share, as Argilla requires."""
    alike = item.facts.get("similarity")
    return float(alike) if alike is not None and 0 <= alike <= 1 else None


def shown(held: Held, sheets: Sheets) -> str:
    """A text, or a picture as a data URI."""
    return data_uri(held.picture) if sheets.kind == "image" and held.picture else held.text
