"""Assets of the feature space: `embeddings`, and the neighbour graph that all scores of distances share."""

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
import numpy as np

from secateur.pipelines.assets.asset import key_of, out_of, study_asset
from secateur.pipelines.assets.facts import rounded, tidy
from secateur.pipelines.assets.own_inputs import note_read, own_vectors, rows_now, vectors_made
from secateur.pipelines.assets.resources import ACCELERATOR, ProgressDisplay, version_of
from secateur.pipelines.assets.sentences import told_in_a_sentence
from secateur.pipelines.data.row_texts import RowTexts
from secateur.pipelines.data.scan import rows_in
from secateur.pipelines.runs.arrays import data_of
from secateur.pipelines.runs.block_arrays import Blocks, Make, in_blocks, places_in
from secateur.pipelines.runs.known_blocks import KnownBlocks
from secateur.pipelines.runs.ray import data_files
from secateur.pipelines.runs.ray_cluster import spread_over
from secateur.pipelines.runs.ray_embeddings import Embedding, made_by
from secateur.pipelines.storage.ledger import Ledger, data_parts, digest_of
from secateur.pipelines.storage.store import Store
from secateur.pipelines.studies.samples import Study
from secateur.scorers.lazy import torch
from secateur.trainers.contract import Data
from secateur.trainers.judging.outcome import Cost
from secateur.trainers.loop.checkpoints import fingerprint
from secateur.trainers.models import registry as models
from secateur.trainers.passes.embeddings import EmbeddingSettings, embed, learn
from secateur.trainers.processes import device_of_choice

if TYPE_CHECKING:
    from secateur.scorers.geometry.neighbours import Neighbours

INDICES, DISTANCES = "Rows of the nearest other samples, nearest first, int64", "Distances to them, float32"
EMBEDDINGS = {
    "embeddings": {"neighbour_indices": INDICES, "neighbour_distances": DISTANCES},
    "label_free_embeddings": {"label_free_neighbours": INDICES},
}
"""Kinds of embeddings, each with the assets of its neighbour graph and their descriptions."""


def settings_of(study: Study, name: str) -> EmbeddingSettings:
    """Settings of the study's embeddings, or of the additional ones, which no network learns."""
    assert isinstance(study.embeddings, EmbeddingSettings)
    return study.embeddings if name == "embeddings" else study.embeddings.model_copy(update={"kind": "sklearn"})


def own_vectors_asset(study: Study, base: Path) -> dg.AssetsDefinition:
    """The user's vectors, one per training sample, float32."""
    assert study.own_vectors
    brought = study.own_vectors

    @study_asset(study, "embeddings", ins=("samples", "source"), description=f"{brought.told()}.")
    def embeddings(secateur_store: dg.ResourceParam[Store], samples: Any, source: Any) -> dg.MaterializeResult:
        rows = rows_now(study, source, samples, base, secateur_store)
        values = own_vectors(study, base, rows, secateur_store)
        note_read(study, brought, base, rows, secateur_store)
        return vectors_made(values)

    return embeddings


def embeddings_asset(study: Study, name: str = "embeddings") -> dg.AssetsDefinition:
    """One vector per training sample, float16 or, for completions, float32; computes and commits blocks one by one."""
    key, settings = key_of(study, name), settings_of(study, name)
    names = ("inputs", "samples", "source", *(("proxy",) if settings.kind == "proxy" else ()))

    @study_asset(
        study,
        name,
        ins=names,
        description=f"One vector per training sample, from: {settings.kind} {settings.encoder or ''}".strip(),
        accelerated=True,
    )
    def embeddings(
        context: dg.AssetExecutionContext,
        secateur_store: dg.ResourceParam[Store],
        secateur_progress: dg.ResourceParam[ProgressDisplay],
        **loaded: Any,
    ) -> dg.MaterializeResult:
        started, data = time.perf_counter(), data_of(loaded["inputs"], loaded["samples"], loaded["source"])
        costs, count, resumed = key_of(study, f"{name}_cost"), len(data), 0
        network = [settings, *([models.config_in(loaded["proxy"] / "seed-0")] if "proxy" in loaded else [])]
        parts = data_parts(study, loaded["source"], *network)
        parts["proxy"] = fingerprint([loaded["proxy"] / "seed-0"]) if "proxy" in loaded else ""
        made_of = digest_of(settings=settings.model_dump(), **parts)

        def blocks(number: int) -> Iterator[np.ndarray]:
            told, start = secateur_progress.start(context, name), number * settings.block
            read = read_for(study, loaded.get("proxy"), secateur_store)
            for block in embed(settings, data, **read, device=device_of_choice(), start=start):
                yield block
                start += len(block)
                told(start, count)

        def work() -> None:
            nonlocal resumed
            on_cluster = None
            if study.compute.scoring == "ray":
                told = secateur_progress.start(context, name)
                on_cluster = partial(on_ray, study, settings, data, loaded.get("proxy"), secateur_store, told)
            resumed = save_embeddings(study, name, data, made_of, blocks, on_cluster, secateur_store)
            # Include the time of blocks from an earlier, killed run.
            seconds = (time.perf_counter() - started) * count / max(1, count - resumed * settings.block)
            secateur_store.save(costs, vars(Cost(count, seconds=seconds)))

        whole = Ledger(secateur_store).once(key, None, made_of, work, beside=[costs])
        return dg.MaterializeResult(
            data_version=version_of(whole),
            metadata={
                "path": dg.MetadataValue.path(secateur_store.place(key).with_suffix(".npy").resolve()),
                "dimensions": whole.shape[1],
                "dagster/row_count": count,
                "blocks resumed": resumed,
                "bytes": whole.nbytes,
                "seconds": rounded(time.perf_counter() - started),
            },
        )

    return embeddings


def save_embeddings(
    study: Study, name: str, data: Data, made_of: str, blocks: Blocks, on_cluster: Make | None, store: Store
) -> int:
    """Compute embeddings block by block and save them; returns the number of blocks resumed or reused."""
    key, size, known = key_of(study, name), settings_of(study, name).block, known_blocks(study, name, data, store)
    folder = store.root / study.name / f".{name}"
    if known:
        old = None if store.faults(key) else store.find(key)
        known.fill(places_in(folder, made_of, len(data), size), old, store.content(key), size)
    joined, resumed = in_blocks(folder, made_of, len(data), size, blocks, on_cluster)
    store.save(key, joined)
    if known:
        known.remember(store.content(key))
    shutil.rmtree(folder)
    return resumed


def known_blocks(study: Study, name: str, data: Data, store: Store) -> KnownBlocks | None:
    """Reusable blocks of earlier embeddings; None for embeddings that learn from all rows."""
    settings = settings_of(study, name)
    if settings.kind != "encoder":
        return None
    record = store.root / ".cache" / "encoded" / f"{study.name}-{name}.json"
    return KnownBlocks.of(record, settings, data, read_for(study, None, store).get("texts"))


def on_ray(
    study: Study,
    settings: EmbeddingSettings,
    data: Data,
    proxy: Path | None,
    store: Store,
    told: Callable[[int, int], None],
    places: Sequence[Path],
) -> int:
    """Compute missing blocks at the given places on the study's Ray cluster; returns the number already there."""
    texts = None if proxy is not None else read_for(study, None, store).get("texts")
    files = data_files(data, store.root / study.name / ".ray_scoring")
    model, threads = proxy and (proxy / "seed-0").resolve(), torch.get_num_threads()
    with spread_over("ray", study.compute.ray_address, threads, models=True) as spread:
        assert spread is not None
        work = Embedding(settings, files, model, texts, learn(settings, data, texts), spread.device, threads)
        return made_by(spread, work, places, told, len(data))


def read_for(study: Study, proxy: Path | None, store: Store) -> dict[str, Any]:
    """Inputs of `embed` beside the data: the proxy's model, or the texts if there are any."""
    if proxy is not None:
        return {"model": models.load(proxy / "seed-0")}
    if study.columns is None or not study.columns.texts:
        return {}
    return {"texts": RowTexts.of(rows_in(store.load(key_of(study, "rows")) / "train"), study.columns)}


def neighbours_asset(study: Study, of: str = "embeddings") -> dg.AssetsDefinition:
    """The nearest other samples of each sample by some embeddings, with the recall from an audit."""
    made, settings, name = EMBEDDINGS[of], study.neighbours, of.replace("embeddings", "neighbours")
    first = key_of(study, next(iter(made)))

    @dg.multi_asset(
        name=f"{study.name}__{name}",
        ins={"embeddings": dg.AssetIn(key_of(study, of))},
        outs={each: out_of(study, each, description=f"{text} ({settings.metric}).") for each, text in made.items()},
        check_specs=[
            dg.AssetCheckSpec(
                "recall", asset=first, description="Share of true neighbours found, on samples searched by brute force."
            )
        ],
        group_name=study.name,
        pool=ACCELERATOR,
    )
    @told_in_a_sentence
    def neighbours(
        context: dg.AssetExecutionContext, secateur_store: dg.ResourceParam[Store], embeddings: Any
    ) -> Iterator[Any]:
        from secateur.scorers.geometry.neighbours import nearest_neighbours
        from secateur.scorers.geometry.search_cost import estimate

        started = time.perf_counter()
        expected = estimate(
            len(embeddings), embeddings.shape[1], settings.count, engine="ivf" if settings.engine == "ivf" else "exact"
        )
        context.log.info(f"neighbour graph, estimate: {expected}")
        graph = nearest_neighbours(embeddings, **settings.model_dump(exclude={"label_free"}))
        seconds = time.perf_counter() - started
        metadata = tidy(facts_of(graph) | {"estimated seconds": expected.seconds, "seconds": seconds})
        secateur_store.save(key_of(study, f"{name}_cost"), vars(Cost(seconds=seconds)))
        for each, values in zip(made, (graph.indices, graph.distances), strict=False):
            yield dg.Output(values, each, metadata=metadata, data_version=version_of(values))
        yield dg.AssetCheckResult(
            check_name="recall",
            asset_key=first,
            passed=graph.recall >= settings.least_recall,
            description=f"{graph.recall:.4f} of the true neighbours found, over {graph.audited} audited samples",
            metadata={"recall": rounded(graph.recall)},
        )

    return neighbours


def facts_of(graph: "Neighbours") -> dict[str, Any]:
    """Metadata of a neighbour graph for the UI."""
    return {
        "recall": graph.recall,
        "audited samples": graph.audited,
        "engine": graph.engine,
        "metric": graph.metric,
        "neighbours": graph.indices.shape[1],
    }
