"""Head pruning: controls by counting, the tiny model's parts, and whole runs on a handmade copying model."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from secateur.selectors.masks.without_highest_heads import without_highest_heads, without_top
from secateur.selectors.masks.without_other_heads import others_of, without_other_heads
from secateur.trainers.contract import Progress
from secateur.trainers.experiments.contract import experiments
from secateur.trainers.experiments.head_pruning import (
    HeadPruning,
    hidden_pieces,
    symbols_recalled,
)
from secateur.trainers.models.induction_model import (
    BEGIN,
    SYMBOLS,
    Copying,
    Curriculum,
    copies,
    symbol_tokenizer,
    train_induction_model,
)
from secateur.trainers.pruning.masked_heads import heads_of


def untold(done: int, of: int) -> None:
    """Progress without output."""


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 999), layers=st.integers(1, 5), heads=st.integers(1, 6), count=st.integers(0, 8))
def test_controls_are_exactly_as_many_other_heads_of_their_layers(
    seed: int, layers: int, heads: int, count: int
) -> None:
    generator = np.random.default_rng(seed)
    scores = (generator.random((layers, heads)) ** 6).astype(np.float32)
    count = min(count, scores.size)
    masked = ~without_top(scores, count)
    assert masked.sum() == count
    assert not count or scores[masked].min() >= scores[~masked].max(initial=0)
    pivot = max(range(layers), key=lambda layer: float(scores[layer].astype(np.float64).sum()))
    layer_of = np.broadcast_to(np.arange(layers)[:, None], scores.shape)
    for control, where in {
        "random": layer_of >= 0,
        "earlier": layer_of < pivot,
        "later": layer_of > pivot,
    }.items():
        possible = where & (scores <= 0.1) & ~masked
        assert others_of(scores, count, control, 0.1).tolist() == np.flatnonzero(possible).tolist()  # type: ignore[arg-type]
        if count == scores.size:
            continue
        keep = 1 - count / scores.size
        assert np.array_equal(without_highest_heads(scores, keep), ~masked)
        others = ~without_other_heads(scores, keep, control=control, threshold=0.1, seed=seed)  # type: ignore[arg-type]
        assert others.sum() == min(count, possible.sum())
        assert not (others & ~possible).any()


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 999), length=st.integers(11, 40), depths=st.integers(1, 4))
def test_hidden_pieces_are_asked_for_by_their_first_symbols(seed: int, length: int, depths: int) -> None:
    prompts = hidden_pieces([length], depths, 2, np.random.default_rng(seed))
    assert len(prompts) == 2 * depths
    for prompt in prompts:
        tokens = prompt.tokens.tolist()
        assert len(tokens) == length
        assert tokens[0] == BEGIN
        assert max(tokens[1:]) < SYMBOLS
        assert tokens[prompt.start - 2 : prompt.start] == tokens[-2:]
        assert prompt.stop - prompt.start == 6
        assert len(set(tokens[prompt.start - 2 : prompt.stop])) == 8
    assert prompts[0].start == 3
    assert depths == 1 or prompts[-1].stop == length - 2
    with pytest.raises(ValueError, match="too short for a piece of 8"):
        hidden_pieces([10], 1, 1, np.random.default_rng(seed))


def test_recall_counts_symbols_in_their_places() -> None:
    needle = np.array([1, 2, 3, 4])
    told = {(1, 2, 3, 4): 1.0, (1, 2): 0.5, (2, 1, 3): 0.25, (): 0.0, (0, 1, 2, 3, 4): 0.0}
    for written, recall in told.items():
        assert symbols_recalled(np.array(written, dtype=np.int64), needle) == recall


def test_training_sequences_hold_their_piece_twice_and_ask_for_its_rest() -> None:
    tokens, starts = copies(50, 12, 6, np.random.default_rng(0))
    assert tokens.shape == (50, 19)
    for row, start in zip(tokens, starts, strict=True):
        assert row[0] == BEGIN
        assert row[start : start + 6].tolist() == row[13:].tolist()
    assert set(starts.tolist()) == set(range(1, 8))
    curriculum = Curriculum(8, 20, 0.5)
    assert [curriculum.reached(step, 4) for step in range(4)] == [8, 14, 20, 20]
    batches = list(Copying(seed=3, steps=200, tokens=60, curriculum=curriculum))
    lengths = [int((batch["input_ids"].shape[1] - 1) / 1.5 + 0.5) for batch in batches]
    assert lengths[0] == 8
    assert all(8 <= length <= curriculum.reached(step, 200) for step, length in enumerate(lengths))
    assert set(lengths[100:]) == set(range(8, 21))
    for batch, length in zip(batches, lengths, strict=True):
        ids, labels = batch["input_ids"], batch["labels"]
        assert ids.shape[1] == 1 + length + length // 2
        assert (labels[:, : length + 2] == -100).all()
        assert torch.equal(labels[:, length + 2 :], ids[:, length + 2 :])


def test_the_same_seed_trains_the_same_model_and_leaves_generators_alone(tmp_path: Path) -> None:
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # type: ignore[index,union-attr]
    told: list[tuple[int, int]] = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        train_induction_model(
            tmp_path / name,
            seed=seed,
            layers=1,
            width=16,
            heads=2,
            steps=20,
            tokens=64,
            progress=lambda done, of: told.append((done, of)),
        )
    contents = {name: (tmp_path / name / "model.safetensors").read_bytes() for name in "abc"}
    assert contents["a"] == contents["b"] != contents["c"]
    assert told == [(20, 20)] * 3
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])  # type: ignore[index]


def test_symbols_are_words_and_back() -> None:
    tokenizer = symbol_tokenizer()
    ids = tokenizer("s3 s63 s0")["input_ids"]
    assert ids == [BEGIN, 3, 63, 0]
    assert tokenizer("s3  s63", add_special_tokens=False)["input_ids"] == [3, 63]
    assert tokenizer.decode(ids, skip_special_tokens=True) == "s3 s63 s0"


class OnCopier(HeadPruning):
    """The experiment on a model with handmade weights, without training."""

    copier: Path

    def train(self, seed: int, folder: Path, progress: Progress) -> None:
        shutil.copytree(self.copier, folder)


def test_the_head_that_copies_is_found_and_is_the_one_that_matters(copying_model: Path, tmp_path: Path) -> None:
    OnCopier.copier = copying_model
    experiment = OnCopier(depths=3, repeats=4)
    experiment.prepare(0, tmp_path, untold)
    scores = np.array(json.loads((tmp_path / "scores.json").read_text())["scores"])
    assert scores.shape == (3, 4)
    assert scores[1, 2] > 0.8
    assert np.count_nonzero(scores) == 1
    keep = 11 / 12
    outcomes = {(arm, keep, 0): experiment.run(arm, keep, 0, tmp_path, untold) for arm in HeadPruning.arms}
    outcomes["full", 1.0, 0] = experiment.run("full", 1.0, 0, tmp_path, untold)
    recall = {arm: one.outcome.metrics["recall"] for (arm, _, _), one in outcomes.items()}
    assert recall["full"] > 0.6  # Some first symbols also occur in the haystack.
    assert recall["retrieval"] < 0.1
    assert recall["later"] == recall["full"]
    assert [one.outcome.metrics["masked"] for one in outcomes.values()] == [1, 1, 1, 1, 0]
    kept = outcomes["retrieval", keep, 0].kept
    assert kept is not None
    mask = heads_of(experiment.load(tmp_path).model, kept)
    assert np.argwhere(~mask).tolist() == [[1, 2]]
    again = experiment.run("random", keep, 0, tmp_path, untold)
    assert again.outcome.metrics == outcomes["random", keep, 0].outcome.metrics
    pictures = experiment.pictures({key: one.outcome for key, one in outcomes.items()})
    assert sorted(pictures) == ["head scores", "recall by masked heads"]
    assert all(content.startswith(b"<?xml") for content in pictures.values())
    assert experiment.pictures({key: one.outcome for key, one in outcomes.items() if key[0] != "full"}) == {}
    fewer = experiment.run("later", 7 / 12, 0, tmp_path, untold).outcome.metrics
    assert fewer["masked"] == 4  # There are only four heads behind.
    assert fewer["recall"] == recall["full"]


def test_a_model_of_the_users_finds_a_sentence_in_a_text(copying_model: Path, tmp_path: Path) -> None:
    haystack = tmp_path / "haystack.txt"
    haystack.write_text("\n".join(f"s{n} s{n + 1} s{n + 2}" for n in range(10, 60, 3)))
    experiment = HeadPruning(
        model=str(copying_model),
        haystack=str(haystack),
        needle="s1 s2 s3 s4 s5",
        question="s1",
        lengths=[24, 30],
        depths=3,
        new_tokens=5,
        how="uniform",
        decoding_only=True,
    )
    (tmp_path / "prepared").mkdir()
    experiment.prepare(1, tmp_path / "prepared", untold)
    scores = np.array(json.loads((tmp_path / "prepared" / "scores.json").read_text())["scores"])
    assert np.argwhere(scores).tolist() == [[1, 2]]
    full = experiment.run("full", 1.0, 1, tmp_path / "prepared", untold).outcome.metrics["recall"]
    assert full > 0.9
    assert experiment.run("retrieval", 11 / 12, 1, tmp_path / "prepared", untold).outcome.metrics["recall"] < 0.3
    assert experiment.run("later", 8 / 12, 1, tmp_path / "prepared", untold).outcome.metrics["recall"] == full


def test_settings_are_refused_with_a_reason() -> None:
    assert experiments()["head_pruning"] is HeadPruning
    with pytest.raises(ValueError, match="go together"):
        HeadPruning(model="somewhere")
    with pytest.raises(ValueError, match="must not be empty"):
        HeadPruning(lengths=[])
