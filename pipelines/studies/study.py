"""The base of all studies, and the kinds of study by name.

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
"""The file in this folder of each kind of study, by the value of `kind`."""
TRAINED, UNTRAINED = "samples", "choice"
"""The kind of a file without `kind`: with one of the keys of training, or without."""
TO_TRAIN = ("proxy", "training", "task")
"""Keys of which a study that trains has at least one."""
SOURCE: Final = "source"
"""The key of a study's data among its inputs."""
MOST_LOOKS = 10
CONTENTS = "contents"
"""Subfolder of the downloads for cached digests of the studies' input files."""


class AnyStudy(Settings, ABC):
    """A comparison of arms at several budgets and seeds with a random baseline."""

    kind: str
    name: Annotated[Name, Field(description="names the assets; lower case")]
    description: Annotated[str, Field(description="text for the pages of the assets and the report")] = ""
    seeds: Annotated[
        int,
        Field(
            ge=1,
            le=1000,
            description="repetitions of every arm; {from: 5, to: 20} adds them until the comparison is decided",
        ),
    ] = 5
    looks: Annotated[
        tuple[int, ...], Field(description="numbers of seeds at which the report tests its claim; follows from seeds")
    ] = ()
    margin: Annotated[
        float | None,
        Field(gt=0, description="accepted loss against the full data: points of the deciding metric, or its unit"),
    ] = None
    metric: Annotated[str | None, Field(description="the deciding one; default: by the data, or the task's first")] = (
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
        """Number of seeds of every trial: all of them, or those of the first look."""
        return self.looks[0] if self.looks else self.seeds

    @property
    def between(self) -> Mapping[int | float, int | float]:
        """Midpoint budgets by the next smaller budget of `keep`; a study tries one if the smaller budget fails."""
        return {}

    @property
    def budgets(self) -> Sequence[int | float]:
        """All possible budgets of trials."""
        return [each for keep in self.keep for each in ([self.between[keep]] if keep in self.between else []) + [keep]]

    if TYPE_CHECKING:
        # Fields in some kinds and properties in others: pydantic would read a property here as a field's default.
        @property
        def arms(self) -> Sequence[str]:
            """Names of the arms at each budget, including the baseline."""

        @property
        def keep(self) -> Sequence[int | float]:
            """Budgets: shares in (0, 1] or counts of units; of a search, counts of evaluations."""

    arm: ClassVar[str] = "arm"
    """The readers' word for an arm: selection, arm or search."""
    titles: ClassVar[Mapping[str, str]] = {}
    """Readable names of arms and references that differ from their keys."""
    by_share: ClassVar[bool] = False
    """Whether pages show a budget as a share instead of a count."""
    outcome_asset: ClassVar[str]
    """The asset that holds the outcome of each trial."""

    def title(self, name: str) -> str:
        """The readable name of an arm or reference; a twin's name ends with its kind."""
        plain = name.removesuffix(KD).removesuffix(STEPS)
        behind = " + KD" if name.endswith(KD) else " at equal steps" if name.endswith(STEPS) else ""
        return self.titles.get(plain, plain) + behind

    @property
    @abstractmethod
    def unit(self) -> str:
        """The unit of a budget, in the singular: sample, weight, head, evaluation."""

    @property
    @abstractmethod
    def metrics(self) -> tuple[Metric, ...]:
        """Metrics of an outcome; the first decides if neither `metric` nor the data select another."""

    @property
    @abstractmethod
    def baseline(self) -> str:
        """The arm that keeps units at random, the baseline of every other arm."""

    @property
    def second_baseline(self) -> str | None:
        """A further baseline of every arm, such as random by class; None if there is none."""
        return None

    @property
    def following(self) -> Sequence[str]:
        """Arms that follow examples of the target task; none without such a target."""
        return ()

    @property
    def beside_target(self) -> Sequence[str]:
        """Random baselines of those arms: rows of the target's own source, and rows balanced by source."""
        return ()

    @property
    @abstractmethod
    def references(self) -> Sequence[str]:
        """Names of the unpruned references, such as the full data set or the dense network."""

    @property
    def unbudgeted(self) -> Sequence[str]:
        """Names of arms without a budget of the study, compared with the references alone."""
        return ()

    def as_many(self, name: str) -> str:
        """The random baseline of equal size of an arm without a budget; empty if there is none."""
        return ""

    @property
    def at_steps(self) -> Sequence[str]:
        """Keys of the twins that train for as many steps as the full training; most studies have none."""
        return ()

    @property
    def selection_keys(self) -> Sequence[str]:
        """References, then every arm at every budget: the possible values of a trial's `selection`."""
        return [*self.references, *(selection_key(arm, keep) for arm in self.arms for keep in self.budgets)]

    @property
    def trials(self) -> Iterator[Trial]:
        """Every selection at every seed."""
        return (Trial(key, seed) for key in self.selection_keys for seed in range(self.seeds))

    @abstractmethod
    def revision(self, base: Path, cache: Path) -> str:
        """Identity of the current data; empty if the study reads no data of the user.

        Relative paths start at `base`; `cache` holds downloads. Raises SourceError for unreadable data.
        """

    def contents(self, base: Path, cache: Path) -> dict[str, str]:
        """Identity of all current inputs by the keys that name them: data, files, folders and code.

        Raises the errors of `revision`, and OSError for an unreadable input.
        """
        with remembered(cache / CONTENTS / self.name):
            found = {SOURCE: self.revision(base, cache), **contents_of(self, base), **self.besides(base, cache)}
            for key, settings in self.resolved.items():
                found |= {f"{key}.{name}": digest for name, digest in contents_of(settings, base).items()}
        return found

    def besides(self, base: Path, cache: Path) -> dict[str, str]:
        """Identity of inputs other than the source and the files and folders that settings name."""
        return {}

    @property
    def resolved(self) -> Mapping[str, Settings]:
        """Validated settings, by key, of mappings in the study."""
        return {}

    @abstractmethod
    def decides(self, asset: str, trial: Trial | None) -> Mapping[str, Any]:
        """JSON-able settings and versions of methods on which the content of an asset, or of one trial of it, depends.

        Settings of its parents are left out: the parents' files count.
        """

    def why_no_manifest(self, trial: Trial, asset: str = "manifest") -> str:
        """The reason why an asset of manifests has none for a trial; empty if it has one."""
        return ""

    def manifests_of(self, trial: Trial) -> str:
        """The asset of a trial's manifest, if there is one."""
        return "manifest"

    def follows(self, names: Sequence[str], trial: Trial | None, content: str) -> bool:
        """Whether an asset, by its names below the study, or a trial of it, depends on the input of a key of
        `contents`."""
        return content.partition(".")[0] not in self.left_out(names[0], trial)

    def needs(self, trial: Trial | None, parent: Sequence[str]) -> bool:
        """Whether a trial of an asset reads one of the asset's parents, by its names below the study."""
        return True

    def left_out(self, asset: str, trial: Trial | None) -> set[str]:
        """Keys that do not change an asset, or one trial of it."""
        return {"kind", "description"} | ({"metric", "seeds", "looks"} if trial else set())


def looks_of(staged: Mapping[str, Any] | Sequence[Any]) -> Looks:
    """Numbers of seeds at the looks: of `{from: 5, to: 20}`, doubled each time, or as a list states them.

    Raises ValueError for any other value.
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
    """The kind of study of a file's content: the value of `kind`, or the kind to which its keys belong."""
    return content.get("kind", TRAINED if any(key in content for key in TO_TRAIN) else UNTRAINED)


@cache
def kind_named(kind: str) -> type[AnyStudy]:
    """The class of a kind of study in `KINDS`; imports no other kind."""
    module = importlib.import_module(f"{__name__.rpartition('.')[0]}.{KINDS[kind]}")
    of_kind = Literal[kind]  # type: ignore[valid-type]
    studies = (one for one in vars(module).values() if isinstance(one, type) and issubclass(one, AnyStudy))
    named = (one for one in studies if one.__module__ == module.__name__)
    return next(one for one in named if one.model_fields["kind"].annotation == of_kind)
