"""`audit`: leaks, copies, wrong labels and oddities of data in memory, or of a file, without a study."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from markupsafe import Markup

from secateur.pipelines.audits.auditing import Audited, How, audited
from secateur.pipelines.audits.marking import precisions, read_marks
from secateur.pipelines.audits.own_predictions import read_predictions
from secateur.pipelines.audits.suspects import check_judge
from secateur.pipelines.front_door.audit_data import Given, audit_rows
from secateur.pipelines.front_door.audit_vectors import asked_vectors, files_in
from secateur.pipelines.front_door.held import names_of
from secateur.pipelines.front_door.progress import bars
from secateur.pipelines.front_door.read_whole import in_words_of_a_call
from secateur.pipelines.pages.audit_paths import paths_in
from secateur.pipelines.pages.html_table import html_table
from secateur.pipelines.studies.draft import Wish


class Audit:
    """The results of an audit. A notebook shows its findings."""

    def __init__(self, audit: Audited, inputs: Sequence[Path] = ()) -> None:
        self.audit = audit
        self.inputs = tuple(inputs)
        """Files and folders that the audit read, which no output may overwrite."""

    @property
    def findings(self) -> list[dict[str, Any]]:
        """Findings, most severe first: `kind`, `split`, `importance`, `count`, `text`, `rows`, `view`, … of each."""
        return self.audit.findings

    @cached_property
    def lines(self) -> pl.DataFrame:
        """A line for each row of each finding, as in findings.csv: docs/audit.md describes its columns."""
        return self.audit.lines

    @property
    def pairs(self) -> pl.DataFrame:
        """The lines of rows that are compared with another: their similarity, and the contents of both."""
        return self.lines.filter(pl.col("other_at").is_not_null())

    @property
    def groups(self) -> pl.DataFrame:
        """The lines of groups of copies: `group`, `group_rows`, and whether the row `stays`."""
        return self.lines.filter(pl.col("group").is_not_null())

    @cached_property
    def labels(self) -> pl.DataFrame:
        """The lines of labels that may be wrong, the likeliest first: `given`, `suggested`, `disputed`, `score`."""
        return self.lines.filter(pl.col("finding") == "wrong labels")

    @property
    def summary(self) -> dict[str, Any]:
        """All numbers, as `secateur audit --json` prints them."""
        return self.audit.content()

    def save(self, path: str | Path, *, overwrite: bool = False) -> Path:
        """Write the page to a path that ends in .html, the table of findings to one that ends in .csv or .parquet, and
        to any other path a folder with these, manifests and exports.

        Raises FileExistsError for an existing path; with `overwrite`, for a path that is not such a file or folder of
        an earlier audit, or is a link or a device. Raises ValueError for the audited data, and for a path in them.
        """
        from secateur.pipelines.pages.audit_folder import write_audit, write_page, write_table
        from secateur.pipelines.pages.audit_paths import refuse_inputs, refuse_page, refuse_table

        target = Path(path)
        if target.suffix == ".html":
            refuse_page(target, self.inputs, overwrite=overwrite)
            write_page(self.audit, target, overwrite=overwrite)
        elif target.suffix:
            refuse_table(target, self.inputs, overwrite=overwrite)
            write_table(self.audit, target, overwrite=overwrite)
        else:
            refuse_inputs(target, self.inputs)
            write_audit(self.audit, target, overwrite=overwrite)
        return target

    def precision(self, marks: str | Path) -> pl.DataFrame:
        """The share of right findings, from a CSV of marks that the page saved: `finding`, `split`, `marked`, `right`,
        `share`, `low` and `high`, the ends of an exact 95% interval.
        """
        found, strange = precisions(self.lines, read_marks(Path(marks)))
        if strange:
            warnings.warn(f"{strange:,} marks are of rows that were not drawn, and do not count", stacklevel=2)
        return pl.DataFrame([one.content() for one in found])

    def keep(self, name: str) -> np.ndarray:
        """A mask of training rows to keep, bool `[n]` in the order of the data: `deduplicated`, `without_leaks` or
        `without_suspects`."""
        return self.audit.mask(name)

    def __repr__(self) -> str:
        sizes = ", ".join(f"{count:,} of {name}" for name, count in self.audit.sizes.items())
        told = [f"{place}. {one['text']}" for place, one in enumerate(self.findings, start=1)]
        return "\n".join([f"audit of {self.audit.rows.name}: rows {sizes}", *(told or ["nothing found"])])

    def _repr_html_(self) -> str:
        table = [["finding", "of", "rows", ""]]
        table += [[one["kind"], one["split"], f"{one['count']:,}", one["text"]] for one in self.findings]
        shown = [Markup("<h4>Audit of {}</h4>").format(self.audit.rows.name)]
        shown.append(html_table(table) if len(table) > 1 else Markup("<p>Nothing found.</p>"))
        return str(Markup("<div>{}</div>").format(Markup("").join(shown)))


def audit(
    data: Any,
    *,
    test: Any = None,
    target: Any = None,
    against: Any = (),
    label: str | int | Sequence[str | int] | None = None,
    text: str | None = None,
    image: str | None = None,
    features: str | Sequence[str] | None = None,
    group: str | None = None,
    key: str | None = None,
    task: str | None = None,
    charset: str | None = None,
    unlabelled: bool = False,
    near: bool = True,
    seed: int = 0,
    probabilities: Any = None,
    by: str | None = None,
    embeddings: Any = None,
    progress: bool = True,
) -> Audit:
    """Look for leaks, copies, wrong labels and oddities in `data`.

    `data`, `test`, `target` and each of `against` (one or several benchmarks) are a table of pandas, polars or Arrow, a
    `datasets.Dataset`, a list of dicts, or the path of a CSV, JSON-lines or Parquet file, of a folder of such files, of
    one that `datasets` saved, or of a folder of pictures; of a folder with a test split that is the test. A column of
    chat messages is read as a text. Nothing is written but a temporary folder, which is deleted with the result.

    `label` is the column of labels, or several; `text`, `image` or `features` the input; `group` a column whose equal
    values belong together, `key` a column of your own ids. Columns that you do not name are guessed, as in `secateur
    init`, except labels without a telling name or type; without a label, or with `unlabelled`, labels are not checked.
    Without `near` only equal rows are copies. `charset` is the encoding of CSV files that are not UTF-8 (latin-1).

    `probabilities` `[n, classes]` in the order of the classes (for several labels each one's, for numbers predictions
    `[n, k]`), or a .npy file of them, judge training labels in place of a cheap model. They must come from a model that
    did not learn from the row. With `by` "cleanlab", which must be installed, cleanlab ranks and counts wrong labels.
    `embeddings` compare rows as well: an array or .npy file `[n, d]` of the training rows, a mapping of them by the
    name of the part, a column of lists that all parts have, or the name or folder of a pretrained encoder.

    Raises ValueError for unreadable data, missing columns, and vectors that do not match the rows.

    >>> import secateur as sc
    >>> rows = [{"body": f"row number {i % 9}", "label": "even" if i % 2 else "odd"} for i in range(10)]
    >>> sc.audit(rows, text="body", label="label", progress=False).findings[0]["text"]
    '1 group of equal train rows, 1 more than needed'
    """
    check_judge(by)
    wish = Wish(labels=names_of(label), text=text, image=image, features=names_of(features), task=task)
    several = list(against) if isinstance(against, list | tuple) and not rows_in_hand(against) else [against]
    vectors = asked_vectors(embeddings, near=near)
    given = Given(data, test, target, several, wish, group, key, unlabelled, charset, vectors)
    own = None if probabilities is None else read_predictions(probabilities)
    folder = Path((alive := tempfile.TemporaryDirectory(prefix="secateur-")).name).resolve()
    with bars(progress) as display, in_words_of_a_call(folder):
        display.stage("reading the data")
        rows = audit_rows(given, folder, alive)
        found = audited(rows, How(near=near, labels=not unlabelled, by=by, seed=seed, own=own), say=display.stage)
    inputs = paths_in([data, test, target, *several, probabilities, *files_in(embeddings)])
    return Audit(found, [path.resolve() for path in inputs])


def rows_in_hand(data: Sequence[Any]) -> bool:
    """Whether a list holds rows rather than data sets."""
    return bool(data) and all(isinstance(row, dict) for row in data)
