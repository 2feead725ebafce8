"""Declarations are read without torch, and what is declared lazily is torch once it is used."""

import subprocess
import sys

import pytest
import torch

from secateur.scorers import lazy

REGISTRIES = """
from secateur.scorers.registry import scorers
from secateur.selectors.contract import mask_selectors, selectors
from secateur.selectors.samplers.contract import samplers
names = [*scorers(), *scorers("weight"), *scorers("head"), *selectors(), *mask_selectors("delta"), *samplers()]
assert {"aum", "vog", "density", "snip", "retrieval_heads", "top", "random_entries", "info_batch"} <= set(names)
assert scorers()["forgetting"].settings.model_fields and selectors()["top"].settings(end="low")
"""
VERIFY = """
import sys
from secateur.pipelines.commands.main import app
try:
    app(["verify", "--help"])
except SystemExit as done:
    assert not done.code
"""


@pytest.mark.parametrize("script", [REGISTRIES, VERIFY], ids=["registries", "verify"])
def test_declarations_need_no_torch(script: str) -> None:
    whole = f"{script}\nimport sys\nassert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", whole], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_lazy_names_are_torch() -> None:
    assert lazy.torch.Tensor is torch.Tensor
    assert lazy.nn.Linear is torch.nn.Linear
    assert lazy.functional.cross_entropy is torch.nn.functional.cross_entropy
    with pytest.raises(AttributeError):
        _ = lazy.torch.no_such_thing
