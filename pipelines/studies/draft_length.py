"""Training length of a first study, and whether it compares at equal epochs and equal steps, by their costs."""

from collections.abc import Sequence
from dataclasses import dataclass

from secateur.selectors.contract import resolve_keep

LEAST_STEPS, MOST_STEPS = 100, 1000
"""Bounds on the steps of a medium training, which takes half of the proxy's steps."""
MORE = 1.5
"""Limit on the steps of both comparisons, as a multiple of the steps of a study at equal epochs alone."""
LEAST_EPOCHS = 3
"""With fewer, small subsets learn next to nothing at equal epochs: longer trainings serve better than both lengths."""


@dataclass(frozen=True)
class FirstLength:
    """Epochs of a first study's trainings, and whether its subsets also train for as many steps as the full data."""

    epochs: int
    both: bool
    ratio: float
    """Steps of all trainings for both comparisons, divided by the steps at equal epochs alone."""

    def lines(self) -> list[str]:
        """Lines of the study's key `compare_at`; commented out if it would take too long."""
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
    """The most epochs at which both comparisons, or else the one at equal epochs, stay within the step limit.

    The limit equals one medium training on all samples plus one for each arm at each budget. The unit is training
    steps, because the cost of a step does not depend on the budget.
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
