"""A first study of fine-tuning data: relative paths, rows at fault, and the output of `init`."""

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import datasets
import pytest
import yaml
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import AutoConfig, PreTrainedTokenizerFast
from typer.testing import CliRunner

from secateur.pipelines.assets.data import prepared
from secateur.pipelines.commands.main import app
from secateur.pipelines.data.check import text_findings
from secateur.pipelines.data.sources import SourceError, load
from secateur.pipelines.runs.findings import values_by_selection
from secateur.pipelines.runs.own_target import read_target
from secateur.pipelines.studies.files import StudyError, find_study, load_study
from secateur.pipelines.studies.grid import Trial
from secateur.pipelines.studies.samples import Study
from secateur.trainers.contract import TrainingConfig
from secateur.trainers.modalities.encoding import encoding_of, facts_of, fit_encoder
from secateur.trainers.modalities.rendering import CHATML, Rendering, Unfit
from secateur.trainers.modalities.sequences import trained
from secateur.trainers.models.transformer import load_pretrained

SMALL = {"model": "language_model", "model_settings": {"layers": 1, "width": 16, "heads": 2}, "epochs": 1}


def written(folder: Path, **changes: Any) -> Path:
    """The file of a study of 40 rows in a folder, with its data beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [{"prompt": f"say {row}", "completion": f"word {row % 7}"} for row in range(40)]
    (folder / "data.jsonl").write_text("\n".join(map(json.dumps, rows)))
    study = {
        "name": "tuned",
        "source": {"kind": "jsonl", "train": "data.jsonl", "test_fraction": 0.2},
        "columns": {"prompt": "prompt", "completion": "completion"},
        "task": "sft",
        "proxy": SMALL,
        "scores": {"checkpoint_loss": None},
        "selections": {"likeliest": {"selector": "top", "score": "checkpoint_loss", "end": "low"}},
        "keep": [0.5],
        "training": SMALL,
        "seeds": 1,
    }
    path = folder / "tuned.yaml"
    path.write_text(yaml.safe_dump({key: value for key, value in (study | changes).items() if value is not None}))
    return path


def said(*command: str) -> str:
    """Why a command fails."""
    done = CliRunner().invoke(app, list(command))
    assert done.exit_code, done.output
    return str(done.exception)


@pytest.mark.parametrize("name", ["tuned", "studies/tuned.yaml"])
def test_the_file_of_a_target_starts_at_the_folder_of_a_study_that_is_called_by_name_or_by_path(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SECATEUR_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("SECATEUR_STUDIES", raising=False)
    written(tmp_path / "studies", target={"file": "job.jsonl"}, selections={"nearest_to_target": None})
    missing = said("run", name, "--dry-run")
    assert f"target.file: there is no file {tmp_path / 'studies' / 'job.jsonl'}" in missing
    (tmp_path / "studies" / "job.jsonl").write_text(json.dumps({"prompt": "say 1", "completion": "word 1"}))
    file = find_study(name)
    assert not file.path.is_absolute()
    assert isinstance(file.study, Study)
    held = read_target(file.study, file.path.parent, tmp_path / "cache")
    assert len(held.rows) == 1


@pytest.mark.parametrize("name", ["./base", "models/deep/base", "models/base", "/nowhere/base"])
def test_a_folder_that_is_not_there_is_not_looked_for_on_the_hub(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir()
    asked: list[dict[str, Any]] = []

    class Kind:
        """Stands for a class of transformers without a local model."""

        @staticmethod
        def from_pretrained(_: str, **options: Any) -> None:
            asked.append(options)
            raise OSError("not there")

    with pytest.raises(ValueError, match=f"start at the working folder, {tmp_path}"):
        load_pretrained(Kind, name, None)
    assert all(options["local_files_only"] for options in asked)
    with pytest.raises(ValueError, match="not there"):
        load_pretrained(Kind, "org/model", None)
    assert "local_files_only" not in asked[-1]


def test_a_folder_by_its_relative_and_its_absolute_path_is_one_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "base").mkdir()
    (tmp_path / "other").mkdir()

    def named(*paths: str) -> Any:
        configs = [
            TrainingConfig(model="language_model", epochs=1, model_settings={"pretrained": one}) for one in paths
        ]
        return encoding_of("sequence", {}, configs)

    assert named("base", str(tmp_path / "base")).tokenizer == "base"
    with pytest.raises(ValueError, match="different weights"):
        named("base", "other")


def chats(folder: Path, count: int = 40) -> list[dict[str, Any]]:
    """Conversations, every fourth behind a system turn."""
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for row in range(count):
        turns = [{"role": "user", "content": f"say {row}"}, {"role": "assistant", "content": f"word {row % 7}"}]
        found.append({"messages": [*([{"role": "system", "content": "be brief"}] * (row % 4 == 0)), *turns]})
    return found


@pytest.mark.parametrize("row", range(14, 22))
def test_an_empty_conversation_is_named_by_its_file_and_row_in_either_split(
    row: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = chats(tmp_path)
    rows[row]["messages"] = []
    path = written(tmp_path, columns={"messages": "messages"})
    (tmp_path / "data.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "prepared").mkdir()
    study = load_study(path)
    assert isinstance(study, Study)
    with pytest.raises(SourceError, match=f"the conversation is empty at row {row} of data.jsonl"):
        prepared(study, tmp_path, tmp_path / "cache", tmp_path / "prepared")


def test_rows_whose_system_turn_the_template_leaves_out_are_counted(tmp_path: Path) -> None:
    deaf = CHATML.replace(
        "{% for message in messages %}", "{% for message in messages if message['role'] != 'system' %}"
    )
    rows = [json.dumps(row["messages"]) for row in chats(tmp_path)]
    counts = {}
    for name, template in (("whole", CHATML), ("deaf", deaf)):
        tokenizer = trained(iter(rows), 300)
        tokenizer.chat_template = template
        tokenizer.save_pretrained(tmp_path / name)
        encoding = encoding_of("sequence", {"form": "messages", "tokenizer": str(tmp_path / name)}, [])
        given = datasets.Dataset.from_dict({"messages": rows})
        facts = facts_of(fit_encoder(encoding, given, ("messages",)), "train", given)
        counts[name] = [finding.count for finding in text_findings(facts, {"train": 40, "test": 0})]
    assert counts == {"whole": [], "deaf": [10]}


@pytest.mark.parametrize("positions", [12, 4096])
def test_samples_are_no_longer_than_the_model_beside_the_tokenizer_reads(positions: int, tmp_path: Path) -> None:
    texts = [" ".join(["word"] * count) for count in (3, 40)]
    trained(iter(texts * 9), 300).save_pretrained(tmp_path)
    AutoConfig.for_model("llama", max_position_embeddings=positions).save_pretrained(tmp_path)
    given = datasets.Dataset.from_dict({"text": texts})

    def length(**settings: Any) -> int:
        encoding = encoding_of("sequence", {"form": "text", "tokenizer": str(tmp_path), **settings}, [])
        return int(fit_encoder(encoding, given, ("text",)).shape[1])

    asked = encoding_of("sequence", {"form": "text", "tokenizer": str(tmp_path)}, [])
    facts = facts_of(fit_encoder(asked, given, ("text",)), "train", given)
    remedies = [finding.text.partition(": ")[2] for finding in text_findings(facts, {"train": 2, "test": 0})]
    assert remedies == (["the model reads no more, take one that does"] if positions == 12 else [])
    longest = length(max_length=1000)
    assert longest > 12
    assert length() == min(longest, positions - 1)


def test_init_writes_no_ifd_of_plain_texts_and_a_study_with_it_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [{"body": f"the {row} birds sing of rivers and stones"} for row in range(60)]
    (tmp_path / "plain.jsonl").write_text("\n".join(map(json.dumps, rows)))
    done = CliRunner().invoke(app, ["init", "plain.jsonl", "--task", "sft", "--out", "plain.yaml"])
    assert done.exit_code == 0, done.output
    study = load_study(tmp_path / "plain.yaml")
    assert isinstance(study, Study)
    assert {"likeliest", "unlikeliest", "s2l", "longest_first"} <= set(study.selections)
    assert {score.scorer for score in study.computed.values()} == {"perplexity", "response_tokens"}
    for scorer in ("ifd_ppl", "ifd_loss"):
        changed = {"scores": {scorer: None}, "selections": {"s2l": None}}
        given = yaml.safe_load((tmp_path / "plain.yaml").read_text())
        (tmp_path / "ifd.yaml").write_text(yaml.safe_dump(given | changed))
        with pytest.raises(StudyError, match=rf"scores.{scorer}: .*a plain text \(columns.text\) has none"):
            load_study(tmp_path / "ifd.yaml")


def test_a_metric_is_the_same_for_all_where_no_seed_and_no_selection_differs() -> None:
    names = ("a@0.5", "b@0.5", "full")
    assert values_by_selection({Trial(name, seed): 0.1 for name in names for seed in (0, 1)}) == [0.1] * 3
    assert not values_by_selection({Trial(name, seed): seed / 2 for name in names for seed in (0, 1)})


@pytest.mark.parametrize(
    ("keep", "fault"),
    [
        ({"tokens": 0}, "keep: tokens needs a whole amount above 0"),
        ({"tokens": [1]}, "keep: 1 comes to 1 tokens, and the smallest that stays whole has"),
        ({"tokens": [10**6]}, "keep: 1,000,000 tokens are more than the"),
    ],
)
def test_a_budget_of_tokens_that_nothing_fits_is_refused_before_a_run(
    keep: Any, fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SECATEUR_HOME", str(tmp_path / "home"))
    assert fault in said("run", str(written(tmp_path, keep=keep)), "--dry-run")


@pytest.mark.parametrize(
    ("keep", "grouped", "fault"),
    [
        ([1], False, r"keep: 1 comes to 1 tokens, and the smallest that stays whole has 3"),
        ([10**6], False, r"keep: 1,000,000 tokens are more than the \d+ of all training rows"),
        ([5], True, r"keep: 5 comes to 5 tokens, and the smallest that stays whole has 6"),
        ([6], True, ""),
        ([0.5], True, ""),
    ],
)
def test_budgets_of_tokens_are_held_against_the_rows_and_groups_before_anything_is_trained(
    keep: list[Any], grouped: bool, fault: str, tmp_path: Path
) -> None:
    # Each completion is two words and the token that ends it; a group is two rows.
    columns = {"prompt": "prompt", "completion": "completion"} | ({"group": "pair"} if grouped else {})
    study = load_study(written(tmp_path, keep={"tokens": keep}, columns=columns))
    assert isinstance(study, Study)
    rows = [{"prompt": f"say {row}", "completion": f"word {row % 7}", "pair": row // 2} for row in range(40)]
    (tmp_path / "data.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "made").mkdir()
    with pytest.raises(SourceError, match=fault) if fault else nullcontext():
        prepared(study, tmp_path, tmp_path / "cache", tmp_path / "made")


@pytest.mark.parametrize(
    ("template", "turns", "fault"),
    [
        (CHATML, "a", "nothing precedes the answer.* no empty conversation: write a prompt, or remove the row"),
        ("{% for m in messages %}{{ m", "ua", "chat template is no Jinja .*: correct the template"),
        ("{{ raise_exception('user first') }}", "au", "refuses the conversation .*user first.*: correct its roles"),
    ],
)
def test_a_template_that_refuses_a_conversation_says_what_to_correct(template: str, turns: str, fault: str) -> None:
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(WordLevel()), chat_template=template)

    def rendered(messages: Any, prompt: bool) -> str:
        return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=prompt))

    names = {"u": "user", "a": "assistant"}
    with pytest.raises(Unfit, match=fault):
        Rendering(rendered, "", ()).conversed([{"role": names[turn], "content": "hello"} for turn in turns])


def test_a_source_of_one_row_is_told_that_it_needs_two(tmp_path: Path) -> None:
    path = written(tmp_path, source={"kind": "jsonl", "train": "one.jsonl", "test_fraction": 0.2})
    (tmp_path / "one.jsonl").write_text(json.dumps({"prompt": "a", "completion": "b"}))
    study = load_study(path)
    assert isinstance(study, Study)
    with pytest.raises(SourceError, match=r"source\.train: 1 row, and a study trains on one and tests on another"):
        load(study.read_source, study.read_columns, tmp_path, tmp_path / "cache")
