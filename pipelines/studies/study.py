"""What every study has, whatever it prunes, and the kinds of study by name.

A kind is one file in this folder, which `KINDS` names: a subclass of `AnyStudy` whose field `kind` is a literal. One
function builds its assets (`secateur.pipelines.definitions.BUILDERS`).
"""

import importlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final, Literal

from pydantic import Field, model_validator

from secateur.pipelines.files.contents import remembered
from secateur.pipelines.studies.grid import KD, STEPS, Trial, selection_key
from secateur.pipelines.studies.named_inputs import contents_of
from secateur.pipelines.studies.plain_yaml import shortened
from secateur.pipelines.studies.rejections import Name
from secateur.scorers.settings import Settings
from secateur.trainers.judging.sequential import Looks, looks_between
from secateur.trainers.tasks.contract import Metric

KINDS: Final[Mapping[str, str]] = {
    "choice": "choice",
    "pruning": "units",
    "samples": "samples",
    "search": "architectures",
}
"""The file of this folder that holds each kind of study, by the name that a study gives under `kind`."""
TRAINED, UNTRAINED = "samples", "choice"
"""The kind of a file that names none: with something to train, or without."""
TO_TRAIN = ("proxy", "training", "task")
"""Keys of which one at least is in the file of a study that trains."""
SOURCE: Final = "source"
"""The key of a study's data, among those of all that it reads."""
MOST_LOOKS = 10
CONTENTS = "contents"
"""Folder, in that of downloads, of what is known of files that studies read."""


class AnyStudy(Settings, ABC):
    """A comparison of arms, each under budgets and over seeds, beside a baseline that draws at random."""

    kind: str
    name: Annotated[Name, Field(description="names the assets; lower case")]
    description: Annotated[str, Field(description="shown on the pages of the assets and in the report")] = ""
    seeds: Annotated[
        int,
        Field(
            ge=1,
            le=1000,
            description="repetitions of every arm, for the comparison; {from: 5, to: 20} adds them where it takes more",
        ),
    ] = 5
    looks: Annotated[
        tuple[int, ...], Field(description="numbers of seeds after which the report's claim is tested; follows seeds")
    ] = ()
    margin: Annotated[
        float | None,
        Field(gt=0, description="the accepted loss against everything: points of the deciding metric, or its unit"),
    ] = None
    metric: Annotated[str | None, Field(description="the one that decides; by the data, or the first, if left out")] = (
        None
    )

    @model_validator(mode="before")
    @classmethod
    def _seeds_in_stages(cls, content: Any) -> Any:
        staged = content.get("seeds") if isinstance(content, dict) else None
        if not isinstance(staged, dict | list):
            return content
        looks = looks_of(staged)
        return {**content, "seeds": looks[-1], "looks": looks}

    @model_validator(mode="after")
    def _looks_are_of_seeds(self) -> "AnyStudy":
        if self.looks and self.looks != looks_of([*self.looks[:-1], self.seeds]):
            raise ValueError(f"looks: the last one is after {self.looks[-1]} seeds, and seeds is {self.seeds}")
        return self

    @property
    def first_seeds(self) -> int:
        """How many seeds every trial has: all of them, or those of the first look."""
        return self.looks[0] if self.looks else self.seeds

    @property
    def between(self) -> Mapping[int | float, int | float]:
        """Budgets that are tried where the next smaller one of `keep` fails, by that one."""
        return {}

    @property
    def budgets(self) -> Sequence[int | float]:
        """All budgets that trials can have."""
        return [each for keep in self.keep for each in ([self.between[keep]] if keep in self.between else []) + [keep]]

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

    def title(self, name: str) -> str:
        """The name of an arm or reference as readers see it; of a twin with what it is behind it."""
        plain = name.removesuffix(KD).removesuffix(STEPS)
        behind = " + KD" if name.endswith(KD) else " at equal steps" if name.endswith(STEPS) else ""
        return self.titles.get(plain, plain) + behind

    @property
    @abstractmethod
    def unit(self) -> str:
        """What a budget counts, in the singular: sample, weight, head, evaluation."""

    @property
    @abstractmethod
    def metrics(self) -> tuple[Metric, ...]:
        """Numbers of an outcome; the first decides where neither `metric` nor the data say another."""

    @property
    @abstractmethod
    def baseline(self) -> str:
        """The arm that keeps units at random, which every other stands beside."""

    @property
    def second_baseline(self) -> str | None:
        """Another arm that every arm stands beside, such as random by class; None where there is none."""
        return None

    @property
    def following(self) -> Sequence[str]:
        """Arms that follow examples of the job that the data are for; none without such a target."""
        return ()

    @property
    def beside_target(self) -> Sequence[str]:
        """Arms of random rows that stand beside those: of the target's own source, and of all sources alike."""
        return ()

    @property
    @abstractmethod
    def references(self) -> Sequence[str]:
        """Names of what nothing is pruned of, such as the whole data set or the dense network."""

    @property
    def unbudgeted(self) -> Sequence[str]:
        """Names of what is compared with the references alone, for it goes by no budget of the study."""
        return ()

    def as_many(self, name: str) -> str:
        """The arm that keeps as many at random as one of no budget, beside which that stands; empty without one."""
        return ""

    @property
    def at_steps(self) -> Sequence[str]:
        """Keys of the twins that are trained for as many steps as everything takes; most studies have none."""
        return ()

    @property
    def selection_keys(self) -> Sequence[str]:
        """References, then every arm at every budget: what a trial's `selection` can be."""
        return [*self.references, *(selection_key(arm, keep) for arm in self.arms for keep in self.budgets)]

    @property
    def trials(self) -> Iterator[Trial]:
        """Every selection at every seed."""
        return (Trial(key, seed) for key in self.selection_keys for seed in range(self.seeds))

    @abstractmethod
    def revision(self, base: Path, cache: Path) -> str:
        """Identity of the data as they are now, empty where the study reads none of the user's.

        Relative paths start at `base`, downloads are kept in `cache`. Raises SourceError for data that cannot be read.
        """

    def contents(self, base: Path, cache: Path) -> dict[str, str]:
        """Identity of all that the study reads, as it is now, by the keys that name it: data, files, folders and code.

        Raises what `revision` raises, and OSError for what cannot be read.
        """
        with remembered(cache / CONTENTS / self.name):
            found = {SOURCE: self.revision(base, cache), **contents_of(self, base), **self.besides(base, cache)}
            for key, settings in self.resolved.items():
                found |= {f"{key}.{name}": digest for name, digest in contents_of(settings, base).items()}
        return found

    def besides(self, base: Path, cache: Path) -> dict[str, str]:
        """Identity of what the study reads that is neither its source nor a file or folder which a setting names."""
        return {}

    @property
    def resolved(self) -> Mapping[str, Settings]:
        """Settings that follow from mappings which the study writes, by key."""
        return {}

    @abstractmethod
    def decides(self, asset: str, trial: Trial | None) -> Mapping[str, Any]:
        """JSON-able settings and versions of methods that the content of an asset, or of one trial of it, follows from.

        What its parents were made of is left out: their files count.
        """

    def why_no_manifest(self, trial: Trial, asset: str = "manifest") -> str:
        """Why an asset of manifests has none of what a trial keeps; empty where it has one."""
        return ""

    def manifests_of(self, trial: Trial) -> str:
        """The asset that has a trial's manifest, if any has."""
        return "manifest"

    def follows(self, names: Sequence[str], trial: Trial | None, content: str) -> bool:
        """Whether an asset, by its names below the study, or a trial of it, follows from the file of a key of
        `contents`."""
        return content.partition(".")[0] not in self.left_out(names[0], trial)

    def needs(self, trial: Trial | None, parent: Sequence[str]) -> bool:
        """Whether a trial of an asset is made of one of that asset's parents, by its names below the study."""
        return True

    def left_out(self, asset: str, trial: Trial | None) -> set[str]:
        """Keys that decide nothing about an asset, or one trial of it."""
        return {"kind", "description"} | ({"metric", "seeds", "looks"} if trial else set())


def looks_of(staged: Mapping[str, Any] | Sequence[Any]) -> Looks:
    """Numbers of seeds to look at, of `{from: 5, to: 20}`, twice as many each time, or as a list says them.

    Raises ValueError for anything else.
    """
    if isinstance(staged, Mapping):
        if set(staged) != {"from", "to"}:
            raise ValueError(f"seeds: write a number, or from and to; got the keys {', '.join(map(str, staged))}")
        staged = [staged["from"], staged["to"]]
        doubled = True
    else:
        doubled = False
    if not all(isinstance(seeds, int) and not isinstance(seeds, bool) for seeds in staged):
        raise ValueError(f"seeds: numbers of seeds are whole numbers, got {shortened(repr(list(staged)))}")
    if not 2 <= len(staged) <= MOST_LOOKS or sorted(set(staged)) != list(staged) or staged[0] < 2 or staged[-1] > 1000:
        raise ValueError(
            f"seeds: a look is after more seeds than the one before, from 2 to 1000, at most {MOST_LOOKS} of them, got "
            f"{shortened(repr(list(staged)))}"
        )
    return looks_between(*staged) if doubled else tuple(staged)


def kind_of(content: Mapping[str, Any]) -> Any:
    """The kind of study that a file holds, or is meant to hold: what it names under `kind`, or what its keys show."""
    return content.get("kind", TRAINED if any(key in content for key in TO_TRAIN) else UNTRAINED)


@cache
def kind_named(kind: str) -> type[AnyStudy]:
    """The kind of study of a name that is among `KINDS`; no other is imported."""
    module = importlib.import_module(f"{__name__.rpartition('.')[0]}.{KINDS[kind]}")
    of_kind = Literal[kind]  # type: ignore[valid-type]
    studies = (one for one in vars(module).values() if isinstance(one, type) and issubclass(one, AnyStudy))
    named = (one for one in studies if one.__module__ == module.__name__)
    return next(one for one in named if one.model_fields["kind"].annotation == of_kind)
