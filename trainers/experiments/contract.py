"""Pruning of other units than samples: weights, channels, deltas, heads, prompt tokens.

An experiment is one class. It prepares its units once per seed and computes the outcome of each trial. An arm names a
scorer and a selector of that unit, or has settings alone if the method is its training. Random is always one of the
arms. Assets, manifest, report and command follow from the class, as they do for a scorer or a selector.
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
"""Streams of the selectors' seeds: draws, and the ties of selectors that draw nothing else."""


@dataclass(frozen=True)
class Arm:
    """A scorer and a selector by name, and settings: of the two where the names match, else of the experiment.

    The scorer is empty if the selector reads no scores; both are empty if the method is its training.
    """

    scorer: str = ""
    selector: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)


Arms: TypeAlias = Mapping[str, Arm]


@dataclass(frozen=True)
class ArmTrial:
    """An arm or a reference at one seed and one budget, `keep`: the share of units kept, in (0, 1]."""

    name: str
    arm: Arm
    keep: float
    seed: int

    def setting(self, name: str, default: Any = None) -> Any:
        """A setting of the arm."""
        return self.arm.settings.get(name, default)


class Result(NamedTuple):
    """The outcome of an arm and the units it kept: None for a reference, which keeps all."""

    outcome: Outcome
    kept: Kept | None = None


class Experiment(ABC):
    """One paper's comparison. Keyword-only parameters of `__init__` are its settings, with types and defaults.

    `metrics` are the metrics of outcomes; the first one decides, and every outcome has it. `arms` keep units under the
    study's budgets; `references` (the dense twin, the whole prompt) have no budget.
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
    """Changes whenever outcomes would: trials of an earlier version then run again."""
    snapshots: Snapshots | None = None
    """Where a long training of `prepare` saves its state, so that the same call resumes it after a kill."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.settings = settings_of(cls.__init__, cls.__name__)

    @abstractmethod
    def prepare(self, seed: int, folder: Path, progress: Progress) -> None:
        """Fill an empty folder with the files that all arms of a seed share (a trained model, a task's examples)."""

    @abstractmethod
    def units(self, trial: ArmTrial, prepared: Path) -> Any:
        """The units of a trial, read from the files of `prepare`.

        Scorers and selectors read its attributes, each by the name of a positional parameter; compute them lazily.
        """

    @abstractmethod
    def outcome(self, trial: ArmTrial, units: Any, masks: Any, progress: Progress) -> Result:
        """The outcome of the trial with the masks of the arm's selector, None for an arm without one.

        The outcome has metrics, `samples_seen` (samples or tokens processed) and facts; the caller adds the number of
        kept units and the seconds. Only this method reads the test split, once, at the end.
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
        """The arm or reference of that name under the experiment's settings."""
        return self.arms[name] if name in self.arms else self.references[name]

    def scorer_of(self, arm: Arm) -> Any:
        """The scorer that an arm names; raises ValueError for an unknown name."""
        return declared(scorers(self.unit), arm.scorer, f"a scorer of {self.unit}s")

    def selector_of(self, arm: Arm) -> MaskSelector[..., Any]:
        """The selector that an arm names; raises ValueError for an unknown name."""
        selector: MaskSelector[..., Any] = declared(
            mask_selectors(self.unit), arm.selector, f"a selector of {self.unit}s"
        )
        return selector

    def versions(self, name: str) -> dict[str, str]:
        """Versions of the experiment, scorer and selector that make the outcomes of an arm or a reference."""
        arm, versions = self.arm(name), {"experiment": self.version}
        versions |= {arm.scorer: self.scorer_of(arm).card.version} if arm.scorer else {}
        return versions | ({arm.selector: self.selector_of(arm).version} if arm.selector else {})

    def masks(self, trial: ArmTrial, units: Any) -> Any:
        """The masks that the arm's selector chooses, by its scorer's scores if it reads them."""
        selector = self.selector_of(trial.arm)
        values = {name: trial.keep if name == "keep" else None for name in selector.reads}
        for name in values:
            if values[name] is None:
                values[name] = self.scores(trial, units) if name == "scores" else getattr(units, name)
        return selector(**values, **own(selector.settings, trial), seed=self.seed_of(selector, trial.seed))

    def scores(self, trial: ArmTrial, units: Any) -> Any:
        """The scores of the units by the arm's scorer."""
        scorer = self.scorer_of(trial.arm)
        return scorer(**{name: getattr(units, name) for name in scorer.signals}, **own(scorer.settings, trial))

    def draws_units(self, trial: ArmTrial) -> bool:
        """Whether the arm's selector draws units, so that its masks suit other weights as well."""
        return self.selector_of(trial.arm).draws

    def seed_of(self, selector: MaskSelector[..., Any], seed: int) -> int:
        """The seed that a selector has in a trial of this seed."""
        return derive_seed(seed, MASKS if selector.draws else TIES)

    def pictures(self, outcomes: Mapping[tuple[str, float, int], Outcome]) -> dict[str, bytes]:
        """The experiment's SVG pictures by name, from the outcomes by (arm, keep, seed); none by default."""
        return {}


def declared(registry: Mapping[str, Any], name: str, kind: str) -> Any:
    """The registry's entry of a name; raises ValueError with all names for an unknown one."""
    if name not in registry:
        raise ValueError(f"arms: {name!r} is not {kind}; there are {', '.join(sorted(registry)) or 'none'}")
    return registry[name]


def own(settings: type[BaseModel], trial: ArmTrial) -> dict[str, Any]:
    """The settings of an arm that a scorer or selector declares."""
    return {name: value for name, value in trial.arm.settings.items() if name in settings.model_fields}


def experiment_named(name: str) -> type[Experiment] | None:
    """The experiment in the module of that name, or None; imports no other module.

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
    """Every experiment by the name of its module: `random_pruning` holds class `RandomPruning`."""
    import secateur.trainers.experiments

    return discover(secateur.trainers.experiments, Experiment)
