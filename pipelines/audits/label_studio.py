"""Write an audit for Label Studio: tasks with predictions, and the labelling interface of each list.

Tasks are JSON as in "Import pre-annotated data", https://labelstud.io/guide/predictions (read 2026-11): `data` with the
fields of the interface, and `predictions` with `result`, each of `from_name`, `to_name`, `type` and `value`.
Pictures lie beside them, and tasks name them as local files: LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT is this folder.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, ElementTree, SubElement, indent

from secateur.pipelines.audits.sheets import COPY, OTHER, Held, Item, Sheets

MODEL = "secateur audit"
PICTURES = "pictures"


def write_label_studio(sheets: Sheets, folder: Path) -> None:
    """Fill an empty folder with labels.json and pairs.json, those that have rows, each beside its interface (.xml)."""
    (folder / PICTURES).mkdir()
    for name, listed in (("labels", sheets.suspects), ("pairs", sheets.pairs)):
        if listed:
            tasks = [task_of(sheets, item, name, folder) for item in listed]
            (folder / f"{name}.json").write_text(json.dumps(tasks, indent=1, ensure_ascii=False), encoding="utf-8")
            write_interface(sheets, name, folder / f"{name}.xml")
    if not any((folder / PICTURES).iterdir()):
        (folder / PICTURES).rmdir()


def task_of(sheets: Sheets, item: Item, name: str, folder: Path) -> dict[str, Any]:
    """A row or a pair, with the audit's suggestion."""
    data: dict[str, Any] = {"finding": item.finding, "drawn": item.drawn, **item.facts}
    data["given"] = ", ".join(item.given)
    shown: list[tuple[str, Held | None]] = [
        ("sample", item.held),
        *([("other", item.other)] if name == "pairs" else []),
    ]
    for key, held in shown:
        data[key] = address_of(held or Held(), f"{item.name}-{key}", folder) if sheets.kind == "image" else (
            held.text if held else ""
        )  # fmt: skip
    predicted = [COPY] if name == "pairs" else item.suggested
    if name == "labels" and not sheets.labels:
        value: dict[str, Any] = {"text": predicted}
        kind = "textarea"
    else:
        value, kind = {"choices": predicted}, "choices"
    result = [{"from_name": "answer", "to_name": "sample", "type": kind, "value": value}] if predicted else []
    prediction: dict[str, Any] = {"model_version": MODEL, "result": result}
    if item.score is not None:
        data["score"] = item.score
        prediction["score"] = up_to_one(item.score, distance=not sheets.labels)
    return {"data": data, "predictions": [prediction] if result else []}


def up_to_one(score: float, *, distance: bool) -> float:
    """A score mapped monotonically to 0 … 1, as Label Studio requires: log odds to a probability, a distance d to
    d / (1 + d)."""
    if distance:
        return score / (1 + score)
    return 0.5 * (1 + math.tanh(score / 2))


def address_of(held: Held, name: str, folder: Path) -> str:
    """Write a picture, and return its address for Label Studio."""
    if not held.picture:
        return ""
    file = f"{name}.{held.ending}"
    (folder / PICTURES / file).write_bytes(held.picture)
    return f"/data/local-files/?d={PICTURES}/{file}"


def write_interface(sheets: Sheets, name: str, path: Path) -> None:
    """Write the labelling interface: the fields to show and the question."""
    view = Element("View")
    tag = "Image" if sheets.kind == "image" else "Text"
    for key in ("sample", "other") if name == "pairs" else ("sample",):
        SubElement(view, tag, name=key, value=f"${key}")
    SubElement(view, "Header", value="Given: $given")
    if name == "labels" and not sheets.labels:
        SubElement(view, "TextArea", name="answer", toName="sample", maxSubmissions="1")
    else:
        asked: Sequence[str] = (COPY, OTHER) if name == "pairs" else sheets.labels
        several = name == "labels" and sheets.several
        choices = SubElement(
            view, "Choices", name="answer", toName="sample", choice="multiple" if several else "single"
        )
        for value in asked:
            SubElement(choices, "Choice", value=value)
    indent(view)
    ElementTree(view).write(path, encoding="utf-8")
