"""What sources of files that hold rows have in common: Parquet, CSV, JSON lines."""

import glob
from abc import abstractmethod
from functools import partial
from pathlib import Path
from typing import Annotated, Any, ClassVar

import pyarrow as pa
from pydantic import BeforeValidator, Field

from secateur.pipelines.data.columns import Columns
from secateur.pipelines.data.source_kinds.contract import Splits, SplitSource
from secateur.pipelines.data.source_kinds.files import SourceError, digest_of, find, in_one_sentence, names_of

Paths = Annotated[
    list[str],
    Field(min_length=1),
    BeforeValidator(lambda value: [value] if isinstance(value, str) else value, json_schema_input_type=str | list[str]),
]
"""A path, a glob or a list of these; relative to the study's folder, `${NAME}` and `${NAME:-default}` expand."""


class TableSource(SplitSource):
    """Files of rows; a subclass says which reader of `datasets` reads them, and checks them first."""

    reader: ClassVar[str]
    """The reader's name in `datasets.load_dataset`."""

    train: Annotated[Paths, Field(description="path, glob or list of these, of the training samples")]
    test: Annotated[Paths | None, Field(description="the same of the test samples")] = None

    @abstractmethod
    def check(self, files: dict[str, list[Path]], columns: Columns) -> dict[str, Any]:
        """Settings for the reader, once the files of every split have proved sound; SourceError where they do not."""

    def fault(self, path: Path) -> str:
        """Which place of a file its reader stumbles over, found after the fact; empty where this finds nothing."""
        return ""

    def read(self, columns: Columns, base: Path, cache: Path) -> tuple[Splits, str]:
        """The rows in the order of the files, prepared as Arrow in `cache`; a digest of the files."""
        import datasets

        files = self.files(base)
        if both := [path for path in files["train"] if path in files.get("test", [])]:
            raise SourceError(f"source.test: {both[0]} is named by source.train as well")
        settings = self.check(files, columns)
        revision = digest_of((split, path) for split, paths in files.items() for path in paths)
        splits = {}
        for split, paths in files.items():
            with in_one_sentence(f"source.{split} ({names_of(paths)})", partial(self._first_fault, paths)):
                splits[split] = datasets.load_dataset(
                    self.reader,
                    data_files={"train": [glob.escape(str(path)) for path in paths]},
                    split="train",
                    cache_dir=str(cache / revision),
                    **settings,
                )
        return splits, revision

    def files(self, base: Path) -> dict[str, list[Path]]:
        """Files of each split."""
        return {split: find(patterns, base, split) for split, patterns in self.splits.items()}

    def _first_fault(self, paths: list[Path]) -> str:
        for path in paths:
            try:
                if fault := self.fault(path):
                    return fault
            except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
                return f"{path}: {error}"
        return ""
