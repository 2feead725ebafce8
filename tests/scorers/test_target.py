"""Order and weights that follow a target, against the papers' rules written out."""

from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from secateur.scorers.target import cosines
from secateur.scorers.target.cosines import VectorCosines
from secateur.scorers.target.ngram_ratios import BUCKETS, ngram_ratios
from secateur.scorers.target.target_places import target_places
from secateur.selectors.static.importance_resampling import importance_resampling
from secateur.selectors.static.nearest_to_target import nearest_to_target


def turns(pool: np.ndarray, queries: np.ndarray, tasks: np.ndarray | None) -> list[int]:
    """Each query, or task, pops its own best row in turn; one that is taken costs the turn (RDS+), in float64."""
    unit = [
        each.astype(np.float64) / np.linalg.norm(each.astype(np.float64), axis=1)[:, None] for each in (queries, pool)
    ]
    cosines = unit[0] @ unit[1].T
    if tasks is not None:
        cosines = np.stack([cosines[tasks == task].max(axis=0) for task in np.unique(tasks)])
    lists = [list(np.lexsort((np.arange(len(pool)), -row))) for row in cosines]
    order = list[int]()
    while len(order) < len(pool):
        for rows in lists:
            if rows and (row := rows.pop(0)) not in order:
                order.append(row)
    return order


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), count=st.integers(1, 60), queries=st.integers(1, 7), several=st.booleans())
def test_queries_and_tasks_take_turns(seed, count, queries, several) -> None:
    rng = np.random.default_rng(seed)
    pool, target = (rng.normal(size=(rows, 3)).astype(np.float32) for rows in (count, queries))
    tasks = rng.integers(0, 3, queries) if several else None
    order = turns(pool, target, tasks)
    assert np.argsort(target_places(VectorCosines(pool, target), tasks)).tolist() == order
    assert np.argsort(target_places(VectorCosines(csr_matrix(pool), csr_matrix(target)), tasks)).tolist() == order
    depth = int(rng.integers(1, count + 1))
    assert np.argsort(target_places(VectorCosines(pool, target), tasks, depth=depth))[:depth].tolist() == order[:depth]


def test_memory_holds_a_block_of_the_pool_and_never_all_pairs(monkeypatch) -> None:
    rng = np.random.default_rng(0)
    pool, target = (rng.normal(size=(rows, 3)).astype(np.float32) for rows in (500, 20))
    whole = target_places(VectorCosines(pool, target), depth=90)
    monkeypatch.setattr(cosines, "WORKSPACE", 4 * 20 * 64)
    seen = list[int]()
    kept = cosines.unit_rows
    monkeypatch.setattr(cosines, "unit_rows", lambda rows: seen.append(rows.shape[0]) or kept(rows))
    assert (target_places(VectorCosines(pool, target), depth=90) == whole).all()
    assert max(seen) == 64
    assert (target_places(VectorCosines(csr_matrix(pool), csr_matrix(target)), depth=90)[whole < 90] < 90).all()


def test_a_hot_query_does_not_get_everything() -> None:
    rng = np.random.default_rng(0)
    target = np.eye(5, dtype=np.float32)
    crowd = target[0] + rng.normal(scale=0.05, size=(200, 5)).astype(np.float32)
    others = target[rng.integers(1, 5, 100)] + rng.normal(scale=0.6, size=(100, 5)).astype(np.float32)
    pool = np.concatenate([crowd, others])
    keep = nearest_to_target(target_places(VectorCosines(pool, target)), 50)
    assert 8 <= keep[:200].sum() <= 20
    assert (
        pool[np.argsort(-np.max(pool @ target.T / np.linalg.norm(pool, axis=1)[:, None], axis=1))[:50], 0] > 0.5
    ).all()


def words(text: str) -> list[str]:
    """n-grams of lower-case words and runs of punctuation, single ones and pairs."""
    import re

    single = re.findall(r"\w+|[^\w\s]+", text.lower())
    return [*single, *(" ".join(pair) for pair in pairwise(single))]


@pytest.mark.parametrize("smoothing", [0.0, 1.0])
def test_log_weights_are_the_papers_formula(smoothing) -> None:
    from sklearn.utils import murmurhash3_32

    pool = pl.Series(["Pay my card, now!", "the film was dull", "card card card", "a", ""])
    target = pl.Series(["my card is lost", "pay now"])
    counts = np.zeros((2, BUCKETS))
    bucket = {gram: abs(murmurhash3_32(gram, seed=0)) % BUCKETS for text in [*pool, *target] for gram in words(text)}
    for place, texts in enumerate((pool, target)):
        for text in texts:
            for gram in words(text):
                counts[place, bucket[gram]] += 1
    counts[1] += smoothing
    chances = counts / counts.sum(axis=1, keepdims=True)
    found = ngram_ratios(pool, target, smoothing=smoothing)
    for row, text in enumerate(pool):
        grams = [bucket[gram] for gram in words(text)]
        wanted = sum(np.log(chances[1, gram] + 1e-8) - np.log(chances[0, gram] + 1e-8) for gram in grams)
        assert found.sums[row] == pytest.approx(wanted, abs=1e-9)
        assert found.counts[row] == len(grams)


def test_gumbel_noise_draws_without_replacement_in_proportion_to_weights() -> None:
    """Inclusion of two of four rows, exact by enumeration of sequential draws."""
    weights = np.array([0.1, 0.2, 0.3, 0.4])
    exact = np.zeros(4)
    for first in range(4):
        for second in set(range(4)) - {first}:
            chance = weights[first] * weights[second] / (1 - weights[first])
            exact[[first, second]] += chance
    ones, seeds = np.ones(4), 4000
    found = np.mean([importance_resampling(np.log(weights), ones, 2, seed=seed) for seed in range(seeds)], axis=0)
    assert np.abs(found - exact).max() < 4 * np.sqrt(0.25 / seeds)
    best = importance_resampling(np.log(weights), ones, 2, noise=False, seed=0)
    assert best.tolist() == [False, False, True, True]


def test_equal_lengths_weigh_a_text_by_its_words_and_not_by_their_number() -> None:
    ratios, counts = np.array([30.0, 3.0, -1.0]), np.array([100, 3, 10])
    own = importance_resampling(ratios, counts, 1, noise=False, seed=0)
    equal = importance_resampling(ratios, counts, 1, length="equal", noise=False, seed=0)
    assert own.tolist() == [True, False, False]
    assert equal.tolist() == [False, True, False]
