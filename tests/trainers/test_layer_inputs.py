"""Recorded inputs of layers against a computation by hand."""

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from torch import nn

from secateur.trainers.passes.layer_inputs import layer_inputs, load_inputs, save_inputs


def test_means_and_norms_are_over_all_rows_and_leave_the_model_as_it_was(tmp_path):
    generator = torch.Generator().manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Dropout(0.5), nn.Linear(3, 2), nn.Linear(9, 9))[:]
    used = model[:4].train()
    batches = [torch.randn((count, 5, 4), generator=generator) for count in (2, 3)]
    found = layer_inputs(used, lambda network, batch: network(batch), batches)
    assert used.training
    assert not any(each._forward_pre_hooks for each in used.modules())
    assert set(found) == {"0.weight", "3.weight"}
    rows = torch.cat(batches).reshape(-1, 4)
    hidden = used[0](rows).relu().detach()
    for name, given in (("0.weight", rows), ("3.weight", hidden)):
        np.testing.assert_allclose(found[name].means, given.double().mean(0).numpy(), rtol=1e-5, atol=1e-7)
        np.testing.assert_allclose(found[name].norms, np.linalg.norm(given.double().numpy(), axis=0), rtol=1e-5)
    save_inputs(found, tmp_path / "inputs.safetensors")
    back = load_inputs(tmp_path / "inputs.safetensors")
    for name, each in found.items():
        np.testing.assert_array_equal(back[name].means, each.means)
        np.testing.assert_array_equal(back[name].norms, each.norms)


def test_files_of_something_else_are_refused(tmp_path):
    file = tmp_path / "inputs.safetensors"
    save_file({"a.weight.means": np.ones(3)}, file)
    with pytest.raises(ValueError, match=r"'a\.weight' has no means and norms"):
        load_inputs(file)
    save_file({"a.weight.means": np.array([np.nan]), "a.weight.norms": np.ones(1)}, file)
    with pytest.raises(ValueError, match=r"'a\.weight' are NaN"):
        load_inputs(file)


def test_hooks_go_when_a_batch_fails():
    model = nn.Sequential(nn.Linear(4, 3))
    with pytest.raises(RuntimeError):
        layer_inputs(model, lambda network, batch: network(batch), [torch.ones(2, 5)])
    assert not model[0]._forward_pre_hooks
