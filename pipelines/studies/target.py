"""A study's `target`: examples of the target task, which selections may follow and no evaluation uses."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, model_validator

from secateur.pipelines.data.columns import Columns
from secateur.pipelines.data.source_kinds.contract import NamedSplits, SourceKind
from secateur.pipelines.studies.own_scores import OwnVectors
from secateur.scorers.settings import STUDY_PATHS, Settings

OF_TARGET = {"target_places", "target_log_ratios", "ngram_counts", "gradient_places"}
"""Signals of the target that selectors read."""
OF_SOURCES = {"sources", "target_source"}
"""Signals of the rows' sources that selectors read."""
SOURCE_RANDOM, ALIKE = "target_source_random", "source_balanced_random"
BESIDE = (SOURCE_RANDOM, ALIKE)
"""Baselines for a target, in a study that names the column of the rows' sources."""
TITLES = {SOURCE_RANDOM: "random of the target's source", ALIKE: "source-balanced random"}
MADE = ("target", *sorted(OF_TARGET), *sorted(OF_SOURCES))
"""The assets of a target and of its signals."""
NEEDS_TARGET = (
    "{where}: {selector!r} reads examples of a job; name them as target: {{file: examples.jsonl}}, a split of the "
    "source, or a filter of its rows"
)
NEEDS_SOURCE = "{where}: {selector!r} reads where rows come from; name that column as target: {{…, source: COLUMN}}"

Value = str | bool | int | float
Values = Annotated[list[Value], BeforeValidator(lambda given: given if isinstance(given, list) else [given])]


class StudyTarget(Settings):
    """Examples of the target task: a file, a split of the source, or the rows of the source that match a filter."""

    model_config = ConfigDict(frozen=True)

    file: Annotated[
        Path | None, STUDY_PATHS, Field(description="Parquet, CSV or JSON lines with the columns of the data")
    ] = None
    split: Annotated[str | None, Field(description="split, or folder, of a source with named splits")] = None
    filter: Annotated[
        dict[str, Values] | None,
        Field(
            min_length=1,
            description="values, or a list of them, by column: matching rows of the training files become the "
            "target, and leave the training and test data",
        ),
    ] = None
    task: Annotated[
        str | None, Field(description="column of the target whose values take turns; default: each row is its own")
    ] = None
    source: Annotated[
        str | None,
        Field(description="column of a row's source; adds two random baselines: of the target's own source, and "
              "balanced by source"),
    ] = None  # fmt: skip
    own: Annotated[
        Values | None,
        Field(min_length=1, description="values of source that are the target's own; default: those of its rows"),
    ] = None
    compare: Annotated[
        Literal["texts", "embeddings"] | None,
        Field(description="inputs of nearest_to_target; default: embeddings if the study names any, else texts"),
    ] = None
    vectors: Annotated[
        OwnVectors | None,
        Field(description="of the target's rows, if the study's embeddings are your file; default: the same column"),
    ] = None

    @model_validator(mode="after")
    def _one_place(self) -> "StudyTarget":
        named = [key for key in ("file", "split", "filter") if getattr(self, key) is not None]
        if len(named) != 1:
            raise ValueError(f"name one of file, split and filter, got {' and '.join(named) or 'none'}")
        if self.own is not None and self.source is None:
            raise ValueError("own: values of which column? name it as source, or leave own out")
        if self.vectors is not None and self.filter is not None:
            raise ValueError("vectors: rows of the source have those of the study's embeddings; leave it out")
        return self

    @property
    def read_besides(self) -> list[str]:
        """Columns of the target beyond those of the data."""
        return [name for name in (self.task, None if self.own else self.source) if name is not None]

    @property
    def read_of_data(self) -> list[str]:
        """Columns of the data, beyond those of the study, that the target needs."""
        own = [self.task] if self.task and self.filter is not None else []
        return [*(self.filter or ()), *own, *([self.source] if self.source else [])]

    def told(self) -> str:
        """The target's origin, in words."""
        if self.file is not None:
            return f"the file {self.file}"
        if self.split is not None:
            return f"the split {self.split}"
        parts = (f"{name} is {' or '.join(map(str, values))}" for name, values in (self.filter or {}).items())
        return f"rows of the source whose {' and '.join(parts)}"

    def check_split(self, source: SourceKind) -> None:
        """Raise ValueError for a split that the source does not have or uses otherwise."""
        if self.split is None:
            return
        if not isinstance(source, NamedSplits):
            raise ValueError(f"target.split: a source of kind {source.kind} names files; name one as target.file")
        for key, name in source.splits.items():
            if name == self.split:
                raise ValueError(f"target.split: {name!r} is source.{key}; a target is examples of its own")

    def by_texts(self, *, named: bool, texts: bool) -> bool:
        """Whether the study compares rows by their texts; `named`: the study names embeddings; `texts`: rows are texts.
        Raises ValueError if `compare` asks for texts and there are none."""
        if self.compare == "texts" and not texts:
            raise ValueError("target.compare: rows are no texts; write embeddings, or leave compare out")
        return self.compare == "texts" or (self.compare is None and texts and not named)


def contents_of_split(
    target: StudyTarget | None, source: SourceKind, columns: Columns, base: Path, cache: Path
) -> dict[str, str]:
    """Identity of a target's split; raises SourceError if the split does not exist."""
    if target is None or target.split is None:
        return {}
    from secateur.pipelines.data.target_rows import target_revision

    return {"target.split": target_revision(source, columns, base, cache, target.split)}


def check_reads(where: str, selector: str, reads: set[str], target: StudyTarget | None) -> None:
    """Raise ValueError if a selector reads a target, or sources, and the study names none."""
    if OF_TARGET & reads and target is None:
        raise ValueError(NEEDS_TARGET.format(where=where, selector=selector))
    if OF_SOURCES & reads and (target is None or target.source is None):
        raise ValueError(NEEDS_SOURCE.format(where=where, selector=selector))


def beside(target: StudyTarget | None, selections: Mapping[str, Any]) -> list[str]:
    """Names of the baselines that a target adds to selections; raises ValueError if another selection has such a
    name."""
    if target is None or target.source is None:
        return []
    for name in BESIDE:
        if name in selections and selections[name].selector != name:
            raise ValueError(f"selections.{name}: the report has this name for random rows; call it otherwise")
    return [name for name in BESIDE if name not in selections]
