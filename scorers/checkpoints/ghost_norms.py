"""Length of every sample's own gradient by all parameters, from one forward and one backward pass of the batch.

A layer's gradient for one sample is a product of its input and the gradient of its output, so its length follows from
these two without ever storing the gradient ("ghost norms": Goodfellow 2015, Efficient Per-Example
Gradient Computations; Li et al. 2022, Large Language Models Can Be Strong Differentially Private Learners, section 4;
Bu et al. 2022, Scalable and Efficient Training of Large Convolutional Neural Networks with Differential Privacy, for
the choice between the two ways to contract).

Layers known here: Linear, Conv2d, BatchNorm1d/2d/3d in evaluation mode, LayerNorm, GroupNorm and Embedding.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import partial

from secateur.scorers.lazy import functional, nn, torch

BLOCK = {"cpu": 1 << 20, "cuda": 1 << 26}
"""Most elements of a workspace of several samples: it stays in a CPU's cache, or fills a GPU."""


def squared_gradient_norms(
    model: nn.Module, inputs: torch.Tensor, loss: Callable[[torch.Tensor], torch.Tensor]
) -> torch.Tensor:
    """Squared length of each sample's gradient by all parameters, frozen or not: float64 `[b]`.

    `loss` turns logits `[b, classes]` into the sum of the samples' own losses. Parameters get no gradient.
    Raises ValueError that names the layer where a batch norm is in training mode, where a
    parameter that matters belongs to no layer known here, or where a layer is used more than once, shares its
    parameters, or does not see samples along its first dimension.
    """
    layers = checked_layers(model, inputs[:1])
    total = torch.zeros(len(inputs), dtype=torch.float64, device=inputs.device)
    entries: list[torch.Tensor] = []

    def watch(layer: nn.Module, given: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
        seen = given[0].detach()
        if len(seen) != len(total):
            # Position embeddings and the like: one row for all samples, but each has its own gradient.
            seen, output = (each.expand(len(total), *each.shape[1:]) for each in (seen, output))
        if not output.requires_grad:
            entries.append(output.detach().requires_grad_())
            output = entries[-1].clone()
        output.register_hook(partial(add, layer, seen))  # type: ignore[no-untyped-call]
        return output

    def add(layer: nn.Module, seen: torch.Tensor, gradient: torch.Tensor) -> None:
        with torch.no_grad():
            for part in parts_of(layer, seen, gradient):
                total.add_(part)

    handles = [layer.register_forward_hook(watch) for layer in layers]
    try:
        with torch.enable_grad():
            # Detached parameters spare the backward pass the batch's own weight gradients.
            detached = {name: parameter.detach() for name, parameter in model.named_parameters()}
            logits = torch.func.functional_call(model, detached, (inputs,))
            torch.autograd.grad(loss(logits), entries)
    finally:
        for handle in handles:
            handle.remove()
    return total


def checked_layers(model: nn.Module, one: torch.Tensor) -> list[nn.Module]:
    """The layers with parameters that one sample passes through; raises ValueError as `squared_gradient_norms` does."""
    names = {module: name or type(module).__name__ for name, module in model.named_modules()}
    refuse_mixing(names)
    known = [
        module for module in names if isinstance(module, known_layers()) and list(module.parameters(recurse=False))
    ]
    used: Counter[nn.Module] = Counter()
    apart: dict[nn.Module, bool] = {}

    def note(layer: nn.Module, given: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        used[layer] += 1
        apart[layer] = bool(given) and len(given[0]) == len(output) == 1

    leaves = {name: parameter.detach().requires_grad_() for name, parameter in model.named_parameters()}
    handles = [layer.register_forward_hook(note) for layer in known]
    try:
        with torch.enable_grad():
            logits = torch.func.functional_call(model, leaves, (one,))
    finally:
        for handle in handles:
            handle.remove()
    layers: list[nn.Module] = [layer for layer in known if used[layer]]
    owners = Counter(id(parameter) for layer in layers for parameter in layer.parameters(recurse=False))
    refuse_unknown(model, logits, {n: leaves[n] for n, p in model.named_parameters() if id(p) not in owners})
    for layer in layers:
        if used[layer] > 1 or any(owners[id(parameter)] > 1 for parameter in layer.parameters(recurse=False)):
            raise ValueError(f"layer {names[layer]!r} is used twice or shares parameters: gradients would add up")
        if not apart[layer]:
            raise ValueError(f"layer {names[layer]!r} must see samples along its first dimension, and only there")
    return layers


def refuse_mixing(names: Mapping[nn.Module, str]) -> None:
    """Raise ValueError that names a layer under which no sample has a gradient of its own."""
    for module, name in names.items():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and (module.training or module.running_mean is None):
            raise ValueError(
                f"layer {name!r} is a batch norm that mixes samples, so that none has a gradient of its own; "
                "call model.eval() and keep running statistics"
            )
        if isinstance(module, nn.Embedding) and (module.max_norm is not None or module.scale_grad_by_freq):
            raise ValueError(f"layer {name!r}: max_norm and scale_grad_by_freq mix samples")


def refuse_unknown(model: nn.Module, logits: torch.Tensor, others: Mapping[str, torch.Tensor]) -> None:
    """Raise ValueError that names a parameter, of those outside of layers known here, that the logits depend on."""
    reached = torch.autograd.grad(logits.sum(), list(others.values()), allow_unused=True) if others else ()
    for name, gradient in zip(others, reached, strict=True):
        if gradient is not None:
            owner = type(model.get_submodule(name.rpartition(".")[0])).__name__
            known = ", ".join(kind.__name__.strip("_") for kind in known_layers())
            raise ValueError(
                f"parameter {name!r} of a {owner} has no per-sample gradient norm here; layers known are {known}, "
                "called as modules; score 'last_layer_grand' takes any network"
            )


def parts_of(layer: nn.Module, seen: torch.Tensor, gradient: torch.Tensor) -> Iterator[torch.Tensor]:
    """Squared gradient length by each parameter of a layer, `[b]`, from its input and the gradient of its output."""
    if isinstance(layer, nn.Linear):
        rows, outer = seen.flatten(1, -2) if seen.ndim > 2 else seen.unsqueeze(1), gradient
        outer = outer.flatten(1, -2) if outer.ndim > 2 else outer.unsqueeze(1)
        t, p, d = *rows.shape[1:], outer.shape[2]
        yield blockwise(contracted, rows, outer, per_sample=2 * t * t if pairs_are_cheaper(t, p, d) else p * d)
        if layer.bias is not None:
            yield squared(outer.sum(dim=1))
    elif isinstance(layer, nn.Conv2d):
        yield convolution(layer, seen, gradient)
        if layer.bias is not None:
            yield squared(gradient.sum(dim=(2, 3)))
    elif isinstance(layer, nn.Embedding):
        yield embedding(layer, seen.flatten(1) if seen.ndim > 1 else seen.unsqueeze(1), gradient)
    else:
        yield from scale_and_shift(layer, seen, gradient)


def squared(values: torch.Tensor) -> torch.Tensor:
    """Squared Euclidean length of each sample, `[b, …]` -> `[b]`."""
    return values.flatten(1).square().sum(dim=1)


def pairs_are_cheaper(t: int, p: int, d: int) -> bool:
    """Whether two Gram matrices over `t` positions multiply less than a product of `p x t` and `t x d`."""
    return t * (p + d) < p * d


def contracted(rows: torch.Tensor, outer: torch.Tensor) -> torch.Tensor:
    """Squared length of `rows^T @ outer`, `[b, t, p]` and `[b, t, d]` -> `[b]`, by whichever way multiplies less.

    Either that product, p x d, or the sum over pairs of positions of the product of two Gram matrices, t x t.
    """
    t, p, d = rows.shape[1], rows.shape[2], outer.shape[2]
    if t == 1:
        return squared(rows) * squared(outer)
    if pairs_are_cheaper(t, p, d):
        return ((rows @ rows.mT) * (outer @ outer.mT)).sum(dim=(1, 2))
    return squared(rows.mT @ outer)


def blockwise(
    contract: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    seen: torch.Tensor,
    gradient: torch.Tensor,
    *,
    per_sample: int,
) -> torch.Tensor:
    """`contract` by as many samples at a time as the workspace holds, `[b]`."""
    step = max(1, BLOCK.get(seen.device.type, BLOCK["cuda"]) // per_sample)
    blocks = zip(torch.split(seen, step), torch.split(gradient, step), strict=True)
    return torch.cat([contract(*block) for block in blocks])


def convolution(layer: nn.Conv2d, seen: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    """Squared gradient length by the kernel, `[b]`: a linear layer of the patches, once per group."""
    groups, positions = layer.groups, gradient.shape[2] * gradient.shape[3]
    patch, channels = layer.weight[0].numel(), layer.out_channels // groups

    def contract(images: torch.Tensor, outer: torch.Tensor) -> torch.Tensor:
        mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
        padded = functional.pad(images, layer._reversed_padding_repeated_twice, mode=mode)
        patches = functional.unfold(padded, layer.kernel_size, layer.dilation, 0, layer.stride)
        rows = patches.reshape(len(images) * groups, patch, positions).mT
        flat = outer.reshape(len(images) * groups, channels, positions).mT
        return contracted(rows, flat).reshape(len(images), groups).sum(dim=1)

    return blockwise(contract, seen, gradient, per_sample=groups * patch * (positions + channels))


def embedding(layer: nn.Embedding, ids: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    """Squared gradient length by the table, `[b]`: positions that read the same row add up before squaring."""
    gradient = gradient.reshape(*ids.shape, -1)
    if layer.padding_idx is not None:
        gradient = gradient * (ids != layer.padding_idx).unsqueeze(2)

    def contract(rows: torch.Tensor, outer: torch.Tensor) -> torch.Tensor:
        return ((outer @ outer.mT) * (rows.unsqueeze(1) == rows.unsqueeze(2))).sum(dim=(1, 2))

    return blockwise(contract, ids, gradient, per_sample=2 * ids.shape[1] ** 2)


def scale_and_shift(layer: nn.Module, seen: torch.Tensor, gradient: torch.Tensor) -> Iterator[torch.Tensor]:
    """Squared gradient lengths by scale and shift of a normalising layer, `[b]` each."""
    if isinstance(layer, nn.LayerNorm):
        normal = functional.layer_norm(seen, layer.normalized_shape, None, None, layer.eps)
        summed = tuple(range(1, seen.ndim - len(layer.normalized_shape)))
    elif isinstance(layer, nn.GroupNorm):
        normal = functional.group_norm(seen, layer.num_groups, None, None, layer.eps)
        summed = tuple(range(2, seen.ndim))
    else:
        assert isinstance(layer, nn.modules.batchnorm._BatchNorm)
        normal = functional.batch_norm(seen, layer.running_mean, layer.running_var, None, None, False, 0.0, layer.eps)
        summed = tuple(range(2, seen.ndim))
    scale = gradient * normal
    yield squared(scale.sum(dim=summed) if summed else scale)
    if layer.bias is not None:
        yield squared(gradient.sum(dim=summed) if summed else gradient)


def known_layers() -> tuple[type[nn.Module], ...]:
    """Layers whose gradients `parts_of` knows."""
    return nn.Linear, nn.Conv2d, nn.modules.batchnorm._BatchNorm, nn.LayerNorm, nn.GroupNorm, nn.Embedding
