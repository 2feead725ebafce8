"""Explain why one sample was kept or dropped: its scores, the selector's rule, the nearest samples.

A manifest alone holds the kept rows and their scores. The arrays of its study, where they are on this machine and
still belong to the manifest, add the rest: scores of dropped samples, classes, strata, embeddings.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from secateur.pipelines.data.fingerprints import fingerprint
from secateur.pipelines.data.lazy import pl
from secateur.pipelines.data.stored_targets import shown_targets, strata_in
from secateur.pipelines.manifests.decision import Decision
from secateur.pipelines.manifests.document import ManifestError
from secateur.pipelines.manifests.epochs import Epochs
from secateur.pipelines.manifests.explanation import Compared, Explanation, Near, ScoreFacts, Standing, Stratum
from secateur.pipelines.manifests.kept_rows import SCORE
from secateur.pipelines.manifests.manifest import Manifest
from secateur.pipelines.manifests.places import Places
from secateur.pipelines.storage.records import StoredError
from secateur.pipelines.storage.store import Store

BLOCK = 1 << 14
LISTED = 12
"""Most epochs that a sentence lists."""


@dataclass(frozen=True)
class Arrays:
    """A study's assets for all n samples: their table, the label of each, scores, perhaps embeddings."""

    samples: pl.DataFrame
    labels: np.ndarray
    scores: Mapping[str, np.ndarray]
    embeddings: np.ndarray | None
    shown: Callable[[int], str]
    """The target of a row, formatted by its task."""
    column: Callable[[str], pl.Series | None]
    """A column of the user's data, where the study reads it."""
    unknown: tuple[str, ...] = field(default=())
    turns: np.ndarray | None = None
    """Place of each sample, from 0, in the target's order, for selections that follow that order."""


def arrays_of(manifest: Manifest, folder: Path) -> Arrays | str:
    """The assets in a study's folder, or the reason why they do not belong to the manifest's data."""
    manifest = rows_of(manifest)
    table, store, study = manifest.table, Store(folder.parent), folder.name
    try:
        samples, source = store.load((study, "samples")).collect(), store.load((study, "source"))
    except FileNotFoundError:
        return f"the study's assets are not below {folder}; set SECATEUR_HOME to where it ran"
    except StoredError as error:
        return str(error)
    if fingerprint(samples["content_hash"]) != manifest.declaration.fingerprint:
        return f"the assets below {folder} are of other data than the manifest; run the study again"
    scores, unknown = {}, []
    for card in manifest.provenance.scores:
        values = read_array(store, (study, "scores", card.name))
        column = SCORE + card.name
        written = table[column].to_numpy() if column in table.columns else None
        if isinstance(values, str):
            unknown.append(values)
        elif len(values) != samples.height:
            unknown.append(f"the score {card.name} of all samples is not below {folder}")
        elif written is not None and not np.array_equal(values[manifest.training_rows].astype(np.float32), written):
            unknown.append(f"the score {card.name} below {folder} was computed anew since the manifest was written")
        else:
            scores[card.name] = np.asarray(values)
    embeddings = read_array(store, (study, "embeddings"))
    if isinstance(embeddings, str):
        unknown.append(f"neighbours: {embeddings}")
    elif len(embeddings) != samples.height:
        unknown.append("neighbours: the study has no embeddings (a score or selector that reads them makes them)")
    near = embeddings if not isinstance(embeddings, str) and len(embeddings) == samples.height else None

    def shown(row: int) -> str:
        return shown_targets(samples[row : row + 1], source["task"])[0]

    def own(name: str) -> pl.Series | None:
        key = (study, "columns")
        if store.holds(key) and name in (known := store.load(key)).collect_schema():
            held: pl.Series = known.select(name).collect()[name]
            return held
        key = (study, "rows")
        if not store.holds(key):
            return None
        from secateur.pipelines.data.scan import rows_in

        rows = rows_in(store.load(key) / "train")
        return rows.column(name) if name in rows.schema.names else None

    turns = turns_of(manifest, store, study)
    return Arrays(samples, strata_in(samples), scores, near, shown, own, tuple(unknown), turns)


def turns_of(manifest: Manifest, store: Store, study: str) -> np.ndarray | None:
    """The order in which a target takes samples; None where the selection follows none, or not this one any more."""
    name = {"nearest_to_target": "target_places", "gradient_match": "gradient_places"}.get(manifest.provenance.selector)
    turns = read_array(store, (study, name)) if name else ""
    if isinstance(turns, str) or len(turns) != manifest.declaration.of:
        return None
    kept = np.sort(turns[manifest.training_rows])
    return turns if np.array_equal(kept, np.arange(len(kept))) else None


def read_array(store: Store, key: tuple[str, ...]) -> np.ndarray | str:
    """An array of a study, with no rows where it is missing, or the reason why it cannot be read."""
    try:
        values: np.ndarray = store.load(key) if store.find(key) else np.empty(0, np.float32)
        return values
    except StoredError as error:
        return str(error)


def places_of(manifest: Manifest, arrays: Arrays | str) -> Places:
    """Samples by their places: all of them where the study's arrays are there, else the kept ones."""
    rows, whole = rows_of(manifest).selection, isinstance(arrays, Arrays)
    table = arrays.samples if isinstance(arrays, Arrays) else rows.table
    return Places(table, rows.origin, rows.size, whole)


def rows_of(manifest: Manifest) -> Manifest:
    """The manifest itself; for a selection in training, the samples of all epochs together."""
    if not isinstance(manifest.payload, Epochs):
        return manifest
    return manifest.of_rows(manifest.payload.rows, "any epoch")


def over_epochs(manifest: Manifest, row: int, arrays: Arrays | str) -> Explanation:
    """The epochs of a selection in training that showed a training sample, with the other known facts of it."""
    found, epochs = explain(rows_of(manifest), row, arrays), manifest.epochs
    shown = epochs.file.epochs_of(row)
    once = list(dict.fromkeys(shown))
    listed = f" ({', '.join(map(str, once[:LISTED]))}{', …' * (len(once) > LISTED)})" if once else ""
    sentence = (
        f"Shown in {len(once)} of {len(epochs.sizes)} epochs{listed}: {manifest.provenance.selector} chooses anew in "
        f"every epoch, {min(epochs.sizes):,} to {max(epochs.sizes):,} of {manifest.declaration.of:,} samples."
    )
    return replace(found, sentence=sentence, shown_in=shown)


def explain(manifest: Manifest, row: int, arrays: Arrays | str) -> Explanation:
    """Why a training sample, by its number among them, is kept or not; `arrays` is the result of `arrays_of`.

    `places_of(manifest, arrays).find` gives the number for a user's name of a sample. Raises ManifestError for a number
    that no sample has.
    """
    if isinstance(manifest.payload, Epochs):
        return over_epochs(manifest, row, arrays)
    declaration = manifest.declaration
    if not 0 <= row < declaration.of:
        raise ManifestError(
            f"there is no row {row}: rows of {manifest.provenance.dataset} are 0 … {declaration.of - 1}"
        )
    position = int(np.searchsorted(manifest.training_rows, row))
    kept = position < len(manifest.training_rows) and int(manifest.training_rows[position]) == row
    places = places_of(manifest, arrays)
    place = places.place(row)
    known = arrays if isinstance(arrays, Arrays) else None
    label = int(known.labels[row]) if known else int(strata_in(manifest.table)[position]) if kept else None
    counted = next((each for each in declaration.payload.classes if each.label == label), None)
    group = None if counted is None else counted.name or str(counted.label)
    scores = tuple(score_facts(manifest, row, position if kept else None, label, known))
    keep = manifest.selection.training_keep()
    stratum = stratum_of(manifest, row, keep, known)
    compared = compared_in(manifest, row, position if kept else None, keep, known)
    turn = int(known.turns[row]) if known and known.turns is not None else None
    sentence = Decision(manifest, kept, counted, scores, stratum, compared, turn).sentence()
    distances = distances_from(known.embeddings, row) if known and known.embeddings is not None else None
    weights = manifest.weights
    return Explanation(
        row=place.row,
        file=place.file,
        path=place.path,
        id=place.id,
        kept=kept,
        sentence=sentence,
        label=known.shown(row) if known else group if "label" in manifest.table.columns else None,
        group=group,
        weight=float(weights[position]) if kept and weights is not None else None,
        scores=scores,
        compared=compared,
        stratum=stratum if isinstance(stratum, Stratum) else None,
        class_samples=counted.before if counted else None,
        class_kept=counted.after if counted else None,
        nearest_kept=near(manifest, known, distances, keep, places),
        nearest=near(manifest, known, distances, np.ones_like(keep), places),
        equal_rows=equal_rows(row, known, places),
        unknown=known.unknown if known else (str(arrays),),
    )


def score_facts(
    manifest: Manifest, row: int, position: int | None, label: int | None, known: Arrays | None
) -> list[ScoreFacts]:
    """The sample's scores among all samples, or among the kept ones where only the manifest is there."""
    facts = []
    for card in manifest.provenance.scores:
        column = SCORE + card.name
        if column not in manifest.table.columns:
            continue
        written = manifest.table[column].to_numpy()
        if known and card.name in known.scores:
            values, labels, within = known.scores[card.name], known.labels, "all samples"
            value, written = float(values[row]), values[manifest.training_rows]
        elif position is not None:
            values, labels, within = written, strata_in(manifest.table), "kept samples"
            value = float(values[position])
        else:
            continue
        facts.append(
            ScoreFacts(
                name=card.name,
                value=value,
                high_means=card.high_means,
                within=within,
                overall=Standing.of(value, values),
                in_class=None if label is None else Standing.of(value, values[labels == label]),
                kept_lowest=float(written.min()),
                kept_highest=float(written.max()),
            )
        )
    return facts


def compared_in(
    manifest: Manifest, row: int, position: int | None, keep: np.ndarray, known: Arrays | None
) -> Compared | None:
    """The values that a selection by groups or quotas compared for a sample; None for others, and if unknown."""
    source = manifest.provenance
    group, by = source.spent.group if source.spent else None, source.settings.get("by")
    name = source.scores[0].name if source.scores else ""
    by = by if isinstance(by, str) else None  # a manifest may be hostile
    if (group is None and by is None) or not name:
        return None
    if known is None or name not in known.scores:
        return compared_in_group(manifest, position, name) if group is not None else None
    columns = {of: known.column(of) for of in (group, by) if of is not None}
    if any(held is None for held in columns.values()):
        return None
    from secateur.pipelines.data.codes import codes_of
    from secateur.selectors.whole_units import Units

    numbers = {of: codes_of(held) for of, held in columns.items() if held is not None}
    units = Units.made_of(len(keep), None if group is None else numbers[group][0], None)
    values = units.signals({"score": known.scores[name].astype(np.float64)})["score"]
    unit, stays, quota = int(units.of[row]), np.unique(units.of[keep]), None
    if by is not None:
        belong = units.reduced(numbers[by][0])
        stays, quota = stays[belong[stays] == belong[unit]], f"{by} {numbers[by][1][int(belong[unit])]}"
    of_kept = values[stays]
    low, high = (float(of_kept.min()), float(of_kept.max())) if len(stays) else (None, None)
    own = None if group is None else str(numbers[group][1][int(numbers[group][0][row])])
    return Compared(float(values[unit]), low, high, own, int(units.sizes[unit]), quota)


def compared_in_group(manifest: Manifest, position: int | None, name: str) -> Compared | None:
    """`compared_in` from the kept rows alone, which are complete for a kept group."""
    table, column = manifest.table, SCORE + name
    if position is None or not {column, "group"} <= set(table.columns):
        return None
    means = table.group_by("group").agg(pl.col(column).cast(pl.Float64).mean(), pl.len().alias("samples"))
    group = table["group"][position]
    [(mean, samples)] = means.filter(pl.col("group") == group).select(column, "samples").rows()
    whole = manifest.provenance.settings.get("by") is None
    low, high = (float(means[column].min()), float(means[column].max())) if whole else (None, None)  # type: ignore[arg-type]
    return Compared(mean, low, high, group, samples, None)


def stratum_of(manifest: Manifest, row: int, keep: np.ndarray, known: Arrays | None) -> Stratum | str | None:
    """The stratum of coverage-centric selection, or "cut" for samples that its cut-off removed.

    None for other selectors, and where the known data cannot reproduce the selection (it was made class by class or by
    another version, or the scores are missing).
    """
    source = manifest.provenance
    names = [card.name for card in source.scores]
    picked = next((name for name in names if name != "aum"), "aum")
    if source.selector != "coverage_centric" or not known or not set(names) <= set(known.scores):
        return None
    from secateur.selectors.draws.quotas import water_filling
    from secateur.selectors.draws.ranks import keep_smallest
    from secateur.selectors.draws.strata import sizes_of
    from secateur.selectors.static.coverage_centric import coverage_centric, equal_width_strata, left_by_cutoff

    means = next((card.high_means for card in source.scores if card.name == picked), "")
    sign = -1 if "aum" not in names and means == "easier" else 1  # the selector read ease as hardness
    scores = sign * known.scores[picked].astype(np.float32)
    aum = known.scores["aum"].astype(np.float32) if "aum" in names else -scores  # a task without margins
    settings: dict[str, Any] = dict(source.settings)
    if source.selector_version != coverage_centric.version or not np.array_equal(
        coverage_centric(scores, aum, source.budget, seed=source.seed, ids=np.arange(len(aum)), **settings), keep
    ):
        return None
    count = int(settings.get("bins", coverage_centric.settings.model_fields["bins"].default))
    cut = len(aum) - left_by_cutoff(len(aum), cutoff=float(settings["cutoff"]))
    dead = keep_smallest(aum, cut, seed=source.seed, ids=np.arange(len(aum))) if cut else None
    strata = equal_width_strata(scores, count, dead)
    number = int(strata[row])
    if number == count:
        return "cut"
    sizes = sizes_of(strata, count + 1)[:-1]
    alive = scores if dead is None else scores[~dead]
    low, high = float(alive.min()), float(alive.max())
    edges = low + np.arange(count + 1) * ((high - low) / count)
    quota = int(water_filling(sizes, source.budget)[number])
    bounds = sorted((sign * float(edges[number]), sign * float(edges[number + 1])))
    return Stratum(number + 1, count, picked, bounds[0], bounds[1], int(sizes[number]), quota)


def distances_from(embeddings: np.ndarray, row: int) -> np.ndarray:
    """Euclidean distance of a row to every row, float64 `[n]`, infinite to itself; reads by blocks."""
    point, starts = np.asarray(embeddings[row], np.float64), range(0, len(embeddings), BLOCK)
    distances = np.concatenate([np.linalg.norm(embeddings[at : at + BLOCK] - point, axis=1) for at in starts])
    distances[row] = np.inf
    return distances


def near(
    manifest: Manifest, known: Arrays | None, distances: np.ndarray | None, among: np.ndarray, places: Places
) -> Near | None:
    """The nearest sample where `among` is true; the first of equally near ones."""
    if known is None or distances is None:
        return None
    place = int(np.where(among, distances, np.inf).argmin())
    if not among[place] or not np.isfinite(distances[place]):
        return None
    kept, near = bool(np.isin(place, manifest.training_rows)), places.place(place)
    return Near(near.row, float(distances[place]), known.shown(place), kept, near.file, near.path)


def equal_rows(row: int, known: Arrays | None, places: Places) -> tuple[int | str, ...] | None:
    """Other rows of the same content and label."""
    if known is None:
        return None
    same = np.flatnonzero((known.samples["content_hash"] == known.samples["content_hash"][row]).to_numpy())
    return tuple(places.named(int(other)) for other in same if other != row)
