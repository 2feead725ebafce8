"""Observed losses: latest wins, ids stay whole, nothing is written in place, ranks agree."""

import numpy as np
import pytest
import torch
import torch.distributed as distributed
import torch.multiprocessing as processes
from hypothesis import given, settings
from hypothesis import strategies as st

from secateur.selectors.samplers.observed_losses import NEVER, ObservedLosses


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.tuples(st.integers(0, 19), st.floats(-5, 5, width=32)), max_size=6), max_size=30),
    st.integers(1, 4),
)
def test_latest_loss_counts(batches: list[list[tuple[int, float]]], every: int) -> None:
    """Against a dictionary; repeated ids within a batch and between batches."""
    observed, expected, seen = ObservedLosses(20), {}, {}
    for epoch, batch in enumerate(batches):
        observed.observe(torch.tensor([i for i, _ in batch], dtype=torch.int64), torch.tensor([x for _, x in batch]))
        expected.update(dict(batch))
        seen.update({i: epoch // every for i, _ in batch})
        if epoch % every == every - 1:
            observed.merge(epoch // every)
    observed.merge(len(batches) // every)
    for sample in range(20):
        loss, last = observed.losses[sample].item(), observed.last_seen[sample].item()
        assert loss == expected[sample] if sample in expected else np.isnan(loss)
        assert last == seen.get(sample, NEVER)


def test_pending_stays_few_and_copies_what_it_is_given() -> None:
    observed = ObservedLosses(5000)
    for start in range(0, 5000, 5):
        losses = torch.ones(5, requires_grad=True) * 2
        observed.observe(ids := torch.arange(start, start + 5), losses)
        losses.data.zero_()
        ids.zero_()
    assert len(observed.pending) <= 11
    observed.merge(0)
    assert (observed.losses == 2).all()


def test_a_state_is_not_touched_by_what_follows() -> None:
    observed = ObservedLosses(4)
    observed.observe(torch.tensor([0]), torch.tensor([1.0]))
    state = observed.state_dict()
    observed.observe(torch.tensor([1]), torch.tensor([2.0]))
    observed.merge(0)
    other = ObservedLosses(4)
    other.load_state_dict(state)
    other.merge(0)
    assert other.losses[0] == 1
    assert other.losses[1:].isnan().all()


def test_bad_input_is_named() -> None:
    observed = ObservedLosses(4)
    with pytest.raises(TypeError, match=r"int64, got torch\.float32"):
        observed.observe(torch.tensor([1.0]), torch.tensor([1.0]))
    with pytest.raises(ValueError, match='reduction="none"'):
        observed.observe(torch.tensor([1, 2]), torch.tensor(0.5))
    observed.observe(torch.tensor([7]), torch.tensor([1.0]))
    with pytest.raises(ValueError, match="0 … 3: row 7"):
        observed.merge(0)
    observed.pending.clear()
    observed.observe(torch.tensor([2, 3]), torch.tensor([1.0, float("inf")]))
    with pytest.raises(ValueError, match="NaN or infinite at row 3"):
        observed.merge(0)


BIG = 2**24 + 1


def exchange(rank: int, world: int, rendezvous: str, folder: str) -> None:
    """One rank: observes its own samples, one id beyond the integers of float32, a different number on each rank."""
    distributed.init_process_group("gloo", init_method=rendezvous, rank=rank, world_size=world)
    observed = ObservedLosses(BIG + 1)
    if rank == 0:
        observed.observe(torch.tensor([BIG, BIG - 1]), torch.tensor([1.5, 2.5]))
        observed.observe(torch.tensor([5]), torch.tensor([3.5]))
    observed.merge(0)
    observed.observe(torch.tensor([rank, 9]), torch.tensor([10.0 + rank, 20.0 + rank]))
    observed.merge(1)
    picked = observed.losses[[BIG, BIG - 1, 5, 0, 1, 9]].tolist()
    observed.losses[17] = rank
    refused = "nothing"
    try:
        observed.merge(2)
    except RuntimeError as error:
        refused = str(error)
    torch.save(
        {"picked": picked, "refused": refused, "seen": int((observed.last_seen >= 0).sum())}, f"{folder}/{rank}.pt"
    )
    distributed.destroy_process_group()


def test_ranks_share_losses_by_whole_ids_and_notice_when_they_differ(tmp_path: object) -> None:
    """Published InfoBatch packs ids into the float tensor of the losses: 16,777,217 becomes 16,777,216."""
    assert int(torch.tensor(float(BIG), dtype=torch.float32)) == BIG - 1
    # Forked, so that neither loads torch anew.
    arguments = (2, f"file://{tmp_path}/rendezvous", str(tmp_path))
    processes.start_processes(exchange, args=arguments, nprocs=2, start_method="fork")
    for rank in range(2):
        result = torch.load(f"{tmp_path}/{rank}.pt", weights_only=True)
        assert result["picked"] == [1.5, 2.5, 3.5, 10.0, 11.0, 21.0]
        assert result["seen"] == 6
        assert "do not hold the same losses" in result["refused"]


def test_observing_never_waits_for_the_device() -> None:
    """Meta tensors have no values: whatever would read one, and so wait for a GPU, raises."""
    observed = ObservedLosses(100)
    ids, losses = torch.arange(64, device="meta"), torch.ones(64, device="meta", dtype=torch.bfloat16)
    for _ in range(40):
        observed.observe(ids, losses)
    assert sum(len(part) for part, _ in observed.pending) == 40 * 64
    assert len(observed.pending) <= 6


def test_an_earlier_state_of_what_is_held_takes_nothing_away() -> None:
    """The snapshot of a loader with workers lags behind the checkpoint of the sampler."""
    observed = ObservedLosses(4)
    observed.observe(torch.tensor([0]), torch.tensor([1.0]))
    early = observed.state_dict()
    observed.observe(torch.tensor([1]), torch.tensor([2.0]))
    observed.load_state_dict(early)
    observed.merge(0)
    assert observed.losses[:2].tolist() == [1, 2]
    observed.load_state_dict(early)
    assert observed.losses.isnan().all()
