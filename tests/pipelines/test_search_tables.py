"""Tables of architectures and small spaces: inputs refused before any evaluation, and that the rest ends."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import polars as pl
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from secateur.pipelines.materialise import run_study
from secateur.pipelines.runs.architectures import architectures_of
from secateur.pipelines.runs.outcomes import outcomes_at
from secateur.pipelines.storage.store import Store
from secateur.pipelines.studies.architectures import Search
from secateur.pipelines.studies.files import StudyError, StudyFile, load_file
from secateur.scorers.architectures.encoding import Position, choice_numbers

SEARCH = {"initial": 3, "per_round": 2, "budget": 4, "predictor": {"trees": 5, "leaves": 4, "least_in_leaf": 1}}
SIX = pl.DataFrame({"a": list("xxyyzz"), "b": list("pqpqpq"), "acc": [0.0, 1, 2, 3, 4, 5], "twin": list("001122")})

Write = Callable[..., StudyFile]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """A search of a table of six networks, which a test changes."""

    def written(table: pl.DataFrame = SIX, search: dict[str, Any] | None = None, **changes: Any) -> StudyFile:
        path = tmp_path / "six.csv" if changes.pop("csv", False) else tmp_path / "six.parquet"
        table.write_csv(path) if path.suffix == ".csv" else table.write_parquet(path)
        space = {"path": path.name, "positions": ["a", "b"], "accuracy": "acc", "scale": "number"}
        content = {
            "kind": "search",
            "name": "six",
            "space": {"table": {**space, **changes}},
            "search": {**SEARCH, **(search or {})},
            "evolution": {"population": 2, "sample": 1},
            "seeds": 1,
        }
        (tmp_path / "six.yaml").write_text(yaml.safe_dump(content))
        return load_file(tmp_path / "six.yaml")

    return written


def table_of(file: StudyFile) -> pl.DataFrame:
    assert isinstance(file.study, Search)
    return architectures_of(file.study, file.path.parent)


AT_LOAD = [
    ({"positions": ["a", "b", "a"]}, "positions: 'a' is there twice"),
    ({"positions": {"a": ["x", "y", "x"], "b": ["p", "q"]}}, "positions: a: 'x' is there twice"),
    (
        {"positions": {"a": [8, 16, 32], "b": ["p", "q"]}},
        "positions: a: choices are names, 8 is no text; write it in quo",
    ),
    ({"positions": {"a": ["x"], "b": [True, False]}}, "positions: b: choices are names, True is no text"),
    ({"positions": {"a": ["x", None], "b": ["p"]}}, "positions: a: choices are names, None is no text"),
    ({"positions": ["key", "b"]}, "no position can be called 'key'"),
    ({"positions": {"row": ["x"], "b": ["p"]}}, "no position can be called 'row'"),
    ({"positions": ["a", "accuracy"]}, "no position can be called 'accuracy'"),
    ({"positions": ["a", "acc"]}, "accuracy: column 'acc' is a position already"),
    ({"key": "a"}, "key: column 'a' is a position already"),
    ({"key": "acc"}, "key: column 'acc' holds the accuracies"),
    ({"search": {"initial": 2}}, "search.initial: Input should be greater than or equal to 3"),
]


@pytest.mark.parametrize(("changes", "said"), AT_LOAD, ids=lambda value: str(value)[:40])
def test_what_the_yaml_shows_is_refused_when_it_is_read(changes: dict[str, Any], said: str, write: Write) -> None:
    with pytest.raises(StudyError) as refusal:
        write(**changes)
    assert said in str(refusal.value)
    assert len(str(refusal.value).splitlines()) == 2  # the file, and one sentence


SPACES: list[tuple[dict[str, Any], str]] = [
    ({"positions": {"a": [1, 2], "b": [True]}}, "search.initial: the positions make 2 architectures, fewer than the 3"),
    ({"positions": {"a": [1, 2, 1.0]}}, "positions: a: 1.0 is there twice"),
    ({"positions": {"a": [1, "1", 2]}}, "positions: a: '1' is there twice"),
    ({"positions": {"key": [1, 2, 3]}}, "no position can be called 'key'"),
]


@pytest.mark.parametrize(("space", "said"), SPACES, ids=lambda value: str(value)[:30])
def test_spaces_of_functions_are_refused_in_the_same_words(space: dict[str, Any], said: str, tmp_path: Path) -> None:
    content = {"kind": "search", "name": "s", "search": SEARCH, "evolution": {"population": 2, "sample": 1}}
    content["space"] = {"callable": {"evaluate": "any_module:function", **space}}
    (tmp_path / "s.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(StudyError) as refusal:
        load_file(tmp_path / "s.yaml")
    assert said in str(refusal.value)


def with_column(name: str, values: list[Any]) -> pl.DataFrame:
    return SIX.with_columns(pl.Series(name, values))


XYZ = {"a": ["x", "y", "z"], "b": ["p", "q"]}
AT_FIRST = [
    (with_column("twin", ["0", None, "1", "1", "2", None]), {"key": "twin"}, "column 'twin' is empty at rows 1, 5"),
    (with_column("twin", [0.0, 0, 1, 1, 2, np.nan]), {"key": "twin"}, "column 'twin' is empty at row 5"),
    (with_column("twin", ["0", "0", "1", "1", "", ""]), {"key": "twin"}, "column 'twin' is empty at rows 4, 5"),
    (with_column("a", ["x", "x", None, "y", "z", "z"]), {}, "column 'a' is empty at row 2"),
    (with_column("a", ["x", "x", None, "y", "z", "z"]), {"positions": XYZ}, "column 'a' is empty at row 2"),
    (
        with_column("a", ["x", "0", "y", "1", "z", "2"]),
        {"positions": XYZ},
        "a: '0' at row 1 is the number of a choice and 'x' at row 0 a name; a column holds names or numbers",
    ),
    (
        with_column("a", ["1", "3", "0", "1", "5", "2"]),
        {"positions": {"a": ["1", "3", "5"], "b": ["p", "q"]}},
        "a: '0' at row 2 is the number of a choice and '3' at row 1 a name",
    ),
    (with_column("a", [3, 3, 1, 1, 2, 2]), {"positions": XYZ}, "a: unknown choice '3' at row 0; there are x, y, z"),
    (
        SIX,
        {"search": {"predictor": {"failed_below": 5}}},
        "1 of 6 different architectures reach search.predictor.failed",
    ),
    (SIX.head(2), {}, "2 different architectures are fewer than the 3"),
]


@pytest.mark.parametrize(("table", "changes", "said"), AT_FIRST, ids=lambda value: str(value)[:40])
def test_what_the_table_shows_is_refused_before_anything_is_evaluated(
    table: pl.DataFrame, changes: dict[str, Any], said: str, write: Write
) -> None:
    for csv in (False, True):
        if csv and (table["twin"].dtype == pl.Float64 or "" in table["twin"].to_list()):
            continue  # a CSV has neither
        with pytest.raises(ValueError, match=r"six\.|different architectures") as refusal:
            table_of(write(table, csv=csv, **changes))
        assert said in str(refusal.value)
        assert "\n" not in str(refusal.value)


@settings(max_examples=80, deadline=None)
@given(
    names=st.lists(st.sampled_from(["0", "1", "2", "3", "x", "y", "-1", "1.0"]), min_size=1, max_size=4, unique=True),
    cells=st.lists(st.sampled_from(["0", "1", "2", "3", "x", "y", "-1", "1.0"]), min_size=1, max_size=5),
)
def test_a_column_is_read_in_one_way_or_refused(names: list[str], cells: list[str]) -> None:
    position = Position("a", tuple(names))
    if all(cell in names for cell in cells):
        expected = [names.index(cell) for cell in cells]
    elif all(cell in map(str, range(len(names))) for cell in cells):
        expected = [int(cell) for cell in cells]
    else:
        with pytest.raises(ValueError, match=r"^a: "):
            choice_numbers(np.array(cells, dtype=object), position)
        return
    assert choice_numbers(np.array(cells, dtype=object), position).tolist() == expected


def test_choices_named_by_digits_are_names_in_every_cell(write: Write) -> None:
    positions = {"a": ["2", "0", "1"], "b": ["p", "q"]}
    for csv in (False, True):
        table = table_of(write(with_column("a", [0, 0, 1, 1, 2, 2]), csv=csv, positions=positions))
        assert table["a"].to_list() == ["0", "0", "1", "1", "2", "2"]
        assert table["accuracy"].to_list() == SIX["acc"].to_list()


@pytest.mark.parametrize(
    ("search", "changes", "networks"),
    [
        ({"budget": 9, "initial": 6}, {}, 6),
        ({"budget": 9}, {"key": "twin"}, 3),
    ],
    ids=["every row", "three networks"],
)
def test_small_spaces_are_searched_to_their_end(
    search: dict[str, Any], changes: dict[str, Any], networks: int, write: Write, tmp_path: Path
) -> None:
    file, store = write(search=search, **changes), Store(tmp_path / "store")
    with dg.DagsterInstance.ephemeral() as instance:
        run_study(file, store.root, instance)
    assert isinstance(file.study, Search)
    outcomes = outcomes_at(store, file.study, file.study.trials)
    found = {trial: len(one.facts["rows"]) for trial, one in outcomes.items() if trial.keep == search["budget"]}
    assert len(found) == 4
    # Pruning may take the last choices away; no other search ends before the budget or the space.
    assert all(count == networks or (trial.name == "gbdt_s3" and count >= 3) for trial, count in found.items())
    told = store.load(dg.AssetKey(["six", "best_architecture"]))
    assert told["evaluations"] == next(count for trial, count in found.items() if trial.name == "gbdt_s3")


def test_a_space_of_six_trained_networks_is_searched_to_its_end(study_content: dict[str, Any], tmp_path: Path) -> None:
    content = {"kind": "search", "name": "six", "search": SEARCH, "seeds": 1}
    content["space"] = {
        "models": {
            "source": study_content["source"],
            "columns": study_content["columns"],
            "training": {"model": "secateur.trainers.models.searchable:searchable_mlp", "steps": 2, "batch_size": 16},
            "positions": {"layer1": ["skip", 4, 8], "layer2": ["skip", 8]},
        }
    }
    (tmp_path / "six.yaml").write_text(yaml.safe_dump(content))
    file, store = load_file(tmp_path / "six.yaml"), Store(tmp_path / "store")
    with dg.DagsterInstance.ephemeral() as instance:
        run_study(file, store.root, instance)
    assert store.load(dg.AssetKey(["six", "best_architecture"]))["evaluations"] in (3, 4)
