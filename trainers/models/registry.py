"""Networks by name. Each takes raw inputs, and its first layer standardises them.

A trained model is therefore complete: its file and this module turn the data set's raw values into outputs.
"""

from __future__ import annotations

import inspect
import itertools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from secateur.scorers.lazy import LazyModule, is_there, named, nn, safetensors, torch
from secateur.trainers.contract import TrainingConfig, kind_read_by, reads
from secateur.trainers.models.image_encoder import image_encoder, resnet18, resnet34, resnet50, vit
from secateur.trainers.models.language_model import language_model
from secateur.trainers.models.stored_state import load_stored, stored_state
from secateur.trainers.models.tabular_mlp import tabular_mlp
from secateur.trainers.models.transformer import transformer
from secateur.trainers.tasks.classification import as_task
from secateur.trainers.tasks.contract import Task
from secateur.trainers.tasks.own import OwnTask
from secateur.trainers.tasks.registry import task_from

if TYPE_CHECKING:
    from secateur.trainers.models import networks as networks
else:
    networks = LazyModule("secateur.trainers.models.networks")


@reads("numbers")
def mlp(shape: tuple[int, ...], classes: int, *, hidden: Sequence[int] = (128,)) -> nn.Module:
    """Fully connected layers with ReLU between them."""
    widths = [math.prod(shape), *hidden]
    layers: list[nn.Module] = [nn.Flatten()]
    for before, after in itertools.pairwise(widths):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(widths[-1], classes))


@reads("numbers")
def cnn(shape: tuple[int, ...], classes: int, *, width: int = 32) -> nn.Module:
    """Three convolutions with batch norm and pooling: a small network for images from 8 x 8 pixels."""
    if len(shape) != 3:
        raise ValueError(f"model 'cnn' wants images, the inputs have shape {shape}; use model 'mlp'")

    def stage(before: int, after: int) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU(), nn.MaxPool2d(2)
        )

    return nn.Sequential(
        stage(shape[-1], width),
        stage(width, 2 * width),
        nn.Conv2d(2 * width, 4 * width, 3, padding=1, bias=False),
        nn.BatchNorm2d(4 * width),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4 * width, classes),
    )


MODELS: dict[str, Callable[..., nn.Module]] = {
    "mlp": mlp,
    "cnn": cnn,
    "resnet18": resnet18,
    "resnet34": resnet34,
    "resnet50": resnet50,
    "vit": vit,
    "image_encoder": image_encoder,
    "transformer": transformer,
    "language_model": language_model,
    "tabular_mlp": tabular_mlp,
}


def factory_of(model: str) -> Callable[..., nn.Module]:
    """The factory of a model's name or `module:factory`; it takes `(input shape, classes, **settings)`.

    Raises ValueError with all names for an unknown one.
    """
    if model in MODELS:
        return MODELS[model]
    check_name(model)
    factory: Callable[..., nn.Module] = named(model, "model")
    return factory


def check_name(model: str) -> None:
    """Raise ValueError if there is no such model, or no module of that name; does not import the module."""
    if model not in MODELS and ":" not in model:
        known = ", ".join(sorted(MODELS))
        raise ValueError(f"no model is called {model!r}; there are {known}, or write module:factory")
    if model not in MODELS and not is_there(model):
        raise ValueError(
            f"model {model!r} cannot be imported: there is no such module in the working folder and among "
            "installed packages"
        )


def check_config(config: TrainingConfig, *, untrained: bool = False) -> None:
    """Raise ValueError as `check_name`, for wrong settings of a built-in model, and for 0 epochs unless `untrained`."""
    check_name(config.model)
    if config.epochs == 0 and not untrained:
        raise ValueError("epochs: 0 trains nothing; at least 1")
    if config.model in MODELS:
        check_settings(config)


def check_settings(config: TrainingConfig) -> None:
    """Raise ValueError for a setting that the model does not take, with those that it takes; imports the model."""
    factory = factory_of(config.model)
    known, open_ended = keywords_of(factory)
    unknown = [name for name in config.model_settings if name not in known]
    if unknown and not open_ended:
        raise ValueError(f"model {config.model!r} has no setting {unknown[0]!r}; it has {', '.join(known) or 'none'}")
    if hasattr(factory, "check"):
        factory.check(config.model_settings)


def keywords_of(factory: Callable[..., nn.Module]) -> tuple[list[str], bool]:
    """Names of a factory's settings, and whether it takes further ones."""
    parameters = list(inspect.signature(factory).parameters.values())
    named = [p.name for p in parameters[2:] if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return named, any(p.kind is p.VAR_KEYWORD for p in parameters)


def build(
    config: TrainingConfig,
    shape: tuple[int, ...],
    task: Task | int,
    *,
    seed: int,
    learned: Mapping[str, Any] | None = None,
) -> networks.Model:
    """A fresh network for inputs of `shape`, its weights drawn from `seed` without touching the global generator.

    The task sets the number of outputs; a number means classification into so many classes. `learned` is the
    `model_settings` of the data: the factory gets those among its parameters; the config's settings override them.
    Raises ValueError if the model does not read such inputs or cannot be built.
    """
    learned, factory, task = learned or {}, factory_of(config.model), as_task(task)
    check_settings(config)
    kind, wanted = learned.get("kind", "numbers"), kind_read_by(factory)
    if wanted not in (None, kind):
        raise ValueError(
            f"model {config.model!r} reads {wanted}, the inputs are encoded as {kind}: leave encoding.kind out and it "
            "follows the models, which must all read the same"
        )
    known, _ = keywords_of(factory)
    given = {name: value for name, value in learned.items() if name in known} | config.model_settings
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            network = factory(shape, task.width, **given)
        except (ArithmeticError, LookupError, MemoryError, RuntimeError, TypeError) as error:
            if config.model not in MODELS:  # The traceback of a user's own code helps the user.
                raise
            raise ValueError(f"model {config.model!r} cannot be built with {given}: {error}") from error
    if not isinstance(network, nn.Module):
        raise ValueError(
            f"model {config.model!r} returned a {type(network).__name__}; it must return a torch.nn.Module that maps "
            f"inputs [samples, …] to [samples, {task.width}]"
        )
    codes = [column for column, size in enumerate(learned.get("categories", ())) if size]
    standardise = networks.Standardise(0 if kind in ("tokens", "sequences") else shape[-1], codes)
    return networks.Model(standardise, network, task, learned, config.model)


def save(model: nn.Module, folder: Path, config: TrainingConfig, shape: tuple[int, ...]) -> None:
    """Write `model.safetensors` and the `model.json` that rebuilds it into an existing folder.

    A network built from other files (pretrained weights) has an attribute `rebuild_settings`, with settings that do not
    need these files. It may have a method `save_beside(folder)`, which writes files for other programs.
    """
    weights = {name: value.contiguous() for name, value in stored_state(model).items()}
    safetensors.save_file(weights, folder / "model.safetensors")
    network: Any = model[1] if isinstance(model, networks.Model) else model
    task: Any = model.task
    settings = getattr(network, "rebuild_settings", config.model_settings)
    rebuild: dict[str, Any] = {
        "config": config.model_copy(update={"model_settings": settings}).model_dump(mode="json"),
        "shape": shape,
        "task": task.state(),
        "learned": getattr(model, "learned", {}),
    }
    (folder / "model.json").write_text(json.dumps(rebuild, indent=2) + "\n")
    if hasattr(network, "save_beside"):
        network.save_beside(folder)


def config_in(folder: Path) -> TrainingConfig:
    """The config of the model that `save` wrote into a folder."""
    return TrainingConfig(**json.loads((folder / "model.json").read_text())["config"])


def load(folder: Path) -> Any:
    """The model that `save` wrote, in evaluation mode on the CPU; a user's own task makes its network itself."""
    rebuild = json.loads((folder / "model.json").read_text())
    config, shape = TrainingConfig(**rebuild["config"]), tuple(rebuild["shape"])
    task = task_from(rebuild["task"])
    model: Any
    if isinstance(task, OwnTask):
        model = task.model()
        model.task = task
    else:
        model = build(config, shape, task, seed=0, learned=rebuild.get("learned"))
    load_stored(model, safetensors.load_file(folder / "model.safetensors"))
    return model.eval()
