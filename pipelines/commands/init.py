"""The command `init`: from a data set to a study's file."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from secateur.pipelines.commands.shell import AsJson, out, say, table_of, tell

if TYPE_CHECKING:
    from secateur.pipelines.studies.draft import Wish

File = Annotated[
    Path | None, typer.Option("--out", "-o", metavar="FILE", help="Where to write; studies/NAME.yaml if left out.")
]
Labels = Annotated[
    list[str] | None,
    typer.Option("--label", metavar="COLUMN", help="The column to predict; may be repeated for several."),
]
Features = Annotated[list[str] | None, typer.Option("--features", metavar="COLUMN", help="A feature; may be repeated.")]
LeftOut = Annotated[
    list[str] | None, typer.Option("--leave-out", metavar="COLUMN", help="Not an input; may be repeated.")
]
Fraction = Annotated[float | None, typer.Option(help="Share to hold out for testing where there are no test samples.")]
Budgets = Annotated[
    list[str] | None, typer.Option(metavar="BUDGET", help="A share or a count to keep; may be repeated.")
]


def budget_of(text: str) -> float:
    """A share as a float, a count as an int."""
    try:
        return int(text) if text.isdigit() else float(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is neither a share such as 0.1 nor a count such as 500") from error


def init(
    data: Annotated[
        str, typer.Argument(metavar="DATA", help="A file or folder, or the name digits.", show_default=False)
    ],
    target: File = None,
    name: Annotated[str | None, typer.Option(help="Name of the study, lower case.")] = None,
    label: Labels = None,
    task: Annotated[str | None, typer.Option(metavar="TASK", help="classification, regression or multi_label.")] = None,
    text: Annotated[str | None, typer.Option(metavar="COLUMN", help="The column of texts.")] = None,
    image: Annotated[str | None, typer.Option(metavar="COLUMN", help="The column of pictures or their paths.")] = None,
    features: Features = None,
    leave_out: LeftOut = None,
    test: Annotated[str | None, typer.Option(metavar="PATH", help="The test samples.")] = None,
    test_fraction: Fraction = None,
    separator: Annotated[str | None, typer.Option(help="Between the fields of a CSV file.")] = None,
    keep: Budgets = None,
    model: Annotated[str | None, typer.Option(help="The network that scores and is trained.")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes of the scoring run.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Samples per optimiser step.")] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="Trainings of each selection.")] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace an existing file.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write a study of a data set, guessing its columns and its task, and say what was guessed and why.

    DATA is a CSV, JSON lines or Parquet file, a folder of them, a folder with a folder of pictures per class, or what
    save_to_disk of the datasets library wrote. Test samples are looked for beside the training samples.
    """
    from secateur.pipelines.studies.draft import Wish

    wish = Wish(
        labels=tuple(label or ()),
        task=task,
        text=text,
        image=image,
        features=tuple(features or ()),
        leave_out=tuple(leave_out or ()),
        keep=tuple(map(budget_of, keep or ())),
        name=name,
        model=model,
        epochs=epochs,
        batch_size=batch_size,
        seeds=seeds,
        test_fraction=test_fraction,
    )
    answer = written(data, target, wish, test=test, separator=separator, overwrite=overwrite)
    tell(answer, as_json, lambda: show_guesses(answer))


def written(
    data: str, target: Path | None, wish: "Wish", *, test: str | None, separator: str | None, overwrite: bool
) -> dict[str, Any]:
    """Write the study; its name, its file, what was guessed, and what to run next."""
    import os

    import yaml
    from pydantic import TypeAdapter

    from secateur.pipelines.data.profile import find_data
    from secateur.pipelines.data.sources import Columns, Source, load
    from secateur.pipelines.files.whole_files import refuse_existing, write_bytes
    from secateur.pipelines.storage.home import marked_home
    from secateur.pipelines.studies import draft as init_study
    from secateur.pipelines.studies.files import read_studies, study_folders, validated
    from secateur.pipelines.studies.problem import Problem

    place = find_data(data, test, separator)
    mine = target.absolute() if target else None
    taken = [file.name for file in read_studies(study_folders()) if file.path.absolute() != mine]
    wanted = wish.name or (target.stem if target else init_study.name_of(place))
    chosen = init_study.free_name(wanted, taken)
    path = target or study_folders()[-1] / f"{chosen}.yaml"
    base = Path(os.path.abspath(path.parent))
    refuse_existing(path, overwrite=overwrite)
    draft = init_study.draft_columns(place, wish)
    if chosen in (f"{wish.name or ''}_2", f"{init_study.name_of(place)}_2"):
        draft.note("name", chosen, f"there is a study {chosen.removesuffix('_2')} already")
    source = init_study.source_of(draft, base)
    init_study.note_test(draft, source)
    read: Any = TypeAdapter(Source).validate_python(source)
    columns = Columns(**draft.columns).holding(Problem(kind=draft.goal.task).target)
    loaded = load(read, columns, base, marked_home() / "assets" / ".cache")
    content = init_study.render(chosen, draft, source, init_study.settle(draft, loaded), loaded)
    validated(yaml.safe_load(content), path)
    write_bytes(path, content.encode(), overwrite=overwrite)
    listed = base in [Path(os.path.abspath(folder)) for folder in study_folders()]
    return {
        "study": chosen,
        "file": str(path),
        "guesses": [vars(guess) for guess in draft.guesses],
        "left_aside": list(place.others),
        "next": f"secateur run {chosen if listed else path}",
    }


def show_guesses(answer: dict[str, Any]) -> None:
    """What was guessed and why, and what to do with the file."""
    out.print(table_of(("what", "guess", "why"), (guess.values() for guess in answer["guesses"])))
    if answer["left_aside"]:
        say(f"left aside: {', '.join(answer['left_aside'])}")
    say(f"{answer['file']} written: change what is wrong, then {answer['next']}", style="bold")
