"""The search of q by a score of pruned checkpoints: the input of the score, the choice, and resumption."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from secateur.pipelines.deltas.files import Checkpoint
from secateur.pipelines.deltas.q_search import QSearch, tried_file
from secateur.pipelines.deltas.sources import TunedDelta
from secateur.pipelines.deltas.stream import DeltaChoice
from secateur.pipelines.manifests.deltas import prune_deltas
from secateur.pipelines.manifests.manifest import Manifest

SHAPES = {"a.weight": (20, 31), "a.bias": (20,), "b.weight": (7, 20)}


@pytest.fixture
def source(tmp_path):
    generator = torch.Generator().manual_seed(0)
    base = {name: torch.randn(shape, generator=generator) for name, shape in SHAPES.items()}
    tuned = {name: each + 0.1 * torch.randn(each.shape, generator=generator) for name, each in base.items()}
    save_file(base, tmp_path / "base.safetensors")
    save_file(tuned, tmp_path / "tuned.safetensors")
    return TunedDelta.of(*(Checkpoint.read(tmp_path / f"{name}.safetensors") for name in ("base", "tuned")))


def nearness_to(divided, folder):
    """A score: minus the distance of the median rescaling q of the kept entries from `divided`."""
    base, tuned = (load_file(folder / f"{name}.safetensors") for name in ("base", "tuned"))

    def score(checkpoint):
        pruned = load_file(checkpoint / "tuned.safetensors")
        (name,) = [file.name for file in checkpoint.iterdir()]
        assert name == "tuned.safetensors"  # the files of a user's loader, and no mask
        kept = (pruned["a.weight"] - base["a.weight"]).abs() > 0
        ratio = (tuned["a.weight"] - base["a.weight"])[kept] / (pruned["a.weight"] - base["a.weight"])[kept]
        score.seen.append((round(float(ratio.median()), 4), kept.numpy().tobytes()))
        return -abs(float(ratio.median()) - divided)

    score.seen = []
    return score


def test_the_q_that_is_judged_best_is_the_one_that_is_written_with_another_mask(source, tmp_path):
    score = nearness_to(0.34, tmp_path)
    choice = DeltaChoice(0.2, rescale="search", each=True)
    pruned = prune_deltas(source, tmp_path / "out", choice, search=QSearch(score, "judge:score", draws=3))
    assert pruned.found is not None
    assert pruned.found.q == pytest.approx(0.34, abs=0.005)
    assert {each.q for each in pruned.tensors.values()} == {pruned.found.q}
    masks = {mask for _, mask in score.seen}
    assert len(masks) == 3
    assert len(score.seen) == 3 * len(pruned.found.tried)
    assert {q for q, _ in score.seen} == {round(q, 4) for q, _ in pruned.found.tried}
    manifest = Manifest.load(tmp_path / "out")
    assert np.asarray(manifest.payload.kept.groups["a.weight"]).tobytes() not in masks
    told = json.loads((tmp_path / "out" / "manifest.json").read_text())["secateur"]["provenance"]["settings"]
    assert told["rescale"] == "search"
    assert told["search"]["score"] == "judge:score"
    assert told["search"]["tried"] == [list(pair) for pair in pruned.found.tried]
    assert {path.name for path in tmp_path.iterdir()} == {"base.safetensors", "tuned.safetensors", "out"}


def test_chosen_entries_are_judged_by_their_own_mask(source, tmp_path):
    score = nearness_to(0.5, tmp_path)
    choice = DeltaChoice(0.2, select="magnitude", over="all", rescale="search")
    pruned = prune_deltas(source, tmp_path / "out", choice, search=QSearch(score))
    assert pruned.found is not None
    assert pruned.found.q == pytest.approx(0.5, abs=0.005)
    assert len({mask for _, mask in score.seen}) == 1
    kept = np.asarray(Manifest.load(tmp_path / "out").payload.kept.groups["a.weight"])
    assert kept.tobytes() in {mask for _, mask in score.seen}


def test_a_search_that_was_stopped_judges_nothing_twice(source, tmp_path):
    whole, stopped = nearness_to(0.3, tmp_path), nearness_to(0.3, tmp_path)

    def until_it_breaks(checkpoint):
        if len(stopped.seen) == 7:
            raise MemoryError("out of memory")
        return stopped(checkpoint)

    choice = DeltaChoice(0.2, rescale="search")
    expected = prune_deltas(source, tmp_path / "whole", choice, search=QSearch(whole, draws=2)).found
    with pytest.raises(MemoryError):
        prune_deltas(source, tmp_path / "out", choice, search=QSearch(until_it_breaks, draws=2, made_of="of judge 1"))
    assert not (tmp_path / "out").exists()
    assert tried_file(tmp_path / "out").exists()
    assert not [path for path in tmp_path.iterdir() if "partial" in path.name]
    resumed = nearness_to(0.3, tmp_path)
    found = prune_deltas(source, tmp_path / "out", choice, search=QSearch(resumed, draws=2, made_of="of judge 1")).found
    assert found == expected
    assert len(stopped.seen) + len(resumed.seen) == len(whole.seen)
    assert not tried_file(tmp_path / "out").exists()


def test_what_another_judge_noted_does_not_count(source, tmp_path):
    choice, other = DeltaChoice(0.2, rescale="search"), nearness_to(0.3, tmp_path)

    def broken(checkpoint):
        if len(other.seen) == 3:
            raise MemoryError
        return other(checkpoint)

    with pytest.raises(MemoryError):
        prune_deltas(source, tmp_path / "out", choice, search=QSearch(broken, draws=1, made_of="of judge 1"))
    score = nearness_to(0.3, tmp_path)
    found = prune_deltas(source, tmp_path / "out", choice, search=QSearch(score, draws=1, made_of="of judge 2")).found
    assert found is not None
    assert len(score.seen) == len(found.tried)


@pytest.mark.parametrize(
    ("answer", "message"),
    [(None, "gave None, which is no number"), (float("nan"), r"gave nan at q = 0\.2"), ("high", "gave 'high'")],
)
def test_a_score_that_is_no_number_is_refused(source, tmp_path, answer, message):
    with pytest.raises(ValueError, match=message):
        prune_deltas(source, tmp_path / "out", DeltaChoice(0.2, rescale="search"), search=QSearch(lambda _: answer))
    assert {path.name for path in tmp_path.iterdir()} == {"base.safetensors", "tuned.safetensors"}


def test_a_search_and_its_score_come_together(source, tmp_path):
    for choice, search in (
        (DeltaChoice(0.2, rescale="search"), None),
        (DeltaChoice(0.2), QSearch(lambda _: 0.0)),
    ):
        with pytest.raises(ValueError, match="needs a score that judges checkpoints"):
            prune_deltas(source, tmp_path / "out", choice, search=search)
    with pytest.raises(ValueError, match="one draw of the mask at least, not 0"):
        QSearch(lambda _: 0.0, draws=0)
    with pytest.raises(ValueError, match="'json:nothing' cannot be imported"):
        QSearch.by("json:nothing")
    with pytest.raises(ValueError, match="'json:__name__' is no function"):
        QSearch.by("json:__name__")
