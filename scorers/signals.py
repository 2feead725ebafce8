"""What a task says of a batch besides its losses, from the outputs of a network and the targets; scorers declare which
of these they read, so that a study that asks for one which its task cannot give is rejected when it loads."""

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
- `target_probabilities` float32 `[b, k]`: of what each of the k parts of a target is (one class, or each label);
- `predictions` float32 `[b, k]`: what a score follows over training, on a scale that does not change;
- `correct` bool `[b]`: whether a prediction counts as right;
- `margin` float32 `[b]`: by how much the outputs of the target are ahead of those of its closest rival;
- `probability_margin` float32 `[b]`: the same of probabilities, within [-1, 1];
- `error` float32 `[b, width]`: prediction minus target where losses compare them: the gradient, by the outputs, of
  cross-entropies and of half the squared residual, summed over the parts of a target;
- `target_output` float32 `[b]`: the output whose gradient by the inputs tells what a prediction hangs on;
- `target_tokens` float32 `[b]`: how many tokens of a text are learned;
- `target_cut` bool `[b]`: whether the text was longer than what the network reads;
- `bare_losses`, `headed_losses` float32 `[b]`: losses of the same tokens without what stands before them, behind a
  start token alone or behind the template's header of an answer; each takes another pass of the network;
- `token_accuracy` float32 `[b, 1]`: share of the learned tokens of a text that have the highest logit;
- `token_logits` float32 `[b]`: mean logit of the learned tokens of a text, whose gradient is taken where its token ids
  are embedded;
- `head_gradient` float64 `[b]`: length of the gradient of a text's loss by the last layer's weight and bias;
- `features` float32 `[b, d]`: what the last linear layer is fed with;
- `embedding` float32 `[b, d]`: one vector per sample: the features where there are such, of a text whose tokens are
  learned a mean over them (`trainers/passes/completions.py`);
- `inputs` `[b, …]`: the one tensor that the network is called with, where gradients are taken.
"""
OF_NETWORK: frozenset[Signal] = frozenset({"features", "embedding", "inputs"})
"""Signals that a network gives, whatever its task."""
NO_TOKENS: Mapping[Signal, str] = dict.fromkeys(
    ("target_tokens", "target_cut", "bare_losses", "headed_losses", "token_accuracy", "token_logits", "head_gradient"),
    "its targets are no texts: task sft has them",
)
"""What tasks lack that learn no tokens."""


def of_task(signal: Signal) -> cached_property[torch.Tensor]:
    """A signal as the batch's task gives it, computed when it is first asked for."""
    return cached_property(lambda batch: getattr(batch.task, signal)(batch))


class Batch:
    """Outputs of a network for some samples and their targets; what several scorers read of them is computed once.

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
    """Means nothing where an output is NaN."""
    margin = of_task("margin")
    probability_margin = of_task("probability_margin")
    error = of_task("error")
    target_tokens = of_task("target_tokens")
    target_cut = of_task("target_cut")
    """Of inputs, as the next two: checkpoints have them, training batches do not."""
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
    """Gives the signals of one kind of targets; asking for one that `lacks` names raises NotImplementedError."""

    name: str = "this task"
    lacks: Mapping[Signal, str] = NO_TOKENS
    """Signals that there are none of, each with the reason."""
    own_network: ClassVar[bool] = False
    """Whether a user's own network takes whole batches, targets in them, and puts out whatever it likes."""

    @property
    def provides(self) -> frozenset[Signal]:
        """Every signal that can be asked for."""
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
    """`(batch)`, as of those that follow."""
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
        """The network that puts out `token_logits`, of which alone parts that read token ids are asked for."""
        raise self.refusal("token_logits")

    def real_tokens(self, inputs: torch.Tensor) -> torch.Tensor:
        """Which tokens are no padding, bool `[b, t]`, of the columns of inputs that `token_network` embeds."""
        raise self.refusal("token_logits")

    def backward_parts(self, inputs: torch.Tensor) -> Iterator[torch.Tensor]:
        """Rows of a batch that `token_network` takes at once where gradients are wanted, int64, all in turn."""
        raise self.refusal("token_logits")

    def smoothed_losses(self, outputs: torch.Tensor, targets: torch.Tensor, smoothing: float) -> torch.Tensor:
        """Losses where a share `smoothing` of each target is given to all classes; ValueError where there are none."""
        raise ValueError(f"label_smoothing gives a share of the target to other classes; {self.name} has none")

    def refusal(self, signal: Signal) -> NotImplementedError:
        """The error that says why there is no such signal."""
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
