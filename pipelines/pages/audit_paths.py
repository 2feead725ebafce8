"""Permitted output paths of an audit: no input, and no existing file unless secateur wrote it."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import polars as pl

from secateur.pipelines.audits.listed import SCHEMA
from secateur.pipelines.files.whole_files import OVERWRITE, refuse_existing

PAGES, TABLES = (".html",), (".csv", ".parquet")
"""Suffixes of pages, and of tables of findings."""
MARK = b'<p class="kind">secateur audit</p>'
"""Markup in every page of an audit."""


def paths_in(data: Iterable[Any]) -> list[Path]:
    """The files and folders among the arguments of an audit; data in memory have none."""
    paths = [Path(one).expanduser() for one in data if isinstance(one, str | Path)]
    return [path for path in paths if path.exists()]


def refuse_page(path: Path, inputs: Iterable[Path], *, overwrite: bool) -> None:
    """Raise ValueError or FileExistsError for an impermissible path of a page."""
    refuse_file(path, inputs, PAGES, "a page is written as .html", overwrite=overwrite)
    if path.exists() and MARK not in path.read_bytes():
        raise FileExistsError(f"{path} is no page that secateur audit wrote, and is not replaced: name another path")


def refuse_table(path: Path, inputs: Iterable[Path], *, overwrite: bool) -> None:
    """Raise ValueError or FileExistsError for an impermissible path of a table of findings."""
    refuse_file(path, inputs, TABLES, "findings are written as .csv or .parquet", overwrite=overwrite)
    if path.exists() and not is_table(path):
        raise FileExistsError(
            f"{path} holds no findings that secateur audit wrote, and is not replaced: name another path"
        )


def refuse_file(path: Path, inputs: Iterable[Path], endings: tuple[str, ...], how: str, *, overwrite: bool) -> None:
    """Raise ValueError or FileExistsError for another suffix, an input, a link, a device, or a file to keep."""
    refuse_inputs(path, inputs)
    if path.suffix not in endings:
        raise ValueError(f"{path}: {how}; let the name end so")
    if path.is_symlink():
        raise FileExistsError(f"{path} is a link, which secateur does not replace: name the file itself")
    if os.path.lexists(path) and not path.is_file():
        raise FileExistsError(f"{path} is a {'folder' if path.is_dir() else 'device'}, and no file: name another path")
    refuse_existing(path, overwrite=overwrite, option=OVERWRITE)


def refuse_inputs(path: Path, inputs: Iterable[Path]) -> None:
    """Raise ValueError for a path that is an input, lies in a folder of inputs, or is a folder that holds one."""
    here = path.expanduser().resolve()
    for one in inputs:
        there = one.resolve()
        if here == there:
            raise ValueError(f"{path} is an input of this audit, and nothing is written over it: name another path")
        if here.is_relative_to(there):
            raise ValueError(f"{path} lies in {one}, an input of this audit: name a path outside of it")
        if there.is_relative_to(here):
            raise ValueError(f"{one}, an input of this audit, lies in {path}: name another path")


def is_table(path: Path) -> bool:
    """Whether a file has the columns of a table of findings, in any version with the same first columns."""
    first = list(SCHEMA)[:4]
    try:
        if path.suffix == ".parquet":
            return pl.read_parquet_schema(path).keys() >= set(first)
        with path.open(encoding="utf-8-sig", newline="") as file:
            return next(csv.reader(file), [])[: len(first)] == first
    except (UnicodeError, csv.Error, pl.exceptions.PolarsError):
        return False
