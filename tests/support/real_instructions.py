"""Instructions of real rows: reviews, messages to a bank and requests to an assistant, their labels in words."""

import json
from pathlib import Path

import datasets
import numpy as np

ASKED = {
    "sst2": "Is this review positive or negative?",
    "banking77": "What is this message to a bank about?",
    "clinc150": "What does this request ask for?",
}
FOLDERS = {"sst2": "sst2_glue", "banking77": "banking77", "clinc150": "clinc150"}
WORDS = (4, 16)
"""Least and most words of a text."""


def real_instructions(data: Path, count: int, seed: int = 0) -> list[dict[str, str]]:
    """So many rows, a third of each data set, drawn among its training rows of few words and shuffled."""
    draw, found = np.random.default_rng(seed), []
    for place, (name, asked) in enumerate(ASKED.items()):
        path = data / FOLDERS[name] / "train.parquet"
        rows = datasets.Dataset.from_parquet(str(path), keep_in_memory=True)
        names = rows.features["label"].names
        texts = rows["text"]
        short = [row for row, text in enumerate(texts) if WORDS[0] <= len(text.split()) <= WORDS[1]]
        for row in draw.choice(short, (count + place) // len(ASKED), replace=False).tolist():
            answer = names[rows[row]["label"]].replace("_", " ").lower()
            prompt = f"{asked}\n{texts[row].strip()}"
            found.append({"prompt": prompt, "completion": answer, "source": name})
    return [found[row] for row in draw.permutation(len(found))]


def write(path: Path, rows: list[dict[str, str]]) -> None:
    """As JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
