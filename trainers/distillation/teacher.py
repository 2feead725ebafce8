"""The teacher in a student's objective: logits of a batch, from the cache or by a forward pass."""

from __future__ import annotations

import warnings

from jaxtyping import Float, Int64, Shaped

from secateur.scorers.contract import TrainingBatch
from secateur.scorers.lazy import nn, torch
from secateur.trainers.augmentation import Augmentation
from secateur.trainers.distillation.cached_logits import TeacherLogits, expanded, logits_in
from secateur.trainers.tasks.class_order import listed, names_of, places_are_guessed, places_of, task_of_model
from secateur.trainers.tasks.contract import Task
from secateur.trainers.tasks.registry import task_from

RESIDENT = 1 << 30
"""Bytes of cached logits up to which all of them stay on the training device; of more, each batch copies its part."""


def varies(augmentation: Augmentation | None) -> bool:
    """Whether an augmentation changes inputs at all."""
    return augmentation is not None and bool(augmentation.crop_padding or augmentation.flip or augmentation.cutout)


class Teacher:
    """Logits of a trained model, in evaluation mode and without gradients.

    If the student's `augmentation` changes nothing, the teacher reads cached logits by the batch's ids, if it has any.
    Else it runs the model on the student's inputs, because cached logits belong to another view. The model is no part
    of the student or its state; the teacher puts it into evaluation mode and moves it to the device of the first batch.

    Classes are matched by name, in any order; if one side has no names, by place, with a warning. Raises ValueError
    without the model or the cache that the student's view needs, and for a teacher of other classes or another scale.
    """

    def __init__(
        self,
        model: nn.Module | None = None,
        *,
        cached: TeacherLogits | None = None,
        augmentation: Augmentation | None = None,
    ) -> None:
        if cached is not None and cached.augmentation is not None:
            raise ValueError(
                f"teacher logits of a varied view ({cached.augmentation}) fit no other: cache plain samples"
            )
        self.model, self.cached = model, None if varies(augmentation) else cached
        if self.model is None and self.cached is None:
            held = "its logits were cached for samples as stored, but the student's are augmented: " if cached else ""
            raise ValueError(f"{held}give the teacher's model")
        size = sum(array.nbytes for array in cached.arrays.values()) if cached is not None else 0
        self._resident, self._tables = size <= RESIDENT, dict[str, torch.Tensor]()
        self._matched: tuple[Task, torch.Tensor | None] | None = None

    def __call__(
        self, ids: Int64[torch.Tensor, " b"], inputs: Shaped[torch.Tensor, "b ..."], task: Task | None = None
    ) -> Float[torch.Tensor, "b width"]:
        """Outputs, float32 on the device of the batch, in the order of the student's `task`, else in the teacher's.

        Logits of exclusive classes may differ by a constant per row.
        """
        places = None if task is None else self._places(task, ids.device)
        with torch.no_grad():
            outputs = self._asked(inputs) if self.cached is None else self._remembered(self.cached, ids)
        return outputs if places is None else outputs[:, places]

    def distance(
        self, batch: TrainingBatch, inputs: torch.Tensor, task: Task, *, temperature: float
    ) -> Float[torch.Tensor, " b"]:
        """Distance of the student's outputs to the teacher's, one number per sample with gradient."""
        return task.distance(self(batch.ids, inputs, task), batch.outputs, temperature=temperature)

    def _places(self, task: Task, device: torch.device) -> Int64[torch.Tensor, " width"] | None:
        """Places of the task's classes among the outputs, cached per task."""
        if self._matched is None or self._matched[0] is not task:
            if self.cached is None:
                learned = task_of_model(self.model, task)
            else:
                learned = None if self.cached.task is None else task_from(self.cached.task)
            places = None if learned is None else places_of(learned, task, "the teacher")
            if places_are_guessed(learned, task):
                warnings.warn(
                    "only one of teacher and student has names of classes: the other's are taken to be in that "
                    f"order, {listed(names_of(task) or names_of(learned or task))}; name them",
                    stacklevel=2,
                )
            self._matched = (task, None if places is None else torch.from_numpy(places).to(device))
        return self._matched[1]

    def _asked(self, inputs: torch.Tensor) -> torch.Tensor:
        assert self.model is not None
        first = next(self.model.parameters(), None)
        if first is not None and first.device != inputs.device:
            self.model.to(inputs.device)
        if self.model.training:
            self.model.eval()
        return logits_in(self.model(inputs))

    def _remembered(self, cached: TeacherLogits, ids: torch.Tensor) -> torch.Tensor:
        if not self._resident:
            rows = ids.cpu().numpy()
            parts = {name: torch.from_numpy(array[rows]).to(ids.device) for name, array in cached.arrays.items()}
            return expanded(parts, cached.width)
        if not self._tables or self._tables["values"].device != ids.device:
            self._tables = {name: torch.tensor(array).to(ids.device) for name, array in cached.arrays.items()}
        return expanded({name: table[ids] for name, table in self._tables.items()}, cached.width)
