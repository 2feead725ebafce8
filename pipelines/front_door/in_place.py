"""`in_place`: kept rows of data that stay where they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from secateur.pipelines.in_place.found import view_of
from secateur.pipelines.in_place.view import InPlace as InPlace


def in_place(
    kept: Any,
    data: str | Path | Sequence[str | Path] | None = None,
    *,
    key: str = "",
    columns: Sequence[str] | None = None,
    options: Mapping[str, Any] | None = None,
    verify: bool = True,
) -> InPlace:
    """Kept rows of data, without a copy: a map-style data set of dicts, which `save` writes in 8 bytes a row or less.

    `kept` is a manifest of rows or its folder; a list or array of row numbers, counted over all files from 0; a list of
    ids; or the path of a file from `save`, or from `secateur export --to in_place`. `data` are Parquet files, a folder
    that `datasets` saved, tar shards of WebDataset, a Lance data set, or a folder of MDS or LitData: a path, glob,
    folder, URL or list of these. A saved file holds the place of its data; if you name `data`, they are looked for
    there.

    Rows of a manifest are found by their content, or, where it has ids (`columns: {id: …}` of the study) or `key` names
    a column of the data, by these. `columns` are the columns of the items. `options` are fsspec's for a URL. With
    `verify` files are read once and compared with their sealed digests; otherwise only their sizes are compared.

    Raises ValueError that names a missing or changed file, a kept row or id that the data lack, and data of a format
    that cannot be read in place.

    >>> import tempfile, pyarrow as pa, pyarrow.parquet as pq, secateur as sc
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     pq.write_table(pa.table({"text": ["a", "b", "c", "d"]}), f"{folder}/data.parquet", row_group_size=2)
    ...     saved = sc.in_place([0, 3], f"{folder}/data.parquet").save(f"{folder}/kept.parquet")
    ...     [item["text"] for item in sc.in_place(saved)]
    ['a', 'd']
    """
    return view_of(kept, data, key=key, columns=columns, options=options, verify=verify)
