"""Memory of scoring completions: the largest tensor of any operation is independent of the number of rows."""

import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from sft_rows import encoded, opinionated, rows_of
from torch.utils._python_dispatch import TorchDispatchMode

from secateur.scorers.checkpoints.last_layer_grand import last_layer_grand
from secateur.scorers.registry import scorers
from secateur.scorers.target import cosines, target_places
from secateur.scorers.target.cosines import MeanCosines, VectorCosines
from secateur.trainers.contract import Data
from secateur.trainers.models import token_losses
from secateur.trainers.passes.completions import head_sketches
from secateur.trainers.passes.embeddings import EmbeddingSettings, embed
from secateur.trainers.passes.scoring import score_rows
from secateur.trainers.tasks import sft
from secateur.trainers.tasks.token_roles import scored_in

ROWS, TIMES, BATCH = 40, 4, 16
PIECE = 16_000
CPU = torch.device("cpu")


class Largest(TorchDispatchMode):
    """Records the largest number of elements in any operation's result."""

    most = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        for each in found if isinstance(found, tuple | list) else (found,):
            if isinstance(each, torch.Tensor):
                self.most = max(self.most, each.numel())
        return found


@pytest.fixture(scope="module")
def made() -> tuple[Data, Any]:
    data, _ = encoded(rows_of(ROWS))
    return data, opinionated(data)


def scored(data: Data, network: Any) -> None:
    wanted: dict[str, Any] = {name: (scorers()[name], {}) for name in ("checkpoint_loss", "ifd_loss", "ifd_ppl", "vog")}
    wanted["norm"] = (last_layer_grand, {})
    score_rows([[network, network]], data, np.arange(len(data)), wanted, device=CPU, batch_size=BATCH)


def embedded(data: Data, network: Any) -> None:
    for _ in embed(EmbeddingSettings(block=32, batch_size=BATCH), data, model=network):
        pass


def sketched(data: Data, network: Any) -> None:
    for start in range(0, len(data), BATCH):
        head_sketches(network, data, np.arange(start, min(start + BATCH, len(data))), CPU, size=256)


@pytest.mark.parametrize("work", [scored, embedded, sketched])
def test_no_tensor_grows_with_the_rows_or_has_their_logits(
    work: Callable[[Data, Any], None], made: tuple[Data, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    data, network = made
    for place, name, value in ((token_losses, "PIECE", PIECE), (token_losses, "BUDGET", 400), (sft, "BACKWARD", 400)):
        monkeypatch.setattr(place, name, value)
    several = Data(np.tile(data.inputs, (TIMES, 1, 1)), np.tile(data.targets, TIMES), data.task, data.model_settings)
    most = []
    for some in (data, several):
        with Largest() as noted:
            work(some, network)
        most.append(noted.most)
    assert most[0] == most[1], "as many rows more, no number more at once"
    assert most[1] <= 2 * PIECE < scored_in(data.inputs).sum() * data.model_settings["vocabulary"] / 4


def test_an_order_of_rows_holds_a_block_and_the_lists_never_all_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    """4,000 rows x 500 queries would be 8 MB in float32."""
    draw = np.random.default_rng(0)
    pool, asked = (draw.normal(size=(count, 8)).astype(np.float32) for count in (4_000, 500))
    monkeypatch.setattr(cosines, "WORKSPACE", 1 << 17)
    monkeypatch.setattr(target_places, "LISTED", 1 << 14)
    for each in (VectorCosines(pool, asked), MeanCosines([VectorCosines(pool, asked)] * 2)):
        each.nearest(1)  # Loads and compiles the search.
        tracemalloc.start()
        places = target_places.target_places(each, depth=2_000)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert sorted(places.tolist()) == list(range(4_000))
        assert most < 3_000_000
