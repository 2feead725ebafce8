"""Token searches: laws over random prompts and fitness, and each rule of the paper against its own account."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secateur.selectors.searches.contract import AskTell, search
from secateur.selectors.searches.token_search import (
    HillClimbing,
    RandomMasks,
    ThresholdAccepting,
    TokenEvolution,
    TokenSearch,
)

Make = Callable[..., TokenSearch]
SEARCHES: dict[str, Make] = {
    "random": RandomMasks,
    "gga": lambda *args, **more: TokenEvolution(*args, form="GGA", population=6, offspring=8, **more),
    "ssga": lambda *args, **more: TokenEvolution(*args, form="SSGA", population=6, offspring=8, **more),
    "pruned": lambda *args, **more: TokenEvolution(*args, begin="pruned", population=6, offspring=8, **more),
    "threshold": ThresholdAccepting,
    "climbing": HillClimbing,
    "shuffled": lambda *args, **more: ThresholdAccepting(*args, shuffled=True, **more),
}


def worth(mask: np.ndarray, weights: np.ndarray) -> float:
    """Fitness that is never negative: some tokens help, some harm."""
    return float(np.clip(1 + (mask * weights).sum(), 0, None))


@settings(max_examples=15, deadline=None)
@given(
    prunable=st.lists(st.booleans(), min_size=3, max_size=14),
    seed=st.integers(0, 999),
    batch=st.integers(1, 9),
    room=st.floats(0, 1),
)
@pytest.mark.parametrize("name", SEARCHES)
def test_tokens_only_leave_protected_ones_stay_and_budgets_hold(
    name: str, prunable: list[bool], seed: int, batch: int, room: float
) -> None:
    free = np.array(prunable)
    least = max(1, int((~free).sum()))
    longest = least + round(room * (len(free) - least))
    if name in ("threshold", "climbing") and not free.any():
        longest = len(free)
    searcher = SEARCHES[name](free, longest=longest, seed=seed)
    assert isinstance(searcher, AskTell)
    weights = np.random.default_rng(seed).normal(0, 0.2, len(free))
    asked: list[np.ndarray] = []

    def evaluate(masks: np.ndarray) -> np.ndarray:
        asked.extend(masks)
        return np.array([worth(mask, weights) for mask in masks])

    history = search(searcher, evaluate, 40, batch=batch)
    assert len(asked) == len(history.fitness) == len(searcher.archive) <= 40
    assert all(mask[~free].all() and mask.any() for mask in asked)
    if not isinstance(searcher, ThresholdAccepting):
        assert all(mask.sum() <= longest for mask in asked)
    elites = searcher.elites(most=5)
    assert len(elites) <= 5
    fits = [(value, -int(mask.sum())) for mask, value in searcher.archive if mask.sum() <= longest]
    if fits:
        told = [worth(mask, weights) for mask in elites]
        assert (told[0], -int(elites[0].sum())) == max(fits)
        assert told == sorted(told, reverse=True)
        assert min(told) >= np.quantile([value for value, _ in fits], 0.9)
        assert len({mask.tobytes() for mask in elites}) == len(elites)
    else:
        assert not len(elites)


@pytest.mark.parametrize("name", SEARCHES)
def test_a_search_that_is_saved_and_loaded_goes_on_as_it_would_have(name: str) -> None:
    free, weights = np.arange(12) % 5 > 0, np.random.default_rng(0).normal(0, 0.2, 12)

    def follow(searcher: TokenSearch, steps: int) -> list[Any]:
        made = []
        for _ in range(steps):
            masks = searcher.ask(3)
            if not len(masks):
                break
            searcher.tell(masks, np.array([worth(mask, weights) for mask in masks]))
            made.append(masks.tolist())
        return made

    assert follow(SEARCHES[name](free, seed=4), 20) == follow(SEARCHES[name](free, seed=4), 20)


def test_children_lose_one_to_four_tokens_of_a_member_and_are_never_members_already() -> None:
    searcher = TokenEvolution(np.ones(30, bool), population=5, offspring=12, seed=1)
    lost: set[int] = set()
    population: list[np.ndarray] = []
    for _ in range(5):
        masks = searcher.ask(5)
        population.extend(masks)
        searcher.tell(masks, np.random.default_rng(len(population)).random(len(masks)))
    assert not population[0][~population[0]].size
    for _ in range(20):
        members = [mask for mask, _ in searcher.members]
        masks = searcher.ask(50)
        before = [*members, *(mask for mask, _ in searcher.members)]
        for mask in masks:
            parents = [int((member & ~mask).sum()) for member in before if not (mask & ~member).any()]
            assert parents
            assert min(parents) <= 4
            assert min(parents) >= 1
            lost.add(min(parents))
        if not len(masks):
            break
        searcher.tell(masks, np.random.default_rng(len(masks)).random(len(masks)))
    assert lost == {1, 2, 3, 4}


def test_the_youngest_survive_and_of_them_the_fittest() -> None:
    searcher = TokenEvolution(np.ones(20, bool), population=3, offspring=4, seed=0)
    searcher.tell(searcher.ask(3), np.array([9.0, 8.0, 7.0]))
    children = searcher.ask(4)
    searcher.tell(children, np.arange(1.0, 1 + len(children)))
    searcher.slots = 0
    expected = [*([9.0, 8.0, 7.0]), *range(1, 1 + len(children))][-4:]
    searcher.survive()
    assert [value for _, value in searcher.members] == [value for value in expected if value in sorted(expected)[-3:]]
    assert max(value for _, value in searcher.archive) == 9.0


def test_in_the_steady_form_a_child_may_be_a_parent_at_once_and_in_the_other_not() -> None:
    for form, expected in (("SSGA", True), ("GGA", False)):
        searcher = TokenEvolution(np.ones(40, bool), form=form, population=2, offspring=30, seed=0)  # type: ignore[arg-type]
        searcher.tell(searcher.ask(1), np.array([0.0]))
        searcher.tell(searcher.ask(1), np.array([0.0]))
        lengths = []
        for step in range(12):
            mask = searcher.ask(1)
            searcher.tell(mask, np.array([1.0 + step]))
            lengths.append(int(mask.sum()))
        assert (min(lengths) < 36) == expected


def test_evolution_ends_when_prompts_are_short_and_when_nothing_is_left_to_drop() -> None:
    short = TokenEvolution(np.ones(30, bool), population=4, offspring=10, shortest=20, seed=0)
    history = search(short, lambda masks: -masks.sum(axis=1).astype(float), 1000, batch=10)
    assert len(history.fitness) < 200
    assert np.mean([mask.sum() for mask, _ in short.members]) <= 20
    tiny = TokenEvolution(np.array([True, True, False]), population=4, offspring=10, seed=0)
    tiny.tell(tiny.ask(4), np.ones(4))
    tiny.members = [(np.array([False, False, True]), 1.0)] * 4
    assert not len(tiny.ask(10))


def climbed(fitness: Callable[[np.ndarray], float], count: int, threshold: float | None) -> np.ndarray:
    """First-choice hill climbing as it is written down, with threshold accepting or, without, of what is better."""
    mask, best = np.ones(count, bool), fitness(np.ones(count, bool))
    while True:
        before = mask.sum()
        for place in np.flatnonzero(mask):
            if mask.sum() == 1:
                return mask
            mask[place] = False
            value = fitness(mask)
            if value / best <= 1 if threshold is None else value / best < threshold:
                mask[place] = True
            else:
                best = max(best, value)
        if mask.sum() == before:
            return mask


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 9999), count=st.integers(2, 12), threshold=st.sampled_from([0.5, 0.9, 0.96, 1.0, None]))
def test_hill_climbings_are_the_loop_that_is_written_down(seed: int, count: int, threshold: float | None) -> None:
    weights = np.random.default_rng(seed).normal(0, 0.2, count)

    def fitness(mask: np.ndarray) -> float:
        return 0.1 + worth(mask, weights)

    every = np.ones(count, bool)
    searcher = HillClimbing(every) if threshold is None else ThresholdAccepting(every, threshold=threshold)
    search(searcher, lambda masks: np.array([fitness(mask) for mask in masks]), 10_000)
    np.testing.assert_array_equal(searcher.current, climbed(fitness, count, threshold))


@pytest.mark.parametrize("kind", [ThresholdAccepting, HillClimbing])
def test_hill_climbing_lowers_its_threshold_until_the_budget_holds(kind: type[ThresholdAccepting]) -> None:
    searcher = kind(np.ones(10, bool), longest=4)
    search(searcher, lambda masks: masks.sum(axis=1).astype(float), 10_000)  # every token is worth as much
    assert searcher.current.sum() <= 4
    assert len(searcher.elites())
    with pytest.raises(ValueError, match="is negative"):
        ThresholdAccepting(np.ones(3, bool)).learn(np.ones(3, bool), -1.0)


def test_prompts_of_one_text_count_once() -> None:
    def first_half(mask: np.ndarray) -> bytes:
        return mask[:5].tobytes()

    searcher = RandomMasks(np.ones(10, bool), seed=0, key=first_half)
    masks = searcher.ask(200)
    assert 25 < len(masks) <= 32
    assert len({first_half(mask) for mask in masks}) == len(masks)


def test_a_search_without_progress_ends_early() -> None:
    searcher = RandomMasks(np.ones(30, bool), seed=0)
    assert len(search(searcher, lambda masks: np.zeros(len(masks)), 500, batch=10, patience=30).fitness) == 40


@pytest.mark.parametrize(
    ("told", "message"),
    [
        (lambda masks: (masks, np.array([0.0, np.nan])), "NaN or infinite for mask 1"),
        (lambda masks: (~masks, np.zeros(2)), r"ask\(\) did not give next"),
    ],
)
def test_what_cannot_be_told_is_refused(told: Any, message: str) -> None:
    searcher = RandomMasks(np.ones(9, bool), seed=0)
    with pytest.raises(ValueError, match=message):
        searcher.tell(*told(searcher.ask(2)))


def test_settings_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="at most 2 of 4 tokens are to stay, and 3 are protected"):
        RandomMasks(np.array([True, False, False, False]), longest=2)
    with pytest.raises(ValueError, match="must be at least 1"):
        RandomMasks(np.ones(3, bool)).ask(0)
    with pytest.raises(ValueError, match="must be at least 1"):
        TokenEvolution(np.ones(3, bool), population=0)
    with pytest.raises(ValueError, match="threshold 0"):
        ThresholdAccepting(np.ones(3, bool), threshold=0.0)
