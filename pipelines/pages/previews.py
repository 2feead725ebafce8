"""Previews of samples: their places in the user's files, and their content."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import polars as pl

from secateur.pipelines.data.columns import Columns
from secateur.pipelines.data.scan import rows_in
from secateur.trainers.modalities.rendering import Unfit, messages_in

PREVIEW = 120
"""Most characters of a preview."""

Previews = Callable[[np.ndarray], Sequence[str]]
"""Function from rows to previews of their samples."""


def rows_at(samples: pl.LazyFrame, rows: np.ndarray) -> pl.DataFrame:
    """The samples at `rows` of a table with the column `row`, in their order; of others it reads that column alone."""
    wanted = pl.LazyFrame({"row": rows.astype(np.int64)})
    # The filter comes before the join, so that other columns are read for these rows only.
    held = samples.filter(pl.col("row").is_in(rows.tolist()))
    return wanted.join(held, on="row", how="left", maintain_order="left").collect()


def shown_places(samples: pl.DataFrame, files: Sequence[str]) -> list[str]:
    """Row of each sample in the user's file, from 0; with the file's name if there are several."""
    if "file" not in samples.columns:
        return [str(row) for row in samples["row"]]
    if len(files) <= 1:
        return [str(row) for row in samples["file_row"]]
    return [f"{files[file]}:{row}" for file, row in samples.select("file", "file_row").iter_rows()]


def names_of(samples: pl.DataFrame, files: Sequence[str]) -> list[str]:
    """Each sample as an argument of `secateur explain`: FILE:ROW, the path of a picture file, or its number."""
    if "file" not in samples.columns:
        return [str(row) for row in samples["row"]]
    paths = samples["path"] if "path" in samples.columns else [""] * len(samples)
    pairs = files_and_rows(samples, files, "")
    return [path or f"{file}:{row}" for path, (file, row) in zip(paths, pairs, strict=True)]


def files_and_rows(samples: pl.DataFrame, files: Sequence[str], split: str) -> list[tuple[str, int]]:
    """File and row of each sample, from 0, as in findings: the path for a picture file; for samples without a file, the
    split and their number.
    """
    if "file" not in samples.columns:
        return [(split, row) for row in samples["row"]]
    paths = samples["path"] if "path" in samples.columns else [""] * len(samples)
    pairs = samples.select("file", "file_row").iter_rows()
    return [(path or files[file], row) for path, (file, row) in zip(paths, pairs, strict=True)]


def previewed(samples: pl.DataFrame, previews: Previews | None) -> Sequence[str]:
    """Previews of samples: from the table's column `preview`, or from `previews`."""
    if "preview" in samples.columns:
        return samples["preview"].to_list()
    return previews(samples["row"].to_numpy()) if previews else [""] * len(samples)


def in_turns(texts: Iterable[str | None]) -> str:
    """A prompt and its completion, or the turns of a conversation, on one line."""
    return " → ".join(filter(None, (" ".join((text or "").split()) for text in texts)))


def contents_of(cell: str) -> list[str]:
    """The messages of a conversation; the cell itself if it is none."""
    try:
        return [message["content"] for message in messages_in(cell)]
    except Unfit:
        return [cell]


def previews_in(folder: Path, columns: Columns | None, longest: int = PREVIEW) -> Previews | None:
    """Previews of at most `longest` characters from the rows in a study's folder; None without rows, and for pictures,
    which pages show themselves.
    """
    if columns is None or columns.image is not None or not folder.is_dir():
        return None

    def previews(rows: np.ndarray) -> list[str]:
        table = rows_in(folder).mapped(columns.inputs, rows)
        if columns.messages is not None:
            texts = [in_turns(contents_of(cell or "")) for cell in table[columns.messages].to_pylist()]
        elif columns.texts:
            parts = (table[name].to_pylist() for name in columns.texts)
            talks = columns.kind == "completion"  # whose cells may be lists of messages
            texts = [
                in_turns(said for cell in row for said in (contents_of(cell or "") if talks else [cell]))
                for row in zip(*parts, strict=True)
            ]
        else:
            texts = [", ".join(f"{name}={row[name]}" for name in columns.inputs) for row in table.to_pylist()]
        return [text if len(text) <= longest else f"{text[: longest - 1]}…" for text in texts]

    return previews
