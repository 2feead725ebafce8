"""Lengths at which a study compares its trainings: equal epochs, equal optimiser steps, or both.

For both, a study trains every selection twice at a budget: for the epochs of `training`, as a user will, and, as
the twin `<name>+steps`, for as many optimiser steps as the full training takes. The full training belongs to both
comparisons.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Literal

from secateur.pipelines.studies.grid import OWN, STEPS, Trial, selection_key
from secateur.trainers.contract import TrainingConfig

Length = Literal["epochs", "steps"]


def listed(content: Any) -> Any:
    """Lengths as a list; a study may write a single one without it."""
    return [content] if isinstance(content, str) else content


def refuse_lengths(lengths: Sequence[Length], config: TrainingConfig) -> None:
    """Raise ValueError for lengths that contradict the training config; no lengths means that of the config."""
    if len(set(lengths)) < len(lengths):
        raise ValueError("compare_at: each of epochs and steps can be listed once")
    if len(lengths) == 2 and config.length == "steps":
        raise ValueError(
            "compare_at: with both, training gives epochs, and the steps follow from them as those of a training on "
            f"everything; write `training: {{epochs: …}}`, got steps: {config.steps}"
        )
    if len(lengths) == 1 and lengths[0] != config.length:
        raise ValueError(
            f"compare_at: {lengths[0]} alone is what `training: {{{lengths[0]}: …}}` is for, and training gives "
            f"{config.length}; change training, leave compare_at out, or write compare_at: [epochs, steps]"
        )


def keys_at_steps(names: Iterable[str], own: Iterable[str], budgets: Iterable[int | float]) -> list[str]:
    """Keys of the twins at equal steps: of `names` at every budget, then of `own`, which follow their own settings.

    At a budget of 1.0 both lengths are equal and there is no twin.
    """
    pruned = [keep for keep in budgets if isinstance(keep, int) or keep < 1]
    at_budgets = [selection_key(f"{name}{STEPS}", keep) for keep in pruned for name in names]
    return at_budgets + [selection_key(f"{name}{STEPS}", OWN) for name in own]


def config_at(config: TrainingConfig, trial: Trial, samples: int) -> TrainingConfig:
    """The trial's config for `samples` training samples; a twin at equal steps takes the full training's steps."""
    if not trial.at_steps:
        return config
    return config.model_copy(update={"epochs": None, "steps": config.total_steps(samples)})
