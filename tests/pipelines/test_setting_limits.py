"""Every limit of a number that a user sets: the value at it is accepted, the next one refused.

The table is separate from the declarations, so that a limit that is moved, removed or added fails.
"""

import importlib
import inspect
import math
import pkgutil
import re
import sys
from collections.abc import Iterator
from typing import Annotated, Any

import annotated_types as at
import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError

import secateur.pipelines
from secateur.scorers.settings import Settings

LIMITS = """
AnyStudy.margin (0, inf)
AnyStudy.seeds [1, 1000]
Augmentation.crop_padding [0, inf)
Augmentation.cutout [0, inf)
Choice.seeds [1, 1000]
ClassShares.floor [0, inf)
Compute.processes [1, 1024]
Distillation.seed [0, inf)
Distillation.temperature (0, inf)
Distillation.top_k [1, inf)
Drift.least_rank_correlation [-1, 1]
Drift.most_subset_change [0, 1]
EmbeddingSettings.batch_size [1, inf)
EmbeddingSettings.block [1, inf)
EmbeddingSettings.dimensions [1, inf)
EmbeddingSettings.fit_rows [2, inf)
EmbeddingSettings.max_length [4, inf)
Evolution.population [1, inf)
Evolution.sample [1, inf)
Lora.alpha (0, 1000000]
Lora.dropout [0, 1)
Lora.rank [1, 4096]
ModelSpace.training_seeds [1, inf)
ModelSpace.validation_fraction (0, 1)
Neighbourhood.count [1, inf)
Neighbourhood.least_recall (0, 1]
PredictorSettings.bagging_fraction (0, 1]
PredictorSettings.bagging_frequency [0, inf)
PredictorSettings.feature_fraction (0, 1]
PredictorSettings.learning_rate (0, inf)
PredictorSettings.least_in_leaf [1, inf)
PredictorSettings.leaves [2, 32]
PredictorSettings.trees [1, inf)
Proxy.folds [2, 100]
ProxySubset.compare [3, inf)
PruningSettings.per_round [1, inf)
Recurring.watch_seconds [30, inf)
SampleKeys.checkpoints [1, 99]
SampleKeys.cost_per_hour (0, inf)
SampleKeys.proxy_runs [1, 100]
Search.seeds [1, 1000]
SearchSettings.budget [2, inf)
SearchSettings.explore [0, 1)
SearchSettings.initial [3, inf)
SearchSettings.per_round [1, inf)
SourceKind.limit [1, inf)
SourceKind.split_seed [0, 9223372036854775807]
SequenceEncoding.max_length [8, 1000000]
SequenceEncoding.vocabulary [300, inf)
SplitSource.test_fraction (0, 1)
TableEncoding.max_categories [1, inf)
TextEncoding.max_length [4, 100000]
TextEncoding.terms [1, inf)
TextEncoding.vocabulary [64, inf)
TimeTo.evaluations [0, 1000]
TrainingConfig.accumulate [1, inf)
TrainingConfig.batch_size [1, 10000000]
TrainingConfig.epochs [0, 1000000]
TrainingConfig.label_smoothing [0, 1)
TrainingConfig.learning_rate (0, 1000]
TrainingConfig.length_buckets [0, 1000000]
TrainingConfig.momentum [0, 1)
TrainingConfig.pull [0, 1000000]
TrainingConfig.steps [1, 1000000000]
TrainingConfig.warmup [0, 1)
TrainingConfig.weight_decay [0, 1000]
TrainingConfig.workers [1, 1024]
Validation.fraction (0, 1)
Validation.seeds [1, inf)
"""
"""A class of settings, a field that it declares, and the interval: square brackets include the end."""
BOUNDS = (at.Ge, at.Gt, at.Le, at.Lt)


def settings() -> Iterator[tuple[str, Any, list[Any]]]:
    """Name, type and bounds of each number that a class of settings in a module declares itself."""
    for module in pkgutil.walk_packages(secateur.pipelines.__path__, "secateur.pipelines."):
        importlib.import_module(module.name)
    classes: list[type[BaseModel]] = [Settings]
    for each in classes:
        classes += [one for one in each.__subclasses__() if one not in classes]
        for name in inspect.get_annotations(each):
            field = each.model_fields.get(name)
            bounds = [one for one in field.metadata if isinstance(one, BOUNDS)] if field else []
            if field and bounds and getattr(sys.modules[each.__module__], each.__name__, None) is each:
                yield f"{each.__name__}.{name}", field.annotation, bounds


def limits() -> dict[str, tuple[str, float, float, str]]:
    """Name, and opening, lowest, highest and closing of each line of the table."""
    found = re.findall(r"^(\S+) ([\[(])(\S+), (\S+)([\])])$", LIMITS, re.MULTILINE)
    number = {"inf": math.inf, "-inf": -math.inf}
    return {
        name: (opening, *(number.get(text) or (float(text) if "." in text else int(text)) for text in ends), closing)
        for name, opening, *ends, closing in found
    }


def test_the_table_names_every_number_with_a_limit() -> None:
    assert len(limits()) == len(LIMITS.split("\n")) - 2
    assert limits().keys() == {name for name, *_ in settings()}


def test_a_limit_is_where_it_should_be() -> None:
    known = limits()
    for name, kind, bounds in settings():
        opening, lowest, highest, closing = known[name]
        whole = float not in (kind, *getattr(kind, "__args__", ()))
        adapter: TypeAdapter[Any] = TypeAdapter(Annotated[(kind, *bounds)])
        for end, belongs, beyond in ((lowest, opening == "[", -1), (highest, closing == "]", 1)):
            if math.isinf(end):
                continue
            beside = [end + step if whole else math.nextafter(end, step * math.inf) for step in (beyond, -beyond)]
            assert adapter.validate_python(beside[1]) == beside[1], name
            for value, taken in ((end, belongs), (beside[0], False)):
                if taken:
                    assert adapter.validate_python(value) == value, name
                else:
                    with pytest.raises(ValidationError):
                        print(name, adapter.validate_python(value))
