"""The command `secateur export`."""

from typing import Annotated

import typer

from secateur.pipelines.commands.shell import AsJson, Epoch, ManifestPath, bar, caution, find_samples_study, say, tell

FORMATS = (
    "indices, text, bitmap, in_place (row numbers); card (a README); "
    "parquet, csv, jsonl, datasets, imagefolder, webdataset, hub (samples); "
    "trl, axolotl, llama_factory (fine-tuning data)"
)


def export(
    path: ManifestPath,
    to: Annotated[str, typer.Option(help=f"Format: {FORMATS}.", show_default=False)],
    target: Annotated[
        str | None,
        typer.Option(
            "--out",
            "-o",
            metavar="PATH|URL",
            help="File, folder or URL to write; beside the manifest if left out.",
            show_default=False,
        ),
    ] = None,
    study: Annotated[
        str | None,
        typer.Option(help="Study whose training data to take the kept samples from.", show_default=False),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Setting of the format; repeat for more.", show_default=False),
    ] = None,
    epoch: Epoch = None,
    overwrite: Annotated[bool, typer.Option(help="Replace an earlier export.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write the kept rows of a manifest in a format that other tools read.

    Rows are those of the study's file, from 0 and a header not counted. Formats of samples need --study, and write all
    columns of its files with their stored values. The output appears whole or not at all. A selection in training needs
    --epoch: the rows of that epoch are written in the order of the file, each once, with their weights.
    """
    from secateur.pipelines.exports.registry import export as write
    from secateur.pipelines.exports.source import described, training_rows, with_report
    from secateur.pipelines.manifests.manifest import Manifest
    from secateur.pipelines.storage.home import home, marked_home

    given = read_settings(settings or [])
    manifest = Manifest.load(path, verify=True)
    manifest = manifest if epoch is None else manifest.at(epoch)
    root = (home() if study is None else marked_home()) / "assets"  # the rows of a study are prepared below it
    rows = None if study is None else training_rows(find_samples_study(study)[0], root, to)
    warned: list[str] = []
    with bar(f"export to {to}") as progress:
        written = write(
            manifest,
            to,
            target,
            dataset=rows,
            settings=with_report(to, given, manifest, root),
            overwrite=overwrite,
            progress=progress,
            warn=warned.append,
        )
    for text in warned:
        caution(text)
    tell(described(written, to, manifest) | {"warnings": warned}, as_json, lambda: say(written))


def read_settings(given: list[str]) -> dict[str, str]:
    """Settings from `name=value`; raises ValueError for other texts and for a repeated name."""
    found: dict[str, str] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not name or not equals:
            raise ValueError(f"--set {text}: settings are given as NAME=VALUE")
        if name in found:
            raise ValueError(f"--set {text}: {name} is set twice")
        found[name] = value
    return found
