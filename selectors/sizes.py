"""Sizes of a selector's task, which decide the memory that it needs."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Sizes:
    """Samples, dimensions of their embeddings (or numbers of their curves), and samples of the largest stratum."""

    samples: int
    dimensions: int = 0
    largest: int = 0


Memory = Callable[[Sizes], int]
"""From sizes to the bytes that a selector holds beside its arguments."""
