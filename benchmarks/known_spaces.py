"""Search spaces of the literature, and keys that identify isomorphic architectures.

NAS-Bench-201 (Dong and Yang, ICLR 2020, arXiv 2001.00326), NAS-Bench-Macro (Su et al., CVPR 2021, arXiv 2103.11922),
NAS-Bench-101 (Ying et al., ICML 2019, arXiv 1902.09635) and the chain of MobileNet blocks that GBDT-NAS searches (Luo
et al., arXiv 2007.04785).
"""

from itertools import permutations

import numpy as np
from jaxtyping import Int64

from secateur.scorers.architectures.encoding import ArchitectureSpace, Choices, Position

CELL_OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
CELL_EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
"""Source and target node of each edge of a NAS-Bench-201 cell, in the order of its names."""
GRAPH_OPERATIONS = ("absent", "conv1x1", "conv3x3", "maxpool3x3", "output")
GRAPH_NODES = 7
MOBILE_BLOCKS = ("MB3_3x3", "MB6_3x3", "MB3_5x5", "MB6_5x5", "MB3_7x7", "MB6_7x7", "skip")
MACRO_BLOCKS = ("identity", "MB3_3x3", "MB6_5x5")


def nas_bench_201() -> ArchitectureSpace:
    """Cells with one of 5 operations on each of 6 edges: 15,625 of them, 30 features."""
    return ArchitectureSpace.product([Position(f"edge{edge}", CELL_OPERATIONS) for edge in range(len(CELL_EDGES))])


def nas_bench_macro() -> ArchitectureSpace:
    """Chains of 8 layers with one of 3 blocks each: 6,561 of them, 24 features."""
    return ArchitectureSpace.product([Position(f"block{layer}", MACRO_BLOCKS) for layer in range(8)])


def mobile_net_like() -> ArchitectureSpace:
    """Chains of 21 layers with one of 7 blocks each, 147 features; the first layer of a stage cannot be skipped."""
    names = [f"layer{layer}" for layer in range(21)]
    forbidden = {name: ["skip"] for name in names[::4]}
    return ArchitectureSpace.product([Position(name, MOBILE_BLOCKS) for name in names], forbidden=forbidden)


def nas_bench_101() -> ArchitectureSpace:
    """Cells of up to 7 nodes as adjacency and operations: 45 features; by node its edges in, then its operation."""
    positions = []
    for node in range(1, GRAPH_NODES):
        positions += [Position(f"edge{before}_{node}", ("off", "on"), silent=True) for before in range(node)]
        positions.append(Position(f"node{node}", GRAPH_OPERATIONS, silent=True))
    return ArchitectureSpace.product(positions)


def graph_choices(matrices: Int64[np.ndarray, "n nodes nodes"], operations: list[list[str]]) -> Choices:
    """Choices of NAS-Bench-101 cells from upper-triangular adjacency and operations, input first, output last.

    Cells of fewer than 7 nodes are padded at the end, as in the paper. Raises ValueError that names the cell for
    unknown operations, edges that do not point forward, and cells above 7 nodes.
    """
    choices = np.zeros((len(matrices), GRAPH_NODES * (GRAPH_NODES - 1) // 2 + GRAPH_NODES - 1), dtype=np.int64)
    for cell, (matrix, names) in enumerate(zip(matrices, operations, strict=True)):
        nodes = len(names)
        if not 2 <= nodes <= GRAPH_NODES or np.any(matrix[nodes:]) or np.any(matrix[:, nodes:]):
            raise ValueError(f"cell {cell}: {nodes} operations for its adjacency, must be 2 to {GRAPH_NODES} nodes")
        if np.any(np.tril(matrix)) or not np.isin(matrix, (0, 1)).all():
            raise ValueError(f"cell {cell}: edges must be 0 or 1 and point from lower to higher nodes")
        place = 0
        for node in range(1, GRAPH_NODES):
            if node < nodes:
                choices[cell, place : place + node] = matrix[:node, node]
                choices[cell, place + node] = graph_operation(names[node], cell)
            place += node + 1
    return choices


def graph_operation(name: str, cell: int) -> int:
    """Number of a NAS-Bench-101 operation, under either spelling; raises ValueError."""
    plain = name.replace("-bn-relu", "")
    if plain not in GRAPH_OPERATIONS[1:]:
        raise ValueError(f"cell {cell}: unknown operation {name!r}; there are {', '.join(GRAPH_OPERATIONS[1:])}")
    return GRAPH_OPERATIONS.index(plain)


def graph_key(choices: Int64[np.ndarray, " positions"]) -> tuple[int, ...]:
    """A key that is equal for two NAS-Bench-101 cells exactly if they are one graph without nodes off every path.

    It is the smallest description over all orders of the inner nodes, at most 120. It is the empty tuple if no path
    leads from input to output.
    """
    adjacency, labels = np.zeros((GRAPH_NODES, GRAPH_NODES), dtype=np.int64), [-1] * GRAPH_NODES
    place = 0
    for node in range(1, GRAPH_NODES):
        adjacency[:node, node] = choices[place : place + node]
        labels[node] = int(choices[place + node])
        place += node + 1
    output = labels.index(GRAPH_OPERATIONS.index("output"))
    reach = np.linalg.matrix_power(np.eye(GRAPH_NODES, dtype=np.int64) + adjacency, GRAPH_NODES) > 0
    inner = [node for node in range(1, output) if reach[0, node] and reach[node, output]]
    if not reach[0, output]:
        return ()
    found = []
    for order in permutations(inner):
        nodes = [0, *order, output]
        found.append((*(labels[node] for node in order), *adjacency[np.ix_(nodes, nodes)].ravel().tolist()))
    return (len(inner), *min(found))


def cell_keys(choices: Choices) -> list[str]:
    """A key per NAS-Bench-201 cell, equal for cells that are one network because sums commute and skips copy.

    Each node is the sorted sum of its edges' results; a skip is its source, and `none` is a zero that stays in the sum,
    as in NAS-Bench-201's own naming (6,466 of 15,625 cells are distinct by it).
    """
    keys = []
    for cell in choices.tolist():
        nodes = ["0"]
        for node in range(1, 4):
            parts = []
            for (before, after), operation in zip(CELL_EDGES, cell, strict=True):
                if after == node:
                    name = CELL_OPERATIONS[operation]
                    source = nodes[before]
                    empty = name == "none" or source == "#"
                    parts.append("#" if empty else source if name == "skip_connect" else f"({source})@{name}")
            nodes.append("+".join(sorted(parts)))
        keys.append(nodes[-1])
    return keys
