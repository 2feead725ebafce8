"""A score by class: the right numbers in each box, and a picture that stays small and readable with any names."""

import base64
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secateur.pipelines.pages.plots import score_histogram
from secateur.pipelines.pages.score import EACH, NAME, QUANTILES, boxes, score_by_class
from secateur.scorers.registry import scorers
from secateur.trainers.experiments.drawing import INK

CARD = scorers()["el2n"].card
LIMIT = 100_000
"""Bytes of one picture in the event log."""


def svg_of(markdown: str) -> str:
    """The picture inside Markdown, parsed once to be sure that it is XML."""
    content = base64.b64decode(markdown.partition("base64,")[2].removesuffix(")")).decode()
    ElementTree.fromstring(content)
    return content


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 4), st.floats(-100, 100, width=32)), min_size=1, max_size=60))
def test_each_class_has_its_own_quantiles_in_order_of_medians(pairs: list[tuple[int, float]]) -> None:
    labels = np.array([label for label, _ in pairs], np.int64)
    scores = np.array([score for _, score in pairs], np.float32)
    found = boxes(scores, labels, [f"c{label}" for label in range(5)])
    assert sorted(box.title for box in found) == [f"c{label}" for label in np.unique(labels)]
    for box in found:
        own = np.array([score for label, score in pairs if f"c{label}" == box.title], np.float64)
        assert box.samples == len(own)
        assert box.quantiles == pytest.approx([float(np.percentile(own, 100 * q)) for q in QUANTILES])
    medians = [box.quantiles[2] for box in found]
    assert medians == sorted(medians)


def test_of_many_classes_the_extreme_ones_are_shown_and_the_rest_pooled() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 200, 20_000)
    labels[labels == 7] = 8
    scores = (rng.normal(size=20_000) * 0.1 + labels).astype(np.float32)
    found = boxes(scores, labels, [f"c{label}" for label in range(200)])
    ends = [label for label in range(13) if label != 7], range(200 - EACH // 2, 200)
    expected = [f"c{label}" for label in ends[0]] + [f"{199 - EACH} others"] + [f"c{label}" for label in ends[1]]
    assert [box.title for box in found] == expected
    (rest,) = [box for box in found if box.rest]
    pooled = scores[(labels > 12) & (labels < 188)].astype(np.float64)
    assert rest.samples == len(pooled)
    assert rest.quantiles == pytest.approx(np.quantile(pooled, QUANTILES))
    assert sum(box.samples for box in found) == 20_000


@pytest.mark.parametrize("classes", [1, 10, 1000])
def test_pictures_are_small_and_transparent(classes: int) -> None:
    rng = np.random.default_rng(1)
    labels = np.arange(20_000) % classes
    scores = rng.gamma(2, 1, 20_000).astype(np.float32)
    for picture in (score_by_class(scores, labels, ["n" * 50] * classes, CARD), score_histogram(scores, CARD)):
        assert len(picture) < LIMIT
        content = svg_of(picture)
        assert INK in content
        assert not {"#ffffff", "#000000", "white", "black"} & set(re.findall(r"#\w+|white|black", content.lower()))


def test_class_names_are_drawn_as_they_are() -> None:
    names = [r"$\frac{a}$ & <b>", "日本語", "line\nbreak " + "x" * 200]
    content = svg_of(score_by_class(np.arange(9, dtype=np.float32), np.arange(9) % 3, names, CARD))
    texts = {"".join(node.itertext()).strip() for node in ElementTree.fromstring(content).iter() if "text" in node.tag}
    cut = "line break " + "x" * (NAME - 12) + "…"
    assert {r"$\frac{a}$ & <b> (3)", "日本語 (3)", f"{cut} (3)"} <= texts
