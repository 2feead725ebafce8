"""Supervised fine-tuning of a causal language model: each sample is a text with some learned tokens.

A network with logits as outputs would return samples x tokens x vocabulary. Ours (`language_model`) returns three
numbers per sample, which suffice for losses and metrics, so observers, scorers and files handle narrow arrays.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int64

from secateur.scorers.contract import rows_text
from secateur.scorers.lazy import torch
from secateur.scorers.signals import Batch, Signal
from secateur.trainers.tasks.choices import WHY_NOT, Ask, choices_in
from secateur.trainers.tasks.contract import Metric, Task, refuse_not_finite
from secateur.trainers.tasks.token_roles import bare, by_length, cut_rows, headed, real_in, used_columns

NLL, TOKENS, RIGHT, TAUGHT = range(4)
"""Columns of the outputs: summed negative log-likelihood of a sample's completion tokens in nats, the number of these
tokens, and the number of those with the highest logit; with a teacher also the summed divergence from it."""
EXACT, CHOICE = "exact_match", "choice_accuracy"
BY_DOMAIN = ("nll_", f"{EXACT}_")
"""Prefixes of the names of a domain's metrics."""
BACKWARD = 1 << 10
"""Tokens of a pass with gradients, padding included."""
EVERY = "all"
"""The stratum of data without domains."""
MANY = "a completion is many tokens, each with a distribution over the whole vocabulary; there is no number of a sample"
RIVALS = (
    "each token of a completion has a rival of its own in the vocabulary, and no paper says how their margins make one "
    "number"
)
LACKS: dict[Signal, str] = {
    "probabilities": MANY,
    "target_probabilities": f"{MANY} that published scores of probabilities were defined for (checkpoint_loss and loss "
    "are of the mean over its tokens)",
    "predictions": MANY,
    "correct": "a completion of many tokens is hardly ever right as a whole",
    "margin": RIVALS,
    "probability_margin": RIVALS,
    "error": f"{MANY}: its error has samples x tokens x vocabulary entries, which are never held",
    "target_output": MANY,
    "features": "its last layer sees one vector per token, not one per sample",
    "inputs": "its inputs are token ids, by which nothing can be differentiated, and layers of language models (a root "
    "mean square norm, a head that is the embedding) have no gradient norm per sample here",
}


@dataclass(frozen=True)
class Sft(Task):
    """Targets int64 `[n]` are domains, 0 … domains-1, which the network does not learn; outputs `[b, 3]` see `NLL`.

    The loss of a sample is the mean negative log-likelihood over its completion tokens, so samples of any length have
    the same weight in a batch.
    """

    name = "sft"
    target = "class"
    settings = ()
    lacks = LACKS
    learns_target = False
    taught_by_token = True
    modality = "sequence"

    classes: int = 1
    """Number of domains."""
    names: Sequence[str] = ()
    """Names of the domains."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", tuple(self.names))  # JSON gives a list.

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Nats per completion token decide; several domains add metrics for each."""
        domains = self.names if len(self.names) > 1 else ()
        return (
            Metric("nll", higher_is_better=False, unit="nats"),
            Metric("perplexity", higher_is_better=False),
            Metric("row_nll", higher_is_better=False, unit="nats"),
            Metric("token_accuracy", percent=True),
            Metric(EXACT, percent=True),
            Metric(CHOICE, percent=True),
            *(Metric(f"nll_{name}", higher_is_better=False, unit="nats") for name in domains),
            *(Metric(f"{EXACT}_{name}", percent=True) for name in domains),
        )

    @property
    def width(self) -> int:
        """See `NLL`."""
        return 3

    def fitted(self, targets: Int64[np.ndarray, " n"]) -> Sft:
        """Itself: it has no fitted values."""
        return self

    def state(self) -> dict[str, Any]:
        """See `Task.state`."""
        return {"name": self.name, "classes": self.classes, "names": list(self.names)}

    def check(self, targets: Int64[np.ndarray, " n"], rows: Int64[np.ndarray, " m"] | None = None) -> None:
        """Raise ValueError that names rows with an invalid domain."""
        rows = np.arange(len(targets)) if rows is None else rows
        wrong = rows[(targets[rows] < 0) | (targets[rows] >= self.classes)]
        if len(wrong):
            raise ValueError(f"domains must be within 0 … {self.classes - 1}, they are not at {rows_text(wrong)}")

    def tensor(self, targets: Int64[np.ndarray, " n"]) -> torch.Tensor:
        """The domains, int64 `[n]`."""
        return torch.tensor(targets)

    def losses(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Mean negative log-likelihood per completion token, in nats."""
        return outputs[:, NLL] / outputs[:, TOKENS]

    def distance(self, teacher: torch.Tensor, student: torch.Tensor, *, temperature: float) -> torch.Tensor:
        """Raise ValueError: outputs are sums over tokens, and the network compares with a teacher token by token."""
        raise ValueError("task sft compares tokens, not outputs: give a TokenTeacher, whose lessons the network takes")

    def target_tokens(self, batch: Batch) -> torch.Tensor:
        """Number of completion tokens."""
        return batch.outputs[:, TOKENS]

    def token_accuracy(self, batch: Batch) -> torch.Tensor:
        """Share of completion tokens with the highest logit given all earlier tokens, `[b, 1]`."""
        return batch.outputs[:, RIGHT : RIGHT + 1] / batch.outputs[:, TOKENS : TOKENS + 1]

    def token_logits(self, batch: Any) -> torch.Tensor:
        """Mean logit of the completion tokens."""
        with torch.no_grad():
            found: torch.Tensor = self.token_network(batch.models[-1])(batch.inputs)
        return found

    def head_gradient(self, batch: Any) -> torch.Tensor:
        """Norm of the gradient of the mean loss over completion tokens by the head's weights."""
        found: torch.Tensor = part_with("head_gradient", batch.models[-1]).head_gradient(batch.inputs)
        return found

    def token_network(self, model: Any) -> Any:
        """The network behind `token_logits` of a model; raises ValueError for a model without it."""
        return part_with("token_logits", model).token_logits

    def real_tokens(self, inputs: torch.Tensor) -> torch.Tensor:
        """See `Signals`."""
        real: torch.Tensor = real_in(used_columns(inputs))
        return real

    def backward_parts(self, inputs: torch.Tensor) -> Iterator[torch.Tensor]:
        """See `Signals`: `BACKWARD` padded tokens at once, one sample at least."""
        return by_length(inputs, BACKWARD)

    def target_cut(self, batch: Any) -> torch.Tensor:
        """Whether the encoding cut the sample."""
        cut: torch.Tensor = cut_rows(batch.inputs)
        return cut

    def bare_losses(self, batch: Any) -> torch.Tensor:
        """Mean loss per token of the completion after a start token alone."""
        return self._losses_of(batch, bare(batch.inputs, start_of(batch.models[-1])))

    def headed_losses(self, batch: Any) -> torch.Tensor:
        """Mean loss per token of the completion after the template's header of an answer, without the prompt."""
        return self._losses_of(batch, headed(batch.inputs, start_of(batch.models[-1])))

    def _losses_of(self, batch: Any, inputs: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return self.losses(batch.models[-1](inputs).float(), batch.targets)

    def evaluate(self, outputs: Float[np.ndarray, "n 3"], targets: Int64[np.ndarray, " n"]) -> dict[str, float]:
        """`nll` is the mean over all tokens, `row_nll` the mean over rows of each row's mean, `exact_match` the share
        of rows with the completion that greedy decoding would write; `nll_…` and `exact_match_…` are those of each
        domain with rows.

        Greedy decoding writes a completion exactly if each of its tokens has the highest logit given all earlier ones,
        because up to the first other token it reads the completion. So the evaluation generates no text.
        """
        refuse_not_finite(outputs)
        sums = np.asarray(outputs, np.float64)
        total = sums.sum(axis=0)
        nll, whole = total[NLL] / total[TOKENS], sums[:, RIGHT] == sums[:, TOKENS]
        found = {
            "nll": float(nll),
            "perplexity": math.exp(min(nll, 700.0)),
            "row_nll": float((sums[:, NLL] / sums[:, TOKENS]).mean()),
            "token_accuracy": float(total[RIGHT] / total[TOKENS]),
            EXACT: float(whole.mean()),
        }
        if len(self.names) > 1:
            rows, exact = (np.bincount(targets, weights, self.classes) for weights in (None, whole.astype(np.float64)))
            found |= {
                f"{EXACT}_{self.names[one]}": float(exact[one] / rows[one]) for one in np.flatnonzero(rows).tolist()
            }
            by_domain = np.stack([np.bincount(targets, sums[:, column], self.classes) for column in (NLL, TOKENS)])
            there = np.flatnonzero(by_domain[1])
            found |= {f"nll_{self.names[one]}": float(by_domain[0, one] / by_domain[1, one]) for one in there.tolist()}
        return found

    def undefined(self, targets: Int64[np.ndarray, " n"]) -> dict[str, str]:
        """Metrics of domains without rows."""
        missing = np.setdiff1d(np.arange(self.classes), targets).tolist() if len(self.names) > 1 else []
        return {
            f"{what}_{self.names[one]}": f"no row is of domain {self.names[one]!r}"
            for one in missing
            for what in ("nll", EXACT)
        }

    def undefined_of(self, inputs: Any, targets: Int64[np.ndarray, " n"]) -> dict[str, str]:
        """See `Task.undefined_of`."""
        return {} if choices_in(inputs, targets) else {CHOICE: WHY_NOT}

    def evaluate_by(self, ask: Ask, inputs: Any, targets: Int64[np.ndarray, " n"]) -> dict[str, float]:
        """Share of rows whose own answer is the likeliest, over all domains with few answers; empty without such
        domains."""
        right = [one.right(inputs, ask) for one in choices_in(inputs, targets)]
        return {CHOICE: float(np.concatenate(right).mean())} if right else {}

    def strata(self, targets: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
        """The domains."""
        return targets

    def stratum_names(self) -> list[str]:
        """Names of the domains."""
        return list(self.names) or ([EVERY] if self.classes == 1 else [str(number) for number in range(self.classes)])

    def shown(self, target: Any) -> str:
        """The name of a domain; empty if there is only one."""
        return self.stratum_names()[int(target)] if self.classes > 1 else ""


def part_with(name: str, model: Any) -> Any:
    """The module in a network that has an attribute of that name; raises ValueError if none has."""
    found = next((part for part in model.modules() if hasattr(part, name)), None)
    if found is None:
        raise ValueError(f"{type(model).__name__} has no part with {name}, which language_model has")
    return found


def start_of(model: Any) -> int:
    """The encoding's start token for texts without a prompt, from the model's settings."""
    return int(model.learned["start_id"])
