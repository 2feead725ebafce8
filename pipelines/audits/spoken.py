"""Turn rows of a study of conversations, or of prompts with completions, into texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa

from secateur.pipelines.audits.contract import AuditRows
from secateur.pipelines.data.columns import Columns
from secateur.pipelines.data.scan import SplitRows
from secateur.pipelines.data.types import TEXT
from secateur.trainers.modalities.rendering import Unfit, messages_in


def spoken(rows: AuditRows) -> AuditRows:
    """The rows with one column of texts, in shards of a temporary folder that is deleted with them; other rows
    unchanged.

    Each turn is a line that begins with its speaker, and a completion follows its prompt. Hashes and faults stay those
    of the study.
    """
    if not any(columns.kind in ("messages", "completion") for columns in rows.columns.values()):
        return rows
    alive = TemporaryDirectory(prefix="secateur-")
    splits, named = {}, {}
    for part, split in rows.splits.items():
        columns = rows.columns[part]
        splits[part] = with_texts(split, columns.inputs, Path(alive.name) / f"part-{part}")
        kept = columns.model_dump(include={"label", "target", "id", "group"})
        named[part] = Columns(text=columns.inputs[-1], **kept)
    return replace(rows, splits=splits, columns=named, alive=(rows.alive, alive))


def with_texts(split: SplitRows, names: Sequence[str], folder: Path) -> SplitRows:
    """Shards in which the last of these columns holds the text of all of them."""
    folder.mkdir()
    paths = []
    for number, table in enumerate(split.batches(split.schema.names)):
        cells = zip(*(table[name].to_pylist() for name in names), strict=True)
        texts = pa.array(["\n".join(said(cell) for cell in row if cell) for row in cells], TEXT)
        table = table.set_column(table.schema.get_field_index(names[-1]), names[-1], texts)
        paths.append(folder / f"{number:05}.arrow")
        with pa.ipc.new_file(str(paths[-1]), table.schema) as writer:
            writer.write_table(table)
    return SplitRows(tuple(paths))


def said(cell: str) -> str:
    """A conversation with one turn a line; the cell itself where it is not a conversation."""
    try:
        return "\n".join(f"{turn['role']}: {turn['content']}" for turn in messages_in(cell))
    except Unfit:
        return cell
