"""Pruning of other units than samples: weights, channels, deltas, heads, prompt tokens.

An experiment is one class. It says how its units are prepared, once per seed, and what an outcome is; an arm is a
scorer and a selector of that unit by name, or settings alone where the method is its training. Random is always one of
the arms. Assets, manifest, report and command follow from the class, as they do for a scorer or a selector.
"""

from __future__ import annotations

import importlib
import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, TypeAlias

from pydantic import BaseModel

from secateur.scorers.contract import Unit, discover, settings_of
from secateur.scorers.registry import scorers
from secateur.selectors.contract import MaskSelector, mask_selectors
from secateur.selectors.draws.keyed_permutation import derive_seed
from secateur.trainers.contract import Progress
from secateur.trainers.judging.outcome import Outcome
from secateur.trainers.loop.snapshots import Snapshots
from secateur.trainers.pruning.kept import Kept
from secateur.trainers.tasks.contract import Metric

ACCURACY = Metric("accuracy", percent=True)
MASKS, TIES = 1, 2
"""What the seeds of selectors are derived for: draws, and ties of those that draw nothing else."""


@dataclass(frozen=True)
class Arm:
    """A scorer and a selector by name, and settings: those of the two by their names, all others of the experiment.

    Where the selector reads no scores there is no scorer; where the method is its training there is neither.
    """

    scorer: str = ""
    selector: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)


Arms: TypeAlias = Mapping[str, Arm]


@dataclass(frozen=True)
class ArmTrial:
    """An arm or a reference at one budget, the share of units in (0, 1] that stays, and one seed."""

    name: str
    arm: Arm
    keep: float
    seed: int

    def setting(self, name: str, default: Any = None) -> Any:
        """A setting of the arm."""
        return self.arm.settings.get(name, default)


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
    arms: ClassVar[Arms]
    references: ClassVar[Arms] = {}
    baseline: ClassVar[str] = "random"
    settings: ClassVar[type[BaseModel]]
    version: ClassVar[str] = "1"
    """Changes whenever outcomes would: trials that were made before are then made again."""
    snapshots: Snapshots | None = None
    """Where a long training of `prepare` saves its state, so that the same call goes on with it after a kill."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.settings = settings_of(cls.__init__, cls.__name__)

    @abstractmethod
    def prepare(self, seed: int, folder: Path, progress: Progress) -> None:
        """Fill an empty folder with what all arms of a seed share (a trained model, a task's examples)."""

    @abstractmethod
    def units(self, trial: ArmTrial, prepared: Path) -> Any:
        """The units of a trial, read from what `prepare` wrote.

        Its attributes, best computed when they are asked for, are what scorers and selectors read: each by the name
        of their positional parameter.
        """

    @abstractmethod
    def outcome(self, trial: ArmTrial, units: Any, masks: Any, progress: Progress) -> Result:
        """What the trial comes to with the masks that the arm's selector chose, None where it names none.

        The outcome has metrics, `samples_seen` (samples or tokens worked through) and facts; the caller adds how many
        units the mask keeps and the seconds. The test split is looked at here alone, once, at the end.
        """

    def run(self, arm: str, keep: float, seed: int, prepared: Path, progress: Progress) -> Result:
        """One arm at one budget, a share of the units in (0, 1]; `keep` is 1.0 for a reference.

        All randomness follows from `(arm, keep, seed)` without touching global generators.
        """
        trial = self.trial(arm, keep, seed)
        units = self.units(trial, prepared)
        return self.outcome(trial, units, self.masks(trial, units) if trial.arm.selector else None, progress)

    def trial(self, name: str, keep: float, seed: int) -> ArmTrial:
        """An arm or a reference at a budget and a seed."""
        return ArmTrial(name, self.arm(name), keep, seed)

    def arm(self, name: str) -> Arm:
        """What an arm or a reference is under the experiment's settings."""
        return self.arms[name] if name in self.arms else self.references[name]

    def scorer_of(self, arm: Arm) -> Any:
        """The scorer that an arm names; raises ValueError where there is none of that name."""
        return declared(scorers(self.unit), arm.scorer, f"a scorer of {self.unit}s")

    def selector_of(self, arm: Arm) -> MaskSelector[..., Any]:
        """The selector that an arm names; raises ValueError where there is none of that name."""
        selector: MaskSelector[..., Any] = declared(
            mask_selectors(self.unit), arm.selector, f"a selector of {self.unit}s"
        )
        return selector

    def versions(self, name: str) -> dict[str, str]:
        """What the outcomes of an arm or a reference change with: versions of experiment, scorer and selector."""
        arm, versions = self.arm(name), {"experiment": self.version}
        versions |= {arm.scorer: self.scorer_of(arm).card.version} if arm.scorer else {}
        return versions | ({arm.selector: self.selector_of(arm).version} if arm.selector else {})

    def masks(self, trial: ArmTrial, units: Any) -> Any:
        """What the arm's selector keeps of the units, by what its scorer makes of them."""
        selector = self.selector_of(trial.arm)
        values = {name: trial.keep if name == "keep" else None for name in selector.reads}
        for name in values:
            if values[name] is None:
                values[name] = self.scores(trial, units) if name == "scores" else getattr(units, name)
        return selector(**values, **own(selector.settings, trial), seed=self.seed_of(selector, trial.seed))

    def scores(self, trial: ArmTrial, units: Any) -> Any:
        """What the arm's scorer makes of the units."""
        scorer = self.scorer_of(trial.arm)
        return scorer(**{name: getattr(units, name) for name in scorer.signals}, **own(scorer.settings, trial))

    def draws_units(self, trial: ArmTrial) -> bool:
        """Whether the arm's selector draws units, so that its masks suit other weights as well."""
        return self.selector_of(trial.arm).draws

    def seed_of(self, selector: MaskSelector[..., Any], seed: int) -> int:
        """The seed that a selector has in a trial of this seed."""
        return derive_seed(seed, MASKS if selector.draws else TIES)

    def pictures(self, outcomes: Mapping[tuple[str, float, int], Outcome]) -> dict[str, bytes]:
        """SVG pictures of its own by name, from the outcomes by (arm, keep, seed); none by default."""
        return {}


def declared(registry: Mapping[str, Any], name: str, kind: str) -> Any:
    """What the registry has under a name; raises ValueError that lists the names where it has nothing."""
    if name not in registry:
        raise ValueError(f"arms: {name!r} is not {kind}; there are {', '.join(sorted(registry)) or 'none'}")
    return registry[name]


def own(settings: type[BaseModel], trial: ArmTrial) -> dict[str, Any]:
    """Those of an arm's settings that a scorer or selector declares."""
    return {name: value for name, value in trial.arm.settings.items() if name in settings.model_fields}


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

    return discover(secateur.trainers.experiments, Experiment)
