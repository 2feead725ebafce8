"""`secateur score FILE`: train a small model on the file's rows, and write scores of each of them."""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from secateur.pipelines.commands.export import read_settings
from secateur.pipelines.commands.select_data import DATA
from secateur.pipelines.commands.shell import caution, err, out, say, table_of, tell

if TYPE_CHECKING:
    import polars as pl

    from secateur.pipelines.studies.scores import Score

Label = Annotated[
    list[str] | None,
    typer.Option(
        metavar="COLUMN", help="Column to predict; may be repeated.", rich_help_panel=DATA, show_default=False
    ),
]
TextColumn = Annotated[
    str | None, typer.Option("--text", metavar="COLUMN", help="The input: texts.", rich_help_panel=DATA)
]
Image = Annotated[
    str | None, typer.Option(metavar="COLUMN", help="The input: pictures, or their paths.", rich_help_panel=DATA)
]
Features = Annotated[
    list[str] | None,
    typer.Option(
        metavar="COLUMN", help="The input: a feature; may be repeated.", rich_help_panel=DATA, show_default=False
    ),
]
Scores = Annotated[
    list[str] | None,
    typer.Option(
        "--score", metavar="NAME", help="A scorer; may be repeated. Those of a first study if left out.",
        rich_help_panel=DATA, show_default=False,
    ),
]  # fmt: skip
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="NAME=VALUE", help="el2n.epochs=5 of a score, proxy.batch_size=64, checkpoints=3, …; may be "
        "repeated.", rich_help_panel=DATA, show_default=False,
    ),
]  # fmt: skip
Model = Annotated[str | None, typer.Option(metavar="NAME", help="The proxy's network.", rich_help_panel=DATA)]
Epochs = Annotated[int | None, typer.Option(min=1, help="How long the proxy is trained.", rich_help_panel=DATA)]
Seed = Annotated[int, typer.Option(min=0, help="Of the proxy.", rich_help_panel=DATA)]
Task = Annotated[
    str | None,
    typer.Option(metavar="TASK", help="classification, regression or multi_label.", rich_help_panel=DATA),
]
Key = Annotated[
    list[str] | None,
    typer.Option(
        "--key", metavar="COLUMN", help="Stands beside the scores, such as an id; may be repeated.",
        rich_help_panel=DATA, show_default=False,
    ),
]  # fmt: skip
To = Annotated[
    str | None,
    typer.Option(metavar="FORMAT", help="parquet, csv or jsonl; the ending of -o says it.", rich_help_panel=DATA),
]
Out = Annotated[
    Path | None,
    typer.Option("--out", "-o", help="File to write; NAME_scores beside you if left out.", rich_help_panel=DATA),
]
TABLES = ("parquet", "csv", "jsonl")


@dataclass(frozen=True)
class Output:
    """The output options for `data`."""

    data: str
    file: Path | None
    to: str | None
    overwrite: bool

    def checked(self) -> tuple[Path, str]:
        """The file and its format; raises ValueError for a format without tables, for an existing file, and for a file
        that is, or would become, a part of the data."""
        from secateur.pipelines.data.profile import find_data
        from secateur.pipelines.files.whole_files import refuse_target
        from secateur.pipelines.front_door.written import KINDS, format_of, kind_of, refuse_ending

        path = Path(self.data).expanduser()
        find_data(str(path))  # raises SourceError with the data's fault
        own = path if path.is_file() and format_of(path) in TABLES else Path("scores.parquet")
        said = kind_of(self.file or own, self.to)
        if said not in TABLES:
            raise ValueError(f"--to: {said} holds no table of scores; there are: {', '.join(TABLES)}")
        if self.file is not None:
            refuse_ending(self.file, said)
        ending = "".join(own.suffixes) if self.to is None else KINDS[said]
        written = self.file or Path(f"{path.name.split('.')[0]}_scores{ending}")
        if written.resolve() == path.resolve() or written.resolve().is_relative_to(path.resolve()):
            raise ValueError(f"{written} is the data itself, which nothing here changes: name another file")
        refuse_target(written, overwrite=self.overwrite)
        return written, said


def score_data(
    output: Output,
    wish: Mapping[str, Any],
    names: list[str],
    settings: list[str],
    seed: int,
    keys: list[str],
    *,
    as_json: bool,
) -> None:
    """Write scores of every row of a file; `wish` are the options of the same name, `names` scores, `keys` columns."""
    from secateur.pipelines.files.whole_files import new_file
    from secateur.pipelines.front_door.progress import bars
    from secateur.pipelines.front_door.score import refuse, scored_rows
    from secateur.pipelines.front_door.written import converted
    from secateur.pipelines.studies.draft import Wish

    path, kind = output.checked()
    chosen, more = asked_of(names, settings)
    refuse(more)
    beside = columns_of(Path(output.data).expanduser(), keys)
    with tempfile.TemporaryDirectory(prefix="secateur-") as folder, bars(err.is_interactive) as display:
        where = Path(output.data).expanduser()
        made = scored_rows(where, Wish(**wish), chosen, more, seed, display, Path(folder).resolve(), str(where))
    table = made.table.with_columns(beside)
    with new_file(path, overwrite=output.overwrite) as partial:
        converted(table, partial, kind, path)
    if made.left_out:
        caution(made.left_out)
    answer = {"data": output.data, "file": str(path), "rows": len(table), "left_out": made.left_out}
    answer |= {"scores": [numbers_of(name, score, table) for name, score in made.scores.items()]}
    tell(answer, as_json, lambda: show(answer))


def asked_of(names: list[str], settings: list[str]) -> tuple[dict[str, "Score"] | None, dict[str, Any]]:
    """Scores with their settings, None without names, and further keys of a study; raises ValueError."""
    from secateur.pipelines.front_door.asked import asked
    from secateur.pipelines.front_door.score import MORE

    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"--score {twice[0]}: say it once")
    bodies: dict[str, dict[str, Any]] = {name: {} for name in names}
    more: dict[str, Any] = {}
    for key, value in read_settings(settings).items():
        head, dot, setting = key.partition(".")
        if head not in (*bodies, *MORE) or not (dot or head in MORE):
            listed = f"a score of --score ({', '.join(names) or 'none is named'})"
            raise ValueError(
                f"--set {key}: name a setting of {listed}, as NAME.{setting or key}, or of {', '.join(MORE)}"
            )
        if head in bodies:
            bodies[head][setting] = value
        elif dot:
            more.setdefault(head, {})[setting] = value
        else:
            more[head] = value
    return asked(bodies) if bodies else None, more


def columns_of(path: Path, names: list[str]) -> "list[pl.Series]":
    """Columns of the data for the table of scores; raises SourceError for a missing one."""
    from secateur.pipelines.front_door.held import of_path

    rows = of_path(path) if names else None
    return [rows.column(name, "--key") for name in names] if rows else []


def numbers_of(name: str, score: "Score", table: "pl.DataFrame") -> dict[str, Any]:
    """Statistics of a score's values, a line of the answer; rows without a value are left out."""
    values = table[name].drop_nulls().cast(float)
    numbers = {"min": values.min(), "mean": values.mean(), "max": values.max(), "samples": len(values)}
    return {"score": name, "high_means": score.declared.card.high_means} | numbers


def print_scores(scores: list[dict[str, Any]]) -> None:
    """The lines of `numbers_of` as a table."""
    names = ("min", "mean", "max")
    lines = [(one["score"], *(f"{one[k]:.4g}" for k in names), one["high_means"]) for one in scores]
    out.print(table_of(("score", *names, "high means"), lines, right=(1, 2, 3)))


def show(answer: dict[str, Any]) -> None:
    """The scores as a table, and the path of their file."""
    print_scores(answer["scores"])
    say(f"{answer['rows']:,} rows; scores in {answer['file']}")
