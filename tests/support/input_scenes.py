"""Studies whose inputs are changed in place, one after the other: what each reads, and how a change of it is made.

All of them lie in the working folder. The inputs of a scene are in the order of the graph, so that no later change
makes anew what an earlier one should have.
"""

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import polars as pl
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from secateur.pipelines.audits.cleaned import samples_of, write_one
from secateur.pipelines.front_door.audit import audit
from secateur.pipelines.materialise import Part
from secateur.trainers.contract import TrainingConfig
from secateur.trainers.modalities.texts import train_tokenizer
from secateur.trainers.models import registry as models
from secateur.trainers.tasks.classification import Classification

Change = Callable[[], None]

TEXTS = ["a refund please", "the password is lost", "will it rain"]
MLP = {"model": "mlp", "model_settings": {"hidden": [4]}, "batch_size": 16}
PARTS: dict[str, Any] = {
    "proxy": MLP | {"epochs": 1},
    "scores": {"el2n": None},
    "selections": {"hardest": {"selector": "top", "score": "el2n"}},
    "keep": [0.5],
    "training": MLP | {"steps": 2},
    "seeds": 1,
}
FEATURES: dict[str, Any] = {"columns": {"features": ["x", "y"], "label": "label"}}
WORDS: dict[str, Any] = {
    "source": {"kind": "parquet", "train": "words.parquet", "test": "words_test.parquet"},
    "columns": {"text": "text", "label": "label"},
}
NET = """
from pathlib import Path

from torch import nn

from {package}.parts import WIDTH, scaled


def net(shape, classes, *, scale=None, width=0):
    first, last = nn.Linear({inputs}, WIDTH + width), nn.Linear(WIDTH + width, classes)
    return scaled(nn.Sequential(nn.Flatten(), first, nn.ReLU(), last), float(Path(scale).read_text()) if scale else 1.0)
"""
PARTS_OF_NET = """
WIDTH = {width}


def scaled(network, by):
    for parameter in network.parameters():
        parameter.data *= by
    return network
"""
BAG = """
from pathlib import Path

from torch import nn

from secateur.trainers.contract import reads

WIDTH = {width}


class Bag(nn.Module):
    def __init__(self, vocabulary, classes, width, by):
        super().__init__()
        self.embedding, self.head = nn.Embedding(vocabulary, WIDTH + width), nn.Linear(WIDTH + width, classes)
        self.embedding.weight.data *= by

    def forward(self, tokens):
        return self.head(self.embedding(tokens.long()).mean(1))


@reads("tokens")
def bag(shape, classes, *, vocabulary=None, width=1, scale=None, shift=None):
    by = sum(float(Path(each).read_text()) for each in (scale, shift) if each)
    return Bag(vocabulary, classes, width, by)
"""
TASK = """
from task_parts import data, network
from torch.nn.functional import cross_entropy

from secateur.trainers.tasks.contract import Metric
from secateur.trainers.tasks.own import OwnTask


class Points(OwnTask):
    metrics = (Metric("accuracy", percent=True),)

    def samples(self, split):
        return data(split)

    def model(self):
        return network()

    def losses(self, outputs, targets):
        return cross_entropy(outputs, targets["label"], reduction="none")

    def measure(self, model, batches):
        hits = [(model(batch).argmax(1) == batch["label"]).float() for batch in batches]
        return {"accuracy": float(sum(each.sum() for each in hits) / sum(len(each) for each in hits))}
"""
TASK_PARTS = """
import torch
from torch import nn


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(2, WIDE), nn.ReLU(), nn.Linear(WIDE, 3))

    def forward(self, batch):
        return self.layers(batch["point"])


def network():
    return Network()


def data(split):
    generator = torch.Generator().manual_seed(len(split))
    points = torch.randn(30, 2, generator=generator)
    return [{"point": point, "label": torch.tensor(row % 3)} for row, point in enumerate(points)]
"""


@dataclass(frozen=True)
class Scene:
    """A study, what it has beside it, and by the key of each input a change of it in place."""

    study: Mapping[str, Any]
    set_up: Change
    changes: Mapping[str, Change]
    part: Part = "everything"
    before: Mapping[str, Any] | None = None
    """A study that is made before it."""
    daily: bool = False
    """Whether it is run in full by day, too."""


def table(seed: int, rows: int = 24) -> pl.DataFrame:
    """Points of three classes."""
    labels = np.arange(rows) % 3
    points = np.random.default_rng(seed).normal(labels[:, None] * [1.0, -1.0], 1.0)
    return pl.DataFrame({"x": points[:, 0], "y": points[:, 1], "label": labels})


def write(name: str, text: str) -> Change:
    """Write a text file over what is there."""

    def change() -> None:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(text)

    return change


def rows(name: str, seed: int) -> Change:
    """Write points over a table of points, as its name ends."""

    def change() -> None:
        frame = table(seed)
        writers = {".csv": frame.write_csv, ".parquet": frame.write_parquet, ".jsonl": frame.write_ndjson}
        writers[Path(name).suffix](name)

    return change


def saved_rows(name: str, seed: int, *splits: str) -> Change:
    """Write points over what `save_to_disk` wrote: one data set, or one with splits."""

    def change() -> None:
        parts = {split: datasets.Dataset.from_polars(table(seed + place)) for place, split in enumerate(splits)}
        (datasets.DatasetDict(parts) if splits else datasets.Dataset.from_polars(table(seed))).save_to_disk("new")
        shutil.rmtree(name, ignore_errors=True)
        Path("new").rename(name)

    return change


def words(seed: int) -> Change:
    """Write texts."""

    def change() -> None:
        draw = np.random.default_rng(seed)
        for ending in ("", "_test"):
            texts = [f"{TEXTS[row % 3]} {draw.integers(99)}" for row in range(24)]
            frame = pl.DataFrame({"text": texts, "label": [f"c{row % 3}" for row in range(24)]})
            frame.write_parquet(f"words{ending}.parquet")

    return change


def picture(name: str, seed: int) -> Change:
    """Write a picture."""

    def change() -> None:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(seed).integers(0, 255, (8, 8, 3), np.uint8)).save(name)

    return change


def tokenizer(folder: str, vocabulary: int) -> Change:
    """Save a tokenizer of some size."""

    def change() -> None:
        trained = train_tokenizer([TEXTS * 3], vocabulary=vocabulary)
        PreTrainedTokenizerFast(tokenizer_object=trained, pad_token="[PAD]", unk_token="[UNK]").save_pretrained(folder)

    return change


def encoder(folder: str, seed: int) -> Change:
    """Save a small BERT with its tokenizer."""

    def change() -> None:
        shape = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            BertModel(BertConfig(vocab_size=80, max_position_embeddings=32, **shape)).save_pretrained(folder)
        tokenizer(folder, 80)()

    return change


def teacher(folder: str, seed: int) -> Change:
    """Save an untrained network as a teacher."""

    def change() -> None:
        Path(folder).mkdir(exist_ok=True)
        config, task = TrainingConfig(**MLP, epochs=1), Classification(3, ("0", "1", "2"))
        models.save(models.build(config, (2,), task, seed=seed), Path(folder), config, (2,))

    return change


def nudged(file: str) -> Change:
    """Change one tensor of a model in place."""

    def change() -> None:
        tensors = load_file(file)
        name = min(tensors)
        save_file(tensors | {name: tensors[name] + 0.001}, file, {"format": "pt"})

    return change


def arrays(seed: int) -> Change:
    """Write pictures of 8 by 8 with labels as arrays."""

    def change() -> None:
        draw = np.random.default_rng(seed)
        parts = {f"{split}inputs": draw.normal(size=(24, 8, 8, 1)).astype(np.float32) for split in ("", "test_")}
        np.savez("arrays.npz", **parts, labels=np.arange(24) % 3, test_labels=np.arange(24) % 3)

    return change


def all_of(*changes: Change) -> Change:
    """Several one after the other."""

    def change() -> None:
        for each in changes:
            each()

    return change


def package(name: str, inputs: int = 2) -> Change:
    """Write a package of two files, which a model's factory is in."""
    files = {"models": NET.format(package=name, inputs=inputs), "parts": PARTS_OF_NET.format(width=4)}
    return all_of(write(f"{name}/__init__.py", ""), *(write(f"{name}/{file}.py", text) for file, text in files.items()))


def wider(name: str, width: int = 5) -> Change:
    """Change the file of a package that its factory imports."""
    return write(f"{name}/parts.py", PARTS_OF_NET.format(width=width))


def named(name: str, **settings: Any) -> dict[str, Any]:
    """A config whose model is of a package, with a file that its factory reads."""
    return {"model": f"{name}.models:net", "model_settings": {"scale": f"{name}.txt", **settings}, "batch_size": 16}


def source_scene(kind: str, train: str, test: str, make: Callable[[str, int], Change], *, daily: bool = False) -> Scene:
    """A source of two files or folders."""
    key = f"samples source.{kind.capitalize()}"
    return Scene(
        {"source": {"kind": kind, "train": train, "test": test}, **FEATURES, **PARTS},
        all_of(make(train, 0), make(test, 1)),
        {f"{key}.train": make(train, 2), f"{key}.test": make(test, 3)},
        part="scores",
    )


IDS = [f"u{row}" for row in range(30)]
JOB = [f"j{row}" for row in range(4)]


def prompts(word: str) -> Change:
    """Texts with ids."""
    texts = pl.DataFrame({"prompt": [f"{word} {row}" for row in range(30)], "uuid": IDS})
    return lambda: texts.write_parquet("prompts.parquet")


def grades(seed: int) -> Change:
    """A score of each id, in an order of their own."""
    order = np.random.default_rng(seed).permutation(30)
    table = pl.DataFrame({"uuid": [IDS[row] for row in order], "grade": np.random.default_rng(seed).random(30)})
    return lambda: table.write_csv("grades.csv")


def vectors(seed: int) -> Change:
    """A vector of each id."""
    found = np.random.default_rng(seed).normal(size=(30, 3))
    return lambda: pl.DataFrame({"uuid": IDS, "vector": found.tolist()}).write_parquet("vectors.parquet")


def labelled() -> None:
    """Write texts with ids and labels, the last ten of them for tests."""
    ids, rows = [*IDS, *(f"t{row}" for row in range(10))], range(40)
    texts, labels = [f"{TEXTS[row % 3]} {row}" for row in rows], [f"c{row % 3}" for row in rows]
    found = pl.DataFrame({"prompt": texts, "label": labels, "uuid": ids})
    found.head(30).write_parquet("labelled.parquet")
    found.tail(10).write_parquet("labelled_test.parquet")


def listed(first: int) -> Change:
    """A manifest of the labelled rows from one on."""

    def write() -> None:
        found = audit("labelled.parquet", text="prompt", label="label", near=False).audit
        samples = samples_of(found.rows)
        shutil.rmtree("listed", ignore_errors=True)
        write_one(found, samples, "listed", np.arange(len(samples.rows)) >= first, "hand", Path("listed"), 0)

    return write


def job(word: str) -> Change:
    """Examples of a job, with ids and labels."""
    found = {"prompt": [f"{word} {row}" for row in range(4)], "uuid": JOB, "label": [f"c{row % 3}" for row in range(4)]}
    return lambda: pl.DataFrame(found).write_parquet("job.parquet")


def job_vectors(seed: int) -> Change:
    """A vector of each of those examples."""
    found = np.random.default_rng(seed).normal(size=(4, 3))
    return lambda: pl.DataFrame({"uuid": JOB, "vector": found.tolist()}).write_parquet("job_vectors.parquet")


def pictures_in(folder: str, seed: int) -> Change:
    """Folders of two classes with pictures."""
    names = [f"{folder}/{name}/{place}.png" for name in ("cat", "dog") for place in range(6)]
    return all_of(*(picture(name, seed + place) for place, name in enumerate(names)))


POINTS_FILES = {"kind": "parquet", "train": "points.parquet", "test": "points_test.parquet"}
SET_OF_POINTS = all_of(rows("points.parquet", 0), rows("points_test.parquet", 1))
LISTED = pl.DataFrame(
    {"image": [f"shots/{row}.png" for row in range(24)], "label": [f"c{row % 2}" for row in range(24)]}
)
QUICK = {"trees": 3, "leaves": 2, "least_in_leaf": 1}
SEARCH: dict[str, Any] = {
    "kind": "search",
    "evolution": {"population": 3, "sample": 2},
    "seeds": 1,
    "search": {"initial": 4, "per_round": 2, "budget": 6, "predictor": QUICK, "pruning": {"per_round": 1}},
}
EVALUATE = """
def evaluate(choices):
    return {factor} * (choices["a"] + 2 * choices["b"]) / 100
"""


def cells(factor: float) -> Change:
    """A table of architectures."""
    frame = pl.DataFrame(
        [{"a": f"o{a}", "b": f"o{b}", "accuracy": factor * (a + 2 * b) / 100} for a in range(3) for b in range(3)]
    )
    return lambda: frame.write_parquet("cells.parquet")


def pruning(experiment: str, keep: float = 0.5, **settings: Any) -> dict[str, Any]:
    """A study of another unit, of random and one arm."""
    return {"kind": "pruning", "experiment": experiment, "settings": settings, "keep": [keep], "seeds": 1}


def of_arrays(experiment: str, arms: list[str], **settings: Any) -> Scene:
    """An experiment on a data set in a file, with a network of the user's."""
    given = {"data": "arrays.npz", "model": "pruned_net.models:net", **settings}
    return Scene(
        {**pruning(experiment, **given), "arms": arms},
        all_of(arrays(0), package("pruned_net", 64)),
        {f"{experiment} data": arrays(1), f"{experiment} model": wider("pruned_net")},
    )


def scenes(copying_model: Path) -> dict[str, Scene]:
    """Every scene by name; `copying_model` is a small language model."""
    copied = lambda: shutil.copytree(copying_model, "copier", dirs_exist_ok=True)  # noqa: E731
    hay = "\n".join(f"s{n} s{n + 1} s{n + 2}" for n in range(10, 60, 3))
    examples = [{"text": f"s{row}", "label": f"s{row % 2}"} for row in range(300)]
    lines = "".join(json.dumps(each) + "\n" for each in examples)
    chosen = {"positions": {"a": [0, 1, 2], "b": [0, 1, 2]}, "scale": "share"}
    task = PARTS | {
        "task": "own_task:Points",
        "proxy": {"epochs": 1},
        "training": {"steps": 2},
        "scores": {"loss": None},
        "selections": {"hardest": {"selector": "top", "score": "loss"}},
    }
    return {
        "parquet": source_scene("parquet", "a.parquet", "b.parquet", rows),
        "csv": source_scene("csv", "a.csv", "b.csv", rows),
        "jsonl": source_scene("jsonl", "a.jsonl", "b.jsonl", rows),
        "disk": source_scene("disk", "a", "b", saved_rows),
        "brought": Scene(
            {
                "source": {"kind": "parquet", "train": "prompts.parquet"},
                "columns": {"text": "prompt", "id": "uuid"},
                "scores": {"judge": {"file": "grades.csv", "column": "grade", "high_means": "better"}},
                "embeddings": {"file": "vectors.parquet", "column": "vector"},
                "selections": {"best": {"selector": "top", "score": "judge"}, "spread": {"selector": "k_center"}},
                "keep": [0.3],
            },
            all_of(prompts("a"), grades(0), vectors(0)),
            {
                "choice source": prompts("b"),
                "choice scores.file": grades(1),
                "choice embeddings.file": vectors(1),
            },
        ),
        "brought with a job": Scene(
            {
                "source": {"kind": "parquet", "train": "prompts.parquet"},
                "columns": {"text": "prompt", "id": "uuid"},
                "embeddings": {"file": "vectors.parquet", "column": "vector"},
                "target": {"file": "job.parquet", "vectors": {"file": "job_vectors.parquet", "column": "vector"}},
                "selections": {"nearest": {"selector": "nearest_to_target"}},
                "keep": [0.3],
            },
            all_of(prompts("a"), vectors(0), job("x"), job_vectors(5)),
            {"choice target.file": job("y"), "choice target.vectors.file": job_vectors(6)},
        ),
        "brought to training": Scene(
            {
                "source": {"kind": "parquet", "train": "labelled.parquet", "test": "labelled_test.parquet"},
                "columns": {"text": "prompt", "id": "uuid", "label": "label"},
                "scores": {"judge": {"file": "grades.csv", "column": "grade", "high_means": "better"}},
                "embeddings": {"file": "vectors.parquet", "column": "vector"},
                "target": {"file": "job.parquet", "vectors": {"file": "job_vectors.parquet", "column": "vector"}},
                "selections": {
                    "best": {"selector": "top", "score": "judge"},
                    "spread": {"selector": "k_center"},
                    "nearest": {"selector": "nearest_to_target"},
                },
                "keep": [0.3],
                "training": MLP | {"steps": 2},
                "seeds": 1,
            },
            all_of(labelled, grades(0), vectors(0), job("x"), job_vectors(5)),
            {
                "samples target.file": job("y"),
                "samples target.vectors.file": job_vectors(6),
                "samples embeddings.file": vectors(1),
                "samples scores.file": grades(1),
            },
            part="subsets",
        ),
        "listed by a manifest": Scene(
            {
                "source": {"kind": "parquet", "train": "labelled.parquet", "test": "labelled_test.parquet"},
                "columns": {"text": "prompt", "id": "uuid", "label": "label"},
                "selections": {"clean": {"manifest": "listed"}},
                "keep": [0.3],
                "training": MLP | {"steps": 2},
                "seeds": 1,
            },
            all_of(labelled, listed(3)),
            {"samples selections.manifest": listed(5)},
            part="subsets",
        ),
        "disk of splits": Scene(
            {"source": {"kind": "disk", "path": "all", "train": "one", "test": "two"}, **FEATURES, **PARTS},
            saved_rows("all", 0, "one", "two"),
            {"samples source.Disk.path": saved_rows("all", 5, "one", "two")},
            part="scores",
        ),
        "imagefolder": Scene(
            {
                "source": {"kind": "imagefolder", "train": "a", "test": "b"},
                "columns": {"image": "image", "label": "label"},
                **PARTS,
            },
            all_of(pictures_in("a", 0), pictures_in("b", 50)),
            {
                "samples source.Imagefolder.train": picture("a/cat/0.png", 99),
                "samples source.Imagefolder.test": picture("b/dog/0.png", 98),
            },
            part="scores",
        ),
        "pictures behind paths": Scene(
            {
                "source": {"kind": "csv", "train": "shots.csv", "test_fraction": 0.25},
                "columns": {"image": "image", "label": "label"},
                **PARTS,
            },
            all_of(lambda: LISTED.write_csv("shots.csv"), *(picture(f"shots/{row}.png", row) for row in range(24))),
            {"samples columns.image": picture("shots/3.png", 99)},
            part="scores",
            daily=True,
        ),
        "code and files of models": Scene(
            PARTS
            | {
                "source": POINTS_FILES,
                **FEATURES,
                "proxy": named("proxy_net") | {"epochs": 1},
                "scores": {"el2n": None, "checkpoint_loss": None},
                "distillation": {"for": ["hardest"], "teacher": "teacher"},
                "training": named("training_net") | {"steps": 2},
            },
            all_of(
                SET_OF_POINTS,
                package("proxy_net"),
                package("training_net"),
                teacher("teacher", 0),
                write("proxy_net.txt", "1"),
                write("training_net.txt", "1"),
            ),
            {
                "samples proxy.model": wider("proxy_net"),
                "samples proxy.model_settings": write("proxy_net.txt", "2"),
                "samples distillation.teacher": teacher("teacher", 1),
                "samples training.model": wider("training_net"),
                "samples training.model_settings": write("training_net.txt", "2"),
            },
            daily=True,
        ),
        "code and files of a teacher": Scene(
            PARTS
            | {
                "source": POINTS_FILES,
                **FEATURES,
                "distillation": {"for": ["full"], "teacher": named("teacher_net") | {"epochs": 1}},
            },
            all_of(SET_OF_POINTS, package("teacher_net"), write("teacher_net.txt", "1")),
            {
                "samples distillation.teacher.model": wider("teacher_net"),
                "samples distillation.teacher.model_settings": write("teacher_net.txt", "2"),
            },
        ),
        "folders of encoders": Scene(
            PARTS
            | WORDS
            | {
                "encoding": {"tokenizer": "tokens"},
                "proxy": {"model": "bags:bag", "epochs": 1, "batch_size": 16},
                "training": {"model": "bags:bag", "steps": 2},
                "embeddings": {"kind": "encoder", "encoder": "encoder"},
                "selections": {"herding": None},
            },
            all_of(words(0), tokenizer("tokens", 40), encoder("encoder", 0), write("bags.py", BAG.format(width=2))),
            {"samples encoding": tokenizer("tokens", 60), "samples embeddings.encoder": encoder("encoder", 1)},
            part="subsets",
            daily=True,
        ),
        "code of a task": Scene(
            task,
            all_of(write("own_task.py", TASK), write("task_parts.py", TASK_PARTS.replace("WIDE", "4"))),
            {"samples task.kind": write("task_parts.py", TASK_PARTS.replace("WIDE", "5"))},
        ),
        "code of a network that a search found": Scene(
            PARTS | {"source": POINTS_FILES, **FEATURES, "proxy_from": "before"},
            all_of(SET_OF_POINTS, package("searched_net"), write("searched_net.txt", "1")),
            {"samples proxy_from": wider("searched_net")},
            part="scores",
            before=SEARCH
            | {
                "space": {
                    "models": {
                        "source": POINTS_FILES,
                        **FEATURES,
                        "training": named("searched_net") | {"steps": 2},
                        "positions": {"width": [1, 2, 3, 4, 5, 6]},
                    }
                }
            },
        ),
        "a table of architectures": Scene(
            SEARCH
            | {
                "space": {
                    "table": {
                        "path": "cells.parquet",
                        "positions": {name: ["o0", "o1", "o2"] for name in "ab"},
                        "accuracy": "accuracy",
                    }
                }
            },
            cells(1),
            {"search space.table.path": cells(2)},
        ),
        "a function of architectures": Scene(
            SEARCH | {"space": {"callable": {"evaluate": "judging_code:evaluate", **chosen}}},
            write("judging_code.py", EVALUATE.format(factor=1)),
            {"search space.callable.evaluate": write("judging_code.py", EVALUATE.format(factor=2))},
            daily=True,
        ),
        "networks": Scene(
            SEARCH
            | {
                "space": {
                    "models": WORDS
                    | {
                        "encoding": {"tokenizer": "tokens"},
                        "training": {
                            "model": "bags:bag",
                            "model_settings": {"shift": "shift.txt"},
                            "steps": 2,
                            "batch_size": 16,
                        },
                        "positions": {"width": [1, 2, 3], "scale": ["one.txt", "two.txt"]},
                    }
                }
            },
            all_of(
                words(0),
                tokenizer("tokens", 40),
                write("bags.py", BAG.format(width=2)),
                write("shift.txt", "1"),
                write("one.txt", "1"),
                write("two.txt", "2"),
            ),
            {
                "search space.models.source": words(1),
                "search space.models.encoding": tokenizer("tokens", 60),
                "search space.models.training.model": write("bags.py", BAG.format(width=3)),
                "search space.models.training.model_settings": write("shift.txt", "2"),
                "search space.models.positions": write("two.txt", "3"),
            },
        ),
        "random_pruning": of_arrays("random_pruning", ["magnitude"], widths=[4], epochs=1, batch_size=16),
        "differentiable_pruning": of_arrays("differentiable_pruning", ["one_shot"], width=4, epochs=2),
        "channel_refits": of_arrays("channel_refits", ["fine_tune"], width=4, epochs=4),
        "weight_refits": of_arrays("weight_refits", ["fine_tune"], width=4, epochs=4),
        "head_pruning": Scene(
            pruning(
                "head_pruning",
                0.9,
                model="copier",
                haystack="hay.txt",
                needle="s1 s2 s3 s4 s5",
                question="s1",
                lengths=[24],
                depths=3,
                repeats=1,
                new_tokens=5,
            ),
            all_of(copied, write("hay.txt", hay)),
            {
                "head_pruning model": nudged("copier/model.safetensors"),
                "head_pruning haystack": write("hay.txt", hay.replace("s10", "s9")),
            },
        ),
        "prompt_pruning": Scene(
            pruning(
                "prompt_pruning",
                0.5,
                model="copier",
                template="s5 s6 s7 s8 {text}",
                verbalisers=["s0", "s1"],
                examples="examples.jsonl",
                population=2,
                offspring=2,
                passes=60,
                fitness_examples=4,
                rerank_examples=8,
                elites=1,
            ),
            all_of(copied, write("examples.jsonl", lines)),
            {
                "prompt_pruning model": nudged("copier/model.safetensors"),
                "prompt_pruning examples": write("examples.jsonl", lines.replace("s7", "s8")),
            },
        ),
    }
