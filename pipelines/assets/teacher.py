"""Assets of knowledge distillation: `teacher`, `teacher_logits` and, if a study tunes it, `distillation_tuning`.

They read `study.distillation`, a `Distillation`; a study without one has none of them. In the asset of students:

    ins |= teacher_inputs(study)                                  # in the asset's `ins`
    def trained_model(..., **taught): ...                         # their values, by the same names
    objective = objective_for(study, training, taught, kept=budget, samples=len(data))
    train(data, training, seed=trial.seed, keep=keep, objective=objective)

Their costs are saved beside them as a `Cost`, like `proxy_cost`: `teacher_cost` (training), `teacher_logits_cost`
(the pass over all samples) and `distillation_tuning_cost` (its students and its own teacher). A teacher from a folder
has no cost here; its original training cost is unknown.
"""

import json
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np

from secateur.pipelines.assets.asset import ins_of, key_of, study_asset
from secateur.pipelines.assets.facts import rounded, tidy
from secateur.pipelines.assets.launchpad import form
from secateur.pipelines.assets.resources import ProgressDisplay
from secateur.pipelines.files.whole_files import new_folder
from secateur.pipelines.runs.arrays import data_of
from secateur.pipelines.runs.deciding import metrics_of
from secateur.pipelines.runs.resumption import block_by_block, block_places
from secateur.pipelines.runs.teaching import asked, cached_in, tuned_settings
from secateur.pipelines.storage.ledger import Ledger, data_parts, digest_of
from secateur.pipelines.storage.store import Store
from secateur.pipelines.studies.samples import Study
from secateur.scorers.contract import naming
from secateur.selectors.static.uniform_random import uniform_random
from secateur.trainers.contract import Data, TrainingConfig
from secateur.trainers.distillation.cached_logits import TeacherLogits, logits_in_blocks, write
from secateur.trainers.distillation.token_teacher import STARTS, TOP_K, starts_of, tokens_in_blocks
from secateur.trainers.distillation.tuning import tune_distillation
from secateur.trainers.judging.evaluation import evaluate, outputs_of
from secateur.trainers.judging.outcome import Cost
from secateur.trainers.loop.checkpoints import fingerprint
from secateur.trainers.loop.train import train
from secateur.trainers.models import registry as models
from secateur.trainers.models.causal_model import OTHER_TOKENS
from secateur.trainers.processes import device_of_choice
from secateur.trainers.tasks.class_order import names_of, places_are_guessed, places_of, refuse_other_order
from secateur.trainers.tasks.registry import task_from

BLOCK = 4096
"""Rows of logits in one committed block."""
LOOKED_AT = 4096
"""Most training samples for checking a teacher without class names."""
PLAIN = ("inputs", "samples", "source")
SAVED = ("model.json", "model.safetensors")
"""Files of a saved model."""


def teacher_assets(study: Study, base: Path = Path()) -> list[dg.AssetsDefinition]:
    """The assets that `study.distillation` needs, none without it; a teacher's relative folder starts at `base`."""
    if study.distillation is None:
        return []
    made = [teacher_asset(study, base)]
    made += [distillation_tuning_asset(study)] if study.distillation.tune else []
    return made + ([teacher_logits_asset(study)] if cached_in(study) else [])


def teacher_inputs(study: Study) -> dict[str, dg.AssetIn]:
    """Inputs of an asset that trains students, beside the data, by parameter name; empty for plain training."""
    if study.distillation is None:
        return {}
    names = ["teacher", *(["distillation_tuning"] if study.distillation.tune else [])]
    names += ["teacher_logits"] if cached_in(study) else []
    return ins_of(study, *names)


def teacher_asset(study: Study, base: Path) -> dg.AssetsDefinition:
    """A model trained on all samples, or copied from a folder."""
    key, settings = key_of(study, "teacher"), asked(study)
    given = base / settings.teacher if isinstance(settings.teacher, Path) else None
    names = (*PLAIN, "test_inputs", "test_samples")
    Config = dg.Config if given else form(TrainingConfig, settings.config_for(study.training).model_dump(mode="json"))

    @study_asset(
        study,
        "teacher",
        ins=names,
        description="The teacher of knowledge distillation: "
        + (f"the model in {given}." if given else "a model trained on all training samples."),
        accelerated=True,
    )
    def teacher(
        context: dg.AssetExecutionContext,
        config: Config,  # type: ignore[valid-type]
        secateur_store: dg.ResourceParam[Store],
        secateur_progress: dg.ResourceParam[ProgressDisplay],
        **loaded: Any,
    ) -> dg.MaterializeResult:
        if study.task.own:  # a run from the UI may materialise the teacher alone, long after the samples
            study.own_task()
        data, costs = data_of(*(loaded[name] for name in PLAIN)), key_of(study, "teacher_cost")
        parts: dict[str, Any] = {}
        if given:
            # For a folder without a model, `copy_teacher` names the missing file.
            parts |= {name: given / name for name in SAVED if (given / name).is_file()}
            parts |= data_parts(study, loaded["source"])
        else:
            training = TrainingConfig(**config.model_dump())  # type: ignore[attr-defined]
            parts |= data_parts(study, loaded["source"], training)
            parts |= {"config": training.model_dump(mode="json", exclude={"loading", "workers"}), "seed": settings.seed}

        def work() -> None:
            cost = Cost()
            if given:
                with secateur_store.folder(key) as folder:
                    copy_teacher(given, folder, data)
            else:
                told = secateur_progress.start(context, "teacher")
                trained = train(data, training, seed=settings.seed, device=device_of_choice(), progress=told)
                with secateur_store.folder(key) as folder:
                    models.save(trained.model.cpu(), folder, training, data.inputs.shape[1:])
                cost = Cost.of(trained)
            secateur_store.save(costs, vars(cost))

        test = data_of(loaded["test_inputs"], loaded["test_samples"], loaded["source"], "test")
        with naming("the teacher"):
            Ledger(secateur_store).once(key, None, digest_of(**parts), work, beside=[costs])
            metrics = evaluate(models.load(secateur_store.place(key)), test)
        cost = secateur_store.load(costs)
        path = dg.MetadataValue.path(secateur_store.place(key).resolve())
        return dg.MaterializeResult(
            metadata={"path": path, **tidy({f"test {name}": number for name, number in metrics.items()} | cost)}
        )

    return teacher


def copy_teacher(given: Path, folder: Path, data: Data) -> None:
    """Copy the two files of `models.save`; raises ValueError if they are missing or belong to other data.

    If the data have class names and the teacher has none, the copy takes those of the data.
    """
    missing = [name for name in SAVED if not (given / name).is_file()]
    if missing:
        raise ValueError(
            f"distillation.teacher: {given} has no {' and no '.join(missing)}; name a saved model's folder"
        )
    rebuild, whose = json.loads((given / "model.json").read_text()), f"distillation.teacher: the model in {given}"
    if absent := [name for name in ("config", "shape", "task") if name not in rebuild]:
        raise ValueError(f"{whose} has no {absent[0]} in its model.json: name a folder that secateur saved a model in")
    if data.task.taught_by_token:
        refuse_other_tokens(rebuild, data, whose)
    elif rebuild["shape"] != list(data.inputs.shape[1:]):
        raise ValueError(
            f"{whose} reads inputs of shape {rebuild['shape']}, those of the data are {list(data.inputs.shape[1:])}"
        )
    learned = task_from(rebuild["task"])
    places_of(learned, data.task, whose)
    for name in SAVED:
        shutil.copyfile(given / name, folder / name)
    if (
        data.task.learns_target
        and data.task.target != "numbers"
        and (not names_of(learned) or places_are_guessed(learned, data.task))
    ):
        # A model of plain arrays may also teach named data, if their order is the same.
        some = data.take(np.unique(np.linspace(0, len(data) - 1, LOOKED_AT).astype(np.int64)))
        try:
            refuse_other_order(outputs_of(models.load(given), some), some.targets, data.task)
        except ValueError as error:
            raise ValueError(f"{whose}: {error}") from error
        rebuild["task"]["names"] = names_of(data.task)
        (folder / "model.json").write_text(json.dumps(rebuild, indent=2) + "\n")


def refuse_other_tokens(rebuild: Mapping[str, Any], data: Data, whose: str) -> None:
    """Raise ValueError for a language model with another tokenizer than the data's, or with shorter inputs."""
    theirs, ours = rebuild.get("learned", {}).get("tokenizer"), data.model_settings.get("tokenizer")
    if theirs != ours:
        raise ValueError(f"{whose} knows other tokens than encoding.tokenizer: {OTHER_TOKENS}")
    if len(rebuild["shape"]) != 2 or rebuild["shape"][1] < data.inputs.shape[2]:
        raise ValueError(f"{whose} reads {rebuild['shape'][-1]} tokens, samples have up to {data.inputs.shape[2]}")


def teacher_logits_asset(study: Study) -> dg.AssetsDefinition:
    """The teacher's logits of every training sample, computed and committed block by block."""
    key, settings = key_of(study, "teacher_logits"), asked(study)
    names = (*PLAIN, "teacher", *(("distillation_tuning",) if settings.tune else ()))
    what = cached_of(study)

    @study_asset(
        study,
        "teacher_logits",
        ins=names,
        description=f"The teacher's logits of every training sample as stored, not augmented: float16, {what}.",
        accelerated=True,
    )
    def teacher_logits(
        context: dg.AssetExecutionContext,
        secateur_store: dg.ResourceParam[Store],
        secateur_progress: dg.ResourceParam[ProgressDisplay],
        **loaded: Any,
    ) -> dg.MaterializeResult:
        started, data = time.perf_counter(), data_of(*(loaded[name] for name in PLAIN))
        teacher, heat = fingerprint([loaded["teacher"]]), tuned_settings(settings, loaded).temperature
        costs, place, resumed = key_of(study, "teacher_logits_cost"), secateur_store.place(key), 0
        parts = data_parts(study, loaded["source"], models.config_in(loaded["teacher"]))
        made_of = digest_of(teacher=teacher, top_k=settings.top_k, temperature=heat, **parts)

        def blocks(number: int) -> Iterator[TeacherLogits]:
            told = secateur_progress.start(context, "teacher logits")
            model, how = models.load(loaded["teacher"]), dict[str, Any](block=BLOCK, start=number * BLOCK)
            how |= {"top_k": settings.top_k, "temperature": heat, "device": device_of_choice()}
            passed = tokens_in_blocks if data.task.taught_by_token else logits_in_blocks
            return passed(model, data, **how, fingerprint=teacher, progress=told)

        def work() -> None:
            nonlocal resumed
            unfinished = secateur_store.root / study.name / ".teacher_logits" / made_of[:16]
            places = block_places(unfinished, len(data), BLOCK)
            resumed = block_by_block(places, blocks, save_logits)
            with secateur_store.folder(key) as folder:
                write_logits(folder, places, data)
            shutil.rmtree(unfinished.parent)
            secateur_store.save(costs, vars(Cost(len(data), seconds=time.perf_counter() - started)))

        Ledger(secateur_store).once(key, None, made_of, work, beside=[costs])
        return dg.MaterializeResult(
            metadata={
                "path": dg.MetadataValue.path(place.resolve()),
                "dagster/row_count": len(data),
                "classes": what,
                "augmentation": "none",
                "teacher": teacher,
                "blocks resumed": resumed,
                "bytes": sum(path.stat().st_size for path in place.iterdir()),
                "seconds": rounded(secateur_store.load(costs)["seconds"]),
            }
        )

    return teacher_logits


def cached_of(study: Study) -> str:
    """Readable content of a sample's cached logits."""
    top_k = asked(study).top_k
    if not study.task.own and study.task.declared.taught_by_token:
        return f"of each completion token the highest {top_k or TOP_K} tokens and the mass of the rest"
    return f"the highest {top_k} classes and the mass of the rest" if top_k else "all classes"


def write_logits(folder: Path, places: Sequence[Path], data: Data) -> None:
    """Write all blocks as one cache; for completions, with the start of each sample's tokens."""
    starts = starts_of(data) if data.task.taught_by_token else None
    write(folder, map(TeacherLogits.load, places), len(data) if starts is None else int(starts[-1]))
    if starts is not None:
        np.save(folder / STARTS, starts)


def save_logits(place: Path, block: TeacherLogits) -> None:
    """Write the logits of a block atomically."""
    with new_folder(place, overwrite=True) as folder:
        block.save(folder)


def distillation_tuning_asset(study: Study) -> dg.AssetsDefinition:
    """Temperature and curve, tuned on held-out training samples."""
    key, settings = key_of(study, "distillation_tuning"), asked(study)

    @study_asset(
        study,
        "distillation_tuning",
        ins=PLAIN,
        description="The teacher's weight at each budget, and its temperature: those with the best mean metric of "
        "random subsets on a validation split of the training samples. Test samples are never used.",
        accelerated=True,
    )
    def distillation_tuning(
        context: dg.AssetExecutionContext,
        secateur_store: dg.ResourceParam[Store],
        secateur_progress: dg.ResourceParam[ProgressDisplay],
        **loaded: Any,
    ) -> dg.MaterializeResult:
        costs, metric = key_of(study, "distillation_tuning_cost"), metrics_of(study, loaded["source"])[0]
        made_of = digest_of(
            distillation=settings.model_dump(mode="json"),
            training=study.training.model_dump(mode="json", exclude={"loading", "workers"}),
            validation=study.validation.model_dump(mode="json"),
            keep=study.keep,
            metric=metric.name,
            **data_parts(study, loaded["source"], settings, study.training),
        )

        def draw(rows: np.ndarray, budget: int, seed: int) -> Any:
            return uniform_random(rows, budget, seed=seed)

        def work() -> None:
            tuned = tune_distillation(
                data_of(*(loaded[name] for name in PLAIN)),
                study.training,
                settings,
                draw,
                keep=study.keep,
                fraction=study.validation.fraction,
                seeds=study.validation.seeds,
                metric=metric,
                progress=secateur_progress.start(context, "tuning distillation"),
            )
            best = {
                "settings": {"temperature": tuned.settings.temperature, "curve": tuned.settings.curve, "tune": False},
                "validation": [
                    {"keep": share, "alpha": alpha, "temperature": heat, "mean": mean}
                    for (share, alpha, heat), mean in tuned.results.items()
                ],
            }
            secateur_store.save(key, best)
            secateur_store.save(costs, vars(tuned.cost))

        best = Ledger(secateur_store).once(key, None, made_of, work, beside=[costs])
        chosen = {"chosen": dg.MetadataValue.json(best)}
        return dg.MaterializeResult(value=best, metadata=chosen | tidy(secateur_store.load(costs)))

    return distillation_tuning
