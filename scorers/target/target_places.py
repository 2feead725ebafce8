"""The order in which a target takes rows of a pool: its queries take turns, each with its most similar row.

Ivison et al., "Large-Scale Data Selection for Instruction Tuning" (RDS+), arXiv 2503.01807, and its code.
"""

import numpy as np
from jaxtyping import Float32, Int64

from secateur.scorers.target.cosines import Cosines

LISTED = 1 << 24
"""Most entries of all queries' lists, of 12 bytes each."""


def target_places(
    cosines: Cosines, tasks: Int64[np.ndarray, " queries"] | None = None, *, depth: int | None = None
) -> Int64[np.ndarray, " n"]:
    """Place of each row of the pool, int64 `[n]`, from 0 on; a selection keeps the smallest places.

    Within one task each query in turn pops its own best row that it has not popped; a row taken already costs the turn.
    So no query gets all rows. With several `tasks` (numbers of each query's) the tasks take turns, each with its rows
    by their highest cosine to one of its queries.

    This rule gives the first `depth` places (all where None), as far as lists of `LISTED` entries together reach.
    Further wanted rows follow by their highest cosine to any query, the others by row number.

    >>> from secateur.scorers.target.cosines import VectorCosines
    >>> pool, queries = np.float32([[1, 0], [0.9, 0.1], [0, 1]]), np.float32([[1, 0], [0, 1]])
    >>> target_places(VectorCosines(pool, queries))
    array([0, 2, 1])
    """
    count = cosines.rows
    wanted = min(depth or count, count)
    turns = cosines.queries if tasks is None else len(np.unique(tasks))
    longest = min(count, max(1, LISTED // cosines.queries))
    length = min(longest, 4 * -(-wanted // turns) + 8)
    while True:
        places, similar = cosines.nearest(length)
        taken = in_turn(places if tasks is None else task_lists(places, similar, tasks, length))
        if len(taken) >= wanted or length == longest:
            break
        length = min(longest, 2 * length)
    rest = np.ones(count, np.bool_)
    rest[taken] = False
    behind = np.flatnonzero(rest)
    if len(taken) < wanted:
        behind = behind[np.argsort(-cosines.highest()[behind], kind="stable")]
    found = np.empty(count, np.int64)
    found[np.concatenate([taken, behind])] = np.arange(count)
    return found


def in_turn(lists: Int64[np.ndarray, "turns length"]) -> Int64[np.ndarray, " m"]:
    """Rows in the order in which the lists, in turn, give them first; -1 stands for no row."""
    rows, first = np.unique(lists.T.ravel(), return_index=True)
    order = rows[np.argsort(first)]
    return order[order >= 0]


def task_lists(
    places: Int64[np.ndarray, "queries length"],
    cosines: Float32[np.ndarray, "queries length"],
    tasks: Int64[np.ndarray, " queries"],
    length: int,
) -> Int64[np.ndarray, "tasks length"]:
    """Rows of each task, in the order of the tasks' numbers, by their highest cosine to one of its queries.

    The first `length` are exact: a row among them is also among the first `length` of its most similar query.
    """
    lists = []
    for task in np.unique(tasks):
        own = np.flatnonzero(tasks == task)
        rows, similar = places[own].ravel(), cosines[own].ravel()
        order = np.lexsort((rows, -similar))
        kept = rows[order][np.sort(np.unique(rows[order], return_index=True)[1])][:length]
        lists.append(np.pad(kept, (0, length - len(kept)), constant_values=-1))
    return np.stack(lists)
