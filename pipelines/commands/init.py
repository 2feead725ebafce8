"""The command `init`: from a data set to a study's file."""

from pathlib import Path
from typing import Annotated, Any

import typer

from secateur.pipelines.commands.shell import AsJson, out, say, table_of, tell

Features = Annotated[list[str] | None, typer.Option("--features", metavar="COLUMN", help="A feature; may be repeated.")]


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
    target: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="Where to write; studies/NAME.yaml if left out.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the study, lower case.")] = None,
    label: Annotated[
        list[str] | None,
        typer.Option("--label", metavar="COLUMN", help="The column to predict; may be repeated for several."),
    ] = None,
    task: Annotated[str | None, typer.Option(metavar="TASK", help="classification, regression or multi_label.")] = None,
    text: Annotated[str | None, typer.Option(metavar="COLUMN", help="The column of texts.")] = None,
    image: Annotated[str | None, typer.Option(metavar="COLUMN", help="The column of pictures or their paths.")] = None,
    features: Features = None,
    leave_out: Annotated[
        list[str] | None, typer.Option("--leave-out", metavar="COLUMN", help="Not an input; may be repeated.")
    ] = None,
    test: Annotated[str | None, typer.Option(metavar="PATH", help="The test samples.")] = None,
    test_fraction: Annotated[
        float | None, typer.Option(help="Share to hold out for testing where there are no test samples.")
    ] = None,
    separator: Annotated[str | None, typer.Option(help="Between the fields of a CSV file.")] = None,
    keep: Annotated[
        list[str] | None, typer.Option(metavar="BUDGET", help="A share or a count to keep; may be repeated.")
    ] = None,
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
    chosen = init_study.free_name(name or (target.stem if target else init_study.name_of(place)), taken)
    base = Path(os.path.abspath((target or study_folders()[-1] / chosen).parent))
    path = target or study_folders()[-1] / f"{chosen}.yaml"
    refuse_existing(path, overwrite=overwrite)
    wish = init_study.Wish(
        labels=tuple(label or ()),
        task=task,
        text=text,
        image=image,
        features=tuple(features or ()),
        leave_out=tuple(leave_out or ()),
        keep=tuple(budget_of(one) for one in keep or ()),
        name=name,
        model=model,
        epochs=epochs,
        batch_size=batch_size,
        seeds=seeds,
        test_fraction=test_fraction,
    )
    draft = init_study.draft_columns(place, wish)
    if chosen in (f"{name or ''}_2", f"{init_study.name_of(place)}_2"):
        draft.note("name", chosen, f"there is a study {chosen.removesuffix('_2')} already")
    source = init_study.source_of(draft, base)
    init_study.note_test(draft, source)
    read: Any = TypeAdapter(Source).validate_python(source)
    columns = Columns(**draft.columns).holding(Problem(kind=draft.goal.task).target)
    loaded = load(read, columns, base, marked_home() / "assets" / ".cache")
    settled = init_study.settle(draft, loaded)
    content = init_study.render(chosen, draft, source, settled, loaded)
    validated(yaml.safe_load(content), path)
    write_bytes(path, content.encode(), overwrite=overwrite)
    guesses: list[dict[str, Any]] = [vars(guess) for guess in draft.guesses]
    listed = base in [Path(os.path.abspath(folder)) for folder in study_folders()]
    run = f"secateur run {chosen if listed else path}"

    def show() -> None:
        out.print(table_of(("what", "guess", "why"), (guess.values() for guess in guesses)))
        if place.others:
            say(f"left aside: {', '.join(place.others)}")
        say(f"{path} written: change what is wrong, then {run}", style="bold")

    answer = {"study": chosen, "file": str(path), "guesses": guesses, "left_aside": list(place.others), "next": run}
    tell(answer, as_json, show)
