"""Scores by content, so that a row is scored once: the cache behind every pass of a checkpoint over the data.

The key of a score holds all that it depends on: scorer, version, settings and model fingerprint name a folder of shards
of (content_hash, score). Shards are ranges of data-set rows, each committed by rename, so a killed pass resumes at the
next shard; rows whose content has a score are not computed again, wherever they moved.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import xxhash

from secateur.pipelines.data.fingerprints import fingerprint
from secateur.pipelines.files.whole_files import new_file
from secateur.scorers.contract import Scores

DIGEST = "secateur:digest"
"""Key of the metadata that holds the digest of a shard's content."""
Compute = Callable[[np.ndarray, list[str]], Mapping[str, Scores]]
"""(rows int64 `[b]`, names of the requested scores) -> float32 `[b]` by name."""


@dataclass(frozen=True)
class ScoreKey:
    """The inputs of a row's score, besides the row."""

    scorer: str
    version: str
    settings: Mapping[str, Any]
    model: str
    """Identity of the checkpoints that it reads, and of their code."""

    @property
    def folder(self) -> str:
        """A readable name that differs between keys."""
        content = json.dumps([self.settings, self.model], sort_keys=True, default=str)
        return f"{self.scorer}-{self.version}-{hashlib.sha256(content.encode()).hexdigest()[:16]}"


@dataclass(frozen=True)
class ShardRows:
    """Rows of one shard that the same scores miss: the unit of work, of a commit and of resumption."""

    start: int
    """First row of the shard, which may have its scores already."""
    rows: np.ndarray
    """int64 `[b]`, ascending."""
    names: list[str]


Pass = Callable[[Sequence[ShardRows]], Iterable[tuple[ShardRows, Mapping[str, Scores]]]]
"""Parts -> each of them with its scores, in any order."""


def one_by_one(compute: Compute) -> Pass:
    """Parts in their order, in this process."""
    return lambda parts: ((part, compute(part.rows, part.names)) for part in parts)


@dataclass
class Tally:
    """Rows computed and rows found, by score."""

    computed: dict[str, int] = field(default_factory=dict)
    found: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class ScoreStore:
    """Folders of score shards below a root."""

    root: Path
    shard: int = 8192

    def known(self, key: ScoreKey) -> pl.DataFrame:
        """Every (content_hash, score) under a key, one line per content hash, without changed shards."""
        parts = [read_shard(path) for path in sorted((self.root / key.folder).glob("*.parquet"))]
        whole = [part for part in parts if part is not None]
        if not whole:
            return pl.DataFrame(schema={"content_hash": pl.String, "score": pl.Float32})
        return pl.concat(whole).unique("content_hash", keep="first")

    def scores(
        self,
        run: Pass,
        keys: Mapping[str, ScoreKey],
        hashes: pl.Series,
        *,
        progress: Callable[[int, int], None] | None = None,
    ) -> tuple[dict[str, Scores], Tally]:
        """Score of every row by name, float32 `[n]` in the order of `hashes`; computes only missing scores.

        Rows of one content are computed once. A part has all scores that miss the same rows of a shard, so that they
        share their forward pass; it is committed as soon as the pass yields it.
        """
        rows = pl.DataFrame({"content_hash": hashes, "row": np.arange(len(hashes), dtype=np.int64)})
        first = rows.unique("content_hash", keep="first", maintain_order=True)
        missing = {
            name: first.join(self.known(key), on="content_hash", how="anti")["row"] for name, key in keys.items()
        }
        wanted = {name: np.sort(column.to_numpy()) for name, column in missing.items()}
        parts = self._parts(wanted, len(hashes))
        done, total = 0, sum(len(part.rows) for part in parts)
        for part, computed in run(parts):
            for name in part.names:
                self._commit(keys[name], hashes[part.rows], computed[name], part.start)
            done += len(part.rows)
            if progress:
                progress(done, total)
        tally = Tally(
            {name: len(column) for name, column in wanted.items()},
            {name: len(hashes) - len(column) for name, column in wanted.items()},
        )
        return {name: self._gather(key, rows) for name, key in keys.items()}, tally

    def _parts(self, wanted: Mapping[str, np.ndarray], count: int) -> list[ShardRows]:
        parts = []
        for start in range(0, count, self.shard):
            groups: dict[bytes, list[str]] = {}
            inside = {name: within(column, start, start + self.shard) for name, column in wanted.items()}
            for name, part in inside.items():
                if len(part):
                    groups.setdefault(part.tobytes(), []).append(name)
            parts += [ShardRows(start, inside[names[0]], names) for names in groups.values()]
        return parts

    def _gather(self, key: ScoreKey, rows: pl.DataFrame) -> Scores:
        joined = rows.join(self.known(key), on="content_hash", how="left", maintain_order="left")
        values: Scores = joined["score"].to_numpy().astype(np.float32)
        return values

    def _commit(self, key: ScoreKey, hashes: pl.Series, scores: Scores, start: int) -> None:
        digest = hashlib.sha256("".join(hashes).encode()).hexdigest()[:16]
        path = self.root / key.folder / f"{start:012d}-{digest}.parquet"
        with new_file(path, overwrite=True) as partial:
            shard = pl.DataFrame({"content_hash": hashes, "score": np.asarray(scores, np.float32)})
            shard.write_parquet(partial, metadata={DIGEST: digest_of(shard)})


def digest_of(shard: pl.DataFrame) -> str:
    """xxh3-128 of the content of a shard, 32 hexadecimal digits."""
    digest = xxhash.xxh3_128(fingerprint(shard["content_hash"]).encode())
    digest.update(np.ascontiguousarray(shard["score"].to_numpy(), np.float32).data)
    return str(digest.hexdigest())


def read_shard(path: Path) -> pl.DataFrame | None:
    """A shard of (content_hash, score); None for one that was changed: its rows are scored again."""
    try:
        shard = pl.read_parquet(path)
        return shard if pl.read_parquet_metadata(path).get(DIGEST) == digest_of(shard) else None
    except (OSError, pl.exceptions.PolarsError):
        return None


def within(rows: np.ndarray, start: int, stop: int) -> np.ndarray:
    """The part of ascending rows inside a range."""
    low, high = np.searchsorted(rows, (start, stop))
    part: np.ndarray = rows[low:high]
    return part
