"""Exports of kept fine-tuning data for trainers of language models: TRL, axolotl and LLaMA-Factory.

Each is a folder with the rows, the trainer's configuration for them, and the manifest. Prompts, roles and answers are
those that `task: sft` reads: several columns of a prompt are one message, ShareGPT's roles are the usual ones.
"""

import json
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import Field

from secateur.pipelines.exports.registry import exporter
from secateur.pipelines.exports.selected import Selected
from secateur.pipelines.exports.tables import RowColumn, json_text, places_of
from secateur.pipelines.manifests.document import ManifestError
from secateur.trainers.modalities.rendering import Unfit, holds_messages, messages_in

Message = dict[str, str]
Conversational = Annotated[
    bool,
    Field(
        description="prompts and completions as lists of messages, which TRL renders by the chat template, as a study "
        "does; false: as texts, one behind the other"
    ),
]


@dataclass(frozen=True)
class Talk:
    """One kept row: `text`, learned whole, or `messages`, whose answers from message `first` on are learned.

    `prompts` and `completion` are the texts of a row without messages. `place` names the row in messages to the user.
    """

    place: str
    text: str = ""
    messages: Sequence[Message] = ()
    first: int = 0
    prompts: Sequence[str] = ()
    completion: str = ""


class Talks:
    """Kept rows as talks, read in small batches; with `added` values of each, such as its row in the user's file."""

    def __init__(self, selected: Selected, to: str, row_column: str) -> None:
        columns = selected.columns
        self.kind = columns.kind if columns is not None else "none"
        if selected.dataset is None:
            selected.data  # raises without data  # noqa: B018
        if columns is None or self.kind not in ("completion", "messages", "text"):
            raise ManifestError(
                f"{to} reads prompts with completions, conversations or texts, and the manifest is of {self.kind}: "
                "export jsonl or parquet"
            )
        self.selected, self.names = selected, columns.texts
        self.rows = {row_column: places_of(selected)[0].tolist()} if row_column else {}
        if selected.weights is not None:
            selected.warn(
                f"the selection weights its samples, and {to} trains each row alike: its weights are left out"
            )

    def __iter__(self) -> Iterator[tuple[Talk, dict[str, Any]]]:
        for part, table in self.selected.blocks(self.selected.data):
            columns = [table[name].to_pylist() for name in self.names]
            for position, cells in zip(range(part.start, part.stop), zip(*columns, strict=True), strict=True):
                place = self.selected.located.said(position)
                try:
                    talk = self.talk_of(place, [as_text(cell) for cell in cells])
                except Unfit as error:
                    raise ManifestError(f"{place}: {error.fault}: {error.remedy}") from error
                yield talk, {name: values[position] for name, values in self.rows.items()}

    def talk_of(self, place: str, cells: Sequence[str]) -> Talk:
        """One row from its cells; raises Unfit for one that is not a conversation."""
        if self.kind == "text":
            return Talk(place, text=cells[0])
        if self.kind == "messages":
            return Talk(place, messages=messages_in(cells[0]))
        *prompts, completion = cells
        if holds_messages(completion):
            asked = messages_in(prompts[0]) if prompts and prompts[0] else []
            return Talk(place, messages=[*asked, *messages_in(completion)], first=len(asked))
        prompts = [prompt for prompt in prompts if prompt]
        asked = [{"role": "user", "content": "\n\n".join(prompts)}] if prompts else []
        said = {"role": "assistant", "content": completion}
        return Talk(place, "", [*asked, said], len(asked), prompts, completion)


def as_text(cell: Any) -> str:
    """A cell as `task: sft` reads it: a list of messages as its JSON, without nulls."""
    return cell if isinstance(cell, str) else "" if cell is None else json_text(without_null(cell))


def without_null(value: Any) -> Any:
    """A nested value without keys that Arrow fills with null."""
    if isinstance(value, dict):
        return {name: without_null(inner) for name, inner in value.items() if inner is not None}
    return [without_null(each) for each in value] if isinstance(value, list) else value


def copy_manifest(selected: Selected, path: Path) -> None:
    """Copy the manifest's own files into the folder `manifest` of an export."""
    (path / "manifest").mkdir()
    manifest = selected.manifest
    for name in ("manifest.json", *manifest.declaration.files):
        target = path / "manifest" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(manifest.path / name, target)


@exporter("")
def trl(selected: Selected, path: Path, *, conversational: Conversational = True, row_column: RowColumn = "") -> None:
    """Kept rows of fine-tuning data for TRL: `train.jsonl`, which `datasets` loads and SFTTrainer trains on as it is.

    Prompts and completions become `prompt` and `completion`, conversations `messages` (pass `assistant_only_loss=True`,
    or TRL learns the questions too), texts `text`. The manifest lies beside them in `manifest`.
    """
    talks = Talks(selected, "TRL", row_column)
    with (path / "train.jsonl").open("w", encoding="utf-8", newline="\n") as file:
        for talk, added in talks:
            file.write(json_text({**for_trl(talk, talks.kind, conversational), **added}) + "\n")
    copy_manifest(selected, path)


def for_trl(talk: Talk, kind: str, conversational: bool) -> dict[str, Any]:
    """A row in one of TRL's formats; raises ManifestError for a row that has none."""
    if kind == "text":
        return {"text": talk.text}
    if kind == "messages":
        return {"messages": talk.messages}
    if not conversational:
        if not talk.completion:
            raise ManifestError(f"{talk.place}: messages are no texts: leave conversational=false out")
        return {"prompt": "".join(f"{prompt}\n" for prompt in talk.prompts), "completion": talk.completion}
    if not talk.first:
        raise ManifestError(
            f"{talk.place} has no prompt, and TRL reads no empty list of messages: set conversational=false, or remove "
            "the row"
        )
    return {"prompt": talk.messages[: talk.first], "completion": talk.messages[talk.first :]}


@exporter("")
def axolotl(selected: Selected, path: Path, *, row_column: RowColumn = "") -> None:
    """Kept rows of fine-tuning data for axolotl: `data.jsonl`, and `axolotl.yaml`, `datasets:` of its configuration.

    Prompts and completions become conversations, too, whose messages have a flag `train` for those to learn. The
    manifest lies beside them in `manifest`.
    """
    talks = Talks(selected, "axolotl", row_column)
    with (path / "data.jsonl").open("w", encoding="utf-8", newline="\n") as file:
        for talk, added in talks:
            row: dict[str, Any] = {"messages": talk.messages} if talks.kind != "text" else {"text": talk.text}
            if talks.kind == "completion":
                row = {"messages": [
                    {**message, "train": turn >= talk.first and message["role"] == "assistant"}
                    for turn, message in enumerate(talk.messages)
                ]}  # fmt: skip
            file.write(json_text({**row, **added}) + "\n")
    read: dict[str, Any] = {"path": "data.jsonl", "ds_type": "json"}
    if talks.kind == "text":
        read |= {"type": "completion", "field": "text"}
    else:
        marked = talks.kind == "completion"
        read |= {
            "type": "chat_template",
            "field_messages": "messages",
            "message_property_mappings": {"role": "role", "content": "content"},
            "roles_to_train": [] if marked else ["assistant"],
            "train_on_eos": "turn",
        } | ({"message_field_training": "train"} if marked else {})
    note = "# For axolotl's configuration. The path starts where axolotl runs: run it here, or complete the path.\n"
    (path / "axolotl.yaml").write_text(note + yaml.safe_dump({"datasets": [read]}, sort_keys=False), encoding="utf-8")
    copy_manifest(selected, path)


@exporter("")
def llama_factory(selected: Selected, path: Path, *, row_column: RowColumn = "") -> None:
    """Kept rows of fine-tuning data for LLaMA-Factory: `data.json`, `dataset_info.json`; the folder is `dataset_dir`.

    Prompts and completions are in its Alpaca format, conversations in its ShareGPT format under OpenAI's names, texts
    as for pre-training; the data set has the study's name. The manifest lies beside them in `manifest`.
    """
    talks, formats, differ = Talks(selected, "LLaMA-Factory", row_column), dict[bool, str](), Counter[str]()
    with (path / "data.json").open("w", encoding="utf-8", newline="\n") as file:
        between = "[\n"
        for talk, added in talks:
            formats.setdefault(bool(talk.completion), talk.place)
            if len(formats) > 1:
                raise ManifestError(
                    f"{formats[False]} holds messages and {formats[True]} texts; LLaMA-Factory reads one of both in a "
                    "data set: write all rows alike, or export for trl or axolotl"
                )
            differ.update(read_otherwise(talk, talks.kind))
            file.write(between + json_text({**for_llama_factory(talk, talks.kind), **added}))
            between = ",\n"
        file.write("[]\n" if between == "[\n" else "\n]\n")
    for what, count in differ.items():
        selected.warn(f"{count} row{'s' * (count > 1)} {what}")
    described: dict[str, Any] = {"file_name": "data.json"}
    if talks.kind == "text":
        described["columns"] = {"prompt": "text"}
    elif True in formats:
        described["columns"] = {"prompt": "instruction", "query": "input", "response": "output"}
    else:
        tags = {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant"}
        tags |= {"observation_tag": "tool", "function_tag": "function", "system_tag": "system"}
        described |= {"formatting": "sharegpt", "columns": {"messages": "messages"}, "tags": tags}
    told = {selected.manifest.provenance.dataset: described}
    (path / "dataset_info.json").write_text(json.dumps(told, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    copy_manifest(selected, path)


def read_otherwise(talk: Talk, kind: str) -> list[str]:
    """Differences between LLaMA-Factory's reading of a row and a study's, for a warning with the number of rows."""
    if kind == "text":
        return []
    roles = [message["role"] for message in talk.messages]
    found = {
        "with answers in the prompt, which LLaMA-Factory would learn: set mask_history: true": "assistant"
        in roles[: talk.first],
        "with turns of the role function, which LLaMA-Factory learns like answers; a study only reads them": "function"
        in roles,
        "without a prompt, where LLaMA-Factory puts an empty question before the answer": roles == ["assistant"],
    }
    return [what for what, holds in found.items() if holds]


def for_llama_factory(talk: Talk, kind: str) -> dict[str, Any]:
    """A row in one of LLaMA-Factory's formats; raises ManifestError for turns in an order that it would skip."""
    if kind == "text":
        return {"text": talk.text}
    if talk.completion:
        return {"instruction": "\n\n".join(talk.prompts), "input": "", "output": talk.completion}
    roles = [message["role"] for message in talk.messages]
    turns = roles[1:] if roles[0] == "system" else roles
    fits = all(role in (("user", "tool"), ("assistant", "function"))[at % 2] for at, role in enumerate(turns))
    if not fits or len(turns) % 2 or not turns:
        raise ManifestError(
            f"{talk.place}: LLaMA-Factory reads user and assistant in turn, behind a system message at most, and "
            f"leaves out others; here are {', '.join(roles)}: remove the row, or export for trl or axolotl"
        )
    last = max((at for at, role in enumerate(roles) if role == "assistant"), default=-1)
    answers = [at for at, role in enumerate(roles) if role == "assistant" and at >= talk.first]
    if "assistant" in roles[: talk.first] and answers != [last]:
        raise ManifestError(
            f"{talk.place}: the prompt holds answers and the completion several; LLaMA-Factory learns all of them, or "
            "the last alone: export for trl or axolotl"
        )
    return {"messages": list(talk.messages)}
