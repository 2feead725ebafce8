"""Each limit of a trainer is exact: it accepts the value at the limit and rejects the one beside it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from secateur.trainers.augmentation import Augmentation
from secateur.trainers.contract import Data, TrainingConfig
from secateur.trainers.distillation.cached_logits import compress
from secateur.trainers.distillation.objective import Distillation
from secateur.trainers.experiments.modular_addition import first_reached, split_pairs
from secateur.trainers.judging.outcome import Outcome
from secateur.trainers.loop.batches import HELD_SHARE, Held, source_of
from secateur.trainers.loop.schedule import Epoch
from secateur.trainers.models.image_encoder import side_and_side
from secateur.trainers.pruning.delta_rescaling import check_keep, q_by_bound
from secateur.trainers.pruning.soft_mask import threshold
from secateur.trainers.pruning.soft_masks import PruningSchedule, n_of
from secateur.trainers.tasks.classification import Classification

TINY, ABOVE_1 = float(np.nextafter(0, 1)), float(np.nextafter(1, 2))
CURVE = Distillation(curve=((0.25, 0.9), (0.5, 0.7), (1.0, 0.1)))
Call = Callable[[Any], Any]
LIMITS: list[tuple[str, Call, list[Any], list[Any]]] = [
    ("padding", lambda x: Augmentation(crop_padding=x).check((8, 9, 3)), [7], [8]),
    ("cutout", lambda x: Augmentation(cutout=x).check((8, 9, 3)), [8], [9]),
    ("parts", lambda x: TrainingConfig(epochs=1, batch_size=4, accumulate=x), [4], [5]),
    ("curve", lambda x: Distillation(curve=((0.5, 0.9), (x, 0.1))), [0.6], [0.5]),
    ("share", CURVE.alpha_at, [TINY, 1.0], [0.0, ABOVE_1]),
    ("pairs", lambda x: split_pairs("add", 5, x, seed=0), [0.07, 0.99], [0.06, 1.0]),  # 15 pairs.
    ("kept", lambda x: Outcome(kept=x, of=3), [3], [4]),
    ("side", side_and_side, [1], [0]),
    ("share of a delta", check_keep, [TINY, 1.0], [0.0, ABOVE_1]),
    ("eta", lambda x: q_by_bound(np.ones(1), np.ones(1), 0.5, eta=x), [1e-9], [0.0]),
    ("units", lambda x: threshold(torch.ones(1, 4), x), [1, 3], [0, 4]),
    ("n of m", lambda x: n_of(x, 4), [0.25, 1.0], [0.0, 1.25]),
    ("fine", lambda x: PruningSchedule(0.5, dense=0.5, ramp=0.0, fine_tune=x), [0.0, 0.5], [-1e-6, 0.50001]),
    ("power", lambda x: PruningSchedule(0.5, power=x), [TINY], [0.0]),
    ("target", lambda x: Classification(3).check(np.array([x]), np.array([0])), [0, 2], [-1, 3]),
    ("held out", lambda x: Classification(2).split(np.arange(10) % 2, x, 0), [0.2, 0.8], [0.1, 0.9]),
]


@pytest.mark.parametrize(("call", "taken", "refused"), [row[1:] for row in LIMITS], ids=[row[0] for row in LIMITS])
def test_a_limit_is_where_it_is_said_to_be(call: Call, taken: list[Any], refused: list[Any]) -> None:
    for value in taken:
        call(value)
    for value in refused:
        with pytest.raises(ValueError):  # noqa: PT011 - each call has one limit
            call(value)


def test_a_curve_is_met_at_its_points_and_joined_between() -> None:
    found = [CURVE.alpha_at(share) for share in (0.1, 0.25, 0.375, 0.5, 0.75, 1.0)]
    assert found == pytest.approx([0.9, 0.9, 0.8, 0.7, 0.4, 0.1])
    assert Distillation(curve=((0.5, 0.3),)).alpha_at(0.9) == 0.3


def test_a_step_of_one_sample_joins_the_one_before_and_a_step_of_two_does_not() -> None:
    sizes = [[len(range(8)[step]) for step in Epoch(0, torch.arange(n), 3, join_last=True).steps] for n in (1, 4, 5, 7)]
    assert sizes == [[1], [4], [3, 2], [3, 4]]
    assert [len(range(8)[step]) for step in Epoch(0, torch.arange(4), 3).steps] == [3, 1]


def test_a_split_is_ascending_and_a_class_of_one_stays_with_the_pool() -> None:
    labels = np.random.default_rng(0).permutation(np.repeat([0, 1, 2, 3], [20, 20, 1, 2]))
    pool, held = Classification(4).split(labels, 0.5, 0)
    assert (np.diff(pool) > 0).all()
    assert (np.diff(held) > 0).all()
    assert [np.bincount(labels[rows], minlength=4).tolist() for rows in (pool, held)] == [
        [10, 10, 1, 1],
        [10, 10, 0, 1],
    ]


def test_a_value_is_reached_where_it_equals_the_threshold() -> None:
    looks, values = np.array([10, 20, 30]), np.array([0.4, 0.5, 0.6])
    assert [first_reached(looks, values, at) for at in (0.5, 0.51, 0.6, 0.61)] == [20, 30, 30, None]


def test_as_many_classes_as_are_there_are_no_few() -> None:
    logits = torch.arange(6.0).reshape(2, 3)
    assert [compress(logits, top_k=k, temperature=1.0).indices is None for k in (2, 3, 4)] == [False, True, True]


def test_inputs_are_held_where_they_just_fit(tmp_path: Path) -> None:
    np.save(tmp_path / "inputs.npy", np.zeros((4, 2), np.float32))
    data = Data(np.load(tmp_path / "inputs.npy", mmap_mode="r"), np.arange(4) % 2, 2)
    least = int(np.ceil(32 / HELD_SHARE))
    for memory, held in ((least, True), (least - 1, False)):
        source = source_of(data, torch.arange(4), torch.device("cpu"), loading="auto", workers=1, memory=memory)
        assert isinstance(source, Held) is held
