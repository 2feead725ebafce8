"""The recommended budget: the smallest subset that is not worse than the full data by more than the margin."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from secateur.pipelines.pages.names import budget_of, other_of, title_of
from secateur.pipelines.pages.words import Table, number, scale_of, signed
from secateur.pipelines.studies.grid import KD, selection_key
from secateur.pipelines.studies.study import AnyStudy
from secateur.trainers.judging import margin as margins
from secateur.trainers.judging.comparison import NOISE
from secateur.trainers.judging.margin import LEVEL, POWER, Check, Claim, claims
from secateur.trainers.judging.outcome import Outcome
from secateur.trainers.judging.sequential import State
from secateur.trainers.tasks.contract import Metric

Runs = Mapping[str, Mapping[int, Outcome]]
"""Outcomes by arm and budget (`selection_key`) or reference, then by seed."""


def learned(metrics: Sequence[Metric], outcomes: Sequence[Outcome]) -> bool:
    """Whether models beat the floor of the first metric that has one, in the mean over seeds.

    The deciding metric comes first; if it has no floor, that of another counts, such as R² after RMSE.
    """
    metric = next((metric for metric in metrics if metric.floor is not None), None)
    values = [outcome.metrics[metric.name] for outcome in outcomes if metric and metric.name in outcome.metrics]
    if metric is None or metric.floor is None or not values:
        return True
    gain = float(np.mean(values)) - metric.floor
    return (gain if metric.higher_is_better else -gain) > NOISE


def useless_in(metrics: Sequence[Metric], runs: Runs) -> frozenset[str]:
    """Selections whose models learned nothing, in the mean over seeds."""
    return frozenset(name for name, trials in runs.items() if not learned(metrics, list(trials.values())))


@dataclass(frozen=True)
class Recommendation:
    """The recommendation among selections, random and the full data, with its evidence."""

    selection: str
    """A trial's `selection`, which has a manifest: an arm at a budget, or the reference."""
    sentence: str
    margin: float
    """In the unit of the metric; a share for shares."""
    level: float
    """Family-wise error rate over all arms and budgets."""
    power: float
    """Power of one comparison for a budget without loss; NaN for one seed."""
    claims: Mapping[str, Claim]
    """Claims by arm."""

    def content(self) -> dict[str, Any]:
        """JSON-able content; undefined bounds and powers, as for one seed, are None."""
        told = {key: value for key, value in vars(self).items() if key != "claims"}
        tested = [
            {"arm": arm, "keep": keep, "level": claim.level} | vars(check)
            for arm, claim in self.claims.items()
            for keep, check in claim.checks.items()
        ]
        return finite(told) | {"claims": [finite(each) for each in tested]}


def finite(content: Mapping[str, Any]) -> dict[str, Any]:
    """Replace infinity and NaN, which JSON lacks, by None."""
    return {key: None if isinstance(x, float) and not math.isfinite(x) else x for key, x in content.items()}


def margin_of(study: AnyStudy, metric: Metric) -> float | None:
    """The study's margin in the unit of the metric, by default one point; None for a metric without points."""
    if study.margin is not None:
        return study.margin / scale_of(metric)
    return 0.01 if metric.percent else None


def recommendation_of(study: AnyStudy, metric: Metric, runs: Runs, useless: frozenset[str]) -> Recommendation | None:
    """The recommendation; None if the study has no full data, or did not run them, or has no margin.

    It excludes arms that select anew in every epoch, which have no manifest, and arms with a teacher, whose training
    differs from the full one. An arm ends at the first budget whose models learned nothing (`useless`).
    """
    whole = whole_of(study, runs)
    margin = margin_of(study, metric)
    if study.unit == "evaluation" or whole is None or margin is None:
        return None
    if whole in useless:
        said = f"Keep everything: models of {other_of(study, whole)} learned nothing, so no loss can be measured."
        return Recommendation(whole, said, margin, LEVEL, math.nan, {})
    budgets = differences_of(study, metric, runs, whole, useless)
    if not budgets:
        return None
    found = claims(budgets, margin, looks=planned_looks(study), between=study.between)
    return Answer(study, metric, whole, margin, found, runs).recommendation()


def whole_of(study: AnyStudy, runs: Runs) -> str | None:
    """The first reference with outcomes."""
    return next((name for name in study.references if runs.get(name)), None)


def planned_looks(study: AnyStudy) -> tuple[int, ...]:
    """Numbers of seeds at which a budget is tested; empty for a single test with the available seeds."""
    return study.looks or ((study.seeds,) if study.between else ())


def differences_of(
    study: AnyStudy, metric: Metric, runs: Runs, whole: str, useless: frozenset[str]
) -> dict[str, dict[int | float, np.ndarray]]:
    """Differences from the full data by seed, for each arm and budget, the largest first; higher is better.

    With planned looks, they are of the seeds 0, 1, 2, … up to the first missing one.
    """
    sign, planned = 1 if metric.higher_is_better else -1, bool(planned_looks(study))
    budgets: dict[str, dict[int | float, np.ndarray]] = {}
    for arm in study.arms:
        for keep in sorted(study.budgets, key=lambda keep: share_of(keep, runs, arm), reverse=True):
            trials = runs.get(key := selection_key(arm, keep), {})
            common = sorted(trials.keys() & runs[whole].keys())
            if planned:
                common = [seed for place, seed in enumerate(common) if seed == place]
            pruned = any(outcome.kept != outcome.of and not outcome.in_training for outcome in trials.values())
            if arm.endswith(KD) or not common or not pruned:
                continue
            if key in useless:
                break
            values, others = ([one[seed].metrics[metric.name] for seed in common] for one in (trials, runs[whole]))
            budgets.setdefault(arm, {})[keep] = sign * (np.array(values, np.float64) - np.array(others, np.float64))
    return budgets


def share_of(keep: int | float, runs: Runs, arm: str) -> float:
    """The share that a budget keeps, for shares and counts."""
    outcomes = runs.get(selection_key(arm, keep), {}).values()
    everything = next((one.of for trials in runs.values() for one in trials.values() if one.of), 1)
    asked = keep / everything if isinstance(keep, int) else keep
    return next((one.kept / one.of for one in outcomes if one.kept is not None and one.of), asked)


def could_do_better(study: AnyStudy, runs: Runs, arm: str, found: Mapping[str, Claim]) -> bool:
    """Whether an open budget of an arm could become smaller than every budget shown so far."""
    shown = [share_of(claim.smallest, runs, name) for name, claim in found.items() if claim.smallest is not None]
    claim = found[arm]
    waits = claim.open
    if waits is None:
        return False
    # A midpoint budget ends its sequence; in the sequence itself, all later budgets may still pass.
    reachable = [waits] if waits in study.between.values() else [waits, *study.keep]
    return min(share_of(keep, runs, arm) for keep in reachable) < min(shown, default=math.inf)


@dataclass(frozen=True)
class Answer:
    """Turns the claims of a study into a recommendation in words."""

    study: AnyStudy
    metric: Metric
    whole: str
    margin: float
    claims: Mapping[str, Claim]
    runs: Runs

    def recommendation(self) -> Recommendation:
        """The smallest budget of all arms; among equal ones random's, which costs nothing, then the best."""
        passed = [(arm, claim.smallest, claim) for arm, claim in self.claims.items() if claim.smallest is not None]
        baselines = [self.study.baseline, self.study.second_baseline]
        best = min(
            passed,
            key=lambda one: (
                share_of(one[1], self.runs, one[0]),
                baselines.index(one[0]) if one[0] in baselines else len(baselines),
                -one[2].checks[one[1]].difference,
            ),
            default=None,
        )
        selection = selection_key(best[0], best[1]) if best else self.whole
        said = self.keep_some(best[0], best[1], best[2]) if best else f"Keep everything: {self.why_all()}"
        return Recommendation(
            selection,
            " ".join(filter(None, (said, self.unsettled(), self.resolution(shown=best is not None)))),
            self.margin,
            LEVEL,
            self.power,
            {arm: self.settled(arm, claim) for arm, claim in self.claims.items()},
        )

    def settled(self, arm: str, claim: Claim) -> Claim:
        """A claim for the report; an open one whose outcome could change nothing becomes idle."""
        if claim.open is None or could_do_better(self.study, self.runs, arm, self.claims):
            return claim
        idle = replace(claim.checks[claim.open], state=State.IDLE)
        return replace(claim, checks={**claim.checks, claim.open: idle})

    @property
    def power(self) -> float:
        """Power of one comparison for a budget without loss; NaN for one seed."""
        if self.seeds < 2:
            return math.nan
        return margins.power(self.seeds, self.spread, self.margin, self.level, self.looks)

    @property
    def level(self) -> float:
        """Level of an arm's first budget."""
        return next(iter(next(iter(self.claims.values())).checks.values())).level

    @property
    def checks(self) -> list[Check]:
        """All comparisons with the full data."""
        return [check for claim in self.claims.values() for check in claim.checks.values()]

    @property
    def seeds(self) -> int:
        """The fewest seeds of any comparison; with looks, the seeds of the last one."""
        return self.looks[-1] if self.looks else min(check.seeds for check in self.checks)

    @property
    def looks(self) -> tuple[int, ...]:
        """Looks of a study whose seeds come in stages."""
        return self.study.looks

    @property
    def spread(self) -> float:
        """Standard deviation of the differences by seed, over all comparisons."""
        return margins.pooled([check.spread for check in self.checks if math.isfinite(check.spread)])

    @property
    def measure(self) -> str:
        """The metric's name in words."""
        return self.metric.name.replace("_", " ")

    def points(self, value: float) -> str:
        """A margin with its unit."""
        unit = "points" if self.metric.percent else self.metric.unit
        shown = scale_of(self.metric) * value
        text = f"{shown:,.0f}" if shown >= 10 else f"{shown:.2g}"
        return f"{text} {'point' if (unit, text) == ('points', '1') else unit}".rstrip()

    def keep_some(self, arm: str, keep: int | float, claim: Claim) -> str:
        """The recommendation of a budget."""
        check = claim.checks[keep]
        outcome = next(iter(self.runs[selection_key(arm, keep)].values()))
        counted = f" ({outcome.kept:,} of {outcome.of:,} {self.study.unit}s)" if outcome.kept else ""
        terms = f" at {outcome.compare_at}" if outcome.compare_at else ""
        sign = 1 if self.metric.higher_is_better else -1
        bound = "least" if self.metric.higher_is_better else "most"
        return (
            f"Keep {budget_of(self.study, keep)} by {title_of(self.study, arm)}{counted}: at {1 - LEVEL:.0%} its "
            f"{self.measure} is not worse than that of {other_of(self.study, self.whole)} by more than "
            f"{self.points(self.margin)}, over {check.seeds} seeds{terms} (difference "
            f"{signed(sign * check.difference, self.metric)}, at {bound} {signed(sign * check.lower, self.metric)})."
        )

    def why_all(self) -> str:
        """The reason why everything should be kept."""
        if self.seeds < 2:
            return "one seed cannot show how much can go; ask for more seeds."
        return (
            f"for no budget was it shown at {1 - LEVEL:.0%} that its {self.measure} is not worse than that of "
            f"{other_of(self.study, self.whole)} by more than {self.points(self.margin)}, {self.seeds_looked_at()}."
        )

    def seeds_looked_at(self) -> str:
        """Number of seeds behind the verdict, in words."""
        if not self.looks:
            return f"over {self.seeds} seeds"
        most = max(check.seeds for check in self.checks)
        return f"after {most} seeds at most, of looks at {', '.join(map(str, self.looks))}"

    def unsettled(self) -> str:
        """A sentence on budgets that await seeds and could change the recommendation; empty if there are none."""
        waiting = [
            f"{title_of(self.study, arm)} at {budget_of(self.study, claim.open)}"
            for arm, claim in self.claims.items()
            if claim.open is not None and could_do_better(self.study, self.runs, arm, self.claims)
        ]
        if not waiting:
            return ""
        return f"Not settled: more seeds could show {', '.join(waiting)}; `secateur run {self.study.name}` trains them."

    def resolution(self, *, shown: bool) -> str:
        """The margin that these seeds can show, and the number of seeds for the study's; `shown`: a budget passed."""
        if self.seeds < 2 or not math.isfinite(self.spread):
            return ""
        least = margins.shown_margin(self.seeds, self.spread, self.level, self.looks)
        if any(check.spread == 0 and not check.not_worse and check.difference > -self.margin for check in self.checks):
            needed = math.ceil(-math.log2(self.level))
            return f"Where every seed gives the same difference, it takes {needed} seeds to show anything."
        if math.isinf(least):
            return ""
        seeds, surely = f"{'up to ' if self.looks else ''}{self.seeds} seeds", f"with a chance of {POWER:.0%}"
        if self.metric.percent and least >= 1:  # of a share, a margin of 100 points or more is none
            can = f"{seeds[0].upper()}{seeds[1:]} can show no margin here"
        elif least <= self.margin or not shown:
            can = (
                f"{seeds[0].upper()}{seeds[1:]} show a margin of {self.points(least)} here {surely}, if nothing is lost"
            )
        else:  # the margin was shown although so few seeds made that unlikely
            can = (
                f"Had nothing been lost, {seeds} would have shown a margin of {self.points(least)} here {surely}, and "
            )
            can += f"{self.points(self.margin)} with one of {self.power:.0%}"
        if least <= self.margin:
            return f"{can}."
        need = margins.seeds_for(self.margin, self.spread, self.level, self.looks)
        more = f"{need} seeds would show" if need else f"more than {margins.MOST_SEEDS:,} seeds would be needed for"
        return f"{can}; {more} {self.points(self.margin)}{f' {surely}' if shown else ''}."


def margin_table(recommendation: Recommendation, study: AnyStudy, metric: Metric) -> Table:
    """Every tested budget, in the order of the tests, with the bound on its loss."""
    whole = other_of(study, study.references[0])
    sign = 1 if metric.higher_is_better else -1
    unit = metric.title.removeprefix(metric.name.replace("_", " "))
    bound = f"at {'least' if sign > 0 else 'most'}{unit}"
    verdict = f"within {number(recommendation.margin, metric)}"
    lines = [[study.arm, "kept", "seeds", f"against {whole}{unit}", bound, verdict]]
    for arm, claim in recommendation.claims.items():
        for keep, check in claim.checks.items():
            known = math.isfinite(check.lower)
            lines.append(
                [
                    title_of(study, arm),
                    budget_of(study, keep),
                    str(check.seeds),
                    signed(sign * check.difference, metric) if check.seeds else "unknown",
                    signed(sign * check.lower, metric) if known else "unknown",
                    "shown" if check.not_worse else f"not shown: {check.state}",
                ]
            )
    return lines
