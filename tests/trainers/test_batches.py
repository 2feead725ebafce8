"""Inputs have the same bits from every source, and random views follow seed and step alone."""

import numpy as np
import pytest
import torch

from secateur.selectors.samplers.info_batch import InfoBatch
from secateur.trainers.augmentation import Augmentation
from secateur.trainers.contract import Data, TrainingConfig
from secateur.trainers.loop import batches
from secateur.trainers.loop.train import train

CPU = torch.device("cpu")
VIEWS = Augmentation(crop_padding=1, flip=True, cutout=2)


def pictures(samples=70, seed=0):
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 3, samples)
    images = generator.integers(0, 120, (samples, 8, 8, 2)) + 40 * labels[:, None, None, None]
    return Data(images.astype(np.uint8), labels, 3)


CNN = {"model": "cnn", "model_settings": {"width": 4}, "batch_size": 32}


def parameters_of(trained):
    return {name: value.numpy().tobytes() for name, value in trained.model.state_dict().items()}


def mapped(data, folder):
    np.save(folder / "inputs.npy", data.inputs)
    return Data(np.load(folder / "inputs.npy", mmap_mode="r"), data.targets, data.task.width)


@pytest.mark.parametrize("changes", [{}, {"augmentation": VIEWS}, {"augmentation": VIEWS, "accumulate": 3}])
def test_workers_give_the_same_bits_as_memory(changes, tmp_path):
    data = pictures()
    memory = train(
        data, TrainingConfig(**CNN, epochs=2, **changes), seed=0, device=CPU, sampler=InfoBatch(70, 2, seed=1)
    )
    config = TrainingConfig(**CNN, epochs=2, loading="workers", workers=2, **changes)
    loaded = train(mapped(data, tmp_path), config, seed=0, device=CPU, sampler=InfoBatch(70, 2, seed=1))
    assert parameters_of(memory) == parameters_of(loaded)


def test_views_change_from_step_to_step_and_follow_the_seed():
    data = Data(np.repeat(pictures(1).inputs, 64, axis=0), np.zeros(64, np.int64), 3)
    seen = {}
    for seed in (0, 0, 1):
        given_inputs = []

        def objective(batch, inputs, given_inputs=given_inputs):
            given_inputs.append(inputs.numpy().copy())
            return batch.losses

        train(data, TrainingConfig(**CNN, epochs=2, augmentation=VIEWS), seed=seed, device=CPU, objective=objective)
        seen.setdefault(seed, []).append(np.stack(given_inputs))
    np.testing.assert_array_equal(seen[0][0], seen[0][1])
    assert not np.array_equal(seen[0][0], seen[1][0])
    steps = [each.tobytes() for each in seen[0][0]]
    assert len(set(steps)) == len(steps) == 4
    columns = Data(np.zeros((9, 4), np.float32), np.zeros(9, np.int64), 3)
    with pytest.raises(ValueError, match="augmentation wants images"):
        train(columns, TrainingConfig(steps=1, augmentation=VIEWS), seed=0, device=CPU)


def test_inputs_are_held_where_they_fit(tmp_path):
    data, rows = mapped(pictures(), tmp_path), torch.arange(70)
    size = data.inputs.nbytes

    def chosen(data, rows, memory, loading="auto"):
        return type(batches.source_of(data, rows, CPU, loading=loading, workers=1, memory=memory)).__name__

    assert chosen(data, rows, 2 * size) == "Held"
    assert chosen(data, rows, 2 * size - 2) == "Loaded"
    assert chosen(data, rows[:35], size) == "Held"
    assert chosen(pictures(), rows, 1) == "Held"  # The array is in memory already.
    assert chosen(data, rows, 1, "memory") == "Held"
    assert chosen(pictures(), rows, 2 * size, "workers") == "Loaded"


def test_rows_put_on_a_device_are_found_there_by_their_ids():
    """The code path of GPUs, run on the CPU."""
    data, rows = pictures(), torch.tensor([3, 8, 9, 40])
    np.testing.assert_array_equal(batches.copied(data.inputs, rows.numpy(), CPU).numpy(), data.inputs[rows])
    held = batches.Held(data, rows, CPU)
    held.held, held.places = batches.copied(data.inputs, rows.numpy(), CPU), torch.zeros(70, dtype=torch.int64)
    held.places[rows] = torch.arange(4)
    ids = torch.tensor([40, 3, 9])
    first, second = held.batches(ids, ids, [slice(0, 2), slice(2, 3)])
    np.testing.assert_array_equal(torch.cat([first, second]).numpy(), data.inputs[ids])
