"""The network behind `language_model`: from token ids and roles to what the completion of each sample costs.

Logits are made in pieces of `PIECE` numbers at most, in float32, and made again in the backward pass: neither direction
holds tokens x vocabulary. Beside a teacher a piece takes three times as much. Without gradients samples go through the
network in the order of their lengths, `BUDGET` padded tokens at a time, so that memory does not grow with the batch.
What stays is a vector per token of a batch.
"""

import inspect
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from secateur.trainers.models.adapters import save_adapters
from secateur.trainers.models.taught_tokens import Lesson, divergence, highest
from secateur.trainers.tasks.token_roles import by_length, real_in, scored_in, used_columns

PIECE = 1 << 24
"""Logits that are held at a time: 64 MiB, and as much again for their softmax."""
BUDGET = 1 << 13
"""Tokens, padding among them, of a pass without gradients."""


class TokenLosses(nn.Module):
    """Ids and roles int32 `[b, 2, length]` -> float32 `[b, 3]`: summed negative log-likelihood of the completion tokens
    in nats, their number, and how many of them have the highest logit.

    A token is predicted from what stands before it in its own sample; padding on either side changes nothing.
    `adapters` is peft's config where there are some, and `reread` the settings of `language_model` that read the frozen
    weights below them again.
    """

    def __init__(self, causal: Any, *, adapters: Any = None, reread: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        self.adapters, self.reread = adapters, reread
        body, head = causal.base_model, causal.get_output_embeddings()
        if body is causal or not isinstance(head, nn.Linear):
            raise ValueError(f"{type(causal).__name__} has no linear layer over hidden states: it is not supported")
        self.body = body
        self.tied = head.weight is body.get_input_embeddings().weight
        self.head = None if self.tied else head
        self.positioned = "position_ids" in inspect.signature(body.forward).parameters
        refuse_other_logits(causal, self)

    @property
    def rebuild_settings(self) -> dict[str, Any]:
        """Settings of `language_model` that build the same network from nothing but its stored weights."""
        return dict(self.reread) if self.reread else {"config": json.loads(self.body.config.to_json_string())}

    @property
    def rereads_frozen(self) -> bool:
        """Whether weights that are not trained are read again by their name, and not stored."""
        return self.reread is not None

    def save_beside(self, folder: Path) -> None:
        """Write adapters as peft reads them, into `adapter` in this folder."""
        if self.adapters is not None:
            save_adapters(self, folder / "adapter")

    def hidden(self, ids: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
        """Last hidden states `[b, t, d]` of ids int64 `[b, t]`, of which `real` ones count; the first real one of each
        sample is at position 0."""
        positions = {"position_ids": (real.long().cumsum(1) - 1).clamp(min=0)} if self.positioned else {}
        found = self.body(input_ids=ids, attention_mask=real.long(), use_cache=False, **positions)
        return found.last_hidden_state  # type: ignore[no-any-return]

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Logits float32 `[…, vocabulary]`, whatever precision the layers below run in: bfloat16 would round them."""
        head = self.body.get_input_embeddings() if self.head is None else self.head
        bias = getattr(head, "bias", None)
        with torch.autocast(hidden.device.type, enabled=False):
            return nn.functional.linear(hidden.float(), head.weight.float(), None if bias is None else bias.float())

    def piece(self, hidden: torch.Tensor, wanted: torch.Tensor, *lesson: Any) -> tuple[torch.Tensor, ...]:
        """Negative log-likelihood of each wanted token, float32 `[k]`, whether it has the highest logit, and with a
        lesson the divergence from the teacher."""
        logits = self.logits(hidden)
        losses = nn.functional.cross_entropy(logits, wanted, reduction="none")
        right = (logits.detach().argmax(1) == wanted).float()
        return (losses, right, divergence(logits, *lesson)) if lesson else (losses, right)

    def forward(self, inputs: torch.Tensor, lesson: Lesson | None = None) -> torch.Tensor:
        if torch.is_grad_enabled() or lesson is not None:
            return self.sums(inputs, lesson)
        outputs = torch.empty(len(inputs), 3, device=inputs.device)
        for rows in by_length(inputs, BUDGET):
            outputs[rows] = self.sums(inputs[rows])
        return outputs

    @property
    def token_logits(self) -> nn.Module:
        """The same network that puts out the mean logit of each sample's completion tokens, float32 `[b]`."""
        return TokenLogits(self)

    def scored(self, inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Of a batch that goes through the network at once the vectors `[t, d]` that completion tokens are predicted
        from, these tokens, and the samples that they are of, int64 `[t]`."""
        inputs = used_columns(inputs)
        ids, scored = inputs[:, 0].long(), scored_in(inputs)[:, 1:]
        return self.hidden(ids, real_in(inputs))[:, :-1][scored], ids[:, 1:][scored], scored.nonzero()[:, 0]

    def sums(self, inputs: torch.Tensor, lesson: Lesson | None = None) -> torch.Tensor:
        """The outputs of a batch that goes through the network at once."""
        hidden, wanted, rows = self.scored(inputs)
        found = []
        for part in self.parts(len(wanted)):
            some: tuple[Any, ...] = hidden[part], wanted[part]
            some += () if lesson is None else (*(each[part] for each in lesson[:3]), *lesson[3:])
            grad = torch.is_grad_enabled()
            found.append(checkpoint(self.piece, *some, use_reentrant=False) if grad else self.piece(*some))
        losses, right, *taught = (torch.cat(each) for each in zip(*found, strict=True))
        each = torch.stack([losses, torch.ones_like(losses), right, *taught], dim=1)
        return torch.zeros(len(inputs), each.shape[1], device=inputs.device).index_add(0, rows, each)

    def parts(self, tokens: int) -> list[slice]:
        """So many tokens in parts whose logits are no more than a piece."""
        size = max(1, PIECE // self.body.config.vocab_size)
        return [slice(first, first + size) for first in range(0, tokens, size)]

    @torch.no_grad()
    def head_gradient(self, inputs: torch.Tensor) -> torch.Tensor:
        """Euclidean length of the gradient of each sample's mean loss by the head's weight and bias, float64 `[b]`.

        The gradient is the head's own, also where its weights are those of the embedding. It is made in slices of the
        vocabulary: no more than a piece of it, or of the logits, is there at once.
        """
        found = torch.zeros(len(inputs), dtype=torch.float64, device=inputs.device)
        for rows in by_length(inputs, BUDGET):
            hidden, wanted, owners = self.scored(inputs[rows])
            counts = torch.bincount(owners, minlength=len(rows)).tolist()
            each = zip(torch.split(hidden.float(), counts), torch.split(wanted, counts), strict=True)
            found[rows] = torch.stack([self.length_of_gradient(*one) for one in each])
        return found

    def length_of_gradient(self, hidden: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        """The same of one sample: float32 `[t, d]` and the tokens int64 `[t]` that are predicted from these."""
        head = self.body.get_input_embeddings() if self.head is None else self.head
        weight, bias = head.weight, getattr(head, "bias", None)
        total = torch.cat([self.logits(hidden[part]).logsumexp(1, keepdim=True) for part in self.parts(len(wanted))])
        squares, size = torch.zeros((), dtype=torch.float64, device=hidden.device), max(1, PIECE // max(hidden.shape))
        for first in range(0, len(weight), size):
            own = slice(first, first + size)
            logits = nn.functional.linear(hidden, weight[own].float(), None if bias is None else bias[own].float())
            error = (logits - total).exp()
            said = ((wanted >= first) & (wanted < first + size)).nonzero()[:, 0]
            error[said, wanted[said] - first] -= 1
            squares += (error.T @ hidden).double().square().sum()
            if bias is not None:
                squares += error.double().sum(0).square().sum()
        return squares.sqrt() / len(wanted)

    @torch.no_grad()
    def highest(self, inputs: torch.Tensor, k: int, temperature: float, vocabulary: int) -> Lesson:
        """What it says as a teacher of the completion tokens of a batch, in the order of samples and tokens.

        Tokens from `vocabulary` on, which the tokenizer does not have, are as if they were not there.
        """
        rows, found = [], []
        for some in by_length(inputs, BUDGET):
            hidden, _, own = self.scored(inputs[some])
            rows.append(some[own])
            for part in self.parts(len(own)):
                found.append(highest(self.logits(hidden[part])[:, :vocabulary], k, temperature)[:3])
        order = torch.cat(rows).argsort(stable=True)
        values, indices, rest = (torch.cat(each)[order] for each in zip(*found, strict=True))
        return Lesson(values, indices, rest, temperature, vocabulary)


class TokenLogits(nn.Module):
    """Ids and roles int32 `[b, 2, length]` -> float32 `[b]`: the mean logit of the completion tokens.

    One logit per token is a product of two vectors: none of the others are made.
    """

    def __init__(self, network: TokenLosses) -> None:
        super().__init__()
        self.network = network

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        hidden, wanted, rows = self.network.scored(inputs)
        head = self.network.body.get_input_embeddings() if self.network.head is None else self.network.head
        logits = torch.linalg.vecdot(hidden.float(), head.weight[wanted].float())
        bias = getattr(head, "bias", None)
        logits = logits if bias is None else logits + bias[wanted].float()
        counts = torch.bincount(rows, minlength=len(inputs))
        return torch.zeros(len(inputs), device=inputs.device).index_add(0, rows, logits) / counts


@torch.no_grad()
def refuse_other_logits(causal: Any, network: TokenLosses) -> None:
    """Raise ValueError where a model's own logits are not those of the network, as with a cap or a scale on them."""
    training, ids = causal.training, torch.arange(8)[None] % causal.config.vocab_size
    causal.eval()
    theirs = causal(input_ids=ids, use_cache=False).logits.float()
    ours = network.logits(network.hidden(ids, torch.ones_like(ids, dtype=torch.bool)))
    causal.train(training)
    close = 1e-3 if ours.dtype == next(causal.parameters()).dtype else 0.1
    if not torch.allclose(theirs, ours, rtol=close, atol=close):
        raise ValueError(
            f"{type(causal).__name__} caps, scales or moves its logits ({float((theirs - ours).abs().max()):.3g} at "
            "most here), which language_model does not: take another model, or write one as module:factory"
        )
