"""Signals of scorers and selectors by parameter name, and the assets of a study of samples by stage."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

Origin = Literal["call", "samples", "asset"]


@dataclass(frozen=True)
class StudySignal:
    """Origin and cost of a signal in a study.

    `call`: an argument from the caller, no property of the samples. `samples`: derived from the table of samples.
    `asset`: an array from the asset of the same name, which reads the assets in `reads`; the asset `cost` holds its
    cost, which counts towards `part` of the compute.
    """

    origin: Origin
    part: str = ""
    cost: str = ""
    reads: tuple[str, ...] = ()


SIGNALS: Mapping[str, StudySignal] = {
    "ids": StudySignal("call"),
    "budget": StudySignal("call"),
    "samples": StudySignal("call"),
    "epochs": StudySignal("call"),
    "scores": StudySignal("call"),
    "labels": StudySignal("samples"),
    "strata": StudySignal("samples"),
    "memberships": StudySignal("samples"),
    "null_log_probabilities": StudySignal("samples"),
    "completion_tokens": StudySignal("samples"),
    "embeddings": StudySignal("asset", "embeddings", "embeddings_cost", ("proxy",)),
    "loss_trajectories": StudySignal("asset", "scoring", "loss_trajectories_cost", ("proxy",)),
    "label_free_embeddings": StudySignal("asset", "embeddings", "label_free_embeddings_cost"),
    "label_free_neighbours": StudySignal(
        "asset", "neighbours", "label_free_neighbours_cost", ("label_free_embeddings",)
    ),
    "target_places": StudySignal("asset", "target", "target_places_cost"),
    "target_log_ratios": StudySignal("asset", "target", "target_ratios_cost"),
    "ngram_counts": StudySignal("asset", "target", "target_ratios_cost"),
    "gradient_places": StudySignal("asset", "target", "gradient_places_cost", ("proxy",)),
    "sources": StudySignal("asset"),
    "target_source": StudySignal("asset"),
    "neighbour_indices": StudySignal("asset", "neighbours", "neighbours_cost", ("embeddings",)),
    "neighbour_distances": StudySignal("asset", "neighbours", "neighbours_cost", ("embeddings",)),
}
"""Every signal but the study's own scores, which have their own names."""
PARTS = ("training", "proxy", "scoring", "embeddings", "neighbours", "target", "choosing", "tuning", "teacher")
"""Parts of the compute, in the order of the report."""

DATA = ("source", "samples", "test_samples", "inputs", "test_inputs", "encoder")
SCORING = (
    "proxy",
    "target",
    *(name for name, signal in SIGNALS.items() if signal.origin == "asset"),
    "scores",
    "yardstick",
    "columns",
)
CHOICE = ("tuning", "subset", "manifest")
EPOCH_MANIFEST = "epoch_manifest"
"""Asset of the samples in each epoch, of selections in training."""
TRAINING = (
    *("teacher", "distillation_tuning", "teacher_logits", "trained_model", EPOCH_MANIFEST, "evaluation", "report"),
)
"""Assets of a study of samples by stage, each after its possible inputs."""

BESIDE: Mapping[str, str] = {
    "rows": "samples",
    "data_report": "samples",
    "data_groups": "samples",
    "proxy_cost": "proxy",
    "proxy_folds": "proxy",
    "scores_cost": "scores",
    "scoring_pass_cost": "scores",
    "embeddings_cost": "embeddings",
    "embeddings_for": "embeddings",
    "yardstick_cost": "yardstick",
    "loss_trajectories_cost": "loss_trajectories",
    "neighbours_cost": "neighbour_indices",
    "label_free_embeddings_cost": "label_free_embeddings",
    "label_free_neighbours_cost": "label_free_neighbours",
    "target_report": "target",
    "sources_report": "sources",
    "target_places_cost": "target_places",
    "target_ratios_cost": "target_log_ratios",
    "gradient_places_cost": "gradient_places",
    "tuning_cost": "tuning",
    "teacher_cost": "teacher",
    "teacher_logits_cost": "teacher_logits",
    "distillation_tuning_cost": "distillation_tuning",
    "yardstick_model": "yardstick",
    "subset_settings": "subset",
    "subset_spent": "subset",
    "subset_cost": "subset",
    "audited_rows": "audit",
    "audit_memory": "audit",
    "prepared_record": "prepared",
    "manifest": "pruned",
}
"""Further outputs of an asset's step, with that asset, for studies of any kind; a manifest may have its own step."""
AUDIT = "audit"
"""The audit of a study, and the key of its content among the report's inputs."""
COST = "_cost"
"""Suffix of the assets that hold costs."""
OF_ANY_SAMPLES = ("encoder", "proxy", "teacher", "drift", "ad_hoc_selection")
"""Assets valid for other samples than those of their run: models, and outputs that name their samples themselves."""
OF_TEST = ("test_samples", "test_inputs")
OF_BOTH = (
    *("source", "data_report", "data_groups", "rows", "yardstick", "yardstick_model", "evaluation", "report"),
    *("audit", "audited_rows", "audit_memory"),
)


def samples_behind(asset: str) -> tuple[str, ...]:
    """Assets of the samples to which an asset, or an output beside it, belongs; it is invalid for any others.

    Assets outside of the lists above depend on the training samples.
    """
    if asset in OF_ANY_SAMPLES or asset.startswith(".") or asset.endswith(COST):
        return ()
    return ("test_samples",) if asset in OF_TEST else ("samples", "test_samples") if asset in OF_BOTH else ("samples",)


def of_origin(*origins: Origin) -> set[str]:
    """Names of the signals of these origins."""
    return {name for name, signal in SIGNALS.items() if signal.origin in origins}


def made_by_assets(names: Iterable[str]) -> set[str]:
    """Signals among the names that assets produce, and the signals that those assets read."""
    made = set(names) & of_origin("asset")
    return made.union(*(made_by_assets(SIGNALS[name].reads) for name in made))
