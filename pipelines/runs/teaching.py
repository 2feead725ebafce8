"""Teacher, cached logits and tuned settings for the twins of a study with distillation."""

from collections.abc import Mapping
from typing import Any

from secateur.pipelines.studies.samples import Study
from secateur.trainers.contract import Data, Objective, TrainingConfig
from secateur.trainers.distillation.objective import Distillation
from secateur.trainers.distillation.teacher import varies
from secateur.trainers.distillation.token_teacher import WrongLogits, teacher_for
from secateur.trainers.models import registry as models


def asked(study: Study) -> Distillation:
    """The study's settings; raises ValueError where it has none."""
    if study.distillation is None:
        raise ValueError(f"study {study.name!r} has no distillation section")
    return study.distillation


def cached_in(study: Study) -> bool:
    """Whether students can read cached logits: not where their samples are augmented."""
    return asked(study).cache and not varies(study.training.augmentation)


def objective_for(
    study: Study, config: TrainingConfig, loaded: Mapping[str, Any], *, kept: int, data: Data
) -> Objective:
    """The objective of a student of this config on `kept` of the samples of `data`; in-training, `kept` per epoch.

    `loaded` are the inputs of `teacher_inputs` from Dagster. Cached logits serve unless the config, which the launchpad
    may have changed, augments the samples; then the teacher runs on the student's batches. Raises ValueError for cached
    logits of another number of samples.
    """
    settings = tuned_settings(asked(study), loaded)
    cached, varied = loaded.get("teacher_logits"), config.augmentation
    model = models.load(loaded["teacher"]) if cached is None or varies(varied) else None
    try:
        teacher = teacher_for(data, settings, model=model, cached=cached, augmentation=varied)
    except WrongLogits as error:
        raise ValueError(f"{error}: materialise {study.name}/teacher_logits again") from error
    return settings.objective(teacher, config, keep=kept / len(data))


def tuned_settings(settings: Distillation, loaded: Mapping[str, Any]) -> Distillation:
    """The settings of distillation alone, with the tuned values where there was a tuning."""
    plain = {name: getattr(settings, name) for name in Distillation.model_fields}
    best = loaded.get("distillation_tuning")
    return Distillation(**(plain | (best["settings"] if best else {})))
