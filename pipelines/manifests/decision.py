"""Explain in one sentence why a selection kept or dropped a sample."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from secateur.pipelines.manifests.explanation import Compared, ScoreFacts, Stratum
from secateur.pipelines.manifests.manifest import Manifest
from secateur.pipelines.manifests.rows import ClassCount
from secateur.selectors.contract import selectors


@dataclass(frozen=True)
class Decision:
    """The known facts of one decision; `sentence` explains it."""

    manifest: Manifest
    kept: bool
    counted: ClassCount | None
    """The sample's class, if known."""
    scores: tuple[ScoreFacts, ...]
    stratum: Stratum | str | None
    compared: Compared | None = None
    """The compared values of a selection of groups, by quotas or of an amount, if known."""
    turn: int | None = None
    """The sample's place, from 0, in the target's order, for selections that follow that order."""

    @property
    def drawn(self) -> str:
        """Whether the draw took the sample."""
        return "it was drawn" if self.kept else "it was not drawn"

    def sentence(self) -> str:
        """Kept or dropped, and the known reason."""
        source = self.manifest.provenance
        tellers: dict[str, Callable[[], str]] = {
            "full": lambda: "every sample is kept",
            "top": self.of_top,
            "band": self.of_band,
            "coverage_centric": self.of_strata,
            "uniform_random": self.of_chance,
            "stratified_random": self.of_class_chance,
            "nearest_to_target": self.of_turns,
            "gradient_match": self.of_turns,
        }
        reason = tellers.get(source.selector, self.of_any)()
        if source.spent and source.spent.group:
            reason = f"{self.of_group(source.spent.group)}; {reason}"
        return f"{'Kept' if self.kept else 'Dropped'}: {reason}."

    def of_top(self) -> str:
        """Compare the score with the kept end of the range."""
        if not self.scores:
            return self.of_any()
        source, score = self.manifest.provenance, self.scores[0]
        value, lowest, highest = score.value, score.kept_lowest, score.kept_highest
        if (source.spent and source.spent.group) or "by" in source.settings:
            if self.compared is None or self.compared.lowest is None or self.compared.highest is None:
                return self.of_any()
            value, lowest, highest = self.compared.value, self.compared.lowest, self.compared.highest
        high = source.settings.get("end", "high") == "high"
        edge, ending = (lowest, "lowest") if high else (highest, "highest")
        beyond = value > edge if high else value < edge
        own, quota = self.own_value(score), self.compared.quota if self.compared else None
        among = f" of {quota}" if quota else ""
        if value == edge:
            return f"{own} is where the budget{among} ends; among equals a hash of seed and row decides"
        side = "above" if beyond == high else "below"
        standing = f"{own} is {side} {edge:.4g}, the {ending}{among} that this selection keeps"
        if beyond == self.kept:
            return f"{standing} (high means {score.high_means})"
        if beyond and source.spent:
            return f"{standing}, but it takes more than was left of the budget{among} when its turn came"
        return self.of_any()  # a class policy: the end of the range is each class's own

    def own_value(self, score: ScoreFacts) -> str:
        """The compared number: the sample's score, or the mean of its group with the sample's score beside it."""
        own = f"its {score.name} of {score.value:.4g}"
        if self.compared is None or self.compared.group is None:
            return own
        of = f"{self.compared.samples:,} sample{'s' * (self.compared.samples > 1)}"
        return f"the mean {score.name} of its group's {of}, {self.compared.value:.4g} ({own}),"

    def of_group(self, column: str) -> str:
        """The sample's group, whose samples stay or go together."""
        own = f" {self.compared.group!r}" if self.compared and self.compared.group is not None else ""
        return f"samples of equal {column} stay or go together, and its group{own} {'stays' if self.kept else 'goes'}"

    def of_band(self) -> str:
        """Compare the score with the ends of the band."""
        settings = self.manifest.provenance.settings
        spent, low, high = self.manifest.provenance.spent, settings.get("low"), settings.get("high")
        if not isinstance(low, int | float) or not isinstance(high, int | float):  # a hostile manifest
            return self.of_any()
        if not self.scores or (spent and spent.group and self.compared is None):
            return self.of_any()
        score = self.scores[0]
        inside = low <= (self.compared.value if self.compared else score.value) <= high
        side = "within" if inside else "outside"
        own = f"{self.own_value(score)} is {side} the band from {low} to {high}"
        return f"{own}; {self.drawn} (seed {self.manifest.provenance.seed})" if inside else own

    def of_strata(self) -> str:
        """Name the cut-off, or the stratum and its quota."""
        cutoff = self.manifest.provenance.settings.get("cutoff")
        if self.stratum == "cut":
            names = [score.name for score in self.scores]
            hardest = "lowest aum" if "aum" in names else f"highest {names[0]}"
            return f"it is among the {cutoff} of all samples with the {hardest}, which the cut-off removes as too hard"
        if not isinstance(self.stratum, Stratum):
            return self.of_any()
        there = self.stratum
        place = f"stratum {there.number} of {there.of} of {there.score} has {there.samples} samples"
        if there.quota == there.samples:
            return f"{place}, no more than its part of the budget, and is taken whole"
        return f"{place} and gives {there.quota} of them; {self.drawn} (seed {self.manifest.provenance.seed})"

    def of_chance(self) -> str:
        """Numbers of drawn samples and of all samples."""
        declared, seed = self.manifest.declaration, self.manifest.provenance.seed
        return f"{declared.count} of {declared.of} samples were drawn at random (seed {seed}); {self.drawn}"

    def of_class_chance(self) -> str:
        """The class's part of the draw."""
        if self.counted is None:
            return f"samples were drawn at random within each stratum; {self.drawn}"
        name, seed = self.counted.name or self.counted.label, self.manifest.provenance.seed
        quota = f"{self.counted.after} of its {self.counted.before} samples"
        return f"stratum {name} gave {quota} at random (seed {seed}); {self.drawn}"

    def of_turns(self) -> str:
        """The sample's turn in the target's order."""
        target, declared = self.manifest.provenance.target, self.manifest.declaration
        if target is None or self.turn is None:
            return self.of_any()
        by = "the gradients of the last layer" if self.manifest.provenance.selector == "gradient_match" else "likeness"
        kept = f"the first {declared.count:,} of {declared.of:,} stay"
        rows = f"the {target.rows:,} rows of the target ({target.origin})"
        turns = f"{rows} take" if target.task is None else f"the values of {target.task!r} in {rows} take"
        order = f"in turn {turns} samples by {by}, and {kept}"
        # Behind the largest budget the order is arbitrary.
        return f"{order}; it is number {self.turn + 1:,}" if self.kept else f"{order}; it is not among these"

    def of_any(self) -> str:
        """The selector's own summary, and the sample's scores beside those of kept samples."""
        source = self.manifest.provenance
        known = selectors().get(source.selector)
        summary = f" ({known.summary.rstrip('.')})" if known and known.summary else ""
        declared = self.manifest.declaration
        did = "chose it" if self.kept else "did not choose it"
        reason = f"{source.selector}{summary} {did} among the {declared.count} of {declared.of} that stay"
        for score in self.scores[:1]:
            if self.compared and self.compared.group is not None:
                reason += f"; {self.own_value(score)} is its own in the group"
            reason += (
                f"; its {score.name} of {score.value:.4g} is number {score.overall.rank} of {score.overall.count} from "
                f"the top, kept ones run from {score.kept_lowest:.4g} to {score.kept_highest:.4g}"
            )
        return reason
