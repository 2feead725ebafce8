"""`secateur` on the command line."""

import json
import warnings
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

app = typer.Typer(
    help="Prune training sets: score samples, keep the ones worth keeping, and say whether that beat random.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
)
out, err = Console(), Console(stderr=True)

ManifestPath = Annotated[Path, typer.Argument(help="The manifest's folder, or its manifest.json.")]


def main() -> None:
    """Entry point: an expected error becomes one line and exit code 1."""
    warnings.filterwarnings(
        "ignore", module=r"secateur\.pipelines\.|dagster", message=".*is currently in (beta|preview)"
    )
    try:
        app()
    except (FileExistsError, FileNotFoundError, ValueError) as error:  # errors of ours are ValueErrors
        err.print(f"[bold red]error:[/] {error}", highlight=False, soft_wrap=True)
        raise SystemExit(1) from error


@app.command()
def studies() -> None:
    """List the studies that ship and your own (folder `studies`, or SECATEUR_STUDIES)."""
    from secateur.pipelines.study_file import read_studies, study_folders

    table = Table("study", "file", "selections", "budgets", "seeds", box=None, header_style="bold")
    for file in read_studies(study_folders()):
        if file.study:
            budgets = ", ".join(str(keep) for keep in file.study.keep)
            table.add_row(file.name, str(file.path), ", ".join(file.study.selections), budgets, str(file.study.seeds))
        elif file.search:
            budget = f"{file.search.search.budget} evaluations"
            table.add_row(file.name, str(file.path), "search of architectures", budget, str(file.search.seeds))
        else:
            table.add_row(file.name, f"[red]broken: {file.error}[/]")
    out.print(table)


@app.command()
def run(study: Annotated[str, typer.Argument(help="A study's name, or the path of its YAML file.")]) -> None:
    """Materialise every asset of a study, then print the comparison with random."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from secateur.pipelines.definitions import home
    from secateur.pipelines.progress import Bars
    from secateur.pipelines.run import instance_at, run_study
    from secateur.pipelines.store import Store

    file = find_study(study)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with instance_at(home()) as instance, Progress(*columns, console=err) as display:
        run_study(file, home() / "assets", instance, Bars(display))
    if file.search:
        print_search(Store(home() / "assets"), file.search)
        return
    assert file.study is not None
    print_report(Store(home() / "assets"), file.study)


@app.command()
def ui(port: Annotated[int, typer.Option(help="Port of the web page.")] = 3000) -> None:
    """Open the Dagster UI on every study, with what was run from the shell."""
    import os
    import sys

    from secateur.pipelines.definitions import home
    from secateur.pipelines.run import prepare_instance

    os.environ["DAGSTER_HOME"] = str(prepare_instance(home()))
    out.print(f"the UI will be at http://localhost:{port}; stop it with Ctrl-C", highlight=False)
    command = [sys.executable, "-m", "dagster", "dev", "-m", "secateur.pipelines.definitions", "-p", str(port)]
    os.execv(sys.executable, command)


@app.command()
def verify(path: ManifestPath) -> None:
    """Check a manifest's structure, checksums and counts; exit code 1 if anything is wrong."""
    from secateur.pipelines.manifest import Manifest

    manifest = Manifest.load(path, verify=True)
    declared, provenance = manifest.declaration, manifest.provenance
    out.print(f"{manifest.path}: sound", highlight=False, soft_wrap=True)
    out.print(
        f"{declared.count:,} of {declared.of:,} samples of {provenance.dataset} kept by {provenance.selection}"
        f" (seed {provenance.seed})",
        highlight=False,
    )


@app.command()
def export(
    path: ManifestPath,
    to: Annotated[str, typer.Option(help="Format: indices, parquet, …")],
    target: Annotated[
        Path | None, typer.Option("--out", help="Where to write; beside the manifest if left out.")
    ] = None,
    study: Annotated[
        str | None, typer.Option(help="Study whose training data to take the kept rows from; without it, row numbers.")
    ] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace an existing target.")] = False,
) -> None:
    """Write what a manifest keeps in a format that other tools read."""
    from secateur.pipelines.exporters import export as write
    from secateur.pipelines.manifest import Manifest

    rows = None
    if study is not None:
        from secateur.pipelines.definitions import home
        from secateur.pipelines.sources import load
        from secateur.pipelines.study_file import StudyError

        file = find_study(study)
        if file.study is None:
            raise StudyError(file.error or f"{study} is a search, it has no training data of its own")
        rows = load(file.study.source, file.study.columns, file.path.parent, home() / "assets" / ".cache").train
    written = write(Manifest.load(path, verify=True), to, target, dataset=rows, overwrite=overwrite)
    out.print(str(written), highlight=False, soft_wrap=True)


def find_study(name: str) -> Any:
    """The study of that name or at that path; raises StudyError with the names there are."""
    from secateur.pipelines.strict_settings import did_you_mean
    from secateur.pipelines.study_file import StudyError, load_file, read_studies, study_folders

    if name.endswith((".yaml", ".yml")):
        return load_file(Path(name))
    found = read_studies(study_folders())
    for file in found:
        if file.name == name:
            return file
    names = [file.name for file in found]
    raise StudyError(f"there is no study {name!r}; {did_you_mean(name, names)}there are: {', '.join(names)}")


def print_search(store: Any, search: Any) -> None:
    """The best architecture beside the searches that were run, then where the pruned space is."""
    import dagster as dg

    best = store.load(dg.AssetKey([search.name, "best_architecture"]))
    table = Table("search", "half the budget", "whole budget", "worst seed", box=None, header_style="bold")
    for name, found in best["searches"].items():
        table.add_row(name, *(f"{found[column]:.2f}" for column in ("half_budget", "budget", "worst_seed")))
    out.print(table)
    choices = ", ".join(f"{position} {choice}" for position, choice in best["choices"].items())
    told = f"{best['accuracy']:.2f} at evaluation {best['found_at']} of {best['evaluations']}: {choices}"
    out.print(told, style="bold", highlight=False)
    place = store.place(dg.AssetKey([search.name, "pruned_search_space"]))
    out.print(f"manifest  {place}", highlight=False, soft_wrap=True)


def print_report(store: Any, study: Any) -> None:
    """The comparison as a table, then where manifest and report are."""
    import dagster as dg

    from secateur.pipelines.study import BASELINES

    folder = store.load(dg.AssetKey([study.name, "report"]))
    report = json.loads((folder / "report.json").read_text())
    header, *lines = report["table"]
    table = Table(*header, box=None, header_style="bold", pad_edge=False)
    for column in table.columns[1:4]:
        column.justify, column.no_wrap = "right", True
    for line in lines:
        table.add_row(*line)
    out.print(table)
    out.print(report["verdict"], style="bold")
    cells = [cell for cell in study.cells if cell.name not in ("full", *BASELINES)] or list(study.cells)
    manifest = store.load(dg.AssetKey([study.name, "manifest"]), cells[0])
    out.print(f"manifest  {manifest}\nreport    {folder / 'report.html'}", highlight=False, soft_wrap=True)
