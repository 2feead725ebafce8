"""What selectors say that they hold in memory is what they hold, and what does not fit is refused before it begins."""

import tracemalloc

import numpy as np
import pytest

from secateur.scorers.memory import DoesNotFit
from secateur.selectors import contract
from secateur.selectors.check_selector import example_signals
from secateur.selectors.class_policy import with_class_policy
from secateur.selectors.contract import selectors
from secateur.selectors.sizes import Sizes

LARGE = {name: one for name, one in selectors().items() if one.memory is not None}
SAMPLES, DIMENSIONS, BUDGET = 1_000, 6_144, 3


def signals_of(chosen, random):
    """What a selector reads of `SAMPLES` samples, with wide embeddings."""
    found = example_signals(chosen, SAMPLES, random)
    for name in ("embeddings", "loss_trajectories"):
        if name in found:
            found[name] = random.normal(size=(SAMPLES, DIMENSIONS)).astype(np.float32)
    return found


def settings_of(chosen, **given):
    fields = chosen.settings.model_fields
    return {"cutoff": 0.1} | given if "cutoff" in fields else given


def test_selectors_that_copy_embeddings_say_so():
    copying = {"facility_location", "stochastic_facility_location", "semantic_deduplication", "prototypes"}
    assert LARGE.keys() == copying | {"d2_pruning", "moderate", "s2l"}


@pytest.mark.parametrize("name", sorted(LARGE))
def test_no_more_is_held_than_was_said_and_not_much_less(name):
    chosen, random = LARGE[name], np.random.default_rng(0)
    signals = signals_of(chosen, random)
    settings = settings_of(chosen, **({"clusters": 4} if "clusters" in chosen.settings.model_fields else {}))
    chosen(**signals, budget=BUDGET, seed=0, **settings)  # which loads libraries
    tracemalloc.start()
    chosen(**signals, budget=BUDGET, seed=0, **settings)
    held = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    strata = signals.get("strata", np.zeros(SAMPLES, np.int64))
    said = chosen.memory(Sizes(SAMPLES, DIMENSIONS, int(np.bincount(strata).max())))
    assert said / 4 < held <= said


def test_choosing_that_does_not_fit_is_refused_with_the_sizes_and_a_class_policy_may_make_it_fit(monkeypatch):
    chosen = selectors()["prototypes"]
    signals = signals_of(chosen, np.random.default_rng(0)) | {"strata": np.arange(SAMPLES) % 10}
    needed = chosen.memory(Sizes(SAMPLES, DIMENSIONS, SAMPLES))
    monkeypatch.setattr(contract, "available_memory", lambda: needed // 2)
    message = r"'prototypes': 1,000 samples of 6,144 dimensions take 0\.08 GB of memory, and 0\.04 GB are free; choose"
    with pytest.raises(DoesNotFit, match=message):
        chosen(signals["embeddings"], BUDGET, seed=0, clusters=2)
    assert issubclass(DoesNotFit, MemoryError)
    assert issubclass(DoesNotFit, ValueError)
    monkeypatch.setattr(contract, "available_memory", lambda: needed * 6 // 10)
    apart = with_class_policy(chosen, "proportional")
    assert apart(signals["embeddings"], signals["strata"], 20, seed=0, clusters=2).sum() == 20
    monkeypatch.setattr(contract, "available_memory", lambda: needed)
    assert chosen(signals["embeddings"], BUDGET, seed=0, clusters=2).sum() == BUDGET
