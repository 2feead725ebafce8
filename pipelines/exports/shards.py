"""Export of kept samples as WebDataset shards: tar files that a training job reads one after another."""

import io
import json
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from secateur.pipelines.exports.picture_files import picture_column, pictures
from secateur.pipelines.exports.registry import exporter
from secateur.pipelines.exports.selected import Selected, has_media
from secateur.pipelines.exports.tables import json_text, refuse_bytes, texts_of_classes

ShardRows = Annotated[int, Field(ge=1, le=10**9, description="most samples of a shard")]
ShardMegabytes = Annotated[int, Field(ge=1, le=10**6, description="most megabytes of a shard, or one sample")]
LabelNumbers = Annotated[
    bool, Field(description="add cls, the number of the class, and classes.json, which names the numbers")
]
BLOCK = 512
"""Block size of a tar file, in bytes."""


@exporter("")
def webdataset(
    selected: Selected,
    path: Path,
    *,
    shard_rows: ShardRows = 10_000,
    shard_megabytes: ShardMegabytes = 1000,
    label_numbers: LabelNumbers = False,
) -> None:
    """Kept samples as tar shards for WebDataset: `shard-000000.tar` …, keys are rows of the user's file, zero-padded.

    For several files the number of the file stands before the row. Members of a sample: its image (`png`, `jpg`, …) in
    its own encoding, or its text (`txt`); `json` with the row, the file if there are several, the weight if there is
    one, and every other column, labels with the user's values; with `label_numbers` `cls`, the number of its class.
    sizes.json holds the number of samples of each shard. A shard does not depend on the time, place or user of writing.
    """
    if label_numbers:
        names = {str(label): name for label, name in sorted(selected.label_names.items())}
        (path / "classes.json").write_text(json.dumps(names, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    with Shards(path, shard_rows, shard_megabytes * 10**6) as shards:
        for position, members in samples(selected, numbers=label_numbers):
            shards.add(selected.located.key(position), members)
    (path / "sizes.json").write_text(json.dumps(shards.sizes, indent=2) + "\n", encoding="utf-8")


class Shards:
    """Tar files written one after another, with limits of samples and bytes; `sizes` holds samples by file name."""

    def __init__(self, folder: Path, most_samples: int, most_bytes: int) -> None:
        self.folder, self.most_samples, self.most_bytes = folder, most_samples, most_bytes
        self.sizes: dict[str, int] = {}
        self.name, self.bytes = "", 0
        self.tar: tarfile.TarFile | None = None

    def add(self, key: str, members: Mapping[str, bytes]) -> None:
        """Append a sample's members, bytes by ending, under its key."""
        size = sum(BLOCK + -(-len(content) // BLOCK) * BLOCK for content in members.values())
        if self.tar is None or self.sizes[self.name] >= self.most_samples or self.bytes + size > self.most_bytes:
            self.tar = self._next()
        for ending in sorted(members):
            entry = tarfile.TarInfo(f"{key}.{ending}")
            entry.size = len(members[ending])
            self.tar.addfile(entry, io.BytesIO(members[ending]))
        self.sizes[self.name] += 1
        self.bytes += size

    def __enter__(self) -> "Shards":
        return self

    def __exit__(self, *_: object) -> None:
        if self.tar is not None:
            self.tar.close()

    def _next(self) -> tarfile.TarFile:
        if self.tar is not None:
            self.tar.close()
        self.name, self.bytes = f"shard-{len(self.sizes):06d}.tar", 0
        self.sizes[self.name] = 0
        return tarfile.open(self.folder / self.name, "w", format=tarfile.USTAR_FORMAT)


def samples(selected: Selected, *, numbers: bool) -> Iterator[tuple[int, dict[str, bytes]]]:
    """Position of each kept sample, and the members of its key by their endings."""
    columns, located = selected.columns, selected.located
    is_text = columns is not None and columns.text is not None
    pictured = has_media(selected.data.features) or (columns is not None and columns.image is not None)
    column = picture_column(selected) if pictured else columns.text if columns and is_text else None
    others = selected.data.remove_columns([column] if column else [])
    refuse_bytes(others.features, others.features.arrow_schema, "a JSON member of a shard")
    named = texts_of_classes(others.features)
    for position, members, record in _inputs(selected, column, pictured):
        place: dict[str, Any] = {"row": int(located.row[position])}
        if located.several:
            place["file"] = located.files[int(located.file[position])].name
        weight = {} if selected.weights is None else {"weight": float(selected.weights[position])}
        if numbers:
            members["cls"] = str(int(selected.labels[position])).encode()
        own = {name: named[name](value) if name in named else value for name, value in record.items()}
        members["json"] = json_text({**place, **weight, **own}).encode()
        yield position, members


def _inputs(
    selected: Selected, column: str | None, pictured: bool
) -> Iterator[tuple[int, dict[str, bytes], dict[str, Any]]]:
    if column is not None and pictured:
        for position, picture, record in pictures(selected, column):
            yield position, {picture.ending: picture.bytes()}, record
        return
    for part, table in selected.blocks(selected.data):
        for position, record in zip(range(part.start, part.stop), table.to_pylist(), strict=True):
            value = record.pop(column) if column else None
            members = {} if value is None else {"txt": value.encode()}
            yield position, members, record
