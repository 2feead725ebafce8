"""The command `init`: write a study's file for a data set."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from secateur.pipelines.commands.shell import READING, AsJson, bar, out, say, say_findings, table_of, tell

if TYPE_CHECKING:
    from secateur.pipelines.data.profile import Place
    from secateur.pipelines.studies.draft import Wish

Data = Annotated[
    str | None,
    typer.Argument(
        metavar="DATA", help="A file or folder, owner/name of a data set on the hub, or digits.", show_default=False
    ),
]
Example = Annotated[
    str | None, typer.Option(metavar="NAME", help="Instead of DATA: copy this study that ships, to change it.")
]
Config = Annotated[str | None, typer.Option(help="Of a data set on the hub that has several configurations.")]
Split = Annotated[str | None, typer.Option(help="Of a data set on the hub: the split to train on.")]
Revision = Annotated[str | None, typer.Option(help="Of a data set on the hub: a branch, tag or commit.")]
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

TaskName = Annotated[
    str | None, typer.Option(metavar="TASK", help="classification, regression, multi_label or sft (fine-tuning).")
]
Network = Annotated[
    str | None, typer.Option(help="The network that scores and is trained; of sft weights, by folder or name.")
]


def budget_of(text: str) -> float:
    """A share as a float, a count as an int."""
    try:
        return int(text) if text.isdigit() else float(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is neither a share such as 0.1 nor a count such as 500") from error


def init(
    data: Data = None,
    example: Example = None,
    target: File = None,
    name: Annotated[str | None, typer.Option(help="Name of the study, lower case.")] = None,
    label: Labels = None,
    task: TaskName = None,
    text: Annotated[str | None, typer.Option(metavar="COLUMN", help="The column of texts.")] = None,
    image: Annotated[str | None, typer.Option(metavar="COLUMN", help="The column of pictures or their paths.")] = None,
    features: Features = None,
    leave_out: LeftOut = None,
    test: Annotated[str | None, typer.Option(metavar="PATH", help="The test samples; of the hub a split.")] = None,
    config: Config = None,
    split: Split = None,
    revision: Revision = None,
    test_fraction: Fraction = None,
    separator: Annotated[str | None, typer.Option(help="Between the fields of a CSV file.")] = None,
    charset: Annotated[str | None, typer.Option(help="Encoding of a CSV file, such as latin-1.")] = None,
    keep: Budgets = None,
    model: Network = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes of the scoring run.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Samples per optimiser step.")] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="Trainings of each selection.")] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace an existing file.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write a study of a data set, guess its columns and its task, and print the guesses with their reasons.

    DATA is a CSV, JSON or Parquet file, a folder of them, a folder with a folder of pictures per class, a folder
    that save_to_disk of the datasets library wrote, or a data set of the Hugging Face hub (owner/name), which is
    downloaded whole to the Hugging Face cache. init looks for test samples beside the training samples.
    """
    if (data is None) == (example is None):
        raise ValueError("init takes DATA, or --example with the name of a study that ships (secateur studies)")
    if data is None:
        answer = copied(str(example), target, overwrite=overwrite)
        tell(answer, as_json, lambda: say(f"{answer['file']} written: change it, then {answer['next']}", style="bold"))
        return
    place = place_of(data, test, (separator, charset), (config, split, revision))
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
    answer = seen_reading(place, target, wish, overwrite=overwrite)
    tell(answer, as_json, lambda: show_guesses(answer))


def place_of(
    data: str,
    test: str | None,
    of_csv: tuple[str | None, str | None],
    of_hub: tuple[str | None, str | None, str | None],
) -> "Place":
    """The data set for the arguments; for the hub after a look at its configurations and splits.

    `of_csv` are separator and charset, `of_hub` config, split and revision. Raises ValueError for options of the other.
    """
    from secateur.pipelines.data.hub_place import find_on_hub, hub_name
    from secateur.pipelines.data.profile import find_data

    name = hub_name(data)
    if name and any(given is not None for given in of_csv):
        raise ValueError("--separator and --charset are of CSV files, not of data sets on the hub")
    if not name and any(given is not None for given in of_hub):
        raise ValueError(f"--config, --split and --revision are of data sets on the hub, and {data!r} is none")
    if not name:
        return find_data(data, test, *of_csv)  # before the slow imports
    from secateur.pipelines.data.sources import own_manners

    config, split, revision = of_hub
    with bar(READING), own_manners():
        return find_on_hub(name, config=config, split=split, test=test, revision=revision)


def seen_reading(place: "Place", target: Path | None, wish: "Wish", *, overwrite: bool) -> dict[str, Any]:
    """`written`, with a progress bar while it reads."""
    from secateur.pipelines.data.sources import options_named, own_manners

    with bar(READING), own_manners(), options_named():
        return written(place, target, wish, overwrite=overwrite)


def written(place: "Place", target: Path | None, wish: "Wish", *, overwrite: bool) -> dict[str, Any]:
    """Write the study; returns its name, its file, the guesses, and the next command."""
    import os
    from dataclasses import asdict

    import yaml

    from secateur.pipelines.files.whole_files import refuse_target, write_bytes
    from secateur.pipelines.storage.home import marked_home
    from secateur.pipelines.studies import draft as init_study
    from secateur.pipelines.studies.draft_rows import look_at_encoding, read_rows
    from secateur.pipelines.studies.draft_training import settle
    from secateur.pipelines.studies.files import own_studies, validated
    from secateur.pipelines.studies.folders import own_folder, shipped_files
    from secateur.pipelines.studies.samples import Study

    wanted = wish.name or (target.stem if target else init_study.name_of(place))
    mine = target or (own_folder() / f"{init_study.free_name(wanted, ())}.yaml" if overwrite else None)
    others = (file.name for file in own_studies() if mine is None or file.path.absolute() != mine.absolute())
    taken = [*shipped_files(), *others]
    chosen = init_study.free_name(wanted, taken)
    path = target or own_folder() / f"{chosen}.yaml"
    refuse_target(path, overwrite=overwrite)
    base, draft = Path(os.path.abspath(path.parent)), init_study.draft_columns(place, wish)
    if chosen != (plain := init_study.free_name(wanted, ())):
        draft.note("name", chosen, f"there is a study {plain} already")
    source, loaded = read_rows(draft, base, marked_home() / "assets" / ".cache")
    content = init_study.render(chosen, draft, source, settle(draft, loaded), loaded)
    study = validated(yaml.safe_load(content), path)
    if isinstance(study, Study):
        look_at_encoding(draft, study, loaded)
    write_bytes(path, content.encode(), overwrite=overwrite)
    return {
        "study": chosen,
        "file": str(path),
        "findings": [asdict(finding) for finding in draft.findings],
        "guesses": [vars(guess) for guess in draft.guesses],
        "left_aside": list(place.others),
        "next": next_words(chosen, path),
    }


def next_words(study: str, path: Path) -> str:
    """The command to run a newly written study."""
    import os
    from shlex import quote

    from secateur.pipelines.studies.folders import own_folder
    from secateur.pipelines.studies.trust import is_trusted

    base = Path(os.path.abspath(path.parent))
    first = "" if is_trusted(base) else f"secateur trust {quote(str(base))} && "
    listed = base == Path(os.path.abspath(own_folder()))
    return f"{first}secateur run {study if listed else quote(str(path))}"


def copied(name: str, target: Path | None, *, overwrite: bool) -> dict[str, Any]:
    """Copy a study that ships; returns its name, its file, and the next command."""
    from secateur.pipelines.files.whole_files import refuse_target, write_bytes
    from secateur.pipelines.studies.folders import own_folder, shipped_files
    from secateur.pipelines.studies.rejections import require

    require(name, shipped_files(), "--example")
    path = target or own_folder() / f"{name}.yaml"
    refuse_target(path, overwrite=overwrite)
    write_bytes(path, shipped_files()[name].read_bytes(), overwrite=overwrite)
    return {"study": name, "file": str(path), "next": next_words(name, path)}


def show_guesses(answer: dict[str, Any]) -> None:
    """Findings of the data check, guesses with their reasons, and the next steps."""
    say_findings(answer["findings"])
    out.print(table_of(("what", "guess", "why"), (guess.values() for guess in answer["guesses"])))
    if answer["left_aside"]:
        say(f"left aside: {', '.join(answer['left_aside'])}")
    say(f"{answer['file']} written: correct wrong guesses, then {answer['next']}", style="bold")
