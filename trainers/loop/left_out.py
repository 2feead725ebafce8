"""Losses of samples that an epoch leaves out, for samplers that need them (`forward_only`)."""

from __future__ import annotations

from secateur.scorers.lazy import torch
from secateur.trainers.loop.run import Run, joined


def tell_left_out(run: Run) -> None:
    """At the end of an epoch, compute plain losses of the samples that it left out, and pass all to the sampler.

    No gradients, evaluation mode, no augmentation, in batches of the run's size that processes share.
    """
    ids = torch.from_numpy(run.sampler.forward_only) if run.sampler is not None else torch.empty(0)
    if run.sampler is None or not len(ids):
        return
    here, size = ids.to(run.device), run.config.batch_size
    targets = run.targets[here]
    steps = [slice(start, min(start + size, len(ids))) for start in range(0, len(ids), size)]
    plan = [(step, run.processes.parts(step, run.config.accumulate)) for step in steps]
    stream = run.source.batches(ids, here, [part.places for _, parts in plan for part in parts])
    run.model.eval()
    with torch.no_grad():
        for step, parts in plan:
            found = []
            for part in parts:
                inputs = next(stream)
                with run.cast():
                    outputs = run.model(inputs)
                losses = run.losses(outputs, targets[part.places], inputs)
                found.append(losses[slice(None if part.counts else 0)])
            run.sampler.observe(here[step], run.processes.gather(joined(found), step))
    run.model.train()
