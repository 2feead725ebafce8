"""Search spaces from tables, callables and configs, as a table of architectures, and the searches over them."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from secateur.pipelines.studies.architectures import GUIDED, CallableSpace, ModelSpace, Scale, Search, TableSpace
from secateur.pipelines.studies.grid import Trial, selection_key
from secateur.pipelines.studies.rejections import did_you_mean
from secateur.scorers.architectures.accuracy_predictor import AccuracyPredictor
from secateur.scorers.architectures.encoding import LISTED, ArchitectureSpace, Position, Rows, choice_numbers
from secateur.scorers.contract import rows_text
from secateur.selectors.searches.contract import ArchitectureSearch, History
from secateur.selectors.searches.contract import search as run_search
from secateur.selectors.searches.gbdt_search import GbdtSearch
from secateur.selectors.searches.random_search import RandomSearch
from secateur.selectors.searches.regularised_evolution import RegularisedEvolution
from secateur.trainers.judging.architectures import space_of_configs
from secateur.trainers.judging.outcome import Outcome

Evaluate = Callable[[Rows], list[Outcome]]
"""From rows of the space to their outcomes; accuracies are in the scale of the search."""


def architectures_of(search: Search, base: Path) -> pl.DataFrame:
    """`row`, `key` (int64, equal for the same network), a text column per position, `accuracy` where a table has it.

    Raises ValueError for an unusable table, and for fewer different architectures than the search begins with.
    """
    space = search.space
    if space.table:
        table = from_table(space.table, base)
    elif space.models:
        table = as_table(space_of_configs(space.models.training, space.models.positions)[0])
    else:
        assert space.callable
        positions = [Position(n, tuple(map(str, values))) for n, values in space.callable.positions.items()]
        product = ArchitectureSpace.product(positions)
        if product.listed is None:
            raise ValueError(
                f"{product.size} combinations are above the {LISTED} that are listed; give a table of them"
            )
        table = as_table(product)
    there = table["key"].n_unique()
    if there < search.search.initial:
        raise ValueError(
            f"{there} different architectures are fewer than the {search.search.initial} that the search begins with; "
            "lower search.initial or give more"
        )
    if "accuracy" in table.columns:
        trained = search.search.predictor.trained_on(table["accuracy"].to_numpy())
        if (count := table["key"].filter(pl.Series(trained)).n_unique()) < 2:
            raise ValueError(
                f"{count} of {there} different architectures reach search.predictor.failed_below = "
                f"{search.search.predictor.failed_below}; a predictor needs two: lower it"
            )
    return table


def as_table(space: ArchitectureSpace) -> pl.DataFrame:
    """Table of the listed architectures, with choices as texts."""
    rows = np.arange(len(space))
    choices = space.choices_of(rows)
    names = {p.name: np.array(p.choices)[choices[:, place]] for place, p in enumerate(space.positions)}
    return pl.DataFrame({"row": rows, "key": space.keys_of(rows)} | names)


def from_table(settings: TableSpace, base: Path) -> pl.DataFrame:
    """Architectures with accuracies from a file; isomorphic ones get the mean of their accuracies."""
    path = base / settings.path
    read = read_columns(path, [*settings.positions, settings.accuracy, *([settings.key] if settings.key else [])])
    accuracy = read[settings.accuracy].cast(pl.Float64, strict=False).to_numpy()
    if len(bad := np.flatnonzero(~np.isfinite(accuracy))):
        raise ValueError(f"{path}: column {settings.accuracy!r}: accuracy is missing or no number at {rows_text(bad)}")
    if len(bad := np.flatnonzero(~in_scale(accuracy, settings.scale))):
        reason = out_of_scale(accuracy[bad[0]], settings.scale)
        raise ValueError(f"{path}: column {settings.accuracy!r}: {reason} ({rows_text(bad)})")
    for column in [*settings.positions, *([settings.key] if settings.key else [])]:
        if len(bad := np.flatnonzero(is_empty(read[column]))):
            raise ValueError(f"{path}: column {column!r} is empty at {rows_text(bad)}: fill it in or drop the rows")
    try:
        positions = positions_of(settings, read)
        numbers = [choice_numbers(read[p.name].cast(pl.String).to_numpy(), p) for p in positions]
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    choices = np.stack(numbers, axis=1)
    _, alike = np.unique(choices, axis=0, return_inverse=True)
    keys = alike.ravel()
    if settings.key:
        _, keys = np.unique(read[settings.key].cast(pl.String).to_numpy(), return_inverse=True)
        if len(np.unique(np.stack([alike.ravel(), keys]), axis=1).T) > alike.max() + 1:
            raise ValueError(f"{path}: column {settings.key!r} differs between rows of the same architecture")
    space = ArchitectureSpace(tuple(positions), np.ones(sum(len(p.choices) for p in positions), dtype=bool))
    means = (np.bincount(keys, accuracy) / np.bincount(keys))[keys]
    return as_table(space.having(choices, keys.astype(np.int64))).with_columns(pl.Series("accuracy", means))


def is_empty(column: pl.Series) -> np.ndarray:
    """Mask of the empty cells: null, NaN or empty text."""
    empty = column.is_null() | (column.cast(pl.String) == "").fill_null(False)
    return (empty | column.is_nan().fill_null(False) if column.dtype.is_float() else empty).to_numpy()


def in_scale(accuracies: np.ndarray, scale: Scale) -> np.ndarray:
    """Mask of the accuracies within the range of their scale."""
    low, high = {"share": (0.0, 1.0), "percent": (0.0, 100.0), "number": (-np.inf, np.inf)}[scale]
    return np.asarray((accuracies >= low) & (accuracies <= high))


def out_of_scale(accuracy: float, scale: Scale) -> str:
    """Message that rejects an accuracy, with the remedy."""
    others = "scale: percent or scale: number" if scale == "share" else "scale: number"
    return f"{accuracy:g} is no {scale}; write {others} into this part of the space"


def read_columns(path: Path, columns: list[str]) -> pl.DataFrame:
    """These columns of a Parquet or CSV file; raises ValueError that names file and column."""
    if path.suffix not in (".parquet", ".csv"):
        raise ValueError(f"{path}: a table of architectures is a .parquet or a .csv file")
    try:
        scan = pl.scan_parquet(path) if path.suffix == ".parquet" else pl.scan_csv(path, infer_schema=False)
        names = scan.collect_schema().names()
        for column in columns:
            if column not in names:
                told = did_you_mean(column, names)
                raise ValueError(f"{path}: there is no column {column!r}; {told}there are {', '.join(names)}")
        return scan.select(columns).collect()
    except (OSError, pl.exceptions.PolarsError) as error:
        raise ValueError(f"{path}: not readable as a table: {' '.join(str(error).split())}") from error


def positions_of(settings: TableSpace | CallableSpace | ModelSpace, table: pl.DataFrame) -> list[Position]:
    """Positions with their choices: as given, or all values of their columns in ascending order."""
    if isinstance(settings.positions, dict):
        return [Position(name, tuple(map(str, choices))) for name, choices in settings.positions.items()]
    columns = {name: table[name].cast(pl.String) for name in settings.positions}
    return [Position(name, tuple(column.unique().sort().to_list())) for name, column in columns.items()]


def space_of(search: Search, table: pl.DataFrame) -> ArchitectureSpace:
    """The space of a table that `architectures_of` made."""
    part = search.space.table or search.space.callable or search.space.models
    assert part
    positions = positions_of(part, table)
    choices = np.stack([choice_numbers(table[p.name].to_numpy(), p) for p in positions], axis=1)
    space = ArchitectureSpace(tuple(positions), np.ones(sum(len(p.choices) for p in positions), dtype=bool))
    return space.having(choices, table["key"].to_numpy())


def searchers(search: Search, space: ArchitectureSpace) -> dict[str, Callable[[int], ArchitectureSearch]]:
    """Every search by name, as a function of a seed: the guided one first, then the plain one and the baselines."""
    given = search.search
    rounds: dict[str, Any] = {
        "predictor": given.predictor,
        **given.model_dump(include={"initial", "per_round", "explore"}),
    }
    return {
        GUIDED: lambda seed: GbdtSearch(space, **rounds, pruning=given.pruning, seed=seed),
        "gbdt": lambda seed: GbdtSearch(space, **rounds, seed=seed),
        "evolution": lambda seed: RegularisedEvolution(space, **search.evolution.model_dump(), seed=seed),
        "random": lambda seed: RandomSearch(space, seed=seed),
    }


def run(
    search: Search, name: str, begun: ArchitectureSearch, answer: Callable[[Rows], np.ndarray], budget: int
) -> History:
    """Spend a budget of evaluations; evolution learns from each of them, the others from a round of them.

    `answer` returns accuracies, float64 `[n]`. A smaller budget ends the same search earlier.
    """
    batch = 1 if name == "evolution" else search.search.per_round
    return run_search(begun, answer, budget, batch=batch)


def accuracies_of(outcomes: Iterable[Outcome]) -> np.ndarray:
    """Accuracies, float64 `[n]`."""
    return np.array([outcome.metrics["accuracy"] for outcome in outcomes])


def guided_history(search: Search, evaluations: Mapping[Trial, Any]) -> History:
    """Evaluations of the guided search of seed 0, in order."""
    trial = Trial(selection_key(GUIDED, search.search.budget), 0)
    facts = Outcome.read(evaluations[trial], f"outcome of {trial}").facts
    return History(np.array(facts["rows"], dtype=np.int64), np.array(facts["accuracies"]))


def replay(search: Search, space: ArchitectureSpace, history: History) -> GbdtSearch:
    """The guided search in its final state: the same seed requests the same rows."""
    answers = dict(zip(history.rows.tolist(), history.fitness.tolist(), strict=True))
    begun = searchers(search, space)[GUIDED](0)
    assert isinstance(begun, GbdtSearch)
    run(search, GUIDED, begun, lambda rows: np.array([answers[row] for row in rows.tolist()]), search.search.budget)
    return begun


def fitted(search: Search, space: ArchitectureSpace, history: History) -> AccuracyPredictor:
    return AccuracyPredictor.fit(
        space, space.choices_of(history.rows), history.fitness, search.search.predictor, seed=0
    )
