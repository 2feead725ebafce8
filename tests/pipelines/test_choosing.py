"""Budgets of selections in training, and of all samples."""

from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from secateur.pipelines.runs.choosing import choose, epochs_of, held_settings, sampler_of, subset_of
from secateur.pipelines.studies.files import StudyFile
from secateur.pipelines.studies.grid import Trial
from secateur.pipelines.studies.samples import Study
from secateur.pipelines.studies.selection import Selection
from secateur.selectors.contract import resolve_keep
from secateur.selectors.samplers.info_batch import InfoBatch
from secateur.trainers.contract import TrainingConfig

LABELS = np.arange(90, dtype=np.int64) % 3
SIGNALS = {"strata": LABELS, "aum": np.linspace(-1, 1, 90).astype(np.float32)}


@pytest.mark.parametrize("name", ["rs2", "info_batch", "seta", "order_dp", "repb"])
@pytest.mark.parametrize("keep", [0.05, 0.3, 17, 1.0])
@pytest.mark.parametrize("length", [{"steps": 40}, {"epochs": 7}], ids=str)
def test_every_epoch_holds_the_studys_budget(name: str, keep: int | float, length: dict[str, int]) -> None:
    selection, budget = Selection(selector=name), resolve_keep(keep, 90)
    config = TrainingConfig(batch_size=8, **length)
    sampler, epochs = sampler_of(selection, SIGNALS, held_settings(selection) | {"keep": keep}, config=config, seed=1)
    assert [(plan.samples, plan.exact) for plan in sampler.plan(epochs)] == [(budget, True)] * epochs
    generator = torch.Generator().manual_seed(0)
    for epoch in range(epochs):
        sampler.set_epoch(epoch)
        ids = torch.from_numpy(sampler.epoch_ids())
        assert len(ids) == budget
        sampler.observe(ids, torch.rand(len(ids), generator=generator))


@settings(max_examples=40, deadline=None)
@given(
    steps=st.integers(1, 300),
    batch=st.integers(1, 40),
    keep=st.integers(1, 90),
    anneal=st.sampled_from([0.5, 0.875, 1.0]),
)
def test_a_run_of_steps_has_the_fewest_epochs_that_fill_it(steps: int, batch: int, keep: int, anneal: float) -> None:
    def make(epochs: int) -> InfoBatch:
        return InfoBatch(90, epochs, keep=keep, anneal_from=anneal)

    def planned(epochs: int) -> int:
        return sum(plan.steps(batch) for plan in make(epochs).plan(epochs))

    found = epochs_of(
        lambda epochs: InfoBatch(90, epochs, keep=keep, anneal_from=anneal),
        TrainingConfig(steps=steps, batch_size=batch),
    )
    assert planned(found) >= steps
    assert found == 1 or planned(found - 1) < steps


def test_annealing_that_a_study_asks_for_is_told_as_a_missed_budget(write_study: Callable[..., StudyFile]) -> None:
    chosen = {"info_batch": {"anneal_from": 0.5}, "rs2": None}
    study = write_study(selections=chosen, training={"epochs": 4}).study
    assert isinstance(study, Study)

    def fault(name: str) -> str:
        given = held_settings(study.selections[name])
        found = subset_of(study, Trial(f"{name}@0.25", 0), SIGNALS, pl.DataFrame(), given, {})
        assert found.keep.all()
        assert found.in_training
        return found.fault

    assert fault("info_batch") == "2 of 4 epochs do not hold the budget of 23"
    assert fault("rs2") == ""


def test_all_samples_can_be_kept_whatever_a_selector_cuts() -> None:
    selection = Selection(selector="coverage_centric", score="aum", settings={"cutoff": 0.9})
    full: dict[str, Any] = {"seed": 0, "settings": {"cutoff": 0.9}}
    assert choose(selection, SIGNALS, budget=90, **full).all()
    with pytest.raises(ValueError, match="above 9, all that its settings leave"):
        choose(selection, SIGNALS, budget=89, **full)
