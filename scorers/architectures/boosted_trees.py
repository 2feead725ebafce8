"""Leaves of boosted trees over 0/1 features, and predictions from them at millions of architectures per second.

An architecture reaches a leaf exactly if each feature on the leaf's path has the value that the path requires. The
leaves of a tree that agree with a choice at one position are a set of bits; the sets of all positions intersect in the
one leaf that the architecture reaches (the idea of QuickScorer: Lucchese et al., SIGIR 2015, with choices in the place
of thresholds).
"""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

from secateur.scorers.architectures.encoding import ArchitectureSpace, Choices

LEAVES = 32
"""Bits of a set of leaves."""
COMBINATIONS = 4096
"""Entries of a table over several positions: 16 kB, so that it stays in the first-level cache."""
BLOCK = 1 << 14
DE_BRUIJN = np.uint32(0x077CB531)
"""The top five bits of its product with a power of two differ for each power (Leiserson et al. 1998)."""


@dataclass(frozen=True)
class Leaf:
    """Value of a leaf, the value that each feature on its path must have, and the share of training rows that had it.

    `shares` are products over a feature's nodes of the share of the node's rows that went on towards the leaf.
    """

    value: float
    wants: dict[int, bool]
    shares: dict[int, float]


def leaves_of(booster: Any) -> list[list[Leaf]]:
    """Leaves of each tree of a LightGBM booster over 0/1 features; those that no architecture reaches are left out."""
    trees = booster.dump_model()["tree_info"]
    return [list(_walk(tree["tree_structure"], Leaf(0.0, {}, {}))) for tree in trees]


def _walk(node: dict[str, Any], path: Leaf) -> Iterator[Leaf]:
    if "leaf_value" in node:
        yield Leaf(float(node["leaf_value"]), path.wants, path.shares)
        return
    feature = node["split_feature"]
    for side, on in (("left_child", False), ("right_child", True)):
        # A threshold outside 0 … 1 sends both values to one side.
        values = [value for value in (False, True) if (value > node["threshold"]) == on]
        wanted = [value for value in values if path.wants.get(feature, value) == value]
        if wanted:
            child = node[side]
            share = _count(child) / _count(node) * path.shares.get(feature, 1.0)
            wants = {**path.wants, feature: wanted[0]} if len(wanted) == 1 else path.wants
            yield from _walk(child, Leaf(0.0, wants, {**path.shares, feature: share}))


def _count(node: dict[str, Any]) -> int:
    return int(node["internal_count"] if "internal_count" in node else node["leaf_count"])


@dataclass(frozen=True)
class LeafTables:
    """Trees as tables of leaf sets: one table per tree and run of positions."""

    runs: tuple[slice, ...]
    weights: Int64[np.ndarray, " positions"]
    agreeing: tuple[np.ndarray, ...]
    """For each run: uint32 `[trees, combinations of the run's choices]`."""
    values: Float64[np.ndarray, "trees leaves"]
    """Value of each leaf, at the hash of its bit."""

    @classmethod
    def of(cls, trees: Sequence[Sequence[Leaf]], space: ArchitectureSpace) -> "LeafTables":
        """Tables of trees over a space; raises ValueError for trees of more leaves than a set has bits."""
        if max(map(len, trees)) > LEAVES:
            raise ValueError(f"trees have up to {max(map(len, trees))} leaves, tables hold {LEAVES}; lower `leaves`")
        sizes = [len(position.choices) for position in space.positions]
        runs, weights = runs_of(sizes)
        values = np.zeros((len(trees), LEAVES))
        bits = np.uint32(1) << np.arange(LEAVES, dtype=np.uint32)
        for tree, leaves in enumerate(trees):
            values[tree, (bits[: len(leaves)] * DE_BRUIJN) >> np.uint32(27)] = [leaf.value for leaf in leaves]
        by_choice = agreeing_leaves(trees, space)
        tables = []
        for run in runs:
            joint = by_choice[run.start]
            for place in range(run.start + 1, run.stop):
                joint = (joint[:, :, None] & by_choice[place][:, None, :]).reshape(len(trees), -1)
            tables.append(np.ascontiguousarray(joint))
        return cls(tuple(runs), weights, tuple(tables), values)

    def sums(self, choices: Choices, threads: int = 0) -> Float64[np.ndarray, " n"]:
        """Sum of the leaves that each architecture reaches, added tree by tree like in LightGBM."""
        sums = np.zeros(len(choices))
        blocks = [slice(start, start + BLOCK) for start in range(0, len(choices), BLOCK)]
        with ThreadPoolExecutor(threads or os.cpu_count() or 1) as pool:
            list(pool.map(lambda rows: self._add(choices[rows], sums[rows]), blocks))
        return sums

    def _add(self, choices: Choices, sums: Float64[np.ndarray, " n"]) -> None:
        codes = [choices[:, run] @ self.weights[run] for run in self.runs]
        met, other = np.empty(len(sums), np.uint32), np.empty(len(sums), np.uint32)
        index, value = np.empty(len(sums), np.intp), np.empty(len(sums))
        for tree in range(len(self.values)):
            np.take(self.agreeing[0][tree], codes[0], out=met, mode="clip")
            for table, code in zip(self.agreeing[1:], codes[1:], strict=True):
                np.take(table[tree], code, out=other, mode="clip")
                np.bitwise_and(met, other, out=met)
            np.multiply(met, DE_BRUIJN, out=met)
            np.right_shift(met, np.uint32(27), out=index, casting="unsafe")
            np.take(self.values[tree], index, out=value, mode="clip")
            np.add(sums, value, out=sums)


def runs_of(sizes: Sequence[int]) -> tuple[list[slice], Int64[np.ndarray, " positions"]]:
    """Neighbouring positions in runs of at most `COMBINATIONS` combinations, and each position's weight in its run."""
    runs, start = [], 0
    for place in range(1, len(sizes) + 1):
        if place == len(sizes) or prod(sizes[start : place + 1]) > COMBINATIONS:
            runs.append(slice(start, place))
            start = place
    weights = np.array([prod(sizes[p + 1 : run.stop]) for run in runs for p in range(run.start, run.stop)])
    return runs, weights.astype(np.int64)


def agreeing_leaves(trees: Sequence[Sequence[Leaf]], space: ArchitectureSpace) -> list[np.ndarray]:
    """For each position: leaves that agree with its choices, a bit each, uint32 `[trees, choices]`."""
    sizes, group, first = [len(p.choices) for p in space.positions], space.group.tolist(), space.first.tolist()
    sets = [[[(1 << len(leaves)) - 1] * size for leaves in trees] for size in sizes]
    for tree, leaves in enumerate(trees):
        for number, leaf in enumerate(leaves):
            for feature, on in leaf.wants.items():
                place = group[feature]
                choice = feature - first[place]
                for other in range(sizes[place]) if on else (choice,):
                    if not on or other != choice:
                        sets[place][tree][other] &= ~(1 << number)
    return [np.array(each, dtype=np.uint32) for each in sets]
