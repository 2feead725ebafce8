"""Whether the test split is large enough for its metric: the error of the deciding metric from the draw of test
samples, which no number of seeds reduces."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from secateur.pipelines.files.shown_text import quoted
from secateur.pipelines.runs.deciding import metrics_of
from secateur.pipelines.storage.store import Store
from secateur.pipelines.studies.samples import Study
from secateur.pipelines.studies.study import AnyStudy
from secateur.trainers.tasks.class_metrics import OF_TWO
from secateur.trainers.tasks.registry import task_from

Z = 1.96
"""Standard errors on either side of an interval at 95%."""
WIDE = 0.15
"""Half-width of an interval, as a share, above which there is a finding."""
BY_CLASS = ("balanced_accuracy", "macro_f1")


def half_width(metric: str, counts: Sequence[int], positive: int = 0) -> float | None:
    """Half-width of the widest 95% interval of a metric of classes over draws of the test samples, as a share.

    `counts` are test samples by class. A share of right answers among n has a variance of at most 1/4n. Balanced
    accuracy and macro F1 count as means of such shares by class. AUROC has a variance of at most A(1 - A) / min(m, n)
    for m positives and n negatives (Birnbaum and Klose, 1957). Average precision counts as uncertain as the recall of
    its positives. None for other metrics.

    >>> round(half_width("accuracy", [50, 50]), 3), round(half_width("average_precision", [393, 7], 1), 2)
    (0.098, 0.37)
    """
    occurring = [count for count in counts if count]
    if not occurring:
        return None
    if metric == "accuracy":
        return Z * 0.5 / math.sqrt(sum(occurring))
    if metric in BY_CLASS:
        return Z * 0.5 * math.sqrt(sum(1 / count for count in occurring)) / len(occurring)
    if metric == "worst_class_accuracy":
        return Z * 0.5 / math.sqrt(min(occurring))
    if metric not in OF_TWO or len(counts) != 2:
        return None
    return Z * 0.5 / math.sqrt(max(1, min(counts) if metric == "auroc" else counts[positive]))


def few_test_samples(store: Store, study: AnyStudy) -> list[dict[str, Any]]:
    """A finding where the half-width of the deciding metric of a study of classes exceeds `WIDE`, if it is known."""
    key = (study.name, "source")
    if not isinstance(study, Study) or not store.holds(key):
        return []
    source: Mapping[str, Any] = store.load(key)
    counts, task = source.get("test_counts", []), task_from(source["task"])
    if task.name != "classification" or not counts:
        return []
    metric = metrics_of(study, source)[0]
    positive: int = getattr(task, "positive", 0)
    wide = half_width(metric.name, counts, positive)
    if wide is None or wide <= WIDE:
        return []
    rare = positive if metric.name == "average_precision" else counts.index(min(count for count in counts if count))
    of = "" if metric.name == "accuracy" else f", {counts[rare]:,} of class {quoted(source['label_names'][rare])}"
    name = metric.name.replace("_", " ")
    text = (
        f"the test split has {sum(counts):,} samples{of}: by the luck of which these are, {name} may be off by up to "
        f"{100 * wide:.0f} points, at 95%, whatever the number of seeds; intervals over seeds do not hold that. More "
        f"test samples{' of rare classes' if of else ''} narrow it: name source.test, or a larger source.test_fraction"
    )
    return [{"kind": "few test samples", "split": "test", "count": sum(counts), "text": text, "rows": []}]
