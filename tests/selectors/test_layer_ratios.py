"""Shares of layers: known vectors, a bisection as another way to the same shares, and counts that are exact."""

import math

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from secateur.selectors.masks.groups import sizes_of
from secateur.selectors.masks.layer_ratios import RULES, counts_of, er, erk, erk_plus, uniform_plus

MLP = {"a": (256, 64), "b": (256, 256), "c": (256, 256), "d": (10, 256)}


def resnet20(width: int = 16) -> dict[str, tuple[int, ...]]:
    """Weights of a ResNet-20 for CIFAR with convolutions in its shortcuts: 22 tensors."""
    shapes: dict[str, tuple[int, ...]] = {"first": (width, 3, 3, 3)}
    before = width
    for stage in range(3):
        out = width * 2**stage
        for block in range(3):
            shapes[f"{stage}.{block}.one"] = (out, before, 3, 3)
            shapes[f"{stage}.{block}.two"] = (out, out, 3, 3)
            if before != out:
                shapes[f"{stage}.{block}.shortcut"] = (out, before, 1, 1)
            before = out
    return shapes | {"classifier": (10, before)}


def test_er_on_a_network_of_linear_layers() -> None:
    assert list(er(MLP, 0.1).values()) == pytest.approx([0.1820, 0.0728, 0.0728, 0.9682], abs=5e-5)


def test_erk_on_resnet20() -> None:
    shapes = resnet20()
    assert (len(shapes), sum(sizes_of(shapes).values())) == (22, 270_896)
    found = erk(shapes, 0.05)
    known = {
        "first": 0.4748, "0.0.one": 0.1353, "0.2.two": 0.1353, "1.0.one": 0.0961, "1.0.shortcut": 0.8012,
        "1.1.two": 0.0623, "2.0.one": 0.0454, "2.0.shortcut": 0.3926, "2.2.two": 0.0298, "classifier": 0.9486,
    }  # fmt: skip
    assert {name: found[name] for name in known} == pytest.approx(known, abs=5e-5)
    dense = {name for name, share in erk(shapes, 0.1).items() if share == 1.0}
    assert dense == {"1.0.shortcut", "classifier"}


def test_er_looks_at_no_kernel_and_erk_does() -> None:
    shapes = {"a": (8, 4, 3, 3), "b": (8, 8, 1, 1), "c": (2, 8)}
    wide, kernels = er(shapes, 0.3), erk(shapes, 0.3)
    assert wide["a"] / wide["b"] == pytest.approx((12 / 32) / (16 / 64))
    assert kernels["a"] / kernels["b"] == pytest.approx((18 / 288) / (18 / 64))


def test_forms_with_a_plus() -> None:
    shapes = resnet20()
    sizes, whole = sizes_of(shapes), sum(sizes_of(shapes).values())
    low = uniform_plus(shapes, 0.1)
    assert (low["first"], low["classifier"]) == (1.0, 0.2)
    assert sum(low[name] * sizes[name] for name in shapes) == pytest.approx(0.1 * whole)
    assert len({round(share, 12) for name, share in low.items() if name not in ("first", "classifier")}) == 1
    assert uniform_plus(shapes, 0.4)["classifier"] == 0.4
    plus = erk_plus(shapes, 0.1)
    assert plus["classifier"] == 1.0
    rest = {name: shape for name, shape in shapes.items() if name != "classifier"}
    assert {name: plus[name] for name in rest} == pytest.approx(erk(rest, (0.1 * whole - 640) / (whole - 640)))


@pytest.mark.parametrize("rule", ["uniform_plus", "erk_plus"])
def test_a_budget_below_the_layers_that_stay_whole_is_refused(rule: str) -> None:
    with pytest.raises(ValueError, match=r"more than 0\.001 of all weights"):
        RULES[rule](resnet20(), 0.001)


@pytest.mark.parametrize("density", [0.0, -0.1, 1.01, math.nan])
@pytest.mark.parametrize("rule", RULES)
def test_wrong_densities_are_refused(rule: str, density: float) -> None:
    with pytest.raises(ValueError, match="within"):
        RULES[rule](MLP, density)


def test_there_must_be_weights() -> None:
    with pytest.raises(ValueError, match="no layer"):
        er({}, 0.1)
    with pytest.raises(ValueError, match="'b' has no weights"):
        er({"a": (2, 2), "b": (0, 2)}, 0.1)


NETWORKS = st.lists(
    st.tuples(st.integers(1, 40), st.integers(1, 40)) | st.tuples(*[st.integers(1, 12)] * 2, *[st.integers(1, 4)] * 2),
    min_size=1,
    max_size=8,
).map(lambda shapes: {f"layer{place}": shape for place, shape in enumerate(shapes)})


@given(shapes=NETWORKS, density=st.floats(0.005, 1.0))
@settings(max_examples=150, deadline=None)
def test_shares_are_at_most_whole_and_add_up(shapes: dict[str, tuple[int, ...]], density: float) -> None:
    sizes = sizes_of(shapes)
    for rule in (er, erk):
        found = rule(shapes, density)
        assert all(0 <= share <= 1 for share in found.values())
        assert sum(found[name] * sizes[name] for name in shapes) == pytest.approx(density * sum(sizes.values()))
    # Another way: the factor by which min(1, factor * raw) adds up, by bisection.
    raw = {name: sum(shape) / math.prod(shape) for name, shape in shapes.items()}
    low, high = 0.0, 1 / min(raw.values())
    for _ in range(100):
        middle = (low + high) / 2
        total = sum(min(1.0, middle * raw[name]) * sizes[name] for name in shapes)
        low, high = (middle, high) if total < density * sum(sizes.values()) else (low, middle)
    assert found == pytest.approx({name: min(1.0, low * raw[name]) for name in shapes}, abs=1e-6)


@given(shapes=NETWORKS, density=st.floats(0.001, 1.0), rule=st.sampled_from(sorted(RULES)))
@settings(max_examples=200, deadline=None)
def test_counts_are_exact_and_no_layer_is_cut(shapes: dict[str, tuple[int, ...]], density: float, rule: str) -> None:
    try:
        shares = RULES[rule](shapes, density)
    except ValueError:
        assume(False)
    sizes = sizes_of(shapes)
    budget = math.floor(density * sum(sizes.values()) + 0.5)
    if not budget:
        with pytest.raises(ValueError, match="less than half of one"):
            counts_of(shapes, shares, density)
        return
    counts = counts_of(shapes, shares, density)
    assert sum(counts.values()) == budget
    assert all(0 <= counts[name] <= sizes[name] for name in shapes)
    if budget >= len(sizes):
        assert min(counts.values()) >= 1
        ideal = {name: shares[name] * sizes[name] for name in shapes}
        if min(ideal.values()) >= 1:  # no layer was lifted to its first weight: rounding alone moved counts
            assert all(abs(counts[name] - ideal[name]) < 1 + 1e-6 for name in shapes)
