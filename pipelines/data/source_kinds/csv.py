"""CSV files."""

from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.csv
from pydantic import Field

from secateur.pipelines.data.columns import Columns
from secateur.pipelines.data.source_kinds.files import SourceError
from secateur.pipelines.data.source_kinds.tables import TableSource


class Csv(TableSource):
    """CSV files with a header, in UTF-8."""

    reader = "csv"
    kind: Literal["csv"]
    separator: str = Field(",", min_length=1, max_length=1, description="between the fields")

    def check(self, files: dict[str, list[Path]], columns: Columns) -> dict[str, Any]:
        """Every record has as many fields as the header."""
        for path in (path for paths in files.values() for path in paths):
            check_records(path, self.separator)
        settings: dict[str, Any] = {"sep": self.separator}
        if columns.features is None:
            # "NA", "None" and "null" are words, and "007" is not a number, where a column is text or a path.
            settings |= {"keep_default_na": False, "na_values": [""], "converters": {columns.inputs[0]: str}}
        return settings


def check_records(path: Path, separator: str) -> None:
    """Every record has as many fields as the header: pandas would fill up short ones without a word."""
    try:
        reader = pyarrow.csv.open_csv(
            path,
            # A record has to fit in a block.
            read_options=pyarrow.csv.ReadOptions(autogenerate_column_names=True, use_threads=False, block_size=1 << 25),
            parse_options=pyarrow.csv.ParseOptions(delimiter=separator, newlines_in_values=True),
            convert_options=pyarrow.csv.ConvertOptions(include_columns=["f0"], column_types={"f0": pa.binary()}),
        )
        records: int = sum(batch.num_rows for batch in reader)
    except pa.ArrowInvalid as error:
        raise SourceError(f"{path}: {error} (row 1 is the header); quote fields that hold {separator!r}") from error
    if records < 2:
        raise SourceError(f"{path}: no rows below the header")
