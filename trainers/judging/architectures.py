"""Evaluation of architectures by training: each choice sets a part of a config, each evaluation is a run."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from pydantic import ValidationError

from secateur.scorers.architectures.encoding import ArchitectureSpace, Position
from secateur.selectors.draws.ranks import Keep
from secateur.trainers.contract import Data, TrainingConfig
from secateur.trainers.judging.evaluation import decided
from secateur.trainers.loop.train import train
from secateur.trainers.models.registry import check_config, check_settings, factory_of

OWN = frozenset(TrainingConfig.model_fields) - {"model_settings"}


def config_of(base: TrainingConfig, choices: Mapping[str, Any]) -> TrainingConfig:
    """The config with these choices: names of config fields set these, all others are settings of the model."""
    own = {name: value for name, value in choices.items() if name in OWN}
    settings = base.model_settings | {name: value for name, value in choices.items() if name not in OWN}
    return TrainingConfig(**(base.model_dump() | own | {"model_settings": settings}))


def network_key(config: TrainingConfig) -> str:
    """A text that is equal for configs of the same network; a factory's `same_network` may merge model settings."""
    content = config.model_dump(mode="json")
    same = getattr(factory_of(config.model), "same_network", None)
    if same is not None:
        content["model_settings"] = same(content["model_settings"])
    return json.dumps(content, sort_keys=True)


def space_of_configs(
    base: TrainingConfig, choices: Mapping[str, Sequence[Any]]
) -> tuple[ArchitectureSpace, list[TrainingConfig]]:
    """`configs_of` with one key per distinct network; also checks the settings of models outside the project."""
    space, configs = configs_of(base, choices, check=check_settings)
    assert space.listed is not None
    _, keys = np.unique([network_key(config) for config in configs], return_inverse=True)
    return space.having(space.listed, keys.astype(np.int64)), configs


def configs_of(
    base: TrainingConfig,
    choices: Mapping[str, Sequence[Any]],
    *,
    check: Callable[[TrainingConfig], None] = check_config,
) -> tuple[ArchitectureSpace, list[TrainingConfig]]:
    """Every combination of choices with its config; the default check imports no network from outside the project.

    Raises ValueError that names the first combination with an invalid config or invalid model settings.
    """
    positions = [Position(name, tuple(map(str, values))) for name, values in choices.items()]
    space, configs = ArchitectureSpace.product(positions), []
    if space.listed is None:
        raise ValueError(f"the choices make {space.size} combinations, too many to train any share of them")
    for row in space.listed.tolist():
        chosen = {name: values[number] for (name, values), number in zip(choices.items(), row, strict=True)}
        try:
            configs.append(config_of(base, chosen))
            check(configs[-1])
        except (ValidationError, ValueError) as error:
            reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error
            raise ValueError(f"choices {chosen}: {reason}") from error
    return space, configs


class ValidationAccuracy:
    """Accuracy of a config's network on validation samples, 0 … 1, after training on the other samples.

    A task without accuracy uses its deciding metric. Searches maximise, so the constructor raises ValueError for a
    metric that is better the lower it is.

    The validation samples are a part of the training samples; test samples are never read. `keep`, a mask over all
    training samples, restricts the others for training.
    """

    def __init__(self, data: Data, *, validation_fraction: float = 0.2, keep: Keep | None = None) -> None:
        metrics = data.task.metrics
        metric = self._metric = next((one for one in metrics if one.name == "accuracy"), metrics[0])
        if not metric.higher_is_better:
            raise ValueError(f"searches look for the highest value, {metric.title} is better the lower it is")
        pool, validation = data.task.split(data.targets, validation_fraction, 0)
        kept = pool if keep is None else pool[keep[pool]]
        self._pool, self._validation = data.take(kept), data.take(validation)

    def __call__(self, config: TrainingConfig, *, seed: int) -> float:
        """Train once from this seed, and evaluate."""
        return decided(train(self._pool, config, seed=seed).model, self._validation, self._metric)
