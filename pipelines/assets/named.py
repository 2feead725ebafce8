"""What a study names, from its assets as Dagster has them, and what the UI says of results that it names no more."""

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
"""Lines of a table in the UI; `secateur clean --dry-run` lists all."""


def named_by(study: AnyStudy, defs: dg.Definitions, root: Path, base: Path, *, caches: bool) -> Named:
    """What a study names whose assets are `defs`; relative paths in it start at `base`.

    With `caches` also what its proxy scores and where its rows lie, for which weights and data are looked at.
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
    """Where the rows of a study lie as it last read them, or would read them now; None where that cannot be known."""
    cache = store.root / CACHE
    try:
        if isinstance(study, Search) and (models := study.space.models):
            return [rows_folder(models.source, models.columns, base, cache, study.revision(base, cache))]
        if isinstance(study, Choice) and store.find((study.name, "source")):
            return [store.root / CACHE / "rows" / store.load((study.name, "source"))["shards"]]
        if isinstance(study, Study) and study.source and store.find(key := (study.name, "source")):
            return [rows_folder(study.source, study.read_columns, base, cache, store.load(key)["revision"])]
    except (OSError, ValueError):  # data that are gone, a file that was changed
        return None
    return []


def trials_of(partitions: dg.PartitionsDefinition[Any] | None) -> list[Trial | None]:
    """The trials of an asset; None stands for none."""
    return [None] if partitions is None else [Trial.parse(str(key)) for key in partitions.get_partition_keys()]


def score_folders(study: Study, store: Store) -> set[str] | None:
    """Folders of the score store that a scoring pass would look into; None where that cannot be known: without a proxy,
    or the code of its network.
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
    """The assets of a study, where its report says what lies below `root` that the study names no more."""
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
    """Leftovers as a table in Markdown, the largest first, and how to free what they take."""
    grouped = summed(leftovers)
    total = sum(size for _, size in grouped.values())
    lines = [f"| {in_markdown(what)} | {count} | {size:,} |" for (_, what), (count, size) in grouped.items()][:SHOWN]
    more = f"\n\n… and {len(grouped) - SHOWN} more." if len(grouped) > SHOWN else ""
    head = "| results of | stored values | bytes |\n| --- | ---: | ---: |\n"
    return head + "\n".join(lines) + f"{more}\n\n{total:,} bytes: `secateur clean` lists them and frees the space."


def summed(leftovers: Iterable[Leftover]) -> dict[tuple[str, str], tuple[int, int]]:
    """How many leftovers of a study, and of how many bytes, are called alike; the largest first."""
    found: dict[tuple[str, str], tuple[int, int]] = {}
    for each in leftovers:
        count, size = found.get((each.study, each.what), (0, 0))
        found[each.study, each.what] = (count + 1, size + each.bytes)
    return dict(sorted(found.items(), key=lambda one: -one[1][1]))
