"""Studies: accepted YAML, and the messages for refused YAML."""

import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from secateur.pipelines.studies.files import SHIPPED, StudyError, load_study, read_studies, validated
from secateur.pipelines.studies.grid import Trial, selection_key
from secateur.trainers.contract import TrainingConfig


def load(folder: Path, content: Any) -> Any:
    path = folder / "study.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return load_study(path)


def test_flat_settings_become_score_and_selection(tmp_path: Path, study_content: dict[str, Any]) -> None:
    study_content["scores"]["early"] = {"scorer": "el2n", "epochs": 1}
    study = load(tmp_path, study_content)
    assert study.scores["early"].scorer == "el2n"
    assert study.scores["early"].settings == {"epochs": 1}
    assert study.selections["hardest"].settings == {}
    assert study.selections["hardest"].score == "el2n"


def test_the_baselines_are_always_there(tmp_path: Path, study_content: dict[str, Any]) -> None:
    study = load(tmp_path, study_content)
    assert {"uniform_random", "stratified_random"} <= set(study.selections)
    assert study.selection_keys[0] == "full"
    assert len(list(study.trials)) == (1 + 2 * 4) * 2


def test_a_cutoff_left_out_is_tuned_and_one_given_is_not(tmp_path: Path, study_content: dict[str, Any]) -> None:
    assert load(tmp_path, study_content).selections["coverage_centric"].untuned == ("cutoff",)
    study_content["selections"]["coverage_centric"]["cutoff"] = 0.2
    assert load(tmp_path, study_content).selections["coverage_centric"].untuned == ()


def test_a_class_policy_is_part_of_a_selection(tmp_path: Path, study_content: dict[str, Any]) -> None:
    study_content["selections"]["hardest"]["classes"] = {"policy": "balanced", "floor": 2}
    selection = load(tmp_path, study_content).selections["hardest"]
    assert "strata" in selection.declared.reads
    study_content["selections"]["hardest"]["classes"] = {"policy": "fair"}
    with pytest.raises(StudyError, match="'none', 'proportional' or 'balanced'"):
        load(tmp_path, study_content)


BEYOND = {
    "learning_rate": 1000.1,
    "weight_decay": 1000.1,
    "pull": 1e6 + 1,
    "steps": 10**9 + 1,
    "batch_size": 10**7 + 1,
    "workers": 1025,
}
"""Settings of a training just above their limits."""

REFUSED = [
    (
        {"kind": "prunning"},
        ["kind: there is no 'prunning'; did you mean 'pruning'?", "there are: choice, pruning, samples, search"],
    ),
    ({"kind": ["search"]}, ["kind: there is no"]),
    ({"kind": "search"}, ["space", "Field required"]),
    ({"source": {"kind": "parquet", "train": "data/train.parquet"}}, ["source: give one of test, test_fraction"]),
    ({"columns": {"features": ["x", "y"]}}, ["columns.label: Field required"]),
    ({"kep": 0.5}, ["kep: there is no such key; did you mean 'keep'?", "there are: kind, name"]),
    ({"scores": {"magnitude": None}}, ["magnitude.scorer: 'magnitude' is for weights; there are:", "el2n"]),
    ({"selections": {"random_entries": None}}, ["random_entries.selector: 'random_entries' is for deltas", "top"]),
    ({"scores": {"amu": None}}, ["amu.scorer", "did you mean 'aum'", "there are:", "forgetting"]),
    ({"scores": {"el2n": {"epochs": 0}}}, ["el2n", "epochs", "greater than or equal to 1", "got 0"]),
    ({"scores": {"el2n": {"epoch": 3}}}, ["el2n", "epoch", "there are: epochs"]),
    ({"scores": {"forgetting": {"never_learned": "nan"}}}, ["never_learned", "'presentations' or 'zero'", "got 'nan'"]),
    ({"scores": {}}, ["coverage_centric.score: there is no 'aum' yet", "there are: none"]),
    ({"selections": {"best": {"selector": "tops", "score": "aum"}}}, ["best.selector", "did you mean 'top'"]),
    ({"selections": {"top": {}}}, ["selections.top.score", "reads a score", "aum, el2n, forgetting"]),
    ({"selections": {"top": {"score": "loss"}}}, ["selections.top.score", "no 'loss'", "aum, el2n"]),
    ({"selections": {"top": {"score": "aum", "end": "middle"}}}, ["top: end", "'high' or 'low'", "got 'middle'"]),
    ({"selections": {"uniform_random": {"score": "aum"}}}, ["uniform_random.score", "reads no score"]),
    *(
        ({where: {name: {kind: what} | more}}, [f"{where}.{name}: a name is at most 100 lower-case letters"])
        for where, kind, what, more in (
            ("scores", "scorer", "aum", {}),
            ("selections", "selector", "top", {"score": "aum"}),
        )
        for name in ("a b", "Aum", "a-b", "a+kd", "é", "1st", "", "a" * 101, "a\n")
    ),
    ({"scores": {"labels": {"scorer": "aum"}}}, ["scores: labels", "call the score otherwise"]),
    (
        {"selections": {"full": {"selector": "top", "score": "aum"}}},
        ["selections: full", "call the selection otherwise"],
    ),
    ({"selections": {"uniform_random": {"selector": "top", "score": "aum"}}}, ["uniform_random", "call the selection"]),
    ({"keep": 0}, ["keep", "count of 0", "within 1"]),
    ({"keep": -0.1}, ["keep", "-0.1", "(0, 1]"]),
    ({"keep": 1.5}, ["keep", "1.5", "(0, 1]"]),
    ({"keep": [0.3, 0.3]}, ["keep", "once"]),
    ({"keep": ["third"]}, ["keep"]),
    ({"keep": [True]}, ["keep", "must be a number, got [true]"]),
    ({"keep": float("inf")}, ["keep", "finite"]),
    ({"seeds": True}, ["seeds", "must be a number, got true"]),
    ({"keep": 10**12 + 1}, ["keep: 1000000000001 is beyond 1,000,000,000,000"]),
    ({"neighbours": {"count": 2**62}}, ["neighbours", "is beyond 1,000,000,000,000"]),
    (
        {"selections": {"c": {"selector": "coverage_centric", "score": "aum", "bins": 10**6 + 1}}},
        ["bins", "less than or equal to 1000000"],
    ),
    *(
        ({"training": {"model": "mlp", "steps": 3} | {key: bad}}, ["training", key, fault])
        for key, beyond in BEYOND.items()
        for bad, fault in (
            (beyond, "less than or equal to"),
            (float("inf"), "finite"),
            (True, "must be a number, got true"),
        )
    ),
    ({"seeds": 0}, ["seeds", "greater than or equal to 1"]),
    ({"name": "../up"}, ["name", "lower-case letters"]),
    ({"name": "a" * 101}, ["name", "at most 100"]),
    ({"proxy": {"model": "mlp"}}, ["proxy", "either epochs or steps"]),
    ({"proxy": {"model": "mlp", "epochs": 2, "steps": 3}}, ["proxy", "either epochs or steps"]),
    ({"training": {"model": "resnext", "steps": 3}}, ["training", "no model is called 'resnext'", "cnn", "mlp"]),
    ({"training": {"model": "no.such:thing", "steps": 3}}, ["training", "cannot be imported"]),
    ({"columns": {"label": "label"}}, ["columns", "exactly one of"]),
    ({"source": {"kind": "excel"}}, ["source", "'digits'", "'parquet'"]),
]


def test_settings_of_a_training_may_be_as_large_as_their_bounds() -> None:
    for key, beyond in BEYOND.items():
        TrainingConfig.model_validate({"steps": 3} | {key: type(beyond)(int(beyond) - (beyond == int(beyond)))})


@pytest.mark.parametrize(("change", "words"), REFUSED, ids=lambda value: str(value)[:40])
def test_wrong_settings_are_refused_by_file_key_and_what_is_allowed(
    change: dict[str, Any], words: list[str], tmp_path: Path, study_content: dict[str, Any]
) -> None:
    with pytest.raises(StudyError) as refusal:
        load(tmp_path, {**study_content, **change})
    text = str(refusal.value)
    assert "study.yaml" in text
    for word in words:
        assert word in text, text


def test_a_selector_that_reads_another_score_needs_that_score(tmp_path: Path, study_content: dict[str, Any]) -> None:
    study_content["scores"].pop("aum")
    study_content["selections"]["coverage_centric"]["score"] = "el2n"
    with pytest.raises(StudyError, match=r"coverage_centric.* reads the score: there is no 'aum'"):
        load(tmp_path, study_content)


@pytest.mark.parametrize("content", ["a: [1", "- 1\n- 2", "", "\x00", "1: 2"])
def test_what_is_no_mapping_is_refused_with_its_file(content: str, tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"study\.yaml"):
        load(tmp_path, content)


def test_another_encoding_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_bytes("name: größe".encode("utf-16"))
    with pytest.raises(StudyError, match=r"study\.yaml.*not readable"):
        load_study(path)


def test_a_broken_file_and_a_second_of_one_name_take_no_other_down(
    tmp_path: Path, study_content: dict[str, Any]
) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(study_content))
    (tmp_path / "c.yaml").write_text("name: [")
    (tmp_path / "d.yaml").write_text(yaml.safe_dump({**study_content, "name": "other"}))
    (tmp_path / "e.yaml").symlink_to(tmp_path / "e.yaml")
    os.mkfifo(tmp_path / "f.yaml")
    (tmp_path / "g.yaml").mkdir()
    (tmp_path / "h.yaml").symlink_to("/nowhere")
    (tmp_path / "i.yaml").symlink_to("/dev/zero")
    good, twin, broken, other, *odd = read_studies([tmp_path])
    nowhere, no_file = "is a link that leads nowhere", "is no file"
    for file, fault in zip(odd, (nowhere, no_file, no_file, nowhere, no_file), strict=True):
        assert f"{file.path}: {fault}" in file.error
    assert good.study is not None
    assert other.study is not None
    assert twin.study is None
    assert "already in" in twin.error
    assert str(tmp_path / "a.yaml") in twin.error
    assert broken.study is None
    assert "c.yaml" in broken.error
    assert len({file.name for file in (good, twin, broken, other)}) == 4


def test_shipped_studies_load() -> None:
    files = read_studies([SHIPPED])
    assert {"digits", "fashion_mnist"} <= {file.name for file in files}
    assert not [file.error for file in files if file.error]


@pytest.mark.parametrize("keep", [0.1, 1e-7, 1.0, 1, 500, 0.30000000000000004])
def test_budgets_survive_their_partition_key(keep: float) -> None:
    trial = Trial.parse(str(Trial(selection_key("a_b", keep), 3)))
    assert trial.keep == keep
    assert type(trial.keep) is type(keep)
    assert (trial.name, trial.seed) == ("a_b", 3)


@pytest.mark.parametrize(
    ("changes", "said", "unsaid"),
    [
        ({"selectons": {}}, "selectons: there is no such key; did you mean 'selections'? there are: kind, name", "got"),
        ({"proxy": {"model": "mlp", "epoch": 3}}, "proxy.epoch: there is no such key; did you mean 'epochs'?", "seeds"),
        ({"seeds": 0}, "seeds: Input should be greater than or equal to 1, got 0", "there are"),
        (
            {"task": "no_module:factory"},
            "task: there is no module 'no_module' to take",
            "source",
        ),
        (
            {"selections": {"hardest": {"selector": "top", "score": "grand"}}},
            "there is no 'grand' yet: add the line `grand:` below scores:, there are: aum, el2n",
            "description",
        ),
    ],
)
def test_a_fault_names_its_key_and_the_remedy(
    changes: dict[str, Any], said: str, unsaid: str, study_content: dict[str, Any]
) -> None:
    with pytest.raises(StudyError) as fault:
        validated(study_content | changes, Path("blobs.yaml"))
    assert said in str(fault.value)
    assert unsaid not in str(fault.value)


def test_an_unknown_key_of_a_source_is_told_with_those_of_its_kind(study_content: dict[str, Any]) -> None:
    study_content["source"] |= {"tset": "x"}
    with pytest.raises(StudyError, match=r"source.parquet.tset: .* did you mean 'test'\?") as fault:
        validated(study_content, Path("blobs.yaml"))
    assert "separator" not in str(fault.value)


def test_a_score_that_is_made_of_another_brings_it_along(tmp_path: Path, study_content: dict[str, Any]) -> None:
    study_content["scores"] |= {"pvi": None, "normalised_vog": {"within": "dataset"}}
    study = load(tmp_path, study_content | {"checkpoints": 2})
    assert {"pvi", "checkpoint_loss", "normalised_vog", "vog"} <= study.scores.keys()
    assert (study.scores["vog"].scorer, study.scores["vog"].settings) == ("vog", {})
    study_content["scores"]["vog"] = {"reduce": "variance"}
    own = load(tmp_path, study_content | {"checkpoints": 2})
    assert own.scores["vog"].settings == {"reduce": "variance"}
    with pytest.raises(StudyError, match="checkpoints must be at least 2"):
        load(tmp_path, study_content | {"checkpoints": 1})
