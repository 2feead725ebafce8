"""Streams of rows in place, read by two ranks that are stopped and go on."""

import pickle
from typing import Any

from torchdata.stateful_dataloader import StatefulDataLoader

from secateur.pipelines.in_place.view import InPlace
from secateur.selectors.samplers.contract import Shard


def of_two_ranks(view: InPlace, column: str) -> list[list[Any]]:
    """A column as each of two ranks reads it; asserts that a loader stopped after two batches goes on with the rest."""

    def loader(rank: int) -> Any:
        stream = view.stream(shuffle=True, shard=Shard(rank, 2))
        stream.set_epoch(1)
        return StatefulDataLoader(stream, batch_size=4)

    found = []
    for rank in range(2):
        whole = [batch[column] for batch in loader(rank)]
        first = loader(rank)
        before = [batch[column] for _, batch in zip(range(2), first, strict=False)]
        state = pickle.loads(pickle.dumps(first.state_dict()))
        second = loader(rank)
        second.load_state_dict(state)
        assert before + [batch[column] for batch in second] == whole
        assert len(whole) > 2
        found.append([value for batch in whole for value in batch])
    return found
