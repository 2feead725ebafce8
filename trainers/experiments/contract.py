"""Pruning of other units than samples: weights, channels, deltas, heads, prompt tokens.

An experiment is one class: what all of its arms share is prepared once per seed, then each arm keeps units under a
budget and what is left is trained or evaluated. Random is always one of the arms. Assets, manifest, report and command
follow from the class, as they do for a scorer or a selector.
"""

import importlib
import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import ClassVar, NamedTuple

from pydantic import BaseModel

from secateur.scorers.contract import discover, settings_of
from secateur.trainers.contract import Progress
from secateur.trainers.judging.outcome import Outcome
from secateur.trainers.pruning.kept import Kept, Unit
from secateur.trainers.tasks.contract import Metric

ACCURACY = Metric("accuracy", percent=True)


class Result(NamedTuple):
    """What an arm came to, and which units it kept: None for a reference, which keeps all."""

    outcome: Outcome
    kept: Kept | None = None


class Experiment(ABC):
    """One paper's comparison. Keyword-only parameters of `__init__` are its settings, with types and defaults.

    `metrics` are all that outcomes hold; the first one decides and is in every outcome. `arms` keep units under the
    study's budgets, `references` (the dense twin, the whole prompt) go by none.
    """

    unit: ClassVar[Unit]
    paper: ClassVar[str]
    claim: ClassVar[str]
    """The qualitative claim that the experiment can show, in one sentence."""
    metrics: tuple[Metric, ...] = (ACCURACY,)
    arms: ClassVar[tuple[str, ...]]
    references: ClassVar[tuple[str, ...]] = ()
    baseline: ClassVar[str] = "random"
    settings: ClassVar[type[BaseModel]]
    version: ClassVar[str] = "1"
    """Changes whenever outcomes would: trials that were made before are then made again."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.settings = settings_of(cls.__init__, cls.__name__)

    @abstractmethod
    def prepare(self, seed: int, folder: Path, progress: Progress) -> None:
        """Fill an empty folder with what all arms of a seed share (a trained model, a task's examples)."""

    @abstractmethod
    def run(self, arm: str, keep: float, seed: int, prepared: Path, progress: Progress) -> Result:
        """One arm at one budget: a share of the units in (0, 1]; `keep` is 1.0 for a reference.

        The outcome has metrics, `samples_seen` (samples or tokens worked through) and facts; the caller adds how many
        units the mask keeps and the seconds.

        All randomness follows from `(arm, keep, seed)` without touching global generators; the test split is looked at
        once, at the end.
        """

    def pictures(self, outcomes: Mapping[tuple[str, float, int], Outcome]) -> dict[str, bytes]:
        """SVG pictures of its own by name, from the outcomes by (arm, keep, seed); none by default."""
        return {}


def experiment_named(name: str) -> type[Experiment] | None:
    """The experiment in the module of that name, None where there is none; no other module is imported.

    Raises ValueError for a module that cannot be imported.
    """
    path = f"secateur.trainers.experiments.{name}"
    if not name.isidentifier() or importlib.util.find_spec(path) is None:
        return None
    try:
        found = getattr(importlib.import_module(path), "".join(map(str.capitalize, name.split("_"))), None)
    except Exception as error:
        raise ValueError(f"the experiment {name!r} cannot be imported: {error}") from error
    return found if isinstance(found, type) and issubclass(found, Experiment) else None


@cache
def experiments() -> Mapping[str, type[Experiment]]:
    """Every experiment by name, which is that of its module: `random_pruning` holds class `RandomPruning`."""
    import secateur.trainers.experiments

    found = discover(secateur.trainers.experiments, Experiment)
    return {name: kind for name, kind in found.items() if kind is not Experiment}
