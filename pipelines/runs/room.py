"""Memory that a study of samples needs, checked before any encoding or training.

Everything as large as the data lies in mapped files. Memory holds a few numbers of each training row, and arrays that
some selections and the search for neighbours compute from embeddings. Steps run one after another, so the largest
counts.
"""

from collections.abc import Iterator, Mapping
from typing import Final

import numpy as np
from jaxtyping import Int64

from secateur.pipelines.data.sources import SourceError
from secateur.pipelines.studies.samples import Study
from secateur.scorers.memory import available_memory, gigabytes
from secateur.selectors.contract import selectors
from secateur.selectors.sizes import Sizes
from secateur.trainers.contract import Data
from secateur.trainers.passes.embeddings import EmbeddingSettings

HELD: Final[Mapping[str, int]] = {
    "reading and checking": 10,
    "proxy and scores": 80,
    "selection": 60,
    "trainings": 100,
    "evaluation": 170,
    "manifests": 240,
    "report": 230,
}
"""Bytes of each training row that a step holds at its peak: the increase from 10⁶ to 10⁷ rows that benchmarks/scale.py
measured for a table with five selections, for manifests from 10⁶ to 3·10⁶ texts, and, for the step of selections, in a
run of these alone; see docs/big-data.md."""
WIDEST = 8192
"""Dimensions that embeddings rarely have: if the rows fit with so many, their own number need not be found."""
REMEDY = "set source.limit, or take a machine with more memory"


def row_faults(rows: int, available: int | None = None) -> Iterator[str]:
    """The largest step, if it needs more memory for so many training rows than `available` bytes (None: as found)."""
    free = available_memory() if available is None else available
    step = max(HELD, key=lambda name: HELD[name])
    if (needed := HELD[step] * rows) > free:
        yield (
            f"{step}: about {HELD[step]} bytes of each of {rows:,} training rows are in memory at once, "
            f"{gigabytes(needed)}, and {gigabytes(free)} are free: {REMEDY}"
        )


def vector_faults(
    study: Study, sizes: Int64[np.ndarray, " k"], dimensions: int, available: int | None = None
) -> Iterator[str]:
    """Selections and the search for neighbours that need more memory for embeddings than there is; `sizes` are the rows
    of each class, or other stratum."""
    free = available_memory() if available is None else available
    rows, largest = int(sizes.sum()), int(sizes.max(initial=0))
    for name, selection in study.selections.items():
        if selection.in_training or selection.listed:
            continue
        chosen = selectors()[selection.selector]
        apart = selection.classes is not None and selection.classes.policy != "none"
        given = dimensions if "embeddings" in chosen.reads else 0
        if fault := chosen.memory_fault(Sizes(largest if apart else rows, given, largest), free):
            yield f"selections.{name}: {fault}; or set source.limit"
    if study.signals & {"neighbour_indices", "neighbour_distances", "label_free_neighbours"}:
        from secateur.scorers.geometry.search_cost import Engine, estimate

        engine: Engine = "ivf" if study.neighbours.engine == "ivf" else "exact"
        # The memory does not depend on the rate, which takes a moment to measure.
        cost = estimate(rows, dimensions, study.neighbours.count, engine=engine, rate=1.0)
        if cost.memory > free:
            yield (
                f"neighbours: a search over {rows:,} rows of {dimensions:,} dimensions for {cost.neighbours} of each "
                f"takes {gigabytes(cost.memory)} of memory, and {gigabytes(free)} are free: lower neighbours.count, "
                f"{REMEDY}"
            )


def refuse_large(study: Study, data: Data, strata: Int64[np.ndarray, " n"], available: int | None = None) -> None:
    """Raise SourceError for selections and neighbours of encoded training rows that would not fit into memory.

    Dimensions that are known only after loading an encoder, or reading a user's vectors, are not checked here: the step
    itself does it before it begins.
    """
    sizes = np.bincount(strata)
    if not list(vector_faults(study, sizes, WIDEST, available)):
        return
    dimensions = dimensions_of(study, data)
    if dimensions is not None and (faults := list(vector_faults(study, sizes, dimensions, available))):
        raise SourceError(f"{study.name}: {'; '.join(faults)}")


def dimensions_of(study: Study, data: Data) -> int | None:
    """Dimensions of the embeddings of encoded rows; None where they are not known yet."""
    settings = study.embeddings
    if not isinstance(settings, EmbeddingSettings) or data.model_settings.get("kind") == "sequences":
        return None
    if settings.kind == "sklearn":
        columns = WIDEST if study.modality == "text" else int(np.prod(data.inputs.shape[1:]))
        return min(settings.dimensions, columns)
    if settings.kind == "encoder" or study.proxy is None:
        return None
    from secateur.scorers.checkpoints.contract import forward_with_features
    from secateur.trainers.loop.train import fresh_model

    model = fresh_model(data, study.proxy.training, 0).eval()
    return int(forward_with_features(model, data.take(np.arange(1)).network_inputs())[1].shape[1])
