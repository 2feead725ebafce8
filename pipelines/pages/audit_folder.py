"""An audit as files: its page, its findings as tables and JSON, manifests, and files for other programs."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from secateur.pipelines.audits.argilla import write_argilla
from secateur.pipelines.audits.auditing import Audited
from secateur.pipelines.audits.cleaned import Samples, write_cleaned
from secateur.pipelines.audits.fiftyone import write_fiftyone
from secateur.pipelines.audits.label_studio import write_label_studio
from secateur.pipelines.audits.marking import Precision
from secateur.pipelines.audits.sheets import Sheets, sheets_of
from secateur.pipelines.files.whole_files import OVERWRITE, new_file, new_folder, refuse_existing
from secateur.pipelines.pages.audit_page import AuditPage
from secateur.pipelines.pages.formulas import unformulated

PAGE, ANSWER, TABLE = "audit.html", "audit.json", "findings"
"""Files of the folder; the table exists as CSV and as Parquet."""
PROGRAMS: Mapping[str, Callable[[Sheets, Path], None]] = {
    "label_studio": write_label_studio,
    "argilla": write_argilla,
    "fiftyone": write_fiftyone,
}
"""Programs in which people mark samples, by the name of their folder; FiftyOne supports pictures only."""
MANIFESTS, MARKS = "manifests", "marks.csv"


def write_audit(
    audit: Audited,
    folder: Path,
    *,
    precisions: Sequence[Precision] = (),
    more: Mapping[str, Any] | None = None,
    samples: Samples | None = None,
    marks: bytes = b"",
    overwrite: bool = False,
) -> dict[str, str]:
    """Write all files atomically; returns the paths of manifests, and of folders for other programs, by name.

    Raises FileExistsError if the folder exists, unless `overwrite` is set and it is an audit of ours.
    """
    refuse_other(folder, overwrite=overwrite)
    with new_folder(folder, overwrite=overwrite) as partial:
        written = fill(audit, partial, precisions=precisions, more=more, samples=samples)
        if marks:  # read earlier, because they may lie in the replaced folder
            (partial / MARKS).write_bytes(marks)
    return {name: str(folder / path.relative_to(partial)) for name, path in written.items()}


def fill(
    audit: Audited,
    folder: Path,
    *,
    precisions: Sequence[Precision] = (),
    more: Mapping[str, Any] | None = None,
    samples: Samples | None = None,
) -> dict[str, Path]:
    """Write all files into an empty folder."""
    page = AuditPage(audit, precisions, audit.samples)
    (folder / PAGE).write_text(page.html(), encoding="utf-8")
    answer = audit.content() | {"precision": [one.content() for one in precisions], **(more or {})}
    text = json.dumps(answer, indent=2, allow_nan=False, default=str) + "\n"
    (folder / ANSWER).write_text(text, encoding="utf-8")
    as_csv(audit.lines).write_csv(folder / f"{TABLE}.csv", include_bom=True)
    audit.lines.write_parquet(folder / f"{TABLE}.parquet")
    (folder / MANIFESTS).mkdir()
    written = write_cleaned(audit, folder / MANIFESTS, seed=audit.how.seed, samples=samples)
    if not written:
        (folder / MANIFESTS).rmdir()
    sheets = sheets_of(audit)
    for name, write in PROGRAMS.items():
        if audit.samples and (sheets.suspects or sheets.pairs) and (name != "fiftyone" or sheets.kind == "image"):
            (folder / name).mkdir()
            write(sheets, folder / name)
            written[name] = folder / name
    return written


def refuse_other(folder: Path, *, overwrite: bool) -> None:
    """Raise FileExistsError instead of replacing a link, a path without `overwrite`, or a folder that is no audit."""
    if folder.is_symlink():
        raise FileExistsError(f"{folder} is a link, which secateur does not replace: name the folder itself")
    refuse_existing(folder, overwrite=overwrite, option=OVERWRITE)
    if folder.is_dir() and any(folder.iterdir()) and not (folder / ANSWER).is_file():
        raise FileExistsError(f"{folder} is no audit that secateur wrote, and is not replaced: name another folder")


def write_page(audit: Audited, path: Path, *, precisions: Sequence[Precision] = (), overwrite: bool = False) -> None:
    """Write the page alone."""
    with new_file(path, overwrite=overwrite) as partial:
        partial.write_text(AuditPage(audit, precisions, audit.samples).html(), encoding="utf-8")


def write_table(audit: Audited, path: Path, *, overwrite: bool = False) -> None:
    """Write the table of findings as CSV or Parquet, by the suffix; raises ValueError for another one."""
    if path.suffix not in (".csv", ".parquet"):
        raise ValueError(f"{path}: findings are written as .csv or .parquet; let the name end so")
    with new_file(path, overwrite=overwrite) as partial:
        if path.suffix == ".csv":
            as_csv(audit.lines).write_csv(partial, include_bom=True)
        else:
            audit.lines.write_parquet(partial)


def as_csv(lines: pl.DataFrame) -> pl.DataFrame:
    """The table with texts escaped, so that spreadsheets do not evaluate them as formulas."""
    return lines.with_columns(unformulated(pl.col(pl.String)))
