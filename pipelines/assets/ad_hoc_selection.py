"""The job `<study>_ad_hoc_selection`: a selection from the launchpad that the study's YAML does not name.

It loads the study's assets, selects, writes a manifest and shows the page of the subset beside a random one of its
size. It trains nothing and changes nothing in the study.
"""

import hashlib
import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import dagster as dg
import numpy as np
import polars as pl
from pydantic import Field, create_model

from secateur.pipelines.assets.asset import key_of, shown
from secateur.pipelines.assets.data import previews_of, training_files
from secateur.pipelines.assets.facts import rounded
from secateur.pipelines.assets.inputs import besides_of, inputs_for, signals_in
from secateur.pipelines.assets.origin import origin_of
from secateur.pipelines.assets.sentences import Sentence
from secateur.pipelines.assets.subsets import provenance_of, with_units
from secateur.pipelines.files.whole_files import refuse_existing
from secateur.pipelines.manifests.manifest import Manifest
from secateur.pipelines.manifests.provenance import Spent as Told
from secateur.pipelines.manifests.rows import Rows
from secateur.pipelines.pages.subset import Whole, others_at, subset_page
from secateur.pipelines.runs.choosing import kept_at, signals_read
from secateur.pipelines.runs.kept_rows import Spent
from secateur.pipelines.runs.units_of_rows import columns_in, spent_of
from secateur.pipelines.storage.store import Store
from secateur.pipelines.studies.grid import Trial, selection_key
from secateur.pipelines.studies.rejections import require
from secateur.pipelines.studies.samples import Study
from secateur.pipelines.studies.scores import card_of
from secateur.pipelines.studies.selection import Selection
from secateur.pipelines.studies.signals import of_origin
from secateur.selectors.contract import selectors
from secateur.selectors.draws.ranks import Keep

NAME = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}"
SEEDS = 2**63
BASELINE = "uniform_random"


def folder_key(study: Study) -> dg.AssetKey:
    """Asset key of the folder that holds the manifests by name; only this job materialises it."""
    return key_of(study, "ad_hoc_selection")


def ad_hoc_spec(study: Study) -> dg.AssetSpec:
    """The spec of ad-hoc selections in the asset graph."""
    return dg.AssetSpec(
        folder_key(study),
        deps=[key_of(study, "scores", name) for name in study.scores],
        description=f"Selections that were asked for in the launchpad of the job `{study.name}_ad_hoc_selection`, each "
        "a manifest. Nothing is trained on them.",
        group_name=study.name,
    )


def missing(study: Study, name: str) -> set[str]:
    """Signals that a selector reads and the study lacks; `scores` if it reads any score and the study has none."""
    lacking = set(selectors()[name].reads) - of_origin("call", "samples") - study.signals - set(study.scores)
    return lacking | (set() if study.scores else {"scores"} & set(selectors()[name].reads))


def score_field(study: Study) -> tuple[Any, Any]:
    """Type and field of the form's `score`, for a study with scores."""
    scores = [f"{name} (high means {card_of(name, score).high_means})" for name, score in study.scores.items()]
    told = f"Its inputs: {', '.join(scores)}. Without effect where the selector reads none."
    return Literal[tuple(study.scores)], Field(default=next(iter(study.scores)), description=told)


def ad_hoc_config(study: Study) -> type[dg.Config]:
    """The launchpad's form: it offers the possible selectors and scores; the job checks the rest before any work."""
    offered = [name for name in sorted(selectors()) if not missing(study, name)]
    told = "; ".join(f"{name}: {selectors()[name].summary}" for name in offered)
    lacking = {name: missing(study, name) for name in sorted(selectors()) if name not in offered}
    lacks = "; ".join(f"{name} needs {', '.join(sorted(signals))}" for name, signals in lacking.items())
    without = f" Not offered, for the study lacks their inputs: {lacks}." if lacks else ""
    first = "top" if "top" in offered else BASELINE
    fields: dict[str, Any] = {
        "selector": (Literal[tuple(offered)], Field(default=first, description=f"The selector. {told}.{without}")),
        **({"score": score_field(study)} if study.scores else {}),
        "keep": (
            float,
            Field(default=float(study.keep[0]), description="Up to 1 a fraction of the samples, above 1 a count."),
        ),
        "seed": (int, Field(default=0, description="Decides draws and ties; from 0.")),
        "settings": (
            dict[str, Any],
            Field(default={}, description="Settings of the selector, for example {end: low} for top."),
        ),
        "name": (
            str,
            Field(default="", description="Folder of the manifest; made up of the choices if empty, then replaced."),
        ),
        "overwrite": (bool, Field(default=False, description="Replace an earlier selection of the given name.")),
    }
    return create_model(f"{study.name}_ad_hoc", __base__=dg.Config, **fields)


@dataclass(frozen=True)
class Asked:
    """The launchpad's request, checked as far as possible without the data."""

    selection: Selection
    settings: dict[str, Any]
    keep: int | float
    seed: int
    name: str
    folder: Path

    @classmethod
    def of(cls, study: Study, config: Any, store: Store) -> "Asked":
        """Check a form; raises ValueError with the first error and its remedy."""
        selector = selectors()[config.selector]
        score = config.score if "scores" in selector.reads else None
        plain = Selection(selector=config.selector, score=score, settings=dict(config.settings))
        settings, selection = checked_settings(plain), study.settled(config.selector, plain)
        keep = keep_of(config.keep)
        if not 0 <= config.seed < SEEDS:
            raise ValueError(f"seed: a whole number from 0 to {SEEDS - 1}, got {config.seed}")
        if config.name and not re.fullmatch(NAME, config.name):
            raise ValueError(
                f"name: up to 100 letters, digits, '.', '-' and '_', the first no sign, got {config.name!r}"
            )
        name = config.name or made_up(selection, keep, config.seed)
        folder = store.place(folder_key(study)) / name
        refuse_existing(folder, overwrite=config.overwrite or not config.name, option="overwrite: true")
        return cls(selection, settings, keep, config.seed, name, folder)


def checked_settings(selection: Selection) -> dict[str, Any]:
    """All settings of the selector, including defaults; raises ValueError for invalid ones."""
    declared, name = selection.static, selection.selector
    known = declared.settings.model_fields
    for given in selection.settings:
        if not known:
            raise ValueError(f"settings: {name} has none, got {given!r}; leave them out")
        require(given, known, f"settings of {name}")
    for open_one in selection.untuned:
        example = declared.tunable[open_one][0]
        raise ValueError(
            f"settings: a study tunes {open_one!r} of {name}; here say it, such as {{{open_one}: {example}}}"
        )
    selection.check(name)
    return declared.settings(**selection.settings).model_dump()


def keep_of(number: float) -> int | float:
    """A budget as in studies: a fraction up to 1, a count above; raises ValueError for any other number."""
    if 0 < number <= 1:
        return number
    if number > 1 and number == int(number):
        return int(number)
    raise ValueError(f"keep: a fraction above 0 and up to 1, or a whole number of samples, got {number:g}")


def made_up(selection: Selection, keep: int | float, seed: int) -> str:
    """A name derived from the choices, so that different choices have different names."""
    parts = [selection.selector, selection.score, f"{keep:g}" if isinstance(keep, float) else str(keep), f"seed{seed}"]
    if selection.settings:
        told = json.dumps(selection.settings, sort_keys=True, default=str)
        parts.append(hashlib.sha256(told.encode()).hexdigest()[:8])
    return "-".join(part for part in parts if part)


@dataclass(frozen=True)
class Made:
    """The study's materialised assets that a selection reads."""

    loaded: Mapping[str, Any]
    signals: Mapping[str, np.ndarray]
    table: pl.DataFrame
    whole: Whole

    @classmethod
    def of(cls, study: Study, selection: Selection, store: Store) -> "Made":
        """Load the assets; raises ValueError that names a missing asset, or one that belongs to other samples."""
        wanted = signals_read(selection) | ({"embeddings"} if made_already(study, store) else set())
        keys = {name: each.key for name, each in inputs_for(study, wanted, "inputs", *besides_of(study)).items()}
        for key in keys.values():
            assert isinstance(key, dg.AssetKey)
            if store.find(key) is None:
                raise ValueError(f"{'/'.join(key.path)} has not been made yet: materialise it, then select")
        loaded = {name: store.load(key) for name, key in keys.items() if isinstance(key, dg.AssetKey)}
        signals = signals_in(loaded)
        count = len(signals["strata"])
        for name, values in loaded.items():
            if isinstance(values, np.ndarray) and len(values) != count:
                path = "/".join(keys[name].path)  # type: ignore[union-attr]
                raise ValueError(f"{path} has {len(values)} rows, {study.name}/samples {count}: materialise it again")
        whole = Whole(
            signals["strata"],
            loaded["source"]["strata"],
            loaded["inputs"],
            loaded["samples"],
            loaded["source"]["task"],
            signals.get("embeddings"),
            training_files(loaded["source"]),
            previews_of(study, store),
        )
        return cls(loaded, signals, columns_in(study, loaded), whole)


def made_already(study: Study, store: Store) -> bool:
    """Whether the study computes embeddings and has materialised them for its samples."""
    return "embeddings" in study.signals and store.holds(key_of(study, "embeddings"))


def select(study: Study, asked: Asked, made: Made) -> tuple[Keep, Spent]:
    """Keep mask, bool `[n]`, and its cost; raises ValueError if the budget does not fit the data."""
    count = len(made.whole.strata)
    try:
        whole = spent_of(study, made.table, np.ones(count, np.bool_), asked.keep)
    except ValueError as error:
        raise ValueError(f"keep: {study.name} has {count:,} samples, got {asked.keep}") from error
    if whole.limit > whole.whole:
        raise ValueError(f"keep: {study.name} has {whole.whole:,.15g} {whole.unit}, got {asked.keep}")
    how: dict[str, Any] = {"keep": asked.keep, "seed": asked.seed, "settings": asked.settings}
    keep = kept_at(study, asked.selection, made.signals, made.table, **how)
    return keep, spent_of(study, made.table, keep, asked.keep)


def write(study: Study, asked: Asked, made: Made, keep: Keep, spent: Spent, store: Store) -> Manifest:
    """Write the manifest in the format of the study's own."""
    widened = study.model_copy(update={"selections": {**study.selections, asked.name: asked.selection}})
    table = made.whole.samples.collect()
    told = None if spent.plain else Told(**vars(spent))
    table = with_units(study, table, made.table) if told else table
    trial = Trial(selection_key(asked.name, asked.keep), asked.seed)
    count = len(table) if told is None else int(keep.sum())
    made_by = provenance_of(widened, trial, made.loaded["source"], asked.settings, count, None, told)
    scores = {name: np.asarray(made.signals[name]) for name in signals_read(asked.selection) & set(study.scores)}
    source = made.loaded["source"]
    rows = Rows.chosen(table, keep, scores=scores, label_names=made.whole.names, origin=origin_of(study, source))
    with store.recorded((*folder_key(study).path, asked.name)):
        return Manifest.write(asked.folder, rows, made_by, overwrite=True)


def ad_hoc_job(study: Study) -> dg.JobDefinition:
    """A job of one step: check, select, write the manifest, show the page."""
    Config = ad_hoc_config(study)

    @dg.op(
        name=f"select_from_{study.name}",
        description="Choose samples by settings that the study does not name, and write a manifest of them.",
        out=dg.Out(dg.Nothing),
    )
    def ad_hoc_selection(
        context: dg.OpExecutionContext,
        config: Config,  # type: ignore[valid-type]
        secateur_store: dg.ResourceParam[Store],
    ) -> None:
        try:
            asked = Asked.of(study, config, secateur_store)
            made = Made.of(study, asked.selection, secateur_store)
            started = time.perf_counter()
            keep, spent = select(study, asked, made)
            seconds = time.perf_counter() - started
            manifest = write(study, asked, made, keep, spent, secateur_store)
        except (OSError, ValueError) as error:
            raise Sentence(str(error)) from error
        score = asked.selection.score
        page = subset_page(
            made.whole,
            keep,
            seed=asked.seed,
            others=others_at(study, secateur_store, study.rows_about(asked.keep, len(keep)), asked.seed, len(keep)),
            score=(score, made.signals[score]) if score else None,
        )
        metadata = {
            "name": asked.name,
            "path": dg.MetadataValue.path(manifest.path.resolve()),
            "kept": int(keep.sum()),
            "of": len(keep),
            "selector": asked.selection.selector,
            "score": score or f"none, {asked.selection.selector} reads none",
            "settings": dg.MetadataValue.json(asked.settings),
            "seed": asked.seed,
            "seconds": rounded(seconds),
            **shown(page),
        }
        context.log.info(f"{keep.sum()} of {len(keep)} samples kept; manifest in {manifest.path.resolve()}")
        context.log_event(dg.AssetMaterialization(folder_key(study), metadata=metadata))

    @dg.job(
        name=f"{study.name}_ad_hoc_selection",
        description=f"Choose samples of {study.name} without touching its YAML: open the launchpad, pick selector, "
        "score, budget and seed. Writes a manifest, trains nothing.",
    )
    def graph() -> None:
        ad_hoc_selection()

    return graph
