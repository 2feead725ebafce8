"""The network of `language_model`: from token ids and roles to the loss of each sample's completion.

It computes logits in pieces of at most `PIECE` numbers, in float32, and again in the backward pass: neither direction
holds tokens x vocabulary. With a teacher a piece takes three times the memory. Without gradients it processes samples
in the order of their lengths, `BUDGET` padded tokens at a time, so memory does not grow with the batch. With gradients
it holds one vector per token of a batch.
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
"""Logits in memory at a time: 64 MiB, and as much again for their softmax."""
BUDGET = 1 << 13
"""Tokens of a pass without gradients, padding included."""


class TokenLosses(nn.Module):
    """Ids and roles int32 `[b, 2, length]` -> float32 `[b, 3]`: summed negative log-likelihood of the completion tokens
    in nats, their number, and the number of those with the highest logit.

    It predicts a token from the earlier ones of its sample; padding on either side has no effect. `adapters` is peft's
    config for a model with adapters, `reread` the settings of `language_model` that read their frozen weights again.
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
        """Settings of `language_model` that rebuild the same network for its stored weights."""
        return dict(self.reread) if self.reread else {"config": json.loads(self.body.config.to_json_string())}

    @property
    def rereads_frozen(self) -> bool:
        """Whether frozen weights are read again by name instead of stored."""
        return self.reread is not None

    def save_beside(self, folder: Path) -> None:
        """Write adapters in peft's format into `adapter` in this folder."""
        if self.adapters is not None:
            save_adapters(self, folder / "adapter")

    def hidden(self, ids: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
        """Last hidden states `[b, t, d]` of ids int64 `[b, t]` under the mask `real`; each sample's first real token is
        at position 0."""
        positions = {"position_ids": (real.long().cumsum(1) - 1).clamp(min=0)} if self.positioned else {}
        found = self.body(input_ids=ids, attention_mask=real.long(), use_cache=False, **positions)
        return found.last_hidden_state  # type: ignore[no-any-return]

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Logits float32 `[…, vocabulary]`, for layers of any precision: bfloat16 would round them."""
        head = self.body.get_input_embeddings() if self.head is None else self.head
        bias = getattr(head, "bias", None)
        with torch.autocast(hidden.device.type, enabled=False):
            return nn.functional.linear(hidden.float(), head.weight.float(), None if bias is None else bias.float())

    def piece(self, hidden: torch.Tensor, wanted: torch.Tensor, *lesson: Any) -> tuple[torch.Tensor, ...]:
        """Negative log-likelihood of each wanted token, float32 `[k]`, 1 where it has the highest logit, and with a
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
        """The same network with the mean logit of each sample's completion tokens as output, float32 `[b]`."""
        return TokenLogits(self)

    def scored(self, inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """One forward pass of a batch: the hidden states `[t, d]` that predict completion tokens, these tokens, and the
        numbers of their samples, int64 `[t]`."""
        inputs = used_columns(inputs)
        ids, scored = inputs[:, 0].long(), scored_in(inputs)[:, 1:]
        return self.hidden(ids, real_in(inputs))[:, :-1][scored], ids[:, 1:][scored], scored.nonzero()[:, 0]

    def sums(self, inputs: torch.Tensor, lesson: Lesson | None = None) -> torch.Tensor:
        """The outputs of a batch by one forward pass."""
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
        """Slices of so many tokens with at most `PIECE` logits each."""
        size = max(1, PIECE // self.body.config.vocab_size)
        return [slice(first, first + size) for first in range(0, tokens, size)]

    @torch.no_grad()
    def head_gradient(self, inputs: torch.Tensor) -> torch.Tensor:
        """Euclidean norm of the gradient of each sample's mean loss by the head's weight and bias, float64 `[b]`.

        The gradient is that of the head alone, also if its weights are tied to the embedding. Slices of the vocabulary
        bound the memory: at most `PIECE` numbers of the gradient or of the logits exist at once.
        """
        found = torch.zeros(len(inputs), dtype=torch.float64, device=inputs.device)
        for rows in by_length(inputs, BUDGET):
            hidden, wanted, owners = self.scored(inputs[rows])
            counts = torch.bincount(owners, minlength=len(rows)).tolist()
            each = zip(torch.split(hidden.float(), counts), torch.split(wanted, counts), strict=True)
            found[rows] = torch.stack([self.length_of_gradient(*one) for one in each])
        return found

    def length_of_gradient(self, hidden: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        """The norm for one sample: hidden states float32 `[t, d]` and the tokens int64 `[t]` that they predict."""
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
        """The highest logits at the completion tokens of a batch, in the order of samples and tokens, for a teacher.

        Ignores tokens from `vocabulary` on, which the tokenizer does not have.
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

    It computes only one logit per token, a product of two vectors.
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
    """Raise ValueError if a model's own logits differ from the network's, for example by a cap or a scale."""
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
