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
from secateur.pipelines.exports.tables import json_text, refuse_bytes

ShardRows = Annotated[int, Field(ge=1, le=10**9, description="most samples of a shard")]
ShardMegabytes = Annotated[int, Field(ge=1, le=10**6, description="most megabytes of a shard, or one sample")]
BLOCK = 512
"""Bytes that a tar file is counted in."""


@exporter("")
def webdataset(
    selected: Selected, path: Path, *, shard_rows: ShardRows = 10_000, shard_megabytes: ShardMegabytes = 1000
) -> None:
    """Kept samples as tar shards for WebDataset: `shard-000000.tar` …, keys are the original rows, zero-padded.

    Members of a sample: its image (`png`, `jpg`, …) as it was encoded, or its text (`txt`); `cls`, its class; `json`
    with the row, the weight if there is one, and every other column. sizes.json says how many samples each shard has.
    Nothing in a shard depends on when, where or by whom it was written.
    """
    width = len(str(selected.count - 1))
    with Shards(path, shard_rows, shard_megabytes * 10**6) as shards:
        for row, members in samples(selected):
            shards.add(f"{row:0{width}d}", members)
    (path / "sizes.json").write_text(json.dumps(shards.sizes, indent=2) + "\n", encoding="utf-8")


class Shards:
    """Tar files written one after another, each of at most so many samples and bytes, `sizes` samples by name."""

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


def samples(selected: Selected) -> Iterator[tuple[int, dict[str, bytes]]]:
    """Row of each kept sample, and the members of its key by their endings."""
    columns = selected.columns
    is_text = columns is not None and columns.text is not None
    classes = selected.labels_hold == "class"
    label = ("label" if columns is None else columns.labels[0]) if classes else None
    pictured = has_media(selected.data.features) or (columns is not None and columns.image is not None)
    column = picture_column(selected) if pictured else columns.text if columns and is_text else None
    others = selected.data.remove_columns([column] if column else [])
    refuse_bytes(others.features, others.features.arrow_schema, "a JSON member of a shard")
    for position, row, members, record in _inputs(selected, column, pictured):
        weight = {} if selected.weights is None else {"weight": float(selected.weights[position])}
        rest = {name: value for name, value in record.items() if name != label}
        if classes:
            members["cls"] = str(int(selected.labels[position])).encode()
        members["json"] = json_text({"row": row, **weight, **rest}).encode()
        yield row, members


def _inputs(
    selected: Selected, column: str | None, pictured: bool
) -> Iterator[tuple[int, int, dict[str, bytes], dict[str, Any]]]:
    if column is not None and pictured:
        for position, row, picture, record in pictures(selected, column):
            yield position, row, {picture.ending: picture.bytes()}, record
        return
    for part, table in selected.blocks(selected.data):
        for position, record in zip(range(part.start, part.stop), table.to_pylist(), strict=True):
            value = record.pop(column) if column else None
            members = {} if value is None else {"txt": value.encode()}
            yield position, int(selected.rows[position]), members, record
