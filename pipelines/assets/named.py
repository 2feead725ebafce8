"""Outputs that a study names, from its Dagster assets, and a note in the UI on outputs that it names no more."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import dagster as dg

from secateur.pipelines.assets.asset import key_of
from secateur.pipelines.assets.launchpad import form
from secateur.pipelines.assets.scoring_pass import checkpoint_scores_of, declared_as, score_keys
from secateur.pipelines.data.sources import rows_folder
from secateur.pipelines.files.shown_text import in_markdown
from secateur.pipelines.runs.proxy import identity_of
from secateur.pipelines.runs.resumption import plain
from secateur.pipelines.storage.leftovers import CACHE, Leftover, Named, leftovers_of
from secateur.pipelines.storage.store import Store
from secateur.pipelines.studies.architectures import Search
from secateur.pipelines.studies.choice import Choice
from secateur.pipelines.studies.files import StudyFile
from secateur.pipelines.studies.grid import Trial
from secateur.pipelines.studies.samples import Study
from secateur.pipelines.studies.study import AnyStudy

SHOWN = 20
"""Most lines of a table in the UI; `secateur clean --dry-run` lists all."""


def named_by(study: AnyStudy, defs: dg.Definitions, root: Path, base: Path, *, caches: bool) -> Named:
    """Outputs that a study with the assets `defs` names; relative paths in it start at `base`.

    With `caches`, also those of its proxy's scores and of its rows, which requires reading weights and data.
    """
    assets: Any = defs.assets or ()
    specs = [spec for each in assets for spec in (each.specs if isinstance(each, dg.AssetsDefinition) else [each])]
    values = {tuple(spec.key.path): trials_of(spec.partitions_def) for spec in specs}
    runs = {plain(f"{trial.selection}/{trial.seed}") for trial in study.trials}
    scores, rows = None, None
    if isinstance(study, Study):
        runs |= {name.replace("seed", "proxy", 1) for name in study.proxies}
    if caches:
        scores = score_folders(study, Store(root)) if isinstance(study, Study) else set[str]()
        rows = row_folders(study, Store(root), base)
    return Named(study.name, values, set(study.selection_keys), runs, scores, rows)


def row_folders(study: AnyStudy, store: Store, base: Path) -> list[Path] | None:
    """Folders of a study's rows at their last or next reading; None if they cannot be determined."""
    cache = store.root / CACHE
    try:
        if isinstance(study, Search) and (models := study.space.models):
            return [rows_folder(models.source, models.columns, base, cache, study.revision(base, cache))]
        if isinstance(study, Choice) and store.find((study.name, "source")):
            return [store.root / CACHE / "rows" / store.load((study.name, "source"))["shards"]]
        if isinstance(study, Study) and study.source and store.find(key := (study.name, "source")):
            return [rows_folder(study.source, study.read_columns, base, cache, store.load(key)["revision"])]
    except (OSError, ValueError):  # missing data, or a changed file
        return None
    return []


def trials_of(partitions: dg.PartitionsDefinition[Any] | None) -> list[Trial | None]:
    """The trials of an asset; `[None]` for an asset without trials."""
    return [None] if partitions is None else [Trial.parse(str(key)) for key in partitions.get_partition_keys()]


def score_folders(study: Study, store: Store) -> set[str] | None:
    """Folders of the score store that a scoring pass would read; None if they cannot be determined, because the proxy
    or the code of its network is missing.
    """
    wanted, proxy = checkpoint_scores_of(study), store.place(key_of(study, "proxy"))
    if not wanted:
        return set()
    if not proxy.is_dir():
        return None
    folders = [proxy / name for name in study.proxies]
    configured = {
        name: (declared_as(score), form(score.declared.settings, score.settings)().model_dump())
        for name, score in wanted.items()
    }
    try:
        return {key.folder for key in score_keys(configured, identity_of(study, folders)).values()}
    except (OSError, ValueError):
        return None


def with_leftovers(file: StudyFile, defs: dg.Definitions, root: Path) -> dg.Definitions:
    """The assets of a study, with a note on the report about outputs below `root` that the study names no more."""
    assert file.study
    found = list(leftovers_of(root, named_by(file.study, defs, root, file.path.parent, caches=False)))
    if not found:
        return defs
    report = key_of(file.study, "report")
    told = {"no longer named": dg.MetadataValue.md(listed(found))}
    assets: Any = defs.assets or ()
    marked: Any = dg.map_asset_specs(
        lambda spec: spec.merge_attributes(metadata=told) if spec.key == report else spec, assets
    )
    return dg.Definitions(marked, defs.schedules, defs.sensors, defs.jobs)


def listed(leftovers: Iterable[Leftover]) -> str:
    """Leftovers as a Markdown table, the largest first, with the command that frees their space."""
    grouped = summed(leftovers)
    total = sum(size for _, size in grouped.values())
    lines = [f"| {in_markdown(what)} | {count} | {size:,} |" for (_, what), (count, size) in grouped.items()][:SHOWN]
    more = f"\n\n… and {len(grouped) - SHOWN} more." if len(grouped) > SHOWN else ""
    head = "| results of | stored values | bytes |\n| --- | ---: | ---: |\n"
    return head + "\n".join(lines) + f"{more}\n\n{total:,} bytes: `secateur clean` lists them and frees the space."


def summed(leftovers: Iterable[Leftover]) -> dict[tuple[str, str], tuple[int, int]]:
    """Count and bytes of leftovers by study and name, the largest first."""
    found: dict[tuple[str, str], tuple[int, int]] = {}
    for each in leftovers:
        count, size = found.get((each.study, each.what), (0, 0))
        found[each.study, each.what] = (count + 1, size + each.bytes)
    return dict(sorted(found.items(), key=lambda one: -one[1][1]))
