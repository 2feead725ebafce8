"""The asset `columns` of a study that trains: columns of the data for groups, costs and quotas."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import polars as pl

from secateur.pipelines.assets.asset import key_of, study_asset
from secateur.pipelines.data.codes import codes_of
from secateur.pipelines.data.columns import COMPLETION_TOKENS
from secateur.pipelines.data.source_kinds.files import SourceError
from secateur.pipelines.data.sources import Loaded
from secateur.pipelines.data.target_rows import column_at, places_in, places_of
from secateur.pipelines.data.whole import counts_of, files_as_read
from secateur.pipelines.runs.kept_rows import Quotas
from secateur.pipelines.runs.units_of_rows import amount_faults, grouped
from secateur.pipelines.studies.samples import Study
from secateur.trainers.tasks.token_roles import token_counts


def columns_asset(study: Study, base: Path) -> dg.AssetsDefinition:
    """Columns of the user's data for budgets, groups and quotas of the study."""

    @study_asset(
        study, "columns", ins=("samples", "source"),
        description=f"Of each training row: {', '.join(study.read_besides)}.",
    )  # fmt: skip
    def columns(secateur_store: dg.ResourceParam[Any], samples: Any, source: Any) -> dg.MaterializeResult:
        places = places_in(samples.select("file", "file_row").collect(), source["training_files"])
        table = columns_of_rows(study, base, secateur_store.root / ".cache", source["revision"], places)
        secateur_store.save(key_of(study, "columns"), table)
        return dg.MaterializeResult(value=table, metadata={"dagster/row_count": len(table)})

    return columns


def columns_of_rows(study: Study, base: Path, cache: Path, revision: str, places: np.ndarray) -> pl.DataFrame:
    """The columns of the rows at these places in all files; raises SourceError for a column that is missing, has gaps
    or holds invalid costs, and for data that have changed since they were read."""
    files = files_as_read(study.read_source, study.read_columns, base, cache, revision, study.name)
    found: dict[str, pl.Series] = {}
    for name, what in study.read_besides.items():
        values = column_at(files, name, places, what, gaps=what == "columns.group")
        if name == study.cost_column:
            refuse_no_costs(values, what)
        found[name] = each_its_own(values)
    return pl.DataFrame(found)


def each_its_own(values: pl.Series) -> pl.Series:
    """The column, with a distinct value for each row without one: missing values have nothing in common."""
    if not values.null_count():
        return values
    alone = pl.format("none, row {}", pl.int_range(pl.len()))
    return values.to_frame().select(pl.col(values.name).cast(pl.String).fill_null(alone))[values.name]


def refuse_no_costs(values: pl.Series, what: str) -> None:
    """Raise SourceError for a column with values other than finite numbers from 0 on."""
    if not values.dtype.is_numeric():
        raise SourceError(f"{what}: column {values.name!r} holds {values.dtype}, and budgets are of numbers")
    costs = values.cast(pl.Float64).to_numpy()
    bad = ~(np.isfinite(costs) & (costs >= 0))
    if count := int(bad.sum()):
        first = costs[int(np.flatnonzero(bad)[0])]
        raise SourceError(
            f"{what}: column {values.name!r} is below 0, NaN or infinite in {count:,} training rows, such as {first:g}"
        )


def check_columns(study: Study, loaded: Loaded, base: Path, cache: Path) -> pl.DataFrame:
    """The columns of each training row that the study reads beside its samples; empty if it reads none.

    Raises SourceError for columns, budgets and shares that the data cannot meet, before any asset is written.
    Completion tokens are counted later: `check_tokens` checks budgets of these.
    """
    if not study.read_besides:
        return pl.DataFrame()
    places = places_of(loaded.rows["train"], counts_of(loaded.scanned.values(), len(loaded.files)))
    table = columns_of_rows(study, base, cache, loaded.revision, places)
    if faults := list(column_faults(study, table)):
        raise SourceError(f"{study.name}: {'; '.join(faults)}")
    return table


def check_tokens(study: Study, table: pl.DataFrame, inputs: Path) -> None:
    """Raise SourceError for budgets of completion tokens that the training rows cannot meet.

    `table` is the result of `check_columns`; `inputs` is the array of the training rows.
    """
    if study.cost_column != COMPLETION_TOKENS:
        return
    tokens = token_counts(np.load(inputs, mmap_mode="r"))
    units = grouped(study, pl.DataFrame(table.to_dict() | {COMPLETION_TOKENS: tokens}), None)
    if faults := list(amount_faults(study, units)):
        raise SourceError(f"{study.name}: {'; '.join(faults)}")


def column_faults(study: Study, table: pl.DataFrame) -> Iterator[str]:
    """Amounts beyond the total of all rows, budgets below the smallest group, and shares of unknown values."""
    for name, selection in study.selections.items():
        if selection.by is not None:
            try:
                Quotas.of(selection.by, codes_of(table[selection.by]), selection.share)
            except ValueError as error:
                yield f"selections.{name}.{error}"
    if study.cost_column != COMPLETION_TOKENS and (study.group is not None or study.cost_column in table.columns):
        yield from amount_faults(study, grouped(study, table, None))
