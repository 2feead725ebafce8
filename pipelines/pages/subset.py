"""The UI's page of a subset: balance of strata, coverage against random, overlaps, kept and dropped samples.

One function, `subset_page`, makes it for a study's trial and for an ad-hoc selection.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from secateur.pipelines.data.stored_targets import shown_targets
from secateur.pipelines.files.shown_text import in_markdown, one_line
from secateur.pipelines.pages.bars import paired_bars
from secateur.pipelines.pages.extremes import SHOWN, strip
from secateur.pipelines.pages.plots import inline
from secateur.pipelines.pages.previews import Previews, previewed, rows_at, shown_places
from secateur.pipelines.pages.score import EACH, NAME
from secateur.pipelines.storage.store import Store
from secateur.pipelines.studies.grid import Trial
from secateur.pipelines.studies.samples import Study
from secateur.scorers.contract import Scores
from secateur.scorers.geometry.subset_coverage import distance_to_kept
from secateur.selectors.draws.ranks import Keep, first_by_key
from secateur.selectors.static.uniform_random import uniform_random

WORK = 1e10
"""Most multiplications for one page's coverage, unless `FEWEST` rows need more."""
FEWEST, MOST = 64, 4096
"""Bounds on the number of rows sampled for the distance to the nearest kept sample."""


@dataclass(frozen=True)
class Whole:
    """The data of which a subset is a part.

    `strata` are int64 `[n]` (classes, if targets are classes) and `names` theirs, `inputs` `[n, …]`, `samples` the
    table of samples, `task` the `Task.state` for showing targets, `embeddings` float `[n, d]` if the study has them,
    `files` the samples' files, and `previews` shows samples.
    """

    strata: np.ndarray
    names: Sequence[str]
    inputs: np.ndarray
    samples: pl.LazyFrame
    task: Mapping[str, Any]
    embeddings: np.ndarray | None = None
    files: Sequence[str] = ()
    previews: Previews | None = None


def random_beside(keep: Keep, seed: int) -> Keep:
    """A random subset of equal size, equal to that of the study's random baseline with this seed."""
    return uniform_random(np.arange(len(keep), dtype=np.int64), int(keep.sum()), seed=seed)


def others_at(
    study: Study, store: Store, budget: int, seed: int, count: int, but: Trial | None = None
) -> dict[str, Keep]:
    """Masks of the study's static selections at a budget and a seed, by name, if they match its current samples."""
    key, found = (study.name, "subset"), {}
    for trial in (Trial(selection, seed) for selection in study.selection_keys):
        static = trial.name in study.selections and not study.selections[trial.name].in_training
        if trial == but or not static or study.rows_about(trial.keep, count) != budget or not store.holds(key, trial):
            continue
        mask = store.load(key, trial)
        if len(mask) == count:
            found[trial.name] = mask
    return found


def subset_page(
    whole: Whole,
    keep: Keep,
    *,
    seed: int,
    others: Mapping[str, Keep] | None = None,
    score: tuple[str, Scores] | None = None,
) -> dict[str, Any]:
    """Numbers and Markdown, by name, of a subset beside a random one of its size.

    `others` are other selections at its budget and seed.
    """
    random = random_beside(keep, seed)
    pages: dict[str, Any] = {
        "balance of strata": class_balance(whole.strata, keep, whole.names),
        "overlap with random": overlap(keep, random),
        "overlap": overlap_table(keep, others or {}),
        "kept and dropped": both_sides(whole, keep, seed=seed, score=score),
    }
    if whole.embeddings is None:
        return pages | {"coverage": "not known: this study makes no embeddings, which distances are taken in"}
    rows = rows_asked(len(keep), int(keep.sum()), whole.embeddings.shape[1])
    mine, its = (distance_to_kept(whole.embeddings, each, rows=rows) for each in (keep, random))
    return pages | {
        "coverage radius": float(mine.max()),
        "coverage radius of random": float(its.max()),
        "mean distance to kept": float(mine.mean(dtype=np.float64)),
        "mean distance to kept of random": float(its.mean(dtype=np.float64)),
        "coverage": coverage_table(mine, its, len(keep)),
    }


def rows_asked(count: int, kept: int, width: int) -> np.ndarray:
    """Rows for distances, int64 ascending: all, or the same sample of rows for every subset of this size."""
    most = int(np.clip(WORK / (kept * width), FEWEST, MOST))
    return np.sort(first_by_key(np.arange(count), most, 0))


def coverage_table(mine: np.ndarray, its: np.ndarray, count: int) -> str:
    """Distances to the nearest kept sample, beside random's, with the number of sampled rows."""
    lines = ["| Euclidean distance to the nearest kept sample | this subset | random |", "| --- | ---: | ---: |"]
    measures = (("largest (coverage radius)", np.max), ("mean", np.mean), ("median", np.median))
    for title, measure in measures:
        lines.append(f"| {title} | {measure(mine.astype(float)):.4g} | {measure(its.astype(float)):.4g} |")
    if len(mine) < count:
        lines += ["", f"Taken of {len(mine):,} of {count:,} samples, drawn once; the true radius may be larger."]
    return "\n".join(lines)


def overlap(one: Keep, other: Keep) -> float:
    """Jaccard index: samples that both keep, divided by samples that either keeps."""
    return int(np.count_nonzero(one & other)) / max(1, int(np.count_nonzero(one | other)))


def overlap_table(keep: Keep, others: Mapping[str, Keep]) -> str:
    """The overlap with each other selection, largest first."""
    kept, count = int(keep.sum()), len(keep)
    chance = kept / (2 * count - kept)
    note = f"Two random subsets of {kept:,} of {count:,} samples overlap by about {chance:.2f}."
    if not others:
        return f"No other selection at this budget and seed has been made yet. {note}"
    found = sorted(((overlap(keep, np.asarray(mask)), name) for name, mask in others.items()), reverse=True)
    lines = ["| selection | overlap (Jaccard) | kept by both |", "| --- | ---: | ---: |"]
    for share, name in found:
        lines.append(f"| {in_markdown(name)} | {share:.2f} | {np.count_nonzero(keep & others[name]):,} |")
    return "\n".join([*lines, "", note])


def both_sides(whole: Whole, keep: Keep, *, seed: int, score: tuple[str, Scores] | None = None) -> str:
    """Some kept and some dropped samples, drawn at random: pictures of images, otherwise a table of previews.

    If the selection reads a score, samples are ordered by it, highest first.
    """
    sides = []
    for title, mask in (("Kept", keep), ("Dropped", ~keep)):
        rows = drawn(np.flatnonzero(mask), seed)
        if score is not None:
            rows = rows[np.argsort(-np.asarray(score[1][rows]), kind="stable")]
        sides.append((title, rows))
    pictures = whole.inputs.ndim == 4 and whole.inputs.dtype == np.uint8
    return "\n\n".join(side(title, rows, whole, score, pictures=pictures) for title, rows in sides if len(rows))


def drawn(rows: np.ndarray, seed: int, count: int = SHOWN) -> np.ndarray:
    """A random sample of the rows, int64 ascending: those with the smallest random keys."""
    return np.sort(first_by_key(rows, count, seed))


def side(title: str, rows: np.ndarray, whole: Whole, score: tuple[str, Scores] | None, *, pictures: bool) -> str:
    """Kept or dropped samples with row, class and, if any, score."""
    found = rows_at(whole.samples, rows)
    names = [one_line(target, NAME) for target in shown_targets(found, whole.task)]
    places = shown_places(found, whole.files)
    values = [] if score is None else [f"{value:.3g}" for value in np.asarray(score[1][rows], np.float64)]
    if pictures:
        texts = (", ".join(parts) for parts in zip(names, *([values] if values else []), strict=True))
        caption = ", ".join(f"{place} ({text})" for place, text in zip(places, map(in_markdown, texts), strict=True))
        what = f"row (label{f', {score[0]}' if score else ''})"
        return f"{title}, drawn at random\n\n{strip(in_order(whole.inputs, rows), title)}\n\n{what}: {caption}"
    head = ["row", "label", *([score[0]] if score else []), "sample"]
    lines = [
        f"**{title}**, drawn at random",
        "",
        "| " + " | ".join(head) + " |",
        "| ---: " + "| --- " * len(head[1:]) + "|",
    ]
    for cells in zip(places, names, *([values] if values else []), previewed(found, whole.previews), strict=True):
        lines.append("| " + " | ".join(in_markdown(cell or "") for cell in cells) + " |")
    return "\n".join(lines)


def in_order(inputs: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Rows of an array, read from its file in ascending order."""
    order = np.argsort(rows)
    taken = np.empty((len(rows), *inputs.shape[1:]), inputs.dtype)
    taken[order] = inputs[rows[order]]
    return taken


@dataclass(frozen=True)
class Share:
    """Share of one class, or of several together, among all and among kept samples."""

    title: str
    before: float
    after: float


def shares(labels: np.ndarray, keep: Keep, names: Sequence[str], *, each: int = EACH) -> list[Share]:
    """Shares of each class in label order; with many classes, in order of change, with the middle ones combined."""
    before = np.bincount(labels, minlength=len(names)) / len(labels)
    after = np.bincount(labels[keep], minlength=len(names)) / max(1, int(keep.sum()))
    chosen = np.arange(len(names))
    if len(names) > each:
        order = np.argsort(after - before, kind="stable")
        chosen = np.concatenate([order[-(each // 2) :][::-1], order[: each // 2][::-1]])
    found = [
        Share(one_line(names[label], NAME), float(before[label]), float(after[label])) for label in chosen.tolist()
    ]
    if len(chosen) < len(names):
        rest = np.setdiff1d(np.arange(len(names)), chosen)
        others = Share(f"{len(rest)} others, mean", float(before[rest].mean()), float(after[rest].mean()))
        found.insert(each // 2, others)
    return found


def class_balance(labels: np.ndarray, keep: Keep, names: Sequence[str]) -> str:
    """Share of each class before and after, as Markdown."""
    found = shares(labels, keep, names)
    pairs = [(100 * one.before, 100 * one.after) for one in found]
    svg = paired_bars([one.title for one in found], pairs, ("all samples", "kept"), "% of samples")
    return inline(svg.encode(), "balance of strata")
