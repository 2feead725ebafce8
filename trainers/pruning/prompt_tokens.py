"""A prompt as tokens for a search, and the evaluation of pruned prompts by a causal model.

A pruned prompt is text: the evaluation decodes the kept tokens, inserts the example and tokenises the whole anew, as
any user of the prompt would. Tokens may merge differently then, so lengths and equality are those of the new text.
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
    """Text between placeholders: its tokens, and the blanks around them, which are no tokens and always stay."""

    ids: tuple[int, ...]
    before: str
    after: str


@dataclass(frozen=True)
class PromptTokens:
    """A template cut at its placeholders; the concatenated tokens of all pieces are the units."""

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
        """The template with the kept tokens and all placeholders; raises ValueError for a mask of another length."""
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
        """Number of tokens of the pruned template, tokenised anew, without its placeholders."""
        bare = PLACEHOLDER.sub("", self.text(mask))
        return len(self.tokenizer(bare, add_special_tokens=False)["input_ids"])


def prompt_tokens(tokenizer: Any, template: str, protect: Sequence[str] = ()) -> PromptTokens:
    """Cut a template such as `Review: … Sentiment: great Review: {text} Sentiment:` into its tokens.

    Tokens that overlap a text of `protect` stay in every proposal, as placeholders do. Raises ValueError for a template
    without placeholders, with a repeated one or without tokens, for a protected text that it lacks, and for a tokenizer
    without offsets.
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


def filled(text: str, fields: Mapping[str, str]) -> str:
    """A template with the texts of an example in place of its placeholders."""
    return PLACEHOLDER.sub(lambda found: fields[found[1]], text)


class Evaluator:
    """Accuracy and margin of pruned prompts over examples, and the number of forward passes.

    `verbalisers` are the words for the labels, each of one or several tokens. A label's score is the log-probability of
    its tokens after the prompt, their sum or with `per_token` their mean; other tokens do not count. The evaluator
    drops tokens that the tokenizer adds after each text, such as `</s>`: the logits would be those after the end of a
    text. A pass is one prompt with an example, for any number of labels after it.
    """

    def __init__(
        self,
        causal: CausalModel,
        prompt: PromptTokens,
        verbalisers: Sequence[str],
        batch: int = 64,
        *,
        per_token: bool = False,
    ) -> None:
        self.causal, self.prompt, self.batch, self.per_token = causal, prompt, batch, per_token
        self.words = verbaliser_ids(causal.tokenizer, verbalisers, per_token=per_token)
        before = {tuple(ids[:-1]) for ids in self.words}
        self.before = sorted(one for one in before if not any(begins(one, other) for other in before - {one}))
        """Continuations of a text that suffice for the logits of all labels: beginnings of labels without their last
        token."""
        self.behind = specials_behind(causal.tokenizer, verbalisers[0])
        self.passes = 0
        self.tokens = 0

    def probabilities(self, masks: Masks, examples: Examples) -> Float64[np.ndarray, "n examples labels"]:
        """Probability of each label among the verbalisers, for every prompt and example."""
        texts = [filled(self.prompt.text(mask), one) for mask in masks for one in examples.fields]
        logits = self.label_logits(texts).reshape(len(masks), len(examples), len(self.words))
        return np.asarray(torch.softmax(torch.from_numpy(logits), dim=-1).numpy())

    def accuracy(self, masks: Masks, examples: Examples) -> Float64[np.ndarray, " n"]:
        """Share of examples with their label the likeliest; the first label wins ties."""
        chosen = self.probabilities(masks, examples).argmax(axis=-1)
        return np.asarray((chosen == examples.labels).mean(axis=1, dtype=np.float64))

    def margin(self, masks: Masks, examples: Examples) -> Float64[np.ndarray, " n"]:
        """The paper's reward: the mean of 200 g where g > 0, else of 180 g, with g = p(label) - the best other p."""
        found = self.probabilities(masks, examples)
        at = np.broadcast_to(examples.labels[None, :, None], (*found.shape[:2], 1))
        right = np.take_along_axis(found, at, axis=2)[..., 0]
        others = found.copy()
        np.put_along_axis(others, at, -np.inf, axis=2)
        gap = right - others.max(axis=2)
        return np.asarray(np.where(gap > 0, 200 * gap, 180 * gap).mean(axis=1, dtype=np.float64))

    def label_logits(self, texts: Sequence[str]) -> Float64[np.ndarray, "texts labels"]:
        """Inputs of a softmax over labels, float64 `[texts, labels]`: logits after each text if all labels are one
        token, else log-probabilities, the sum over a label's tokens or with `per_token` their mean.

        Raises NotFinite if they are NaN or infinite, because `argmax` would choose a label anyway.
        """
        coded = self.coded(texts)
        rows = [[*ids, *before] for ids in coded for before in self.before]
        lengths = np.array([len(ids) for ids in rows])
        found = np.empty((len(texts), len(self.words)))
        order = np.argsort(lengths, kind="stable")
        for start in range(0, len(order), self.batch):
            places = order[start : start + self.batch]
            with torch.inference_mode():
                if self.before == [()]:
                    found[places] = self.last_logits([rows[place] for place in places]).double().cpu().numpy()
                else:
                    self.put_likelihoods(found, coded, [(int(place), rows[place]) for place in places])
        self.passes += len(texts)
        self.tokens += int(lengths.sum())
        return np.asarray(finite_outputs(found, "the logits behind the prompts", model=self.causal.model))

    def coded(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of texts, without special tokens at the end; raises ValueError for no tokens and too many."""
        coded = self.causal.tokenizer(list(texts), padding=False)["input_ids"]
        coded = [ids[: len(ids) - self.behind] for ids in coded]
        lengths = np.array([len(ids) for ids in coded])
        more = max(map(len, self.before))
        positions = getattr(self.causal.model.config.get_text_config(), "max_position_embeddings", None)
        if not lengths.all():
            raise ValueError(f"text {int(np.argmin(lengths))} has no tokens: protect some of the prompt")
        if positions and lengths.max() + more > positions:
            raise ValueError(
                f"a prompt has {lengths.max() + more} tokens with its example, the model {positions} positions"
            )
        return coded

    def last_logits(self, rows: Sequence[Sequence[int]]) -> torch.Tensor:
        """Logits of one-token labels at the last token of each row, `[rows, labels]`; the shortest row is first."""
        out = self.tail_logits(rows, 1)
        last = torch.tensor([len(row) - 1 - len(rows[-1]) + out.shape[1] for row in rows], device=out.device)
        words = torch.tensor([ids[0] for ids in self.words], device=out.device)
        return out[torch.arange(len(rows), device=out.device), last][:, words]

    def put_likelihoods(
        self, found: np.ndarray, coded: Sequence[Sequence[int]], rows: Sequence[tuple[int, Sequence[int]]]
    ) -> None:
        """Write the log-probability of each label after each text.

        `rows` are texts followed by beginnings of labels, with their places, the shortest first.
        """
        longest = max(map(len, self.before))
        out = self.tail_logits([row for _, row in rows], 1 + longest)
        for number, (place, row) in enumerate(rows):
            text, before = divmod(place, len(self.before))
            first = len(coded[text]) - 1 - len(rows[-1][1]) + out.shape[1]
            logs = torch.log_softmax(out[number, first : first + len(row) - len(coded[text]) + 1].double(), dim=-1)
            for label, ids in enumerate(self.words):
                if begins(tuple(ids[:-1]), self.before[before]):
                    each = logs[range(len(ids)), ids]
                    found[text, label] = float(each.mean() if self.per_token else each.sum())

    def tail_logits(self, rows: Sequence[Sequence[int]], last: int) -> torch.Tensor:
        """Logits of at least the last `last` tokens of each row, `[rows, positions, tokens]`; the shortest row first.

        Padding is on the right for any tokenizer: later tokens have no effect in a causal model, and positions are
        those of the text alone.
        """
        model = self.causal.model
        longest, spread = len(rows[-1]), len(rows[-1]) - len(rows[0])
        ids = torch.zeros(len(rows), longest, dtype=torch.long)
        real = torch.zeros(len(rows), longest, dtype=torch.long)
        for place, row in enumerate(rows):
            ids[place, : len(row)] = torch.tensor(row)
            real[place, : len(row)] = 1
        few = (
            {"logits_to_keep": spread + last} if "logits_to_keep" in inspect.signature(model.forward).parameters else {}
        )
        out = model(input_ids=ids.to(model.device), attention_mask=real.to(model.device), use_cache=False, **few)
        return out.logits  # type: ignore[no-any-return]


def begins(some: tuple[int, ...], others: tuple[int, ...]) -> bool:
    """Whether the tokens are a prefix of others."""
    return others[: len(some)] == some


def verbaliser_ids(tokenizer: Any, verbalisers: Sequence[str], *, per_token: bool = False) -> list[list[int]]:
    """The tokens of each word; raises ValueError for a word without tokens or with unknown ones, and for equal words.

    A word whose tokens are a prefix of another's is always at least as likely: ValueError, unless `per_token`.
    """
    found = [list(map(int, tokenizer(word, add_special_tokens=False)["input_ids"])) for word in verbalisers]
    for word, ids in zip(verbalisers, found, strict=True):
        if not ids or tokenizer.unk_token_id in ids:
            raise ValueError(
                f"verbaliser {word!r} has tokens {tokenizer.convert_ids_to_tokens(ids)}, all must be known: try it "
                "with or without a blank in front, or another word"
            )
    if len({tuple(ids) for ids in found}) < len(found) or len(found) < 2:
        raise ValueError(f"verbalisers {list(verbalisers)} must be two or more, of different tokens")
    for word, ids in zip(verbalisers, found, strict=True):
        other = next((at for at, more in enumerate(found) if more != ids and begins(tuple(ids), tuple(more))), None)
        if other is not None and not per_token:
            raise ValueError(
                f"the tokens of verbaliser {word!r} begin those of {verbalisers[other]!r}, so that it would always be "
                "the likelier one: compare them per token, or take another word"
            )
    return found
