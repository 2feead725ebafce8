"""Laws that every in-training selector keeps, found through the registry."""

import io
import pickle
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch.utils.data import BatchSampler, DataLoader, TensorDataset

from secateur.selectors.samplers.contract import EpochSampler, PlannedEpoch, Shard, make_sampler, samplers

N, EPOCHS = 53, 8
SIGNALS: dict[str, Any] = {
    "samples": N,
    "epochs": EPOCHS,
    "strata": np.arange(N) % 5,
    "scores": np.sin(np.arange(N)).astype(np.float32),
    "keep": np.arange(N) % 3 > 0,
}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "rs2": ("rs2", {"keep": 0.3}),
    "rs2 drop": ("rs2", {"keep": 0.3, "remainder": "drop"}),
    "rs2 replacement": ("rs2", {"keep": 0.3, "replacement": True}),
    "rs2 stratified": ("rs2", {"keep": 0.3, "stratified": True}),
    "rs2 stratified replacement": ("rs2", {"keep": 0.3, "stratified": True, "replacement": True}),
    "info_batch": ("info_batch", {}),
    "info_batch percentile": ("info_batch", {"rule": "percentile"}),
    "info_batch classes": ("info_batch", {"per_class": True, "prune": 0.7}),
    "info_batch budget": ("info_batch", {"keep": 0.4}),
    "seta": ("seta", {}),
    "seta quantile": ("seta", {"clusters": "quantile", "groups": 4, "window": 0.5, "prune": 0.0}),
    "seta floor": ("seta", {"groups": 10, "window": 0.2, "floor": 0.5}),
    "seta budget": ("seta", {"keep": 20, "groups": 7, "window": 0.3}),
    "fixed_subset": ("fixed_subset", {}),
    "fixed_subset in order": ("fixed_subset", {"shuffle": False}),
    "order_dp": ("order_dp", {}),
    "order_dp budget": ("order_dp", {"keep": 20, "top": 0.5, "guard": 0.1, "unseen": "first"}),
    "ies": ("ies", {"threshold": 0.3, "window": 1}),
    "repb": ("repb", {}),
    "repb history": ("repb", {"rescale": "history", "window": 20, "prune": 0.7}),
    "repb budget": ("repb", {"keep": 0.4}),
    "subset_schedule": ("subset_schedule", {"keeps": [0.3, 0.6, 1.0]}),
    "subset_schedule line": ("subset_schedule", {"keeps": [1.0, 20], "pace": "line", "first": "high"}),
}
Make = Callable[..., EpochSampler]


@pytest.fixture(params=list(CASES))
def make(request: pytest.FixtureRequest) -> Make:
    """Builds one of the samplers, always the same but for what is asked."""
    name, chosen = CASES[request.param]

    def build(seed: int = 1, **shard: Any) -> EpochSampler:
        return make_sampler(name, chosen, SIGNALS, seed=seed, shard=Shard(**shard))

    build.case = request.param  # type: ignore[attr-defined]
    return build


def losses_of(ids: torch.Tensor, epoch: int) -> torch.Tensor:
    """A made-up loss that falls with the epochs, differently for each sample."""
    return (1 + torch.sin(ids * 12.9898) ** 2 * 3) / (1 + epoch * (ids % 7) / 7)


def run(sampler: EpochSampler, epochs: range, tell: bool = True) -> list[list[int]]:
    """Ids of each epoch of a run that reports its losses."""
    epochs_ids = []
    for epoch in epochs:
        sampler.set_epoch(epoch)
        epochs_ids.append(list(sampler))
        if tell:
            ids = torch.tensor([*epochs_ids[-1], *sampler.forward_only.tolist()])
            sampler.observe(ids, losses_of(ids, epoch))
    return epochs_ids


def test_every_sampler_is_tried() -> None:
    assert {name for name, _ in CASES.values()} == set(samplers())


def test_ids_are_in_range_and_fit_len_and_plan(make: Make) -> None:
    sampler = make()
    plan = sampler.plan(EPOCHS)
    for epoch, ids in enumerate(run(sampler, range(EPOCHS))):
        assert all(type(sample) is int for sample in ids)
        assert 0 <= min(ids) <= max(ids) < N
        assert len(ids) == plan[epoch].samples if plan[epoch].exact else len(ids) <= plan[epoch].samples
        if make.case not in ("rs2", "rs2 stratified"):  # these may hold a sample once from each of two passes
            assert len(set(ids)) == len(ids)
    assert len(sampler) == len(ids) == len(sampler.epoch_ids())
    assert sampler.epoch_ids().dtype == np.int64


def test_iterating_only_reads(make: Make) -> None:
    """Published InfoBatch and SeTa draw again at each iter(), and so never end an epoch on current torch."""
    sampler = make()
    run(sampler, range(3))
    first = list(sampler)
    assert list(sampler) == first == sampler.epoch_ids().tolist()
    sampler.set_epoch(2)
    assert list(sampler) == first
    batches = list(BatchSampler(sampler, 8, drop_last=False))
    assert len(batches) == -(-len(sampler) // 8)
    loader = DataLoader(TensorDataset(torch.arange(N)), batch_size=8, sampler=sampler)
    for _ in range(2):
        assert [int(i) for (batch,) in loader for i in batch] == first
    assert len(loader) == len(batches)


def test_losses_count_from_the_next_epoch_on(make: Make) -> None:
    sampler = make()
    run(sampler, range(2))
    before, weights = list(sampler), sampler.weights(torch.arange(N))
    sampler.observe(torch.arange(N), torch.linspace(0, 1, N))
    assert list(sampler) == before
    assert torch.equal(sampler.weights(torch.arange(N)), weights)


def test_seed_and_epoch_decide_everything(make: Make) -> None:
    """And no global generator is read or set: published code seeds numpy's with the epoch."""
    np.random.seed(1)
    torch.manual_seed(1)
    legacy, state = np.random.get_state(legacy=False), torch.get_rng_state()
    first = run(make(), range(EPOCHS))
    assert repr(np.random.get_state(legacy=False)) == repr(legacy)
    assert torch.equal(torch.get_rng_state(), state)
    np.random.seed(5)
    torch.manual_seed(5)
    assert run(make(), range(EPOCHS)) == first
    assert (run(make(seed=2), range(EPOCHS)) == first) == (make.case == "fixed_subset in order")  # type: ignore[attr-defined]


def test_epochs_differ(make: Make) -> None:
    if make.case != "fixed_subset in order":
        assert len({tuple(ids) for ids in run(make(), range(4))}) == 4


@pytest.mark.filterwarnings("ignore:an epoch went by without a loss")
def test_an_epoch_needs_no_earlier_one(make: Make) -> None:
    """Without losses, set_epoch(k) alone gives the epoch k of a run: any rank, any restart."""
    sampler = make()
    expected = run(sampler, range(EPOCHS), tell=False)
    for epoch in (5, 2, 7, 0):
        other = make()
        other.set_epoch(epoch)
        assert list(other) == expected[epoch]


@pytest.mark.parametrize(("world", "remainder"), [(2, "pad"), (3, "pad"), (3, "drop"), (4, "drop")])
def test_shares_are_of_one_length_and_make_up_the_epoch(make: Make, world: int, remainder: str) -> None:
    whole = make()
    ranks = [make(rank=rank, world=world, remainder=remainder) for rank in range(world)]
    for epoch in range(4):
        for sampler in (whole, *ranks):
            sampler.set_epoch(epoch)
        order, shares = list(whole), [list(sampler) for sampler in ranks]
        assert len({len(share) for share in shares}) == 1
        together = [ids[place] for place in range(len(shares[0])) for ids in shares]
        kept = len(order) if remainder == "pad" else len(order) // world * world
        assert together[:kept] == order[:kept]
        assert together[kept:] == order[: len(together) - kept]
        assert {i for one in ranks for i in one.forward_only.tolist()} == set(whole.forward_only.tolist())
        assert len({len(one.forward_only) for one in ranks}) == 1
        everyone = torch.tensor([*order, *whole.forward_only.tolist()])
        for sampler in (whole, *ranks):  # what the exchange between ranks amounts to
            sampler.observe(everyone, losses_of(everyone, epoch))


@pytest.mark.parametrize(("epoch", "stop"), [(0, 1), (0, -1), (3, 0), (3, 13), (3, -1)])
def test_a_killed_run_resumes_with_the_ids_that_were_left(make: Make, epoch: int, stop: int) -> None:
    uninterrupted = make()
    expected = run(uninterrupted, range(EPOCHS))

    victim = make()
    run(victim, range(epoch))
    victim.set_epoch(epoch)
    done = []
    iterator = iter(victim)
    for _ in range(stop % (len(victim) + 1)):
        done.append(next(iterator))
    if done:
        ids = torch.tensor(done)
        victim.observe(ids, losses_of(ids, epoch))
    saved = io.BytesIO()
    torch.save(victim.state_dict(), saved)
    victim.observe(torch.arange(N), torch.zeros(N))  # what happens after a save is not in it
    saved.seek(0)

    resumed = make()
    resumed.load_state_dict(torch.load(saved, weights_only=True))
    resumed.set_epoch(epoch)
    assert len(resumed) == len(expected[epoch])
    iter(resumed)  # a look at an iterator uses nothing up
    left = list(resumed)
    assert done + left == expected[epoch]
    if left:
        assert list(resumed) == expected[epoch], "only the first iterator is a resumption"
    if left or len(resumed.forward_only):
        ids = torch.tensor([*left, *resumed.forward_only.tolist()])
        resumed.observe(ids, losses_of(ids, epoch))
    assert run(resumed, range(epoch + 1, EPOCHS)) == expected[epoch + 1 :]


def test_consumed_says_what_was_trained_on_when_a_loader_looks_ahead(make: Make) -> None:
    sampler = make()
    sampler.set_epoch(1)
    iterator = iter(sampler)
    taken = [next(iterator) for _ in range(12)]
    other = make()
    other.load_state_dict(sampler.state_dict(consumed=8))
    assert list(other)[:4] == taken[8:]


def test_pickle_keeps_everything(make: Make) -> None:
    """Published InfoBatch recurses without end here."""
    sampler = make()
    run(sampler, range(3))
    sampler.weights(torch.arange(3))
    copy = pickle.loads(pickle.dumps(sampler))
    assert list(copy) == list(sampler)
    assert run(copy, range(3, EPOCHS)) == run(sampler, range(3, EPOCHS))


def test_weights_are_float32_and_average_one_over_what_they_stand_for(make: Make) -> None:
    """The weights of an epoch sum to the number of samples that it stands for: all, where weights are used."""
    sampler = make()
    for epoch in range(EPOCHS):
        run(sampler, range(epoch, epoch + 1))
        ids = torch.from_numpy(sampler.epoch_ids())
        weights = sampler.weights(ids)
        assert weights.dtype == torch.float32
        assert weights.shape == ids.shape
        uses = make.case.startswith("info_batch") or make.case in ("repb", "repb budget")
        if make.case == "repb history":
            continue
        assert weights.double().sum().item() == pytest.approx(N if uses else len(ids), rel=1e-6)


def test_settings_are_checked_and_come_from_yaml(make: Make) -> None:
    name, chosen = CASES[make.case]
    kind = samplers()[name]
    assert kind.settings(**chosen)
    assert "seed" not in kind.settings.model_fields
    with pytest.raises(ValidationError, match="nonsense"):
        kind.settings(**chosen, nonsense=1)


@pytest.mark.parametrize(
    ("name", "wrong", "says"),
    [
        ("rs2", {"keep": 0.0}, "keep"),
        ("rs2", {"keep": 1.5}, "keep"),
        ("rs2", {"keep": 0.5, "remainder": "lose"}, "remainder"),
        ("info_batch", {"prune": 1.0}, "prune"),
        ("info_batch", {"rule": "middle"}, "rule"),
        ("info_batch", {"rule": "percentile", "quantiles": [0.8, 0.2]}, "quantiles must rise"),
        ("info_batch", {"rule": "percentile", "per_class": True}, "per_class"),
        ("info_batch", {"anneal_from": 2}, "anneal_from"),
        ("info_batch", {"keep": 500}, "keep"),
        ("seta", {"groups": 0}, "groups"),
        ("seta", {"window": 1.2}, "window"),
        ("seta", {"floor": 0.5, "keep": 0.5}, "floor"),
        ("seta", {"floor": 0.95}, "floor"),
        ("order_dp", {"guard": 0.5}, "guard 0.5 leaves out more of the pool than top 0.85"),
        ("order_dp", {"unseen": "last"}, "unseen"),
        ("order_dp", {"keep": 500}, "keep"),
        ("ies", {"threshold": 0.0}, "threshold"),
        ("ies", {"keep": 0.5}, "keep"),
        ("repb", {"rescale": "perhaps"}, "rescale"),
        ("repb", {"window": 0}, "window"),
        ("subset_schedule", {"keeps": []}, "keeps"),
        ("subset_schedule", {"keeps": [0.5, -1]}, "keeps"),
        ("fixed_subset", {"shuffle": "perhaps"}, "shuffle"),
        ("info_bath", {}, "ies, info_batch, order_dp, repb, rs2, seta"),
    ],
)
def test_wrong_settings_are_refused_with_their_name(name: str, wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        make_sampler(name, wrong, SIGNALS, seed=0)


def test_direct_calls_are_checked_too() -> None:
    info_batch: Any = samplers()["info_batch"]
    with pytest.raises(ValueError, match="anneal_from"):
        info_batch(10, 5, anneal_from=1.5)


def test_a_missing_signal_is_named() -> None:
    with pytest.raises(ValueError, match="needs epochs; given are samples"):
        make_sampler("info_batch", {}, {"samples": 3}, seed=0)
    with pytest.raises(ValueError, match="strata"):
        make_sampler("rs2", {"keep": 0.5, "stratified": True}, {"samples": 3}, seed=0)


def test_a_state_of_another_sampler_is_refused(make: Make) -> None:
    with pytest.raises(ValueError, match=r"seed 2 \(here 1\)"):
        make().load_state_dict(make(seed=2).state_dict())
    with pytest.raises(ValueError, match="share"):
        make().load_state_dict(make(rank=1, world=2).state_dict())


def test_a_state_from_other_signals_is_refused() -> None:
    made = [
        make_sampler("fixed_subset", {}, {"keep": keep}, seed=0)
        for keep in (np.ones(4, bool), np.eye(4, dtype=bool)[0])
    ]
    with pytest.raises(ValueError, match="crc32"):
        made[0].load_state_dict(made[1].state_dict())


def test_an_iterator_does_not_survive_another_draw(make: Make) -> None:
    sampler = make()
    iterator = iter(sampler)
    next(iterator)
    sampler.set_epoch(1)
    with pytest.raises(RuntimeError, match="epoch 0, and the sampler has since gone on to epoch 1"):
        next(iterator)


def test_epochs_never_go_back(make: Make) -> None:
    """Not by a loader that counts from 0 itself, and not after a resumption."""
    sampler = make()
    run(sampler, range(3))
    for one in (sampler, make()):
        one.load_state_dict(sampler.state_dict())
        before = one.epoch_ids()
        with pytest.raises(ValueError, match=r"set_epoch\(0\) would send the sampler back.*set_epoch\(2\)"):
            one.set_epoch(0)
        assert one.epoch == 2
        assert np.array_equal(one.epoch_ids(), before)


def warned(make: Make, epochs: list[int], tell: bool = False) -> list[str]:
    """The warnings of a loop that goes through the epoch after each of these calls of set_epoch; -1 is none."""
    sampler = make()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for epoch in epochs:
            if epoch >= 0:
                sampler.set_epoch(epoch)
            ids = torch.tensor(list(sampler))
            if tell:
                sampler.observe(ids, losses_of(ids, 0))
    return [str(one.message) for one in said]


def test_a_loop_that_never_sets_the_epoch_is_warned_of_once(make: Make) -> None:
    alike = make.case == "fixed_subset in order"  # type: ignore[attr-defined]
    for never in ([-1, -1, -1], [0, 0, 0]):
        said = warned(make, never, tell=True)
        assert len(said) == (0 if alike and never[0] < 0 else 1)
        assert all("epoch 0 begins for the second time" in one for one in said)
    assert warned(make, [0, 1, 2], tell=True) == warned(make, [0, -1], tell=True) == warned(make, [-1]) == []


def test_a_loop_that_never_observes_is_warned_of_once(make: Make) -> None:
    said = warned(make, [0, 1, 2])
    if make().observed is None:
        assert said == []
    else:
        assert len(said) == 1
        assert "an epoch went by without a loss" in said[0]


def test_nonsense_is_refused(make: Make) -> None:
    with pytest.raises(ValueError, match="-1"):
        make().set_epoch(-1)
    with pytest.raises(ValueError, match="seed"):
        make(seed=-1)
    with pytest.raises(ValueError, match="rank 2"):
        make(rank=2, world=2)


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 40), st.integers(1, 6), st.sampled_from(["pad", "drop"]), st.data())
def test_any_size_any_world(samples: int, world: int, remainder: Any, data: st.DataObject) -> None:
    """Shares never differ in length, down to one sample and more ranks than samples."""
    keep = data.draw(st.integers(1, samples))
    name = data.draw(st.sampled_from(["rs2", "info_batch", "seta"]))
    chosen = {"keep": keep}
    lengths = set()
    for rank in range(world):
        sampler = make_sampler(
            name, chosen, {"samples": samples, "epochs": 5}, seed=3, shard=Shard(rank, world, remainder)
        )
        for epoch in range(5):
            sampler.set_epoch(epoch)
            ids = torch.from_numpy(np.arange(samples))
            sampler.observe(ids, (ids % 3).float())
            assert len(list(sampler)) == len(sampler)
            lengths.add((epoch, len(sampler)))
    assert len(lengths) == 5


def test_steps_of_a_plan() -> None:
    assert PlannedEpoch(10, True).steps(4) == 3
    assert PlannedEpoch(10, True).steps(4, drop_last=True) == 2
