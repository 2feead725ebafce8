"""Fingerprints of models: of the names and shapes of their tensors, or of these and their contents."""

from __future__ import annotations

from collections.abc import Mapping

import xxhash

from secateur.scorers.lazy import nn, torch


def shapes_of(model: nn.Module) -> str:
    """`shapes xxh3:…` of names and shapes of all parameters and buffers: equal for models of one architecture."""
    return f"shapes xxh3:{digest_of(model.state_dict(), contents=False)}"


def weights_of(model: nn.Module) -> str:
    """`weights xxh3:…` of names, shapes, types and bytes of all parameters and buffers: equal for equal models."""
    return f"weights xxh3:{digest_of(model.state_dict(), contents=True)}"


def is_made_for(made_for: str, model: nn.Module) -> bool:
    """Whether the text is `shapes_of` or `weights_of` this model; raises ValueError for any other kind of text."""
    return is_made_for_state(made_for, model.state_dict())


def is_made_for_state(made_for: str, state: Mapping[str, torch.Tensor]) -> bool:
    """`is_made_for` for a model's state."""
    kind, _, told = made_for.partition(" xxh3:")
    if kind not in ("shapes", "weights"):
        raise ValueError(f"made for {made_for!r}, which says neither the shapes nor the weights of a model")
    return digest_of(state, contents=kind == "weights") == told


def digest_of(state: Mapping[str, torch.Tensor], *, contents: bool) -> str:
    """XXH3-128 over the state of a model, 32 hexadecimal digits."""
    digest = xxhash.xxh3_128()
    for name, value in sorted(state.items()):
        digest.update(f"{name} {list(value.shape)};".encode())
        if contents:
            plain = value.detach().cpu().contiguous()
            digest.update(f"{plain.dtype};".encode())
            if plain.numel():
                digest.update(plain.view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
