"""Fine-tuning data reads back as in its trainers: by TRL's SFTTrainer, by the documented schema of others."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pytest
import yaml
from trainer_schemas import Turn, by_axolotl, by_llama_factory
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
    """The prompt of an Alpaca row as one message."""
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
    """`datasets` loads the folder, and TRL's own preparation gives the same texts as the study's rendering."""
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


def learned_in_a_study(shape: str, row: int) -> list[Turn]:
    """A row's turns as `task: sft` renders them, or its text; the flag marks turns that the study learns."""
    kept = SHAPES[shape][0][row]
    if shape == "texts":
        return [Turn("", kept["text"], True)]
    if shape == "alpaca":
        return [Turn("user", asked(row), False), Turn("assistant", kept["output"], True)]
    spoken = {"human": "user", "gpt": "assistant"}
    turns = kept["messages"] if shape == "chats" else [*kept["prompt"], *kept["completion"]]
    told = [(one.get("role") or one["from"], one.get("content") or one["value"]) for one in turns]
    first = len(kept["prompt"]) if shape == "talks" else 0
    return [
        Turn(spoken.get(role, role), said, at >= first and spoken.get(role, role) == "assistant")
        for at, (role, said) in enumerate(told)
    ]


@pytest.mark.parametrize("shape", SHAPES)
def test_axolotl_reads_what_the_study_learns(shape: str, manifest_of: ManifestOf) -> None:
    """By its documented keys and defaults."""
    path = written(shape, "axolotl", manifest_of)
    assert by_axolotl(path) == [learned_in_a_study(shape, row) for row in KEPT]
    [entry] = yaml.safe_load((path / "axolotl.yaml").read_text())["datasets"]
    if shape != "texts":
        assert entry["train_on_eos"] == "turn", "the token that ends an answer is learned, and no other"


@pytest.mark.parametrize("shape", SHAPES)
def test_llama_factory_reads_what_the_study_learns(shape: str, manifest_of: ManifestOf) -> None:
    """By its documented names, columns, tags and order of turns."""
    said: list[str] = []
    path = written(shape, "llama_factory", manifest_of, warn=said.append)
    assert list(json.loads((path / "dataset_info.json").read_text())) == ["samples"]
    history = shape == "talks"
    assert by_llama_factory(path, mask_history=history) == [learned_in_a_study(shape, row) for row in KEPT]
    assert ("3 rows with answers in the prompt" in "".join(said) and "mask_history: true" in "".join(said)) == history


def spoken(*turns: str) -> dict[str, Any]:
    """A conversation of turns as `role: content`."""
    split = [turn.partition(": ") for turn in turns]
    return {"messages": [{"role": role, "content": content} for role, _, content in split], "label": 0}


def test_what_llama_factory_reads_otherwise_is_counted(manifest_of: ManifestOf) -> None:
    rows = [
        spoken("system: s", "user: what time?", "function: clock()", "tool: noon", "assistant: Noon."),
        spoken("user: a", "assistant: b"),
    ]
    data, said = datasets.Dataset.from_list(rows), []
    manifest = manifest_of(data, {"messages": "messages", "label": "label"}, [0, 1])
    read = by_llama_factory(export(manifest, "llama_factory", dataset=data, warn=said.append))
    assert [[turn.role for turn in talk if turn.learned] for talk in read] == [["function", "assistant"], ["assistant"]]
    assert said == ["1 row with turns of the role function, which LLaMA-Factory learns like answers; a study only "
                    "reads them"]  # fmt: skip


def test_an_answer_without_a_prompt_is_counted_for_llama_factory(manifest_of: ManifestOf) -> None:
    rows = [{"prompt": "a", "completion": "b", "label": 0}, {"prompt": "", "completion": "c", "label": 0}]
    data, said = datasets.Dataset.from_list(rows), []
    manifest = manifest_of(data, SHAPES["talks"][1], [0, 1])
    read = by_llama_factory(export(manifest, "llama_factory", dataset=data, warn=said.append))
    assert read[1] == [Turn("user", "", False), Turn("assistant", "c", True)]
    assert "1 row without a prompt" in said[0]


@pytest.mark.parametrize(
    ("file", "change"),
    [
        ("axolotl.yaml", lambda text: text.replace("train_on_eos", "train_on_end")),
        ("axolotl.yaml", lambda text: text.replace("train_on_eos: turn", "train_on_eos: each")),
        ("dataset_info.json", lambda text: text.replace('"user_tag"', '"human_tag"')),
        ("dataset_info.json", lambda text: text.replace('"messages": "messages"', '"message": "messages"')),
    ],
)
def test_the_documented_schemas_find_what_no_program_would_read(
    file: str, change: Callable[[str], str], manifest_of: ManifestOf
) -> None:
    path = written("chats", "axolotl" if file.endswith("yaml") else "llama_factory", manifest_of)
    (path / file).write_text(change((path / file).read_text()))
    with pytest.raises((AssertionError, KeyError)):
        (by_axolotl if file.endswith("yaml") else by_llama_factory)(path)


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


def test_rows_of_texts_and_rows_of_messages_are_refused_for_llama_factory(manifest_of: ManifestOf) -> None:
    talk = [{"role": "user", "content": "a"}], [{"role": "assistant", "content": "b"}]
    rows = [{"prompt": "a", "completion": "b", "label": 0},
            {"prompt": json.dumps(talk[0]), "completion": json.dumps(talk[1]), "label": 0}]  # fmt: skip
    refused(rows, SHAPES["talks"][1], "llama_factory", "row 1 holds messages and row 0 texts", manifest_of)


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
    """Arrow gives every message the keys of all; a loader would mistake the null ones for content."""
    table = datasets.Dataset.from_list([{"talk": [{"role": "user"}, {"role": "assistant", "name": "bot"}]}])
    assert without_null(table[0]) == {"talk": [{"role": "user"}, {"role": "assistant", "name": "bot"}]}
    assert table[0] != without_null(table[0])
