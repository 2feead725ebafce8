"""How long the trainings of a first study are, and whether it compares them at both lengths, by what that takes."""

from collections.abc import Sequence
from dataclasses import dataclass

from secateur.selectors.contract import resolve_keep

LEAST_STEPS, MOST_STEPS = 100, 1000
"""Of a training of middle length: half of the proxy's steps, within these."""
MORE = 1.5
"""How many times the room of a study at one length both lengths may take."""
LEAST_EPOCHS = 3
"""With fewer, small subsets learn next to nothing at equal epochs: better longer trainings than both comparisons."""


@dataclass(frozen=True)
class FirstLength:
    """Epochs of the trainings of a first study, and whether subsets are trained as long as everything, too."""

    epochs: int
    both: bool
    ratio: float
    """Steps of all trainings at both lengths over those at equal epochs alone."""

    def lines(self) -> list[str]:
        """The study's key `compare_at`, or as a comment where it would take too long."""
        times = f"{self.ratio:.1f}"
        if self.both:
            return [
                "# Equal epochs show the saving, equal steps the worth of the samples: for these, each subset is",
                f"# trained once more, as long as everything. Both take {times} times as long as epochs alone.",
                "compare_at: [epochs, steps]",
            ]
        return [
            "# Equal steps show the worth of the samples: for these, each subset is trained once more, as long as",
            f"# everything. Both take {times} times as long as epochs alone:",
            "# compare_at: [epochs, steps]",
        ]


def first_length(rows: int, batch: int, proxy_epochs: int, arms: int, budgets: Sequence[int | float]) -> FirstLength:
    """The most epochs at which both comparisons, or else the one at equal epochs, fit into the room of a first study.

    The room is that of trainings of middle length: one on everything, and one of each arm at each budget. Steps of a
    training count, for what a step takes does not depend on the budget.
    """
    middle = max(LEAST_STEPS, min(MOST_STEPS, proxy_epochs * rows // batch // 2))
    room = middle * (1 + arms * len(budgets))
    kept = [resolve_keep(keep, rows) for keep in budgets]
    whole = -(-rows // batch)
    alone = whole + arms * sum(-(-count // batch) for count in kept)
    both = alone + arms * whole * sum(count < rows for count in kept)
    epochs = int(MORE * room / both)
    if epochs >= LEAST_EPOCHS:
        return FirstLength(epochs, True, both / alone)
    return FirstLength(max(1, int(room / alone)), False, both / alone)
