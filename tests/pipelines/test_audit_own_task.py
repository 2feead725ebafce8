"""An audit of a study whose own task yields the samples: by their pictures, texts or numbers, or as wholes."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
import yaml

from secateur.pipelines.audits.auditing import Audited, How, audited
from secateur.pipelines.audits.of_own_task import own_task_rows
from secateur.pipelines.manifests.manifest import Manifest
from secateur.trainers.tasks.contract import Metric
from secateur.trainers.tasks.own import OwnTask
from tests.support.shell_here import secateur_here

CODE = '''
import numpy as np
import torch
from torch import nn

from secateur.trainers.tasks.contract import Metric
from secateur.trainers.tasks.own import OwnTask


def drawn(rng):
    """A smooth picture of three channels, and where its brightest point is."""
    coarse = torch.tensor(rng.normal(size=(1, 3, 4, 4)), dtype=torch.float32)
    picture = nn.functional.interpolate(coarse, size=(24, 24), mode="bicubic")[0].numpy()
    return {"picture": picture, "point": np.array(np.unravel_index(picture[0].argmax(), (24, 24)), np.float32)}


class Points(OwnTask):
    metrics = (Metric("distance", higher_is_better=False),)

    def samples(self, split):
        train, test = ([drawn(np.random.default_rng((at, row))) for row in range(120)] for at in range(2))
        train[100] = dict(train[3])
        train[101] = {**train[4], "point": train[4]["point"] + 5}
        train[102] = {**train[5], "picture": (train[5]["picture"] * 1.001).astype(np.float32)}
        train[103] = {**train[6], "point": np.array([np.nan, 1], np.float32)}
        test[0], test[1] = dict(train[7]), {**train[8], "picture": (train[8]["picture"] * 1.001).astype(np.float32)}
        return {"train": train, "test": test}[split]

    def ids(self, split):
        return [f"{split}-{row}.png" for row in range(120)]

    def model(self):
        return Network(nn.Flatten(), nn.Linear(3 * 24 * 24, 2))

    def losses(self, outputs, batch):
        return ((outputs - batch["point"]) ** 2).mean(1)

    def measure(self, model, batches):
        return {"distance": float(np.mean([self.losses(model(batch), batch).mean().item() for batch in batches]))}


class Network(nn.Sequential):
    def forward(self, batch):
        return super().forward(batch["picture"])
'''
STUDY = {
    "name": "points", "task": "points_of_test:Points", "proxy": {"epochs": 1}, "scores": {"loss": None},
    "selections": {"easiest": {"selector": "top", "score": "loss", "end": "low"}}, "keep": [0.5],
    "training": {"steps": 1}, "seeds": 1,
}  # fmt: skip


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a study of pictures and points, where its task is found."""
    (tmp_path / "points_of_test.py").write_text(CODE)
    (tmp_path / "points.yaml").write_text(yaml.safe_dump(STUDY))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    yield tmp_path
    sys.modules.pop("points_of_test", None)


def shell(place: Path, *words: str) -> tuple[int, dict[str, Any], str]:
    """Exit code, printed JSON, and standard error."""
    done = secateur_here("audit", str(place / "points.yaml"), *words, "--json", SECATEUR_HOME=str(place / "home"))
    return done.returncode, json.loads(done.stdout) if done.stdout else {}, done.stderr


def test_a_study_of_ones_own_task_is_audited_by_its_pictures(place: Path) -> None:
    code, answer, errors = shell(place, "--max-leaks", "1")
    assert code == 1, errors
    assert answer["rows"] == {"train": 120, "test": 120}
    told = {(one["kind"], one["split"]): sorted(row for _, row in one["rows"]) for one in answer["findings"]}
    assert told["leaked", "test"] == [0]
    assert told["near leaked", "test"] == [1]
    assert told["duplicates", "train"] == [3, 4, 100, 101]
    assert told["near duplicates", "train"] == [5, 102]
    assert told["conflicts", "train"] == [4, 101]
    assert told["unreadable", "train"] == [103]
    assert (answer["leaks"], answer["duplicates"], answer["wrong_labels"]) == (2, 3, {})
    assert "only the study's own task can recognise a wrong target" in answer["labels_not_looked_at"]
    assert "samples of the study's own task are compared by 'picture', a picture in each" in answer["notes"]
    folder = Path(answer["files"]["folder"])
    assert (folder / "audit.html").read_text().count("data:image/") >= 8
    lines = pl.read_parquet(folder / "findings.parquet").filter(pl.col("finding") == "near leaked")
    assert lines.select("file", "row", "id", "other_file", "other_row").rows() == [
        ("test", 1, "test-1.png", "train", 8)
    ]
    manifest = Manifest.load(folder / "manifests" / "deduplicated")
    assert sorted(set(range(120)) - set(manifest.rows.tolist())) == [100, 101, 102]
    assert (folder / "fiftyone" / "labels.json").is_file()
    (place / "points_of_test.py").write_text(CODE.replace("test[0], test[1] =", "_, _ ="))
    sys.modules.pop("points_of_test")
    assert shell(place, "--max-leaks", "0")[0] == 0  # the code of the task has changed, so the audit is made again


class Given(OwnTask):
    """A task with a test's samples."""

    metrics = (Metric("distance", higher_is_better=False),)

    def __init__(self, train: list[Any], test: list[Any]) -> None:
        self.held = {"train": train, "test": test}

    def samples(self, split: str) -> list[Any]:
        return self.held[split]

    def shown(self, target: Any) -> str:
        return f"a sample of {len(target)}"

    def model(self) -> Any:
        raise NotImplementedError

    losses = measure = model


def looked_at(train: list[Any], test: list[Any], folder: Path) -> Audited:
    """An audit of these samples."""
    rows = own_task_rows("given", Given(train, test), folder)
    return audited(rows, How(near=not rows.whole))


def rows_in(audit: Audited, kind: str, split: str) -> list[int]:
    """Rows of a finding, ascending."""
    found = [one for one in audit.findings if (one["kind"], one["split"]) == (kind, split)]
    return sorted(row for one in found for _, row in one["rows"])


def test_samples_with_a_text_are_compared_by_it(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    texts = [" ".join(f"w{word}" for word in rng.integers(0, 300, 12)) for _ in range(150)]
    train = [(text, torch.tensor([float(row), 1.0])) for row, text in enumerate(texts[:100])]
    test = [(text, torch.tensor([0.0, 1.0])) for text in (f"{texts[4]} indeed", texts[9], *texts[100:])]
    found = looked_at([*train, (" ", torch.zeros(2))], test, tmp_path)
    assert rows_in(found, "near leaked", "test") == [0]
    assert rows_in(found, "leaked", "test") == [1]
    assert rows_in(found, "unreadable", "train") == [100]
    assert found.contamination["test"]["overlap_13"] == 2


def test_samples_of_numbers_are_compared_as_a_table_is(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(600, 6)).astype(np.float32)
    train = [{"x": torch.tensor(row), "flag": 1} for row in values]
    test = [{"x": values[7] + np.float32(1e-4), "flag": 1}, {"x": values[9], "flag": 1}, {"x": -values[20], "flag": 1}]
    found = looked_at(train, test, tmp_path)
    assert rows_in(found, "near leaked", "test") == [0]
    assert rows_in(found, "leaked", "test") == [1]
    assert "column 'flag' holds 1.0 in every training row" in [one["text"] for one in found.findings]


def test_samples_of_no_common_shape_are_compared_whole(tmp_path: Path) -> None:
    """Boxes, some in every sample; only equality counts, and their texts on pages cause no oddity."""
    rng = np.random.default_rng(0)
    boxes = [rng.random((rng.integers(1, 4), 4)).astype(np.float32) for _ in range(60)]
    found = looked_at([*boxes, boxes[2]], [boxes[5], rng.random((2, 4))], tmp_path)
    assert [(one["kind"], one["split"]) for one in found.findings] == [("leaked", "test"), ("duplicates", "train")]
    assert rows_in(found, "duplicates", "train") == [2, 60]
    assert found.lines["text"][0].startswith("a sample of ")
    assert "are compared whole" in found.rows.notes[0]


def test_what_has_no_bytes_of_its_own_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="train samples from 0 on: a object has no bytes"):
        own_task_rows("given", Given([{"x": object()}], [{"x": 1}]), tmp_path)
