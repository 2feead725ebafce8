"""TRL's SFTTrainer under IES in one of several processes: what torchrun starts. Saves what this process was shown."""

import os
import sys
from pathlib import Path
from typing import Any

import datasets
import tiny_language
import torch
import trl

from secateur.selectors.samplers.ies import Ies
from secateur.trainers.loop.own_loop import SampledTraining

ROWS, BATCH, EPOCHS = 22, 4, 6


class Pruned(SampledTraining, trl.SFTTrainer):  # type: ignore[misc]
    """Notes (epoch, ids) of each batch."""

    shown: list[tuple[int, list[int]]]

    def training_step(self, model: Any, inputs: Any, *rest: Any) -> torch.Tensor:
        self.shown = [*getattr(self, "shown", []), (self.sampler.epoch, inputs["sample_id"].tolist())]
        step: Any = super().training_step
        return step(model, inputs, *rest)


def main() -> None:
    """In a folder: train a model that does not learn, and save batches, losses and what was saved."""
    folder = Path(sys.argv[1])
    words = tiny_language.tokenizer()
    arguments = trl.SFTConfig(
        str(folder), use_cpu=True, report_to=[], disable_tqdm=True, bf16=False, save_strategy="no",
        per_device_train_batch_size=BATCH, num_train_epochs=EPOCHS, learning_rate=0.0, gradient_accumulation_steps=2,
    )  # fmt: skip
    rows = datasets.Dataset.from_list(tiny_language.pairs(ROWS))
    trainer: Any = Pruned(tiny_language.model(words), arguments, train_dataset=rows, processing_class=words)
    trainer.sampler = Ies(ROWS, window=1, threshold=1e-4)
    trainer.train()
    trainer.sampler.set_epoch(EPOCHS - 1)
    found = {"shown": trainer.shown, "losses": trainer.sampler.observed.losses, "saved": trainer.sampler.saved_backward,
             "history": trainer.sampler.past.history}  # fmt: skip
    torch.save(found, folder / f"{os.environ['RANK']}.pt")
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
