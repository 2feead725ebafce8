"""Folders of pictures."""

import glob
from pathlib import Path
from typing import Literal

from pydantic import Field

from secateur.pipelines.data.columns import Columns
from secateur.pipelines.data.source_kinds.contract import NamedSplits, Splits
from secateur.pipelines.data.source_kinds.files import SourceError, digest_of, files_in, folder_at, in_one_sentence


class Imagefolder(NamedSplits):
    """Folders of pictures, one subfolder per class: `train` and `test` are paths."""

    kind: Literal["imagefolder"]
    train: str = Field(description="folder with a folder of pictures per class")

    def read(self, columns: Columns, base: Path, cache: Path) -> tuple[Splits, str]:
        """The pictures by the reader of `datasets`, undecoded; a digest of all files."""
        import datasets

        folders, inside = self.folders(base), self.files(base)
        for split, folder in folders.items():
            check_classes(split, folder, inside[split])
        revision = digest_of(
            (f"{s}/{path.relative_to(folders[s])}", path) for s, paths in inside.items() for path in paths
        )
        with in_one_sentence("source"):
            splits = datasets.load_dataset(
                "imagefolder",
                # A pattern of our own: the reader would take a class folder called "test" for a split.
                data_files={split: [f"{glob.escape(str(folder))}/**"] for split, folder in folders.items()},
                drop_labels=False,
                cache_dir=str(cache / revision),
            )
        return dict(splits), revision

    def files(self, base: Path) -> dict[str, list[Path]]:
        """All files below the folder of each split."""
        return {split: files_in(folder) for split, folder in self.folders(base).items()}

    def picture_folder(self, base: Path, split: str) -> Path:
        """The folder of the split, with the folders of the classes."""
        return self.folders(base)[split if split in self.splits else "train"]

    def folders(self, base: Path) -> dict[str, Path]:
        """Folder of each split."""
        return {split: folder_at(name, base, split) for split, name in self.splits.items()}


def check_classes(split: str, folder: Path, inside: list[Path]) -> None:
    """SourceError where there are no pictures, or one whose class neither its folder nor a metadata file tells."""
    from datasets.packaged_modules.imagefolder.imagefolder import ImageFolder as Reader

    pictures = [path for path in inside if path.suffix.lower() in Reader.EXTENSIONS]
    if not pictures:
        raise SourceError(f"source.{split}: no pictures in {folder}")
    labelled = {path.name for path in inside} & set(Reader.METADATA_FILENAMES)
    astray = [path for path in pictures if len(path.relative_to(folder).parts) != 2]
    if astray and not labelled:
        raise SourceError(f"source.{split}: {astray[0]} is not in {folder}/CLASS/, its class cannot be told")
