"""The page of a subset: its numbers against literal ones, its pictures small, no active content from samples."""

import base64
import io
from xml.etree import ElementTree

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.spatial.distance import cdist

from secateur.pipelines.pages import subset as page_module
from secateur.pipelines.pages.extremes import SHOWN
from secateur.pipelines.pages.score import EACH
from secateur.pipelines.pages.subset import Whole, drawn, overlap, random_beside, rows_asked, shares, subset_page
from secateur.selectors.static.uniform_random import uniform_random
from secateur.trainers.tasks.classification import Classification

LIMIT = 100_000


def whole(count: int = 60, classes: int = 3, width: int = 4, previews: list[str | None] | None = None) -> Whole:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, classes, count)
    table = pl.LazyFrame(
        {"row": np.arange(count), "label": labels, "preview": previews or [f"s{i}" for i in range(count)]}
    )
    embeddings = rng.normal(size=(count, width)).astype(np.float32)
    names = [f"class {c}" for c in range(classes)]
    return Whole(labels, names, embeddings, table, Classification(classes, names).state(), embeddings)


def pictures_in(markdown: str) -> list[bytes]:
    return [base64.b64decode(part.split(")")[0]) for part in markdown.split("base64,")[1:]]


@settings(max_examples=30)
@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=40))
def test_overlap_is_the_jaccard_index(pairs: list[tuple[bool, bool]]) -> None:
    one, other = (np.array(side) for side in zip(*pairs, strict=True))
    left, right = set(np.flatnonzero(one).tolist()), set(np.flatnonzero(other).tolist())
    expected = len(left & right) / len(left | right) if left | right else 0
    assert overlap(one, other) == pytest.approx(expected)


def test_coverage_is_that_of_all_pairs_and_beside_the_studys_random() -> None:
    data, keep = whole(), np.arange(60) % 5 == 0
    found = subset_page(data, keep, seed=3)
    random = uniform_random(np.arange(60), 12, seed=3)
    assert data.embeddings is not None
    for mask, of in ((keep, ""), (random, " of random")):
        literal = cdist(data.embeddings.astype(float), data.embeddings[mask].astype(float)).min(axis=1)
        assert found[f"coverage radius{of}"] == pytest.approx(literal.max(), rel=1e-5)
        assert found[f"mean distance to kept{of}"] == pytest.approx(literal.mean(), rel=1e-5)
    assert found["overlap with random"] == pytest.approx(overlap(keep, random_beside(keep, 3)))
    assert f"{found['coverage radius']:.4g}" in found["coverage"]


def test_coverage_of_many_samples_is_of_a_draw_that_is_the_same_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_module, "FEWEST", 16)
    monkeypatch.setattr(page_module, "MOST", 16)
    data, keep = whole(400), np.arange(400) % 8 == 0
    rows = rows_asked(400, 50, 4)
    assert len(rows) == 16
    np.testing.assert_array_equal(rows, rows_asked(400, 50, 4))
    found = subset_page(data, keep, seed=0)
    assert data.embeddings is not None
    literal = cdist(data.embeddings[rows].astype(float), data.embeddings[keep].astype(float)).min(axis=1)
    assert found["coverage radius"] == pytest.approx(literal.max(), rel=1e-5)
    assert "16 of 400 samples" in found["coverage"]


@pytest.mark.parametrize(("count", "kept", "width"), [(50_000, 5_000, 512), (10**6, 300_000, 768), (10**7, 10**6, 64)])
def test_the_work_of_coverage_is_bounded(count: int, kept: int, width: int) -> None:
    asked = len(rows_asked(count, kept, width))
    assert page_module.FEWEST <= asked <= page_module.MOST
    assert asked == page_module.FEWEST or asked * kept * width <= page_module.WORK


def test_without_embeddings_coverage_is_said_to_be_unknown() -> None:
    data = whole()
    plain = Whole(data.strata, data.names, data.inputs, data.samples, data.task)
    found = subset_page(plain, np.arange(60) < 20, seed=0)
    assert "not known" in found["coverage"]
    assert "coverage radius" not in found


def test_overlaps_are_listed_with_what_chance_gives() -> None:
    keep = np.arange(60) < 20
    text = subset_page(whole(), keep, seed=0, others={"same": keep, "none": ~keep})["overlap"]
    assert "| same | 1.00 | 20 |" in text
    assert "| none | 0.00 | 0 |" in text
    assert text.index("| same") < text.index("| none")
    assert "about 0.20" in text  # 20 of 60: 20 / 100


def test_chance_overlap_is_what_random_subsets_have() -> None:
    masks = [uniform_random(np.arange(4000), 1000, seed=seed) for seed in range(6)]
    found = [overlap(one, other) for place, one in enumerate(masks) for other in masks[:place]]
    assert np.mean(found) == pytest.approx(1000 / 7000, abs=0.01)


def test_samples_of_both_sides_are_drawn_from_their_side_and_stand_by_score() -> None:
    keep, score = np.arange(60) % 2 == 0, np.arange(60)[::-1].astype(np.float32)
    text = subset_page(whole(), keep, seed=1, score=("aum", score))["kept and dropped"]
    kept, dropped = (
        [int(line.split("|")[1]) for line in part.splitlines() if line.startswith("| ") and line[2].isdigit()]
        for part in text.split("**Dropped**")
    )
    for rows, parity in ((kept, 0), (dropped, 1)):
        assert len(rows) == SHOWN
        assert {row % 2 for row in rows} == {parity}
        assert [score[row] for row in rows] == sorted(score[rows], reverse=True)
    assert all(f"| {score[row]:.3g} | s{row} |" in text for row in kept + dropped)
    np.testing.assert_array_equal(drawn(np.arange(500), 1), drawn(np.arange(500), 1))
    assert not np.array_equal(drawn(np.arange(500), 1), drawn(np.arange(500), 2))


def test_images_become_two_small_strips() -> None:
    data = whole()
    noise = np.random.default_rng(1).integers(0, 256, (60, 40, 40, 3), dtype=np.uint8)
    text = subset_page(Whole(data.strata, data.names, noise, data.samples, data.task), np.arange(60) < 5, seed=0)[
        "kept and dropped"
    ]
    strips = pictures_in(text)
    assert [Image.open(io.BytesIO(strip)).width // 60 for strip in strips] == [5, SHOWN]
    assert all(len(base64.b64encode(strip)) < LIMIT for strip in strips)


def test_hostile_samples_and_classes_do_nothing() -> None:
    hostile = ["![](http://track.er/a.png)", "<script>", "[x](javascript:1)", "a|b", None] * 12
    data = whole(previews=hostile)
    names = ["<b>|", "`x`", "$\\frac"]
    named = Whole(data.strata, names, data.inputs, data.samples, Classification(3, names).state())
    found = subset_page(named, np.arange(60) < 30, seed=0)
    text = found["kept and dropped"]
    assert not {"![](", "<script", "[x](", "<b>"} & {
        part for part in ("![](", "<script", "[x](", "<b>") if part in text
    }
    ElementTree.fromstring(pictures_in(found["balance of strata"])[0].decode())


def test_shares_are_counted_and_of_many_classes_those_that_changed_most_are_shown() -> None:
    labels = np.repeat(np.arange(100), 10)
    keep = np.ones(1000, dtype=bool)
    keep[(labels == 41) | (labels == 57)] = False
    found = shares(labels, keep, [f"c{c}" for c in range(100)])
    assert len(found) == EACH + 1
    by_title = {one.title: one for one in found}
    assert by_title["c41"].after == by_title["c57"].after == 0
    rest = by_title[f"{100 - EACH} others, mean"]
    assert rest.before == pytest.approx(0.01)
    assert rest.after == pytest.approx(10 / 980)
    few = shares(labels[:30], keep[:30], ["c0", "c1", "c2"])
    assert [(one.title, one.before) for one in few] == [(f"c{c}", pytest.approx(1 / 3)) for c in range(3)]


def test_the_picture_of_a_thousand_classes_is_small() -> None:
    data = whole(5000, 1000)
    text = page_module.class_balance(data.strata, np.arange(5000) % 3 == 0, data.names)
    assert len(text) < LIMIT
