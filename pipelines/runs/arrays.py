"""A split as trainers take it, from the store."""

from typing import Any

import polars as pl
import polars.selectors as cs

from secateur.pipelines.data.stored_targets import targets_in
from secateur.trainers.contract import Data
from secateur.trainers.sparse_rows import Inputs
from secateur.trainers.tasks.own import OwnTask, Split
from secateur.trainers.tasks.registry import task_from


def data_of(inputs: Inputs, samples: pl.LazyFrame, source: dict[str, Any], split: Split = "train") -> Data:
    """Arrays of one split as trainers take them; the task is the one fitted to the training rows."""
    task = task_from(source["task"])
    if isinstance(task, OwnTask):
        return Data.of(task, split)
    table = samples.select(cs.by_name("label", "target", require_all=False)).collect()
    return Data(inputs, targets_in(table, source["label_names"]), task, source.get("model_settings", {}))
