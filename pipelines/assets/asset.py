"""The common parts of all studies' assets: key, group, store, pool, and partitions by trial."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

import dagster as dg

from secateur.pipelines.assets.facts import tidy
from secateur.pipelines.assets.resources import ACCELERATOR, IO_MANAGER
from secateur.pipelines.assets.sentences import told_in_a_sentence
from secateur.pipelines.studies.grid import Trial
from secateur.pipelines.studies.study import AnyStudy


def key_of(study: AnyStudy, *names: str) -> dg.AssetKey:
    """Key of an asset, or of a further output of its step, by its names below the study."""
    return dg.AssetKey([study.name, *names])


def ins_of(study: AnyStudy, *names: str) -> dict[str, dg.AssetIn]:
    """Inputs from assets of the study, each under its own name."""
    return {name: dg.AssetIn(key_of(study, name)) for name in names}


def out_of(study: AnyStudy, *names: str, **facts: Any) -> dg.AssetOut:
    """One of several assets of a step."""
    return dg.AssetOut(io_manager_key=IO_MANAGER, key=key_of(study, *names), **facts)


def study_asset(
    study: AnyStudy,
    *names: str,
    ins: Mapping[str, dg.AssetIn] | Iterable[str] = (),
    trials: Literal["none", "seeds", "all"] = "none",
    accelerated: bool = False,
    **facts: Any,
) -> Callable[[Callable[..., Any]], dg.AssetsDefinition]:
    """Declare an asset of a study, with values in the store, by its names below the study.

    `ins` are names of the study's assets, or a mapping for Dagster; `trials` sets the partitions: none, by seed, or by
    selection and seed, of which one run may process many; `accelerated` steps wait for each other. `facts` go to
    `dagster.asset` unchanged.
    """
    if not isinstance(ins, Mapping):
        ins = ins_of(study, *ins)
    if trials != "none":
        seeds = dg.StaticPartitionsDefinition([str(seed) for seed in range(study.seeds)])
        facts["partitions_def"] = seeds if trials == "seeds" else partitions_of(study)
        facts["backfill_policy"] = dg.BackfillPolicy.single_run()
    declare: Callable[[Callable[..., Any]], dg.AssetsDefinition] = dg.asset(
        key=key_of(study, *names),
        ins=ins,
        io_manager_key=IO_MANAGER,
        group_name=study.name,
        pool=ACCELERATOR if accelerated else None,
        **facts,
    )
    return lambda step: declare(told_in_a_sentence(step))


def shown(page: Mapping[str, Any]) -> dict[str, Any]:
    """A page as metadata of an asset; texts become Markdown."""
    return {name: dg.MetadataValue.md(each) if isinstance(each, str) else each for name, each in tidy(page).items()}


def partitions_of(study: AnyStudy) -> dg.MultiPartitionsDefinition:
    """Selections times seeds; samples are never partitions."""
    return dg.MultiPartitionsDefinition(
        {
            "selection": dg.StaticPartitionsDefinition(list(study.selection_keys)),
            "seed": dg.StaticPartitionsDefinition([str(seed) for seed in range(study.seeds)]),
        }
    )


def trials_of(context: dg.AssetExecutionContext) -> list[Trial]:
    """The trials of a run."""
    return [Trial.parse(str(key)) for key in context.partition_keys]
