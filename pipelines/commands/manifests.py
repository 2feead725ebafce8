"""Commands about manifests: `verify`, `apply`, `diff` and `explain`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from secateur.pipelines.commands.home import verify_home
from secateur.pipelines.commands.shell import (
    NO,
    READING,
    AsJson,
    Epoch,
    ManifestPath,
    bar,
    complain,
    out,
    say,
    table_of,
    tell,
)
from secateur.pipelines.manifests.names import DOCUMENT

if TYPE_CHECKING:
    from secateur.pipelines.manifests.diff import Difference
    from secateur.pipelines.manifests.explanation import Explanation, Standing
    from secateur.pipelines.manifests.manifest import Manifest

SHOWN = 20
"""Most classes in a table; the JSON lists all."""


def verify(
    path: Annotated[
        Path | None,
        typer.Argument(metavar="PATH", help="The manifest's folder, or its manifest.json.", show_default=False),
    ] = None,
    home: Annotated[bool, typer.Option("--home", help="Check all that is below SECATEUR_HOME instead.")] = False,
    study: Annotated[
        str | None, typer.Option(metavar="NAME", help="With --home: of this study alone.", show_default=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check a manifest's structure, checksums and counts, or with --home all stored files of all studies.

    Ends with exit code 1 if there are faults, and lists them: for a home, files that were changed, are missing or were
    added since secateur wrote them, and arrays of rows that are older than the samples.
    """
    if (path is None) != home or (study is not None and not home):
        raise ValueError("verify takes the PATH of a manifest, or --home, with --study for one study of it")
    if path is None:
        verify_home(study, as_json)
    else:
        verify_manifest(path, as_json)


def folder_at(path: Path) -> Path:
    """The folder of a manifest; raises ValueError where there is none."""
    folder = path.parent if path.name == DOCUMENT else path
    if not (folder / DOCUMENT).exists():
        raise ValueError(f"there is no manifest at {folder}: name a folder that holds {DOCUMENT}")
    return folder


def verify_manifest(path: Path, as_json: bool) -> None:
    """Check one manifest."""
    folder = folder_at(path)  # before the slow imports, as in the other commands
    from secateur.pipelines.manifests.document import ManifestError
    from secateur.pipelines.manifests.manifest import Manifest

    try:
        with bar(READING):
            manifest = Manifest.load(path, verify=True)
    except ManifestError as error:
        reason = str(error)
        tell({"sound": False, "path": str(folder), "reason": reason}, as_json, lambda: complain(reason))
        raise typer.Exit(NO) from error
    declared, source = manifest.declaration, manifest.provenance
    answer = {
        "sound": True,
        "path": str(folder),
        "unit": declared.unit,
        "count": declared.count,
        "of": declared.of,
        "dataset": source.dataset,
        "selection": source.selection,
        "seed": source.seed,
    }
    sizes = getattr(declared.payload, "sizes", None)  # a selection in training
    if sizes is not None:
        answer["epochs"] = len(sizes)

    def show() -> None:
        say(f"{manifest.path}: sound")
        did = "kept" if sizes is None else f"shown in {len(sizes)} epochs of {min(sizes):,} to {max(sizes):,}"
        kept = f"{declared.count:,} of {declared.of:,} {declared.unit}s of {source.dataset} {did}"
        say(f"{kept} by {source.selection} (seed {source.seed})")

    tell(answer, as_json, show)


def apply(
    path: ManifestPath,
    target: Annotated[
        Path,
        typer.Argument(
            metavar="TARGET", help="Data or model that the manifest was made for; see below.", show_default=False
        ),
    ],
    output: Annotated[Path, typer.Option("--out", "-o", help="File or folder to write.", show_default=False)],
    tuned: Annotated[
        Path | None,
        typer.Option(help="Of deltas: the fine-tuned checkpoint or adapter; TARGET is the base.", show_default=False),
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Of tokens in a prompt's file: the model it is for.", show_default=False)
    ] = None,
    epoch: Epoch = None,
    as_json: AsJson = False,
) -> None:
    """Write the part of TARGET that a manifest keeps; refuse a TARGET that it was not made for.

    For rows, TARGET is a Parquet, CSV or JSON-lines file, a folder that `datasets` saved or one of pictures; fields,
    lines and files are unchanged. For weights and channels it is a safetensors checkpoint; for deltas their base; for
    heads a model's folder or name; for tokens the prompt's file, or the model; for choices the study of the search, or
    a YAML or JSON file of positions. A selection in training needs --epoch; the rows of that epoch come in the order of
    training.
    """
    folder_at(path)
    from secateur.pipelines.files.unwritable import refuse_unwritable
    from secateur.pipelines.manifests.manifest import Manifest
    from secateur.pipelines.manifests.row_files import counts_in
    from secateur.pipelines.manifests.rows import Rows

    refuse_unwritable(output)
    asked = {"tuned": tuned, "model": model, "epoch": epoch}
    given: dict[str, Any] = {name: value for name, value in asked.items() if value is not None}
    with bar(READING):
        manifest = Manifest.load(path)
        manifest.apply(target, output=output, **given)
    applied = manifest if epoch is None else manifest.at(epoch)
    declared = applied.declaration
    kept, of = declared.count, declared.of
    text = f"{kept:,} of {of:,} {declared.unit}s stay in {output}"
    if isinstance(applied.payload, Rows) and (found := counts_in(applied.payload, Path(target))):
        (kept, of), several = found, len(applied.payload.origin.files)
        text = f"{kept:,} of {of:,} rows of {target} stay in {output}; the manifest keeps "
        text += f"{declared.count:,} samples of {several} files"
    tell({"output": str(output), "unit": declared.unit, "kept": kept, "of": of}, as_json, lambda: say(text))


def diff(
    a: Annotated[Path, typer.Argument(metavar="A", help="A manifest's folder.", show_default=False)],
    b: Annotated[Path, typer.Argument(metavar="B", help="Another one's.", show_default=False)],
    rows: Annotated[bool, typer.Option("--rows", help="List the rows that only one of them keeps.")] = False,
    epoch: Annotated[
        list[int] | None,
        typer.Option(
            metavar="N",
            min=0,
            help="Of selections in training: which epoch, from 0; twice for one of A, then one of B.",
            show_default=False,
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compare two manifests: rows that one keeps and the other does not, by class, and how they were made.

    Samples are matched by row where both are of the same data, by content otherwise. Ends with exit code 0 if both
    keep the same samples, 1 if not, 2 if they cannot be compared.
    """
    folder_at(a), folder_at(b)
    from secateur.pipelines.manifests.diff import compare
    from secateur.pipelines.manifests.manifest import Manifest

    with bar(READING):
        found = compare(*at_epochs(Manifest.load(a), Manifest.load(b), epoch or []))
    listed = {"rows_only_a": list(found.rows_only_a), "rows_only_b": list(found.rows_only_b)} if rows else {}
    tell(found.answer() | listed, as_json, lambda: show_difference(found, listed))
    if not found.same:
        raise typer.Exit(NO)


def at_epochs(a: "Manifest", b: "Manifest", epochs: list[int]) -> tuple["Manifest", "Manifest"]:
    """Two manifests, selections in training each at an epoch; raises ValueError for epochs that do not fit."""
    from secateur.pipelines.manifests.epochs import Epochs

    changing = [isinstance(each.payload, Epochs) for each in (a, b)]
    if epochs and len(epochs) > (most := sum(changing)):
        many = "give one for each" if most == 2 else "give one" if most else "leave it out"
        raise ValueError(f"--epoch: given {len(epochs)} times, and {most} of the two manifests have epochs: {many}")
    of = iter(epochs * 2)
    first, second = (each.at(next(of)) if has and epochs else each for each, has in zip((a, b), changing, strict=True))
    return first, second


def show_difference(found: "Difference", listed: dict[str, list[int | str]]) -> None:
    """The counts, the classes that differ most, differences of provenance, then rows if requested."""
    counts = (found.both, len(found.rows_only_a), len(found.rows_only_b))
    told = "the same samples" if found.same else "{:,} in both, {:,} only in A, {:,} only in B".format(*counts)
    say(f"{told}; Jaccard {found.jaccard:.4f} (matched by {found.matched_by})", style="bold")
    by_change = sorted(found.classes, key=lambda one: -(one.only_a + one.only_b))[:SHOWN]
    lines = [
        (one.name, one.both, one.only_a, one.only_b, f"{one.share_a:.2%}", f"{one.share_b:.2%}")
        for one in found.classes
        if one in by_change
    ]
    header = ("stratum", "both", "only A", "only B", "share of A", "share of B")
    out.print(table_of(header, lines, right=range(1, 6)))
    if len(found.classes) > SHOWN:
        say(f"… and {len(found.classes) - SHOWN} strata that differ no more than these; --json lists all")
    if found.provenance:
        differing = ((name, shown(mine), shown(theirs)) for name, (mine, theirs) in found.provenance.items())
        out.print(table_of(("differs", "A", "B"), differing))
    for name, numbers in listed.items():
        say(f"{name.replace('_', ' ')}: {' '.join(map(str, numbers)) or 'none'}")


def shown(value: Any) -> str:
    """A value of a manifest in a table; a dash for None."""
    return "-" if value is None else str(value)


def explain(
    path: ManifestPath,
    sample: Annotated[
        str,
        typer.Argument(
            metavar="SAMPLE",
            help="FILE:ROW, ROW where the data is one file (from 0, a header not counted), a picture's path, or an id "
            "of your own (id:17 where it is a number).",
            show_default=False,
        ),
    ],
    epoch: Epoch = None,
    as_json: AsJson = False,
) -> None:
    """Explain why a sample was kept or dropped: its scores and ranks, its stratum, the nearest samples.

    A manifest alone explains kept rows. The study's files below SECATEUR_HOME, if there are any, add the others. For a
    selection in training the answer lists the epochs that showed the sample; with --epoch it is about that epoch.
    """
    folder_at(path)
    from secateur.pipelines.manifests.explain import arrays_of, places_of
    from secateur.pipelines.manifests.explain import explain as look_into
    from secateur.pipelines.manifests.manifest import Manifest
    from secateur.pipelines.storage.home import home

    with bar(READING):
        manifest = Manifest.load(path, verify=True)
        manifest = manifest if epoch is None else manifest.at(epoch)
        name = manifest.provenance.dataset
        plain = Path(name).name == name  # a hostile manifest may have a path as its name
        known = arrays_of(manifest, home() / "assets" / name) if plain else f"{name!r} is no study's name"
        found = look_into(manifest, places_of(manifest, known).find(sample), known)
    tell(found.answer(), as_json, lambda: show_explanation(found))


def placed(standing: "Standing | None") -> tuple[str, str]:
    """Rank and percentile in a table."""
    if standing is None:
        return "-", "-"
    return f"{standing.rank:,} of {standing.count:,}", f"{standing.percentile:.1f}"


def show_explanation(found: "Explanation") -> None:
    """The sentence, the scores, then one line per further fact."""
    from secateur.pipelines.manifests.places import Place

    say(f"{Place(found.file, found.row, found.path, found.id)}: {found.sentence}", style="bold")
    if found.scores:
        lines = []
        for score in found.scores:
            standings = [placed(score.overall), placed(score.in_class)]
            lines.append((score.name, f"{score.value:.4g}", score.high_means, *standings[0], *standings[1]))
        header = ("score", "value", "high means", "rank", "percentile", "in stratum", "percentile")
        out.print(table_of(header, lines, right=(1,)))
        say(f"ranks are among {found.scores[0].within}, 1 is the highest")
    facts: list[tuple[str, str]] = []
    if found.label and found.label != found.group:
        facts.append(("target", found.label))
    if found.group is not None:
        name = "label" if found.label == found.group else "stratum"
        facts.append((name, f"{found.group}: {found.class_kept:,} of {found.class_samples:,} kept"))
    if found.weight is not None:
        facts.append(("weight", f"{found.weight:.4g}"))
    if found.stratum:
        there = found.stratum
        quota = f"gives {there.quota} of {there.samples}"
        span = f"{there.number} of {there.of}: from {there.low:.4g} to {there.high:.4g}"
        facts.append((f"stratum of {there.score}", f"{span}, {quota}"))
    for name, near in (("nearest kept", found.nearest_kept), ("nearest", found.nearest)):
        if near:
            kept = "" if name == "nearest kept" else ", kept" if near.kept else ", dropped"
            place = Place(near.file, near.row, near.path)
            label = f", label {near.label}" if near.label else ""
            facts.append((name, f"{place}, distance {near.distance:.4g}{label}{kept}"))
    if found.shown_in is not None:
        facts.append(("epochs", " ".join(map(str, found.shown_in)) or "none"))
    if found.equal_rows:
        facts.append(("equal rows", ", ".join(map(str, found.equal_rows))))
    facts += [("not known", reason) for reason in found.unknown]
    out.print(table_of(("", ""), facts))
