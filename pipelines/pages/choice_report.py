"""The report of a study without training: selected rows beside random ones."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import polars as pl

from secateur.pipelines.data.codes import codes_of
from secateur.pipelines.pages.choice_content import (
    UNTRAINED,
    ChoiceContent,
    Extreme,
    Kept,
    Overlap,
    ScoreFacts,
)
from secateur.pipelines.pages.choice_content import Part as Share
from secateur.pipelines.pages.extremes import ends
from secateur.pipelines.pages.of_target import NO_SOURCE
from secateur.pipelines.pages.page import Page, audit_part
from secateur.pipelines.pages.parts import Part
from secateur.pipelines.pages.plots import COLOURS, RANDOM_COLOUR, picture
from secateur.pipelines.pages.previews import Previews
from secateur.pipelines.pages.subset import overlap
from secateur.pipelines.pages.words import Table
from secateur.pipelines.runs.own_choice import Brought
from secateur.pipelines.studies.choice import Choice
from secateur.pipelines.studies.grid import RANDOM, Trial, selection_key
from secateur.pipelines.studies.own_scores import plain_budget
from secateur.pipelines.studies.target import BESIDE

MOST_VALUES, ENDS = 30, 5
"""Most values of a column in a table, and rows at each end of a score."""


@dataclass(frozen=True)
class Made:
    """Outputs of a study: masks and their costs by trial, the user's inputs, and the rows.

    `samples` is the table of samples, `files` the names of the user's files.
    """

    study: Choice
    masks: Mapping[Trial, np.ndarray]
    spent: Mapping[Trial, Mapping[str, Any]]
    brought: Brought
    samples: pl.DataFrame
    files: Sequence[str]

    @property
    def firsts(self) -> list[Trial]:
        """Selections at seed 0, without random baselines."""
        return [trial for trial in self.masks if trial.seed == 0 and not trial.name.endswith(RANDOM)]

    def random_of(self, trial: Trial) -> Trial | None:
        """The random baseline of a trial, if there is one."""
        beside = Trial(selection_key(f"{trial.name}{RANDOM}", self.study.budget_of(trial)), trial.seed)
        return beside if beside in self.masks else None

    def means(self, mask: np.ndarray) -> dict[str, float]:
        """Mean of each score over kept rows."""
        return {name: float(values[mask].mean(dtype=np.float64)) for name, values in self.brought.scores.items()}


def choice_page(
    made: Made, findings: Sequence[Mapping[str, Any]], previews: Previews | None, audited: Sequence[str] = ()
) -> Page:
    """The page of a study, with texts of samples if `previews` is given, and sentences of its audit."""
    content = content_of(made, findings)
    shown = previews_of(content.extremes, made, previews)
    return Page(
        title=made.study.name,
        description=made.study.description,
        verdict=UNTRAINED,
        parts=[part for part in parts_of(made, content, findings, shown, audited) if part],
        content=content,
        texts=sum(map(bool, shown)),
    )


def content_of(made: Made, findings: Sequence[Mapping[str, Any]]) -> ChoiceContent:
    """The numbers of a report."""
    study = made.study
    kept = [kept_by(made, trial) for trial in made.masks if not trial.name.endswith(RANDOM)]
    return ChoiceContent(
        study=study.name,
        description=study.description,
        unit=study.unit,
        seeds=study.seeds,
        samples=len(made.samples),
        verdict=UNTRAINED,
        scores=[facts_of(study, name, values) for name, values in made.brought.scores.items()],
        target=beside_the_target(study),
        kept=kept,
        overlaps=list(overlaps_of(made)),
        parts=list(shares_of(made)),
        extremes=list(extremes_of(made)),
        note="Kept rows never come to more than the budget; no further row of the order fits in the rest.",
        table=kept_table(kept),
        findings=[{"importance": place, **finding} for place, finding in enumerate(findings)],  # type: ignore[misc]
    )


def beside_the_target(study: Choice) -> str:
    """Advice on baselines to train for selections with a target; empty without one."""
    if study.target is None:
        return ""
    if study.target.source is None:
        return NO_SOURCE
    titles = [study.title(name) for name in BESIDE]
    return (
        f"Beside the selections for {study.target.told()} stand {titles[0]} and {titles[1]}: train on these, too. "
        "Random rows of the target's own source often win."
    )


def facts_of(study: Choice, name: str, values: np.ndarray) -> ScoreFacts:
    """Facts about a score."""
    score = study.scores[name]
    return ScoreFacts(
        name=name,
        high_means=score.high_means,
        brought=score.told(),
        low=float(values.min()),
        mean=float(values.mean(dtype=np.float64)),
        high=float(values.max()),
        distinct=pl.Series(values).n_unique(),
    )


def kept_by(made: Made, trial: Trial) -> Kept:
    """The rows of a trial, beside its random baseline."""
    mask, spent, beside = made.masks[trial], made.spent[trial], made.random_of(trial)
    return Kept(
        selection=trial.selection,
        budget=plain_budget(made.study.budget_of(trial)),
        seed=trial.seed,
        kept=int(mask.sum()),
        of=len(mask),
        groups=spent["groups"],
        unit=spent["unit"],
        limit=spent["limit"],
        total=spent["total"],
        left=max(0.0, spent["limit"] - spent["total"]),
        whole=spent["whole"],
        random=beside.selection if beside else None,
        random_kept=int(made.masks[beside].sum()) if beside else None,
        random_total=made.spent[beside]["total"] if beside else None,
        scores=made.means(mask),
        random_scores=made.means(made.masks[beside]) if beside else {},
    )


def overlaps_of(made: Made) -> Iterator[Overlap]:
    """Pairs of selections at each budget."""
    for one, other in combinations(made.firsts, 2):
        if made.study.budget_of(one) != made.study.budget_of(other):
            continue
        mine, its, count = made.masks[one], made.masks[other], len(made.samples)
        both = int(np.count_nonzero(mine & its))
        expected = int(mine.sum()) * int(its.sum()) / count
        chance = expected / (int(mine.sum()) + int(its.sum()) - expected)
        yield Overlap(one=one.selection, other=other.selection, both=both, jaccard=overlap(mine, its), by_chance=chance)


def shares_of(made: Made) -> Iterator[Share]:
    """Shares of the values of each column of quotas, or of the target's source column, among all rows and among kept
    ones."""
    target = made.study.target
    for trial in made.firsts:
        column = made.study.selection_of(trial).by or (target.source if target else None)
        if column is None:
            continue
        codes, values = codes_of(made.brought.column(column))
        before, after = (np.bincount(codes[rows], minlength=len(values)) for rows in (slice(None), made.masks[trial]))
        for place in np.argsort(-before, kind="stable")[:MOST_VALUES].tolist():
            yield Share(
                selection=trial.selection,
                column=column,
                value=str(values[place]),
                before=before[place] / before.sum(),
                after=after[place] / after.sum(),
            )


def extremes_of(made: Made) -> Iterator[Extreme]:
    """Rows at both ends of each score, by file and row."""
    for name, values in made.brought.scores.items():
        low, high = ends(values, ENDS)
        for end, rows in (("high", high), ("low", low)):
            table = made.samples[rows]
            ids = table["id"].to_list() if "id" in table.columns else [None] * len(rows)
            places = zip(table["file"], table["file_row"], ids, values[rows].tolist(), strict=True)
            for file, row, own, value in places:
                yield Extreme(score=name, end=end, value=value, file=made.files[file], row=row, id=own)  # type: ignore[arg-type]


def previews_of(listed: Sequence[Extreme], made: Made, previews: Previews | None) -> list[str]:
    """Beginnings of the texts of rows at the ends of scores."""
    if previews is None:
        return [""] * len(listed)
    rows = [row for values in made.brought.scores.values() for end in reversed(ends(values, ENDS)) for row in end]
    return list(previews(np.array(rows, np.int64))) if rows else []


def parts_of(
    made: Made, content: ChoiceContent, findings: Sequence[Mapping[str, Any]], shown: Sequence[str],
    audited: Sequence[str],
) -> Iterator[Part]:  # fmt: skip
    """The parts of the page, including empty ones."""
    yield Part("kept", "Selected rows", tables=[("Every selection beside as much at random", content.table)])
    yield Part("target", "For a target", [content.target] if content.target else ())
    yield Part("findings", "Problems in the data", findings=findings)
    yield audit_part(audited)
    means = means_table(content)
    yield Part(
        "scores", "Scores of the selected rows", pictures=dict(pictures_of(made)),
        tables=[("Mean of each score over kept rows, and over as many at random", means),
                ("Scores that were brought", scores_table(content.scores))],
    )  # fmt: skip
    pairs = [["selection", "and", "rows in both", "overlap (Jaccard)", "of random ones"]]
    pairs += [[o.one, o.other, f"{o.both:,}", f"{o.jaccard:.2f}", f"{o.by_chance:.2f}"] for o in content.overlaps]
    yield Part("overlap", "Overlap", tables=[("Selections at one budget, seed 0", pairs)])
    quotas = [["selection", "column", "value", "of all rows", "of kept rows"]]
    quotas += [[p.selection, p.column, p.value, f"{p.before:.1%}", f"{p.after:.1%}"] for p in content.parts]
    yield Part("quotas", "Quotas", tables=[("Shares of rows before and after, seed 0", quotas)])
    named = any(one.id is not None for one in content.extremes)
    head = ["score", "value", "row", *(["id"] if named else []), *(["text"] if any(shown) else [])]
    lines = [
        [one.score, f"{one.value:.6g}", f"{one.file}:{one.row}", *([one.id or ""] if named else []),
         *([text] if any(shown) else [])]
        for one, text in zip(content.extremes, shown, strict=True)
    ]  # fmt: skip
    yield Part("extremes", "Rows at the ends of scores", tables=[("Highest and lowest", [head, *lines])])


def amount(value: float) -> str:
    """A sum in readable form."""
    return f"{value:,.0f}" if value == round(value) else f"{value:,.2f}"


def kept_table(kept: Sequence[Kept]) -> Table:
    """Totals of each selection."""
    several = any(one.seed for one in kept)
    grouped = any(one.groups is not None for one in kept)
    head = ["selection", "budget", *(["seed"] if several else []), "rows", *(["groups"] if grouped else [])]
    head += ["comes to", "may come to", "left", "random comes to"]
    lines = []
    for one in kept:
        numbers = [f"{one.kept:,} of {one.of:,}", *([f"{one.groups or 0:,}"] if grouped else [])]
        sums = [f"{amount(one.total)} {one.unit}", amount(one.limit), amount(one.left)]
        beside = "" if one.random_total is None else amount(one.random_total)
        name = one.selection.rpartition("@")[0]
        lines.append([name, one.budget, *([str(one.seed)] if several else []), *numbers, *sums, beside])
    return [head, *lines]


def means_table(content: ChoiceContent) -> Table:
    """Mean of each score over kept rows, beside random ones."""
    if not content.scores:
        return [["selection"]]
    lines = []
    for one in content.kept:
        for name, mean in one.scores.items():
            random = f"{one.random_scores[name]:.4g}" if one.random_scores else ""
            whole = next(each.mean for each in content.scores if each.name == name)
            lines.append([one.selection, name, f"{mean:.4g}", random, f"{whole:.4g}"])
    return [["selection", "score", "mean of kept", "of random", "of all"], *lines]


def scores_table(scores: Sequence[ScoreFacts]) -> Table:
    """The user's scores."""
    lines = [
        [s.name, s.high_means, s.brought, f"{s.low:.4g}", f"{s.mean:.4g}", f"{s.high:.4g}", f"{s.distinct:,}"]
        for s in scores
    ]
    return [["score", "high means", "brought as", "lowest", "mean", "highest", "distinct values"], *lines]


def pictures_of(made: Made) -> Iterator[tuple[str, bytes]]:
    """A histogram of each selection's score, with its rows at its first budget."""
    drawn: set[str] = set()
    for trial in made.firsts:
        for name in made.study.selection_of(trial).scores_read(made.study.scores):
            key = f"{trial.name}_by_{name}"
            if key not in drawn:
                drawn.add(key)
                yield key, histogram(made, trial, name)


def histogram(made: Made, trial: Trial, name: str) -> bytes:
    """All rows and the kept ones by a score; a square-root scale of counts keeps small ones visible."""
    keep, high_means = made.masks[trial], made.study.scores[name].high_means
    values = np.asarray(made.brought.scores[name], np.float64)  # bins may be narrower than the spacing of float32
    edges = np.histogram_bin_edges(values, bins=min(60, max(10, int(np.sqrt(len(values))))))

    def draw(axes: Any) -> None:
        for part, label, colour in ((values, "all", RANDOM_COLOUR), (values[keep], trial.selection, COLOURS[0])):
            counts, _ = np.histogram(part, edges)
            axes.stairs(counts, edges, fill=True, label=label, color=colour, alpha=0.8)
        axes.set_yscale("function", functions=(np.sqrt, np.square))
        axes.set(xlabel=f"{name} (high: {high_means})", ylabel="rows")
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8)

    return picture(draw, height=2.4)
