"""Vectors by which the audit of a study compares rows: those of an encoder, or the user's.

Vectors of a proxy depend on the labels, which brings rows of one class together; vectors of scikit-learn are made of
the words and pixels that the audit compares anyhow. Neither kind identifies copies.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
from jaxtyping import Int64, Shaped

from secateur.pipelines.audits.contract import TRAIN, AuditRows, Made, Vectors
from secateur.pipelines.audits.memory import hashes_of
from secateur.pipelines.audits.vectors import brought, of_encoder
from secateur.pipelines.storage.store import Store
from secateur.pipelines.studies.choice import Choice
from secateur.pipelines.studies.own_scores import OwnVectors
from secateur.pipelines.studies.samples import Study
from secateur.trainers.passes.embeddings import EmbeddingSettings

NAME = "embeddings"


def vectors_compared(study: Study | Choice) -> OwnVectors | EmbeddingSettings | None:
    """The embeddings of a study that its audit compares: the user's, or an encoder's with another use in the study."""
    named = study.embeddings
    if isinstance(named, OwnVectors):
        return named if isinstance(study, Choice) or NAME in study.signals else None
    return named if named and named.kind == "encoder" and isinstance(study, Study) and NAME in study.signals else None


def study_vectors(study: Study | Choice, store: Store, rows: AuditRows) -> tuple[Vectors | None, Sequence[str]]:
    """Vectors of these rows, and a note on the comparison, or the reason why there is none; None and no note without
    any.

    An encoder also encodes test rows and a target; the user's vectors are of the training rows alone.
    """
    named = vectors_compared(study)
    if named is None:
        return None, ()
    if not of_these(study, store, rows):
        return None, ("near copies: embeddings are not compared, for the study made them of other rows",)
    values = store.load((study.name, NAME))
    if isinstance(named, EmbeddingSettings):
        return with_encoder(named, values, rows), (f"near copies: also by embeddings ({named.encoder})",)
    beside = [rows.names[part] for part in rows.splits if part != TRAIN]
    alone = f", of train alone, for {' and '.join(beside)} have none" if beside else ""
    vectors = brought({TRAIN: values}, {TRAIN: named.told()}, f"embeddings of yours ({named.told()})")
    return vectors, (f"near copies: also by embeddings ({named.told()}){alone}",)


def of_these(study: Study | Choice, store: Store, rows: AuditRows) -> bool:
    """Whether the store has vectors of these training rows, in their order."""
    if not store.holds((study.name, NAME)):
        return False
    samples: pl.LazyFrame = store.load((study.name, "samples"))
    own = hashes_of(rows).filter(pl.col("part") == TRAIN)["content_hash"]
    return own.equals(samples.select("content_hash").collect()["content_hash"])


def with_encoder(settings: EmbeddingSettings, values: Shaped[np.ndarray, "n d"], rows: AuditRows) -> Vectors:
    """Vectors of training rows from the study, and of others from its encoder, in the study's precision."""
    made = of_encoder(settings, rows.kind)

    def make(some: AuditRows, asked: Int64[np.ndarray, " q"]) -> Made:
        mine = some.part[asked] == TRAIN
        found = np.zeros((len(asked), values.shape[1]), np.float32)
        found[mine] = values[asked[mine] - some.starts[TRAIN]]
        if not mine.all():
            found[~mine] = made.make(some, asked[~mine])[0].astype(values.dtype)
        return found, np.ones(len(asked), np.bool_)

    return Vectors(f"the study's encoder {settings.encoder}", made.made_of, make)
