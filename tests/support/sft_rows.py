"""Rows of fine-tuning for tests: questions and answers of very different lengths."""

from typing import Any

import datasets
import numpy as np
import torch

from secateur.trainers.contract import Data, TrainingConfig
from secateur.trainers.modalities.encoding import encode, encoding_of
from secateur.trainers.models import registry as models
from secateur.trainers.tasks.sft import Sft
from secateur.trainers.tasks.token_roles import PADDING, ROLE

WORDS = [
    "red",
    "green",
    "blue",
    "seven",
    "nine",
    "stone",
    "river",
    "<|im_end|>",
    "Über",
    "naïve",
    "木",
    "sing\n",
    "fly",
]
SMALL = {"layers": 1, "width": 16, "heads": 2}
CONFIG = TrainingConfig(model="language_model", model_settings=SMALL, steps=3, batch_size=8)


def rows_of(count: int, seed: int = 0) -> datasets.Dataset:
    """Questions and answers of very different lengths."""
    draw = np.random.default_rng(seed)
    answers = [" ".join(draw.choice(WORDS, draw.integers(1, 24))) for _ in range(count)]
    asked = ["say: " + answer[: draw.integers(0, 30)] for answer in answers]
    return datasets.Dataset.from_dict({"prompt": asked, "answer": answers})


def encoded(rows: datasets.Dataset, **settings: Any) -> tuple[Data, Any]:
    """The rows as data of task sft, and their encoder."""
    encoding = encoding_of("sequence", {"form": "completion", "vocabulary": 400, **settings}, [CONFIG])
    made = encode(encoding, rows, rows, ("prompt", "answer"))
    return Data(made.inputs, np.zeros(len(rows), np.int64), Sft(1), made.model_settings), made.encoder


def opinionated(data: Data, seed: int = 0) -> Any:
    """A network whose weights are large enough to have opinions, in evaluation mode."""
    network = models.build(CONFIG, data.inputs.shape[1:], data.task, seed=seed, learned=data.model_settings)
    with torch.no_grad():
        for weight in network.parameters():
            weight.mul_(3.0)
    return network.eval()


def padded_on_the_left(data: Data) -> Data:
    """The same samples with their padding in front."""
    lengths = ((data.inputs[:, 1] & ROLE) != PADDING).sum(1)
    left = [np.roll(row, row.shape[1] - length, axis=1) for row, length in zip(data.inputs, lengths, strict=True)]
    return Data(np.stack(left), data.targets, data.task, data.model_settings)
