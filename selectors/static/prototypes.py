"""Self-supervised prototypes: samples far from, or close to, the centre of their cluster.

Sorscher et al., "Beyond neural scaling laws: beating power law scaling via data pruning", NeurIPS 2022, section 5.
"""

from typing import Literal

from secateur.scorers.contract import Count
from secateur.selectors.contract import selector
from secateur.selectors.draws.embedded import Embeddings, memory_of_unit_rows, spherical_clusters, unit_rows
from secateur.selectors.draws.ranks import Ids, Keep, keep_smallest


@selector(
    paper="Sorscher et al., NeurIPS 2022, section 5 (arXiv 2206.14486)",
    draws=True,
    monotone=True,
    by_id=True,
    memory=memory_of_unit_rows,
)
def prototypes(
    embeddings: Embeddings,
    budget: int,
    *,
    end: Literal["hard", "easy"] = "hard",
    clusters: Count = 100,
    seed: int,
    ids: Ids | None = None,
) -> Keep:
    """Keep the samples of lowest (`hard`) or highest (`easy`) cosine to the nearest centroid of all.

    Spherical k-means of L2-normalised embeddings; the ranking is over all clusters together. The paper keeps hard
    samples where data abound and easy ones where they are scarce, with about as many clusters as classes. `seed`
    starts k-means and draws among equals.

    >>> points = np.float32([[1, 0], [1, 0], [0.8, 0.6], [0, 1], [0, 1]])
    >>> prototypes(points, 1, clusters=2, seed=0).nonzero()[0]
    array([2])
    """
    _, centrality = spherical_clusters(unit_rows(embeddings), clusters, seed=seed)
    return keep_smallest(centrality if end == "hard" else -centrality, budget, seed=seed, ids=ids)
