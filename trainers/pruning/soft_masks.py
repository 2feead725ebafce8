"""Soft masks computed from the weights, for pruning during training: PDP.

Cho, Adya & Naik, "PDP: Parameter-free Differentiable Pruning is All You Need", NeurIPS 2023, arXiv 2305.11203, section
3: m(w) = sigmoid((w² - t²) / τ), where t is the middle between the smallest kept and the largest pruned |w|. The
forward pass uses m(w) w, so weights near the threshold still move, and pruned ones can come back. The mask has no
learned parameters. Weight decay acts on w, not on m(w) w.
"""

from __future__ import annotations

import copy
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from secateur.scorers.lazy import LazyModule, nn, torch
from secateur.selectors.draws.keyed_permutation import derive_seed
from secateur.selectors.draws.ranks import random_keys
from secateur.selectors.masks.global_mask import global_mask
from secateur.selectors.masks.groups import Masks, counts_in
from secateur.selectors.masks.largest_of_each import largest_of_each
from secateur.trainers.contract import Data
from secateur.trainers.loop.batch_statistics import measured_again
from secateur.trainers.pruning.held_masks import apply, kept_weights, maskable
from secateur.trainers.pruning.kept import Kept

if TYPE_CHECKING:
    from secateur.trainers.pruning import soft_mask as soft_mask
else:
    soft_mask = LazyModule("secateur.trainers.pruning.soft_mask")

Form = Literal["unstructured", "n_of_m", "channel"]
"""Units of pruning: single weights of a layer; N of each M consecutive inputs; whole rows (filters)."""
UNDECIDED = -1


def with_soft_masks(
    model: nn.Module,
    *,
    form: Form = "unstructured",
    m: int = 4,
    temperature: float = 1.0,
    absolute: bool = False,
    through: bool = False,
) -> nn.Module:
    """A copy with a `SoftMask` on each prunable weight; the argument `start` of `train`.

    With `through` gradients also go through the threshold. Form `channel` has no mask on the last layer, whose rows are
    the outputs. Raises ValueError for a temperature below 0, and for a model that the form does not fit.
    """
    if temperature < 0:
        raise ValueError(f"a temperature is at least 0, not {temperature}")
    masked = copy.deepcopy(model)
    weights = maskable(masked)
    names = list(weights)[:-1] if form == "channel" else list(weights)
    if not names:
        raise ValueError(f"the model has no weight to prune by {form}: use one with hidden layers")
    for name in names:
        shape = weights[name].shape
        if form == "n_of_m" and (m < 2 or shape[1] % m):
            raise ValueError(f"{name} has {shape[1]} inputs, not groups of {m}: change m (from 2) or the width")
        size = {"unstructured": weights[name].numel(), "n_of_m": m, "channel": shape[0]}[form]
        how: dict[str, Any] = {"form": form, "m": m, "temperature": temperature, "absolute": absolute}
        mask = soft_mask.SoftMask(size, **how, through=through)
        prefix, _, own = name.rpartition(".")
        nn.utils.parametrize.register_parametrization(masked.get_submodule(prefix), own, mask.to(weights[name].device))
    return masked


def soft_masks(model: nn.Module) -> dict[str, tuple[soft_mask.SoftMask, torch.Tensor]]:
    """Each soft mask of a model with its unmasked weight, by the weight's name in the plain model.

    Raises ValueError if there is none.
    """
    found: dict[str, tuple[soft_mask.SoftMask, torch.Tensor]] = {}
    for prefix, module in model.named_modules():
        for name, chain in getattr(module, "parametrizations", {}).items():
            if isinstance(chain[0], soft_mask.SoftMask):
                found[f"{prefix}.{name}" if prefix else name] = (chain[0], chain.original.detach())
    if not found:
        raise ValueError("the model has no soft masks: give train a start from with_soft_masks")
    return found


@dataclass(frozen=True)
class PruningSchedule:
    """The pruned share of each layer over a run; the argument `after_step` of `train`.

    Training is dense for the share `dense` of the run. Then a ranking of all units together settles how many of each
    layer stay at the end: exactly `keep` (a share or a count) in total, and at least one per layer. Over the share
    `ramp` the number of pruned units rises to that as 1 - (1 - x)^`power`: linear by default as in PDP, 3 as in gradual
    magnitude pruning (Zhu & Gupta 2017, arXiv 1710.01878). Groups of M all keep the same number, without a ranking. For
    the share `fine_tune` at the end masks are hard. Raises ValueError for shares outside [0, 1] or with a sum above 1,
    and for a `power` not above 0.
    """

    keep: int | float
    dense: float = 0.2
    ramp: float = 0.5
    fine_tune: float = 0.0
    power: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        shares = (self.dense, self.ramp, self.fine_tune)
        if min(shares) < 0 or sum(shares) > 1 + 1e-9:
            raise ValueError(f"dense, ramp and fine_tune are shares of the run, of 1 together at most, not {shares}")
        if self.power <= 0:
            raise ValueError(f"the power of the ramp is above 0, not {self.power}")

    @property
    def made_of(self) -> dict[str, Any]:
        """The settings, which identify it in snapshots."""
        return asdict(self)

    def __call__(self, model: nn.Module, steps_done: int, steps: int) -> None:
        """Set the number of pruned units after so many steps; first call `settle` if it is due."""
        behind = steps_done - self.dense * steps
        if behind < 0:
            return
        masks = [mask for mask, _ in soft_masks(model).values()]
        if any(int(mask.final) == UNDECIDED for mask in masks):
            settle(model, self.keep, seed=self.seed)
        share = min(1.0, behind / (self.ramp * steps)) if self.ramp else 1.0
        for mask in masks:
            mask.pruned.fill_(int(int(mask.final) * (1 - (1 - share) ** self.power) + 0.5))
            mask.hard.fill_(int(steps_done > (1 - self.fine_tune) * steps))


def settle(model: nn.Module, keep: int | float, *, seed: int) -> None:
    """Decide from the current weights how many units of each layer are pruned at the end. In place.

    Raises ValueError for a budget that the layers, or groups of M, cannot keep exactly.
    """
    found = soft_masks(model)
    first = next(iter(found.values()))[0]
    if first.form == "n_of_m":
        stay = dict.fromkeys(found, n_of(keep, first.m))
    else:
        sizes = {name: magnitudes(mask, weight) for name, (mask, weight) in found.items()}
        stay = counts_in(global_mask(sizes, keep, seed=seed, least=1))
    for name, (mask, _) in found.items():
        mask.final.fill_(mask.size - stay[name])


def n_of(keep: int | float, m: int) -> int:
    """The N of N:M for this share; raises ValueError if it is no whole number from 1."""
    count = round(keep * m)
    if isinstance(keep, int) or not 1 <= count <= m or abs(count - keep * m) > 1e-6:
        raise ValueError(f"keep {keep} of groups of {m} is not a whole number of weights: use one of 1/{m}, 2/{m}, … 1")
    return count


def magnitudes(mask: soft_mask.SoftMask, weight: torch.Tensor) -> np.ndarray:
    """|w| of each weight or the L2 norm of each filter, float32 `[groups, size]`."""
    return mask.grouped(weight.float().square()).sqrt().cpu().numpy()


def hard_masks(model: nn.Module, *, seed: int, draw: bool = False) -> Masks:
    """Final masks by the weights' names, with exact counts: the largest units, or with `draw` as many at random.

    Raises ValueError before `settle` or the schedule has decided these counts.
    """
    masks: Masks = {}
    for place, (name, (mask, weight)) in enumerate(soft_masks(model).items()):
        if int(mask.final) == UNDECIDED:
            raise ValueError("how much of each layer goes is not decided: train with a PruningSchedule first")
        values, own = magnitudes(mask, weight), derive_seed(seed, place)
        if draw:
            values = random_keys(values.size, own).reshape(values.shape) / 2.0**64
        stays = torch.from_numpy(largest_of_each(values, mask.size - int(mask.final), seed=own))
        masks[name] = mask.spread(stays, weight.shape).expand(weight.shape).contiguous().numpy()
    return masks


def without_soft_masks(model: nn.Module) -> nn.Module:
    """A plain, dense copy with the unmasked weights."""
    plain = copy.deepcopy(model)
    for name in soft_masks(plain):
        prefix, _, own = name.rpartition(".")
        module = plain.get_submodule(prefix)
        # Copies share the class with the mask's property, and torch would remove the property from that class.
        kind = type(module)
        module.__class__ = type(kind.__name__, kind.__bases__, dict(kind.__dict__))
        nn.utils.parametrize.remove_parametrizations(module, own, leave_parametrized=False)
    return plain


def harden(model: nn.Module, data: Data, *, seed: int) -> tuple[nn.Module, Kept]:
    """A plain copy with exact zeros for pruned weights, and its kept units: exactly the schedule's budget.

    Measures batch norm again over the training `data`, because its statistics are those of the soft network. Raises
    ValueError as `hard_masks` does.
    """
    masks = hard_masks(model, seed=seed)
    plain = without_soft_masks(model)
    kept = kept_weights(plain, masks)
    apply(plain, kept)
    return measured_again(plain, data), kept
