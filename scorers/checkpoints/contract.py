"""Scorers of checkpoints: outputs of trained models for a batch, in evaluation mode and without augmentation.

One pass over the data serves every such scorer: a batch computes the forward pass, the features before the last layer
and the signals of the last checkpoint once, at their first use. A scorer is a decorated function of one
`CheckpointBatch` with keyword-only settings; it returns one number per sample of the batch, which depends
on that sample alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Concatenate, Generic, ParamSpec

from pydantic import BaseModel

from secateur.scorers.contract import Card, HighMeans, Reads, settings_of, summary_of
from secateur.scorers.lazy import nn, torch
from secateur.scorers.signals import Batch, ClassSignals, Signals

P = ParamSpec("P")


class CheckpointBatch(Batch):
    """One batch under one or several checkpoints of one network, oldest first, all in evaluation mode.

    `inputs` `[b, …]` as the network takes them and `targets` `[b, …]` as the task's losses read them, on the models'
    device. Outputs, losses and signals (see `Signal`) are those of the last checkpoint, without gradient; `task`
    defines them, by default classification.
    """

    def __init__(self, models: Sequence[nn.Module], inputs: Any, targets: Any, task: Signals | None = None) -> None:
        self.models = models
        self.inputs = inputs
        self.targets = targets
        self.task = task or ClassSignals()

    @cached_property
    def _forward(self) -> tuple[torch.Tensor, torch.Tensor]:
        return forward_with_features(self.models[-1], self.inputs, self.classifier)

    @cached_property
    def _earlier(self) -> list[CheckpointBatch]:
        return [CheckpointBatch([model], self.inputs, self.targets, self.task) for model in self.models[:-1]]

    @property
    def each(self) -> list[CheckpointBatch]:
        """The same batch under each checkpoint alone, oldest first; this one stands for the last."""
        return [*self._earlier, self]

    @cached_property
    def outputs(self) -> Any:  # type: ignore[override]
        """Outputs of the last checkpoint, float32 `[b, width]`; those of a user's own network in any form."""
        if self.task.own_network or "features" in self.task.lacks:
            with torch.no_grad():
                outputs = self.models[-1](self.inputs)
            return outputs if self.task.own_network else outputs.float()
        return self._forward[0]

    @property
    def features(self) -> torch.Tensor:
        """Inputs of the last checkpoint's classifier, float32 `[b, d]`, without gradient."""
        return self._forward[1]

    @cached_property
    def losses(self) -> torch.Tensor:  # type: ignore[override]
        """The task's loss of each sample, float32 `[b]`."""
        return self.task.losses(self.outputs, self.targets)

    @cached_property
    def error_length(self) -> torch.Tensor:
        """Euclidean length of `error`, float64 `[b]`."""
        length: torch.Tensor = torch.linalg.vector_norm(self.error, dim=1, dtype=torch.float64)
        return length

    @cached_property
    def classifier(self) -> nn.Linear:
        """The last checkpoint's last linear layer."""
        return classifier_of(self.models[-1])


def classifier_of(model: nn.Module) -> nn.Linear:
    """The last linear layer in order of declaration, which turns features into outputs; raises ValueError if none."""
    layers = [module for module in model.modules() if isinstance(module, nn.Linear)]
    if not layers:
        raise ValueError(f"{type(model).__name__} has no linear layer to take as its classifier")
    return layers[-1]


def average(checkpoints: Sequence[torch.Tensor]) -> torch.Tensor:
    """Mean over checkpoints of one number per sample in float64, `[b]` each; float32 `[b]`."""
    if len(checkpoints) == 1:
        return checkpoints[0].float()
    return torch.stack(list(checkpoints)).mean(dim=0).float()


def forward_with_features(
    model: nn.Module, inputs: Any, classifier: nn.Linear | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Outputs float32 `[b, width]` and features float32 `[b, d]` of a forward pass of inputs as the network takes them.

    Raises ValueError where the classifier sees anything but one vector per sample.
    """
    seen: list[torch.Tensor] = []
    layer = classifier_of(model) if classifier is None else classifier
    handle = layer.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    try:
        with torch.no_grad():
            logits = model(inputs)
    finally:
        handle.remove()
    if len(seen) != 1 or seen[0].ndim != 2:
        raise ValueError("the last linear layer must see one vector per sample, once, to serve as the classifier")
    return logits.float(), seen[0].float()


@dataclass(frozen=True)
class CheckpointScorer(Generic[P]):
    """A scoring function of a `CheckpointBatch`, still callable, with its declaration for the pipeline."""

    compute: Callable[Concatenate[CheckpointBatch, P], torch.Tensor]
    card: Card
    settings: type[BaseModel]
    reads: Reads
    several: bool
    """Whether it reads all checkpoints of the proxy, or the last one alone."""
    least: int = 1
    """Fewest checkpoints of one run that it compares."""
    unscored: float | None = None
    """The value of samples without a score; reports count them."""

    def __call__(self, batch: CheckpointBatch, *args: P.args, **kwargs: P.kwargs) -> torch.Tensor:
        """One number per sample of the batch, float32 `[b]`, on the models' device."""
        return self.compute(batch, *args, **kwargs)


def checkpoint_scorer(
    *,
    high_means: HighMeans,
    reads: Reads,
    paper: str,
    version: str = "1",
    several: bool = False,
    least: int = 1,
    unscored: float | None = None,
    caveat: str = "",
) -> Callable[[Callable[Concatenate[CheckpointBatch, P], torch.Tensor]], CheckpointScorer[P]]:
    """Declare a scorer of checkpoints. `version` changes whenever its numbers do."""

    def declare(compute: Callable[Concatenate[CheckpointBatch, P], torch.Tensor]) -> CheckpointScorer[P]:
        name = compute.__name__
        view = "evaluation mode, not augmented, " + ("several checkpoints" if several else "last checkpoint")
        card = Card(name, version, high_means, view, paper, summary_of(compute), caveat=caveat)
        return CheckpointScorer(compute, card, settings_of(compute), reads, several, least, unscored)

    return declare
