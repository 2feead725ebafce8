"""Write an audit of pictures for FiftyOne: a folder in its format FiftyOneImageClassificationDataset.

`data/` holds the pictures, `labels.json` their labels by the name of their file without its ending, and `classes` is
null, so that labels are texts (https://docs.voxel51.com/user_guide/import_datasets.html, read 2026-11). A sample with
several labels, here the given and the suggested one, has a list of classifications; attributes hold the rest.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from secateur.pipelines.audits.sheets import Item, Sheets


def write_fiftyone(sheets: Sheets, folder: Path) -> None:
    """Fill an empty folder; pictures of pairs are samples of their own that share the attribute `pair`."""
    (folder / "data").mkdir()
    labels: dict[str, list[dict[str, Any]]] = {}
    for item in (*sheets.suspects, *sheets.pairs):
        facts = {"finding": item.finding, "drawn": item.drawn, **item.facts}
        for name, held in ((item.name, item.held), (f"{item.name}-other", item.other)):
            if held and held.picture:
                (folder / "data" / f"{name}.{held.ending}").write_bytes(held.picture)
                labels[name] = labels_of(item, facts | {"pair": item.name}, other=held is item.other)
    text = json.dumps({"classes": None, "labels": labels}, indent=1, ensure_ascii=False)
    (folder / "labels.json").write_text(text, encoding="utf-8")


def labels_of(item: Item, facts: dict[str, Any], *, other: bool) -> list[dict[str, Any]]:
    """Classifications of a picture: the given and the suggested label, and the finding."""
    own = [] if other else [("given", one) for one in item.given] + [("suggested", one) for one in item.suggested]
    return [
        {"label": label, "confidence": None, "attributes": {**facts, "is": what}}
        for what, label in (*own, ("finding", item.finding))
    ]
