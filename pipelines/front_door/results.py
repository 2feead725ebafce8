"""The results of a study, for a notebook: its report, manifests, scores and findings, read on access."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from markupsafe import Markup

from secateur.pipelines.manifests.manifest import Manifest
from secateur.pipelines.pages.equal_steps import AT_EPOCHS, AT_STEPS
from secateur.pipelines.pages.html_table import html_table
from secateur.pipelines.pages.tables import terminal_table
from secateur.pipelines.pages.words import Table
from secateur.pipelines.storage.store import Store
from secateur.pipelines.studies.grid import Trial, selection_key
from secateur.pipelines.studies.rejections import did_you_mean
from secateur.pipelines.studies.samples import Study
from secateur.pipelines.studies.study import AnyStudy

WIDE = 1000
"""Width in columns that holds the whole table."""


@dataclass(frozen=True)
class Report:
    """A study's report; a notebook shows its recommendation, verdict and table.

    `path` is the page report.html.
    """

    path: Path

    @cached_property
    def data(self) -> dict[str, Any]:
        """The content of report.json (docs/reference/report.md)."""
        data: dict[str, Any] = json.loads(self.path.with_name("report.json").read_text(encoding="utf-8"))
        return data

    @property
    def parts(self) -> list[tuple[list[str], str, Table]]:
        """Sentences, and the table below them with its caption, of each comparison: two where a study compares at both
        lengths. The sentences are the recommendation, if there is one, and the arms that were better than random.
        """
        recommendation, at_steps = self.data["recommendation"], self.data.get("at_equal_steps")
        said = [*([recommendation["sentence"]] if recommendation else []), self.data["verdict"]]
        main = terminal_table(self.data, WIDE)
        if not at_steps:
            return [(said, "", main)]
        further = [*at_steps["sentences"], at_steps["verdict"]]
        return [(said, AT_EPOCHS, main), (further, AT_STEPS, at_steps["table"])]

    def __repr__(self) -> str:
        said = [sentence for sentences, _, _ in self.parts for sentence in sentences]
        return "\n".join([f"report of {self.data['study']}: {self.path}", *said])

    def _repr_html_(self) -> str:
        shown = [Markup("<h4>{}</h4>").format(self.data["study"])]
        for sentences, caption, table in self.parts:
            shown += [Markup("<p>{}</p>").format(sentence) for sentence in sentences]
            shown += [Markup("<p><b>{}</b></p>").format(caption)] if caption else []
            shown.append(html_table(table))
        shown.append(Markup("<p><small>{}</small></p>").format(str(self.path)))
        return str(Markup("<div>{}</div>").format(Markup("").join(shown)))


class Manifests(Mapping[tuple[str, int | float, int], Manifest]):
    """Manifests of a study by selection, budget and seed; without a seed that of seed 0, or the first available.

    The manifest of a selection in training has `epochs`.
    """

    def __init__(self, store: Store, study: AnyStudy) -> None:
        places = {trial: store.find((study.name, study.manifests_of(trial)), trial) for trial in study.trials}
        self._places = {trial: place for trial, place in places.items() if place}

    def __getitem__(self, key: Any) -> Manifest:
        """The manifest; raises KeyError that lists the available ones."""
        name, keep, *seed = key if isinstance(key, tuple) and len(key) in (2, 3) else (key, None)
        wanted = selection_key(name, keep)
        found = {trial.seed: place for trial, place in self._places.items() if trial.selection == wanted}
        if not found or (seed and seed[0] not in found):
            raise KeyError(self._absent(wanted, found))
        return Manifest.load(found[seed[0] if seed else min(found)])

    def _absent(self, wanted: str, found: Mapping[int, Path]) -> str:
        """The error message for a key without a manifest."""
        if found:
            return f"{wanted} has manifests of the seeds {', '.join(map(str, sorted(found)))}"
        there = list(dict.fromkeys(trial.selection for trial in self._places))
        pairs = ", ".join(f"[{Trial(one, 0).name!r}, {Trial(one, 0).keep}]" for one in there)
        return f"there is no manifest of {wanted}; {did_you_mean(wanted, there)}there are: {pairs or 'none'}"

    def __repr__(self) -> str:
        return f"manifests of {', '.join(map(str, self)) or 'nothing'}"

    def __iter__(self) -> Iterator[tuple[str, int | float, int]]:
        return ((trial.name, trial.keep, trial.seed) for trial in self._places)

    def __len__(self) -> int:
        return len(self._places)


@dataclass(frozen=True)
class StudyResult:
    """A finished run of a study of any kind; its files are those of `secateur run`."""

    store: Store
    study: AnyStudy

    def __repr__(self) -> str:
        return repr(self.report)

    def _repr_html_(self) -> str:
        return self.report._repr_html_()

    @cached_property
    def report(self) -> Report:
        """The comparison with random."""
        return Report(self.store.load((self.study.name, "report")) / "report.html")

    @cached_property
    def manifests(self) -> Manifests:
        """The kept rows of each selection: `manifests["hardest", 0.3]`, or with a seed `manifests["hardest", 0.3, 1]`;
        for one in training the rows of each epoch, `manifests["rs2", 0.3].epochs`."""
        return Manifests(self.store, self.study)

    @property
    def findings(self) -> list[dict[str, Any]]:
        """Faults of data and scores, the most severe first: `kind`, `split`, `count`, `text`, … of each."""
        found: list[dict[str, Any]] = self.report.data["findings"]
        return found

    @cached_property
    def scores(self) -> pl.DataFrame:
        """Scores of the training samples: `row`, `file` and `file_row` of each, and a column float32 for each score.

        Raises ValueError for a study of another kind than samples.
        """
        if not isinstance(self.study, Study):
            raise ValueError(f"study {self.study.name} is of kind {self.study.kind!r} and scores no samples")
        load = self.store.load
        samples = load((self.study.name, "samples")).select(pl.col(r"^(row|file|file_row)$"))
        places: pl.DataFrame = samples.collect()
        if "file" in places.columns:
            names = [name for name, _ in load((self.study.name, "source"))["training_files"]]
            places = places.with_columns(pl.lit(pl.Series(names)).gather(pl.col("file")).alias("file"))
        values = {name: np.asarray(load((self.study.name, "scores", name))) for name in self.study.scores}
        return places.with_columns(**{name: pl.Series(each) for name, each in values.items()})
