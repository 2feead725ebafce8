"""Optimisers without the wrappers of torch.compile give the same bits, and do not import the compiler."""

import subprocess
import sys

import pytest
import torch

from secateur.trainers.loop.run import eager

ALONE = """
import sys, torch
from secateur.trainers.loop.run import eager
weight = torch.nn.Parameter(torch.ones(3))
optimiser = eager(torch.optim.AdamW)([weight], 0.1, fused=True)
weight.square().sum().backward()
optimiser.step()
optimiser.zero_grad()
assert "torch._dynamo" not in sys.modules
"""


@pytest.mark.parametrize("kind", [torch.optim.AdamW, torch.optim.SGD])
def test_steps_are_those_of_torch(kind):
    ended, told = [], []
    for optimiser_of in (kind, eager(kind)):
        torch.manual_seed(0)
        weight = torch.nn.Parameter(torch.randn(5, 4))
        optimiser = optimiser_of([weight], 0.1, weight_decay=0.01, fused=True)
        optimiser.register_step_post_hook(lambda *_: told.append("hook"))
        for _ in range(3):
            (weight**2).sum().sqrt().backward()
            optimiser.step()
            optimiser.zero_grad()
        assert weight.grad is None
        again = optimiser_of([weight], 0.5, fused=True)
        again.load_state_dict(optimiser.state_dict())
        (weight**3).sum().backward()
        again.step()
        assert not weight.grad_fn
        ended.append(weight.detach().clone())
    assert torch.equal(*ended)
    assert told == ["hook"] * 6


def test_a_step_does_not_import_the_compiler():
    subprocess.run([sys.executable, "-c", ALONE], check=True)
