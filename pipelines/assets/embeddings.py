"""Assets of the feature space: `embeddings`, and the neighbour graph that the coverage scores share."""

import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
import numpy as np

from secateur.pipelines.assets.asset import ins_of, key_of, out_of, study_asset
from secateur.pipelines.assets.data import data_of
from secateur.pipelines.assets.resources import ACCELERATOR, ProgressDisplay, version_of
from secateur.pipelines.files.whole_files import new_file
from secateur.pipelines.pages.previews import rows_in
from secateur.pipelines.storage.ledger import digest_of
from secateur.pipelines.storage.store import Store
from secateur.pipelines.studies.samples import Study
from secateur.trainers.loop.checkpoints import fingerprint
from secateur.trainers.models import registry as models
from secateur.trainers.passes.embeddings import embed
from secateur.trainers.processes import device_of_choice

if TYPE_CHECKING:
    from secateur.scorers.geometry.neighbours import Neighbours


def embeddings_asset(study: Study, base: Path) -> dg.AssetsDefinition:
    """One vector per training sample, float16, computed and committed block by block."""
    key, settings = key_of(study, "embeddings"), study.embeddings
    names = ("inputs", "samples", "source", *(("proxy",) if settings.kind == "proxy" else ()))

    @study_asset(
        study,
        "embeddings",
        ins=names,
        description=f"One vector per training sample, float16, from: {settings.kind} {settings.encoder or ''}".strip(),
        accelerated=True,
    )
    def embeddings(
        context: dg.AssetExecutionContext,
        secateur_store: dg.ResourceParam[Store],
        secateur_progress: dg.ResourceParam[ProgressDisplay],
        **loaded: Any,
    ) -> dg.MaterializeResult:
        started, samples = time.perf_counter(), loaded["samples"]
        data, model, texts = data_of(loaded["inputs"], samples, loaded["source"]), None, None
        depends: list[Any] = [settings.model_dump(), loaded["source"]["revision"]]
        if settings.kind == "proxy":
            folder = loaded["proxy"] / "seed-0"
            model = models.load(folder)
            depends.append(fingerprint([folder]))
        elif study.columns and study.columns.text is not None:
            texts = rows_in(secateur_store.place(key_of(study, "rows")) / "train").dataset()[study.columns.text]
        shards = secateur_store.root / study.name / ".embeddings" / digest_of(depends=depends)[:16]
        told, count = secateur_progress.start(context, "embeddings"), len(data)
        starts = list(range(0, count, settings.block))
        there = [start for start in starts if shard_of(shards, start).exists()]
        begin = next((start for start in starts if start not in there), count)
        blocks = embed(settings, data, model=model, texts=texts, device=device_of_choice(), start=begin)
        for start, block in zip(range(begin, count, settings.block), blocks, strict=True):
            with new_file(shard_of(shards, start), overwrite=True) as partial, partial.open("wb") as file:
                np.save(file, block, allow_pickle=False)
            told(min(start + settings.block, count), count)
        path = secateur_store.place(key).with_suffix(".npy")
        join_shards(shards, starts, count, path)
        shutil.rmtree(shards.parent)
        whole = np.load(path, mmap_mode="r")
        # Blocks that an earlier, killed run made took their time too.
        seconds = (time.perf_counter() - started) * count / max(1, count - begin)
        secateur_store.save(key_of(study, "embeddings_cost"), {"seconds": seconds, "forward": count})
        return dg.MaterializeResult(
            data_version=version_of(whole),
            metadata={
                "path": dg.MetadataValue.path(path.resolve()),
                "dimensions": whole.shape[1],
                "dagster/row_count": count,
                "blocks resumed": len(there),
                "bytes": path.stat().st_size,
                "seconds": time.perf_counter() - started,
            },
        )

    return embeddings


def shard_of(folder: Path, start: int) -> Path:
    """File of the block that begins at a row."""
    return folder / f"{start:012d}.npy"


def join_shards(folder: Path, starts: Sequence[int], count: int, path: Path) -> None:
    """Write the blocks that begin at `starts` as one array float16 `[count, d]`, one block in memory at a time."""
    blocks = [np.load(shard_of(folder, start), mmap_mode="r") for start in starts]
    with new_file(path, overwrite=True) as partial:
        whole = np.lib.format.open_memmap(partial, mode="w+", dtype=np.float16, shape=(count, blocks[0].shape[1]))
        for start, block in zip(starts, blocks, strict=True):
            whole[start : start + len(block)] = block
        whole.flush()


def neighbours_asset(study: Study) -> dg.AssetsDefinition:
    """The nearest other samples of each sample, with the recall that an audit measured."""
    key = {name: key_of(study, name) for name in ("neighbour_indices", "neighbour_distances")}
    settings = study.neighbours

    @dg.multi_asset(
        name=f"{study.name}__neighbours",
        ins=ins_of(study, "embeddings"),
        outs={
            "neighbour_indices": out_of(
                study,
                "neighbour_indices",
                description="Rows of the nearest other samples, nearest first, int64.",
            ),
            "neighbour_distances": out_of(
                study,
                "neighbour_distances",
                description=f"Distances to them ({settings.metric}), float32.",
            ),
        },
        check_specs=[
            dg.AssetCheckSpec(
                "recall",
                asset=key["neighbour_indices"],
                description="Share of true neighbours found, on samples searched by brute force.",
            )
        ],
        group_name=study.name,
        pool=ACCELERATOR,
    )
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
        graph = nearest_neighbours(embeddings, **settings.model_dump())
        seconds = time.perf_counter() - started
        metadata = facts_of(graph) | {"estimated seconds": expected.seconds, "seconds": seconds}
        secateur_store.save(key_of(study, "neighbours_cost"), {"seconds": seconds})
        for name, values in (("neighbour_indices", graph.indices), ("neighbour_distances", graph.distances)):
            yield dg.Output(values, name, metadata=metadata, data_version=version_of(values))
        yield dg.AssetCheckResult(
            check_name="recall",
            asset_key=key["neighbour_indices"],
            passed=graph.recall >= settings.least_recall,
            description=f"{graph.recall:.4f} of the true neighbours found, over {graph.audited} audited samples",
            metadata={"recall": graph.recall},
        )

    return neighbours


def facts_of(graph: "Neighbours") -> dict[str, Any]:
    """What the UI says of a neighbour graph."""
    return {
        "recall": graph.recall,
        "audited samples": graph.audited,
        "engine": graph.engine,
        "metric": graph.metric,
        "neighbours": graph.indices.shape[1],
    }
