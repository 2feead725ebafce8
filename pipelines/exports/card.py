"""Exports for the Hugging Face Hub: a dataset card, and a folder of Parquet files with its card."""

import json
import math
from pathlib import Path
from typing import Annotated, Any

import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field, StrictStr, ValidationError

from secateur.pipelines.exports.registry import exporter
from secateur.pipelines.exports.selected import Selected
from secateur.pipelines.exports.tables import (
    NumberColumn,
    RowColumn,
    Rows,
    ShardMegabytes,
    WeightColumn,
    grouped,
    sharded,
)
from secateur.pipelines.files.shown_text import in_markdown, one_line
from secateur.pipelines.manifests.document import ManifestError

TEMPLATE = Path(__file__).with_name("card.md.jinja")
MOST_CLASSES = 1000
LARGEST_REPORT = 2**26
LONGEST = 300
"""Most characters of a name or a setting on a card."""
SIZES = ("1K", "10K", "100K", "1M", "10M", "100M", "1B", "10B", "100B", "1T")
ENCODINGS = {"image": "image-classification", "text": "text-classification", "features": "tabular-classification"}
ReportPath = Annotated[str, Field(description="report.json of the study, whose verdict the card then quotes")]


class Reported(BaseModel):
    """The entries of a report that a card quotes."""

    model_config = ConfigDict(extra="ignore")

    study: StrictStr
    verdict: StrictStr
    table: list[list[StrictStr]]
    note: StrictStr
    """A note on the table: the family of comparisons over which p-values are corrected."""


@exporter(".md")
def card(selected: Selected, path: Path, *, report: ReportPath = "") -> None:
    """A dataset card for the Hugging Face Hub: size, task, how the samples were chosen, and the report's verdict."""
    path.write_text(card_text(selected, report, {}), encoding="utf-8", newline="\n")
    selected.progress(len(selected.rows), len(selected.rows))


@exporter("")
def hub(
    selected: Selected,
    path: Path,
    *,
    report: ReportPath = "",
    row_column: RowColumn = "",
    weight_column: WeightColumn = "weight",
    number_column: NumberColumn = "",
    shard_megabytes: ShardMegabytes = 500,
) -> None:
    """Kept rows as a folder to upload to the Hugging Face Hub: Parquet files in `data` and README.md, their card."""
    configs = {"configs": [{"config_name": "default", "data_files": [{"split": "train", "path": "data/train-*"}]}]}
    content = card_text(selected, report, configs)
    (path / "data").mkdir()
    rows = Rows(selected, row_column, weight_column, number_column)
    for number, shard in enumerate(sharded(rows, shard_megabytes * 10**6)):
        with pq.ParquetWriter(path / "data" / f"train-{number:05d}.parquet", rows.schema, compression="zstd") as writer:
            for group in grouped(shard):
                writer.write_table(group)
    (path / "README.md").write_text(content, encoding="utf-8", newline="\n")


def card_text(selected: Selected, report: str, extra: dict[str, Any]) -> str:
    """The card as a Markdown text with its YAML front matter; raises ManifestError for a report of another data set."""
    from huggingface_hub import DatasetCard, DatasetCardData

    declared = selected.manifest.declaration
    made = declared.provenance
    kind = next((kind for kind in ENCODINGS if kind in made.columns), None)
    labelled = "label" in made.columns and made.columns.get("target", "class") == "class"
    data = DatasetCardData(
        pretty_name=f"{line(made.dataset)}, pruned by {line(made.selection)}",
        license=None if made.license is None else line(made.license),
        size_categories=[size_category(declared.count)],
        # The Hub has no term for several labels at once, and one for numbers.
        task_categories=[ENCODINGS[kind]] if kind and labelled else None,
        tags=["data-pruning", "coreset", "secateur"],
        pruning={
            "dataset": line(made.dataset),
            "revision": line(made.revision),
            "fingerprint": declared.fingerprint,
            "kept": declared.count,
            "of": declared.of,
            "keep": made.keep,
            "selection": line(made.selection),
            "selector": line(made.selector),
            "selector_version": line(made.selector_version),
            "seed": made.seed,
            "settings": line(json.dumps(made.settings, sort_keys=True)),
            "scores": [card.name for card in made.scores],
            "manifest": declared.root,
        },
        **extra,
    )
    counts = [
        [str(c.label), c.name or "", f"{c.before:,}", f"{c.after:,}"] for c in declared.payload.classes[:MOST_CLASSES]
    ]
    scores = [[c.name, c.version, c.high_means, c.view, c.paper] for c in made.scores]
    content = DatasetCard.from_template(
        data,
        str(TEMPLATE),
        declared=declared,
        made=made,
        reported=read_report(report, made.dataset) if report else None,
        share=100 * declared.count / declared.of if declared.of else math.nan,
        classes=[["label", "class", "before", "after"], *counts],
        scores=[["score", "version", "high means", "computed on", "paper"], *scores],
        settings=json.dumps(made.settings, sort_keys=True),
        versions=", ".join(f"{name} {version}" for name, version in sorted(made.versions.items())),
        prose=prose,
        code=code,
        table=table,
    )
    return str(content)


def table(rows: list[list[str]]) -> str:
    """Rows as a Markdown table, the first one as its header."""
    header, *others = [" | ".join(map(prose, cells)) for cells in rows]
    return "\n".join(f"| {cells} |" for cells in (header, " | ".join(["---"] * len(rows[0])), *others))


def read_report(path: str, dataset: str) -> Reported:
    """The content of a report.json; ManifestError for another file, or a report of another data set."""
    file = Path(path) / "report.json" if Path(path).is_dir() else Path(path)
    if file.stat().st_size > LARGEST_REPORT:
        raise ManifestError(f"{file} is larger than a report can be")
    try:
        reported = Reported.model_validate_json(file.read_bytes())
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise ManifestError(f"{file} is no report of a study: {place}: {first['msg']}") from error
    if reported.study != dataset:
        raise ManifestError(f"{file} reports on {reported.study!r}, but the manifest is of {dataset!r}")
    return reported


def size_category(count: int) -> str:
    """The Hub's term for a number of samples."""
    place = 0 if count < 1000 else int(math.log10(count + 0.5)) - 2
    if place == 0:
        return f"n<{SIZES[0]}"
    return f"{SIZES[place - 1]}<n<{SIZES[place]}" if place < len(SIZES) else f"n>{SIZES[-1]}"


def line(text: str) -> str:
    """A text on one line, shortened where necessary."""
    return one_line(text, LONGEST)


def prose(text: str, longest: int = LONGEST) -> str:
    """A text escaped so that Markdown and HTML show it unchanged."""
    return in_markdown(text, longest)


def code(text: str) -> str:
    """A text for use between backticks."""
    return line(text).replace("`", "'")
