"""Data sets that the `datasets` library saved."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from secateur.pipelines.data.columns import Columns
from secateur.pipelines.data.source_kinds.contract import NamedSplits, Splits
from secateur.pipelines.data.source_kinds.files import SourceError, digest_of, files_in, folder_at, in_one_sentence


class Disk(NamedSplits):
    """Data saved by `save_to_disk`: with `path` a DatasetDict and the names of its splits, otherwise two folders."""

    kind: Literal["disk"]
    path: str | None = Field(None, description="folder of a DatasetDict, whose splits train and test then name")

    def read(self, columns: Columns, base: Path, cache: Path) -> tuple[Splits, str]:
        """The splits, memory-mapped where they lie; a digest of all files."""
        folders = self.folders(base)
        splits = self._of_one(folders["path"]) if "path" in folders else self._of_each(folders)
        return splits, digest_of(
            (f"{'' if key == 'path' else key}/{path.relative_to(folders[key])}", path)
            for key, paths in self.files(base).items()
            for path in paths
        )

    def files(self, base: Path) -> dict[str, list[Path]]:
        """All files below the folder that each key names."""
        return {key: files_in(folder) for key, folder in self.folders(base).items()}

    def name_of(self, split: str, base: Path) -> str:
        """See `SourceKind.name_of`."""
        return super().name_of(split, base) if self.path is not None else str(self.folders(base)[split])

    def folders(self, base: Path) -> dict[str, Path]:
        """Folder that each key names."""
        names = self.splits if self.path is None else {"path": self.path}
        return {key: folder_at(name, base, key) for key, name in names.items()}

    def _of_each(self, folders: dict[str, Path]) -> Splits:
        import datasets

        with in_one_sentence("source"):
            splits = {split: datasets.load_from_disk(str(folder)) for split, folder in folders.items()}
        if several := [split for split, rows in splits.items() if isinstance(rows, datasets.DatasetDict)]:
            raise SourceError(f"source.{several[0]}: {folders[several[0]]} holds several splits, name it source.path")
        return splits

    def _of_one(self, folder: Path) -> Splits:
        import datasets

        with in_one_sentence("source.path"):
            saved = datasets.load_from_disk(str(folder))
        if not isinstance(saved, datasets.DatasetDict):
            raise SourceError(f"source.path: {folder} holds one split, name it source.train")
        for split, name in self.splits.items():
            if name not in saved:
                raise SourceError(f"source.{split}: no split {name!r} in {folder}, there are {', '.join(saved)}")
        return {split: saved[name] for split, name in self.splits.items()}
