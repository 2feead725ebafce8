"""Examples that evaluate pruned prompts: from a file, or symbols that a tiny model has learnt to copy."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from secateur.trainers.models.induction_model import SYMBOLS

PAIRS, LABELS = 6, 3


def symbol_task(noise: int, count: int, seed: int) -> dict[str, Any]:
    """A prompt of pairs of a key and its label with `noise` other symbols among them, and queries that end with a key.

    `oracle` is the mask of the pairs alone.
    """
    generator = np.random.default_rng([seed, 3])
    symbols = generator.permutation(SYMBOLS)
    labels, keys, others = symbols[:LABELS], symbols[LABELS : LABELS + PAIRS], symbols[LABELS + PAIRS :]
    pairs = np.stack([keys, labels[np.arange(PAIRS) % LABELS]], axis=1).ravel()
    oracle = np.zeros(2 * PAIRS + noise, dtype=np.bool_)
    oracle[generator.choice(len(oracle), 2 * PAIRS, replace=False)] = True
    prompt = np.empty(len(oracle), dtype=np.int64)
    prompt[oracle], prompt[~oracle] = pairs, generator.choice(others, noise)
    asked = generator.integers(0, PAIRS, count)
    before = generator.choice(others, (count, 3))
    examples = [
        {"fields": {"query": words(np.append(row, keys[key]))}, "label": int(key % LABELS)}
        for row, key in zip(before, asked, strict=True)
    ]
    template = words(prompt) + " {query}"
    verbalisers = words(labels).split()
    return {"template": template, "verbalisers": verbalisers, "examples": examples, "oracle": oracle.tolist()}


def words(symbols: np.ndarray) -> str:
    """Symbols in the spelling of the tiny model's tokenizer."""
    return " ".join(f"s{symbol}" for symbol in symbols)


def read_examples(path: Path, verbalisers: Sequence[str], placeholders: Sequence[str]) -> list[dict[str, Any]]:
    """Examples of a JSON-lines file; labels become places among the verbalisers. Raises ValueError with the line."""
    labels = {word.strip(): number for number, word in enumerate(verbalisers)}
    found = []
    for where, one in read_objects(path, placeholders):
        label = one.pop("label", None)
        if not isinstance(label, str) or label.strip() not in labels:
            raise ValueError(f"{where}: wants texts for the placeholders and a label of {sorted(labels)}")
        found.append({"fields": {name: str(text) for name, text in one.items()}, "label": labels[label.strip()]})
    return found


def read_answers(path: Path, placeholders: Sequence[str]) -> tuple[list[dict[str, Any]], list[str]]:
    """Examples of a JSON-lines file with an `answer` each, and all answers; labels are places among the answers."""
    found, answers = [], dict[str, int]()
    for where, one in read_objects(path, placeholders):
        answer = one.pop("answer", None)
        if not isinstance(answer, str | int | float) or not str(answer).strip():
            raise ValueError(f"{where}: wants texts for the placeholders and an `answer`")
        label = answers.setdefault(str(answer), len(answers))
        found.append({"fields": {name: str(text) for name, text in one.items()}, "label": label})
    return found, list(answers)


def read_objects(path: Path, placeholders: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Objects of a JSON-lines file, each with its file and line; raises ValueError where a placeholder is missing."""
    if not path.is_file():
        raise ValueError(f"examples {path}: there is no such file")
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        where = f"{path}, line {number}"
        try:
            one = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"{where}: not JSON ({error.msg})") from error
        if not isinstance(one, dict):
            raise ValueError(f"{where}: wants texts for the placeholders, as one object")
        if lacking := [name for name in placeholders if name not in one]:
            raise ValueError(f"{where}: wants texts for the placeholders, and has none for {lacking}")
        yield where, one
