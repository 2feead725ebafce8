"""Fine-tuning data is read back as its trainers read it: by TRL's SFTTrainer, by the documented schema of others."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pytest
import yaml
from typer.testing import CliRunner

from secateur.pipelines.commands.main import app
from secateur.pipelines.exports.fine_tuning import without_null
from secateur.pipelines.exports.registry import export
from secateur.pipelines.manifests.document import ManifestError
from secateur.pipelines.manifests.manifest import Manifest

ManifestOf = Callable[..., Manifest]
ALPACA = [
    {"instruction": f"Say {row}", "input": "" if row % 2 else f"as {row}", "output": f"{row} é", "label": 0}
    for row in range(6)
]
CHATS = [
    {"messages": [{"from": "system", "value": "Be brief."}, {"from": "human", "value": f"{row}?"},
                  {"from": "gpt", "value": f"{row}!"}], "label": 0}
    for row in range(6)
]  # fmt: skip
TALKS = [
    {"prompt": [{"role": "user", "content": "0?"}, {"role": "assistant", "content": "no"},
                {"role": "user", "content": f"{row}?"}],
     "completion": [{"role": "assistant", "content": f"{row}!"}], "label": 0}
    for row in range(6)
]  # fmt: skip
TEXTS = [{"text": f"text {row}", "label": 0} for row in range(6)]
SHAPES: dict[str, tuple[list[dict[str, Any]], dict[str, Any]]] = {
    "alpaca": (ALPACA, {"prompt": ["instruction", "input"], "completion": "output", "label": "label"}),
    "chats": (CHATS, {"messages": "messages", "label": "label"}),
    "talks": (TALKS, {"prompt": "prompt", "completion": "completion", "label": "label"}),
    "texts": (TEXTS, {"text": "text", "label": "label"}),
}
KEPT = [1, 2, 5]


def written(shape: str, to: str, manifest_of: ManifestOf, **given: Any) -> Path:
    """The folder of an export of rows 1, 2 and 5."""
    rows, columns = SHAPES[shape]
    data = datasets.Dataset.from_list(rows)
    path = export(manifest_of(data, columns, KEPT), to, dataset=data, **given)
    assert Manifest.load(path / "manifest", verify=True).declaration.count == 3
    assert "sound" in CliRunner().invoke(app, ["verify", str(path / "manifest")]).stdout
    return path


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def asked(row: int) -> str:
    """An Alpaca's prompt as one message."""
    return f"Say {row}" if row % 2 else f"Say {row}\n\nas {row}"


@pytest.mark.parametrize("shape", SHAPES)
def test_trl_gets_one_of_its_shapes(shape: str, manifest_of: ManifestOf, tmp_path: Path) -> None:
    path = written(shape, "trl", manifest_of, settings={"row_column": "row"})
    loaded = datasets.load_dataset(str(path), split="train", cache_dir=str(tmp_path / "cache"))
    answer = [{"role": "assistant", "content": "1 é" if shape == "alpaca" else "1!"}]
    expected = {
        "alpaca": {"prompt": [{"role": "user", "content": "Say 1"}], "completion": answer},
        "talks": {"prompt": TALKS[1]["prompt"], "completion": answer},
        "chats": {"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "1?"}, *answer]},
        "texts": {"text": "text 1"},
    }[shape]
    assert loaded[0] == {**expected, "row": 1}
    assert loaded["row"][:] == KEPT


@pytest.mark.nightly
@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("shape", SHAPES)
def test_trl_trains_on_it_as_it_is(shape: str, manifest_of: ManifestOf, tmp_path: Path) -> None:
    """`datasets` loads the folder, and TRL's own preparation makes of it what the study renders."""
    trl = pytest.importorskip("trl")
    import tiny_language

    path = written(shape, "trl", manifest_of, settings={"row_column": "row"})
    loaded = datasets.load_dataset(str(path), split="train", cache_dir=str(tmp_path / "cache"))
    assert loaded["row"][:] == KEPT
    words = tiny_language.tokenizer()
    arguments = trl.SFTConfig(str(tmp_path / "out"), report_to=[], use_cpu=True, bf16=False)
    trainer = trl.SFTTrainer(tiny_language.model(words), arguments, train_dataset=loaded, processing_class=words)
    assert len(trainer.train_dataset) == 3
    said = []
    for row in trainer.train_dataset:
        learned = [token for token, label in zip(row["input_ids"], row["labels"], strict=True) if label != -100]
        said.append((words.decode(row["input_ids"]), words.decode(learned)))
    turn = "<|im_start|>{}\n{}<|im_end|>\n".format
    expected = {
        "alpaca": lambda row: (turn("user", asked(row)), turn("assistant", f"{row} é")),
        "talks": lambda row: (turn("user", "0?") + turn("assistant", "no") + turn("user", f"{row}?"),
                              turn("assistant", f"{row}!")),
        "chats": lambda row: ("", turn("system", "Be brief.") + turn("user", f"{row}?") + turn("assistant", f"{row}!")),
        "texts": lambda row: ("", f"text {row}<|im_end|>"),
    }[shape]  # fmt: skip
    for row, (whole, learned) in zip(KEPT, said, strict=True):
        before, answer = expected(row)
        assert whole == before + answer
        assert learned == answer.removeprefix("<|im_start|>assistant\n") if before else learned == answer


def test_trl_gets_texts_where_they_are_asked_for(manifest_of: ManifestOf) -> None:
    path = written("alpaca", "trl", manifest_of, settings={"conversational": "false"})
    assert lines(path / "train.jsonl")[1] == {"prompt": "Say 2\nas 2\n", "completion": "2 é"}


def test_messages_are_no_texts(manifest_of: ManifestOf) -> None:
    with pytest.raises(ManifestError, match="row 1: messages are no texts"):
        written("talks", "trl", manifest_of, settings={"conversational": False})


@pytest.mark.parametrize("to", ["trl", "axolotl", "llama_factory"])
def test_the_same_manifest_exports_the_same_bytes(to: str, manifest_of: ManifestOf, tmp_path: Path) -> None:
    rows, columns = SHAPES["chats"]
    data = datasets.Dataset.from_list(rows)
    manifest = manifest_of(data, columns, KEPT)
    found = []
    for name in ("a", "b"):
        folder = export(manifest, to, tmp_path / name / to, dataset=data)
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        found.append([(path.relative_to(folder), path.read_bytes()) for path in files])
    assert found[0] == found[1]


@pytest.mark.parametrize("shape", SHAPES)
def test_axolotl(shape: str, manifest_of: ManifestOf) -> None:
    path = written(shape, "axolotl", manifest_of)
    [read] = yaml.safe_load((path / "axolotl.yaml").read_text())["datasets"]
    assert read["ds_type"] == "json"
    found = lines(path / read["path"])
    if shape == "texts":
        assert (read["type"], read["field"]) == ("completion", "text")
        assert [row["text"] for row in found] == ["text 1", "text 2", "text 5"]
        return
    assert read["type"] == "chat_template"
    assert read["train_on_eos"] == "turn"
    role, content = (read["message_property_mappings"][name] for name in ("role", "content"))
    marks, roles = read.get("message_field_training"), read["roles_to_train"]
    told = [
        [
            (turn[role], turn[content], turn[marks] if marks else turn[role] in roles)
            for turn in row[read["field_messages"]]
        ]
        for row in found
    ]
    answer = "{} é" if shape == "alpaca" else "{}!"
    for row, talk in zip(KEPT, told, strict=True):
        assert talk[-1] == ("assistant", answer.format(row), True)
        assert talk[-2][:2] == ("user", asked(row) if shape == "alpaca" else f"{row}?")
        assert not any(learned for *_, learned in talk[:-1])
        assert len(talk) == {"alpaca": 2, "chats": 3, "talks": 4}[shape]


@pytest.mark.parametrize("shape", SHAPES)
def test_llama_factory(shape: str, manifest_of: ManifestOf) -> None:
    said: list[str] = []
    path = written(shape, "llama_factory", manifest_of, warn=said.append)
    [(name, described)] = json.loads((path / "dataset_info.json").read_text()).items()
    assert name == "samples"
    found = json.loads((path / described["file_name"]).read_text())
    assert len(found) == 3
    if shape == "texts":
        assert [row[described["columns"]["prompt"]] for row in found] == ["text 1", "text 2", "text 5"]
    elif shape == "alpaca":
        assert "formatting" not in described
        named = described["columns"]
        assert [(row[named["prompt"]], row[named["query"]], row[named["response"]]) for row in found] == [
            (asked(row), "", f"{row} é") for row in KEPT
        ]
    else:
        assert described["formatting"] == "sharegpt"
        tags = described["tags"]
        for row, talk in zip(KEPT, found, strict=True):
            turns = [
                (one[tags["role_tag"]], one[tags["content_tag"]]) for one in talk[described["columns"]["messages"]]
            ]
            assert turns[-2:] == [(tags["user_tag"], f"{row}?"), (tags["assistant_tag"], f"{row}!")]
            assert (turns[0] == (tags["system_tag"], "Be brief.")) == (shape == "chats")
    assert ("mask_history: true" in "".join(said)) == (shape == "talks")


def refused(rows: list[dict[str, Any]], columns: dict[str, Any], to: str, says: str, manifest_of: ManifestOf) -> None:
    data = datasets.Dataset.from_list(rows)
    manifest = manifest_of(data, columns, list(range(len(rows))))
    with pytest.raises(ManifestError, match=says):
        export(manifest, to, dataset=data)
    assert not (manifest.path.parent / f"m_{to}").exists()


def test_what_a_trainer_would_leave_out_or_misread_is_refused_with_its_row(manifest_of: ManifestOf) -> None:
    twice = [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}, {"role": "assistant", "content": "c"}]
    chat = {"messages": "messages", "label": "label"}
    refused([CHATS[0] | {"messages": twice}], chat, "llama_factory", "row 0: LLaMA-Factory reads user and assistant in "
            "turn.*user, user, assistant", manifest_of)  # fmt: skip


def test_a_prompt_that_is_missing_is_refused_for_trl(manifest_of: ManifestOf) -> None:
    rows = [{"prompt": "a", "completion": "b", "label": 0}, {"prompt": "", "completion": "c", "label": 0}]
    refused(rows, SHAPES["talks"][1], "trl", "row 1 has no prompt", manifest_of)


def test_other_data_are_refused(manifest_of: ManifestOf) -> None:
    refused([{"a": 1.0, "label": 0}], {"features": ["a"], "label": "label"}, "axolotl", "of features", manifest_of)


def test_without_the_data_it_says_what_is_needed(manifest_of: ManifestOf) -> None:
    manifest = manifest_of(datasets.Dataset.from_list(TEXTS), SHAPES["texts"][1], KEPT)
    with pytest.raises(ManifestError, match="name a study"):
        export(manifest, "trl")


def test_weights_are_said_to_be_left_out(manifest_of: ManifestOf) -> None:
    import numpy as np

    data, said = datasets.Dataset.from_list(TEXTS), []
    manifest = manifest_of(data, SHAPES["texts"][1], KEPT, weights=np.linspace(1, 2, 6).astype(np.float32))
    export(manifest, "axolotl", dataset=data, warn=said.append)
    assert "trains each row alike" in said[0]


def test_keys_that_arrow_fills_with_null_are_left_out() -> None:
    """Arrow gives every message the keys of all; a loader would take the null ones for content."""
    table = datasets.Dataset.from_list([{"talk": [{"role": "user"}, {"role": "assistant", "name": "bot"}]}])
    assert without_null(table[0]) == {"talk": [{"role": "user"}, {"role": "assistant", "name": "bot"}]}
    assert table[0] != without_null(table[0])
