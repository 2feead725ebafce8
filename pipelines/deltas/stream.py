"""Prune a fine-tuning delta on disk: rescale the kept part and add it to the base, tensor by tensor, block by block.

The result has the fine-tuned checkpoint's own files, headers and types, so that the same programs read it. Beside it
lies the mask as packed bits.
"""

import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal

import numpy as np
import torch

from secateur.pipelines.deltas.files import FLOATS, Checkpoint, Stored, listed, spans
from secateur.pipelines.deltas.sources import DeltaSource
from secateur.pipelines.storage.packed_masks import BITS, header, write_bits
from secateur.scorers.networks.delta_magnitude import delta_magnitude
from secateur.scorers.networks.delta_wanda import delta_wanda
from secateur.scorers.networks.output_change import output_change
from secateur.selectors.contract import nearest
from secateur.selectors.masks.delta_masks import (
    ENTRIES,
    Block,
    Cut,
    cut_of,
    draw_count,
    draw_each,
    keep_by_row,
    tensor_budgets,
    tensor_seed,
)
from secateur.trainers.contract import Progress
from secateur.trainers.passes.layer_inputs import LayerInputs
from secateur.trainers.pruning.delta_rescaling import (
    check_keep,
    made_up,
    q_by_bound,
    q_by_least_bound,
    q_by_moments,
)

Select = Literal["random", "magnitude", "wanda"]
Over = Literal["tensor", "row", "all"]
Rescale = Literal["dare", "none", "moments", "bound", "least_bound", "search"]
BY_LAYER: Final[Mapping[str, Callable[..., Any]]] = {
    "moments": q_by_moments,
    "bound": q_by_bound,
    "least_bound": q_by_least_bound,
}
"""Rules that give each layer its q from its mean inputs."""
DOCUMENT: Final = "manifest.json"
"""The manifest of a pruned checkpoint, which is not copied when that is pruned again."""
Blocks = Iterator[tuple[int, int, np.ndarray]]
"""First entry, entry behind the last, and mask of each block of a tensor."""
ALONG: Final = (".json", ".txt", ".model", ".jinja", ".md")
"""Endings of small files beside the weights (configuration, tokenizer) that are copied."""
COPIED: Final = 1 << 22


@dataclass(frozen=True)
class DeltaChoice:
    """The share of a delta to keep, its selection, and its rescaling.

    `random` is DARE: exactly the budget of each tensor or, with `each`, every entry by itself, as in the paper.
    `magnitude` (|Δ|) and `wanda` (|Δ| · ‖x‖, of matrices alone) keep the highest of each tensor, of each row of a
    matrix (an output of a layer), or of `all` tensors together. `rescale` divides kept entries by q: `dare` by `keep`,
    a number by itself, `moments`, `bound` and `least_bound` by a q for each layer, `search` by the best q over
    evaluated checkpoints; the default is `dare` for random entries and `none` for others. Where counts round a tensor's
    share, q follows it (`made_up`).
    """

    keep: float
    select: Select = "random"
    over: Over = "tensor"
    each: bool = False
    rescale: Rescale | float | None = None
    eta: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        check_keep(self.keep)
        if self.select == "random" and self.over != "tensor":
            raise ValueError("entries are drawn in each tensor: leave `over` out, or choose by magnitude or wanda")
        if self.each and self.select != "random":
            raise ValueError("only random entries are drawn each by itself: leave `each` out, or select random")
        if self.rescale in ("bound", "least_bound") and self.eta is None:
            raise ValueError(
                "a q by the bound needs eta, which is chosen by evaluating models (the paper's: 0.27 … 1.01)"
            )
        if not isinstance(self.rescale, str | None) and not self.rescale > 0:
            raise ValueError(f"q divides the entries that stay, so it must be above 0, not {self.rescale}")

    @property
    def rescaling(self) -> Rescale | float:
        """The rescaling of kept entries, the default filled in."""
        if self.rescale is None:
            return "dare" if self.select == "random" else "none"
        return self.rescale


@dataclass(frozen=True)
class TensorCount:
    """Entries of a tensor's delta, the number of kept ones, and their divisor."""

    entries: int
    kept: int
    q: float


def write_pruned(
    source: DeltaSource,
    folder: Path,
    masks: Callable[[str], Blocks],
    divisors: Mapping[str, float],
    progress: Progress | None = None,
) -> dict[str, TensorCount]:
    """Write base + kept delta / q of every tensor, its masks and the copied files into an empty folder.

    `masks` yields first, stop and mask of each block. Arithmetic is in float32 (float64 where a tensor is), the result
    in the layout's own type; tensors without a divisor are copied. Raises ValueError, naming the tensor, for a delta
    that is not finite and a result out of its type's range.
    """
    layout, done = source.layout, 0
    counts: dict[str, TensorCount] = {}
    with (folder / BITS).open("wb") as masks_file:
        masks_file.write(header({name: layout.tensors[name].shape for name in divisors}))
        for file in layout.files:
            place = folder / file.relative_to(layout.path.parent)
            place.parent.mkdir(parents=True, exist_ok=True)
            with place.open("wb") as written:
                written.write(layout.headers[file])
                for name, stored in layout.tensors.items():
                    if stored.file != file:
                        continue
                    if name in divisors:
                        blocks = _written(source, name, masks(name), divisors[name], written)
                        counts[name] = TensorCount(stored.entries, write_bits(blocks, masks_file), divisors[name])
                    else:
                        copy_bytes(stored, written)
                    done += 1
                    if progress:
                        progress(done, len(layout.tensors))
    copy_along(layout, folder)
    return counts


def check_inputs(source: DeltaSource, choice: DeltaChoice, inputs: Mapping[str, LayerInputs]) -> None:
    """Raise ValueError for layers' inputs that are missing, or of another width than the layers."""
    layers = source.layout.tensors
    wide = [
        f"{name} [{len(each.means)}] and {list(layers[name].shape)}"
        for name, each in inputs.items()
        if name in layers and (len(layers[name].shape) != 2 or layers[name].columns != len(each.means))
    ]
    if wide:
        raise ValueError(f"the inputs are of other layers than the checkpoint's: {listed(wide)}")
    needing = choice.rescaling if choice.rescaling in BY_LAYER else ""
    if needing and not any(name in inputs for name in source.names):
        raise ValueError(f"a q by {needing} needs the mean inputs of layers; none of the tensors has any (--inputs)")
    if choice.select == "wanda" and (lacking := [name for name in source.names if name not in inputs]):
        raise ValueError(f"wanda needs the inputs of every layer; leave these out, or record theirs: {listed(lacking)}")


@dataclass(frozen=True)
class Scored:
    """Blocks of scores and masks of tensors, all by the names of their twins."""

    source: DeltaSource
    choice: DeltaChoice
    inputs: Mapping[str, LayerInputs]

    def seed_of(self, name: str) -> int:
        return tensor_seed(self.choice.seed, self.source.twins[name])

    def spans(self, name: str) -> Iterator[tuple[int, int]]:
        by_rows = self.source.by_rows or self.choice.over == "row" or self.choice.select == "wanda"
        return spans(self.source.layout.tensors[name], ENTRIES, whole_rows=by_rows)

    @cached_property
    def budgets(self) -> dict[str, int]:
        """Entries to keep of each tensor."""
        entries = {name: self.source.layout.tensors[name].entries for name in self.source.names}
        budgets = tensor_budgets(entries, self.choice.keep)
        return {name: budgets[self.source.twins[name]] for name in budgets}

    def scores(self, name: str, first: int, stop: int) -> np.ndarray:
        delta = _delta(self.source, name, first, stop)[1].float().numpy()
        if self.choice.select == "magnitude":
            return delta_magnitude(delta)
        columns = self.source.layout.tensors[name].columns
        return delta_wanda(delta.reshape(-1, columns), self.inputs[name].norms).reshape(-1)

    def blocks(self, names: tuple[str, ...]) -> Iterator[Block]:
        for name in names:
            for first, stop in self.spans(name):
                yield self.scores(name, first, stop), first, self.seed_of(name)

    def masks(self, name: str, cut: Cut | None) -> Blocks:
        """(first, stop, mask) of each block of a tensor."""
        stored, seed = self.source.layout.tensors[name], self.seed_of(name)
        drawn, rowwise = None, self.choice.over == "row" and len(stored.shape) > 1
        counted = not self.choice.each and self.choice.over != "all" and not rowwise
        if counted and (self.choice.select == "random" or not self.budgets[name]):
            drawn = draw_count(stored.entries, self.budgets[name], seed)
        elif counted:
            cut = cut_of(lambda: self.blocks((name,)), self.budgets[name])
        for first, stop in self.spans(name):
            if drawn is not None:
                mask = drawn[first:stop]
            elif self.choice.select == "random":
                mask = draw_each(first, stop, self.choice.keep, seed)
            elif rowwise:
                scores = self.scores(name, first, stop).reshape(-1, stored.columns)
                mask = keep_by_row(scores, max(1, nearest(self.choice.keep, scores.shape[1])), first, seed).reshape(-1)
            else:
                assert cut is not None
                mask = cut((self.scores(name, first, stop), first, seed))
            yield first, stop, mask


def cut_over_all(scored: Scored) -> Cut | None:
    """The cut through the scores of all tensors, for a choice over all of them."""
    if scored.choice.over != "all":
        return None
    return cut_of(lambda: scored.blocks(scored.source.names), sum(scored.budgets.values()))


def divisors_of(
    source: DeltaSource, choice: DeltaChoice, inputs: Mapping[str, LayerInputs], budgets: Mapping[str, int]
) -> dict[str, float]:
    """The q of every tensor.

    By layer, a bias has the q of its weight, whose scores it joins as one more column of input 1, and tensors without
    recorded inputs have the mean over layers.
    """
    rescaling = choice.rescaling

    def rounded(q: dict[str, float]) -> dict[str, float]:
        if choice.select != "random" or choice.each or rescaling == "none":
            return q
        entries = {name: max(source.layout.tensors[name].entries, 1) for name in q}
        return {name: made_up(each, choice.keep, budgets[name], entries[name]) for name, each in q.items()}

    if rescaling not in BY_LAYER:
        q = {"dare": choice.keep, "none": 1.0}.get(str(rescaling)) or float(rescaling)
        return rounded(dict.fromkeys(source.names, q))
    divisors: dict[str, float] = {}
    for name in source.names:
        if name not in inputs:
            continue
        bias = bias_of(name)
        sums, squares = _changes(source, name, inputs[name].means, bias if bias in source.names else None)
        settings = {} if rescaling == "moments" else {"eta": choice.eta}
        divisors[name] = BY_LAYER[str(rescaling)](sums, squares, choice.keep, **settings).q
    mean = float(np.mean(list(divisors.values())))
    weights = {bias_of(name): q for name, q in divisors.items()}
    return rounded({name: divisors.get(name, weights.get(name, mean)) for name in source.names})


def bias_of(weight: str) -> str:
    """Name of the bias of the layer with this weight."""
    return weight.removesuffix("weight") + "bias"


def _changes(source: DeltaSource, name: str, means: np.ndarray, bias: str | None) -> tuple[np.ndarray, np.ndarray]:
    stored = source.layout.tensors[name]
    parts = [
        output_change(_delta(source, name, first, stop)[1].float().numpy().reshape(-1, stored.columns), means)
        for first, stop in spans(stored, ENTRIES, whole_rows=True)
    ]
    sums, squares = (np.concatenate(each) for each in zip(*parts, strict=True))
    if bias is not None:
        shift = _delta(source, bias, 0, source.layout.tensors[bias].entries)[1].double().numpy()
        sums, squares = sums + shift, squares + np.square(shift)
    return sums, squares


def _delta(source: DeltaSource, name: str, first: int, stop: int) -> tuple[torch.Tensor, torch.Tensor]:
    before, delta = source.block(name, first, stop)
    if not torch.isfinite(delta).all():
        raise ValueError(f"the delta of {name!r} is NaN or infinite: one of the checkpoints is broken there")
    return before, delta


def _written(source: DeltaSource, name: str, masks: Blocks, divisor: float, written: BinaryIO) -> Iterator[np.ndarray]:
    """Write a pruned tensor; yields the mask of each block after it is written."""
    kind = FLOATS[source.layout.tensors[name].dtype]
    for first, stop, mask in masks:
        before, delta = _delta(source, name, first, stop)
        values = torch.where(torch.from_numpy(mask), before + delta / divisor, before).to(kind)
        if not torch.isfinite(values).all():
            raise ValueError(f"{name!r} divided by q = {divisor:g} does not fit into {kind}: take a larger q or keep")
        written.write(values.view(torch.uint8).numpy().data)
        yield mask


def copy_bytes(stored: Stored, written: BinaryIO) -> None:
    """Copy a tensor."""
    with stored.file.open("rb") as file:
        file.seek(stored.start)
        left = stored.stop - stored.start
        while left:
            content = file.read(min(left, COPIED))
            if not content:
                raise ValueError(f"{stored.file} became shorter while it was read")
            written.write(content)
            left -= len(content)


def copy_along(layout: Checkpoint, folder: Path) -> None:
    """Copy the index and, for a folder, the small files in it, so that the new one loads the same way."""
    if layout.index is not None:
        shutil.copyfile(layout.index, folder / layout.index.name)
    for file in sorted(layout.folder.iterdir()) if layout.folder else ():
        if file.is_file() and file.suffix in ALONG and not file.name.endswith((".index.json", DOCUMENT)):
            shutil.copyfile(file, folder / file.name)
