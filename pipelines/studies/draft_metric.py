"""The deciding metric of a first study, and its selections, one of which shares the budget among classes."""

from secateur.pipelines.data.sources import Loaded
from secateur.pipelines.data.targets import class_counts
from secateur.pipelines.files.shown_text import quoted
from secateur.trainers.tasks.class_metrics import rarest
from secateur.trainers.tasks.classification import Classification


def metric_lines(loaded: Loaded, task: str) -> list[str]:
    """Lines of the key `metric` if a class is rare, else the default as a comment; empty for tasks without classes."""
    if task != "classification":
        return []
    known = classes_of(loaded)
    metric = known.metrics[0].name
    others = ", ".join(one.name for one in known.metrics[1:] if one.higher_is_better)
    if rarest(known.counts) is None:
        return [f"# metric: {metric} # decides, for no class is rare; there are {others}, too"]
    why = f"of {quoted(known.names[known.positive])}, the rare class" if known.classes == 2 else "for a class is rare"
    return [f"# The deciding metric, {why}. There are {others}, too.", f"metric: {metric}"]


def selection_lines(loaded: Loaded, task: str) -> list[str]:
    """Lines of all selections."""
    return [
        *cut_lines(task),
        "  hardest: {selector: top, score: el2n, end: high}",
        "  easiest: {selector: top, score: el2n, end: low}",
        *rare_class_lines(loaded, task),
    ]


def arms_of(loaded: Loaded, task: str) -> int:
    """Number of arms at a budget, including both random ones."""
    return 2 + sum(not line.lstrip().startswith("#") for line in selection_lines(loaded, task))


def cut_lines(task: str) -> list[str]:
    """Lines of the selection that cuts the samples most likely to have wrong targets."""
    if task == "regression":
        return ["  window: {selector: quantile_window, score: el2n, low: 0.0, high: 0.9} # without the largest errors"]
    return [
        "  coverage_centric: {score: aum, cutoff: 0.1} # leave the cutoff out to have it chosen on held-out samples"
    ]


def rare_class_lines(loaded: Loaded, task: str) -> list[str]:
    """Lines of a selection with a balanced budget per class if a class is rare, else an empty list."""
    if task != "classification" or rarest(classes_of(loaded).counts) is None:
        return []
    return [
        "  # The same with the budget shared out evenly among classes, so that the rare one is not lost.",
        "  hardest_by_class: {selector: top, score: el2n, end: high, classes: {policy: balanced}}",
    ]


def classes_of(loaded: Loaded) -> Classification:
    """The classification task with the training samples' class counts."""
    counts = class_counts(loaded.targets, len(loaded.label_names))
    return Classification(len(loaded.label_names), loaded.label_names, counts)
