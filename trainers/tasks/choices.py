"""Questions with few answers: the choice of the likeliest one by a language model.

If the completions of a domain are a few repeated texts, such as class names, the model scores each row with every one
of them. Its answer has the highest likelihood given the prompt, over all tokens with the end token.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int32, Int64

from secateur.trainers.tasks.token_roles import PADDING, ROLE, SCORED, cut_rows

MOST, EACH, LONGEST = 10, 5, 64
"""Largest number of answers per domain, least number of rows per answer, and largest number of tokens per answer."""
AT_ONCE = 1024
"""Rows per call, a row for each answer of each sample."""
WHY_NOT = (
    f"no domain has from 2 to {MOST} different completions of at most {LONGEST} tokens each, with {EACH} rows for each"
)
Ask = Callable[[Int32[np.ndarray, "b 2 length"]], Float[np.ndarray, "b 3"]]
"""From samples to a network's outputs, see `tasks/sft.py`."""


@dataclass(frozen=True)
class Choices:
    """A domain with few answers: `rows` int64 `[m]`, `answers` int32 `[k, longest]`, padded by -1, and the place of
    each row's own answer, int64 `[m]`."""

    rows: Int64[np.ndarray, " m"]
    answers: Int32[np.ndarray, "k longest"]
    own: Int64[np.ndarray, " m"]

    def right(self, inputs: Int32[np.ndarray, "n 2 length"], ask: Ask) -> Int64[np.ndarray, " m"]:
        """1 where a row's own answer is the likeliest, else 0; the first answer wins ties."""
        found, size = [np.zeros(0, np.int64)], max(1, AT_ONCE // len(self.answers))
        for first in range(0, len(self.rows), size):
            sums = ask(asked(inputs[self.rows[first : first + size]], self.answers))[:, 0]
            chosen = sums.reshape(-1, len(self.answers)).argmin(1)
            found.append((chosen == self.own[first : first + size]).astype(np.int64))
        return np.concatenate(found)


def choices_in(
    inputs: Int32[np.ndarray, "n 2 length"], domains: Int64[np.ndarray, " n"], block: int = 65_536
) -> list[Choices]:
    """The domains with few answers, without rows that are cut, have several answers or no room for another answer."""
    found, whole = [], np.full((len(inputs), LONGEST), -1, np.int32)
    fits, begins = np.zeros(len(inputs), bool), np.zeros(len(inputs), np.int64)
    for start in range(0, len(inputs), block):
        some = np.asarray(inputs[start : start + block])
        scored = (some[:, 1] & ROLE) == SCORED
        first, count = scored.argmax(1), scored.sum(1)
        last = scored.shape[1] - scored[:, ::-1].argmax(1)
        fits[start : start + block] = (last - first == count) & (count <= LONGEST) & ~cut_rows(some)
        begins[start : start + block] = first
        places = np.minimum(first[:, None] + np.arange(LONGEST), scored.shape[1] - 1)
        ids = np.take_along_axis(some[:, 0], places, 1)
        whole[start : start + block] = np.where(np.arange(LONGEST) < count[:, None], ids, -1)
    for domain in np.unique(domains):
        rows = np.flatnonzero((domains == domain) & fits)
        if 2 * len(rows) < (domains == domain).sum():
            continue
        answers, own = np.unique(whole[rows], axis=0, return_inverse=True)
        if not 2 <= len(answers) <= MOST or len(rows) < EACH * len(answers):
            continue
        answers = answers[:, : int((answers >= 0).sum(1).max())]
        room = begins[rows] + answers.shape[1] <= inputs.shape[2]
        found.append(Choices(rows[room], answers, own.reshape(-1)[room]))
    return found


def asked(
    samples: Int32[np.ndarray, "b 2 length"], answers: Int32[np.ndarray, "k longest"]
) -> Int32[np.ndarray, "bk 2 length"]:
    """Each sample with each of the answers in place of its own, sample by sample."""
    begins = ((samples[:, 1] & ROLE) == SCORED).argmax(1)
    found = np.repeat(samples, len(answers), axis=0)
    places = np.repeat(begins, len(answers))[:, None] + np.arange(answers.shape[1])
    each = np.tile(answers, (len(samples), 1))
    behind = np.arange(found.shape[2]) >= np.repeat(begins, len(answers))[:, None]
    found[np.broadcast_to(behind[:, None], found.shape)] = PADDING
    rows = np.arange(len(found))[:, None]
    found[rows, 0, places] = np.maximum(each, 0)
    found[rows, 1, places] = np.where(each >= 0, SCORED, PADDING)
    return found
