"""The target of a study of samples that trains: its checks and its signals."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, model_validator

from secateur.pipelines.studies.grid import Trial
from secateur.pipelines.studies.selection import Selection
from secateur.pipelines.studies.target import (
    BESIDE,
    MADE,
    OF_SOURCES,
    OF_TARGET,
    StudyTarget,
    beside,
    check_reads,
    contents_of_split,
)
from secateur.pipelines.studies.unit_keys import UnitKeys
from secateur.selectors.contract import Selector


class TargetKeys(UnitKeys):
    """Keys of a study of samples, with examples of the target task."""

    target: Annotated[
        StudyTarget | None,
        Field(description="examples of the target task, for selections by similarity; no training uses them"),
    ] = None

    @model_validator(mode="after")
    def _target_fits(self) -> "TargetKeys":
        for name in beside(self.target, self.selections):
            self.selections[name] = Selection(selector=name)
        for name, selection in self.selections.items():
            check_reads(f"selections.{name}.selector", selection.selector, set(selection.reads), self.target)
        if self.target is None:
            return self
        if self.task.own or self.source is None or self.columns is None:
            raise ValueError(f"target: the task {self.task.kind} brings its samples with it; leave it out")
        self.target.check_split(self.source)
        texts = bool(self.columns.texts)
        self.target.by_texts(named=True, texts=texts)
        apart = self.own_vectors is not None and self.own_vectors.file is not None and self.target.filter is None
        if apart and self.of_embeddings and self.target.vectors is None:
            raise ValueError("target.vectors: embeddings are a file of yours for the data; name one for the target")
        if "target_log_ratios" in self.target_signals and not texts:
            raise ValueError("selections: importance_resampling counts words of texts; name columns.text")
        if "gradient_places" in self.target_signals:
            self._check_gradients()
        return self

    def _check_gradients(self) -> None:
        """Raise ValueError if no single network has gradients of both the data and the target."""
        declared = self.task.declared
        if "token_logits" not in declared.lacks:
            return self._check_proxy()
        if reason := declared.lacks.get("error"):
            raise ValueError(f"selections: gradient_match reads errors of a task, and {reason}; name another selector")
        return self._check_proxy()

    def _check_proxy(self) -> None:
        if self.proxy is None:
            raise ValueError("proxy: gradient_match compares gradients of one; add it, or name nearest_to_target")
        if self.proxy.folds:
            raise ValueError("proxy.folds: gradients of different proxies cannot be compared; leave folds out")

    @property
    def target_signals(self) -> set[str]:
        """Signals of the target and of the rows' sources that the selections read."""
        return set[str]().union(*(each.reads for each in self.selections.values())) & (OF_TARGET | OF_SOURCES)

    @property
    def following(self) -> list[str]:
        return [name for name, each in self.selections.items() if OF_TARGET & set(each.reads)]

    @property
    def beside_target(self) -> list[str]:
        return [name for name in BESIDE if name in self.selections] if self.following else []

    @property
    def target_by_texts(self) -> bool:
        """Whether the study compares rows with those of the target by their texts."""
        # RDS+ compares completions by embeddings, so texts need an explicit setting.
        named = "embeddings" in self.model_fields_set or self.task.kind == "sft"
        texts = bool(self.columns and self.columns.texts)
        return self.target is not None and self.target.by_texts(named=named, texts=texts)

    @property
    def of_embeddings(self) -> set[str]:
        """`embeddings` as a set if the order of rows by the target uses them, else empty."""
        return {"embeddings"} if "target_places" in self.target_signals and not self.target_by_texts else set()

    def besides(self, base: Path, cache: Path) -> dict[str, str]:
        if self.source is None or self.columns is None:
            return {}
        return contents_of_split(self.target, self.source, self.columns, base, cache)

    def follows(self, names: Sequence[str], trial: Trial | None, content: str) -> bool:
        if content.partition(".")[0] == "target":
            return names[0] == "target"
        return super().follows(names, trial, content)

    def needs(self, trial: Trial | None, parent: Sequence[str]) -> bool:
        if trial is None or parent[0] not in MADE:
            return super().needs(trial, parent)
        read = self.read_of_target(trial.plain.name)
        return parent[0] in read or (parent[0] == "target" and bool(read))

    def read_of_target(self, name: str) -> set[str]:
        """Signals of the target and of the rows' sources that a selection reads."""
        selection = self.selections.get(name)
        return set(selection.reads) & (OF_TARGET | OF_SOURCES) if selection else set()

    def decides_target(self, asset: str) -> dict[str, Any]:
        """Settings on which an asset of the target depends, beside its inputs."""
        own = [each for each in self.selections.values() if asset in each.reads]
        static = [each for each in own if isinstance(each.declared, Selector)]
        shared = any(each.classes is not None or not self.by_rows(each) for each in static)
        ordered = asset in ("target_places", "gradient_places")
        read = {"source", "columns", "data", "encoding", "task"}
        return {
            "target": self.model_dump(mode="json", include={"target"}),
            "made of": self.model_dump(mode="json", include=read | ({"embeddings"} if ordered else set())),
            "depth": [list(self.budgets), shared] if ordered else [],
            "read": sorted(self.target_signals) if asset == "target" else [],
        }
