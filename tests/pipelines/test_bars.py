"""Bars of shares: their lengths against the numbers, and names without markup."""

from itertools import pairwise
from xml.etree import ElementTree

import pytest

from secateur.pipelines.pages.bars import paired_bars, step_of

SVG = "{http://www.w3.org/2000/svg}"


def test_bars_are_as_long_as_their_numbers_and_stand_below_each_other():
    pairs = [(10.0, 20.0), (0.0, 40.0), (25.0, 5.0)]
    found = ElementTree.fromstring(paired_bars(["a", "<b>&", "c"], pairs, ("all", "kept"), "%"))
    bars = [{name: float(one.get(name)) for name in ("x", "y", "width", "height")} for one in found.iter(f"{SVG}rect")]
    bars, legend = bars[:6], bars[6:]
    longest = max(bar["width"] for bar in bars)
    assert [bar["width"] / longest for bar in bars] == pytest.approx([v / 40 for pair in pairs for v in pair], abs=1e-3)
    assert len({bar["x"] for bar in bars}) == 1
    assert all(one["y"] + one["height"] <= two["y"] for one, two in pairwise(bars))
    assert len(legend) == 2
    assert [one.text for one in found.iter(f"{SVG}text")][-5:] == ["a", "<b>&", "c", "all", "kept"]
    wide, high = map(float, found.get("viewBox").split()[2:])
    assert all(one["x"] + one["width"] <= wide and one["y"] + one["height"] <= high for one in bars + legend)


@pytest.mark.parametrize(("high", "step"), [(100, 20), (40, 10), (12, 5), (10, 2), (0.4, 0.1), (0.0, 1e-6)])
def test_few_lines_of_round_numbers_reach_the_longest_bar(high, step):
    assert step_of(high) == pytest.approx(step)


def test_nothing_kept_is_drawn_as_nothing():
    found = ElementTree.fromstring(paired_bars(["a"], [(0.0, 0.0)], ("all", "kept"), "%"))
    assert [one.get("width") for one in found.iter(f"{SVG}rect")][:2] == ["0.0", "0.0"]
