"""Signals of a task about a batch, from the outputs of a network and the targets. Scorers declare the signals that they
read, so that a study with a scorer whose signal its task lacks is rejected when it loads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import ClassVar, Literal, get_args

from secateur.scorers.lazy import functional, nn, torch

Signal = Literal[
    "losses",
    "probabilities",
    "target_probabilities",
    "predictions",
    "correct",
    "margin",
    "probability_margin",
    "error",
    "target_output",
    "target_tokens",
    "target_cut",
    "bare_losses",
    "headed_losses",
    "token_accuracy",
    "token_logits",
    "head_gradient",
    "features",
    "embedding",
    "inputs",
]
"""Numbers of a batch of `b` samples:

- `losses` float32 `[b]`: one loss per sample, in the task's own scale, with its gradient;
- `probabilities` float32 `[b, classes]`: of classes that exclude each other;
- `target_probabilities` float32 `[b, k]`: of the value of each of the k parts of a target (one class, or each label);
- `predictions` float32 `[b, k]`: numbers that a score follows over training, on a fixed scale;
- `correct` bool `[b]`: whether a prediction counts as right;
- `margin` float32 `[b]`: lead of the target's output over that of its closest rival;
- `probability_margin` float32 `[b]`: the same for probabilities, within [-1, 1];
- `error` float32 `[b, width]`: prediction minus target where losses compare them: the gradient, by the outputs, of
  cross-entropies and of half the squared residual, summed over the parts of a target;
- `target_output` float32 `[b]`: the output whose gradient by the inputs shows their influence on a prediction;
- `target_tokens` float32 `[b]`: number of learned tokens of a text;
- `target_cut` bool `[b]`: whether the text was too long for the network;
- `bare_losses`, `headed_losses` float32 `[b]`: losses of the same tokens without the text before them, behind a
  start token alone or behind the template's header of an answer; each takes another pass of the network;
- `token_accuracy` float32 `[b, 1]`: share of the learned tokens of a text that have the highest logit;
- `token_logits` float32 `[b]`: mean logit of the learned tokens of a text, whose gradient is taken where its token ids
  are embedded;
- `head_gradient` float64 `[b]`: length of the gradient of a text's loss by the last layer's weight and bias;
- `features` float32 `[b, d]`: inputs of the last linear layer;
- `embedding` float32 `[b, d]`: one vector per sample: the features if there are any, for a text with learned tokens a
  mean over these (`trainers/passes/completions.py`);
- `inputs` `[b, …]`: the one input tensor of the network, for gradients by it.
"""
OF_NETWORK: frozenset[Signal] = frozenset({"features", "embedding", "inputs"})
"""Signals that a network gives, whatever its task."""
NO_TOKENS: Mapping[Signal, str] = dict.fromkeys(
    ("target_tokens", "target_cut", "bare_losses", "headed_losses", "token_accuracy", "token_logits", "head_gradient"),
    "its targets are no texts: task sft has them",
)
"""Signals that tasks without learned tokens lack, with the reason."""


def of_task(signal: Signal) -> cached_property[torch.Tensor]:
    """A signal from the batch's task, computed at its first use."""
    return cached_property(lambda batch: getattr(batch.task, signal)(batch))


class Batch:
    """Outputs of a network for some samples and their targets; signals that several scorers read are computed once.

    `outputs` float32 `[b, width]` and `targets` `[b, …]`, as the task's losses read them, are on one device, which
    nothing here waits for.
    """

    outputs: torch.Tensor
    targets: torch.Tensor
    losses: torch.Tensor
    task: Signals

    probabilities = of_task("probabilities")
    target_probabilities = of_task("target_probabilities")
    predictions = of_task("predictions")
    correct = of_task("correct")
    """Undefined where an output is NaN."""
    margin = of_task("margin")
    probability_margin = of_task("probability_margin")
    error = of_task("error")
    target_tokens = of_task("target_tokens")
    target_cut = of_task("target_cut")
    """From inputs, like the next two: checkpoints have them, training batches do not."""
    bare_losses = of_task("bare_losses")
    headed_losses = of_task("headed_losses")
    token_accuracy = of_task("token_accuracy")
    token_logits = of_task("token_logits")
    head_gradient = of_task("head_gradient")


def refused(signal: Signal) -> Callable[..., torch.Tensor]:
    """The method of a task that does not give a signal."""

    def refuse(task: Signals, *_: object) -> torch.Tensor:
        raise task.refusal(signal)

    return refuse


class Signals:
    """The signals of one kind of targets; one that `lacks` names raises NotImplementedError."""

    name: str = "this task"
    lacks: Mapping[Signal, str] = NO_TOKENS
    """Missing signals, each with the reason."""
    own_network: ClassVar[bool] = False
    """Whether a user's own network takes whole batches with their targets, and returns outputs of any form."""

    @property
    def provides(self) -> frozenset[Signal]:
        """Every signal that is not missing."""
        return frozenset(get_args(Signal)).difference(self.lacks)

    @property
    def smooths(self) -> bool:
        """Whether there are `smoothed_losses`."""
        return type(self).smoothed_losses is not Signals.smoothed_losses

    losses = refused("losses")
    """`(outputs, targets)`, with the gradient of the outputs; see `Signal`, as for all of these."""
    target_output = refused("target_output")
    """`(outputs, targets)`, with the gradient of the outputs."""
    probabilities = refused("probabilities")
    """`(batch)`, like those that follow."""
    target_probabilities = refused("target_probabilities")
    predictions = refused("predictions")
    correct = refused("correct")
    margin = refused("margin")
    probability_margin = refused("probability_margin")
    error = refused("error")
    target_tokens = refused("target_tokens")
    target_cut = refused("target_cut")
    bare_losses = refused("bare_losses")
    headed_losses = refused("headed_losses")
    token_accuracy = refused("token_accuracy")
    token_logits = refused("token_logits")
    head_gradient = refused("head_gradient")

    def token_network(self, model: nn.Module) -> nn.Module:
        """The network that computes `token_logits`; only in it callers look for parts that read token ids."""
        raise self.refusal("token_logits")

    def real_tokens(self, inputs: torch.Tensor) -> torch.Tensor:
        """Mask of the tokens that are no padding, bool `[b, t]`, for the input columns that `token_network` embeds."""
        raise self.refusal("token_logits")

    def backward_parts(self, inputs: torch.Tensor) -> Iterator[torch.Tensor]:
        """Rows of a batch, int64, for one backward pass of `token_network` each, until all had their turn."""
        raise self.refusal("token_logits")

    def smoothed_losses(self, outputs: torch.Tensor, targets: torch.Tensor, smoothing: float) -> torch.Tensor:
        """Losses after all classes share `smoothing` of each target equally; ValueError where there are no classes."""
        raise ValueError(f"label_smoothing gives a share of the target to other classes; {self.name} has none")

    def refusal(self, signal: Signal) -> NotImplementedError:
        """The error with the reason why there is no such signal."""
        return NotImplementedError(f"{self.name} has no {signal}: {self.lacks.get(signal, 'it does not declare any')}")


class ClassSignals(Signals):
    """Signals of classes that exclude each other: outputs are logits `[b, classes]`, targets int64 `[b]`."""

    name = "classification"

    def losses(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Cross-entropy in nats."""
        return functional.cross_entropy(outputs, targets, reduction="none")

    def smoothed_losses(self, outputs: torch.Tensor, targets: torch.Tensor, smoothing: float) -> torch.Tensor:
        """Cross-entropy with this share of the target given to all classes alike (Szegedy et al. 2016, section 7)."""
        return functional.cross_entropy(outputs, targets, reduction="none", label_smoothing=smoothing)

    def target_output(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Logit of the label."""
        return outputs.gather(1, targets.unsqueeze(1)).squeeze(1)

    def probabilities(self, batch: Batch) -> torch.Tensor:
        """Softmax."""
        return batch.outputs.softmax(dim=1)

    def target_probabilities(self, batch: Batch) -> torch.Tensor:
        """Probability of the label, `[b, 1]`."""
        return batch.probabilities.gather(1, batch.targets.unsqueeze(1))

    def predictions(self, batch: Batch) -> torch.Tensor:
        """Probability of the label, `[b, 1]`."""
        return batch.target_probabilities

    def correct(self, batch: Batch) -> torch.Tensor:
        """Whether the label has the highest logit."""
        return batch.outputs.argmax(dim=1) == batch.targets

    def margin(self, batch: Batch) -> torch.Tensor:
        """Logit of the label minus the highest other logit."""
        return margin_of(batch.outputs, batch.targets)

    def probability_margin(self, batch: Batch) -> torch.Tensor:
        """Probability of the label minus the highest other probability."""
        return margin_of(batch.probabilities, batch.targets)

    def error(self, batch: Batch) -> torch.Tensor:
        """Softmax minus one-hot label."""
        column = batch.targets.unsqueeze(1)
        return batch.probabilities.scatter_add(1, column, torch.full_like(column, -1, dtype=batch.probabilities.dtype))


def margin_of(values: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Value of the label minus the highest other one: `[b, classes]`, int64 `[b]` -> `[b]`."""
    column = targets.unsqueeze(1)
    rivals = values.scatter(1, column, float("-inf"))
    return values.gather(1, column).squeeze(1) - rivals.amax(dim=1)
