"""Origin of a study's samples, for the asset `source` and manifests."""

from typing import Any

import numpy as np

from secateur.pipelines.data.scan import FILE
from secateur.pipelines.data.sources import Loaded
from secateur.pipelines.manifests.origin import FileRows, Origin, word_of
from secateur.pipelines.studies.samples import Study


def read_facts(loaded: Loaded, study: Study) -> dict[str, Any]:
    """Files of training rows with row counts, types of columns, and counts of training rows that policies drop."""
    counts = np.zeros(len(loaded.files), np.int64)
    for rows in loaded.scanned.values():
        for table in rows.batches([FILE]):
            counts += np.bincount(table[FILE].to_numpy(), minlength=len(counts))
    several = len(counts)
    if study.read_source.held_out is None:
        # The source names files of the test split, which follow those of training.
        several = int(loaded.scanned["test"].at([FILE], np.zeros(1, np.int64))[FILE][0])
    schema = loaded.scanned["train"].schema
    dropped: dict[str, int] = {}
    for part in loaded.dropped:
        if part.split == "train":
            dropped[part.policy] = dropped.get(part.policy, 0) + part.found.count
    return {
        "training_files": [[name, int(count)] for name, count in zip(loaded.files, counts, strict=True)][:several],
        "types": {field.name: word_of(field.type) for field in schema if not field.name.startswith("secateur:")},
        "dropped": dropped,
    }


def origin_of(study: Study, source: dict[str, Any]) -> Origin:
    """Origin of a study's rows for its manifests; `source` is the content of that asset."""
    if study.source is None:
        return Origin()
    read: Any = study.source
    return Origin(
        files=tuple(FileRows(name=name, rows=rows) for name, rows in source["training_files"]),
        types=source["types"],
        separator=getattr(read, "separator", ","),
        charset=getattr(read, "charset", "utf-8"),
        label_names=tuple(source["label_names"]),
        policies=study.data.model_dump(mode="json"),
        dropped=source["dropped"],
    )
