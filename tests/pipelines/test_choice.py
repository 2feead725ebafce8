"""A study that trains nothing, from its YAML to the manifests and the report."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import datasets
import numpy as np
import pandas as pd
import polars as pl
import pytest
import yaml

from secateur.pipelines.assets.choice_data import read_data
from secateur.pipelines.assets.data import prepared
from secateur.pipelines.assets.recurring import stamp_now
from secateur.pipelines.data.scan import CONTENT as CONTENTS
from secateur.pipelines.definitions import build
from secateur.pipelines.exports.registry import export
from secateur.pipelines.manifests.document import ManifestError
from secateur.pipelines.manifests.explain import arrays_of, explain, places_of
from secateur.pipelines.manifests.manifest import Manifest
from secateur.pipelines.materialise import Made, run_study
from secateur.pipelines.pages.choice_content import ChoiceContent
from secateur.pipelines.runs.own_choice import Brought, chosen_of
from secateur.pipelines.storage.store import Store
from secateur.pipelines.studies.choice import Choice
from secateur.pipelines.studies.files import StudyError, StudyFile, load_study
from secateur.pipelines.studies.grid import Trial

COUNT = 300


def prompts() -> pl.DataFrame:
    """Prompts of episodes of several sources; one pass rate needs 64 bits to differ from another."""
    rng = np.random.default_rng(0)
    rates = rng.random(COUNT).round(3)
    rates[:2] = 0.9999, 0.9999 + 1e-12
    return pl.DataFrame(
        {
            "prompt": [f"what is {row} and {row * 7 % 13}?" for row in range(COUNT)],
            "uuid": [f"u{row:03d}" for row in range(COUNT)],
            "pass_rate": rates,
            "tokens": rng.integers(5, 500, COUNT),
            "episode": rng.integers(0, 70, COUNT),
            "source": rng.choice(["web", "code", "maths"], COUNT, p=[0.7, 0.2, 0.1]),
        }
    )


CONTENT: dict[str, Any] = {
    "name": "maths",
    "source": {"kind": "parquet", "train": "prompts.parquet"},
    "columns": {"text": "prompt", "id": "uuid", "group": "episode"},
    "scores": {
        "pass_rate": {"column": "pass_rate", "high_means": "easier"},
        "judge": {"file": "grades.parquet", "key": "uuid", "column": "grade", "high_means": "better"},
    },
    "embeddings": {"file": "vectors.npy"},
    "selections": {
        "band": {"score": "pass_rate", "low": 0.2, "high": 0.8},
        "best": {"selector": "top", "score": "judge"},
        "sourced": {"selector": "top", "score": "judge", "by": "source", "share": {"web": 0.5, "code": 0.5}},
        "spread": {"selector": "k_center"},
    },
    "keep": [0.1, {"tokens": 9000}],
}


def written(folder: Path, content: dict[str, Any] = CONTENT) -> StudyFile:
    path = folder / "maths.yaml"
    path.write_text(yaml.safe_dump(content))
    return StudyFile(path, load_study(path))


def brought(folder: Path) -> pl.DataFrame:
    """The user's files: data, grades in another order, vectors in the data's."""
    table = prompts()
    table.write_parquet(folder / "prompts.parquet")
    grades = table.select("uuid", (3 * pl.col("pass_rate") + 1).alias("grade"))
    grades.sample(fraction=1, shuffle=True, seed=1).write_parquet(folder / "grades.parquet")
    np.save(folder / "vectors.npy", np.random.default_rng(2).normal(size=(COUNT, 4)).astype(np.float32))
    return table


def run(file: StudyFile, **how: Any) -> Made:
    with dg.DagsterInstance.ephemeral() as instance:
        return run_study(file, file.path.parent / "assets", instance, **how)


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[StudyFile, pl.DataFrame]:
    """The study, run whole, and its data."""
    folder = tmp_path_factory.mktemp("choice")
    table, file = brought(folder), written(folder)
    run(file)
    return file, table


@pytest.fixture
def manifest(ran: tuple[StudyFile, pl.DataFrame]) -> Callable[[str], Manifest]:
    return lambda name: Manifest.load(ran[0].path.parent / "assets" / "maths" / "manifest" / name / "0")


def test_no_kind_no_proxy_and_no_training_make_a_choice(tmp_path: Path) -> None:
    study = written(tmp_path).study
    assert isinstance(study, Choice)
    assert study.selection_keys[:3] == ["band@0.1", "band+random@0.1", "best@0.1"]
    assert study.budget_of(Trial("band@tokens=9000", 0)) == {"tokens": 9000}


def test_what_stays_of_the_users_own_data(ran: Any, manifest: Any) -> None:
    table, kept = ran[1], manifest("best@0.1")
    ids = kept.table["id"].to_list()
    assert table["uuid"].gather(kept.rows).to_list() == ids
    assert len(ids) == 30
    frame = table.to_pandas().sample(frac=1, random_state=0)
    assert sorted(kept.apply(frame)["uuid"]) == sorted(ids)
    assert isinstance(kept.apply(frame), pd.DataFrame)
    assert kept.apply(datasets.Dataset.from_polars(table))["uuid"][:] == ids
    with pytest.raises(ManifestError, match="not made from this data"):
        kept.apply(frame.assign(prompt="else"))


def test_random_rows_are_drawn_apart_from_a_selection_that_draws(ran: Any, manifest: Any) -> None:
    """All groups are within the band, so that one order for both would keep the same."""
    own, random = (set(manifest(f"band{end}@tokens=9000").table["group"]) for end in ("", "+random"))
    assert len(own & random) < 0.75 * len(own)


@pytest.mark.parametrize("selection", CONTENT["selections"])
@pytest.mark.parametrize("budget", ["0.1", "tokens=9000"])
def test_groups_are_whole_budgets_hold_and_random_stands_beside(
    selection: str, budget: str, ran: Any, manifest: Any
) -> None:
    table, totals = ran[1], {}
    for name in (selection, f"{selection}+random"):
        kept = manifest(f"{name}@{budget}")
        rows, spent = kept.rows, kept.provenance.spent
        mask = np.zeros(COUNT, np.bool_)
        mask[rows] = True
        by_group = table.with_columns(pl.Series("kept", mask)).group_by("episode").agg(pl.col("kept").mean())
        assert set(by_group["kept"]) == {0.0, 1.0}
        costs = table["tokens"].to_numpy() if budget.startswith("tokens") else np.ones(COUNT)
        totals[name] = costs[rows].sum()
        assert spent.total == totals[name] <= spent.limit == (9000 if budget.startswith("tokens") else 30)
        assert spent.groups == (by_group["kept"] == 1).sum()
        # The rest of the budget buys no further group, unless quotas prevent it.
        sums = pl.DataFrame({"group": table["episode"], "cost": costs, "kept": mask}).group_by("group").sum()
        out = sums.filter(pl.col("kept") == 0)
        if selection == "band":
            means = table.group_by("episode").agg(pl.col("pass_rate").mean())
            inside = means.filter(pl.col("pass_rate").is_between(0.2, 0.8))["episode"]
            out = out.filter(pl.col("group").is_in(inside.implode())) if name == "band" else out
            assert name != "band" or set(table["episode"].gather(rows)) <= set(inside)
        bound = totals[selection] if name.endswith("random") else spent.limit
        if selection != "sourced" or name.endswith("random"):
            assert (out["cost"] > bound - totals[name]).all()
    assert totals[f"{selection}+random"] <= totals[selection]


def test_top_takes_groups_in_the_order_of_their_mean_score(ran: Any, manifest: Any) -> None:
    """A plain walk: the best mean first, each group if it still fits."""
    groups = ran[1].group_by("episode").agg(pl.col("pass_rate").mean(), pl.len(), pl.col("tokens").sum())
    for name, cost, left in (("best@0.1", "len", 30), ("best@tokens=9000", "tokens", 9000)):
        taken = set()
        for row in groups.sort("pass_rate", descending=True).iter_rows(named=True):
            if row[cost] <= left:
                left -= row[cost]
                taken.add(row["episode"])
        assert set(ran[1]["episode"].gather(manifest(name).rows)) == taken


def test_quotas_hold(ran: Any, manifest: Any) -> None:
    kept = ran[1][manifest("sourced@tokens=9000").rows]
    of = kept.group_by("source").agg(pl.col("tokens").sum())
    # A group belongs to the source of most of its rows, so a few tokens of other sources come with it.
    assert set(of.filter(pl.col("tokens") > 1500)["source"]) == {"web", "code"}


def test_a_report_says_what_was_chosen_and_that_nothing_was_trained(ran: Any, manifest: Any) -> None:
    folder = ran[0].path.parent / "assets" / "maths" / "report"
    told = json.loads((folder / "report.json").read_text())
    content = ChoiceContent.model_validate(told)
    assert len(content.kept) == 8
    band = next(one for one in content.kept if one.selection == "band@tokens=9000")
    own, random = (manifest(f"band{end}@tokens=9000") for end in ("", "+random"))
    assert (band.kept, band.total, band.left) == (own.provenance.budget, own.provenance.spent.total, 9000 - band.total)
    assert (band.random_kept, band.random_total) == (random.provenance.budget, random.provenance.spent.total)
    assert band.scores["pass_rate"] == pytest.approx(ran[1]["pass_rate"].gather(own.rows).mean(), rel=1e-12)
    pair = next(one for one in content.overlaps if (one.one, one.other) == ("band@0.1", "best@0.1"))
    assert pair.both == len(set(manifest("band@0.1").rows) & set(manifest("best@0.1").rows))
    ends = [(one.id, one.row) for one in content.extremes if one.score == "pass_rate" and one.end == "high"]
    assert ends[:2] == [("u001", 1), ("u000", 0)]
    card = ran[0].path.parent / "card.md"
    export(manifest("best@0.1"), "card", card, settings={"report": str(folder / "report.json")})
    assert "Nothing was trained" in card.read_text()
    page = (folder / "report.html").read_text()
    assert "Nothing was trained" in page
    assert "what is 1 and 7?" in page
    assert "what is 1 and" not in json.dumps(told)


def test_explain_takes_the_users_id(ran: Any, manifest: Any) -> None:
    kept = manifest("best@0.1")
    known = arrays_of(kept, ran[0].path.parent / "assets" / "maths")
    row = places_of(kept, known).find("u001")
    found = explain(kept, row, known)
    assert (row, found.id, found.row) == (1, "u001", 1)
    assert found.scores[0].value == 3 * ran[1]["pass_rate"][1] + 1
    assert "samples of equal episode stay or go together" in found.sentence
    for text in ("id:u999", "u999"):
        with pytest.raises(ManifestError, match="no training sample has the id 'u999'; there are ids such as 'u000'"):
            places_of(kept, known).find(text)
    with pytest.raises(ManifestError, match=r"no kept sample has the id 'u999'.*set SECATEUR_HOME"):
        places_of(kept, "not here").find("u999")


def test_a_manifest_that_spends_otherwise_than_it_says_is_found_out(ran: Any, manifest: Any, tmp_path: Path) -> None:
    kept = manifest("band@tokens=9000")
    for change, message in (
        ({"total": 8999.0}, "its rows cost"),
        ({"limit": 10000.0}, "its limit is 10000, but keep"),
        ({"groups": 3}, "its rows are of"),
        ({"group": None, "groups": None}, "no column group"),
        ({"beside": 10.0}, "at most 10 may be"),
    ):
        spent = kept.provenance.spent.model_copy(update=change)
        provenance = kept.provenance.model_copy(update={"spent": spent})
        with pytest.raises(ManifestError, match=message):
            Manifest.load(Manifest.write(tmp_path / "m", kept.payload, provenance, overwrite=True).path)
    with pytest.raises(ManifestError, match="without the sum over the kept rows"):
        Manifest.write(tmp_path / "n", kept.payload, kept.provenance.model_copy(update={"spent": None}))


def test_a_new_score_file_changes_what_reads_that_score_alone(tmp_path: Path) -> None:
    table = brought(tmp_path)
    content = {**CONTENT, "keep": [0.1], "selections": {name: CONTENT["selections"][name] for name in ("band", "best")}}
    file = written(tmp_path, content)
    assert isinstance(file.study, Choice)
    run(file, part="subsets")
    store, trials = Store(tmp_path / "assets"), list(file.study.trials)
    before = {trial.name: store.load(("maths", "subset"), trial)[:] for trial in trials}
    assert run(file, part="subsets").made == 0
    grades = table.select("uuid", (-pl.col("pass_rate")).alias("grade"))
    grades.write_parquet(tmp_path / "grades.parquet")
    made = run(file, part="subsets")
    after = {trial.name: store.load(("maths", "subset"), trial)[:] for trial in trials}
    assert {name: (before[name] == after[name]).all() for name in after} == {
        "band": True, "band+random": True, "best": False, "best+random": True,
    }  # fmt: skip
    assert made.made == 5  # the score, and subset and manifest of best and of the random choice beside it
    grades.head(COUNT - 1).write_parquet(tmp_path / "grades.parquet")
    with pytest.raises(Exception, match=r"grades.parquet has no row of key 'uuid' \('u299'\) for 1 of 300 rows"):
        run(file, part="subsets")
    assert (store.load(("maths", "subset"), Trial("best@0.1", 0)) == after["best"]).all()
    table.reverse().write_parquet(tmp_path / "prompts.parquet")
    grades.write_parquet(tmp_path / "grades.parquet")
    with pytest.raises(Exception, match=r"prompts\.parquet has changed since vectors\.npy was read"):
        run(file, part="subsets")


def test_a_recurring_choice_sees_a_new_score_file_and_tells_its_drift(tmp_path: Path) -> None:
    table = brought(tmp_path)
    content = {**CONTENT, "keep": [0.1], "selections": {"best": CONTENT["selections"]["best"]}, "recurring": {}}
    file, store = written(tmp_path, content), Store(tmp_path / "assets")
    assert isinstance(file.study, Choice)
    defs = build([file], store.root)
    assert {"maths_rescoring", "export"} <= set(defs.get_repository_def().job_names)
    run(file)
    before = stamp_now(file.study, tmp_path, store)
    assert stamp_now(file.study, tmp_path, store) == before
    table.select("uuid", (-pl.col("pass_rate")).alias("grade")).write_parquet(tmp_path / "grades.parquet")
    assert stamp_now(file.study, tmp_path, store) != before
    with dg.DagsterInstance.ephemeral() as instance:
        run_study(file, store.root, instance)
        record = instance.get_latest_materialization_event(dg.AssetKey(["maths", "drift"]))
    told = record.asset_materialization.metadata  # type: ignore[union-attr]
    assert told["rank correlation of judge"].value == pytest.approx(-1)
    assert told["rank correlation of pass_rate"].value == pytest.approx(1)


def test_a_budget_that_cannot_be_met_leaves_nothing_behind(tmp_path: Path) -> None:
    brought(tmp_path)
    content = {key: value for key, value in CONTENT.items() if key != "embeddings"}
    columns = {"text": "prompt", "id": "uuid"}
    selections = {"best": CONTENT["selections"]["best"], "band": {"score": "pass_rate", "low": 0.45, "high": 0.5}}
    file = written(tmp_path, {**content, "columns": columns, "selections": selections})
    with pytest.raises(Exception, match=r"selections.band@0.1: selector 'band': budget 30 is above \d+, all that"):
        run(file)
    assert not (tmp_path / "assets" / "maths" / "subset").exists()
    assert not (tmp_path / "assets" / "maths" / "manifest").exists()


REFUSED = [
    ({"proxy": {"model": "mlp"}, "kind": "choice"}, "proxy: there is no such key"),
    ({"metric": "accuracy"}, "metric: nothing is trained in this study"),
    ({"margin": 1}, "margin: nothing is trained in this study"),
    ({"source": {"kind": "parquet", "train": "a", "test": "b"}}, "source.test: nothing is trained in this study"),
    ({"source": {"kind": "digits"}}, "source.kind: digits brings no scores of yours"),
    ({"scores": {"judge": {"column": "grade"}}}, "high_means: Field required"),
    (
        {"scores": {"judge": {"column": "grade", "high_means": "nicer"}}},
        "'harder', 'easier', 'better', 'worse'",
    ),
    ({"scores": {"judge": {"high_means": "better"}}}, "name a column of the data, or a file"),
    ({"scores": {"judge": {"column": "a", "key": "b", "high_means": "better"}}}, "key: a column of the data goes with"),
    ({"scores": {"aum": None}}, "aum: a score that secateur computes watches a training: add proxy and training"),
    ({"selections": {"best": {"selector": "top"}}}, "selections.best.score: 'top' reads a score; name one of yours"),
    ({"selections": {"best": {"selector": "top", "score": "jugde"}}}, "did you mean 'judge'"),
    ({"selections": {"rs2": None}}, "'rs2' selects while a model trains, and nothing is trained here"),
    ({"selections": {"herding": None}, "embeddings": None}, "'herding' reads vectors; bring them as embeddings"),
    ({"selections": {"moderate": None}}, "'moderate' reads classes; name their column as columns.label"),
    ({"selections": {"coverage_centric": {"score": "pass_rate"}}}, "cutoff: trainings would choose it"),
    (
        {"selections": {"coverage_centric": {"score": "judge", "cutoff": 0.1}}},
        "tells hard samples from easy ones, and high judge means better",
    ),
    ({"selections": {"beta_sampling": {"score": "pass_rate"}}}, "reads mean_probability"),
    ({"selections": {"band": {"score": "judge", "low": 0.2}}}, "band: high: Field required"),
    ({"selections": {"band": {"score": "judge", "low": 0, "high": 1, "share": "balanced"}}}, "say by which column"),
    (
        {
            "selections": {
                "best": {"selector": "top", "score": "judge", "by": "source", "share": {"web": 0.9, "x": 0.2}}
            }
        },
        "add up to 1 at most",
    ),
    ({"keep": [{"tokens": 5, "bytes": 5}]}, "name one column with its amount"),
    ({"keep": [{"tokens": -1}]}, "an amount above 0"),
    ({"keep": [0.1, 0.1]}, "once"),
    ({"columns": {"text": "prompt", "label": "source", "target": "numbers"}}, "columns.target: a label is a class"),
]


@pytest.mark.parametrize(("change", "message"), REFUSED, ids=lambda value: str(value)[:50])
def test_what_cannot_be_is_refused_when_the_study_loads(change: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"maths\.yaml") as refusal:
        written(tmp_path, {**CONTENT, **change})
    assert message in str(refusal.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"columns": {"text": "prompt", "id": "episode"}}, r"columns.id: column 'episode' repeats .* of 300 rows"),
        ({"keep": [{"price": 5}]}, "there is no column 'price'"),
        ({"keep": [{"source": 5}]}, "keep: source: column 'source' of prompts.parquet holds String"),
        ({"keep": [10**6]}, "count of 1000000"),
        ({"keep": [{"tokens": 10**9}]}, "1,000,000,000 tokens are more than the"),
        ({"keep": [0.001]}, "keep is a fraction of 0.001, which of 300 comes to 0.3, less than half of one"),
        (
            {"selections": {"best": {"selector": "top", "score": "judge", "by": "source", "share": {"net": 0.5}}}},
            "selections.best.share: column 'source' has no value 'net'; there are: code, maths, web",
        ),
    ],
)
def test_what_the_data_cannot_give_is_refused_before_anything_is_written(
    change: Any, message: str, tmp_path: Path
) -> None:
    brought(tmp_path)
    study = written(tmp_path, {**CONTENT, **change}).study
    assert isinstance(study, Choice)
    with pytest.raises(ValueError, match=message):
        read_data(study, tmp_path, tmp_path / "cache")


@pytest.mark.parametrize(
    ("name", "settings"), [("coverage_centric", {"cutoff": 0.2}), ("double_end", {"cutoff": 0.2}),
                           ("el2n_offset", {"offset": 0.2}), ("d2_pruning", {"cutoff": 0.2})]
)  # fmt: skip
def test_a_score_of_ease_and_its_opposite_of_hardness_choose_the_same(name: str, settings: Any, tmp_path: Path) -> None:
    """And the hardest are cut: those of the lowest ease."""
    ease = np.random.default_rng(3).normal(size=200)
    scores = {score: {"column": score, "high_means": f"{score[:4]}er"} for score in ("harder", "easier")}
    selections = {score: {"selector": name, "score": score, **settings} for score in scores}
    study = written(tmp_path, {**CONTENT, "scores": scores, "selections": selections}).study
    assert isinstance(study, Choice)
    vectors = np.random.default_rng(4).normal(size=(200, 3)).astype(np.float32)
    held = {"easier": ease, "harder": -ease}
    own = Brought(np.zeros(200, np.int64), lambda column: pl.Series(column, []), held, vectors, None)
    kept = dict(chosen_of(study, [Trial(f"{score}@0.1", 0) for score in scores], own))
    one, other = (chosen.keep for chosen in kept.values())
    np.testing.assert_array_equal(one, other)
    assert not one[np.argsort(ease)[:40]].any()


def test_every_kind_of_file_holds_the_same_samples_and_ids(tmp_path: Path) -> None:
    table = prompts().with_columns(pl.concat_str(pl.lit("00"), pl.int_range(pl.len()).cast(pl.String)).alias("uuid"))
    table.write_csv(tmp_path / "prompts.csv")
    table.write_ndjson(tmp_path / "prompts.jsonl")
    table.write_parquet(tmp_path / "prompts.parquet")
    hashes = []
    for kind in ("csv", "jsonl", "parquet"):
        study = written(tmp_path, {**CONTENT, "source": {"kind": kind, "train": f"prompts.{kind}"}}).study
        assert isinstance(study, Choice)
        whole = read_data(study, tmp_path, tmp_path / "cache")
        assert whole.rows.column("uuid").to_list() == table["uuid"].to_list()
        assert whole.rows.column("pass_rate").to_list() == table["pass_rate"].to_list()
        hashes.append([value for part in whole.rows.batches([CONTENTS]) for value in part[CONTENTS].to_pylist()])
    assert hashes[0] == hashes[1] == hashes[2]
    assert len(set(hashes[0])) == COUNT


def test_a_study_that_trains_takes_ids_too_and_refuses_one_that_is_there_twice(
    write_study: Any, tmp_path: Path
) -> None:
    for split in ("train", "test"):
        path = tmp_path / "data" / f"{split}.parquet"
        table = pl.read_parquet(path)
        table.with_columns(pl.int_range(pl.len()).alias("own")).write_parquet(path)
    study = write_study(columns={"features": ["x", "y"], "label": "label", "id": "own"}).study
    folder = tmp_path / "prepared"
    folder.mkdir()
    prepared(study, tmp_path, tmp_path / "cache", folder)
    samples = pl.read_parquet(folder / "samples.parquet")
    assert samples["id"].to_list() == [str(row) for row in range(120)]
    study = write_study(columns={"features": ["x", "y"], "label": "label", "id": "label"}).study
    with pytest.raises(ValueError, match=r"columns.id, train split: column 'label' .* rows 3, 4"):
        prepared(study, tmp_path, tmp_path / "cache", tmp_path / "prepared")


def test_explain_says_the_mean_of_the_group_that_decided(ran: Any, manifest: Any) -> None:
    """For every sample, against a group-by: the mean, the size of its group, and the lowest mean that stays."""
    table = ran[1].with_columns(grade=3 * pl.col("pass_rate") + 1)
    means = table.group_by("episode").agg(pl.col("grade").mean(), pl.len())
    for name in ("best@0.1", "best@tokens=9000"):
        kept = manifest(name)
        known = arrays_of(kept, ran[0].path.parent / "assets" / "maths")
        stays = set(table["episode"].gather(kept.rows))
        lowest = means.filter(pl.col("episode").is_in(list(stays)))["grade"].min()
        skipped = 0
        for row in range(COUNT):
            found = explain(kept, row, known)
            [(_, mean, size)] = means.filter(pl.col("episode") == table["episode"][row]).rows()
            assert found.compared is not None
            assert (found.compared.group, found.compared.samples) == (str(table["episode"][row]), size)
            assert found.compared.value == pytest.approx(mean, rel=1e-12)
            assert found.compared.lowest == pytest.approx(lowest, rel=1e-12)
            assert f"{found.compared.value:.4g} (its judge of {table['grade'][row]:.4g})" in found.sentence
            skipped += "more than was left of the budget" in found.sentence
            assert ("more than was left" in found.sentence) == (mean > lowest and not found.kept)
            assert ("is above" in found.sentence) == (mean > lowest)
        assert skipped


def test_explain_compares_within_the_quota(ran: Any, manifest: Any) -> None:
    kept = manifest("sourced@tokens=9000")
    known = arrays_of(kept, ran[0].path.parent / "assets" / "maths")
    by_group = ran[1].group_by("episode").agg(pl.col("pass_rate").mean(), pl.col("source").mode().min())
    stays = by_group.filter(pl.col("episode").is_in(ran[1]["episode"].gather(kept.rows).implode()))
    for row in range(0, COUNT, 7):
        found = explain(kept, row, known)
        [source] = by_group.filter(pl.col("episode") == ran[1]["episode"][row])["source"]
        assert found.compared is not None
        assert found.compared.quota == f"source {source}"
        same = stays.filter(pl.col("source") == source)["pass_rate"]
        lowest = None if not len(same) else pytest.approx(3 * same.min() + 1, rel=1e-12)
        assert found.compared.lowest == lowest


def test_without_the_studys_files_explain_knows_the_mean_of_kept_groups(ran: Any, manifest: Any) -> None:
    kept = manifest("best@0.1")
    row = int(kept.rows[0])
    found = explain(kept, row, "not here")
    mean = ran[1].filter(pl.col("episode") == ran[1]["episode"][row])["pass_rate"].mean()
    assert found.compared is not None
    assert found.compared.value == pytest.approx(3 * mean + 1, rel=1e-6)  # scores of a manifest have 32 bits
    assert "the mean judge of its group's" in found.sentence
