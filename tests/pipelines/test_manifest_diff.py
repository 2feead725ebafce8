"""`secateur diff`: against sets of Python, and the exit codes of diff."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from secateur.pipelines.commands.main import app
from secateur.pipelines.manifests.diff import compare
from secateur.pipelines.manifests.document import ManifestError
from secateur.pipelines.manifests.manifest import Manifest
from secateur.pipelines.manifests.masks import Masks
from secateur.pipelines.manifests.provenance import Provenance
from secateur.pipelines.manifests.rows import Rows
from secateur.trainers.pruning.kept import Kept


def samples_of(contents: list[int]) -> pl.DataFrame:
    """A data set whose rows hold these numbers; the class is the number's parity."""
    rows = np.arange(len(contents), dtype=np.int64)
    hashes = [f"{content:032x}" for content in contents]
    return pl.DataFrame({"row": rows, "content_hash": hashes, "label": np.array(contents, np.int64) % 2})


def write(folder: Path, contents: list[int], kept: list[int], **changes: Any) -> Manifest:
    """A manifest that keeps these rows."""
    keep = np.zeros(len(contents), dtype=bool)
    keep[kept] = True
    said: dict[str, Any] = {"dataset": "numbers", "revision": "1", "selection": "top", "selector": "top"}
    said |= {"selector_version": "1", "settings": {"end": "high"}, "keep": len(kept), "budget": len(kept), "seed": 0}
    rows = Rows.chosen(samples_of(contents), keep, label_names=["even", "odd"])
    return Manifest.write(folder, rows, Provenance(**(said | changes)), overwrite=True)


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_matches_sets_and_multisets(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    folder = tmp_path_factory.mktemp("manifests")
    first = data.draw(st.lists(st.integers(0, 9), min_size=2, max_size=12))
    second = data.draw(st.one_of(st.just(first), st.permutations(first), st.lists(st.integers(0, 9), min_size=2)))
    chosen = [sorted(data.draw(st.sets(st.integers(0, len(rows) - 1), min_size=1))) for rows in (first, second)]
    a, b = write(folder / "a", first, chosen[0]), write(folder / "b", second, chosen[1])
    if first == second:
        expected = {"both": len(set(chosen[0]) & set(chosen[1]))}
        expected |= {"a": len(set(chosen[0]) - set(chosen[1])), "b": len(set(chosen[1]) - set(chosen[0]))}
    else:
        mine, theirs = (Counter(rows[row] for row in kept) for rows, kept in zip((first, second), chosen, strict=True))
        expected = {"both": (mine & theirs).total(), "a": (mine - theirs).total(), "b": (theirs - mine).total()}
        if not expected["both"]:
            with pytest.raises(ManifestError, match="no sample in common"):
                compare(a, b)
            return
    found = compare(a, b)
    assert {"both": found.both, "a": len(found.rows_only_a), "b": len(found.rows_only_b)} == expected
    assert found.matched_by == ("row" if first == second else "content hash")
    assert found.jaccard == pytest.approx(expected["both"] / sum(expected.values()))
    assert found.same == (expected["a"] == expected["b"] == 0)
    assert set(found.rows_only_a) <= set(chosen[0])
    assert set(found.rows_only_b) <= set(chosen[1])
    for name, parity in (("even", 0), ("odd", 1)):
        line = next(one for one in found.classes if one.name == name)
        assert line.both + line.only_a == sum(first[row] % 2 == parity for row in chosen[0])
        assert line.both + line.only_b == sum(second[row] % 2 == parity for row in chosen[1])
        assert line.share_a == pytest.approx((line.both + line.only_a) / len(chosen[0]))


def test_says_what_differs_in_provenance(tmp_path: Path) -> None:
    a = write(tmp_path / "a", [1, 2, 3, 4], [0, 1])
    b = write(tmp_path / "b", [1, 2, 3, 4], [0, 1], seed=7, settings={"end": "low"}, selection="easy")
    found = compare(a, b)
    assert found.same
    expected = {"seed": (0, 7), "settings.end": ("high", "low"), "selection": ("top", "easy")}
    assert dict(found.provenance) == expected


def test_other_units_are_refused(tmp_path: Path) -> None:
    a = write(tmp_path / "a", [1, 2, 3], [0])
    mask = Masks.of(Kept("weight", {"layer": np.array([True, False, False])}, "shapes xxh3:0"))
    b = Manifest.write(tmp_path / "b", mask, a.provenance)
    with pytest.raises(ManifestError, match=r"b keeps weights, and only rows of a data set are .* compared"):
        compare(a, b)


def test_exit_codes_and_json(tmp_path: Path) -> None:
    run = CliRunner().invoke
    for name, kept in (("a", [0, 1]), ("b", [1, 2]), ("same", [0, 1])):
        write(tmp_path / name, [1, 2, 3, 4], kept)
    write(tmp_path / "other", [5, 6], [0])
    a, b, same, other = (str(tmp_path / name) for name in ("a", "b", "same", "other"))
    assert run(app, ["diff", a, same]).exit_code == 0
    answer = run(app, ["diff", a, b, "--json", "--rows"])
    assert answer.exit_code == 1
    told = json.loads(answer.stdout)
    assert (told["both"], told["rows_only_a"], told["rows_only_b"]) == (1, [0], [2])
    assert not told["same"]
    shown = run(app, ["diff", a, b], env={"COLUMNS": "80", "NO_COLOR": "1"})
    assert "1 in both, 1 only in A, 1 only in B; Jaccard 0.3333" in shown.stdout
    assert max(map(len, shown.stdout.splitlines())) <= 80
    refused = run(app, ["diff", a, other])
    assert isinstance(refused.exception, ManifestError)


def test_strata_are_shown_in_their_order(tmp_path: Path) -> None:
    labels = np.repeat(np.arange(12, dtype=np.int64), 4)
    hashes = [f"{row:032x}" for row in range(48)]
    samples = pl.DataFrame({"row": np.arange(48, dtype=np.int64), "content_hash": hashes, "label": labels})
    said = {"dataset": "d", "revision": "", "selection": "s", "selector": "top", "selector_version": "1"}
    folders = []
    for name, kept in (("a", [0, 40, 41, 44]), ("b", [1, 4, 8, 47])):
        rows = Rows.chosen(samples, np.isin(np.arange(48), kept))
        source = Provenance(**said, settings={}, keep=4, budget=4, seed=0)  # type: ignore[arg-type]
        folders.append(str(Manifest.write(tmp_path / name, rows, source).path))
    shown = CliRunner().invoke(app, ["diff", *folders]).stdout
    _, *lines = shown[shown.index("stratum ") :].splitlines()
    numbers = [int(line.split()[0]) for line in lines[:12]]
    assert numbers == list(range(12))
