"""Assets of the scoring pass: all scores of the proxy's checkpoints; rows with a stored score are not rescored."""

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np

from secateur.pipelines.assets.asset import ins_of, key_of
from secateur.pipelines.assets.data import previews_of
from secateur.pipelines.assets.facts import rounded
from secateur.pipelines.assets.launchpad import form, forms
from secateur.pipelines.assets.resources import ACCELERATOR, ProgressDisplay, version_of
from secateur.pipelines.assets.scores import score_metadata, score_outs
from secateur.pipelines.assets.sentences import told_in_a_sentence
from secateur.pipelines.runs.arrays import data_of
from secateur.pipelines.runs.costs import save_pass_cost
from secateur.pipelines.runs.proxy import folds_in, identity_of
from secateur.pipelines.runs.ray import RayPass, job_of
from secateur.pipelines.storage.score_cache import Compute, ScoreKey, ScoreStore, one_by_one
from secateur.pipelines.storage.store import Store
from secateur.pipelines.studies.samples import Study
from secateur.pipelines.studies.scores import Score
from secateur.scorers.checkpoints.contract import CheckpointScorer
from secateur.scorers.contract import Scores
from secateur.trainers.contract import Data
from secateur.trainers.loop.checkpoints import fingerprint, load_checkpoints
from secateur.trainers.passes.folds import Folds, by_fold
from secateur.trainers.passes.scoring import Configured, score_folds, score_rows
from secateur.trainers.processes import device_of_choice


def checkpoint_scores_of(study: Study) -> dict[str, Score]:
    """Scores of the study that read checkpoints."""
    return {name: score for name, score in study.computed.items() if isinstance(score.declared, CheckpointScorer)}


def declared_as(score: Score) -> CheckpointScorer:
    """The scorer of a score of checkpoints."""
    assert isinstance(score.declared, CheckpointScorer)
    return score.declared


def score_keys(configured: Mapping[str, Configured], model: str) -> dict[str, ScoreKey]:
    """Keys of checkpoint scores in the score store, by name; `model` is the fingerprint of the checkpoints."""
    return {
        name: ScoreKey(declared.card.name, declared.card.version, settings, model)
        for name, (declared, settings) in configured.items()
    }


def several(configured: Mapping[str, Configured]) -> bool:
    """Whether some score reads all checkpoints of a proxy run instead of the last one alone."""
    return any(scorer.several for scorer, _ in configured.values())


def computing(
    folders: list[Path], data: Data, configured: Mapping[str, Configured], folds: Folds | None = None
) -> Compute:
    """Scorer of rows in this process, by the proxies in the folders or by those of the rows' folds."""
    runs, device = [load_checkpoints(folder) for folder in folders], device_of_choice()

    def compute(rows: np.ndarray, names: Sequence[str]) -> Mapping[str, Scores]:
        wanted = {name: configured[name] for name in names}
        if folds is None:
            return score_rows(runs, data, rows, wanted, device=device)
        return score_folds(by_fold(runs, folds), folds, data, rows, wanted, device=device)

    return compute


def scoring_pass_asset(study: Study) -> dg.AssetsDefinition:
    """One pass over the data for all scores of checkpoints; a run may materialise any subset of them."""
    read = checkpoint_scores_of(study)
    Config = forms(
        f"{study.name}_scoring_pass",
        {name: form(score.declared.settings, score.settings) for name, score in read.items()},
    )

    @dg.multi_asset(
        name=f"{study.name}__scoring_pass",
        ins=ins_of(study, "inputs", "samples", "source", "proxy"),
        outs=score_outs(study, read, is_required=False),
        can_subset=True,
        group_name=study.name,
        pool=ACCELERATOR,
    )
    @told_in_a_sentence
    def scoring_pass(
        context: dg.AssetExecutionContext,
        config: Config,  # type: ignore[valid-type]
        secateur_store: dg.ResourceParam[Store],
        secateur_progress: dg.ResourceParam[ProgressDisplay],
        inputs: Any,
        samples: Any,
        source: Any,
        proxy: Any,
    ) -> Iterator[Any]:
        data, started = data_of(inputs, samples, source), time.perf_counter()
        previews = previews_of(study, secateur_store)
        folders = [proxy / name for name in study.proxies]
        model = identity_of(study, folders)
        chosen = sorted(context.op_execution_context.selected_output_names)
        configured = {name: (declared_as(read[name]), getattr(config, name).model_dump()) for name in chosen}
        keys = score_keys(configured, model)

        place, folds = secateur_store.root / study.name, folds_in(study, secateur_store)
        spread = None
        if study.compute.scoring == "ray":
            held = secateur_store.find(key_of(study, "proxy_folds")) if folds is not None else None
            job = job_of(data, folders, fingerprint(folders), configured, place / ".ray_scoring", held)
            spread = RayPass(job, study.compute.ray_address)
        hashes = samples.select("content_hash").collect()["content_hash"]
        cache = ScoreStore(place / ".score_store")
        run = spread or one_by_one(computing(folders, data, configured, folds))
        scores, tally = cache.scores(run, keys, hashes, progress=secateur_progress.start(context, "scoring pass"))
        seconds = time.perf_counter() - started
        once = folders if folds is None else by_fold(folders, folds)[0]
        passes = sum(len(list(folder.glob("*.safetensors"))) if several(configured) else 1 for folder in once)
        save_pass_cost(secateur_store, study.name, model, seconds, max(tally.computed.values(), default=0) * passes)
        for name, values in scores.items():
            counted = {
                "rows rescored": tally.computed[name],
                "rows found": tally.found[name],
                "seconds": rounded(seconds),
            }
            nodes = {"shards by Ray node": dg.MetadataValue.json(spread.nodes)} if spread else {}
            shown = score_metadata(values, configured[name][0].card, inputs, samples, source, previews)
            yield dg.Output(values, name, metadata=shown | counted | nodes, data_version=version_of(values))

    return scoring_pass
