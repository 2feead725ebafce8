"""Needle recall without the highest-scoring heads, against many random draws of as many other heads.

One draw of random heads proves little: some heads are necessary without copying anything. So the study draws each
control several times and counts the draws that harm as much as masking the highest-scoring heads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, MutableMapping, Sequence
from functools import partial
from itertools import groupby
from typing import Any, NamedTuple, get_args

import numpy as np
from jaxtyping import Float64

from secateur.scorers.contract import naming
from secateur.scorers.networks.retrieval_heads import HeadScores, check_model, retrieve_masked
from secateur.selectors.masks.without_highest_heads import KeptHeads, without_top
from secateur.selectors.masks.without_other_heads import PLACES, Control, others_of, without
from secateur.trainers.contract import Progress
from secateur.trainers.experiments.head_pruning import HeadPruning, Hidden, recalls_of
from secateur.trainers.judging.comparison import summarise
from secateur.trainers.models.causal_model import CausalModel
from secateur.trainers.pruning.masked_heads import masked_heads

BATCH = 16
RETRIEVAL = "retrieval"


class Masked(NamedTuple):
    """Heads to mask: the arm, their number, the draw, and the mask of kept heads."""

    arm: str
    heads: int
    draw: int
    keep: KeptHeads


def masks_of(scores: HeadScores, counts: Sequence[int], draws: int, threshold: float) -> list[Masked]:
    """Masks of no heads, then for each count of the highest heads and `draws` draws of each control.

    A control with fewer other heads than the count gets no mask, one with exactly as many a single mask.
    """
    found = [Masked("none", 0, 0, np.ones(scores.shape, dtype=np.bool_))]
    for count in counts:
        found.append(Masked(RETRIEVAL, count, 0, without_top(scores, count)))
        for control in get_args(Control):
            others = others_of(scores, count, control, threshold)
            for draw in range(0 if len(others) < count else 1 if len(others) == count else draws):
                generator = np.random.default_rng([draw, count, PLACES[control]])
                found.append(Masked(control, count, draw, without(scores, others, count, generator)))
    return found


def recalls_without(
    experiment: HeadPruning,
    causal: CausalModel,
    masks: Sequence[Masked],
    progress: Progress,
    noted: MutableMapping[str, Any] | None = None,
    note: Callable[[str, Any], None] | None = None,
) -> Float64[np.ndarray, "masks runs"]:
    """Recall of every test prompt with each of the masks, for a user's model.

    After each batch it calls `note` with a key and its recalls; pass them as `noted` to skip them in another call. If
    masks hold in decoding only, all masks share one prefill of a batch.
    """
    hidden = experiment.hidden_sentences(causal.tokenizer, 0, "test")
    check_model(causal.model, hidden.prompts, experiment.new_tokens)
    known = {} if noted is None else noted
    found, done = np.empty((len(masks), len(hidden.prompts))), 0
    for batch in batches([len(prompt.tokens) for prompt in hidden.prompts]):
        keys = [f"{np.packbits(~one.keep).tobytes().hex()} {batch[0]}" for one in masks]
        wanted = {key: one for key, one in zip(keys, masks, strict=True) if key not in known}
        done += len(batch) * (len(masks) - len(wanted))
        progress(done, found.size)
        part = Hidden([hidden.prompts[at] for at in batch], [hidden.needles[at] for at in batch])
        for key, recalls in zip(wanted, answered(experiment, causal, part, list(wanted.values())), strict=True):
            known[key] = recalls
            if note:
                note(key, recalls)
            done += len(batch)
            progress(done, found.size)
        found[:, batch] = [known[key] for key in keys]
    return found


def batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Places of the prompts of each batch: of one length, at most `BATCH`."""
    order = sorted(range(len(lengths)), key=lambda place: lengths[place])
    for _, group in groupby(order, key=lambda place: lengths[place]):
        places = list(group)
        yield from (places[first : first + BATCH] for first in range(0, len(places), BATCH))


def answered(
    experiment: HeadPruning, causal: CausalModel, part: Hidden, masks: Sequence[Masked]
) -> Iterator[list[float]]:
    """Recall of each prompt of one length, mask by mask."""
    settings: dict[str, Any] = {"how": experiment.how, "decoding_only": experiment.decoding_only}
    maskings = [partial(masked_heads, causal.model, one.keep, **settings) for one in masks]
    runs = retrieve_masked(
        causal.model, part.prompts, maskings, new_tokens=experiment.new_tokens, read_once=experiment.decoding_only
    )
    for one in masks:
        with naming(f"{one.heads} heads masked"):
            answers = next(runs)
        yield recalls_of(causal.tokenizer, answers, part.needles).tolist()


def table_of_recalls(masks: Sequence[Masked], recalls: Float64[np.ndarray, "masks runs"]) -> list[dict[str, Any]]:
    """A row per arm and number of heads: mean recall over draws, half width of its 95% interval, and each draw.

    `as_low` of a control is the number of draws with at most the recall without the highest-scoring heads. `p_value` is
    (1 + as_low) / (1 + draws), one-sided: its probability if these heads were a random draw (Phipson and Smyth 2010).
    """
    means: dict[tuple[int, str], list[float]] = {}
    for one, row in zip(masks, recalls, strict=True):
        means.setdefault((one.heads, one.arm), []).append(float(row.mean()))
    rows: list[dict[str, Any]] = []
    for (heads, arm), drawn in means.items():
        told = summarise(drawn)
        row = {"heads": heads, "arm": arm, "recall": told.mean, "half_width": told.half_width, "draws": drawn}
        if arm in PLACES:
            as_low = sum(one <= means[heads, RETRIEVAL][0] + 1e-12 for one in drawn)
            row |= {"as_low": as_low, "p_value": (1 + as_low) / (1 + len(drawn))}
        rows.append(row)
    return rows
