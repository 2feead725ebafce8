"""Do the inherited weights count, or the sparse structure? The experiment holds single weights at zero.

Liu et al., "Rethinking the Value of Network Pruning", ICLR 2019, arXiv 1810.05270, with the magnitude pruning of Han et
al. 2015 (arXiv 1506.02626).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from secateur.scorers.contract import Count
from secateur.scorers.lazy import nn, safetensors
from secateur.selectors.draws.keyed_permutation import derive_seed
from secateur.trainers.contract import Progress
from secateur.trainers.experiments.contract import Arm, Arms, ArmTrial
from secateur.trainers.experiments.pruning_data import DataName, splits_in
from secateur.trainers.experiments.random_pruning import NETWORK, BatchSize, NetworkName, fresh, refuse_moved
from secateur.trainers.experiments.refitting import SCRATCH, BigNetwork, Pruned, Rate, Refits, arms_of, redrawn
from secateur.trainers.judging.network_costs import masked_macs, parameters_of
from secateur.trainers.pruning.held_masks import apply, kept_weights, maskable
from secateur.trainers.pruning.kept import Kept


def ticket_of(rewound: bool) -> Arm:
    """An arm with the largest weights of the trained network, `rewound` to their initial values or drawn again."""
    return Arm("magnitude", "global_mask", {"least": 1, "inherit": False, "plan": "whole", "rewound": rewound})


class MaskedNetwork(BigNetwork):
    """The big network with the names of its prunable weights."""

    @property
    def names(self) -> list[str]:
        """Names of the parameters with prunable weights."""
        return prunable(self.model)


class WeightRefits(Refits):
    """Keeps the largest weights of a trained network, over all layers but the last, then fine-tunes them as published
    or with the whole config, or trains them from scratch for equal epochs (`scratch_e`) or equal work (`scratch_b`).

    `random` keeps as many weights of each layer at random, with the config of `fine_tune_tuned`; `scratch_shuffled`
    trains the same random masks from scratch. Work counts kept weights. `ticket` resets the kept weights to their
    values before the big network's training (Frankle & Carbin 2019, arXiv 1803.03635), `ticket_redrawn` to another draw
    from the same distribution; both have the whole config.
    """

    unit = "weight"
    version = "2"
    claim = "Of single weights inherited values count: where few stay, training from scratch is behind fine-tuning."
    arms: ClassVar[Arms] = {
        **arms_of(Arm("magnitude", "global_mask", {"least": 1}), Arm("magnitude", "shuffled_mask", {"least": 1})),
        "scratch_shuffled": Arm("magnitude", "shuffled_mask", {"least": 1, "inherit": False, "plan": "whole"}),
        **{name: ticket_of(rewound) for name, rewound in (("ticket", True), ("ticket_redrawn", False))},
    }
    network = MaskedNetwork

    def __init__(
        self,
        *,
        method: Annotated[Literal["magnitude"], Field(description="prunes all layers but the last")] = "magnitude",
        data: DataName = "digits",
        model: NetworkName = NETWORK,
        width: Count = 64,
        epochs: Count = 24,
        batch_size: BatchSize = 64,
        learning_rate: Rate = 0.1,
    ) -> None:
        super().__init__(
            data=data, model=model, width=width, epochs=epochs, batch_size=batch_size, learning_rate=learning_rate
        )
        self.method = method

    def prepare(self, seed: int, folder: Path, progress: Progress) -> None:
        """As `Refits.prepare`; also writes `initial.safetensors`, the initial weights, which `ticket`'s masks need."""
        super().prepare(seed, folder, progress)
        start = fresh(self.config, splits_in(folder / "data.npz")[0], seed)
        safetensors.save_file(start.state_dict(), folder / "initial.safetensors")

    def pruned(self, trial: ArmTrial, units: BigNetwork, masks: Mapping[str, np.ndarray]) -> Pruned:
        """The masked network, with inherited, rewound or new weights."""
        model, inherit, rewound = units.model, trial.setting("inherit"), trial.setting("rewound")
        macs, anew = masked_macs(model, units.example, masks), derive_seed(trial.seed, SCRATCH)
        if rewound is not None:
            model = fresh(self.config, units.train, trial.seed if rewound else anew)
        elif not inherit:
            redrawn(model, anew, masks)
        of_these = bool(inherit or rewound) and not self.draws_units(trial)
        kept = kept_weights(model, masks, of_these_weights=of_these)
        return Pruned(model, kept, macs, parameters_of(model) - kept.of + kept.count, apply(model, kept))

    def check(self, model: nn.Module, kept: Kept) -> None:
        """Raise RuntimeError if a pruned weight is not zero."""
        refuse_moved(model, kept)


def prunable(model: nn.Module) -> list[str]:
    """Names of the prunable weights: all but those of the last layer, as published; raises ValueError for none."""
    names = list(maskable(model))[:-1]
    if not names:
        raise ValueError("the model has one layer alone, which is not pruned: use one with hidden layers")
    return names
