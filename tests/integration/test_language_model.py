"""Scores of a real language model (`make language-model`), compared with the library's own losses, row by row.

Its weights were dequantised from 4 bits, so no number here is that of the published model.
"""

from typing import Any

import datasets
import numpy as np
import pytest
import torch
from language_model import UNSET, folder, there

from secateur.scorers.checkpoints.checkpoint_loss import checkpoint_loss
from secateur.scorers.checkpoints.ifd_loss import ifd_loss
from secateur.scorers.checkpoints.ifd_ppl import ifd_ppl
from secateur.trainers.contract import Data, TrainingConfig
from secateur.trainers.modalities.encoding import encode, encoding_of
from secateur.trainers.models import registry as models
from secateur.trainers.passes.scoring import score_rows
from secateur.trainers.tasks.sft import Sft

pytestmark = pytest.mark.skipif(not there(), reason=f"no language model in {folder()}: {UNSET}")

ASKED = ["What is the capital of France?", "Name three colours.", "Add 2 and 3.", "Say hello in French."]
TOLD = [
    "The capital of France is Paris, which lies on the Seine.",
    "Red, green and blue are three colours that you may know.",
    "2 and 3 make 5, and so does every other sum of the two.",
    "Bananas are yellow, and the moon is made of rock and dust.",
]


def test_scores_of_a_real_model_are_those_of_the_library_row_by_row() -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    rows = datasets.Dataset.from_dict({"prompt": ASKED, "answer": TOLD})
    config = TrainingConfig(model="language_model", model_settings={"pretrained": str(folder())}, epochs=0)
    made = encode(encoding_of("sequence", {"form": "completion"}, [config]), rows, rows, ("prompt", "answer"))
    data = Data(made.inputs, np.zeros(4, np.int64), Sft(1), made.model_settings)
    network = models.build(config, data.inputs.shape[1:], data.task, seed=0, learned=data.model_settings)
    wanted: dict[str, Any] = {
        "checkpoint_loss": (checkpoint_loss, {}),
        "ifd_loss": (ifd_loss, {"above_one": True}),
        "ifd_ppl": (ifd_ppl, {"above_one": True}),
    }
    scores = score_rows([[network]], data, np.arange(4), wanted, device=torch.device("cpu"))
    tokenizer = AutoTokenizer.from_pretrained(str(folder()))
    theirs = AutoModelForCausalLM.from_pretrained(str(folder()))

    def loss(before: str, said: str) -> float:
        """The library's own mean over labels, for one row."""
        context, labels = tokenizer(before)["input_ids"], tokenizer(said + "<|im_end|>")["input_ids"]
        ids = torch.tensor([context + labels])
        with torch.no_grad():
            return float(theirs(input_ids=ids, labels=torch.tensor([[-100] * len(context) + labels])).loss)

    for row, (asked, told) in enumerate(zip(ASKED, TOLD, strict=True)):
        chat = tokenizer.apply_chat_template(
            [{"role": "user", "content": asked}], tokenize=False, add_generation_prompt=True
        )
        given, headed, bare = loss(chat, told), loss("<|im_start|>assistant\n", told), loss("<|im_start|>", told)
        assert scores["checkpoint_loss"][row] == pytest.approx(given, abs=2e-5)
        assert scores["ifd_loss"][row] == pytest.approx(given / headed, abs=2e-5)
        assert scores["ifd_ppl"][row] == pytest.approx(np.exp(given - bare), rel=5e-5)
    assert scores["ifd_ppl"].argmax() == 3, "the answer that has nothing to do with its question"
    assert scores["checkpoint_loss"].argmax() == 3
