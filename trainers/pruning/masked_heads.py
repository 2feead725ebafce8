"""Masking of attention heads in a causal transformer of transformers during a block of code.

transformers has removed `head_mask` and `prune_heads`, and silently ignores a `head_mask` argument, so hooks mask the
heads. *zero* removes a head's output, its slice of the input of the attention's output projection. *uniform* makes a
head attend uniformly, by a query of zero, as the authors of "Retrieval Head Mechanistically Explains Long-Context
Factuality" (arXiv 2404.15574, Wu et al.) do.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool

from secateur.scorers.lazy import nn, torch
from secateur.selectors.masks.without_highest_heads import KeptHeads
from secateur.trainers.models.identity import is_made_for, weights_of
from secateur.trainers.pruning.kept import Kept

How = Literal["zero", "uniform"]

OUTPUTS = ("o_proj", "c_proj", "out_proj", "dense")
"""Names of the output projection in attention modules: Llama and Qwen, GPT-2, OPT, NeoX and Phi."""


@dataclass(frozen=True)
class AttentionLayer:
    """The attention of one layer: its name in the model, and its projections."""

    name: str
    output: nn.Module
    query: nn.Module | None
    """Computes queries first, head by head, maybe followed by keys and values; None if they are interleaved."""


def attention_layers(model: nn.Module) -> list[AttentionLayer]:
    """The attention of every layer, in order; raises ValueError for a model of another structure."""
    layers, kind, heads = [], type(model).__name__, heads_per_layer(model)
    for name, module in model.named_modules():
        output = next((child for child in OUTPUTS if isinstance(getattr(module, child, None), nn.Module)), None)
        if "Attention" not in type(module).__name__ or output is None:
            continue
        projection = getattr(module, output)
        if width_in(projection) % heads:
            raise ValueError(
                f"{kind}: {name}.{output} reads {width_in(projection)} numbers, which {heads} heads do not share evenly"
            )
        layers.append(AttentionLayer(name, projection, query_of(module, projection, heads)))
    expected = text_config(model).num_hidden_layers
    if len(layers) != expected:
        raise ValueError(
            f"{kind}: found {len(layers)} attention modules with an output projection ({', '.join(OUTPUTS)}) for "
            f"{expected} layers; heads can be masked in models built like Llama, Qwen, Mistral, OPT, NeoX or GPT-2"
        )
    return layers


def text_config(model: nn.Module) -> Any:
    """Configuration of the language model; raises ValueError for a module from outside transformers."""
    config = getattr(model, "config", None)
    if config is None or not hasattr(config, "get_text_config"):
        raise ValueError(f"{type(model).__name__} is not a model of transformers: load it by AutoModelForCausalLM")
    return config.get_text_config()


def heads_per_layer(model: nn.Module) -> int:
    """Number of query heads per layer; raises ValueError if the configuration has no single number."""
    heads = getattr(text_config(model), "num_attention_heads", None)
    if not isinstance(heads, int):
        raise ValueError(f"{type(model).__name__}: the configuration gives no single num_attention_heads")
    return heads


def width_in(projection: nn.Module) -> int:
    """Input width of a linear layer; transformers' Conv1D stores its weight transposed."""
    if isinstance(projection, nn.Linear):
        return projection.in_features
    weight = getattr(projection, "weight", None)
    if type(projection).__name__ == "Conv1D" and isinstance(weight, torch.Tensor):
        return weight.shape[0]
    raise ValueError(f"a projection of type {type(projection).__name__} is neither Linear nor Conv1D: not supported")


def query_of(attention: nn.Module, output: nn.Module, heads: int) -> nn.Module | None:
    """The projection whose first outputs are the queries, head by head; None if there is none."""
    alone, fused = getattr(attention, "q_proj", None), getattr(attention, "c_attn", None)
    if isinstance(alone, nn.Linear) and alone.out_features % heads == 0:
        width = alone.out_features // heads
        # With a gate beside the queries, heads are wider than in the configuration.
        return alone if width == getattr(attention, "head_dim", width) else None
    if type(fused).__name__ == "Conv1D" and getattr(fused, "nf", 0) == 3 * width_in(output):
        return fused
    return None


def check_kept(keep: KeptHeads, layers: int, heads: int) -> None:
    """Raise ValueError for a mask of another shape."""
    if keep.shape != (layers, heads):
        raise ValueError(f"the mask of heads is {list(keep.shape)}, the model has {layers} layers of {heads} heads")


@contextmanager
def masked_heads(
    model: nn.Module, keep: KeptHeads, *, how: How = "zero", decoding_only: bool = False
) -> Iterator[None]:
    """Mask heads of a model inside the block: bool `[layers, query heads]`, True keeps. Removes its hooks at the end.

    `decoding_only` masks calls with one new token only, and leaves the prefill unmasked, as the authors do. Gradients
    flow through kept heads. With grouped queries the heads are the query heads; their shared keys and values do not
    change. Raises ValueError for a model of another structure and a mask of another shape.
    """
    layers, heads = attention_layers(model), heads_per_layer(model)
    check_kept(keep, len(layers), heads)
    handles = []
    try:
        for layer, kept in zip(layers, keep, strict=True):
            if kept.all():
                continue
            gone = torch.from_numpy(~kept)
            if how == "zero":
                hook = Zeroing(gone, width_in(layer.output), decoding_only)
                handles.append(layer.output.register_forward_pre_hook(hook.before))
            else:
                projection = query_projection(layer)
                hook = Zeroing(gone, query_width(layer), decoding_only)
                handles.append(projection.register_forward_hook(hook.after))
        yield
    finally:
        for handle in handles:
            handle.remove()


def remove_heads(model: nn.Module, keep: KeptHeads, *, how: How = "zero") -> None:
    """Set weights of a model to zero, in place, with the same effect as `masked_heads`.

    For each masked head it zeroes the inputs of the output projection (`zero`), or the rows of the query projection
    (`uniform`); shapes do not change. Raises ValueError as `masked_heads` does.
    """
    layers, heads = attention_layers(model), heads_per_layer(model)
    check_kept(keep, len(layers), heads)
    for layer, kept in zip(layers, keep, strict=True):
        if kept.all():
            continue
        reads = how == "zero"
        projection: Any = layer.output if reads else query_projection(layer)
        width = width_in(layer.output) if reads else query_width(layer)
        gone = torch.from_numpy(~kept).repeat_interleave(width // heads).nonzero().ravel().to(projection.weight.device)
        with torch.no_grad():
            # A Linear's weight is [outputs, inputs], a Conv1D's [inputs, outputs].
            projection.weight.index_fill_(int(reads == isinstance(projection, nn.Linear)), gone, 0)
            if not reads and projection.bias is not None:
                projection.bias.index_fill_(0, gone, 0)


def query_projection(layer: AttentionLayer) -> nn.Module:
    """The projection that computes a layer's queries; raises ValueError if they are interleaved with others."""
    if layer.query is None:
        raise ValueError(f"{layer.name} gives no queries of their own (q_proj, c_attn): use how='zero'")
    return layer.query


def query_width(layer: AttentionLayer) -> int:
    """Width of a layer's queries over all heads."""
    return int(getattr(layer.query, "out_features", None) or width_in(layer.output))


class Zeroing:
    """Hooks that zero some heads in the first `width` numbers of `[b, tokens, numbers]`."""

    def __init__(self, gone: Bool[torch.Tensor, " heads"], width: int, decoding_only: bool) -> None:
        self.gone = gone.repeat_interleave(width // len(gone))
        self.decoding_only = decoding_only

    def zeroed(self, numbers: torch.Tensor) -> torch.Tensor:
        """The numbers with zeros for masked heads; unchanged for a prefill with `decoding_only`."""
        if self.decoding_only and numbers.shape[1] != 1:
            return numbers
        if self.gone.device != numbers.device:
            self.gone = self.gone.to(numbers.device)
        rest = numbers.shape[-1] - len(self.gone)
        return numbers.masked_fill(nn.functional.pad(self.gone, (0, rest)), 0)

    def before(self, _: nn.Module, args: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        """Forward pre-hook of an output projection."""
        return (self.zeroed(args[0]), *args[1:])

    def after(self, _: nn.Module, __: Any, output: torch.Tensor) -> torch.Tensor:
        """Forward hook of a projection of queries."""
        return self.zeroed(output)


def kept_heads(model: nn.Module, keep: KeptHeads, settings: Mapping[str, Any] | None = None) -> Kept:
    """The kept heads of a model for a manifest: a bool `[heads]` for the attention of each layer."""
    layers = attention_layers(model)
    check_kept(keep, len(layers), heads_per_layer(model))
    groups = {layer.name: kept for layer, kept in zip(layers, keep, strict=True)}
    return Kept("head", groups, weights_of(model), settings or {})


def heads_of(model: nn.Module, kept: Kept) -> KeptHeads:
    """The mask in a manifest's kept units, for `masked_heads`; raises ValueError for another model and other units."""
    names = [layer.name for layer in attention_layers(model)]
    if kept.unit != "head" or sorted(kept.groups) != sorted(names):
        raise ValueError(f"the kept units are {kept.unit}s of {list(kept.groups)[:3]} …, not heads of {names[0]} …")
    if not is_made_for(kept.made_for, model):
        raise ValueError("the heads were kept of a model with other weights than this one")
    return np.stack([kept.groups[name] for name in names])
