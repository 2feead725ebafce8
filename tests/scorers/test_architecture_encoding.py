"""Encodings of architectures, and which of them are one network, against hand-made cells, networkx and real tables."""

from itertools import product
from pathlib import Path

import networkx as nx
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from known_spaces import (
    CELL_OPERATIONS,
    GRAPH_OPERATIONS,
    cell_keys,
    graph_choices,
    graph_key,
    mobile_net_like,
    nas_bench_101,
    nas_bench_201,
    nas_bench_macro,
)

from secateur.scorers.architectures.encoding import ArchitectureSpace, Position, choice_numbers

SMALL = [Position("a", ("x", "y", "z")), Position("b", ("off", "on"), silent=True), Position("c", ("p", "q"))]


def test_a_space_encodes_each_choice_as_its_own_feature() -> None:
    space = ArchitectureSpace.product(SMALL)
    assert space.features == ("a=x", "a=y", "a=z", "b=on", "c=p", "c=q")
    choices = np.array([[1, 0, 0], [2, 1, 1]], dtype=np.int64)
    assert space.encode(choices).tolist() == [[0, 1, 0, 0, 1, 0], [0, 0, 1, 1, 0, 1]]
    assert space.describe(int(space.rows_of(choices)[1])) == {"a": "z", "b": "on", "c": "q"}


@pytest.mark.parametrize(
    ("space", "features", "size"),
    [
        (nas_bench_201(), 30, 15_625),
        (nas_bench_macro(), 24, 6_561),
        (mobile_net_like(), 147, 6**6 * 7**15),
        (nas_bench_101(), 45, 2**21 * 5**6),
    ],
    ids=["201", "macro", "mobile", "101"],
)
def test_spaces_of_the_literature_have_their_sizes(space: ArchitectureSpace, features: int, size: int) -> None:
    assert len(space.features) == features
    assert space.count(space.allowed) == size
    rows = space.candidates(space.allowed, 500, np.random.default_rng(0))
    choices = space.choices_of(rows)
    assert np.array_equal(space.rows_of(choices), rows)
    encoded = space.encode(choices)
    shown = [sum(c >= p.silent for c, p in zip(cell, space.positions, strict=True)) for cell in choices.tolist()]
    assert encoded.sum(axis=1).tolist() == shown
    assert space.are_alive(choices, space.allowed).all()


def test_a_first_layer_of_a_stage_is_never_skipped() -> None:
    space = mobile_net_like()
    rows = space.candidates(space.allowed, 2_000, np.random.default_rng(1))
    skipped = space.choices_of(rows) == 6
    assert not skipped[:, ::4].any()
    assert skipped[:, 1].any()
    forbidden = np.full((1, 21), 6, dtype=np.int64)
    assert space.rows_of(forbidden).tolist() == [-1]


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_what_is_alive_is_what_brute_force_finds(data: st.DataObject) -> None:
    space = ArchitectureSpace.product(SMALL)
    alive = np.array(data.draw(st.lists(st.booleans(), min_size=6, max_size=6)))
    every = list(product(("x", "y", "z"), ("off", "on"), ("p", "q")))
    gone = {name for name, left in zip(space.features, alive.tolist(), strict=True) if not left}
    expected = [cell for cell in every if not gone & {f"{n}={c}" for n, c in zip("abc", cell, strict=True)}]
    rows = np.sort(space.candidates(alive, 10, np.random.default_rng(0)))
    assert [tuple(space.describe(int(row)).values()) for row in rows] == expected
    assert space.count(alive) == len(expected)


def test_a_nas_bench_101_cell_is_encoded_column_by_column() -> None:
    matrix = np.array([[0, 1, 1, 0], [0, 0, 0, 1], [0, 0, 0, 1], [0, 0, 0, 0]], dtype=np.int64)
    choices = graph_choices(np.stack([pad(matrix)]), [["input", "conv3x3-bn-relu", "maxpool3x3", "output"]])
    conv3, pool, out = [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]
    expected = [1, *conv3, 1, 0, *pool, 0, 1, 1, *out, *[0] * (4 + 4), *[0] * (5 + 4), *[0] * (6 + 4)]
    assert nas_bench_101().encode(choices)[0].tolist() == expected


@pytest.mark.parametrize(
    ("operations", "words"),
    [(["input", "conv9x9", "output"], "cell 0: unknown operation 'conv9x9'"), (["input"], "must be 2 to 7")],
)
def test_bad_cells_are_refused(operations: list[str], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        graph_choices(np.zeros((1, 7, 7), dtype=np.int64), [operations])
    with pytest.raises(ValueError, match="point from lower to higher"):
        graph_choices(np.ones((1, 7, 7), dtype=np.int64), [["input", *["conv3x3"] * 5, "output"]])


def pad(matrix: np.ndarray) -> np.ndarray:
    return np.pad(matrix, (0, 7 - len(matrix)))


def random_cell(generator: np.random.Generator, nodes: int) -> tuple[np.ndarray, list[str]]:
    matrix = np.triu(generator.integers(0, 2, (nodes, nodes)), 1).astype(np.int64)
    return matrix, ["input", *generator.choice(GRAPH_OPERATIONS[1:4], nodes - 2).tolist(), "output"]


def pruned_graph(matrix: np.ndarray, operations: list[str]) -> nx.DiGraph:
    graph = nx.from_numpy_array(matrix, create_using=nx.DiGraph)
    nx.set_node_attributes(graph, dict(enumerate(operations)), "label")
    last = len(operations) - 1
    on_path = (nx.descendants(graph, 0) | {0}) & (nx.ancestors(graph, last) | {last})
    return nx.DiGraph(graph.subgraph(on_path))


def test_nas_bench_101_keys_tell_isomorphic_cells_as_networkx_does() -> None:
    generator = np.random.default_rng(3)
    cells = [random_cell(generator, int(generator.integers(3, 6))) for _ in range(60)]
    choices = graph_choices(np.stack([pad(m) for m, _ in cells]), [names for _, names in cells])
    keys = [graph_key(row) for row in choices]
    graphs = [pruned_graph(*cell) for cell in cells]
    same = 0
    for one in range(len(cells)):
        for two in range(one):
            if not keys[one] and not keys[two]:
                continue
            equal = nx.is_isomorphic(graphs[one], graphs[two], node_match=lambda a, b: a["label"] == b["label"])
            assert (keys[one] == keys[two]) == equal
            same += equal
    assert same > 5


def test_an_isomorphic_cell_of_nas_bench_201_has_the_same_key() -> None:
    none, skip, one, three, pool = range(len(CELL_OPERATIONS))
    # 0 -> 1 by a convolution, 1 -> 3 by a skip, or the same convolution straight from 0 to 3.
    through = [one, none, none, none, skip, none]
    straight = [none, none, none, one, none, none]
    other = [none, none, none, three, none, none]
    pooled = [none, pool, none, none, none, skip]
    keys = cell_keys(np.array([through, straight, other, pooled], dtype=np.int64))
    assert keys[0].replace("#+", "").replace("+#", "") == keys[1].replace("#+", "").replace("+#", "")
    assert len({keys[1], keys[2], keys[3]}) == 3


def test_keys_of_every_nas_bench_201_cell_are_those_of_the_table(real_data: Path) -> None:
    table = pl.read_parquet(real_data / "nas" / "nasbench201.parquet")
    space = nas_bench_201()
    choices = table.select([p.name for p in space.positions]).to_numpy().astype(np.int64)
    assert cell_keys(choices) == table["unique_string"].to_list()
    assert table["unique_string"].n_unique() == 6_466
    assert sorted(space.rows_of(choices).tolist()) == list(range(15_625))


def test_choices_are_read_by_name_and_by_number_and_refused_otherwise() -> None:
    position = Position("edge", ("none", "skip"))
    assert choice_numbers(np.array(["skip", "none", "skip"]), position).tolist() == [1, 0, 1]
    assert choice_numbers(np.array([0, 1]), position).tolist() == [0, 1]
    with pytest.raises(ValueError, match="edge: unknown choice 'conv' at row 1; there are none, skip"):
        choice_numbers(np.array(["skip", "conv"]), position)
    with pytest.raises(ValueError, match="row 1, a: there is no choice 3"):
        ArchitectureSpace.product(SMALL).having(np.array([[0, 0, 0], [3, 0, 0]], dtype=np.int64))
