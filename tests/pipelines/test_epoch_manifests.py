"""Manifests of selections in training: from the user's file through a study to each epoch; errors."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import datasets
import numpy as np
import pandas as pd
import polars as pl
import pyarrow.parquet as pq
import pytest
import yaml
from torch.utils.data import DataLoader, Dataset
from typer.testing import CliRunner

from secateur.pipelines.commands.main import app
from secateur.pipelines.manifests.document import ManifestError
from secateur.pipelines.manifests.explain import explain, over_epochs
from secateur.pipelines.manifests.manifest import Manifest
from secateur.pipelines.materialise import run_study
from secateur.pipelines.studies.files import StudyFile, load_study
from secateur.pipelines.studies.grid import Trial
from secateur.trainers.loop.run import Run

COUNT, BATCH = 130, 16
CONTENT: dict[str, Any] = {
    "name": "calls",
    "source": {"kind": "csv", "train": "calls.csv", "test_fraction": 0.2},
    "columns": {"features": ["x", "y"], "label": "label"},
    "scores": {"grade": {"column": "grade", "high_means": "better"}},
    "selections": {
        "fresh": {"selector": "rs2"},
        "easy": {"selector": "info_batch", "budget": "own", "anneal_from": 0.75},
        "window": {"selector": "seta"},
        "growing": {"selector": "subset_schedule", "budget": "own", "score": "grade", "keeps": [0.2, 0.9]},
    },
    "training": {"model": "mlp", "model_settings": {"hidden": [4]}, "epochs": 4, "batch_size": BATCH},
    "keep": [0.4],
    "seeds": 1,
}


def table() -> pl.DataFrame:
    """Calls with a label in words, an id, and notes that a CSV has to quote."""
    random = np.random.default_rng(3)
    labels = random.integers(0, 2, COUNT)
    return pl.DataFrame(
        {
            "key": [f"c{row}" for row in range(COUNT)],
            "x": (random.normal(size=COUNT) + labels).round(4),
            "y": random.normal(size=COUNT).round(4),
            "note": [f'say "{row}",\nand more' for row in range(COUNT)],
            "label": ["yes" if label else "no" for label in labels],
            "grade": random.permutation(COUNT),
        }
    )


Batches = dict[str, list[tuple[list[int], list[float] | None]]]


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Batches]:
    """A finished study of all samplers, and ids and weights of each batch of its trainings, by trial."""
    folder, seen = tmp_path_factory.mktemp("calls"), Batches()
    table().write_csv(folder / "calls.csv")
    path = folder / "calls.yaml"
    path.write_text(yaml.safe_dump(CONTENT))
    plain = Run.passes

    def passes(run: Run, step: slice, parts: Any, stream: Any, ids: Any, targets: Any, weights: Any) -> Any:
        name = f"{type(run.sampler).__name__} {run.schedule.seed}" if run.sampler else "none"
        weighted = None if weights is None else weights[step].tolist()
        seen.setdefault(name, []).append((ids[step].tolist(), weighted))
        return plain(run, step, parts, stream, ids, targets, weights)

    with pytest.MonkeyPatch.context() as patch, dg.DagsterInstance.ephemeral() as instance:
        patch.setattr(Run, "passes", passes)
        trials = [Trial(name, 0) for name in (*NAMES, "uniform_random@0.4")]
        run_study(StudyFile(path, load_study(path)), folder / "assets", instance, trials=trials)
    return folder, seen


def place(folder: Path, selection: str) -> Path:
    return folder / "assets" / "calls" / "epoch_manifest" / selection / "0"


@pytest.fixture(scope="module")
def manifests(ran: tuple[Path, Batches]) -> dict[str, Manifest]:
    return {name: Manifest.load(place(ran[0], name)) for name in ("fresh@0.4", "easy@own", "window@0.4", "growing@own")}


NAMES = {"fresh@0.4": "Rs2", "easy@own": "InfoBatch", "window@0.4": "Seta", "growing@own": "SubsetSchedule"}


@pytest.mark.parametrize("trial", NAMES)
def test_a_replayed_epoch_is_the_batches_that_the_training_saw(
    trial: str, ran: tuple[Path, Batches], manifests: dict[str, Manifest]
) -> None:
    manifest, batches = manifests[trial], iter(ran[1][f"{NAMES[trial]} 0"])
    for epoch, size in enumerate(manifest.epochs.sizes):
        shown, start = manifest.epochs.shown(epoch), 0
        while start < size:
            ids, weights = next(batches)
            stop = start + len(ids)
            assert shown.rows[start:stop].tolist() == ids
            assert np.array_equal(
                np.ones(len(ids), np.float32) if shown.weights is None else shown.weights[start:stop],
                np.array(weights, np.float32),
            )
            start = stop
        assert start == size
    assert next(batches, None) is None
    source = manifest.provenance
    assert (source.selector, source.selector_version, source.seed) == (NAMES_OF[trial], "1", 0)
    assert manifest.declaration.payload.batch_size == BATCH


NAMES_OF = {"fresh@0.4": "rs2", "easy@own": "info_batch", "window@0.4": "seta", "growing@own": "subset_schedule"}


def test_settings_weights_and_lengths_are_those_of_each_sampler(manifests: dict[str, Manifest]) -> None:
    fresh, easy, growing = manifests["fresh@0.4"], manifests["easy@own"], manifests["growing@own"]
    of = fresh.declaration.of
    assert fresh.provenance.settings["keep"] == fresh.provenance.keep == 0.4
    assert set(fresh.epochs.sizes) == {fresh.provenance.budget} == {round(0.4 * of)}
    assert any(len(np.unique(fresh.epochs.shown(epoch).rows)) < fresh.epochs.sizes[epoch] for epoch in range(4))
    assert [fresh.epochs.shown(epoch).weights for epoch in range(4)] == [None] * 4
    heavy = easy.epochs.shown(1).weights
    assert heavy is not None
    assert heavy.max() > 1.5 > heavy.min() == 1
    assert heavy.sum() == pytest.approx(of, abs=1e-3)  # the weights of kept samples stand for the dropped ones
    assert easy.epochs.shown(3).weights is None
    assert growing.epochs.sizes == (round(0.2 * of),) * 2 + (round(0.9 * of),) * 2
    assert [card.name for card in growing.provenance.scores] == ["grade"]


def rows_of(folder: Path, manifest: Manifest, epoch: int) -> list[int]:
    """Rows of the user's file in the order of an epoch, from the study's table of samples."""
    samples = pl.read_parquet(folder / "assets" / "calls" / "samples.parquet")
    return samples["file_row"].to_numpy()[manifest.epochs.shown(epoch).rows].tolist()


class Pairs(Dataset[Any]):
    """A map-style data set of the file."""

    def __init__(self) -> None:
        self.table = table()

    def __len__(self) -> int:
        return COUNT

    def __getitem__(self, place: int) -> Any:
        row = self.table.row(place, named=True)
        return np.array([row["x"], row["y"]]), row["label"]


@pytest.mark.parametrize("trial", ["fresh@0.4", "easy@own"])
def test_an_epoch_is_applied_to_data_in_hand_in_the_order_of_training(
    trial: str, ran: tuple[Path, Batches], manifests: dict[str, Manifest]
) -> None:
    manifest, epoch = manifests[trial], 2
    rows = rows_of(ran[0], manifest, epoch)
    frame = pd.read_csv(ran[0] / "calls.csv")
    assert manifest.apply(frame, epoch=epoch).equals(frame.iloc[rows])
    assert manifest.apply(table(), epoch=epoch).equals(table()[rows])
    whole = datasets.Dataset.from_polars(table())
    assert manifest.apply(whole, epoch=epoch)["key"][:] == [f"c{row}" for row in rows]
    split = manifest.apply(datasets.DatasetDict(train=whole, test=whole.select(range(5))), epoch=epoch)
    assert split["train"]["key"][:] == [f"c{row}" for row in rows]
    assert split["test"].num_rows == 5
    subset = manifest.apply(Pairs(), epoch=epoch)
    assert subset.indices == rows
    shown = [label for _, labels in DataLoader(subset, BATCH) for label in labels]
    assert shown == table()["label"].gather(rows).to_list()
    moved = table().sample(fraction=1, shuffle=True, seed=0)
    assert manifest.apply(moved, epoch=epoch)["key"].to_list() == [f"c{row}" for row in rows]
    with pytest.raises(ManifestError, match=r"not made from this data: .* are missing"):
        manifest.apply(table().with_columns(pl.col("x") + 1), epoch=epoch)


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_the_shell_writes_an_epoch_of_a_file(
    kind: str, ran: tuple[Path, Batches], manifests: dict[str, Manifest], tmp_path: Path
) -> None:
    given, output = tmp_path / f"calls.{kind}", tmp_path / f"epoch.{kind}"
    if kind == "csv":  # its last record has no line end
        given.write_bytes((ran[0] / "calls.csv").read_bytes().rstrip(b"\n"))
    else:
        (table().write_ndjson if kind == "jsonl" else table().write_parquet)(given)
    words = ["apply", str(place(ran[0], "fresh@0.4")), str(given), "-o", str(output)]
    done = CliRunner().invoke(app, [*words, "--epoch", "2", "--json"])
    assert done.exit_code == 0, done.output
    rows = rows_of(ran[0], manifests["fresh@0.4"], 2)
    read = {"csv": pl.read_csv, "jsonl": pl.read_ndjson, "parquet": pl.read_parquet}[kind]
    assert read(output).equals(table()[rows])  # type: ignore[operator]
    output.unlink()
    refused = CliRunner().invoke(app, words)
    assert isinstance(refused.exception, ManifestError)
    assert "say which, epoch=0 … epoch=3 (--epoch)" in str(refused.exception)
    assert not output.exists()


def command(*words: object) -> Any:
    return CliRunner().invoke(app, [str(word) for word in words])


def test_export_takes_one_epoch_or_says_so(
    ran: tuple[Path, Batches], manifests: dict[str, Manifest], tmp_path: Path
) -> None:
    folder, manifest = place(ran[0], "easy@own"), manifests["easy@own"]
    refused = command("export", folder, "--to", "indices", "-o", tmp_path / "rows.npy")
    assert "other samples in each of its 4 epochs: name one (--epoch" in str(refused.exception)
    assert not (tmp_path / "rows.npy").exists()
    command("export", folder, "--to", "indices", "-o", tmp_path / "rows.npy", "--epoch", 1)
    rows = rows_of(ran[0], manifest, 1)
    assert np.load(tmp_path / "rows.npy").tolist() == sorted(rows)
    done = command("export", folder, "--to", "csv", "-o", tmp_path / "kept.csv", "--epoch", 1)
    assert done.exit_code == 0, done.output
    kept, shown = pl.read_csv(tmp_path / "kept.csv"), manifest.epochs.shown(1)
    assert shown.weights is not None
    by_row = dict(zip(shown.rows.tolist(), shown.weights.tolist(), strict=True))
    assert kept["weight"].to_list() == pytest.approx([by_row[row] for row in kept["row"]])
    assert len(set(by_row.values())) == 2
    words = ("--to", "text", "-o", tmp_path / "t.txt", "--epoch", 2, "--json")
    twice = command("export", place(ran[0], "fresh@0.4"), *words)
    assert "shows twice stand here once" in json.loads(twice.stdout)["warnings"][0]


def test_diff_and_explain_know_epochs(ran: tuple[Path, Batches], manifests: dict[str, Manifest]) -> None:
    folder, manifest = place(ran[0], "window@0.4"), manifests["window@0.4"]
    found = json.loads(command("diff", folder, folder, "--epoch", 0, "--epoch", 1, "--json").stdout)
    first, second = (set(manifest.epochs.shown(epoch).rows.tolist()) for epoch in (0, 1))
    assert (found["both"], found["only_a"]) == (len(first & second), len(first - second))
    assert command("diff", folder, folder, "--epoch", 2).exit_code == 0
    assert "name one (--epoch" in str(command("diff", folder, folder).exception)
    static = ran[0] / "assets" / "calls" / "manifest" / "uniform_random@0.4" / "0"
    assert "give one" in str(command("diff", folder, static, "--epoch", 0, "--epoch", 1).exception)
    assert "leave it out" in str(command("diff", static, static, "--epoch", 0).exception)
    row = int(manifest.epochs.shown(1).rows[0])
    of = [epoch for epoch in range(4) if row in manifest.epochs.shown(epoch).rows]
    told = explain(manifest, row, "nothing is known of it")
    assert told.shown_in == tuple(of)
    assert told.sentence.startswith(f"Shown in {len(of)} of 4 epochs ({', '.join(map(str, of))}): seta chooses anew")
    user_row = rows_of(ran[0], manifest, 1)[0]
    said = json.loads(command("explain", folder, user_row, "--json").stdout)
    assert (said["row"], said["shown_in"]) == (user_row, of)
    assert json.loads(command("explain", folder, user_row, "--epoch", 1, "--json").stdout)["kept"] is True
    assert over_epochs(manifest, row, "x").weight is None


def test_other_units_and_epochs_that_are_not_there_are_refused(
    ran: tuple[Path, Batches], manifests: dict[str, Manifest]
) -> None:
    static = Manifest.load(ran[0] / "assets" / "calls" / "manifest" / "uniform_random@0.4" / "0")
    with pytest.raises(
        ManifestError, match=r"keeps the same samples throughout: it has no epochs, leave the epoch out"
    ):
        static.at(0)
    with pytest.raises(ManifestError, match=r"applied without epoch: leave it out"):
        static.apply(table(), epoch=0)
    for wrong in (4, -1, True, 1.0, "1"):
        with pytest.raises(ManifestError, match=r"there is no epoch .*: its epochs are 0 … 3"):
            manifests["fresh@0.4"].apply(table(), epoch=wrong)
    note = command("verify", place(ran[0], "fresh@0.4"))
    assert "shown in 4 epochs of" in note.output


def test_the_file_opens_without_secateur_and_is_as_small_as_said(
    ran: tuple[Path, Batches], manifests: dict[str, Manifest]
) -> None:
    path = place(ran[0], "easy@own") / "epochs.parquet"
    frame = pd.read_parquet(path, filters=[("epoch", "==", 1)])
    shown = manifests["easy@own"].epochs.shown(1)
    assert frame["row"].tolist() == shown.rows.tolist()
    assert frame["weight"].tolist() == shown.weights.tolist()  # type: ignore[union-attr]
    assert list(frame.columns) == ["epoch", "row", "weight"]
    plain = pq.read_metadata(place(ran[0], "fresh@0.4") / "epochs.parquet")
    assert [plain.schema.column(place).name for place in range(2)] == ["epoch", "row"]


def changed(folder: Path, tmp_path: Path, **epochs: Any) -> Path:
    """A copy of a manifest with another file of epochs, sealed anew as a forger would."""
    from secateur.pipelines.manifests import croissant
    from secateur.pipelines.manifests.document import seals_of

    copy = tmp_path / f"copy{len(list(tmp_path.iterdir()))}"
    shutil.copytree(folder, copy)
    frame = pl.read_parquet(copy / "epochs.parquet").with_columns(**epochs)
    table, schema = frame.to_arrow(), pq.read_schema(copy / "epochs.parquet")
    pq.write_table(table.cast(schema), copy / "epochs.parquet", store_schema=False)
    document = json.loads((copy / "manifest.json").read_bytes())
    seals = {name: seal.model_dump() for name, seal in seals_of(copy).items()}
    document["secateur"]["files"] = seals
    for part in document["distribution"]:
        seal = seals[part["name"]]
        part |= {"contentSize": f"{seal['bytes']} B", "sha256": seal["sha256"]}
    document["version"] = f"1.0.0+{seals['kept.parquet']['sha256'][:12]}"
    document["secateur"]["root"] = croissant.root_of(document)
    (copy / "manifest.json").write_bytes(croissant.serialise(document))
    return copy


def test_a_forged_file_of_epochs_is_refused(ran: tuple[Path, Batches], tmp_path: Path) -> None:
    folder = place(ran[0], "easy@own")
    Manifest.load(changed(folder, tmp_path))
    for reason, change in {
        "do not have the lengths": {"epoch": pl.col("epoch").sort(descending=True)},
        "shows a row that is not among": {"row": pl.col("row") + COUNT},
        "lists samples that no epoch shows": {"row": pl.lit(pl.Series([0] * 1)).first().cast(pl.Int32)},
        "a weight is negative, NaN or infinite": {"weight": -pl.col("weight")},
    }.items():
        with pytest.raises(ManifestError, match=reason):
            Manifest.load(changed(folder, tmp_path, **change))
    short = tmp_path / "short"
    shutil.copytree(folder, short)
    (short / "epochs.parquet").write_bytes(b"PAR1")
    with pytest.raises(ManifestError, match=r"epochs\.parquet has 4 bytes"):
        Manifest.load(short)


def files(folder: Path) -> Iterator[tuple[str, bytes]]:
    return ((str(path.relative_to(folder)), path.read_bytes()) for path in sorted(folder.rglob("*")) if path.is_file())


class Killed(BaseException):
    """Like a kill: nothing catches it."""


def test_a_killed_training_goes_on_with_the_epochs_behind_it(
    ran: tuple[Path, Batches], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill in the third epoch of InfoBatch, after a snapshot: the same epochs result, and no file is left over."""
    from secateur.pipelines.runs import resumption

    monkeypatch.setattr(resumption, "EVERY_SECONDS", 1e-9)
    (tmp_path / "calls.csv").write_bytes((ran[0] / "calls.csv").read_bytes())
    path = tmp_path / "calls.yaml"
    only = {**CONTENT, "selections": {"easy": CONTENT["selections"]["easy"]}}
    path.write_text(yaml.safe_dump(only))
    plain, steps, root = Run.passes, [0], tmp_path / "assets"

    def passes(run: Run, *args: Any) -> Any:
        steps[0] += run.sampler is not None
        if steps[0] == 15:
            raise Killed
        return plain(run, *args)

    with dg.DagsterInstance.ephemeral() as instance:
        file = StudyFile(path, load_study(path))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Run, "passes", passes)
            with pytest.raises(BaseException):  # noqa: B017, PT011 - Dagster wraps it
                run_study(file, root, instance, trials=[Trial("easy@own", 0)])
        assert len(list(root.rglob("epochs/*.npz"))) == 3
        assert not place(tmp_path, "easy@own").exists()
        run_study(file, root, instance, trials=[Trial("easy@own", 0)])
    assert dict(files(place(tmp_path, "easy@own"))).keys() == dict(files(place(ran[0], "easy@own"))).keys()
    again, before = (Manifest.load(place(one, "easy@own")) for one in (tmp_path, ran[0]))
    assert again.epochs.sizes == before.epochs.sizes
    for epoch in range(4):
        assert again.epochs.shown(epoch).rows.tolist() == before.epochs.shown(epoch).rows.tolist()
    assert not list(root.rglob("*.npz"))
    assert not list((root / "calls" / ".snapshots").glob("*"))


def test_the_front_door_has_them(ran: tuple[Path, Batches]) -> None:
    from secateur.pipelines.front_door.results import Manifests
    from secateur.pipelines.storage.store import Store

    study = load_study(ran[0] / "calls.yaml")
    found = Manifests(Store(ran[0] / "assets"), study)
    assert found["fresh", 0.4].epochs.sizes
