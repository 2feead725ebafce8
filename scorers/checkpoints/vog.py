"""Variance of gradients over checkpoints: how much the model changes its mind about a sample."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field

from secateur.scorers.checkpoints.contract import CheckpointBatch, checkpoint_scorer
from secateur.scorers.lazy import nn, torch

CAVEAT = (
    "not on every data set: against CIFAR-10's c-scores its rank correlation with difficulty is -0.24, and wrong "
    "labels have low values (docs/label-noise.md), so compare before choosing by it"
)


@checkpoint_scorer(
    high_means="harder",
    reads=(("target_output", "token_logits"), ("inputs", "token_logits")),
    paper="Agarwal et al. 2022, Estimating Example Difficulty using Variance of Gradients, section 2; "
    "Anand et al. 2023, Influence Scores at Scale, section 3, for text",
    several=True,
    least=2,
    caveat=CAVEAT,
)
def vog(
    batch: CheckpointBatch,
    *,
    reduce: Literal["std", "variance"] = "std",
    stage: Literal["all", "early", "late"] = "all",
    share: Annotated[float, Field(gt=0, le=1, description="checkpoints in the early or late stage, of all")] = 0.5,
) -> torch.Tensor:
    """Standard deviation over checkpoints of the gradient of the label's logit by the input, averaged over the input.

    For numbers it is the gradient of the prediction (of several, of their sum), for several labels that of the summed
    logits of the present labels, so that a sample without labels gets 0 (our choices).

    The papers find that high means harder; other measurements contradict this (`CAVEAT`).

    Images and features: the gradient at the network's input, behind the standardising first layer if the model has one;
    for images it is first averaged over channels, as in the authors' code. Token ids: the gradient at the output of the
    first embedding layer, averaged over real tokens; a text without any gets 0. Completions: the mean logit of the
    completion tokens takes the place of the label's, and the average is over all real tokens of prompt and completion
    (our derivation). Deviations are those of a population. `reduce="variance"` squares them before the average, as in
    the papers but not in the authors' code. `stage` takes the first or last `share` of the checkpoints, two at least.
    Memory holds one forward and backward pass and two maps of the gradient's size, for any number of checkpoints;
    completions go through in parts of similar length. Raises ValueError for fewer than two checkpoints.
    """
    models = stage_of(batch.models, stage, share)
    if "token_logits" not in batch.task.provides:
        return deviations(models, batch, reduce)
    found = torch.empty(len(batch.inputs), device=batch.inputs.device)
    for rows in batch.task.backward_parts(batch.inputs):
        part = CheckpointBatch(models, batch.inputs[rows], batch.targets[rows], batch.task)
        found[rows] = deviations(models, part, reduce)
    return found


def deviations(models: Sequence[nn.Module], batch: CheckpointBatch, reduce: Literal["std", "variance"]) -> torch.Tensor:
    """The spread of the gradients of a batch over checkpoints, averaged over the input, float32 `[b]`."""
    mean, squares, real = torch.zeros(()), torch.zeros(()), None
    for seen, model in enumerate(models, 1):
        gradient, real = input_gradient(model, batch)
        if seen == 1:
            mean, squares = gradient, torch.zeros_like(gradient)
            continue
        # Welford: numerically stable and in place.
        difference = gradient - mean
        mean.add_(difference, alpha=1 / seen)
        squares.addcmul_(difference, gradient.sub_(mean))
    spread = squares.div_(len(models)).clamp_(min=0)
    if reduce == "std":
        spread.sqrt_()
    each = spread.flatten(1).double() if real is None else spread.double().mean(dim=2)
    weights = torch.ones_like(each) if real is None else real.double()
    average: torch.Tensor = (each * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)
    return average.float()


def stage_of(models: Sequence[nn.Module], stage: Literal["all", "early", "late"], share: float) -> Sequence[nn.Module]:
    """The checkpoints of a stage, in their order; raises ValueError where there are not two to compare."""
    if len(models) < 2:
        raise ValueError(f"score 'vog' compares checkpoints, there is {len(models)}; save two or more of the proxy run")
    taken = max(2, round(share * len(models)))
    return {"all": models, "early": models[:taken], "late": models[-taken:]}[stage]


def input_gradient(model: nn.Module, batch: CheckpointBatch) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Gradient of each sample's target output by its input, and for token ids the mask of the real ones.

    Images `[b, height, width]`, the mean over channels; features `[b, …]`; token ids `[b, length, d]` with a bool mask
    `[b, length]`. Parameters get no gradient. The model must treat samples apart, as it does in evaluation mode.
    """
    inputs, network = batch.inputs, model
    completions = "token_logits" in batch.task.provides
    text = completions or (not inputs.is_floating_point() and inputs.dtype != torch.uint8)
    if completions:
        network = batch.task.token_network(model)
    if not text:
        inputs = inputs.float()
    entrance = first_embedding(model) if text else standardising_layer(model)
    leaves: list[torch.Tensor] = []
    tokens: list[torch.Tensor] = []

    def differentiate_here(_: nn.Module, given: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
        tokens.append(given[0])
        leaves.append(output.detach().requires_grad_())
        # A copy, for a next layer that works in place must not overwrite the leaf.
        return leaves[-1].clone()

    with torch.enable_grad():
        if entrance is None:
            leaves.append(inputs.detach().requires_grad_())
            inputs = leaves[0].clone()
        handle = entrance.register_forward_hook(differentiate_here) if entrance is not None else None
        try:
            # Detached parameters spare the backward pass its share for weights, and memory.
            detached = {name: parameter.detach() for name, parameter in network.named_parameters()}
            outputs = torch.func.functional_call(network, detached, (inputs,))
        finally:
            if handle is not None:
                handle.remove()
        if len(leaves) != 1:
            raise ValueError(f"the layer whose output is differentiated must be used once, it was {len(leaves)} times")
        if not outputs.requires_grad:
            raise ValueError(
                f"the outputs of {type(model).__name__} have no gradient by the inputs: nothing to compare"
            )
        told = outputs if completions else batch.task.target_output(outputs, batch.targets)
        (gradient,) = torch.autograd.grad(told.sum(), leaves)
    gradient = gradient.float().contiguous()
    if completions:
        return gradient, batch.task.real_tokens(inputs)
    if text:
        return gradient, real_tokens(model, tokens[0], gradient)
    return (gradient.mean(dim=1) if gradient.ndim == 4 else gradient), None


def standardising_layer(model: nn.Module) -> nn.Module | None:
    """The first layer if it only shifts by its `mean` and scales by its `std`; otherwise None."""
    first = next(model.children(), None)
    if first is None or not {"mean", "std"} <= dict(first.named_buffers(recurse=False)).keys():
        return None
    return first


def first_embedding(model: nn.Module) -> nn.Module:
    """The first embedding layer in order of declaration; raises ValueError if none."""
    for module in model.modules():
        if isinstance(module, nn.Embedding):
            return module
    raise ValueError(f"inputs are token ids and {type(model).__name__} has no embedding layer to differentiate at")


def real_tokens(model: nn.Module, tokens: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    """Mask of the tokens that are no padding, bool `[b, length]`.

    The padding id is the attribute `padding_id` of the model or of one of its parts (None: nothing is padded), else the
    embedding layer's own `padding_idx`. Raises ValueError where both are missing.
    """
    if gradient.ndim != 3 or gradient.shape[:2] != tokens.shape:
        shapes = f"{tuple(tokens.shape)} and {tuple(gradient.shape)}"
        raise ValueError(f"the first embedding layer must turn ids [b, length] into [b, length, d], it has {shapes}")
    named: list[Any] = [module.padding_id for module in model.modules() if hasattr(module, "padding_id")]
    padding: Any = named[0] if named else first_embedding(model).padding_idx
    if padding is None and not named:
        raise ValueError(
            f"{type(model).__name__} does not say which token id is padding; set its attribute `padding_id`, to None "
            "if nothing is padded"
        )
    everything = torch.ones_like(tokens, dtype=torch.bool)
    return everything if padding is None else tokens.ne(padding)
