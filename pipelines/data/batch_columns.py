"""Columns of a batch in the form that shards hold: conversations in one spelling, classes by name, texts cut short."""

import json
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from secateur.pipelines.data import types
from secateur.pipelines.data.columns import Columns
from secateur.pipelines.data.identity import BYTES, label_text
from secateur.trainers.modalities.rendering import holds_messages


def shortened(table: pa.Table, columns: Columns, longest: int) -> pa.Table:
    """A batch with the beginnings of its texts, and pictures without their bytes."""
    if columns.kind in ("text", "completion"):
        import pyarrow.compute as pc  # its import takes a tenth of a second

        for name in columns.texts:
            if columns.kind == "completion" and any(map(holds_messages, filter(None, table[name].to_pylist()))):
                continue  # a cut list of messages is no JSON
            cut = pc.utf8_slice_codeunits(table[name], 0, longest)
            table = table.set_column(table.schema.get_field_index(name), name, cut)
    if columns.image is not None:
        cells = table[columns.image].combine_chunks()
        empty = pa.nulls(len(cells), pa.binary())
        cut = pa.StructArray.from_arrays([empty, cells.field("path")], fields=list(types.PICTURE))
        table = table.set_column(table.schema.get_field_index(columns.image), columns.image, cut)
        from secateur.trainers.modalities.seen_pictures import KEPT

        table = table.drop_columns([*KEPT, BYTES])
    return table


def canonical_json(cells: pa.ChunkedArray, *, every: bool) -> pa.Array:
    """Conversations in one spelling, whether a file holds lists or their JSON: sorted keys, without null values.

    Unless `every` cell is one, cells of prompts and completions that hold no messages stay unchanged.
    """

    def spelled(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: spelled(value[key]) for key in sorted(value) if value[key] is not None}
        return [spelled(one) for one in value] if isinstance(value, list) else value

    def one(cell: str | None) -> str | None:
        try:
            other = cell is None or not (every or holds_messages(cell))
            return cell if other or not cell else json.dumps(spelled(json.loads(cell)), ensure_ascii=False)
        except ValueError:  # no JSON: the encoder raises, with the row
            return cell

    return pa.array(map(one, cells.to_pylist()), types.TEXT)


def with_label_texts(table: pa.Table, name: str, names: Sequence[str] | None) -> pa.Table:
    """Replace the numbers of classes by their names, if they have any."""
    if names is None or table.schema.field(name).type != types.INTEGER:
        return table
    texts = label_text(table[name], names).to_arrow().cast(types.TEXT)
    return table.set_column(table.schema.get_field_index(name), name, texts)
