"""Masks of units on disk: the same bytes, detected changes, hostile ones refused, and another model refused."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import nn
from typer.testing import CliRunner

from secateur.pipelines.commands.main import app
from secateur.pipelines.manifests import croissant
from secateur.pipelines.manifests.document import ManifestError
from secateur.pipelines.manifests.manifest import Manifest
from secateur.pipelines.manifests.masks import Masks
from secateur.pipelines.manifests.provenance import Provenance
from secateur.pipelines.storage.packed_masks import BITS, header
from secateur.trainers.pruning.held_masks import apply, kept_weights
from secateur.trainers.pruning.kept import Kept

KEPT = Kept(
    "head",
    {"layer 0": np.array([[True, False, True]]), "layer 1": np.array([[False, False, True]])},
    "tokens of β",
    {"factor": 0.5},
)


def provenance(budget: int) -> Provenance:
    return Provenance(
        dataset="d", revision="r", selection="er@0.1", selector="random_pruning.er", selector_version="1",
        settings={"width": 16}, keep=0.1, budget=budget, seed=0,
    )  # fmt: skip


@st.composite
def masks(draw: st.DrawFn) -> dict[str, np.ndarray]:
    names = draw(st.lists(st.text("ab.β0", min_size=1, max_size=6), min_size=1, max_size=4, unique=True))
    seed = draw(st.integers(0, 2**16))
    draws = np.random.default_rng(seed)
    shapes = [draw(st.lists(st.integers(1, 7), min_size=1, max_size=4)) for _ in names]
    found = {name: draws.random(shape) < 0.3 for name, shape in zip(names, shapes, strict=True)}
    next(iter(found.values())).flat[0] = True
    return found


@given(groups=masks())
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_masks_come_back_and_the_bytes_are_the_same(tmp_path: Path, groups: dict[str, np.ndarray]) -> None:
    kept = Kept("weight", groups, "shapes xxh3:0")
    first = Manifest.write(tmp_path / "m", Masks.of(kept), provenance(kept.count), overwrite=True)
    Manifest.write(tmp_path / "n", Masks.of(kept), provenance(kept.count), overwrite=True)
    for name in ("manifest.json", BITS):
        assert (tmp_path / "m" / name).read_bytes() == (tmp_path / "n" / name).read_bytes()
    again = Manifest.load(tmp_path / "m")
    again.verify()
    assert list(again.kept.groups) == list(groups)
    assert all(np.array_equal(again.kept.groups[name], mask) for name, mask in groups.items())
    assert again.declaration == first.declaration
    # Another reader: safetensors and NumPy alone.
    read = safetensors.numpy.load_file(tmp_path / "m" / BITS)
    counted = sum(int(np.unpackbits(bits).sum()) for bits in read.values())
    assert counted == kept.count == again.declaration.count


def test_few_units_are_listed_for_people_to_read(tmp_path: Path) -> None:
    Manifest.write(tmp_path / "m", Masks.of(KEPT), provenance(3))
    own = json.loads((tmp_path / "m" / "manifest.json").read_text())["secateur"]
    assert [group["listed"] for group in own["payload"]["groups"]] == [[[0, 0], [0, 2]], [[0, 2]]]
    assert (own["made_for"], own["payload"]["settings"]) == ("tokens of β", {"factor": 0.5})


@pytest.mark.parametrize(
    ("groups", "budget", "said"),
    [
        ({"a": np.array([1, 0])}, 1, "must be a bool array of units, it is int64"),
        ({"a": np.empty(0, bool)}, 1, "must be a bool array"),
        ({"a": np.array([False])}, 1, "0 weights are kept, but the budget is 1"),
        ({"a": np.array([True])}, 2, "1 weights are kept, but the budget is 2"),
        ({"a\n": np.array([True])}, 1, "name: String should match"),
        ({"__metadata__": np.array([True])}, 1, "cannot write"),
        ({}, 1, "at least 1 item"),
    ],
)
def test_what_is_no_mask_is_not_written(tmp_path: Path, groups: dict[str, Any], budget: int, said: str) -> None:
    with pytest.raises(ManifestError, match=said):
        Manifest.write(tmp_path / "m", Masks.of(Kept("weight", groups, "m")), provenance(budget))
    assert not (tmp_path / "m").exists()


def test_nothing_else_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "precious").write_text("precious")
    with pytest.raises(ManifestError, match="holds other things"):
        Manifest.write(tmp_path / "m", Masks.of(KEPT), provenance(3), overwrite=True)
    assert (tmp_path / "m" / "precious").read_text() == "precious"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "m"
    Manifest.write(folder, Masks.of(KEPT), provenance(3))
    return folder


@pytest.mark.parametrize("name", ["manifest.json", BITS])
def test_a_change_of_any_byte_is_found(whole: Path, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "m"
    shutil.copytree(whole, folder)
    content = (folder / name).read_bytes()
    for place in range(0, len(content), 7):
        (folder / name).write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(ManifestError):
            Manifest.load(folder)


def forged(document: dict[str, Any], bits: bytes) -> bytes:
    """The document as an attacker would write it: seals and root match."""
    try:
        document["secateur"]["files"] = {BITS: {"bytes": len(bits), "sha256": hashlib.sha256(bits).hexdigest()}}
        document["secateur"]["root"] = croissant.root_of(document)
        return croissant.serialise(document)
    except (TypeError, ValueError, KeyError):
        return json.dumps(document).encode()


NASTY = st.sampled_from(
    ["../x", "/etc/passwd", "kept.parquet", "__metadata__", "", "x" * 20_000, -1, 0, 2**39, 2**62, 2**64, 0.5, 1e308,
     True, False, None, [], {}, [[[]]], [2**39, 2**39], [[1, 2]], "f" * 32, "weight", "sample", "token"]
)  # fmt: skip


@st.composite
def tensors(draw: st.DrawFn) -> bytes:
    """Bytes of a safetensors file other than the written one, or of another format."""
    how = draw(st.sampled_from(["cut", "header", "padding", "extra", "order", "dtype", "empty"]))
    shapes: dict[str, tuple[int, ...]] = {"layer 0": (1, 3), "layer 1": (1, 3)}
    bits = [5, 4]
    if how == "padding":
        bits[draw(st.integers(0, 1))] += 2 ** draw(st.integers(3, 7))
    if how == "extra":
        shapes["extra"] = (8 * draw(st.integers(1, 9)),)
        bits += [0] * (shapes["extra"][0] // 8)
    if how == "order":
        shapes, bits = dict(reversed(shapes.items())), bits[::-1]
    content = header(shapes) + bytes(bits)
    if how == "dtype":
        content = content.replace(b'"U8"', draw(st.sampled_from([b'"I8"', b'"F8"'])))
    if how == "empty":
        content = content.replace(b"shapes", b"shaped")
    if how == "cut":
        return content[: draw(st.integers(0, len(content) - 1))]
    if how == "header":
        return draw(st.integers(0, 2**64 - 1)).to_bytes(8, "little") + content[8:]
    return content


@given(data=st.data())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_hostile_manifests_are_refused_in_one_sentence_or_whole(
    whole: Path, tmp_path: Path, data: st.DataObject
) -> None:
    document = json.loads((whole / "manifest.json").read_text())
    bits = (whole / BITS).read_bytes()
    if data.draw(st.booleans()):
        bits = data.draw(tensors())
    if data.draw(st.booleans()):
        own: Any = document["secateur"]
        key = data.draw(st.sampled_from(sorted(own)))
        if key == "payload" and data.draw(st.booleans()):
            own["payload"][data.draw(st.sampled_from(sorted(own["payload"])))] = data.draw(NASTY)
        elif key == "payload" and data.draw(st.booleans()):
            group = own["payload"]["groups"][data.draw(st.integers(0, 1))]
            group[data.draw(st.sampled_from(sorted(group)))] = data.draw(NASTY)
        else:
            own[key] = data.draw(NASTY)
    folder = tmp_path / "m"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    (folder / "manifest.json").write_bytes(forged(document, bits))
    (folder / BITS).write_bytes(bits)
    try:
        kept = Manifest.load(folder).kept
    except ManifestError as refused:
        sentence = str(refused)
    else:
        sentence = ""
        assert kept.count == 3
        assert all(np.array_equal(kept.groups[name], mask) for name, mask in KEPT.groups.items())
    assert "\n" not in sentence
    assert len(sentence) <= 600


@pytest.mark.parametrize(
    ("bits", "said"),
    [
        (header({"layer 0": (1, 3), "layer 1": (1, 3)}) + bytes([5, 4 + 8]), "bits behind the last unit of 'layer 1'"),
        (header({"layer 0": (1, 3), "layer 1": (1, 3)}) + bytes([5, 2]), "not what manifest.json counts and lists"),
        (header({"layer 0": (1, 3), "layer 1": (1, 3)}) + bytes([5, 6]), "not what manifest.json counts and lists"),
        (header({"layer 1": (1, 3), "layer 0": (1, 3)}) + bytes([4, 5]), "something besides the masks"),
        (header({"layer 0": (1, 3)}) + bytes([5]), "masks of these groups take"),
    ],
)
def test_masks_that_are_not_those_that_it_says_are_refused(whole: Path, tmp_path: Path, bits: bytes, said: str) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / BITS).write_bytes(bits)
    document = json.loads((whole / "manifest.json").read_text())
    (tmp_path / "m" / "manifest.json").write_bytes(forged(document, bits))
    with pytest.raises(ManifestError, match=said):
        Manifest.load(tmp_path / "m")


@pytest.mark.parametrize("unit", ["delta", "weight"])
@pytest.mark.parametrize("name", ["../x", "a/../../x", "/x", "link", "folder/x", ".x", "a\\x", "x\0", "kept.parquet"])
def test_files_beside_the_masks_that_are_not_there_are_refused(tmp_path: Path, unit: Any, name: str) -> None:
    kept = Kept(unit, {"a": np.array([True])}, "deltas xxh3:0")
    Manifest.write(tmp_path / "m", Masks.of(kept), provenance(1))
    (tmp_path / "x").write_bytes(b"precious")
    (tmp_path / "m" / "link").symlink_to(tmp_path / "x")
    (tmp_path / "m" / "folder").symlink_to(tmp_path)
    document = json.loads((tmp_path / "m" / "manifest.json").read_text())
    seal = {"bytes": 8, "sha256": hashlib.sha256(b"precious").hexdigest()}
    document["secateur"]["files"][name] = seal
    document["secateur"]["root"] = croissant.root_of(document)
    (tmp_path / "m" / "manifest.json").write_bytes(croissant.serialise(document))
    said = "no file|files|plain name|plain file|leads out" if unit == "delta" else "files|must list the file"
    with pytest.raises(ManifestError, match=said):
        Manifest.load(tmp_path / "m")


def test_links_are_not_followed(whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole, tmp_path / "m")
    (tmp_path / "m" / BITS).unlink()
    (tmp_path / "m" / BITS).symlink_to(whole / BITS)
    with pytest.raises(ManifestError, match="not a plain file"):
        Manifest.load(tmp_path / "m")


def model(width: int = 4, seed: int = 0) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(3, width), nn.BatchNorm1d(width), nn.Linear(width, 2))


@pytest.mark.parametrize("of_these_weights", [False, True])
def test_a_mask_loads_back_onto_its_model_and_no_other(tmp_path: Path, of_these_weights: bool) -> None:
    mask = np.arange(12).reshape(4, 3) % 3 == 0
    kept = kept_weights(model(), {"0.weight": mask}, of_these_weights=of_these_weights)
    loaded = Manifest.write(tmp_path / "m", Masks.of(kept), provenance(kept.count)).kept
    own = model()
    apply(own, loaded)
    assert np.array_equal((own[0].weight != 0).numpy(), mask)
    with pytest.raises(ValueError, match="another model"):
        apply(model(width=5), loaded)
    other = model(seed=1)
    if of_these_weights:
        with pytest.raises(ValueError, match="another model"):
            apply(other, loaded)
    else:
        apply(other, loaded)


def test_a_mask_is_applied_to_a_checkpoint_from_the_shell(tmp_path: Path) -> None:
    mask = np.arange(12).reshape(4, 3) % 3 == 0
    kept = kept_weights(model(), {"0.weight": mask})
    Manifest.write(tmp_path / "m", Masks.of(kept), provenance(kept.count))
    save_file(model().state_dict(), tmp_path / "model.safetensors")
    save_file(model(width=5).state_dict(), tmp_path / "other.safetensors")
    shell = CliRunner()
    done = shell.invoke(
        app, ["apply", str(tmp_path / "m"), str(tmp_path / "model.safetensors"), "-o", str(tmp_path / "p.safetensors")]
    )
    assert done.exit_code == 0, done.output
    pruned, plain = load_file(tmp_path / "p.safetensors"), model().state_dict()
    assert torch.equal(pruned["0.weight"], plain["0.weight"] * torch.from_numpy(mask))
    assert all(torch.equal(pruned[name], plain[name]) for name in plain if name != "0.weight")
    wrong = shell.invoke(
        app, ["apply", str(tmp_path / "m"), str(tmp_path / "other.safetensors"), "-o", str(tmp_path / "q.safetensors")]
    )
    assert isinstance(wrong.exception, ValueError)
    assert not (tmp_path / "q.safetensors").exists()
