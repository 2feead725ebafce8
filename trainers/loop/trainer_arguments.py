"""Checks before training for arguments of a transformers Trainer that do not work with a sampler."""

import math
from typing import Any

from secateur.selectors.samplers.contract import EpochSampler


def refuse(trainer: Any, own_losses: bool) -> None:
    """Raise ValueError with the remedy for the first incompatible argument, data set or sampler.

    `own_losses`: the trainer overrides `sample_losses`, but not `training_losses`.
    """
    for wrong, remedy in [
        *of_rows(trainer, trainer.args, trainer.sampler),
        *of_losses(trainer, trainer.args, own_losses),
    ]:
        if wrong:
            raise ValueError(remedy)


def of_rows(trainer: Any, given: Any, sampler: EpochSampler) -> list[tuple[bool, str]]:
    """Checks of the rows and their order, as pairs of a condition and its error message."""
    rows = len(trainer.train_dataset) if hasattr(trainer.train_dataset, "__len__") else None
    accelerate, several = given.accelerator_config, given.world_size > 1
    return [
        (rows is None, "the train_dataset has no length: a sampler needs a data set whose rows it can name"),
        (
            rows != sampler.samples,
            f"the sampler is over {sampler.samples} samples, the train_dataset holds {rows}: make one of this length",
        ),
        (
            sampler.shard.world > 1,
            f"the sampler gives a share, Shard({sampler.shard.rank}, {sampler.shard.world}), which the Trainer would "
            "split again among processes: make it without a shard",
        ),
        (
            given.remove_unused_columns and not trainer._trl,
            "remove_unused_columns=True would take 'sample_id' out of the batches: set it to False",
        ),
        (
            given.train_sampling_strategy != "random",
            f"train_sampling_strategy={given.train_sampling_strategy!r} orders the rows, which the sampler does: leave "
            "it 'random' (FixedSubset(keep, shuffle=False) goes through them in their order)",
        ),
        (
            given.data_seed not in (None, sampler.seed),
            f"data_seed={given.data_seed} has no effect, the sampler orders the rows by its seed {sampler.seed}: make "
            f"it with seed={given.data_seed}, or leave data_seed out",
        ),
        (
            not given.dataloader_in_order and given.dataloader_num_workers > 0,
            "dataloader_in_order=False gives batches in any order, and a resumed run could not tell which were shown: "
            "set it to True",
        ),
        (
            several and bool(accelerate.dispatch_batches),
            "accelerator_config's dispatch_batches=True cannot be resumed at the right row by several processes "
            "(accelerate skips batches of one of them only): leave it out",
        ),
        (
            several and not accelerate.even_batches,
            "accelerator_config's even_batches=False gives processes different numbers of batches, and they wait for "
            "each other at the end of an epoch: leave it out",
        ),
    ]


def of_losses(trainer: Any, given: Any, own_losses: bool) -> list[tuple[bool, str]]:
    """Checks for obstacles to a loss per sample, as pairs of a condition and its error message."""
    liger = given.liger_kernel_config or {}
    return [
        (
            trainer.compute_loss_func is not None,
            "compute_loss_func gives one number for a batch, and a sampler needs one for each sample: override "
            "sample_losses(outputs, labels) instead",
        ),
        (
            bool(given.label_smoothing_factor) and own_losses,
            f"label_smoothing_factor={given.label_smoothing_factor} has no effect on a sample_losses of your own: "
            "override training_losses(outputs, labels) with the smoothed losses too, or set it to 0",
        ),
        (
            given.use_liger_kernel and liger.get("fused_linear_cross_entropy", True),
            "use_liger_kernel=True fuses the loss into the model, which then has no logits for losses per sample: pass "
            "liger_kernel_config={'fused_linear_cross_entropy': False, 'cross_entropy': True}",
        ),
        (
            trainer.get_cp_size() > 1 or trainer.get_sp_size() > 1,
            "parallelism_config splits sequences among processes (context or sequence parallelism), and none has the "
            "loss of a whole sample: leave cp_size and sp_size at 1",
        ),
    ]


def step_samples(trainer: Any) -> int:
    """Samples of one batch of all processes together."""
    return int(trainer._train_batch_size) * shares(trainer)


def shares(trainer: Any) -> int:
    """Number of groups of processes among which accelerate distributes whole batches."""
    if trainer.args.accelerator_config.split_batches:
        return 1
    return int(trainer.args.world_size) // int(trainer.get_tp_size())


def updates_of(trainer: Any, samples: int) -> int:
    """Optimiser steps of an epoch of so many samples."""
    batch, drop = trainer._train_batch_size, trainer.args.dataloader_drop_last
    divide = math.floor if drop else math.ceil
    batches: int = divide(divide(samples / batch) / shares(trainer))
    together: int = trainer.args.gradient_accumulation_steps
    return max(1, math.ceil(batches / together))


def planned(trainer: Any) -> list[tuple[int, float]]:
    """(Largest number of samples, share trained) of each epoch of `num_train_epochs`; the last epoch may be partial."""
    epochs = trainer.args.num_train_epochs
    plan = trainer.sampler.plan(max(1, math.ceil(epochs)))
    return [(one.samples, min(1.0, epochs - epoch)) for epoch, one in enumerate(plan)]


def epochs_for(trainer: Any, steps: int) -> int:
    """Epochs that suffice for so many optimiser steps: an epoch of unknown length counts as one step."""
    epochs, left = 0, steps
    while left > 0:
        samples, exact = trainer.sampler.planned(epochs)
        left -= updates_of(trainer, samples) if exact else 1
        epochs += 1
    return epochs
