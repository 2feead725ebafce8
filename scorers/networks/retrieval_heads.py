"""Retrieval score of attention heads: how often a head copies a needle out of a haystack (arXiv 2404.15574, section 2).

"Retrieval Head Mechanistically Explains Long-Context Factuality" (Wu et al., ICLR 2025). A sentence, the needle, is put
somewhere into a long text, and a question asks for it. While the model writes its answer, a head copies where the
position that it attends to most lies inside the needle and holds the very token that is written. Its score in a run is
the share of the needle's tokens that it copied, each counted once as in the paper, or every step of copying over the
needle's tokens, as in the authors' code; over runs it is the mean over those that succeeded.

The tokenizer's character offsets give the exact place of the needle; of attention, memory holds only the last row.
"""

from __future__ import annotations

import copy
import inspect
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64

from secateur.scorers.contract import Share, finite_outputs, scorer
from secateur.scorers.lazy import nn, torch

HeadScores = Float32[np.ndarray, "layers heads"]
Masking = Callable[[], AbstractContextManager[None]]
"""Makes a context in which the model is changed, such as by masked heads."""
Counting = Literal["once", "steps"]
"""Whether a token that a head copies several times counts once (the paper) or at every step (the authors' code)."""
SENTENCE_END = re.compile(r"[.!?](?=\s)|\n")
AIMS = 8
"""Most attempts to cut a prompt to the wanted length."""


@dataclass(frozen=True)
class NeedlePrompt:
    """Token ids of a prompt, int64 `[tokens]`, whose needle is `tokens[start:stop]`; depth is a share in 0 … 1."""

    tokens: Int64[np.ndarray, " tokens"]
    start: int
    stop: int
    depth: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.start < self.stop <= len(self.tokens) or len(self.tokens) < 2:
            raise ValueError(f"needle {self.start}:{self.stop} is not inside a prompt of {len(self.tokens)} tokens")

    @property
    def needle(self) -> Int64[np.ndarray, " needle"]:
        """Token ids of the needle as they stand in the prompt."""
        return self.tokens[self.start : self.stop]


@dataclass(frozen=True)
class Retrieval:
    """One run: the prompt, the written token ids, and the part of the needle that each head copied.

    `copied` is the share of the needle's tokens, each once; `steps` the number of steps of copying over these tokens.
    """

    prompt: NeedlePrompt
    written: Int64[np.ndarray, " written"]
    copied: HeadScores
    steps: HeadScores


class Task(NamedTuple):
    """The needle and its question, in words."""

    haystack: str
    needle: str
    question: str


def place_needle(tokenizer: Any, task: Task, *, length: int, depth: float, chat: bool = False) -> NeedlePrompt:
    """A prompt of `length` tokens with the needle after the sentence that ends at or before `depth` in 0 … 1.

    Where tokens merge so that no cut of the haystack gives this length, it has a few more or fewer. `chat` wraps it in
    the tokenizer's chat template. Raises ValueError for a tokenizer without character offsets, a haystack too short for
    the length, a length too short for the question, and a needle that the haystack holds.
    """
    if not getattr(tokenizer, "is_fast", False):
        raise ValueError(f"{type(tokenizer).__name__} gives no character offsets: load a fast tokenizer")
    if not 0 <= depth <= 1:
        raise ValueError(f"depth {depth} is not within 0 … 1")
    if task.needle in task.haystack or not task.needle.strip():
        raise ValueError("the needle is empty, or the haystack holds it already: hide another sentence")
    frame = ids_and_offsets(tokenizer, rendered(tokenizer, task.needle, task.question, chat), plain=not chat)[0]
    _, offsets = ids_and_offsets(tokenizer, task.haystack, plain=False)
    room = length - len(frame)
    if room < 1:
        raise ValueError(f"{length} tokens are too few: needle and question alone take {len(frame)}")
    if room > len(offsets):
        raise ValueError(
            f"the haystack has {len(offsets)} tokens, a prompt of {length} needs {room}: give a longer text"
        )
    made: dict[int, NeedlePrompt] = {}
    for _ in range(AIMS):
        made[room] = hidden_at(tokenizer, task, task.haystack[: offsets[room - 1][1]], depth, chat)
        room = min(max(room + length - len(made[room].tokens), 1), len(offsets))
        if room in made:
            break
    return min(made.values(), key=lambda prompt: abs(len(prompt.tokens) - length))


def hidden_at(tokenizer: Any, task: Task, text: str, depth: float, chat: bool) -> NeedlePrompt:
    """The prompt with the needle in this piece of the haystack."""
    ends = [0, *(match.end() for match in SENTENCE_END.finditer(text))] if depth < 1 else [len(text)]
    place = max(end for end in ends if end <= depth * len(text))
    context = text[:place].rstrip() + (" " if place else "") + task.needle + " " + text[place:].lstrip()
    whole = rendered(tokenizer, context.rstrip(), task.question, chat)
    if whole.count(task.needle) != 1:
        raise ValueError(
            "the prompt does not hold the needle once, word for word: the template or the question alters it"
        )
    first = whole.index(task.needle)
    ids, offsets = ids_and_offsets(tokenizer, whole, plain=not chat)
    inside = [at for at, (start, end) in enumerate(offsets) if start < first + len(task.needle) and end > first]
    return NeedlePrompt(np.array(ids, dtype=np.int64), inside[0], inside[-1] + 1, depth)


def rendered(tokenizer: Any, context: str, question: str, chat: bool) -> str:
    """The whole prompt as text."""
    text = f"{context}\n\nQuestion: {question}"
    if not chat:
        return f"{text}\nAnswer:"
    if not tokenizer.chat_template:
        raise ValueError("the tokenizer has no chat template: leave chat out")
    messages = [{"role": "user", "content": text}]
    return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))


def ids_and_offsets(tokenizer: Any, text: str, *, plain: bool) -> tuple[list[int], list[tuple[int, int]]]:
    """Token ids of a text, and the span of each token in it; `plain` text gets the tokenizer's special tokens.

    Only those in front: behind an end token a model would not continue the text.
    """
    coded = tokenizer(text, add_special_tokens=plain, return_offsets_mapping=True, verbose=False)
    last = len(coded["input_ids"]) - (specials_behind(tokenizer, text) if plain else 0)
    return coded["input_ids"][:last], coded["offset_mapping"][:last]


def specials_behind(tokenizer: Any, text: str) -> int:
    """Number of special tokens, such as `</s>` or `[SEP]`, that a fast tokenizer adds behind a text with tokens."""
    added = tokenizer(text, return_special_tokens_mask=True, verbose=False)["special_tokens_mask"]
    return int(added[::-1].index(0))  # tokens of the text itself are 0 even where it spells a special one


def retrieve(
    model: nn.Module,
    prompts: Sequence[NeedlePrompt],
    *,
    new_tokens: int = 50,
    batch: int = 16,
    progress: Callable[[int, int], None] | None = None,
) -> list[Retrieval]:
    """Let a causal model of transformers answer each prompt greedily and watch its heads, one result per prompt.

    Prompts of equal length form batches. The model reads them with the attention that it was loaded with, and writes
    with eager attention, since no other returns weights; it is unchanged afterwards. It stops at the end-of-text tokens
    of its generation configuration. Raises ValueError for a model in training mode, one that returns no attention or
    logits that are NaN or infinite, and prompts that exceed its positions or tokens.
    """
    check_model(model, prompts, new_tokens)
    results: dict[int, Retrieval] = {}
    by_length = sorted(range(len(prompts)), key=lambda place: len(prompts[place].tokens))
    done = 0
    for _, group in groupby(by_length, key=lambda place: len(prompts[place].tokens)):
        places = list(group)
        for first in range(0, len(places), batch):
            part = places[first : first + batch]
            [answers] = retrieve_masked(model, [prompts[place] for place in part], [nullcontext], new_tokens=new_tokens)
            results |= dict(zip(part, answers, strict=True))
            done += len(part)
            if progress:
                progress(done, len(prompts))
    return [results[place] for place in range(len(prompts))]


def check_model(model: nn.Module, prompts: Sequence[NeedlePrompt], new_tokens: int) -> None:
    """Raise ValueError for inputs that would fail, or give wrong results, long into the work."""
    if not hasattr(model, "set_attn_implementation"):
        raise ValueError(f"{type(model).__name__} is not a model of transformers: load it by AutoModelForCausalLM")
    if model.training:
        raise ValueError("the model is in training mode, where dropout changes its attention: call eval() first")
    config: Any = model.config
    positions = getattr(config.get_text_config(), "max_position_embeddings", None)
    longest = max((len(prompt.tokens) for prompt in prompts), default=0)
    if positions and longest + new_tokens > positions:
        raise ValueError(
            f"a prompt of {longest} tokens and {new_tokens} more do not fit the model's {positions} positions: "
            "ask for shorter ones"
        )
    embeddings: Any = model.get_input_embeddings()  # type: ignore[operator]
    known, largest = embeddings.num_embeddings, max((int(prompt.tokens.max()) for prompt in prompts), default=0)
    if largest >= known:
        raise ValueError(f"token {largest} is unknown to the model, which has {known}: use its own tokenizer")


@contextmanager
def eager_attention(model: Any) -> Iterator[None]:
    """The model with eager attention, the only one that returns weights; restored afterwards."""
    before = model.config._attn_implementation
    model.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.set_attn_implementation(before)


def retrieve_masked(
    model: Any,
    prompts: Sequence[NeedlePrompt],
    maskings: Sequence[Masking],
    *,
    new_tokens: int = 50,
    read_once: bool = False,
) -> Iterator[list[Retrieval]]:
    """`retrieve` for prompts of one length inside each masking, one after the other.

    With `read_once` the unmasked model reads the prompts, once for all, and the masked ones only write.
    """
    tokens = torch.from_numpy(np.stack([prompt.tokens for prompt in prompts])).to(model.device)
    cache = read(model, tokens) if read_once else None
    for masking in maskings:
        with masking():
            before = read(model, tokens) if cache is None else copy.deepcopy(cache)
            answers = write(model, tokens, prompts, before, new_tokens)
        yield answers


def read(model: Any, tokens: Int64[torch.Tensor, "b length"]) -> Any:
    """Keys and values of all tokens but the last, by the attention that the model was loaded with."""
    last_only = {"logits_to_keep": 1} if "logits_to_keep" in inspect.signature(model.forward).parameters else {}
    with torch.inference_mode():
        return model(input_ids=tokens[:, :-1], use_cache=True, **last_only).past_key_values


def write(
    model: Any, tokens: Int64[torch.Tensor, "b length"], prompts: Sequence[NeedlePrompt], cache: Any, new_tokens: int
) -> list[Retrieval]:
    """Greedy answers behind prompts that were read up to their last token, with the heads watched."""
    watch = Watch(tokens, prompts)
    current, written = tokens[:, -1:], []
    ends = torch.tensor(end_tokens(model), dtype=torch.long, device=model.device)
    writing = torch.ones(len(prompts), dtype=torch.bool, device=model.device)
    with torch.inference_mode(), eager_attention(model):
        for step in range(new_tokens):
            out = model(input_ids=current, past_key_values=cache, use_cache=True, output_attentions=True)
            highest, chosen = out.logits[:, -1].max(dim=-1)  # the maximum is NaN where any logit is
            finite_outputs(highest, "the logits behind the prompts", model=model)
            writing = writing & ~torch.isin(chosen, ends)
            watch.see(last_rows(model, out.attentions), chosen, writing, seen=tokens.shape[1] + step)
            if not writing.any():
                break
            written.append(torch.where(writing, chosen, -1))
            current = chosen[:, None]
    answers = torch.stack(written, dim=1).cpu().numpy() if written else np.empty((len(prompts), 0), np.int64)
    return [
        Retrieval(prompt, answer[answer >= 0], *shares)
        for prompt, answer, *shares in zip(prompts, answers, watch.copied(), watch.steps(), strict=True)
    ]


def end_tokens(model: Any) -> list[int]:
    """Tokens at which the model stops writing."""
    ends = getattr(model.generation_config, "eos_token_id", None)
    return [] if ends is None else [ends] if isinstance(ends, int) else list(ends)


def last_rows(model: nn.Module, attentions: Any) -> list[torch.Tensor]:
    """The last position's attention in every layer, `[b, heads, positions]` each; raises ValueError without any."""
    rows = [each[:, :, -1] for each in attentions or () if each is not None]
    if not rows:
        raise ValueError(
            f"{type(model).__name__} returned no attention weights: load it with attn_implementation='eager'"
        )
    if len({row.shape[1] for row in rows}) > 1:
        raise ValueError(f"{type(model).__name__} has layers of different numbers of heads, which is not supported")
    return rows


class Watch:
    """Record of the needle tokens that each head has copied so far."""

    def __init__(self, tokens: Int64[torch.Tensor, "b length"], prompts: Sequence[NeedlePrompt]) -> None:
        self.tokens = tokens
        self.starts = torch.tensor([prompt.start for prompt in prompts], device=tokens.device)
        self.stops = torch.tensor([prompt.stop for prompt in prompts], device=tokens.device)
        self.longest = int((self.stops - self.starts).max())
        self.found: torch.Tensor | None = None
        self.hits: torch.Tensor | None = None

    def see(
        self,
        rows: list[torch.Tensor],
        chosen: Int64[torch.Tensor, " b"],
        writing: Bool[torch.Tensor, " b"],
        *,
        seen: int,
    ) -> None:
        """Take in a step: attention of each layer, the written token, and `seen`, the number of tokens before it."""
        # A layer with a sliding window has the last positions only.
        top = torch.stack([row.argmax(dim=-1) + seen - row.shape[-1] for row in rows], dim=1)  # [b, layers, heads]
        prompt = self.tokens.shape[1]
        there = self.tokens.gather(1, top.clamp(max=prompt - 1).flatten(1)).view_as(top)
        starts, stops = self.starts[:, None, None], self.stops[:, None, None]
        hit = (top >= starts) & (top < stops) & (there == chosen[:, None, None]) & writing[:, None, None]
        if self.found is None or self.hits is None:
            self.found = torch.zeros(*top.shape, self.longest, dtype=torch.bool, device=top.device)
            self.hits = torch.zeros(top.shape, dtype=torch.long, device=top.device)
        self.hits = self.hits + hit
        place = torch.where(hit, top - starts, 0)[..., None]
        self.found.scatter_(-1, place, self.found.gather(-1, place) | hit[..., None])

    def copied(self) -> list[HeadScores]:
        """Share of the needle's tokens that each head copied, for each prompt."""
        if self.found is None:
            raise ValueError("no step was seen: let the model write at least one token")
        return self.shares(self.found.sum(dim=-1))

    def steps(self) -> list[HeadScores]:
        """Steps at which each head copied, over the needle's tokens, for each prompt; may be above 1."""
        if self.hits is None:
            raise ValueError("no step was seen: let the model write at least one token")
        return self.shares(self.hits)

    def shares(self, counts: Int64[torch.Tensor, "b layers heads"]) -> list[HeadScores]:
        """Counts over the number of tokens of each needle."""
        return list((counts / (self.stops - self.starts)[:, None, None]).float().cpu().numpy())


def words_recalled(written: str, needle: str) -> float:
    """ROUGE-1 recall: share of the needle's words in the written text, in any order, repetitions counted."""
    wanted, given = (Counter(re.findall(r"\w+", text.lower())) for text in (needle, written))
    if not wanted:
        raise ValueError("the needle has no words")
    return (wanted & given).total() / wanted.total()


@scorer(
    unit="head",
    high_means="more important",
    view="evaluation mode, attention while the model writes its answer",
    paper="Wu et al. 2025, Retrieval Head Mechanistically Explains Long-Context Factuality, arXiv 2404.15574",
)
def retrieval_heads(
    retrievals: Sequence[Retrieval],
    recalls: Float64[np.ndarray, " runs"],
    *,
    least: Share = 0.5,
    count: Counting = "once",
) -> HeadScores:
    """Mean share copied per head over the runs whose recall is above `least`, float32 `[layers, heads]`.

    `count` "once" counts each token of the needle once, as in the paper, and stays within 0 … 1; "steps" counts every
    step, as in the authors' code. Raises ValueError where no run succeeded: heads of a model that cannot do the task
    have no retrieval score.
    """
    succeeded = [
        run.copied if count == "once" else run.steps
        for run, recall in zip(retrievals, recalls, strict=True)
        if recall > least
    ]
    if not succeeded:
        best = max(recalls, default=0.0)
        raise ValueError(
            f"the model found the needle in none of {len(retrievals)} runs (best recall {best:.2f}, wanted above "
            f"{least}): use an easier needle, shorter contexts, or a model that can do it"
        )
    return np.asarray(np.mean(succeeded, axis=0, dtype=np.float64), dtype=np.float32)
