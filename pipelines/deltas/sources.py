"""Sources of a fine-tuning delta: two checkpoints, a checkpoint and a LoRA adapter, or an adapter's factors."""

import json
import math
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch

from secateur.pipelines.deltas.files import Checkpoint, check_pair, chosen_names, fingerprint, listed, twins_of

CONFIG = "adapter_config.json"
FACTOR = re.compile(
    r"^(?:base_model\.model\.)?(?P<module>.+)\.lora_(?P<embedding>embedding_)?(?P<side>[AB])(?:\.weight)?$"
)

BEGINNINGS = ("true", "false", "gaussian", "eva", "orthogonal", "mica")
"""Values of `init_lora_weights` that do not change the base, so that base + B A is the tuned model (peft 0.21)."""
BEYOND = (
    "use_dora",
    "lora_bias",
    "modules_to_save",
    "trainable_token_indices",
    "layer_replication",
    "target_parameters",
    "use_qalora",
    "use_bdlora",
    "arrow_config",
    "kasa_config",
    "monteclora_config",
)
"""Settings of adapters that change more than layers' weights by B A."""


@dataclass(frozen=True)
class DeltaSource(ABC):
    """Deltas of the tensors `names`, for the `layout` of a checkpoint whose other tensors are copied.

    `twins` names for each tensor the first one of the same content, whose mask it shares. `made_for` identifies the
    delta.
    """

    layout: Checkpoint
    names: tuple[str, ...]
    twins: Mapping[str, str]
    made_for: str

    by_rows: ClassVar[bool] = False
    """Whether blocks must consist of whole rows."""

    @abstractmethod
    def block(self, name: str, first: int, stop: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Pre-trained values and delta of some entries, float32 (float64 where the tensor is) `[m]` each."""


@dataclass(frozen=True)
class TunedDelta(DeltaSource):
    """The difference of a fine-tuned checkpoint and its base."""

    base: Checkpoint

    @classmethod
    def of(
        cls, base: Checkpoint, tuned: Checkpoint, only: Sequence[str] = (), leave: Sequence[str] = ()
    ) -> "TunedDelta":
        """Raises ValueError that names every tensor without a twin, before any computation."""
        names = chosen_names(tuned, only, leave)
        check_pair(base, tuned, names, leave)
        names = tuple(name for name in names if name in base.tensors)
        pair = (base, tuned)
        return cls(tuned, names, twins_of(pair, names), fingerprint(pair, names), base)

    def block(self, name: str, first: int, stop: int) -> tuple[torch.Tensor, torch.Tensor]:
        """See `DeltaSource.block`."""
        before, after = (each.tensors[name].numbers(first, stop) for each in (self.base, self.layout))
        exact = torch.promote_types(torch.promote_types(before.dtype, after.dtype), torch.float32)
        before = before.to(exact)
        return before, after.to(exact) - before


@dataclass(frozen=True)
class AdapterDelta(DeltaSource):
    """The product that a LoRA adapter adds to its base: scaling · B A, computed a few rows at a time, never stored."""

    factors: Mapping[str, "Factors"]
    by_rows = True

    @classmethod
    def of(cls, base: Checkpoint, folder: Path, only: Sequence[str] = (), leave: Sequence[str] = ()) -> "AdapterDelta":
        """The adapter in a folder of peft, over its base.

        Raises ValueError that names settings other than plain LoRA over linear layers and embeddings, and factors that
        do not fit the base.
        """
        adapter, settings = read_adapter(folder)
        factors = factors_of(adapter, settings)
        faults = [
            f"{name} {list(base.tensors[name].shape)} and {list(each.shape)}" if name in base.tensors else name
            for name, each in factors.items()
            if name not in base.tensors or base.tensors[name].shape != each.shape
        ]
        if faults:
            raise ValueError(f"{folder} does not fit {base.path}, which lacks or shapes otherwise: {listed(faults)}")
        names = tuple(name for name in chosen_names(base, only, leave) if name in factors)
        if not names:
            raise ValueError(f"{folder} has no factors for the tensors that were asked for")
        text = fingerprint((base, adapter), (*names, *adapter.tensors))
        return cls(base, names, {name: name for name in names}, text, factors)

    def block(self, name: str, first: int, stop: int) -> tuple[torch.Tensor, torch.Tensor]:
        """See `DeltaSource.block`; whole rows only."""
        stored = self.layout.tensors[name]
        before = stored.numbers(first, stop)
        rows = slice(first // stored.columns, stop // stored.columns)
        return before.to(torch.promote_types(before.dtype, torch.float32)), self.factors[name].rows(rows).reshape(-1)


@dataclass(frozen=True)
class FactorDelta(DeltaSource):
    """An adapter's own factors as deltas from zero, each pruned by itself, as in peft's `dare_linear`."""

    @classmethod
    def of(cls, folder: Path, only: Sequence[str] = (), leave: Sequence[str] = ()) -> "FactorDelta":
        """The adapter in a folder of peft."""
        adapter, settings = read_adapter(folder)
        factors_of(adapter, settings)
        names = chosen_names(adapter, only, leave)
        return cls(adapter, names, {name: name for name in names}, fingerprint((adapter,), names))

    def block(self, name: str, first: int, stop: int) -> tuple[torch.Tensor, torch.Tensor]:
        """See `DeltaSource.block`."""
        values = self.layout.tensors[name].numbers(first, stop)
        values = values.to(torch.promote_types(values.dtype, torch.float32))
        return torch.zeros_like(values), values


@dataclass(frozen=True)
class Factors:
    """The two factors of a layer's delta in an adapter, and the scale of their product."""

    adapter: Checkpoint
    first: str
    second: str
    scaling: float
    transposed: bool

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of the delta."""
        inputs, outputs = self.adapter.tensors[self.first].shape[1], self.adapter.tensors[self.second].shape[0]
        return (inputs, outputs) if self.transposed else (outputs, inputs)

    def rows(self, rows: slice) -> torch.Tensor:
        """Some rows of the delta, float32 `[rows, columns]`."""
        first, second = (self._matrix(name) for name in (self.first, self.second))
        left, right = (first.T, second.T) if self.transposed else (second, first)
        return self.scaling * (left[rows] @ right)

    def _matrix(self, name: str) -> torch.Tensor:
        stored = self.adapter.tensors[name]
        return stored.numbers(0, stored.entries).float().reshape(stored.shape)


def read_adapter(folder: Path) -> tuple[Checkpoint, dict[str, Any]]:
    """An adapter's tensors and settings; raises ValueError that names a setting other than LoRA as B A."""
    config = folder / CONFIG
    if not config.is_file():
        raise ValueError(f"{folder} holds no {CONFIG}: give the folder that peft's save_pretrained wrote")
    try:
        settings = json.loads(config.read_text())
        kind = settings.get("peft_type")
    except (ValueError, AttributeError) as error:
        raise ValueError(f"{config} is not JSON of an adapter: {error}") from error
    if kind != "LORA":
        raise ValueError(f"{config}: adapters of type {kind} are not sums of B A: merge it into its base and give both")
    for name in BEYOND:
        if settings.get(name):
            raise ValueError(f"{config}: {name} changes more than B A: merge it into its base with peft and give both")
    if settings.get("alora_invocation_tokens") is not None:
        raise ValueError(
            f"{config}: alora_invocation_tokens: the adapter acts on tokens behind its invocation alone, so no base "
            "with B A added is the same model, and its delta cannot be pruned here"
        )
    beginning = settings.get("init_lora_weights", True)
    if str(beginning).lower() not in BEGINNINGS:
        raise ValueError(
            f"{config}: init_lora_weights {beginning!r} changes the base when training begins, and B A added to the "
            "base that is given is another model; known to leave the base alone are "
            f"{', '.join(BEGINNINGS)}. Save the adapter by peft's save_pretrained(path_initial_model_for_weight_"
            "conversion=...), or merge it into the base that it was trained on and give both checkpoints"
        )
    return Checkpoint.read(folder), settings


def factors_of(adapter: Checkpoint, settings: Mapping[str, Any]) -> dict[str, Factors]:
    """Factors by the name of the weight that they change; raises ValueError that names tensors of other kinds."""
    sides: dict[tuple[str, bool], dict[str, str]] = {}
    strange = []
    for name, stored in adapter.tensors.items():
        match = FACTOR.match(name)
        if match is None or len(stored.shape) != 2:
            strange.append(name)
            continue
        sides.setdefault((match["module"], bool(match["embedding"])), {})[match["side"]] = name
    strange += [name for pair in sides.values() if len(pair) != 2 for name in pair.values()]
    if strange:
        raise ValueError(f"{adapter.path} holds what are not factors of linear layers or embeddings: {listed(strange)}")
    factors = {}
    for (module, embedding), pair in sides.items():
        rank = adapter.tensors[pair["A"]].shape[0]
        if adapter.tensors[pair["B"]].shape[1] != rank:
            raise ValueError(f"{adapter.path}: the factors of {module!r} are of different ranks")
        transposed = embedding or bool(settings.get("fan_in_fan_out"))
        scaling = scaling_of(module, rank, settings)
        factors[f"{module}.weight"] = Factors(adapter, pair["A"], pair["B"], scaling, transposed)
    return factors


def scaling_of(module: str, rank: int, settings: Mapping[str, Any]) -> float:
    """The scale of B A: alpha / rank, or alpha / √rank if the adapter is rank-stabilised."""
    patterns = settings.get("alpha_pattern") or {}
    own = next((value for key, value in patterns.items() if re.match(rf"(.*\.)?({key})$", module)), None)
    alpha = float(settings["lora_alpha"] if own is None else own)
    return alpha / (math.sqrt(rank) if settings.get("use_rslora") else rank)
