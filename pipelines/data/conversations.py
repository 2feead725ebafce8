"""Columns of conversations, lists of turns, as texts: one line per turn, which begins with the speaker."""

from __future__ import annotations

from secateur.pipelines.data.lazy import pa, pl, types
from secateur.pipelines.data.source_kinds.files import SourceError

TURNS = (("role", "content"), ("from", "value"))
"""Keys of the speaker and of the words in one turn of a conversation."""
SPEAKERS = {"human": "user", "gpt": "assistant", "model": "assistant", "bot": "assistant"}
"""Usual names of speakers, by their names in other formats."""


def turns_of(kind: pa.DataType) -> tuple[str, str] | None:
    """Keys of the speaker and of the words where a column holds lists of turns; None for other columns."""
    if not types.is_list(kind) or not pa.types.is_struct(kind.value_type):
        return None
    names = {field.name for field in kind.value_type}
    return next((pair for pair in TURNS if set(pair) <= names), None)


def as_text(chats: pl.Series, turn: tuple[str, str], where: str, first: int) -> pl.Series:
    """Conversations as texts, null where there is none."""
    who, words = turn
    inner = chats.dtype.inner.to_schema()[words]  # type: ignore[attr-defined]
    if inner != pl.String:
        raise SourceError(
            f"{where}: column {chats.name!r} holds turns whose {words!r} is {inner}, and texts are audited (rows from "
            f"{first}): keep the text of each turn"
        )
    line = pl.concat_str(
        [pl.element().struct.field(who).cast(pl.String).replace(SPEAKERS), pl.element().struct.field(words)],
        separator=": ",
        ignore_nulls=True,
    )
    return chats.list.eval(line).list.join("\n")
