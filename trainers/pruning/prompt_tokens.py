"""A prompt as the tokens that a search prunes, and what a causal model makes of pruned prompts.

A pruned prompt is text: the tokens kept are decoded, the example is put in, and the whole is tokenised anew, as any
user of the prompt would. Tokens merge in other ways then, so lengths and equality are those of the new text.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Int64

from secateur.scorers.contract import finite_outputs
from secateur.scorers.lazy import torch
from secateur.scorers.networks.retrieval_heads import specials_behind
from secateur.selectors.searches.token_search import Mask, Masks
from secateur.trainers.models.causal_model import CausalModel

PLACEHOLDER = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True)
class Piece:
    """Text between placeholders: its tokens, and the blanks around them, which are no tokens and stay."""

    ids: tuple[int, ...]
    before: str
    after: str


@dataclass(frozen=True)
class PromptTokens:
    """A template cut at its placeholders; the tokens of all pieces, one after the other, are the units."""

    pieces: tuple[Piece, ...]
    fields: tuple[str, ...]
    protected: Bool[np.ndarray, " tokens"]
    tokenizer: Any
    template: str

    @property
    def ids(self) -> tuple[int, ...]:
        """Token ids of the whole template."""
        return tuple(token for piece in self.pieces for token in piece.ids)

    def text(self, mask: Mask) -> str:
        """The template with only the tokens that stay, its placeholders in their places."""
        if len(mask) != len(self.ids):
            raise ValueError(f"the mask has {len(mask)} tokens, the prompt {len(self.ids)}")
        parts, start = [], 0
        for number, piece in enumerate(self.pieces):
            kept = [token for token, stays in zip(piece.ids, mask[start:], strict=False) if stays]
            start += len(piece.ids)
            core = self.tokenizer.decode(kept, clean_up_tokenization_spaces=False) if kept else ""
            parts.append(piece.before + core + piece.after)
            if number < len(self.fields):
                parts.append("{" + self.fields[number] + "}")
        return "".join(parts)

    def length(self, mask: Mask) -> int:
        """Tokens of the pruned template, tokenised anew, without its placeholders."""
        bare = PLACEHOLDER.sub("", self.text(mask))
        return len(self.tokenizer(bare, add_special_tokens=False)["input_ids"])


def prompt_tokens(tokenizer: Any, template: str, protect: Sequence[str] = ()) -> PromptTokens:
    """Cut a template such as `Review: … Sentiment: great Review: {text} Sentiment:` into its tokens.

    Tokens that touch a text of `protect` stay in every proposal, as placeholders do. Raises ValueError for a template
    without placeholders or with one twice, a text to protect that is not there, and a tokenizer without offsets.
    """
    if not getattr(tokenizer, "is_fast", False):
        raise ValueError(f"{type(tokenizer).__name__} gives no character offsets: load a fast tokenizer")
    fields = PLACEHOLDER.findall(template)
    if not fields or len(set(fields)) < len(fields):
        raise ValueError(f"the template must have placeholders such as {{text}}, each once; it has {fields or 'none'}")
    if missing := [text for text in protect if not text or text not in template]:
        raise ValueError(f"{missing[0]!r} is to be protected and is not in the template")
    pieces, protected = [], []
    for text in PLACEHOLDER.split(template)[::2]:
        core = text.strip(" ")
        before = text[: len(text) - len(text.lstrip(" "))] if core else text
        after = text[len(before) + len(core) :]
        coded = tokenizer(core, add_special_tokens=False, return_offsets_mapping=True)
        pieces.append(Piece(tuple(coded["input_ids"]), before, after))
        spans = [found.span() for each in protect for found in re.finditer(re.escape(each), core)]
        protected += [any(low < end and high > start for low, high in spans) for start, end in coded["offset_mapping"]]
    if not protected:
        raise ValueError("the template has nothing but placeholders: there are no tokens to prune")
    return PromptTokens(tuple(pieces), tuple(fields), np.array(protected, dtype=np.bool_), tokenizer, template)


@dataclass(frozen=True)
class Examples:
    """Labelled examples: the text of each placeholder, and int64 labels `[n]`, indices of the verbalisers."""

    fields: tuple[Mapping[str, str], ...]
    labels: Int64[np.ndarray, " n"]

    def __len__(self) -> int:
        return len(self.labels)


class Evaluator:
    """Accuracy and margin of pruned prompts over examples, and how many forward passes that took.

    `verbalisers` are the words that stand for the labels; each must be one token, all different (ValueError otherwise).
    Of the logits behind a prompt only theirs count. Tokens that the tokenizer adds behind each text, such as `</s>`,
    are left out: the logits would be those behind the end of a text.
    """

    def __init__(self, causal: CausalModel, prompt: PromptTokens, verbalisers: Sequence[str], batch: int = 64) -> None:
        self.causal, self.prompt, self.batch = causal, prompt, batch
        self.words = torch.tensor(verbaliser_ids(causal.tokenizer, verbalisers), device=causal.model.device)
        self.behind = specials_behind(causal.tokenizer, verbalisers[0])
        self.passes = 0
        self.tokens = 0

    def probabilities(self, masks: Masks, examples: Examples) -> Float64[np.ndarray, "n examples labels"]:
        """Probability of each label for every prompt and example, among the verbalisers."""
        texts = [self.filled(self.prompt.text(mask), one) for mask in masks for one in examples.fields]
        logits = self.label_logits(texts).reshape(len(masks), len(examples), len(self.words))
        return np.asarray(torch.softmax(torch.from_numpy(logits), dim=-1).numpy())

    def accuracy(self, masks: Masks, examples: Examples) -> Float64[np.ndarray, " n"]:
        """Share of examples whose label is the likeliest; of equals the first label counts."""
        chosen = self.probabilities(masks, examples).argmax(axis=-1)
        return np.asarray((chosen == examples.labels).mean(axis=1, dtype=np.float64))

    def margin(self, masks: Masks, examples: Examples) -> Float64[np.ndarray, " n"]:
        """The paper's reward: the mean of 200 g where g > 0 and of 180 g where not, g = p(label) - the next best p."""
        found = self.probabilities(masks, examples)
        at = np.broadcast_to(examples.labels[None, :, None], (*found.shape[:2], 1))
        right = np.take_along_axis(found, at, axis=2)[..., 0]
        others = found.copy()
        np.put_along_axis(others, at, -np.inf, axis=2)
        gap = right - others.max(axis=2)
        return np.asarray(np.where(gap > 0, 200 * gap, 180 * gap).mean(axis=1, dtype=np.float64))

    def filled(self, text: str, fields: Mapping[str, str]) -> str:
        """A template with the texts of an example in the places of its placeholders."""
        return PLACEHOLDER.sub(lambda found: fields[found[1]], text)

    def label_logits(self, texts: Sequence[str]) -> Float64[np.ndarray, "texts labels"]:
        """Logits of the verbalisers right behind each text, float64 `[texts, labels]`.

        Raises NotFinite where they are NaN or infinite, which would pick a label all the same.
        """
        coded = self.causal.tokenizer(list(texts), padding=False)["input_ids"]
        coded = [ids[: len(ids) - self.behind] for ids in coded]
        lengths = np.array([len(ids) for ids in coded])
        positions = getattr(self.causal.model.config.get_text_config(), "max_position_embeddings", None)
        if not lengths.all():
            raise ValueError(f"text {int(np.argmin(lengths))} has no tokens: protect some of the prompt")
        if positions and lengths.max() > positions:
            raise ValueError(f"a prompt has {lengths.max()} tokens with its example, the model {positions} positions")
        found = np.empty((len(texts), len(self.words)))
        order = np.argsort(lengths, kind="stable")
        for start in range(0, len(order), self.batch):
            places = order[start : start + self.batch]
            with torch.inference_mode():
                found[places] = self.last_logits([coded[place] for place in places]).double().cpu().numpy()
        self.passes += len(texts)
        self.tokens += int(lengths.sum())
        return np.asarray(finite_outputs(found, "the logits behind the prompts", model=self.causal.model))

    def last_logits(self, rows: Sequence[Sequence[int]]) -> torch.Tensor:
        """Logits of the verbalisers at the last token of each row, `[rows, labels]`; rows come shortest first.

        Padding goes to the right whatever the tokenizer does: what comes later changes nothing in a causal model, and
        positions are those of the text alone.
        """
        model = self.causal.model
        longest, spread = len(rows[-1]), len(rows[-1]) - len(rows[0])
        ids = torch.zeros(len(rows), longest, dtype=torch.long)
        real = torch.zeros(len(rows), longest, dtype=torch.long)
        for place, row in enumerate(rows):
            ids[place, : len(row)] = torch.tensor(row)
            real[place, : len(row)] = 1
        few = {"logits_to_keep": spread + 1} if "logits_to_keep" in inspect.signature(model.forward).parameters else {}
        out = model(input_ids=ids.to(model.device), attention_mask=real.to(model.device), use_cache=False, **few).logits
        last = torch.tensor([len(row) - 1 - longest + out.shape[1] for row in rows], device=out.device)
        return out[torch.arange(len(rows), device=out.device), last][:, self.words]  # type: ignore[no-any-return]


def verbaliser_ids(tokenizer: Any, verbalisers: Sequence[str]) -> list[int]:
    """The token of each word; raises ValueError for a word of several tokens, and for two that are the same token."""
    found = [tokenizer(word, add_special_tokens=False)["input_ids"] for word in verbalisers]
    for word, ids in zip(verbalisers, found, strict=True):
        if len(ids) != 1 or ids[0] == tokenizer.unk_token_id:
            raise ValueError(
                f"verbaliser {word!r} is {len(ids)} tokens ({tokenizer.convert_ids_to_tokens(ids)}), it must be one "
                "that is known: try it with or without a blank in front, or another word"
            )
    if len({ids[0] for ids in found}) < len(found) or len(found) < 2:
        raise ValueError(f"verbalisers {list(verbalisers)} must be two or more different tokens")
    return [int(ids[0]) for ids in found]
