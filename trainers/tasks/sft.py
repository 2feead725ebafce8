"""Supervised fine-tuning of a causal language model: each sample is a text of which some tokens are learned.

A network of logits would put out samples x tokens x vocabulary. Ours (`language_model`) puts out the three numbers of
a sample that everything else here is made of, so that what is watched, scored, gathered and stored stays narrow.
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
"""Columns of the outputs: summed negative log-likelihood of a sample's completion tokens in nats, how many tokens these
are, and how many of them have the highest logit; with a teacher also the summed divergence from it."""
EXACT, CHOICE = "exact_match", "choice_accuracy"
BY_DOMAIN = ("nll_", f"{EXACT}_")
"""How the names of metrics of a domain begin."""
BACKWARD = 1 << 10
"""Tokens, padding among them, of a pass with gradients."""
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
    """Targets int64 `[n]` are domains, 0 … domains-1, which nobody learns; outputs `[b, 3]` see `NLL`.

    The loss of a sample is the mean over its completion tokens of their negative log-likelihood, so every sample weighs
    the same in a batch, as long as it may be.
    """

    name = "sft"
    target = "class"
    settings = ()
    lacks = LACKS
    learns_target = False
    taught_by_token = True
    modality = "sequence"

    classes: int = 1
    """How many domains there are."""
    names: Sequence[str] = ()
    """Of the domains."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", tuple(self.names))  # which may come as a list, out of JSON

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Nats per completion token decide; with several domains also those of each."""
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
        """Itself: it learns nothing of targets."""
        return self

    def state(self) -> dict[str, Any]:
        """See `Task.state`."""
        return {"name": self.name, "classes": self.classes, "names": list(self.names)}

    def check(self, targets: Int64[np.ndarray, " n"], rows: Int64[np.ndarray, " m"] | None = None) -> None:
        """Raise ValueError that names rows whose domain is none."""
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
        """Raise ValueError: outputs are sums over tokens, and a teacher is compared token by token in the network."""
        raise ValueError("task sft compares tokens, not outputs: give a TokenTeacher, whose lessons the network takes")

    def target_tokens(self, batch: Batch) -> torch.Tensor:
        """Completion tokens."""
        return batch.outputs[:, TOKENS]

    def token_accuracy(self, batch: Batch) -> torch.Tensor:
        """Share of the completion tokens that have the highest logit given all before them, `[b, 1]`."""
        return batch.outputs[:, RIGHT : RIGHT + 1] / batch.outputs[:, TOKENS : TOKENS + 1]

    def token_logits(self, batch: Any) -> torch.Tensor:
        """Mean logit of the completion tokens."""
        with torch.no_grad():
            found: torch.Tensor = self.token_network(batch.models[-1])(batch.inputs)
        return found

    def head_gradient(self, batch: Any) -> torch.Tensor:
        """Length of the gradient of the mean over completion tokens by the head's weights."""
        found: torch.Tensor = part_with("head_gradient", batch.models[-1]).head_gradient(batch.inputs)
        return found

    def token_network(self, model: Any) -> Any:
        """What the network itself calls `token_logits`, as a network; ValueError for one that has nothing of the
        kind."""
        return part_with("token_logits", model).token_logits

    def real_tokens(self, inputs: torch.Tensor) -> torch.Tensor:
        """See `Signals`."""
        real: torch.Tensor = real_in(used_columns(inputs))
        return real

    def backward_parts(self, inputs: torch.Tensor) -> Iterator[torch.Tensor]:
        """See `Signals`: `BACKWARD` padded tokens at once, one sample at least."""
        return by_length(inputs, BACKWARD)

    def target_cut(self, batch: Any) -> torch.Tensor:
        """Whether some of the sample was longer than what the network reads."""
        cut: torch.Tensor = cut_rows(batch.inputs)
        return cut

    def bare_losses(self, batch: Any) -> torch.Tensor:
        """Mean loss per token of the completion behind nothing but a start token."""
        return self._losses_of(batch, bare(batch.inputs, start_of(batch.models[-1])))

    def headed_losses(self, batch: Any) -> torch.Tensor:
        """Mean loss per token of the completion behind the template's header of an answer, without the prompt."""
        return self._losses_of(batch, headed(batch.inputs, start_of(batch.models[-1])))

    def _losses_of(self, batch: Any, inputs: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return self.losses(batch.models[-1](inputs).float(), batch.targets)

    def evaluate(self, outputs: Float[np.ndarray, "n 3"], targets: Int64[np.ndarray, " n"]) -> dict[str, float]:
        """`nll` is the mean over all tokens, `row_nll` that over rows of each row's mean, `exact_match` the share of
        rows whose completion greedy decoding writes to its end; `nll_…` and `exact_match_…` are of each domain, without
        those that no row has.

        Greedy decoding writes a completion exactly where each of its tokens, given all before it, has the highest
        logit: until the first that has not, what it reads is the completion. So no text is generated.
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
        """Metrics of domains that no row has."""
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
        """Share of the rows of few answers whose own is the likeliest, over all domains that have such; without any
        nothing."""
        right = [one.right(inputs, ask) for one in choices_in(inputs, targets)]
        return {CHOICE: float(np.concatenate(right).mean())} if right else {}

    def strata(self, targets: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
        """The domains."""
        return targets

    def stratum_names(self) -> list[str]:
        """Of the domains."""
        return list(self.names) or ([EVERY] if self.classes == 1 else [str(number) for number in range(self.classes)])

    def shown(self, target: Any) -> str:
        """The name of a domain; nothing where all samples are of one."""
        return self.stratum_names()[int(target)] if self.classes > 1 else ""


def part_with(name: str, model: Any) -> Any:
    """The part of a network that has something of that name; ValueError where none has."""
    found = next((part for part in model.modules() if hasattr(part, name)), None)
    if found is None:
        raise ValueError(f"{type(model).__name__} has no part with {name}, which language_model has")
    return found


def start_of(model: Any) -> int:
    """The token that stands before a text that nothing stands before, as the encoding told the network."""
    return int(model.learned["start_id"])
