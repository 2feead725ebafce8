"""How samples are shown: where the user has them, and what is in them."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import polars as pl

from secateur.pipelines.data.columns import Columns
from secateur.pipelines.data.scan import rows_in

PREVIEW = 120
"""Characters of a preview."""

Previews = Callable[[np.ndarray], Sequence[str]]
"""What a reader sees of some samples, by their rows."""


def shown_places(samples: pl.DataFrame, files: Sequence[str]) -> list[str]:
    """Row of each sample in the user's file, from 0; with the file's name where there are several."""
    if "file" not in samples.columns:
        return [str(row) for row in samples["row"]]
    if len(files) <= 1:
        return [str(row) for row in samples["file_row"]]
    return [f"{files[file]}:{row}" for file, row in samples.select("file", "file_row").iter_rows()]


def names_of(samples: pl.DataFrame, files: Sequence[str]) -> list[str]:
    """Each sample as `secateur explain` takes it: FILE:ROW, the path of a picture that is a file, or its number."""
    if "file" not in samples.columns:
        return [str(row) for row in samples["row"]]
    paths = samples["path"] if "path" in samples.columns else [""] * len(samples)
    pairs = files_and_rows(samples, files, "")
    return [path or f"{file}:{row}" for path, (file, row) in zip(paths, pairs, strict=True)]


def files_and_rows(samples: pl.DataFrame, files: Sequence[str], split: str) -> list[tuple[str, int]]:
    """File of each sample and row in it, from 0, as findings name them: the path of a picture that is a file; of
    samples that lie in none the split and their number.
    """
    if "file" not in samples.columns:
        return [(split, row) for row in samples["row"]]
    paths = samples["path"] if "path" in samples.columns else [""] * len(samples)
    pairs = samples.select("file", "file_row").iter_rows()
    return [(path or files[file], row) for path, (file, row) in zip(paths, pairs, strict=True)]


def previewed(samples: pl.DataFrame, previews: Previews | None) -> Sequence[str]:
    """What a reader sees of samples: what the table itself says, or the previews."""
    if "preview" in samples.columns:
        return samples["preview"].to_list()
    return previews(samples["row"].to_numpy()) if previews else [""] * len(samples)


def previews_in(folder: Path, columns: Columns | None, longest: int = PREVIEW) -> Previews | None:
    """Previews of at most so many characters from the rows in a study's folder; None of pictures, which are shown
    themselves, and where none lie.
    """
    if columns is None or columns.image is not None or not folder.is_dir():
        return None

    def previews(rows: np.ndarray) -> list[str]:
        table = rows_in(folder).mapped(columns.inputs, rows)
        if columns.text is not None:
            texts = [" ".join((text or "").split()) for text in table[columns.text].to_pylist()]
        else:
            texts = [", ".join(f"{name}={row[name]}" for name in columns.inputs) for row in table.to_pylist()]
        return [text if len(text) <= longest else f"{text[: longest - 1]}…" for text in texts]

    return previews
