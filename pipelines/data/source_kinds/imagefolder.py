"""Folders of pictures."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field

from secateur.pipelines.data.columns import Columns
from secateur.pipelines.data.lazy import pl
from secateur.pipelines.data.source_kinds.contract import NamedSplits, Noted, NotedKind, Splits
from secateur.pipelines.data.source_kinds.files import SourceError, digest_of, files_in, folder_at
from secateur.pipelines.data.source_kinds.picture_files import ClassFolders, Metadata, metadata_file
from secateur.trainers.modalities.rows import Batches


class Imagefolder(NamedSplits):
    """Folders of pictures, one subfolder per class: `train` and `test` are paths."""

    kind: Literal["imagefolder"]
    train: str = Field(description="folder with a folder of pictures per class")

    def read(self, columns: Columns, base: Path, cache: Path) -> tuple[Splits, str]:
        """The pictures undecoded, in the order of their paths or of their metadata; a digest of all files."""
        from datasets.packaged_modules.imagefolder.imagefolder import ImageFolder as Reader

        folders, inside = self.folders(base), self.files(base)
        for split, folder in folders.items():
            check_classes(split, folder, inside[split])
        revision = digest_of(
            (f"{s}/{path.relative_to(folders[s])}", path) for s, paths in inside.items() for path in paths
        )
        pictures = {
            split: sorted((path for path in paths if path.suffix.lower() in Reader.EXTENSIONS), key=str)
            for split, paths in inside.items()
        }
        told = {
            split: [Metadata(metadata_file(path, columns)) for path in paths if path.name in Reader.METADATA_FILENAMES]
            for split, paths in inside.items()
        }
        names = sorted({path.parent.name for paths in pictures.values() for path in paths})
        classes = () if any(told.values()) else tuple(names)
        splits: Splits = {
            split: files or [ClassFolders(str(folders[split]), tuple(pictures[split]), classes)]
            for split, files in told.items()
        }
        return splits, revision

    def noted(self, columns: Columns, base: Path, rows: Mapping[str, Batches]) -> list[Noted]:
        """Skipped files, and pictures in the folder of another class than their metadata label."""
        if columns.image is None:
            return []
        known = {split: cells_in(part, columns) for split, part in rows.items()}
        read = {os.path.abspath(path) for table in known.values() for path in table["path"].drop_nulls()}
        found = []
        for split, inside in self.files(base).items():
            skipped = [path for path in inside if str(path) not in read and not is_read(path)]
            if skipped:
                text = (
                    f"{len(skipped)} {'file' if len(skipped) == 1 else 'files'} of {split} skipped: {kinds_of(skipped)}"
                )
                found.append(noted("skipped files", split, text, skipped, base))
        own = own_folders(pl.concat(known.values()), self.label_names) if columns.target in (None, "class") else {}
        for split, table in known.items():
            # A folder that is no class, such as `images`, cannot contradict a label.
            meant = pl.col("label").replace_strict(own, default=None, return_dtype=pl.String)
            elsewhere = pl.col("folder").is_in(list(own.values())) & pl.col("folder").ne_missing(meant)
            astray = table.filter(elsewhere & pl.col("label").is_not_null())
            if len(astray):
                first = astray.row(0, named=True)
                text = (
                    f"{len(astray)} {'picture' if len(astray) == 1 else 'pictures'} of {split} in the folder of another"
                    f" class than the metadata says, which count: {shown_path(first['path'], base)} is "
                    f"{first['label']!r}"
                )
                found.append(noted("contradicting labels", split, text, astray["path"].to_list(), base))
        return found

    def files(self, base: Path) -> dict[str, list[Path]]:
        """All files below the folder of each split."""
        return {split: files_in(folder) for split, folder in self.folders(base).items()}

    def picture_folder(self, base: Path, split: str) -> Path:
        """The folder of the split, with the folders of the classes."""
        return self.folders(base)[split if split in self.splits else "train"]

    def folders(self, base: Path) -> dict[str, Path]:
        """Folder of each split."""
        return {split: folder_at(name, base, split) for split, name in self.splits.items()}


def own_folders(table: pl.DataFrame, names: Sequence[str] | None) -> dict[str, str]:
    """The folder of each class, by the text of its label.

    It is the folder of the class's name. If labels are numbers, which name no folder, it is the folder that holds
    mostly this class, provided that each class has one of its own.
    """
    pairs = table.filter(pl.col("label").is_not_null()).group_by("folder", "label").len()
    folders, labels = set(pairs["folder"]), set(pairs["label"])
    if named := folders & labels:
        return {name: name for name in named}
    if names and all(label.isdecimal() and int(label) < len(names) for label in labels):
        return {label: names[int(label)] for label in labels if names[int(label)] in folders}
    if not all(label.removeprefix("-").isdecimal() for label in labels):
        return {}
    most = pairs.filter(pl.col("len") * 2 > pl.col("len").sum().over("folder"))
    own = dict(zip(most["label"], most["folder"], strict=True))
    return own if 1 < len(own) == len(labels) == len(folders) else {}


def cells_in(rows: Batches, columns: Columns) -> pl.DataFrame:
    """`path` and `folder` of each picture, and its `label` as text, null for lists of labels."""
    assert columns.image is not None
    parts = [pl.DataFrame(schema={"path": pl.String, "folder": pl.String, "label": pl.String})]
    for table in rows.batches([columns.image, columns.labels[0]]):
        frame = pl.DataFrame(pl.from_arrow(table))
        path, label = pl.col(columns.image).struct.field("path"), pl.col(columns.labels[0])
        several = isinstance(frame.schema[columns.labels[0]], pl.List)
        parts.append(
            frame.select(
                path=path,
                folder=path.str.split("/").list.get(-2, null_on_oob=True),
                label=pl.lit(None, pl.String) if several else label.cast(pl.String),
            )
        )
    return pl.concat(parts)


def is_read(path: Path) -> bool:
    """Whether the reader reads a file that is no picture: a metadata file."""
    from datasets.packaged_modules.imagefolder.imagefolder import ImageFolder as Reader

    return path.name in Reader.METADATA_FILENAMES


def kinds_of(paths: Sequence[Path]) -> str:
    """Number of files by suffix, and the reason for skipped pictures among them."""
    from datasets.packaged_modules.imagefolder.imagefolder import ImageFolder as Reader

    counts = Counter(path.suffix.lower() for path in paths)
    words = [
        f"{count} {suffix or 'without a suffix'}"
        + (" that metadata does not list" if suffix in Reader.EXTENSIONS else "")
        for suffix, count in counts.most_common()
    ]
    return ", ".join(words)


def noted(kind: NotedKind, split: str, text: str, paths: Sequence[str | Path], base: Path) -> Noted:
    """A note with the paths of files from the study's folder."""
    return Noted(kind, split, text, tuple(shown_path(path, base) for path in paths))


def shown_path(path: str | Path, base: Path) -> str:
    """A path, relative to the study's folder if it lies in it."""
    return str(Path(path).relative_to(base)) if Path(path).is_relative_to(base) else str(path)


def check_classes(split: str, folder: Path, inside: list[Path]) -> None:
    """Raise SourceError where there are no pictures, or one without a class from its folder or a metadata file."""
    from datasets.packaged_modules.imagefolder.imagefolder import ImageFolder as Reader

    pictures = [path for path in inside if path.suffix.lower() in Reader.EXTENSIONS]
    if not pictures:
        raise SourceError(f"source.{split}: no pictures in {folder}")
    labelled = {path.name for path in inside} & set(Reader.METADATA_FILENAMES)
    astray = [path for path in pictures if len(path.relative_to(folder).parts) != 2]
    if astray and not labelled:
        raise SourceError(f"source.{split}: {astray[0]} is not in {folder}/CLASS/, its class is unknown")
