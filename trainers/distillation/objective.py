"""Knowledge distillation: a student learns from labels and from a teacher trained on all samples.

The loss of a sample is (1 - alpha) · CE(student, label) + alpha · T² · KL(softmax(teacher/T) ‖ softmax(student/T)), at
temperature T (Hinton, Vinyals and Dean 2015, "Distilling the knowledge in a neural network", section 2). Other tasks
replace the second part. Regression: half the squared distance to the teacher's predictions. Several labels: T² times
the mean over labels of the binary KL (`Task.distance`). Completions: T² times the mean over their tokens of the KL over
the most probable tokens and one class for all others (`models/taught_tokens.py`).

Ben-Baruch et al. 2024, "Distilling the knowledge in data pruning" (arXiv 2403.07854), train students this way on pruned
data: the fewer samples stay, the higher alpha should be. A higher alpha also reduces the harm of wrong labels, because
the KL part does not read labels.

Observers and in-training samplers see the task's plain loss, not the training loss (see `Objective`); samplers' weights
multiply the whole loss of a sample. In code:

    settings = Distillation(temperature=2.0)
    taught = train(data, settings.config_for(config), seed=settings.seed)
    teacher = Teacher(taught.model, cached=cache_logits(taught.model, data), augmentation=config.augmentation)
    train(data, config, seed=0, keep=keep, objective=settings.objective(teacher, config, keep=keep.mean()))
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Annotated

from pydantic import ConfigDict, Field, model_validator

from secateur.scorers.contract import TrainingBatch
from secateur.scorers.lazy import torch
from secateur.scorers.settings import STUDY_PATHS, Settings
from secateur.trainers.contract import Objective, TrainingConfig
from secateur.trainers.distillation.teacher import Teacher
from secateur.trainers.distillation.token_teacher import TokenTeacher
from secateur.trainers.loop.run import plain_objective
from secateur.trainers.tasks.classification import Classification
from secateur.trainers.tasks.contract import Task

Share = Annotated[float, Field(ge=0, le=1)]
Curve = tuple[tuple[Annotated[float, Field(gt=0, le=1)], Share], ...]
"""(share kept, alpha) with rising shares; linear interpolation between, constant beyond both ends."""

PUBLISHED_DIRECTION: Curve = ((0.1, 1.0), (0.3, 0.9), (0.5, 0.7), (0.7, 0.5))
"""In the paper, alpha falls as the share kept rises; the numbers are ours. `tune_distillation` tunes them."""


class Distillation(Settings):
    """Settings of the distillation of students."""

    model_config = ConfigDict(frozen=True)

    teacher: Annotated[
        TrainingConfig | Path | None,
        STUDY_PATHS,
        Field(description="a config, or the folder of a trained model; default: the students' config on all samples"),
    ] = None
    alpha: Annotated[Share | None, Field(description="weight of the teacher; by `curve` if left out")] = None
    curve: Annotated[Curve, Field(min_length=1, description="weight of the teacher by share kept")] = (
        PUBLISHED_DIRECTION
    )
    temperature: Annotated[float, Field(gt=0, description="divides the logits of teacher and student")] = 4.0
    tune: Annotated[bool, Field(description="choose temperature and curve on held-out training samples")] = False
    top_k: Annotated[
        int | None,
        Field(ge=1, description="classes cached per sample, default all; with task sft logits per token, default 32"),
    ] = None
    cache: Annotated[bool, Field(description="cache the teacher's logits; augmented samples are never cached")] = True
    seed: Annotated[int, Field(ge=0, description="seed of the teacher; students count from 0")] = 1000

    @model_validator(mode="after")
    def _consistent(self) -> Distillation:
        shares = [share for share, _ in self.curve]
        if any(before >= after for before, after in pairwise(shares)):
            raise ValueError(f"curve: shares kept must rise, got {shares}")
        if self.tune and self.alpha is not None:
            raise ValueError("alpha is given, so there is no curve to tune: leave out either alpha or tune")
        if self.tune and isinstance(self.teacher, Path):
            raise ValueError(
                "tune: a teacher from a folder may have been trained on the samples that would be held out; give its "
                "config, or set alpha or curve"
            )
        return self

    def alpha_at(self, keep: float) -> float:
        """Weight of the teacher at this share of kept samples; raises ValueError outside (0, 1]."""
        if not 0 < keep <= 1:
            raise ValueError(f"the share kept must be within (0, 1], got {keep}")
        if self.alpha is not None:
            return self.alpha
        if keep <= self.curve[0][0]:
            return self.curve[0][1]
        for (left, low), (right, high) in pairwise(self.curve):
            if keep <= right:
                return low + (high - low) * (keep - left) / (right - left)
        return self.curve[-1][1]

    def config_for(self, students: TrainingConfig) -> TrainingConfig:
        """The teacher's config: that of the settings, or the students' without label smoothing.

        Label smoothing removes information on the other classes from the teacher's outputs, and its students get worse
        (Müller, Kornblith and Hinton 2019, "When does label smoothing help?", section 4). Raises ValueError for a
        teacher from a folder.
        """
        if isinstance(self.teacher, Path):
            raise ValueError(f"the teacher is read from {self.teacher}, it is not trained")
        return self.teacher or students.model_copy(update={"label_smoothing": 0.0})

    def objective(self, teacher: Teacher | TokenTeacher, students: TrainingConfig, *, keep: float) -> Objective:
        """The training loss of a student of this config at the share `keep` of kept samples."""
        return distil(
            teacher,
            alpha=self.alpha_at(keep),
            temperature=self.temperature,
            label_smoothing=students.label_smoothing,
        )


def distil(
    teacher: Teacher | TokenTeacher, *, alpha: float, temperature: float, label_smoothing: float = 0.0
) -> Objective:
    """Per-sample (1 - alpha) · the task's loss + alpha · `Task.distance` of the student to the teacher, float32 `[b]`.

    Label smoothing concerns the cross-entropy alone: the teacher's targets are soft already. Alpha 0 gives the plain
    objective, without a pass of the teacher. Raises ValueError for alpha outside [0, 1], a temperature not above 0, and
    a cache of another temperature; at the first batch also for a teacher of other classes.
    """
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha must be within [0, 1], got {alpha}")
    if not temperature > 0:
        raise ValueError(f"temperature must be above 0, got {temperature}")
    plain = plain_objective(label_smoothing)
    if alpha == 0:
        return plain
    if teacher.cached is not None:
        teacher.cached.check_temperature(temperature)

    def losses_of(batch: TrainingBatch, inputs: torch.Tensor) -> torch.Tensor:
        task = batch.task if isinstance(batch.task, Task) else Classification(batch.outputs.shape[1])
        taught = teacher.distance(batch, inputs, task, temperature=temperature)
        # Alpha 1 must not read labels: 0 times an infinite loss is NaN.
        return taught if alpha == 1 else (1 - alpha) * plain(batch, inputs) + alpha * taught

    if isinstance(teacher, TokenTeacher):
        losses_of.lesson = teacher.lesson  # type: ignore[attr-defined]
    return losses_of
