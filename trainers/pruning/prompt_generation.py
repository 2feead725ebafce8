"""Evaluation of a causal model's text after pruned prompts, against the answers of examples."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from jaxtyping import Float64

from secateur.scorers.contract import finite_outputs
from secateur.scorers.lazy import torch
from secateur.scorers.networks.retrieval_heads import end_tokens, specials_behind, words_recalled
from secateur.selectors.searches.token_search import Masks
from secateur.trainers.models.causal_model import CausalModel
from secateur.trainers.pruning.prompt_tokens import Examples, PromptTokens, filled

Judging = Literal["exact", "contains", "number", "words"]
NUMBER = re.compile(r"-?\d+\.?\d*")


def last_number(text: str) -> float | None:
    """The last number in a text, without commas; None if there is none."""
    found = NUMBER.findall(text.replace(",", ""))
    return float(found[-1]) if found else None


JUDGES: Mapping[Judging, Callable[[str, str], float]] = {
    "exact": lambda written, answer: float(written.strip() == answer.strip()),
    "contains": lambda written, answer: float(answer.strip() in written),
    "number": lambda written, answer: float(last_number(written) == last_number(answer) is not None),
    "words": words_recalled,
}
"""Functions of (written text, answer) to a score in 0 … 1."""


class Generation:
    """Mean score of a model's greedy text after pruned prompts, and the number of forward passes.

    `answers` are the answers of examples; labels are places among them. The model writes at most `new_tokens`, until
    its end token or `stop`, which is not part of the text. A pass is one prompt with an example, for an answer of any
    length. Raises ValueError for an answer that the judge cannot use: one without a number or without words.
    """

    def __init__(
        self,
        causal: CausalModel,
        prompt: PromptTokens,
        answers: Sequence[str],
        judge: Judging = "exact",
        *,
        new_tokens: int = 32,
        stop: str = "\n",
        batch: int = 16,
    ) -> None:
        self.causal, self.prompt, self.answers, self.batch = causal, prompt, list(answers), batch
        self.judge, self.new_tokens, self.stop = JUDGES[judge], new_tokens, stop
        wanted = {"number": NUMBER, "words": re.compile(r"\w")}.get(judge, re.compile(r"\S"))
        if useless := [one for one in self.answers if not wanted.search(one)]:
            raise ValueError(f"the answer {useless[0]!r} cannot be judged by {judge!r}")
        self.behind = specials_behind(causal.tokenizer, prompt.template)
        self.passes = 0
        self.tokens = 0

    def accuracy(self, masks: Masks, examples: Examples) -> Float64[np.ndarray, " n"]:
        """Mean score over the examples."""
        texts = [filled(self.prompt.text(mask), one) for mask in masks for one in examples.fields]
        wanted = [self.answers[label] for label in examples.labels] * len(masks)
        scores = [self.judge(written, answer) for written, answer in zip(self.written(texts), wanted, strict=True)]
        return np.asarray(np.array(scores).reshape(len(masks), len(examples)).mean(axis=1), dtype=np.float64)

    def margin(self, masks: Masks, examples: Examples) -> Float64[np.ndarray, " n"]:
        """As `accuracy`: generated text has no runner-up."""
        return self.accuracy(masks, examples)

    def written(self, texts: Sequence[str]) -> list[str]:
        """Greedy answers after texts, up to `stop`; raises NotFinite for NaN or infinite logits."""
        coded = [
            ids[: len(ids) - self.behind] for ids in self.causal.tokenizer(list(texts), padding=False)["input_ids"]
        ]
        lengths = np.array([len(ids) for ids in coded])
        positions = getattr(self.causal.model.config.get_text_config(), "max_position_embeddings", None)
        if not lengths.all():
            raise ValueError(f"text {int(np.argmin(lengths))} has no tokens: protect some of the prompt")
        if positions and lengths.max() + self.new_tokens > positions:
            raise ValueError(
                f"a prompt has {lengths.max()} tokens with its example and {self.new_tokens} to come, the model "
                f"{positions} positions"
            )
        found = [""] * len(texts)
        order = np.argsort(lengths, kind="stable")
        for start in range(0, len(order), self.batch):
            places = order[start : start + self.batch]
            for place, text in zip(places, self.continued([coded[place] for place in places]), strict=True):
                found[place] = text
        self.passes += len(texts)
        self.tokens += int(lengths.sum())
        return found

    def continued(self, rows: Sequence[Sequence[int]]) -> list[str]:
        """Answers after some rows of tokens, padded on the left as transformers requires."""
        model, longest = self.causal.model, max(map(len, rows))
        ids = torch.tensor([[0] * (longest - len(row)) + list(row) for row in rows], device=model.device)
        real = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows], device=model.device)

        ends = end_tokens(model)

        def text_of(tokens: Any) -> str:
            """The text up to the model's end token; padding follows it."""
            ids = tokens[longest:].tolist()
            last = next((at for at, token in enumerate(ids) if token in ends), len(ids))
            return str(self.causal.tokenizer.decode(ids[:last], skip_special_tokens=True))

        def checked(_: Any, logits: Any) -> Any:
            finite_outputs(logits.max(dim=-1).values, "the logits behind the prompts", model=model)
            return logits

        def stopped(tokens: Any, *_: Any, **__: Any) -> Any:
            return torch.tensor([self.stop in text_of(row) for row in tokens], device=tokens.device)

        with torch.inference_mode():
            out = model.generate(
                input_ids=ids,
                attention_mask=real,
                max_new_tokens=self.new_tokens,
                do_sample=False,
                num_beams=1,
                pad_token_id=0,
                logits_processor=[checked],
                stopping_criteria=[stopped] if self.stop else [],
            )
        texts = [text_of(row) for row in out]
        return [text.partition(self.stop)[0] if self.stop else text for text in texts]
