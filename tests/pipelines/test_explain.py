"""`secateur explain`: ranks, strata and neighbours against brute force; its answer without the study's files."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import percentileofscore, rankdata
from typer.testing import CliRunner

from secateur.pipelines.commands.main import app
from secateur.pipelines.manifests.document import ManifestError
from secateur.pipelines.manifests.explain import arrays_of, explain
from secateur.pipelines.manifests.explanation import Standing, Stratum
from secateur.pipelines.manifests.manifest import Manifest
from secateur.pipelines.manifests.provenance import Provenance, ScoreCard
from secateur.pipelines.manifests.rows import Rows
from secateur.pipelines.storage.home import LAYOUT, MARK
from secateur.scorers.registry import scorers
from secateur.selectors.contract import selectors
from secateur.trainers.tasks.classification import Classification

COUNT = 240
NAMES = ["ant", "bee", "cat"]


@pytest.fixture
def made(tmp_path: Path) -> Any:
    """Write a manifest by a selector and the study's files below a home; gives manifest, scores and folder."""

    def make(selector: str, picked: str, budget: int = 60, **settings: Any) -> tuple[Manifest, dict[str, np.ndarray]]:
        rng = np.random.default_rng(3)
        scores = {name: rng.normal(size=COUNT).round(2).astype(np.float32) for name in ("aum", "el2n")}
        labels = rng.integers(0, 3, COUNT)
        contents = np.where(np.arange(COUNT) == 7, 3, np.arange(COUNT))  # row 7 repeats row 3
        labels[7] = labels[3]
        hashes = [f"{content:032x}" for content in contents]
        samples = pl.DataFrame({"row": np.arange(COUNT), "content_hash": hashes, "label": labels})
        chosen = selectors()[selector]
        given = {
            "scores": scores[picked],
            "aum": scores["aum"],
            "budget": budget,
            "strata": labels,
            "memberships": labels,
        }
        given["ids"] = np.arange(COUNT)
        keywords: dict[str, Any] = {"seed": 5} | ({} if "ids" in chosen.reads else {"ids": np.arange(COUNT)})
        keep = chosen(*(given[name] for name in chosen.reads), **settings, **keywords)
        read = sorted({picked if name == "scores" else name for name in chosen.reads} & set(scores))
        cards = tuple(ScoreCard.of(scorers()[name].card, name=name) for name in read)
        said = Provenance(
            dataset="insects",
            revision="1",
            selection="mine",
            selector=selector,
            selector_version=chosen.version,
            settings=settings,
            keep=budget,
            budget=budget,
            seed=5,
            scores=cards,
        )
        folder = tmp_path / "home" / "assets" / "insects"
        (folder / "scores").mkdir(parents=True)
        samples.write_parquet(folder / "samples.parquet")
        (folder / "source.json").write_text(json.dumps({"task": Classification(3, NAMES).state()}))
        for name, values in scores.items():
            np.save(folder / "scores" / f"{name}.npy", values)
        np.save(folder / "embeddings.npy", rng.normal(size=(COUNT, 4)).astype(np.float16))
        weights = np.arange(COUNT, dtype=np.float32)
        of_scores = {name: scores[name] for name in read}
        rows = Rows.chosen(samples, keep, scores=of_scores, label_names=NAMES, weights=weights)
        manifest = Manifest.write(tmp_path / "manifest", rows, said)
        return manifest, scores

    return make


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=30))
@settings(max_examples=50)
def test_standing_is_scipys(values: list[int]) -> None:
    array = np.float32(values)
    for place, value in enumerate(array):
        standing = Standing.of(float(value), array)
        assert standing.rank == rankdata(-array, method="min")[place]
        assert standing.percentile == pytest.approx(percentileofscore(array, value, kind="mean"))


@pytest.mark.parametrize("picked", ["aum", "el2n"])
def test_strata_are_the_papers(made: Any, tmp_path: Path, picked: str) -> None:
    manifest, scores = made("coverage_centric", picked, cutoff=0.1, bins=8)
    arrays = arrays_of(manifest, tmp_path / "home" / "assets" / "insects")
    keep = manifest.keep()
    found = [explain(manifest, row, arrays) for row in range(COUNT)]
    cut = [row for row, one in enumerate(found) if "cut-off" in one.sentence]
    assert len(cut) == int(0.1 * COUNT)
    assert scores["aum"][cut].max() <= np.delete(scores["aum"], cut).min()
    assert not keep[cut].any()
    assert all(one.stratum is None for row, one in enumerate(found) if row in cut)
    groups: dict[int, list[int]] = {}
    for row, one in enumerate(found):
        if row not in cut:
            assert isinstance(one.stratum, Stratum)
            assert one.stratum.low - 1e-6 <= scores[picked][row] <= one.stratum.high + 1e-6
            assert one.stratum.score == picked
            groups.setdefault(one.stratum.number, []).append(row)
    for members in groups.values():
        stratum = found[members[0]].stratum
        assert stratum is not None
        assert stratum.samples == len(members)
        assert stratum.quota == keep[members].sum()
    # Algorithm 1 walks strata by ascending size and gives each an equal part of the rest.
    rest, quotas = 60, {}
    order = sorted(groups, key=lambda number: len(groups[number]))
    for place, number in enumerate(order):
        quotas[number] = min(len(groups[number]), rest // (len(order) - place))
        rest -= quotas[number]
    assert sorted(quotas.values()) == sorted(int(keep[members].sum()) for members in groups.values())
    for row, one in enumerate(found):
        assert one.kept == keep[row]
        assert one.sentence.startswith("Kept: " if keep[row] else "Dropped: ")


def test_neighbours_ranks_and_equal_rows(made: Any, tmp_path: Path) -> None:
    manifest, scores = made("top", "el2n", end="high")
    folder = tmp_path / "home" / "assets" / "insects"
    arrays, keep = arrays_of(manifest, folder), manifest.keep()
    points = np.load(folder / "embeddings.npy").astype(np.float64)
    labels = pl.read_parquet(folder / "samples.parquet")["label"].to_numpy()
    distances = np.sqrt(((points[:, None] - points[None]) ** 2).sum(axis=2))
    np.fill_diagonal(distances, np.inf)
    for row in range(0, COUNT, 7):
        found = explain(manifest, row, arrays)
        among_kept = np.where(keep, distances[row], np.inf)
        assert found.nearest_kept is not None
        assert found.nearest_kept.row == among_kept.argmin()
        assert found.nearest_kept.distance == pytest.approx(among_kept.min())
        assert found.nearest is not None
        assert (found.nearest.row, found.nearest.kept) == (distances[row].argmin(), keep[distances[row].argmin()])
        assert found.nearest.label == NAMES[labels[found.nearest.row]]
        (score,) = found.scores
        assert score.value == scores["el2n"][row]
        assert score.overall.rank == 1 + (scores["el2n"] > scores["el2n"][row]).sum()
        own = scores["el2n"][labels == labels[row]]
        assert score.in_class is not None
        assert (score.in_class.rank, score.in_class.count) == (1 + (own > scores["el2n"][row]).sum(), len(own))
        assert found.label == NAMES[labels[row]]
        assert (found.class_samples, found.class_kept) == (
            (labels == labels[row]).sum(),
            keep[labels == labels[row]].sum(),
        )
        assert found.weight == (row if keep[row] else None)
        edge = scores["el2n"][keep].min()
        words = "where the budget ends" if score.value == edge else "above" if keep[row] else "below"
        assert words in found.sentence
    assert explain(manifest, 3, arrays).equal_rows == (7,)
    assert explain(manifest, 7, arrays).equal_rows == (3,)


def test_a_manifest_alone_tells_of_kept_rows(made: Any, tmp_path: Path) -> None:
    manifest, scores = made("top", "el2n", end="high")
    nothing = arrays_of(manifest, tmp_path / "elsewhere")
    assert isinstance(nothing, str)
    row = int(manifest.rows[4])
    found = explain(manifest, row, nothing)
    assert found.kept
    assert found.scores[0].within == "kept samples"
    kept = scores["el2n"][manifest.rows]
    assert found.scores[0].overall.rank == 1 + (kept > scores["el2n"][row]).sum()
    assert found.nearest_kept is None
    assert "SECATEUR_HOME" in found.unknown[0]
    dropped = explain(manifest, int(np.flatnonzero(~manifest.keep())[0]), nothing)
    assert (dropped.kept, dropped.scores, dropped.label) == (False, (), None)
    assert dropped.sentence.startswith("Dropped: top")


def test_files_of_other_data_or_newer_scores_are_not_believed(made: Any, tmp_path: Path) -> None:
    manifest, scores = made("top", "el2n", end="high")
    folder = tmp_path / "home" / "assets" / "insects"
    np.save(folder / "scores" / "el2n.npy", scores["el2n"] + 1)
    (folder / "embeddings.npy").unlink()
    arrays = arrays_of(manifest, folder)
    assert not isinstance(arrays, str)
    assert "el2n" not in arrays.scores
    assert "computed anew" in arrays.unknown[0]
    assert "no embeddings" in arrays.unknown[1]
    samples = pl.read_parquet(folder / "samples.parquet")
    samples.head(COUNT - 1).write_parquet(folder / "samples.parquet")
    assert "other data" in str(arrays_of(manifest, folder))


@pytest.mark.parametrize(
    ("selector", "said"),
    [
        ("uniform_random", "60 of 240 samples were drawn at random (seed 5)"),
        ("stratified_random", "of its"),
        ("double_end", "double_end ("),
    ],
)
def test_other_selectors_are_told_too(made: Any, tmp_path: Path, selector: str, said: str) -> None:
    manifest, _ = made(selector, "el2n", **({"cutoff": 0.1} if selector == "double_end" else {}))
    arrays = arrays_of(manifest, tmp_path / "home" / "assets" / "insects")
    for row in range(0, COUNT, 31):
        assert said in explain(manifest, row, arrays).sentence


def test_the_command(made: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest, _ = made("top", "el2n", end="high")
    monkeypatch.setenv("SECATEUR_HOME", str(tmp_path / "home"))
    (tmp_path / "home" / MARK).write_text(json.dumps({"layout": LAYOUT}))
    run = CliRunner().invoke
    answer = run(app, ["explain", str(manifest.path), "3", "--json"])
    assert answer.exit_code == 0
    assert json.loads(answer.stdout)["equal_rows"] == [7]
    shown = run(app, ["explain", str(manifest.path), "3"], env={"COLUMNS": "80", "NO_COLOR": "1"}).stdout
    for word in ("row 3:", "el2n", "nearest kept", "equal rows", "stratum"):
        assert word in shown
    assert "\x1b[" not in shown
    refused = run(app, ["explain", str(manifest.path), str(COUNT)])
    assert isinstance(refused.exception, ManifestError)
    assert f"0 … {COUNT - 1}" in str(refused.exception)
