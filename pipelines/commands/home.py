"""Commands about all stored files: `verify --home`, and `clean`."""

import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from secateur.pipelines.commands.shell import NO, AsJson, bar, caution, out, say, table_of, tell

if TYPE_CHECKING:
    from secateur.pipelines.storage.leftovers import Leftover
    from secateur.pipelines.storage.records import Record

SHOWN = 50
"""Most lines of a table; the JSON lists all."""


def verify_home(study: str | None, as_json: bool) -> None:
    """Read every stored file of every study, or of one, and compare it with its recorded digest."""
    from secateur.pipelines.storage.home import home
    from secateur.pipelines.storage.leftovers import SCORES
    from secateur.pipelines.storage.records import records_of
    from secateur.pipelines.storage.score_cache import read_shard

    root = home() / "assets"
    there = sorted(path.name for path in root.glob("[!.]*") if path.is_dir())
    if study is not None and study not in there:
        raise ValueError(f"nothing of a study {study!r} is below {root}; there are: {', '.join(there) or 'none'}")
    listed = [record for name in ([study] if study else there) for record in records_of(root, name)]
    faults: list[dict[str, Any]] = []
    with bar("files read") as progress:
        for number, record in enumerate(listed):
            faults += faults_of(record, root)
            progress(number + 1, len(listed))
    shards = {name: sorted((root / name / SCORES).rglob("*.parquet")) for name in ([study] if study else there)}
    for name, paths in shards.items():
        told = {"study": name, "value": "scores by content", "fault": "changed"}
        remedy = f"delete the changed files of {SCORES}: secateur run {name} reads none and scores their rows anew"
        changed = [path for path in paths if read_shard(path) is None]
        faults += [told | {"file": str(path.relative_to(root / name)), "remedy": remedy} for path in changed]
    answer: dict[str, Any] = {
        "sound": not faults,
        "home": str(root.parent),
        "studies": [study] if study else there,
        "files": sum(len(record.files) for record in listed) + sum(map(len, shards.values())),
        "bytes": sum(record.bytes for record in listed)
        + sum(path.stat().st_size for paths in shards.values() for path in paths),
        "faults": faults,
    }

    def show() -> None:
        if faults:
            lines = [(one["study"], one["value"], one["file"], one["fault"]) for one in faults[:SHOWN]]
            out.print(table_of(("study", "value", "file", "fault"), lines))
        if len(faults) > SHOWN:
            say(f"… and {len(faults) - SHOWN} more; --json lists all")
        say(f"{answer['files']:,} files, {answer['bytes']:,} bytes: {in_words(faults)}", style="bold")
        for remedy in sorted({one["remedy"] for one in faults}):
            say(remedy)

    tell(answer, as_json, show)
    if faults:
        raise typer.Exit(NO)


def in_words(faults: list[dict[str, Any]]) -> str:
    """Numbers of faults of each kind."""
    kinds = [one["fault"] for one in faults]
    counted = [f"{kinds.count(kind):,} {kind}" for kind in dict.fromkeys(kinds)]
    return ", ".join(counted) or "all as secateur wrote them"


def faults_of(record: "Record", root: Path) -> Iterator[dict[str, Any]]:
    """Faults of a value, file by file, with remedies."""
    from secateur.pipelines.storage.store import Store

    study, *names = record.names
    told = {"study": study, "value": "/".join(names) + (f" {record.trial}" if record.trial else "")}
    remedy = f"secateur run {study} makes changed files again; you may delete an added file"
    found, _ = record.check(root, whole=True)
    seen, _ = record.check(root)
    for fault in found:
        file = str(fault.path.relative_to(root / study))
        unseen = f"delete {study}/{file}, whose size and time are as they were, and secateur run {study} makes it again"
        yield told | {"file": file, "fault": fault.how, "remedy": remedy if fault in seen else unseen}
    if samples := Store(root).outdated(record.names, record.trial):
        older = {"file": next(iter(record.files), ""), "fault": f"older than {samples}", "remedy": remedy}
        yield told | older


@dataclass
class Found:
    """Removable content of a home."""

    leftovers: "list[Leftover]"
    gone: "list[Leftover]"
    """Results of studies that are not in the study folders now."""
    unreadable: list[str]
    """Studies whose files cannot be read; as their names are unknown, nothing of theirs is removed."""
    studies: list[str]
    left: list[Path] = field(default_factory=list)
    """Files without a record of secateur."""


def look(root: Path) -> Found:
    """Content below the root of a store that no study names; changes nothing."""
    from secateur.pipelines.assets.named import named_by
    from secateur.pipelines.definitions import definitions_of
    from secateur.pipelines.storage.leftovers import CURVES, gone_studies, leftovers_of, leftovers_of_none, strangers
    from secateur.pipelines.studies.files import all_studies

    files = all_studies()
    found = Found([], [], [file.name for file in files if file.study is None], [file.name for file in files])
    rows: list[Path] | None = [] if not found.unreadable else None
    for file in files:
        places = (root / file.name, root.parent / CURVES / file.name)
        if file.study is None or not any(place.is_dir() for place in places):
            continue
        named = named_by(file.study, definitions_of(file), root, file.path.parent, caches=True)
        found.leftovers += leftovers_of(root, named)
        rows = None if rows is None or named.rows is None else [*rows, *named.rows]
        found.left += strangers(root, file.name)
    found.leftovers += leftovers_of_none(root, found.studies, rows)
    found.gone += gone_studies(root, found.studies)
    return found


def clean(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List removable results, and remove nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Remove without asking.")] = False,
    gone: Annotated[
        bool,
        typer.Option("--gone-studies", help="Also all results of studies that are not in the study folders now."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Remove results that no study names any more, after asking: those of removed selections, budgets, seeds and
    scores, their curves and their caches.

    The command skips a running study, and files that secateur did not write.
    """
    from secateur.pipelines.storage.home import home

    root = home() / "assets"
    found = look(root)
    if gone and found.unreadable:
        raise ValueError(
            f"--gone-studies: the files of {', '.join(found.unreadable)} cannot be read, so which studies are gone is "
            "not known: repair or move them (secateur studies says what is wrong)"
        )
    going = [*found.leftovers, *(found.gone if gone else [])]
    if not as_json:
        show_found(found, gone)
    agreed = bool(going) and not dry_run and (yes or asked(going))
    kept = removed_but(going, root) if agreed else {}
    answer = {
        "home": str(root.parent),
        "leftovers": [described(each) for each in found.leftovers],
        "gone_studies": [described(each) for each in found.gone],
        "bytes": sum(each.bytes for each in going),
        "removed": [str(path) for each in going if agreed and each.study not in kept for path in each.paths],
        "running": kept,
        "without_record": [str(path) for path in found.left],
    }

    def show() -> None:
        if agreed:
            freed = sum(each.bytes for each in going if each.study not in kept)
            say(f"{freed:,} bytes are free", style="bold")

    tell(answer, as_json, show)


def asked(going: "list[Leftover]") -> bool:
    """Ask for agreement; raises ValueError where there is no terminal for the question."""
    if not sys.stdin.isatty():
        raise ValueError("there is no terminal to ask in: add --yes to remove these, or --dry-run to list them")
    return typer.confirm(f"Remove them ({sum(each.bytes for each in going):,} bytes)?", err=True)


def removed_but(going: "list[Leftover]", root: Path) -> dict[str, str]:
    """Remove leftovers, except those of running studies; returns the reasons, by study.

    Files that belong to no study may be read by any, so they stay while one is running.
    """
    from secateur.pipelines.files.locks import Held
    from secateur.pipelines.storage.leftovers import remove
    from secateur.pipelines.storage.study_lock import study_lock

    kept: dict[str, str] = {}
    for study in sorted({each.study for each in going}):
        every = sorted(path.name for path in root.glob("[!.]*") if path.is_dir())
        with ExitStack() as locks:
            try:
                for name in [study] if study else every:
                    locks.enter_context(study_lock(root, name))
            except Held as error:
                kept[study] = str(error)
                caution(f"{error}: {'its results' if study else 'the cache'} stay{'' if study else 's'}")
                continue
            for each in going:
                if each.study == study:
                    remove(each, root)
    return kept


def show_found(found: Found, gone: bool) -> None:
    """Removable results by study, and further notes."""
    for listed in (found.leftovers, found.gone):
        if listed:
            show_listed(listed)
        if listed is found.leftovers and not listed:
            say("every stored result of the studies that are here is named by one")
    if found.gone:
        names = ", ".join(dict.fromkeys(each.study for each in found.gone))
        caution(
            f"{names}: no study folder has a study of this name now. SECATEUR_STUDIES may point elsewhere, or another "
            f"project use this home: {'its results go too' if gone else 'its results stay without --gone-studies'}"
        )
    if found.unreadable:
        caution(f"what {', '.join(found.unreadable)} names is not known, for the file cannot be read: all results stay")
    if found.left:
        caution(f"{len(found.left):,} files stay that secateur has no record of, such as {found.left[0]}")


def show_listed(leftovers: "list[Leftover]") -> None:
    """A table of leftovers, and their total size."""
    from secateur.pipelines.assets.named import summed

    grouped = summed(leftovers)
    lines = [(study or "-", what, f"{count:,}", f"{size:,}") for (study, what), (count, size) in grouped.items()]
    out.print(table_of(("study", "no longer named", "values", "bytes"), lines, right=(2, 3)))
    say(f"{sum(each.bytes for each in leftovers):,} bytes in all", style="bold")


def described(leftover: "Leftover") -> dict[str, Any]:
    """A leftover as JSON-able data."""
    trial = leftover.value.trial if leftover.value else None
    return {
        "study": leftover.study or None,
        "what": leftover.what,
        "value": "/".join(leftover.value.names[1:]) if leftover.value else None,
        "selection": trial.selection if trial else None,
        "seed": trial.seed if trial else None,
        "paths": [str(path) for path in leftover.paths],
        "bytes": leftover.bytes,
    }
