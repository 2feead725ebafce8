"""The kept part of each kind of target: written, verified, applied from the shell, and used."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import polars as pl
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from sample_tables import study_manifest
from small_studies import REST
from typer.testing import CliRunner

from secateur.pipelines.commands.main import app
from secateur.pipelines.manifests import croissant
from secateur.pipelines.manifests.choices import Choices
from secateur.pipelines.manifests.document import ManifestError
from secateur.pipelines.manifests.manifest import Manifest
from secateur.pipelines.manifests.masks import Masks
from secateur.pipelines.manifests.provenance import Provenance
from secateur.scorers.architectures.encoding import ArchitectureSpace, Position
from secateur.trainers.experiments.channel_refits import ChannelRefits
from secateur.trainers.experiments.delta_pruning import LARGE, PRETRAINED, DeltaPruning, Pruning, read_digits
from secateur.trainers.experiments.pruning_data import splits_in
from secateur.trainers.models.identity import shapes_of
from secateur.trainers.models.registry import load as load_model
from secateur.trainers.pruning.channels import CUTS, remove_channels
from secateur.trainers.pruning.kept import Kept


def secateur(*words: object) -> dict[str, Any]:
    """The answer of a command."""
    done = CliRunner().invoke(app, [*map(str, words), "--json"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def refused(message: str, *words: object) -> None:
    """The command names the reason and writes nothing to the path of `-o`."""
    done = CliRunner().invoke(app, [*map(str, words)])
    assert isinstance(done.exception, ManifestError), done.output
    assert message in str(done.exception)
    assert not Path(str(words[words.index("-o") + 1])).exists()


def provenance(budget: int, **more: Any) -> Provenance:
    told = {"dataset": "d", "revision": "", "selection": "s", "selector": "top", "selector_version": "1"}
    return Provenance(**(told | {"settings": {}, "keep": budget, "budget": budget, "seed": 0} | more))  # type: ignore[arg-type]


# --- rows


TEXTS = [f'tickét "{row}", {"x" * (row % 4)}' for row in range(40)]
MOODS = ["good", "bad", "neither"]
COLUMNS = "{text: text, label: mood}"


def save(table: pl.DataFrame, path: Path) -> None:
    """A file, or a folder of `datasets`, that holds the table."""
    writers: dict[str, Callable[[], Any]] = {
        ".csv": lambda: table.write_csv(path),
        ".tsv": lambda: table.write_csv(path, separator="\t"),
        ".parquet": lambda: table.write_parquet(path),
        ".jsonl": lambda: table.write_ndjson(path),
        "": lambda: datasets.Dataset.from_dict(table.to_dict(as_series=False)).save_to_disk(path),
    }
    writers[path.suffix]()


def read(path: Path) -> list[dict[str, Any]]:
    readers: dict[str, Callable[[], pl.DataFrame]] = {
        ".csv": lambda: pl.read_csv(path),
        ".tsv": lambda: pl.read_csv(path, separator="\t"),
        ".parquet": lambda: pl.read_parquet(path),
        ".jsonl": lambda: pl.read_ndjson(path),
        "": lambda: pl.DataFrame(datasets.load_from_disk(str(path)).to_dict()),
    }
    return readers[path.suffix]().to_dicts()


@pytest.fixture
def tickets(tmp_path: Path) -> tuple[pl.DataFrame, Path]:
    """A table of texts, labels that are words, and an unused number; a manifest of rows of a study of it."""
    table = pl.DataFrame(
        {"id": range(40), "text": TEXTS, "mood": [MOODS[row % 3] for row in range(40)], "weight": np.arange(40) / 4}
    )
    save(table, tmp_path / "tickets.csv")
    source = "{kind: csv, train: tickets.csv, test_fraction: 0.25, label_names: [good, bad, neither]}"
    study = f"name: tickets\nsource: {source}\ncolumns: {COLUMNS}\n{REST}"
    _, manifest = study_manifest(study, tmp_path, lambda samples: samples["row"] % 2 == 0)
    return table.filter(pl.col("id").is_in(manifest.rows)), tmp_path


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".parquet", ".jsonl", ""])
def test_rows_of_a_file_stay_in_its_format(tickets: tuple[pl.DataFrame, Path], ending: str) -> None:
    kept, folder = tickets
    manifest, count = folder / "manifest", len(kept)
    assert secateur("verify", manifest)["count"] == count < 20
    whole = pl.DataFrame(read(folder / "tickets.csv")).sample(fraction=1.0, shuffle=True, seed=1)
    save(whole, folder / f"moved{ending}")
    answer = secateur("apply", manifest, folder / f"moved{ending}", "-o", folder / f"kept{ending}")
    assert answer == {
        "output": str(folder / f"kept{ending}"),
        "unit": "sample",
        "kept": count,
        "of": len(pl.read_parquet(folder / "prepared" / "samples.parquet")),
    }
    expected = [row for row in whole.to_dicts() if row["id"] in set(kept["id"])]
    assert read(folder / f"kept{ending}") == expected
    save(whole.head(20), folder / f"less{ending}")
    refused(
        "not made from this data", "apply", folder / "manifest", folder / f"less{ending}", "-o", folder / f"no{ending}"
    )


def test_one_of_several_files_is_counted_by_itself(tmp_path: Path) -> None:
    (tmp_path / "rows").mkdir()
    for name, first, last in (("a", 0, 30), ("b", 30, 80)):
        rows = range(first, last)
        pl.DataFrame(
            {"id": rows, "text": [f"text {row}" for row in rows], "mood": [row % 2 for row in rows]}
        ).write_csv(tmp_path / "rows" / f"{name}.csv")
    study = f"name: s\nsource: {{kind: csv, train: rows/*.csv, test_fraction: 0.25}}\ncolumns: {COLUMNS}\n{REST}"
    _, manifest = study_manifest(study, tmp_path, lambda samples: samples["row"] % 3 == 0)
    counts = {name: manifest.places["file"].str.ends_with(f"{name}.csv").sum() for name in "ab"}
    assert min(counts.values()) > 0
    for name, of in (("a", 30), ("b", 50)):
        given, output = tmp_path / "rows" / f"{name}.csv", tmp_path / f"{name}.csv"
        answer = secateur("apply", tmp_path / "manifest", given, "-o", output)
        assert (answer["kept"], answer["of"]) == (counts[name], of)
        assert len(read(output)) == counts[name]
        output.unlink()
        done = CliRunner().invoke(app, ["apply", str(tmp_path / "manifest"), str(given), "-o", str(output)])
        told = f"{counts[name]} of {of} rows of {given} stay in {output}; the manifest keeps "
        assert "".join(done.stdout.split()) == f"{told}{sum(counts.values())} samples of 2 files".replace(" ", "")
    part = pl.read_csv(tmp_path / "rows" / "a.csv").head(5)
    with pytest.raises(ManifestError, match="rows of all 2 files of the manifest together, or the path of one of them"):
        manifest.apply(part)


def test_files_that_are_no_rows_are_refused(tickets: tuple[pl.DataFrame, Path]) -> None:
    _, folder = tickets
    (folder / "rows.xml").write_text("<row/>")
    refused(
        "samples are applied without tuned",
        "apply",
        folder / "manifest",
        folder / "x",
        "--tuned",
        "y",
        "-o",
        folder / "no",
    )
    refused("rows are read from .parquet", "apply", folder / "manifest", folder / "rows.xml", "-o", folder / "no")
    refused("there is no file or folder", "apply", folder / "manifest", folder / "absent.csv", "-o", folder / "no.csv")
    (folder / "other.csv").write_text("a,b\n1,2\n")
    refused("there is no column 'text'", "apply", folder / "manifest", folder / "other.csv", "-o", folder / "no.csv")


def test_outputs_that_cannot_be_are_refused(tickets: tuple[pl.DataFrame, Path]) -> None:
    _, folder = tickets
    there, table = folder / "there.csv", folder / "tickets.csv"
    there.touch()
    done = CliRunner().invoke(app, ["apply", str(folder / "manifest"), str(table), "-o", str(there)])
    assert isinstance(done.exception, ManifestError)
    assert "there.csv exists already: name another path" in str(done.exception)
    assert not there.read_bytes()
    said = "let its name end in .csv or .tsv"
    refused(said, "apply", folder / "manifest", table, "-o", folder / "kept.parquet")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"hash_rows": ["text"]}, "hash_rows is a mapping of columns or a function, not ['text']"),
        ({"output": 5}, "output is the path to write"),
        ({"colour": "red"}, "samples are applied without colour"),
        ({}, "name the file to write as output"),
    ],
)
def test_wrong_arguments_are_one_sentence(
    tickets: tuple[pl.DataFrame, Path], settings: dict[str, Any], said: str
) -> None:
    folder = tickets[1]
    with pytest.raises(ManifestError) as fault:
        Manifest.load(folder / "manifest").apply(folder / "tickets.csv", **settings)
    assert said in str(fault.value)


# --- channels


def quiet(done: int, total: int) -> None:
    """Progress that nobody watches."""


@pytest.fixture(scope="module")
def channels(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The prepared folder of an experiment on channels, and the manifest of an arm."""
    folder = tmp_path_factory.mktemp("channels")
    experiment = ChannelRefits(width=8, epochs=2, batch_size=256)
    (folder / "prepared").mkdir()
    experiment.prepare(0, folder / "prepared", quiet)
    kept = experiment.run("fine_tune_tuned", 0.4, 0, folder / "prepared", quiet).kept
    assert kept is not None
    Manifest.write(folder / "m", Masks.of(kept), provenance(kept.count))
    return folder / "prepared", folder / "m"


def test_channels_make_the_checkpoint_of_the_smaller_network(channels: tuple[Path, Path], tmp_path: Path) -> None:
    prepared, manifest = channels
    checkpoint = next(prepared.rglob("model.safetensors"))
    assert secateur("verify", manifest)["unit"] == "channel"
    secateur("apply", manifest, checkpoint, "-o", tmp_path / "small.safetensors")
    big = load_model(checkpoint.parent)
    example = torch.as_tensor(splits_in(prepared / "data.npz")[1].inputs[:5])
    smaller = remove_channels(big, Manifest.load(manifest).kept, example)
    expected, cut = smaller.state_dict(), load_file(tmp_path / "small.safetensors")
    assert cut.keys() == expected.keys()
    assert all(torch.equal(cut[name], value) for name, value in expected.items())
    before = smaller(example)
    for value in smaller.state_dict().values():
        value.zero_()
    smaller.load_state_dict(cut)
    assert torch.equal(smaller(example), before)
    other = {name: value + 1 for name, value in load_file(checkpoint).items()}
    save_file(other, tmp_path / "other.safetensors")
    refused("another model", "apply", manifest, tmp_path / "other.safetensors", "-o", tmp_path / "no.safetensors")
    (tmp_path / "text").write_text("text")
    refused("no safetensors file", "apply", manifest, tmp_path / "text", "-o", tmp_path / "no.safetensors")


# --- deltas


def normal(seed: int, shapes: dict[str, tuple[int, ...]], scale: float = 1.0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: scale * torch.randn(shape, generator=generator) for name, shape in shapes.items()}


SHAPES: dict[str, tuple[int, ...]] = {"a.weight": (24, 31), "a[0].bias": (24,), "scale": (), "running_mean": (24,)}


@pytest.fixture
def checkpoints(tmp_path: Path) -> Path:
    """A base, a fine-tuned folder with a new classifier, and a LoRA adapter of the base."""
    base = normal(0, SHAPES)
    save_file(base, tmp_path / "base.safetensors")
    (tmp_path / "tuned").mkdir()
    tuned = {name: value + 0.1 * normal(1, SHAPES)[name] for name, value in base.items()}
    save_file(tuned | {"head": torch.ones(3)}, tmp_path / "tuned" / "model.safetensors", {"format": "pt"})
    (tmp_path / "tuned" / "config.json").write_text("{}")
    (tmp_path / "adapter").mkdir()
    factors = {"a.lora_A.weight": (4, 31), "a.lora_B.weight": (24, 4)}
    save_file(
        {f"base_model.model.{name}": each for name, each in normal(2, factors).items()},
        tmp_path / "adapter" / "adapter_model.safetensors",
    )
    (tmp_path / "adapter" / "adapter_config.json").write_text('{"peft_type": "LORA", "lora_alpha": 8}')
    return tmp_path


@pytest.mark.parametrize(
    ("tuned", "options"),
    [
        ("tuned", ["--keep", 0.2, "--leave", "head"]),
        ("tuned", ["--keep", 0.3, "--leave", "head", "--by", "magnitude", "--over", "row"]),
        ("adapter", ["--keep", 0.5]),
        ("adapter", ["--keep", 0.5, "--factors"]),
    ],
)
def test_deltas_applied_give_the_same_bytes(checkpoints: Path, tuned: str, options: list[object]) -> None:
    base, fine, out, again = (checkpoints / name for name in ("base.safetensors", tuned, "out", "again"))
    told = secateur("deltas", base, fine, *options, "-o", out)
    assert secateur("verify", out)["count"] == told["kept"]
    target = [fine] if "--factors" in options else [base, "--tuned", fine]
    secateur("apply", out, *target, "-o", again)
    written = {path.name: path.read_bytes() for path in out.iterdir()}
    assert {path.name: path.read_bytes() for path in again.iterdir()} == {
        name: content for name, content in written.items() if name not in ("manifest.json", "kept.safetensors")
    }
    other = {name: value + 1 for name, value in load_file(next(fine.glob("*.safetensors"))).items()}
    save_file(other, next(fine.glob("*.safetensors")))
    refused("another base or another fine-tuning", "apply", out, *target, "-o", checkpoints / "no")


def test_deltas_without_their_other_side_are_refused(checkpoints: Path) -> None:
    base, fine, out = (checkpoints / name for name in ("base.safetensors", "tuned", "out"))
    secateur("deltas", base, fine, "--keep", 0.2, "--leave", "head", "-o", out)
    refused("a delta has two sides", "apply", out, base, "-o", checkpoints / "no")
    refused("deltas are applied without model", "apply", out, base, "--model", "x", "-o", checkpoints / "no")
    save_file({"a.weight": torch.ones(3)}, checkpoints / "small.safetensors")
    small = checkpoints / "small.safetensors"
    refused("lacks tensors of the manifest", "apply", out, small, "--tuned", fine, "-o", checkpoints / "no")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda folder: (folder / "tuned.safetensors").unlink(), "there is no file"),
        (lambda folder: (folder / "tuned.safetensors").write_bytes(b""), "has 0 bytes"),
        (lambda folder: (folder / "config.json").write_text('{"a": 1}'), "config.json has 8 bytes, but 2"),
        (lambda folder: (folder / "config.json").write_text("[]"), "config.json was changed"),
    ],
)
def test_a_change_beside_the_masks_is_found(checkpoints: Path, change: Callable[[Path], object], said: str) -> None:
    (checkpoints / "tuned" / "model.safetensors").rename(checkpoints / "tuned" / "tuned.safetensors")
    out = checkpoints / "out"
    secateur(
        "deltas", checkpoints / "base.safetensors", checkpoints / "tuned", "--keep", 0.2, "--leave", "head", "-o", out
    )
    change(out)
    with pytest.raises(ManifestError, match=said):
        Manifest.load(out)


def test_deltas_of_an_experiment_make_the_model_that_it_judged(tmp_path: Path) -> None:
    experiment = DeltaPruning(width=16, layers=1, epochs=1, tuning_epochs=1, draws=1)
    (tmp_path / "prepared").mkdir()
    experiment.prepare(0, tmp_path / "prepared", quiet)
    kept = experiment.run("random", 0.25, 0, tmp_path / "prepared", quiet).kept
    assert kept is not None
    Manifest.write(tmp_path / "m", Masks.of(kept), provenance(kept.count, keep=0.25))
    base, tuned, small = (tmp_path / "prepared" / f"{name}.safetensors" for name in (PRETRAINED, LARGE, "tuned_small"))
    secateur("apply", tmp_path / "m", base, "--tuned", tuned, "-o", tmp_path / "out")
    digits = read_digits()
    states = load_file(base), load_file(tuned)
    pruning = Pruning(experiment.model(states[1], digits.turned), *states, 0.25, digits, 1)
    pruning.apply(kept.groups, pruning.uniform(0.25))
    written = load_file(tmp_path / "out" / tuned.name)
    assert all(torch.equal(written[name], value) for name, value in pruning.model.state_dict().items())
    refused("another base", "apply", tmp_path / "m", base, "--tuned", small, "-o", tmp_path / "no")
    refused("another base", "apply", tmp_path / "m", small, "--tuned", tuned, "-o", tmp_path / "no")


# --- choices


@pytest.fixture
def space(tmp_path: Path) -> Path:
    """A manifest of a space of two positions, one of them with a choice that no feature encodes."""
    positions = (Position("edge", ("none", "skip", "conv"), silent=True), Position("width", ("8", "16", "32")))
    whole = ArchitectureSpace.product(positions)
    alive = np.array([False, True, True, False, True])
    choices = Choices.of(whole, alive, np.arange(5) / 2)
    Manifest.write(tmp_path / "m", choices, provenance(3))
    return tmp_path


def test_choices_that_are_left_come_as_yaml_and_json(space: Path) -> None:
    positions = {"edge": ["none", "skip", "conv"], "width": [8, 16, 32]}
    left = {"edge": ["none", "conv"], "width": [8, 32]}
    assert secateur("verify", space / "m")["of"] == 5
    assert Manifest.load(space / "m").apply(positions) == left
    study = {"kind": "search", "name": "s", "space": {"callable": {"evaluate": "a:b", "positions": positions}}}
    (space / "study.yaml").write_text(yaml.safe_dump(study))
    secateur("apply", space / "m", space / "study.yaml", "-o", space / "left.yaml")
    assert yaml.safe_load((space / "left.yaml").read_text()) == left
    (space / "positions.json").write_text(json.dumps(positions))
    secateur("apply", space / "m", space / "positions.json", "-o", space / "left.json")
    assert json.loads((space / "left.json").read_text()) == left


def test_choices_of_a_table_are_read_from_its_columns(space: Path) -> None:
    pl.DataFrame({"a": ["x", "y", "z"], "accuracy": [1.0, 2.0, 3.0]}).write_csv(space / "table.csv")
    whole = ArchitectureSpace.product((Position("a", ("x", "y", "z")),))
    Manifest.write(space / "of_table", Choices.of(whole, np.array([True, False, True]), np.zeros(3)), provenance(2))
    table = {"path": "table.csv", "positions": ["a"], "accuracy": "accuracy"}
    (space / "study.yaml").write_text(yaml.safe_dump({"kind": "search", "name": "s", "space": {"table": table}}))
    secateur("apply", space / "of_table", space / "study.yaml", "-o", space / "left.json")
    assert json.loads((space / "left.json").read_text()) == {"a": ["x", "z"]}


def test_other_spaces_are_refused(space: Path) -> None:
    (space / "other.json").write_text(json.dumps({"edge": ["skip", "conv"], "width": [8, 16, 32]}))
    refused("of another search space", "apply", space / "m", space / "other.json", "-o", space / "no.json")
    (space / "list.json").write_text("[1]")
    refused("no mapping of positions", "apply", space / "m", space / "list.json", "-o", space / "no.json")
    manifest = Manifest.load(space / "m")
    with pytest.raises(ManifestError, match="m keeps choices, and only rows"):
        manifest.keep()
    with pytest.raises(ManifestError, match="keeps choices, which are no mask"):
        manifest.kept  # noqa: B018


@pytest.mark.parametrize(
    ("keys", "value", "said"),
    [
        (("payload", "positions", 1, "choices", 1, "kept"), True, "count: its choices give 4, it says 3"),
        (("payload", "positions", 1, "choices", 1, "kept"), 1, "kept: Input should be a valid boolean"),
        (("payload", "positions", 1, "choices", 1, "name"), "17", "made_for"),
        (("payload", "positions", 1, "name"), "edge", "names of their own"),
        (("payload", "positions"), [], "positions"),
        (("payload", "surprise"), 1, "surprise"),
        (("count",), 4, "4 choices are kept, but the budget is 3"),
        (("provenance", "budget"), 4, "3 choices are kept, but the budget is 4"),
        (("unit",), "sample", "its unit is 'sample', its payload is of choice"),
        (("files",), {"kept.parquet": {"bytes": 1, "sha256": "0" * 64}}, "must list no files"),
        (("kept",), False, "does not say that its choices are the kept ones"),
    ],
)
def test_lies_about_choices_are_found(space: Path, keys: tuple[Any, ...], value: Any, said: str) -> None:
    document = json.loads((space / "m" / "manifest.json").read_text())
    place = document["secateur"]
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = value
    document["secateur"]["root"] = croissant.root_of(document)
    (space / "m" / "manifest.json").write_bytes(croissant.serialise(document))
    with pytest.raises(ManifestError, match=said):
        Manifest.load(space / "m")


@pytest.mark.parametrize(
    ("cuts", "said"),
    [
        ([["0.weight", -5, 1]], "cannot be cut out of '0.weight'"),
        ([["0.weight", 2, 1]], "cannot be cut out of '0.weight'"),
        ([["0.weight", 0, 2]], "4 channels of '0' cannot be cut out of '0.weight', which is [4, 3]"),
        ([["0.bias", 0, 1], ["0.bias", 0, 1]], "cannot be cut out of '0.bias', which is [2]"),
        ([["absent", 0, 1]], "cannot be cut out of 'absent', which is []"),
        ([["0.weight", "x", 1]], "does not say which tensors lose the channels of '0'"),
        (None, "does not say which tensors lose the channels of '0'"),
    ],
)
def test_channels_are_cut_where_they_are_and_nowhere_else(tmp_path: Path, cuts: Any, said: str) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 2))
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    mask = np.array([True, False, True, False])
    kept = Kept("channel", {"0": mask}, shapes_of(model), {} if cuts is None else {CUTS: {"0": cuts}})
    Manifest.write(tmp_path / "m", Masks.of(kept), provenance(2))
    refused(said, "apply", tmp_path / "m", tmp_path / "model.safetensors", "-o", tmp_path / "no.safetensors")
