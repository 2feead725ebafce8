"""What axolotl and LLaMA-Factory document of the data that they read, written out apart from the exports.

axolotl: the page "Conversation" of its documentation and the reference of `datasets:`. LLaMA-Factory: README.md of its
folder `data`, with the defaults of columns and tags. Names that no document has are faults here, where the programs
would pass them over.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

import yaml

AXOLOTL: dict[str, type | tuple[Any, ...]] = {
    "path": str, "ds_type": ("json", "csv", "parquet", "arrow", "text"), "type": ("chat_template", "completion"),
    "split": str, "data_files": str, "name": str, "revision": str, "field": str, "field_messages": str,
    "message_property_mappings": dict, "message_field_training": str, "roles": dict, "roles_to_train": list,
    "train_on_eos": ("all", "turn", "last"), "chat_template": str, "drop_system_message": bool,
}  # fmt: skip
"""Keys of an entry of `datasets:` with their types, or all values they may have."""
ROLES = {"human": "user", "user": "user", "assistant": "assistant", "gpt": "assistant", "system": "system",
         "tool": "tool"}  # fmt: skip
"""axolotl's default of `roles`."""
DESCRIBED = {"hf_hub_url", "ms_hub_url", "script_url", "file_name", "formatting", "ranking", "subset", "split",
             "folder", "num_samples", "columns", "tags"}  # fmt: skip
COLUMNS = {
    "alpaca": {"prompt": "instruction", "query": "input", "response": "output", "history": None, "system": None},
    "sharegpt": {"messages": "conversations", "system": None, "tools": None},
}
TAGS = {"role_tag": "from", "content_tag": "value", "user_tag": "human", "assistant_tag": "gpt",
        "observation_tag": "observation", "function_tag": "function_call", "system_tag": "system"}  # fmt: skip


class Turn(NamedTuple):
    """One message as a trainer takes it, and whether it learns it."""

    role: str
    content: str
    learned: bool


def by_axolotl(folder: Path) -> list[list[Turn]]:
    """Rows as axolotl's documents say that its configuration makes of them; texts are one turn without a role."""
    [entry] = yaml.safe_load((folder / "axolotl.yaml").read_text(encoding="utf-8"))["datasets"]
    for key, value in entry.items():
        known = AXOLOTL[key]
        assert value in known if isinstance(known, tuple) else isinstance(value, known), f"{key}: {value!r}"
    rows = [json.loads(line) for line in (folder / entry["path"]).read_text(encoding="utf-8").splitlines()]
    if entry["type"] == "completion":
        return [[Turn("", row[entry.get("field", "text")], True)] for row in rows]
    role, content = (entry.get("message_property_mappings", {}).get(name, name) for name in ("role", "content"))
    mark, trained = entry.get("message_field_training"), entry.get("roles_to_train", ["assistant"])
    found = []
    for row in rows:
        turns = []
        for message in row[entry.get("field_messages", "messages")]:
            told = ROLES.get(message[role], message[role])
            marked = None if mark is None else message.get(mark)
            assert marked is None or isinstance(marked, bool)
            turns.append(Turn(told, message[content], told in trained if marked is None else marked))
        found.append(turns)
    return found


def by_llama_factory(folder: Path, *, mask_history: bool = False) -> list[list[Turn]]:
    """Rows as LLaMA-Factory's documents say that it reads a `dataset_dir`; texts are one turn without a role.

    It learns every answer, or with `mask_history` the last alone. Rows whose turns are out of order it leaves out.
    """
    [(_, told)] = json.loads((folder / "dataset_info.json").read_text(encoding="utf-8")).items()
    assert set(told) <= DESCRIBED, told
    rows = json.loads((folder / told["file_name"]).read_text(encoding="utf-8"))
    formatting, tags = told.get("formatting", "alpaca"), told.get("tags", {})
    assert set(told.get("columns", {})) <= set(COLUMNS[formatting]), told["columns"]
    assert set(tags) <= (set(TAGS) if formatting == "sharegpt" else set()), tags
    # Where columns are named, those that are not have no default any more.
    columns = dict.fromkeys(COLUMNS[formatting]) | told["columns"] if "columns" in told else COLUMNS[formatting]
    if formatting == "alpaca":
        found = [alpaca(row, columns) for row in rows]
    else:
        found = [talk for row in rows if (talk := sharegpt(row[columns["messages"]], TAGS | tags))]
    last = [max((at for at, turn in enumerate(talk) if turn.role == "assistant"), default=-1) for talk in found]
    return [
        [turn._replace(learned=turn.learned and (at == end or not mask_history)) for at, turn in enumerate(talk)]
        for talk, end in zip(found, last, strict=True)
    ]


def alpaca(row: dict[str, Any], columns: dict[str, str | None]) -> list[Turn]:
    """A prompt, its query on a line of its own below, and the response; without one a text, which is learned."""
    parts = [row[name] for name in (columns["prompt"], columns["query"]) if name and row[name]]
    if columns["response"] is None:
        return [Turn("", "\n".join(parts), True)]
    return [Turn("user", "\n".join(parts), False), Turn("assistant", row[columns["response"]], True)]


def sharegpt(messages: list[dict[str, str]], tags: dict[str, str]) -> list[Turn]:
    """A system message first at most, then questions and answers in turn, an answer last; nothing for others."""
    names = {tags[f"{name}_tag"]: name for name in ("user", "assistant", "observation", "function", "system")}
    turns = [(names[message[tags["role_tag"]]], message[tags["content_tag"]]) for message in messages]
    rest = turns[1:] if turns and turns[0][0] == "system" else turns
    for place, (role, _) in enumerate(rest):
        if role not in (("user", "observation"), ("assistant", "function"))[place % 2]:
            return []
    if len(rest) % 2 or not rest:
        return []
    return [Turn(role, content, role in ("assistant", "function")) for role, content in turns]
