"""Losses of samples that an epoch does not train on, for samplers that want them all the same (`forward_only`)."""

from __future__ import annotations

from secateur.scorers.lazy import torch
from secateur.trainers.loop.run import Run, joined


def tell_left_out(run: Run) -> None:
    """At the end of an epoch: compute plain losses of what it left out, and tell the sampler of all of them.

    No gradients, evaluation mode, inputs as they are, in batches of the run's size that processes share.
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
