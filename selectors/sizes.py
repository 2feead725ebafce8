"""How large the task of a selector is: what the memory that it needs follows from."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Sizes:
    """Samples, dimensions of their embeddings (or numbers of their curves), and samples of the largest stratum."""

    samples: int
    dimensions: int = 0
    largest: int = 0


Memory = Callable[[Sizes], int]
"""Bytes that a selector holds beside what it is given."""
