"""Dagster definitions of a study of samples: its assets, ad-hoc selections, and recurring rescoring."""

from pathlib import Path

import dagster as dg

from secateur.pipelines.assets.ad_hoc_selection import ad_hoc_job, ad_hoc_spec
from secateur.pipelines.assets.audit import audit_asset
from secateur.pipelines.assets.data import prepare_asset
from secateur.pipelines.assets.embeddings import EMBEDDINGS, embeddings_asset, neighbours_asset, own_vectors_asset
from secateur.pipelines.assets.epoch_manifests import epoch_manifest_asset
from secateur.pipelines.assets.origin import origin_of
from secateur.pipelines.assets.recurring import drift_asset, recurrence
from secateur.pipelines.assets.sample_target import target_assets
from secateur.pipelines.assets.scores import own_score_asset, proxy_asset, score_asset
from secateur.pipelines.assets.scoring_pass import checkpoint_scores_of, scoring_pass_asset
from secateur.pipelines.assets.subsets import manifest_asset, subset_asset
from secateur.pipelines.assets.teacher import teacher_assets
from secateur.pipelines.assets.training import evaluation_asset, report_asset, trained_model_asset
from secateur.pipelines.assets.trajectories import trajectories_asset
from secateur.pipelines.assets.tuning import tuning_asset
from secateur.pipelines.assets.unit_columns import columns_asset
from secateur.pipelines.assets.yardstick import yardstick_asset
from secateur.pipelines.studies.samples import Study
from secateur.scorers.contract import Scorer


def sample_definitions(study: Study, base: Path) -> dg.Definitions:
    """Assets, jobs, schedules and sensors of one study; relative paths in it start at `base`."""
    own = dg.Definitions(assets=[ad_hoc_spec(study)], jobs=[ad_hoc_job(study)])
    assets = study_assets(study, base)
    return dg.Definitions.merge(
        recurrence(study, base, assets, drift_asset(study)) if study.recurring else dg.Definitions(assets), own
    )


def embeddings_of(study: Study, name: str, base: Path) -> dg.AssetsDefinition:
    """The asset of some embeddings: the user's, or computed ones."""
    return own_vectors_asset(study, base) if study.own_vectors else embeddings_asset(study, name)


def study_assets(study: Study, base: Path) -> list[dg.AssetsDefinition]:
    """All assets, from the source to the report."""
    return [
        prepare_asset(study, base),
        *([proxy_asset(study)] if study.proxy else []),
        *(embeddings_of(study, name, base) for name in EMBEDDINGS if name in study.signals),
        *(neighbours_asset(study, of) for of, graph in EMBEDDINGS.items() if graph.keys() & study.signals),
        *([trajectories_asset(study)] if "loss_trajectories" in study.signals else []),
        *([scoring_pass_asset(study)] if checkpoint_scores_of(study) else []),
        *(score_asset(study, name) for name, score in study.computed.items() if isinstance(score.declared, Scorer)),
        *(own_score_asset(study, name, base) for name in study.own_scores),
        *target_assets(study, base),
        *([columns_asset(study, base)] if study.read_besides else []),
        yardstick_asset(study),
        *teacher_assets(study, base),
        tuning_asset(study),
        subset_asset(study, base),
        manifest_asset(study),
        trained_model_asset(study),
        *([epoch_manifest_asset(study)] if any(one.in_training for one in study.selections.values()) else []),
        evaluation_asset(study),
        report_asset(study),
        audit_asset(study, base, origin_of),
    ]
