"""What every study has, whatever it prunes, and the kinds of study by name.

A kind is one file in this folder: a subclass of `AnyStudy` whose field `kind` is a literal, and one function that
builds its assets (`secateur.pipelines.definitions.BUILDERS`).
"""

import importlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, get_args

from pydantic import Field

from secateur.pipelines.studies.grid import Trial, selection_key
from secateur.pipelines.studies.rejections import Strict
from secateur.scorers.contract import modules_of
from secateur.trainers.tasks.contract import Metric

DEFAULT_KIND = "samples"
"""The kind of a file that names none."""


class AnyStudy(Strict, ABC):
    """A comparison of arms, each under budgets and over seeds, beside a baseline that draws at random."""

    kind: str
    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", description="names the assets; lower case")]
    description: Annotated[str, Field(description="shown on the pages of the assets and in the report")] = ""
    seeds: Annotated[int, Field(ge=1, le=1000, description="repetitions of every arm, for the comparison")] = 5

    if TYPE_CHECKING:
        # Fields of some kinds and properties of others: pydantic would take a property here for a field's default.
        @property
        def arms(self) -> Sequence[str]:
            """Names of what is compared at each budget, the baseline among them."""

        @property
        def keep(self) -> Sequence[int | float]:
            """Budgets: shares in (0, 1] or counts of units; of a search, counts of evaluations."""

    arm: ClassVar[str] = "arm"
    """Word for what is compared: selection, arm or search."""
    titles: ClassVar[Mapping[str, str]] = {}
    """Names of arms and references as readers see them, where these differ."""
    by_share: ClassVar[bool] = False
    """Whether readers see a budget as the share that it keeps, not as the count."""
    outcome_asset: ClassVar[str]
    """The asset that holds the outcome of each trial."""

    @property
    @abstractmethod
    def unit(self) -> str:
        """What a budget counts, in the singular: sample, weight, head, evaluation."""

    @property
    @abstractmethod
    def metrics(self) -> tuple[Metric, ...]:
        """Numbers of an outcome; the first decides."""

    @property
    def metric(self) -> Metric:
        """The number that decides."""
        return self.metrics[0]

    @property
    @abstractmethod
    def baseline(self) -> str:
        """The arm that keeps units at random, which every other stands beside."""

    @property
    def second_baseline(self) -> str | None:
        """Another arm that every arm stands beside, such as random by class; None where there is none."""
        return None

    @property
    @abstractmethod
    def references(self) -> Sequence[str]:
        """Names of what nothing is pruned of, such as the whole data set or the dense network."""

    @property
    def unbudgeted(self) -> Sequence[str]:
        """Names of what is compared with the references alone, for it goes by no budget of the study."""
        return ()

    @property
    def selection_keys(self) -> Sequence[str]:
        """References, then every arm at every budget: what a trial's `selection` can be."""
        return [*self.references, *(selection_key(arm, keep) for arm in self.arms for keep in self.keep)]

    @property
    def trials(self) -> Iterator[Trial]:
        """Every selection at every seed."""
        return (Trial(key, seed) for key in self.selection_keys for seed in range(self.seeds))

    @abstractmethod
    def revision(self, base: Path, cache: Path) -> str:
        """Identity of the data as they are now, empty where the study reads none of the user's.

        Relative paths start at `base`, downloads are kept in `cache`. Raises SourceError for data that cannot be read.
        """

    @abstractmethod
    def decides(self, asset: str, trial: Trial | None) -> Mapping[str, Any]:
        """JSON-able settings and versions of methods that the content of an asset, or of one trial of it, follows from.

        What its parents were made of is left out: their files count.
        """


@cache
def kinds() -> Mapping[str, type[AnyStudy]]:
    """Every kind of study by the name that a file gives under `kind`."""
    import secateur.pipelines.studies as package

    models: dict[str, type[AnyStudy]] = {}
    for module in modules_of(package):
        for model in vars(importlib.import_module(module)).values():
            if isinstance(model, type) and issubclass(model, AnyStudy) and model.__module__ == module != __name__:
                [kind] = get_args(model.model_fields["kind"].annotation)
                models[kind] = model
    return dict(sorted(models.items()))
