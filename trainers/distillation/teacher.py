"""A teacher as a student's objective asks it: logits of a batch, from the cache or by a forward pass."""

from __future__ import annotations

from jaxtyping import Float, Int64, Shaped

from secateur.scorers.lazy import nn, torch
from secateur.trainers.augmentation import Augmentation
from secateur.trainers.distillation.cached_logits import TeacherLogits, expanded

RESIDENT = 1 << 30
"""Bytes of cached logits that are kept whole on the training device; of more, each batch's part is copied there."""


def varies(augmentation: Augmentation | None) -> bool:
    """Whether an augmentation changes inputs at all."""
    return augmentation is not None and bool(augmentation.crop_padding or augmentation.flip or augmentation.cutout)


class Teacher:
    """Logits of a trained model, in evaluation mode and without gradients.

    Where the student sees samples as they are stored, cached logits are read by the batch's ids, if there are any.
    Where `augmentation`, the student's, varies them, the model is run on the very inputs that the student got: cached
    logits are of another view. The model is no part of the student, whose state therefore does not hold it; it is
    put into evaluation mode and moved to the device of the first batch.

    Raises ValueError where what the student's view needs was not given.
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

    def __call__(
        self, ids: Int64[torch.Tensor, " b"], inputs: Shaped[torch.Tensor, "b ..."]
    ) -> Float[torch.Tensor, "b width"]:
        """Outputs, float32 on the device of the batch; logits of exclusive classes may be shifted by a constant."""
        with torch.no_grad():
            return self._asked(inputs) if self.cached is None else self._remembered(self.cached, ids)

    def _asked(self, inputs: torch.Tensor) -> torch.Tensor:
        assert self.model is not None
        first = next(self.model.parameters(), None)
        if first is not None and first.device != inputs.device:
            self.model.to(inputs.device)
        if self.model.training:
            self.model.eval()
        logits: torch.Tensor = self.model(inputs)
        return logits.float()

    def _remembered(self, cached: TeacherLogits, ids: torch.Tensor) -> torch.Tensor:
        if not self._resident:
            rows = ids.cpu().numpy()
            parts = {name: torch.from_numpy(array[rows]).to(ids.device) for name, array in cached.arrays.items()}
            return expanded(parts, cached.width)
        if not self._tables or self._tables["values"].device != ids.device:
            self._tables = {name: torch.tensor(array).to(ids.device) for name, array in cached.arrays.items()}
        return expanded({name: table[ids] for name, table in self._tables.items()}, cached.width)
