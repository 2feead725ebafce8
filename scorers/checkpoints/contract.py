"""Scorers of checkpoints: what trained models say of a batch, in evaluation mode and without augmentation.

One pass over the data serves every such scorer: the forward pass, the features before the classifier and the softmax of
the last checkpoint are computed once per batch, whoever asks first. A scorer is a decorated function of one
`CheckpointBatch` with keyword-only settings; it returns one number per sample of the batch, which depends
on that sample alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Concatenate, Generic, ParamSpec

from pydantic import BaseModel

from secateur.scorers.contract import Card, HighMeans, margin_of, settings_of, summary_of
from secateur.scorers.lazy import functional, nn, torch

P = ParamSpec("P")


class CheckpointBatch:
    """One batch under one or several checkpoints of one network, oldest first, all in evaluation mode.

    `inputs` `[b, …]` as the network takes them and `labels` int64 `[b]`, on the models' device.
    """

    def __init__(self, models: Sequence[nn.Module], inputs: torch.Tensor, labels: torch.Tensor) -> None:
        self.models = models
        self.inputs = inputs
        self.labels = labels

    @cached_property
    def _forward(self) -> tuple[torch.Tensor, torch.Tensor]:
        return forward_with_features(self.models[-1], self.inputs, self.classifier)

    @cached_property
    def _earlier(self) -> list[CheckpointBatch]:
        return [CheckpointBatch([model], self.inputs, self.labels) for model in self.models[:-1]]

    @property
    def each(self) -> list[CheckpointBatch]:
        """The same batch under each checkpoint alone, oldest first; this one stands for the last."""
        return [*self._earlier, self]

    @property
    def logits(self) -> torch.Tensor:
        """Logits of the last checkpoint, float32 `[b, classes]`, without gradient."""
        return self._forward[0]

    @property
    def features(self) -> torch.Tensor:
        """What the last checkpoint's classifier is fed with, float32 `[b, d]`, without gradient."""
        return self._forward[1]

    @cached_property
    def probabilities(self) -> torch.Tensor:
        """Softmax of the logits, float32 `[b, classes]`."""
        return self.logits.softmax(dim=1)

    @cached_property
    def losses(self) -> torch.Tensor:
        """Cross-entropy of the label in nats, float32 `[b]`."""
        return functional.cross_entropy(self.logits, self.labels, reduction="none")

    @cached_property
    def error(self) -> torch.Tensor:
        """Softmax minus one-hot label, which is the gradient of the loss by the logits; float32 `[b, classes]`."""
        ones = torch.full_like(self.labels, -1, dtype=self.probabilities.dtype).unsqueeze(1)
        return self.probabilities.scatter_add(1, self.labels.unsqueeze(1), ones)

    @cached_property
    def error_length(self) -> torch.Tensor:
        """Euclidean length of `error`, float64 `[b]`."""
        length: torch.Tensor = torch.linalg.vector_norm(self.error, dim=1, dtype=torch.float64)
        return length

    @cached_property
    def classifier(self) -> nn.Linear:
        """The last checkpoint's last linear layer."""
        return classifier_of(self.models[-1])

    @cached_property
    def probability_margin(self) -> torch.Tensor:
        """Probability of the label minus the highest other one, float32 `[b]`."""
        return margin_of(self.probabilities, self.labels)


def classifier_of(model: nn.Module) -> nn.Linear:
    """The last linear layer in order of declaration, which turns features into logits; raises ValueError if none."""
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
    model: nn.Module, inputs: torch.Tensor, classifier: nn.Linear | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits float32 `[b, classes]` and features float32 `[b, d]` of one forward pass.

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
    """A scoring function of a `CheckpointBatch`, still callable, and what the pipeline must know of it."""

    compute: Callable[Concatenate[CheckpointBatch, P], torch.Tensor]
    card: Card
    settings: type[BaseModel]
    several: bool
    """Whether it reads all checkpoints of the proxy, or the last one alone."""

    def __call__(self, batch: CheckpointBatch, *args: P.args, **kwargs: P.kwargs) -> torch.Tensor:
        """One number per sample of the batch, float32 `[b]`, on the models' device."""
        return self.compute(batch, *args, **kwargs)


def checkpoint_scorer(
    *, high_means: HighMeans, paper: str, version: str = "1", several: bool = False
) -> Callable[[Callable[Concatenate[CheckpointBatch, P], torch.Tensor]], CheckpointScorer[P]]:
    """Declare a scorer of checkpoints. `version` changes whenever its numbers would."""

    def declare(compute: Callable[Concatenate[CheckpointBatch, P], torch.Tensor]) -> CheckpointScorer[P]:
        name = compute.__name__
        view = "evaluation mode, not augmented, " + ("several checkpoints" if several else "last checkpoint")
        card = Card(name, version, high_means, view, paper, summary_of(compute))
        return CheckpointScorer(compute, card, settings_of(compute), several)

    return declare
