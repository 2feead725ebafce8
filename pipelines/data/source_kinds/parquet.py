"""Parquet files."""

from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet

from secateur.pipelines.data.columns import Columns
from secateur.pipelines.data.source_kinds.contract import check_names
from secateur.pipelines.data.source_kinds.files import SourceError, names_of
from secateur.pipelines.data.source_kinds.tables import TableSource


class Parquet(TableSource):
    """Parquet files."""

    reader = "parquet"
    kind: Literal["parquet"]

    def check(self, files: dict[str, list[Path]], columns: Columns) -> dict[str, Any]:
        """Every file opens, has the columns, and says the same of them: `datasets` takes the first file's word."""
        first: tuple[Path, Any] | None = None
        for split, paths in files.items():
            count = 0
            for path in paths:
                rows, labels = described(path, columns)
                count, first = count + rows, first or (path, labels)
                for name, label in labels.items():
                    if getattr(label, "_type", "") == "ClassLabel" and label != first[1][name]:
                        raise SourceError(f"label column {name!r} has other classes in {path} than in {first[0]}")
            if not count:
                raise SourceError(f"source.{split}: no rows in {names_of(paths)}")
        return {"fragment_scan_options": pyarrow.dataset.ParquetFragmentScanOptions(page_checksum_verification=True)}

    def fault(self, path: Path) -> str:
        """Read every page with its checksum, which raises."""
        for _ in pyarrow.parquet.ParquetFile(path, page_checksum_verification=True).iter_batches():
            pass
        return ""


def described(path: Path, columns: Columns) -> tuple[int, dict[str, Any]]:
    """Rows of a file, and what its label columns hold; SourceError where it cannot be read or lacks a column."""
    import datasets

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            rows, features = file.metadata.num_rows, datasets.Features.from_arrow_schema(file.schema_arrow)
    except (pa.ArrowInvalid, OSError) as error:
        raise SourceError(f"{path} is not a readable Parquet file: {error}") from error
    check_names(list(features), columns, str(path))
    return rows, {name: features[name] for name in columns.labels}
