"""`secateur select FILE`: keep a part of the file by a score of its own, and write a random choice of equal size."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from secateur.pipelines.commands.export import read_settings
from secateur.pipelines.commands.shell import READING, bar, out, say, table_of, tell

if TYPE_CHECKING:
    from secateur.pipelines.front_door.select import Choice

DATA = "Of a file of data"
Score = Annotated[
    str | None, typer.Option(metavar="COLUMN", help="Column of numbers to choose by.", rich_help_panel=DATA)
]
SelectorName = Annotated[
    str | None,
    typer.Option("--selector", metavar="NAME", help="The selector; top with a score.", rich_help_panel=DATA),
]
End = Annotated[
    str | None, typer.Option(metavar="high|low", help="Which end of the score stays.", rich_help_panel=DATA)
]
Group = Annotated[
    str | None, typer.Option(metavar="COLUMN", help="Rows of equal values stay together.", rich_help_panel=DATA)
]
By = Annotated[
    str | None,
    typer.Option(metavar="COLUMN", help="Values of it get parts of the budget: see --share.", rich_help_panel=DATA),
]
Shares = Annotated[
    list[str] | None,
    typer.Option(
        "--share",
        metavar="WORD|VALUE=PART",
        help="proportional (the default), balanced, or the part of a value; may be repeated.",
        rich_help_panel=DATA,
    ),
]
Label = Annotated[
    str | None, typer.Option(metavar="COLUMN", help="Classes, for selectors of them.", rich_help_panel=DATA)
]
Embeddings = Annotated[
    str | None,
    typer.Option(metavar="FILE|COLUMN", help="Vectors: a .npy file or a column of lists.", rich_help_panel=DATA),
]
Target = Annotated[
    str | None,
    typer.Option(metavar="FILE", help="Examples of the job, for nearest_to_target.", rich_help_panel=DATA),
]
TargetTask = Annotated[
    str | None,
    typer.Option(metavar="COLUMN", help="Of the target: its values take turns.", rich_help_panel=DATA),
]
TextColumn = Annotated[
    str | None, typer.Option("--text", metavar="COLUMN", help="Texts to compare with a target's.", rich_help_panel=DATA)
]
Key = Annotated[
    str | None, typer.Option("--key", metavar="COLUMN", help="Column by which draws and ties go.", rich_help_panel=DATA)
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="Setting of the selector; may be repeated.", rich_help_panel=DATA),
]
To = Annotated[
    str | None,
    typer.Option(
        metavar="FORMAT", help="parquet, csv, jsonl, indices or text; the ending of -o says it.", rich_help_panel=DATA
    ),
]
Out = Annotated[
    Path | None,
    typer.Option("--out", "-o", help="File to write; NAME_kept beside you if left out.", rich_help_panel=DATA),
]
Twin = Annotated[
    bool, typer.Option("--random/--no-random", help="Write as much at random beside it.", rich_help_panel=DATA)
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace files that are there.", rich_help_panel=DATA)]


def select_data(
    data: str,
    keeps: list[str] | None,
    seeds: list[int] | None,
    asked: dict[str, Any],
    *,
    as_json: bool,
) -> None:
    """Write the kept rows of a file, and as many rows at random; `asked` are the options above by their names in the
    command."""
    from secateur.pipelines.data.source_kinds.files import at_hand
    from secateur.pipelines.front_door.held import of_path
    from secateur.pipelines.front_door.select import choose
    from secateur.pipelines.front_door.written import KINDS, kind_of, refuse_ending, refuse_output, write_rows

    if len(keeps or ()) != 1 or len(seeds or ()) > 1:
        raise ValueError(
            "--keep: say once how much stays, such as 0.3, 5000 or tokens=2000000, and --seed once at most"
        )
    to, target, twin, overwrite = (asked.pop(name) for name in ("to", "file", "twin", "overwrite"))
    with bar(READING):
        rows = of_path(at_hand(data))
        first = Path(rows.files[0].name)
        said = kind_of(target or first, to)
        if target is not None:
            refuse_ending(target, said)
        kept = target or Path(
            f"{Path(data).name.split('.')[0]}_kept{''.join(first.suffixes) if to is None else KINDS[said]}"
        )
        random = kept.with_name(kept.name.replace(".", "_random.", 1) if "." in kept.name else f"{kept.name}_random")
        for path in (kept, random) if twin else (kept,):
            refuse_output(rows, path, asked["embeddings"], asked["target"], overwrite=overwrite)
        settings = read_settings(asked.pop("settings") or [])
        if (end := asked.pop("end")) is not None:
            if "end" in settings:
                raise ValueError(f"--end {end} and --set end={settings['end']}: say once which end stays")
            settings["end"] = end
        share = share_of(asked.pop("share"))
        assert keeps
        made = choose(rows, keep=amount(keeps[0]), seed=(seeds or [0])[0], share=share, settings=settings, **asked)
        write_rows(rows, made.rows, kept, said, overwrite=overwrite)
        if twin:
            write_rows(rows, made.random, random, said, overwrite=overwrite)
    answer = told(made) | {"data": data, "file": str(kept), "random_file": str(random) if twin else None}
    tell(answer, as_json, lambda: show(answer))


def amount(text: str) -> Any:
    """A share, a count, or an amount of a column."""
    name, equals, number = text.rpartition("=")
    try:
        value: int | float = int(number) if number.removeprefix("-").isdigit() else float(number)
    except ValueError as error:
        raise ValueError(f"--keep {text}: a share such as 0.3, a count, or an amount such as tokens=2000000") from error
    return {name: value} if equals else value


def share_of(words: list[str] | None) -> Any:
    """A policy by its name, or parts by value."""
    if not words or words in (["proportional"], ["balanced"]):
        return words[0] if words else "proportional"
    try:
        return {word[: word.rindex("=")]: float(word[word.rindex("=") + 1 :]) for word in words}
    except ValueError as error:
        raise ValueError(f"--share {' '.join(words)}: proportional, balanced, or parts such as web=0.2") from error


def told(made: "Choice") -> dict[str, Any]:
    """A choice as JSON-able data."""
    rows = {"rows": len(made.rows), "of": made.of, "random_rows": len(made.random)}
    budget = {"unit": made.unit, "budget": made.budget, "total": made.total, "random_total": made.random_total}
    return (
        {"selector": made.selector, "settings": dict(made.settings), "groups": made.groups}
        | rows
        | budget
        | {"of_total": made.whole}
    )


def show(answer: dict[str, Any]) -> None:
    """The choice and the random one as a table, and the paths of their files."""
    rows = answer["unit"] == "rows"
    head = ("", "rows", *(() if rows else (answer["unit"], "of budget")), "file")
    lines = [
        (
            name,
            f"{answer[f'{key}rows']:,}",
            *(() if rows else (f"{answer[f'{key}total']:,.10g}", f"{answer[f'{key}total'] / answer['budget']:.2%}")),
            answer[f"{key}file"] or "not written",
        )
        for name, key in ((answer["selector"], ""), ("random", "random_"))
    ]
    out.print(table_of(head, lines, right=range(1, len(head) - 1)))
    say(f"of {answer['of']:,} rows" + ("" if rows else f", {answer['of_total']:,.10g} {answer['unit']} in all"))
    if answer["groups"] is not None:
        short = answer["budget"] - answer["total"]
        say(f"{answer['groups']:,} whole groups; {short:,.10g} {answer['unit']} of the budget fit no further one")
    elif (short := answer["budget"] - answer["total"]) >= 1:
        say(f"{short:,.10g} {answer['unit']} of the budget are free: no further row fits, or may be kept")
    say("train on both: whether the selection is better than random shows there, and only there")
