"""A data set of the Hugging Face hub before there is a study of it: its commit, its configuration and its splits."""

import re
from collections.abc import Sequence
from pathlib import Path

from secateur.pipelines.data.profile import READERS, TESTING, TRAINING, Place, ending_of, first_of
from secateur.pipelines.data.source_kinds.files import SourceError
from secateur.pipelines.data.source_kinds.hub import Hub, from_hub

URI = "hf://datasets/"
"""The prefix that the Hugging Face libraries give data sets in addresses."""
NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def hub_name(data: str) -> str:
    """The owner/name of a data set on the hub, empty for anything else.

    `hf://datasets/owner/name` always is one. `owner/name` is one unless there is such a path or a folder `owner`, or
    the name ends as a file of data does.
    """
    if data.startswith(URI):
        return data.removeprefix(URI)
    path = Path(data)
    local = path.exists() or path.parent.is_dir() or ending_of(path) in READERS
    return data if NAME.fullmatch(data) and not local else ""


def find_on_hub(
    name: str,
    *,
    config: str | None = None,
    split: str | None = None,
    test: str | None = None,
    revision: str | None = None,
) -> Place:
    """The place of a data set on the hub, at the commit that its revision stands for now.

    Raises SourceError with the remedy where the hub does not serve it, where it has several configurations and
    `config` is None, and for a configuration or a split that it lacks.
    """
    import datasets

    if not NAME.fullmatch(name):
        raise SourceError(f"{URI}{name}: a data set of the hub is named {URI}owner/name")
    commit = Hub.model_validate({"kind": "hub", "name": name, "revision": revision}).stamp(Path.cwd())
    where = f"hub data set {name!r}"
    with from_hub(f"{where} at {commit}"):
        configs = datasets.get_dataset_config_names(name, revision=commit)
        usual = datasets.get_dataset_default_config_name(name, revision=commit)
    if config is None and usual is None and len(configs) > 1:
        raise SourceError(f"{where} has several configurations, name one with --config: {', '.join(configs)}")
    if config is not None and config not in configs:
        raise SourceError(f"{where}: there is no configuration {config!r} (--config), there are: {', '.join(configs)}")
    chosen = config or usual or next(iter(configs), None)
    with from_hub(f"{where} at {commit}"):
        splits = datasets.get_dataset_split_names(name, chosen, revision=commit)
    train, held_out = splits_of(splits, split, test, where)
    return Place(
        "hub",
        train,
        held_out,
        path=name,
        config=chosen if len(configs) > 1 else None,
        revision=commit,
        others=tuple(one for one in splits if one not in (train, held_out)),
    )


def splits_of(there: Sequence[str], train: str | None, test: str | None, where: str) -> tuple[str, str | None]:
    """The splits to train on and to test on, the second None where there is none; SourceError lists the splits."""
    for option, name in (("--split", train), ("--test", test)):
        if name is not None and name not in there:
            raise SourceError(f"{where}: there is no split {name!r} ({option}), there are: {', '.join(there)}")
    chosen = train or first_of(there, TRAINING) or (there[0] if len(there) == 1 else None)
    if chosen is None:
        raise SourceError(f"{where}: name the split to train on with --split, there are: {', '.join(there)}")
    if chosen == test:
        raise SourceError(f"{where}: --test {test} is the split to train on; name another, or leave --test out")
    return chosen, test or first_of([name for name in there if name != chosen], TESTING)
