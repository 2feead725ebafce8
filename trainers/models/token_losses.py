"""The network behind `language_model`: from token ids and roles to what the completion of each sample costs.

Logits are made in pieces of `PIECE` numbers at most, in float32, and made again in the backward pass: neither direction
holds tokens x vocabulary. Without gradients samples go through the network in the order of their lengths, `BUDGET`
padded tokens at a time, so that memory does not grow with the batch. What stays is a vector per token of a batch.
"""

import inspect
import json
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from secateur.trainers.tasks.token_roles import by_length, real_in, scored_in, used_columns

PIECE = 1 << 24
"""Logits that are held at a time: 64 MiB, and as much again for their softmax."""
BUDGET = 1 << 13
"""Tokens, padding among them, of a pass without gradients."""


class TokenLosses(nn.Module):
    """Ids and roles int32 `[b, 2, length]` -> float32 `[b, 3]`: summed negative log-likelihood of the completion tokens
    in nats, their number, and how many of them have the highest logit.

    A token is predicted from what stands before it in its own sample; padding on either side changes nothing.
    """

    def __init__(self, causal: Any) -> None:
        super().__init__()
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
        """Settings of `language_model` that build the same network from nothing but its weights."""
        return {"config": json.loads(self.body.config.to_json_string())}

    def hidden(self, ids: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
        """Last hidden states `[b, t, d]` of ids int64 `[b, t]`, of which `real` ones count; the first real one of each
        sample is at position 0."""
        positions = {"position_ids": (real.long().cumsum(1) - 1).clamp(min=0)} if self.positioned else {}
        found = self.body(input_ids=ids, attention_mask=real.long(), use_cache=False, **positions)
        return found.last_hidden_state  # type: ignore[no-any-return]

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Logits float32 `[…, vocabulary]`."""
        if self.head is not None:
            return self.head(hidden).float()  # type: ignore[no-any-return]
        return nn.functional.linear(hidden, self.body.get_input_embeddings().weight).float()

    def piece(self, hidden: torch.Tensor, wanted: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Negative log-likelihood of each wanted token, float32 `[k]`, and whether it has the highest logit."""
        logits = self.logits(hidden)
        losses = nn.functional.cross_entropy(logits, wanted, reduction="none")
        return losses, (logits.detach().argmax(1) == wanted).float()

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        if torch.is_grad_enabled():
            return self.sums(inputs)
        outputs = torch.empty(len(inputs), 3, device=inputs.device)
        for rows in by_length(inputs, BUDGET):
            outputs[rows] = self.sums(inputs[rows])
        return outputs

    def before_scored(self, inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Of every completion token of a batch: the hidden state that predicts it `[k, d]`, its id and its row, int64
        `[k]`."""
        inputs = used_columns(inputs)
        ids, scored = inputs[:, 0].long(), scored_in(inputs)[:, 1:]
        hidden = self.hidden(ids, real_in(inputs))
        return hidden[:, :-1][scored], ids[:, 1:][scored], scored.nonzero()[:, 0]

    @property
    def token_logits(self) -> nn.Module:
        """The same network that puts out the mean logit of each sample's completion tokens, float32 `[b]`."""
        return TokenLogits(self)

    def sums(self, inputs: torch.Tensor) -> torch.Tensor:
        """The outputs of a batch that goes through the network at once."""
        hidden, wanted, rows = self.before_scored(inputs)
        size = max(1, PIECE // self.body.config.vocab_size)
        losses, right = [], []
        for first in range(0, len(wanted), size):
            some = hidden[first : first + size], wanted[first : first + size]
            grad = torch.is_grad_enabled()
            loss, hit = checkpoint(self.piece, *some, use_reentrant=False) if grad else self.piece(*some)
            losses.append(loss)
            right.append(hit)
        each = torch.stack([torch.cat(losses), torch.ones_like(wanted, dtype=torch.float32), torch.cat(right)], dim=1)
        return torch.zeros(len(inputs), 3, device=inputs.device).index_add(0, rows, each)


class TokenLogits(nn.Module):
    """Ids and roles int32 `[b, 2, length]` -> float32 `[b]`: the mean logit of the completion tokens.

    One logit per token is a product of two vectors: none of the others are made.
    """

    def __init__(self, network: TokenLosses) -> None:
        super().__init__()
        self.network = network

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        hidden, wanted, rows = self.network.before_scored(inputs)
        head = self.network.body.get_input_embeddings() if self.network.head is None else self.network.head
        logits = torch.linalg.vecdot(hidden, head.weight[wanted]).float()
        bias = getattr(head, "bias", None)
        logits = logits if bias is None else logits + bias[wanted]
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
    if not torch.allclose(theirs, ours, rtol=1e-3, atol=1e-3):
        raise ValueError(
            f"{type(causal).__name__} caps, scales or moves its logits ({float((theirs - ours).abs().max()):.3g} at "
            "most here), which language_model does not: take another model, or write one as module:factory"
        )
