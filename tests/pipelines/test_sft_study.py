"""Fine-tuning data from the user's file to the report: formats that `init` knows, budgets of tokens, refusals."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import polars as pl
import pytest
import yaml
from pydantic import TypeAdapter
from typer.testing import CliRunner

from secateur.pipelines.commands.main import app
from secateur.pipelines.data.columns import Columns
from secateur.pipelines.data.scan import CONTENT, words_of
from secateur.pipelines.data.sources import Source, load
from secateur.pipelines.manifests.manifest import Manifest
from secateur.pipelines.storage.home import marked_home
from secateur.pipelines.studies.files import StudyError, load_study
from secateur.trainers.tasks.token_roles import token_counts

ROWS = 150
WORDS = ("red", "green", "blue", "stone", "river", "song", "moon")
SMALL = {"model": "language_model", "model_settings": {"layers": 1, "width": 16, "heads": 2}, "epochs": 1}


def pairs() -> list[dict[str, str]]:
    """Instructions of two sources whose answers follow from them, of 2 to 12 words."""
    draw, rows = np.random.default_rng(0), []
    for row in range(ROWS):
        kind = ("copy", "sort")[row % 2]
        words = [str(word) for word in draw.choice(WORDS, draw.integers(2, 13))]
        answer = sorted(words) if kind == "sort" else words
        rows.append(
            {"instruction": f"{kind} {row}", "input": " ".join(words), "output": " ".join(answer), "source": kind}
        )
    return rows


def turns(row: dict[str, str]) -> list[dict[str, str]]:
    """The same row as a conversation."""
    asked = {"role": "user", "content": f"{row['instruction']}: {row['input']}"}
    return [asked, {"role": "assistant", "content": row["output"]}]


def as_alpaca(path: Path) -> None:
    path.write_text("\n".join(map(json.dumps, pairs())))


def as_pairs(path: Path) -> None:
    named = [{"prompt": row["instruction"], "completion": row["output"]} for row in pairs()]
    datasets.Dataset.from_list(named).to_parquet(path)


def as_messages(path: Path) -> None:
    path.write_text("\n".join(json.dumps({"messages": turns(row), "source": row["source"]}) for row in pairs()))


def as_sharegpt(path: Path) -> None:
    spoken = {"user": "human", "assistant": "gpt"}
    given = [[{"from": spoken[one["role"]], "value": one["content"]} for one in turns(row)] for row in pairs()]
    datasets.Dataset.from_dict({"conversations": given}).to_parquet(path)


def as_talks(path: Path) -> None:
    named = [{"prompt": turns(row)[:1], "completion": turns(row)[1:], "source": row["source"]} for row in pairs()]
    if path.suffix == ".jsonl":
        path.write_text("\n".join(map(json.dumps, named)))
    else:
        datasets.Dataset.from_list(named).to_parquet(path)


SHAPES: dict[str, tuple[str, Callable[[Path], None], dict[str, Any]]] = {
    "alpaca": ("a.jsonl", as_alpaca, {"prompt": ["instruction", "input"], "completion": "output", "label": "source"}),
    "pairs": ("a.parquet", as_pairs, {"prompt": "prompt", "completion": "completion"}),
    "talks": ("a.jsonl", as_talks, {"prompt": "prompt", "completion": "completion", "label": "source"}),
    "stored talks": ("a.parquet", as_talks, {"prompt": "prompt", "completion": "completion", "label": "source"}),
    "messages": ("a.jsonl", as_messages, {"messages": "messages", "label": "source"}),
    "sharegpt": ("a.parquet", as_sharegpt, {"messages": "conversations"}),
}


def ran(*command: str) -> Any:
    """The JSON of a command."""
    done = CliRunner().invoke(app, [*command, "--json"])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


@pytest.mark.parametrize("shape", SHAPES)
def test_init_recognises_shapes_and_shows_a_rendered_sample(shape: str, tmp_path: Path) -> None:
    name, write, columns = SHAPES[shape]
    write(tmp_path / name)
    answer = ran("init", str(tmp_path / name), "--out", str(tmp_path / "study.yaml"))
    written = yaml.safe_load((tmp_path / "study.yaml").read_text())
    assert written["task"] == "sft"
    assert written["columns"] == columns
    [sample] = [guess["value"] for guess in answer["guesses"] if guess["what"] == "first sample"]
    assert "<|im_start|>assistant\n⟦" in sample
    assert sample.endswith("<|im_end|>⟧")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any, Any]:
    """Folder, study and answer of a study from `init` to its report, at a third of the tokens."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("sft")
        patch.setenv("SECATEUR_HOME", str(folder / "home"))
        patch.chdir(folder)
        as_alpaca(folder / "data.jsonl")
        path = folder / "study.yaml"
        ran("init", "data.jsonl", "--out", str(path), "--seeds", "2", "--name", "tuned")
        written = yaml.safe_load(path.read_text())
        written |= {"keep": {"tokens": [0.3]}, "proxy": SMALL, "training": SMALL | {"learning_rate": 0.003}}
        written |= {"encoding": {"max_length": 42}}
        path.write_text(yaml.safe_dump(written))
        answer = ran("run", str(path))
        return marked_home() / "assets" / "tuned", load_study(path), answer


def test_a_study_of_completions_runs_from_init_to_its_report(finished: tuple[Path, Any, Any]) -> None:
    home, study, answer = finished
    assert {"uniform_random", "stratified_random", "longest_first", "source_balanced"} <= set(study.arms)
    report = json.loads((home / "report" / "report.json").read_text())
    for arm in study.arms:
        metrics = json.loads((home / "evaluation" / f"{arm}@0.3" / "0.json").read_text())["metrics"]
        of_sources = {"nll_copy", "nll_sort", "exact_match_copy", "exact_match_sort"}
        assert {"nll", "row_nll", "perplexity", "token_accuracy", "exact_match"} | of_sources == set(metrics)
    kinds = {finding["kind"]: finding["text"] for finding in report["findings"]}
    assert "cut at 42 tokens" in kinds["texts cut"]
    assert "says nothing of" in kinds["unscored samples"]
    assert answer["report"]


def test_the_report_says_how_many_tokens_each_arm_was_trained_on(finished: tuple[Path, Any, Any]) -> None:
    home, study, _ = finished
    counts = token_counts(np.load(home / "inputs.npy"))
    tables = json.loads((home / "report" / "report.json").read_text())
    assert "completion tokens trained" in json.dumps(tables)
    for arm in study.arms:
        outcome = json.loads((home / "evaluation" / f"{arm}@0.3" / "0.json").read_text())
        mask = np.load(home / "subset" / f"{arm}@0.3" / "0.npy")
        assert outcome["facts"]["tokens_seen"] == counts[mask].sum() * outcome["epochs"]


def test_budgets_are_of_completion_tokens_and_manifests_say_so(finished: tuple[Path, Any, Any]) -> None:
    home, study, _ = finished
    counts = token_counts(np.load(home / "inputs.npy"))
    samples = pl.read_parquet(home / "samples.parquet")
    np.testing.assert_array_equal(samples["completion_tokens"], counts)
    limit, shortest = 0.3 * counts.sum(), counts.min()
    kept = {}
    for arm in study.arms:
        folder = home / "manifest" / f"{arm}@0.3" / "0"
        assert "sound" in CliRunner().invoke(app, ["verify", str(folder)]).stdout
        declared = json.loads((folder / "manifest.json").read_text())["secateur"]
        spent = declared["provenance"]["spent"]
        assert declared["provenance"]["keep"] == {"tokens": 0.3}
        assert spent["total"] <= limit < spent["total"] + max(shortest, 13)
        kept[arm] = declared["count"]
        assert len(Manifest.load(folder).apply(datasets.Dataset.from_list(pairs()))) == kept[arm]
    mask = np.load(home / "subset" / "longest_first@0.3" / "0.npy")
    assert (counts[mask] < counts[~mask].max()).sum() <= 1, "what still fitted at the end"
    assert kept["longest_first"] < kept["uniform_random"]


@pytest.mark.parametrize(
    ("to", "file"), [("trl", "train.jsonl"), ("axolotl", "data.jsonl"), ("llama_factory", "data.json")]
)
def test_a_selection_leaves_for_those_who_train(
    to: str, file: str, finished: tuple[Path, Any, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the shell, with the user's own rows in the user's order, and a manifest that verifies and applies."""
    home = finished[0]
    monkeypatch.setenv("SECATEUR_HOME", str(home.parents[1]))
    monkeypatch.chdir(home.parents[2])
    manifest = home / "manifest" / "ifd@0.3" / "0"
    told = ran(
        "export",
        str(manifest),
        "--to",
        to,
        "--study",
        "study.yaml",
        "-o",
        str(tmp_path / to),
        "--set",
        "row_column=row",
    )
    text = (tmp_path / to / file).read_text()
    rows = json.loads(text) if to == "llama_factory" else [json.loads(line) for line in text.splitlines()]
    assert told["rows"] == len(rows) > 0
    kept, data = Manifest.load(tmp_path / to / "manifest"), pairs()
    assert [row["row"] for row in rows] == kept.rows.tolist()
    answers = {"trl": lambda row: row["completion"][0]["content"], "axolotl": lambda row: row["messages"][1]["content"],
               "llama_factory": lambda row: row["output"]}[to]  # fmt: skip
    assert [answers(row) for row in rows] == [data[row["row"]]["output"] for row in rows]
    assert len(kept.apply(datasets.Dataset.from_list(data))) == len(rows)


def test_the_longest_first_cost_no_proxy(finished: tuple[Path, Any, Any]) -> None:
    outcome = json.loads((finished[0] / "evaluation" / "longest_first@0.3" / "0.json").read_text())
    assert "proxy" not in outcome["compute"]
    other = json.loads((finished[0] / "evaluation" / "ifd@0.3" / "0.json").read_text())
    assert "proxy" in other["compute"]


def test_a_metric_that_is_the_same_for_all_decides_nothing_and_costs_say_how_many_rows_were_kept(
    finished: tuple[Path, Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The report alone is made again. A budget of tokens keeps another number of rows in each seed."""
    home = finished[0]
    monkeypatch.setenv("SECATEUR_HOME", str(home.parents[1]))
    monkeypatch.chdir(home.parents[2])
    written = yaml.safe_load(Path("study.yaml").read_text())
    Path("exact.yaml").write_text(yaml.safe_dump(written | {"metric": "exact_match"}))
    answer = ran("run", "exact.yaml")
    [text] = [finding["text"] for finding in answer["findings"] if finding["kind"] == "same for all"]
    assert text.startswith("exact match is 0.0% for all")
    assert not [finding for finding in finished[2]["findings"] if finding["kind"] == "same for all"]
    page = (home / "report" / "report.md").read_text()
    assert text in page
    table = "|" + page.partition("Cost of each training")[2].partition("\n|")[2].partition("\n\n")[0]
    head, _, *lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()]
    assert head[1] == "kept"
    assert len(lines) >= 4
    assert all(1 < int(line[1].replace(",", "")) < ROWS for line in lines)


def test_conversations_have_one_hash_in_every_format(tmp_path: Path) -> None:
    as_messages(tmp_path / "a.jsonl")
    rows = [turns(row) for row in pairs()]
    texts = [json.dumps([dict(reversed(one.items())) for one in row], indent=1) for row in rows]
    datasets.Dataset.from_dict({"messages": rows}).to_parquet(tmp_path / "a.parquet")
    pl.DataFrame({"messages": texts}).write_csv(tmp_path / "a.csv")
    columns, found = Columns(messages="messages").holding("class", learned=False), []
    for name, kind in (("a.jsonl", "jsonl"), ("a.parquet", "parquet"), ("a.csv", "csv")):
        source: Any = TypeAdapter(Source).validate_python({"kind": kind, "train": name, "test_fraction": 0.2})
        loaded = load(source, columns, tmp_path, tmp_path / "cache")
        tables = loaded.rows["train"].batches([CONTENT])
        found.append(np.concatenate([words_of(table[CONTENT]) for table in tables]))
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])


def test_lists_of_messages_have_one_hash_in_every_format_and_other_texts_count_by_letter(tmp_path: Path) -> None:
    as_talks(tmp_path / "a.jsonl")
    as_talks(tmp_path / "a.parquet")
    rows = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    texts = {name: [json.dumps(row[name], indent=1) for row in rows] for name in ("prompt", "completion")}
    pl.DataFrame(texts).write_csv(tmp_path / "a.csv")
    pl.DataFrame({**texts, "completion": [f" {text}" for text in texts["completion"]]}).write_csv(tmp_path / "b.csv")
    spaced = {"prompt": ["a"] * 9, "completion": ['[{"a": 1}]', '[{"a":1}]', "[", *map(str, range(6))]}
    pl.DataFrame(spaced).write_csv(tmp_path / "c.csv")
    columns, found = Columns(prompt="prompt", completion="completion").holding("class", learned=False), {}
    for name, kind in (
        ("a.jsonl", "jsonl"),
        ("a.parquet", "parquet"),
        ("a.csv", "csv"),
        ("b.csv", "csv"),
        ("c.csv", "csv"),
    ):
        source: Any = TypeAdapter(Source).validate_python({"kind": kind, "train": name, "test_fraction": 0.2})
        loaded = load(source, columns, tmp_path, tmp_path / "cache")
        found[name] = [words_of(table[CONTENT]) for split in loaded.rows.values() for table in split.batches([CONTENT])]
    for name in ("a.parquet", "a.csv", "b.csv"):
        np.testing.assert_array_equal(np.concatenate(found["a.jsonl"]), np.concatenate(found[name]))
    assert len(np.unique(np.concatenate(found["c.csv"]), axis=0)) == 9


def fault_of(tmp_path: Path, **changes: Any) -> str:
    """The reason for rejecting a study with these keys when it loads."""
    study = {
        "name": "tuned",
        "source": {"kind": "jsonl", "train": "data.jsonl", "test_fraction": 0.2},
        "columns": {"prompt": "instruction", "completion": "output"},
        "task": "sft",
        "proxy": SMALL,
        "scores": {"checkpoint_loss": None},
        "selections": {"likeliest": {"selector": "top", "score": "checkpoint_loss", "end": "low"}},
        "keep": [0.5],
        "training": SMALL,
    }
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(study | changes))
    try:
        load_study(tmp_path / "study.yaml")
    except StudyError as error:
        return str(error)
    return ""


def test_a_study_of_completions_without_a_source_loads(tmp_path: Path) -> None:
    assert not fault_of(tmp_path)
    assert not fault_of(tmp_path, keep={"tokens": [0.3, 0.1]}, proxy=SMALL | {"epochs": 0})
    assert not fault_of(tmp_path, metric="nll_code")


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        (
            {"scores": {"el2n": None}},
            "reads error, which sft has none of: a completion is many",
        ),
        ({"scores": {"aum": None}}, "each token of a completion has a rival of its own"),
        ({"training": SMALL | {"packing": True}}, "packing: several samples in one sequence would share a loss"),
        ({"encoding": {"packing": True}}, "packing: several samples in one sequence would share a loss"),
        ({"training": SMALL | {"model_settings": {"lora": {}}}}, "beside pretrained weights: name them"),
        ({"keep": [{"tokens": 4000}, 0.5]}, "budgets are all of rows, or all of one column"),
        ({"keep": [{"tokens": 0.5}, {"bytes": 0.5}]}, "compares at budgets of one column, got tokens, bytes"),
        ({"keep": {"tokens": 0.5}, "selections": {"rs2": None}}, "rs2 counts rows of an epoch, no tokens"),
        ({"task": "classification"}, "columns.label: Field required"),
        ({"columns": {"features": ["a"]}}, "task sft learns texts"),
        ({"columns": {"prompt": "a"}}, "name exactly one of image, text"),
        ({"training": SMALL | {"epochs": 0}}, "epochs: 0 trains nothing"),
        ({"proxy": SMALL | {"epochs": 0}, "scores": {"checkpoint_loss": None, "loss": None}}, "0 epochs are none"),
        ({"training": {"model": "transformer", "epochs": 1}}, "reads tokens, but a sample of fine-tuning"),
        ({"metric": "accuracy"}, "accuracy"),
        ({"scores": {"grand": None}}, "layers of language models"),
    ],
)
def test_what_makes_no_sense_of_completions_is_refused_with_the_reason(
    changes: dict[str, Any], fault: str, tmp_path: Path
) -> None:
    assert fault in fault_of(tmp_path, **changes)


def test_completions_are_for_task_sft_alone(tmp_path: Path) -> None:
    columns = {"prompt": "instruction", "completion": "output", "label": "source"}
    assert "task: sft learns from it" in fault_of(tmp_path, task="classification", columns=columns)
