"""Embeddings by the processes of a Ray cluster: each computes whole blocks, and writes them to their places.

A process computes a block in the batches and with the number of threads of the local pass, so that it has the same
bytes on processors of one kind. The driver does all fitting, once.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from secateur.pipelines.data.row_texts import RowTexts
from secateur.pipelines.data.spread import Spread
from secateur.pipelines.runs.ray_cluster import on_shared_storage
from secateur.pipelines.runs.worker import DataFiles, save_array
from secateur.trainers.models import registry as models
from secateur.trainers.passes.embeddings import Block, EmbeddingSettings, Learned, embedder


@dataclass(frozen=True)
class Embedding:
    """The work of a process, by names and paths that mean the same on every node."""

    settings: EmbeddingSettings
    data: DataFiles
    proxy: Path | None
    """Folder of the model, for embeddings of the proxy."""
    texts: RowTexts | None
    learned: Learned | None
    device: str
    threads: int
    """Threads of torch."""

    def __call__(self, unit: tuple[int, Path]) -> None:
        """Write a block by its number, unless its file exists."""
        number, place = unit
        if not place.exists():
            torch.set_num_threads(self.threads)
            save_array(place, next(self.blocks(number * self.settings.block)))

    @cached_property
    def blocks(self) -> Callable[[int], Iterator[Block]]:
        """Blocks from a row on; the first access loads the models."""
        with on_shared_storage(self.data.inputs or self.proxy or Path()):
            data = self.data.load()
            model = models.load(self.proxy) if self.proxy else None
        device = torch.device(self.device)
        return embedder(self.settings, data, model=model, texts=self.texts, device=device, learned=self.learned)


def made_by(
    spread: Spread, work: Embedding, places: Sequence[Path], told: Callable[[int, int], None], count: int
) -> int:
    """Have other processes write the missing blocks to these places; returns how many were there.

    After each block it calls `told` with the number of embedded rows and `count`.
    """
    missing = [(number, place) for number, place in enumerate(places) if not place.exists()]
    there = len(places) - len(missing)
    for done, _ in enumerate(spread(work, missing), there + 1):
        told(int(np.minimum(done * work.settings.block, count)), count)
    return there
