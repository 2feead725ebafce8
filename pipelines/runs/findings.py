"""Findings that a reader needs before the numbers of a study: about data, scores and models, the gravest first."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from secateur.pipelines.data.check import view_of
from secateur.pipelines.files.shown_text import in_markdown
from secateur.pipelines.runs.audit_told import audit_findings, audit_told
from secateur.pipelines.runs.by_class import ByClass, lost_findings
from secateur.pipelines.runs.deciding import deciding_in
from secateur.pipelines.runs.test_size import few_test_samples
from secateur.pipelines.runs.yardstick import Beside, beside_findings, shown
from secateur.pipelines.storage.store import Store
from secateur.pipelines.studies.choice import Choice
from secateur.pipelines.studies.grid import Trial
from secateur.pipelines.studies.own_scores import OwnScore
from secateur.pipelines.studies.samples import Study
from secateur.pipelines.studies.study import AnyStudy

AHEAD = ("leaked", "near leaked", "near leaked by embeddings", "label leak")
"""Kinds of findings that weigh more than a constant score."""

LEAST = 3
"""Least number of selections at a budget, with the full set, whose equal values are no chance."""


def findings_of(
    store: Store,
    study: AnyStudy,
    lost: ByClass | None = None,
    known: Beside | None = None,
    values: Sequence[float] = (),
) -> list[dict[str, Any]]:
    """Findings about the results of a study, as JSON: `kind`, `split`, `importance` from 0, `count`, `text`, `rows`,
    and `view` for a page.

    The kinds of `AHEAD`, such as leaked test rows, come first. Then come classes that selections lose in the trials at
    hand, models that a simple one beats or that know labels by heart, constant scores, and a test split too small for
    its metric. The other findings of the data check follow, then the audit's. `values` of the deciding metric, one for
    each selection at a budget, are a finding where they are all equal.
    """
    key = (study.name, "data_report")
    checked: list[dict[str, Any]] = store.load(key)["findings"] if store.find(key) else []
    found = [
        *lost_findings(study, lost),
        *beside_findings(known),
        *undecided(store, study, values),
        *constant_scores(store, study),
        *unscored(store, study),
        *few_test_samples(store, study),
    ]
    for name in ("target_report", "sources_report") if getattr(study, "target", None) else ():
        if store.find(of_target := (study.name, name)):
            found += store.load(of_target)["findings"]
    checked = [*checked, *audit_findings(audit_told(store, study), [*checked, *found])]
    grave = [finding for finding in checked if finding["kind"] in AHEAD]
    others = [finding for finding in checked if finding["kind"] not in AHEAD]
    ordered = [*grave, *found, *others]
    return [finding | {"importance": place, "view": view_of(finding)} for place, finding in enumerate(ordered)]


def values_by_selection(values: Mapping[Trial, float | None]) -> list[float]:
    """One value for each selection at a budget; empty where the seeds of one differ, or one has no value."""
    found: dict[str, set[float | None]] = {}
    for trial, value in values.items():
        found.setdefault(trial.selection, set()).add(value)
    single = [value for several in found.values() if len(several) == 1 for value in several if value is not None]
    return single if len(single) == len(found) else []


def undecided(store: Store, study: AnyStudy, values: Sequence[float]) -> list[dict[str, Any]]:
    """A finding where the deciding metric has the same value for every selection."""
    if not isinstance(study, Study) or len(values) < LEAST or min(values) != max(values):
        return []
    metric = deciding_in(store, study)
    name = metric.name.replace("_", " ")
    text = (
        f"{name} is {shown(values[0], metric)} for all {len(values):,} selections at their budgets, so it does not "
        "tell them apart and decides nothing: name another one as metric, or train longer or on more"
    )
    return [{"kind": "same for all", "split": "test", "count": len(values), "text": text, "rows": []}]


def constant_scores(store: Store, study: AnyStudy) -> list[dict[str, Any]]:
    """One finding for each stored score that is the same number for all samples."""
    listed = []
    for name, score in study.scores.items() if isinstance(study, Study | Choice) else ():
        key = (study.name, "scores", name)
        if not store.holds(key):
            continue
        values = np.asarray(store.load(key))
        if len(values) > 1 and values.min() == values.max():
            look = "its inputs"
            if not isinstance(score, OwnScore):
                look = f"the settings of {score.scorer} and at proxy"
            text = (
                f"score {name} is {values[0]:.4g} for all {len(values):,} samples, so a selection by it is "
                f"chance: look at {look}"
            )
            listed.append({"kind": "constant score", "split": "train", "count": len(values), "text": text, "rows": []})
    return listed


def unscored(store: Store, study: AnyStudy) -> list[dict[str, Any]]:
    """One finding for each score that leaves samples unscored, with their number."""
    listed = []
    for name, score in study.computed.items() if isinstance(study, Study) else ():
        key, mark = (study.name, "scores", name), getattr(score.declared, "unscored", None)
        if mark is None or not store.holds(key):
            continue
        values = np.asarray(store.load(key))
        if count := int((values == mark).sum()):
            text = (
                f"score {name} says nothing of {count:,} of {len(values):,} training samples, which are kept last: "
                f"{score.scorer} leaves out short completions, and the rows that its paper leaves out"
            )
            listed.append({"kind": "unscored samples", "split": "train", "count": count, "text": text, "rows": []})
    return listed


def listed_in_markdown(findings: list[dict[str, Any]]) -> str:
    """The sentences as a Markdown list, in their order."""
    return "\n".join(f"{place}. {in_markdown(finding['text'])}" for place, finding in enumerate(findings, start=1))
