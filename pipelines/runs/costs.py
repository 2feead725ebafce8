"""Cost of a selection: its training, and everything that it depends on.

Assets save their `Cost` beside their values, as `<asset>_cost`. A trial bears the whole cost of its inputs, as if it
were the only one: even a single trial needs the whole proxy. Random subsets depend on nothing.
"""

from collections.abc import Iterable
from typing import Any

from secateur.pipelines.runs.choosing import signals_read
from secateur.pipelines.storage.store import Store
from secateur.pipelines.studies.grid import Trial, tuned_as
from secateur.pipelines.studies.samples import Study
from secateur.pipelines.studies.signals import PARTS, SIGNALS
from secateur.scorers.checkpoints.contract import CheckpointScorer
from secateur.scorers.contract import Scorer
from secateur.trainers.judging.outcome import Cost, Outcome


def total(costs: Iterable[Cost]) -> Cost:
    """Sum of costs."""
    return sum(costs, Cost())


def parts_of(study: Study, signals: Iterable[str]) -> dict[str, list[tuple[str, ...]]]:
    """Keys, below the study, of the costs of some scores and signals, by part."""
    keys: dict[str, list[tuple[str, ...]]] = {}
    waiting, known = sorted(signals), set(signals)
    while waiting:
        name = waiting.pop()
        part, key, reads = spent_on(study, name)
        if key and key not in keys.setdefault(part, []):
            keys[part].append(key)
        waiting += sorted(set(reads) - known)
        known |= set(reads)
    return keys


def spent_on(study: Study, name: str) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
    """Part, key of the cost, and inputs of one score, signal or model; an empty key where it costs nothing."""
    if name in study.own_scores:
        return "scoring", (), ()
    if name in study.computed:
        declared = study.computed[name].declared
        if isinstance(declared, Scorer):
            return "scoring", ("scores_cost", name), declared.signals
        if isinstance(declared, CheckpointScorer):
            return "scoring", ("scoring_pass_cost",), ("proxy",)
        return "scoring", (), ("proxy",)
    if name == "proxy":
        return "proxy", ("proxy_cost",), ()
    signal = SIGNALS[study.asset_of(name)]
    if name == "embeddings" and study.own_vectors:
        return signal.part, (), ()
    reads = () if name == "embeddings" and study.embedded_by != "proxy" else signal.reads
    reads = tuple(study.of_embeddings) if name == "target_places" else reads
    return signal.part, (signal.cost,) if signal.cost else (), reads


def costs_of(study: Study, trial: Trial, store: Store, trained: Outcome) -> dict[str, Cost]:
    """Costs of a trial, by part; `trained` is the outcome of its training."""
    spent = dict(trained.compute)
    selection = study.selections.get(trial.plain.name)
    if selection:
        # Keeping every sample reads no scores.
        whole = not selection.in_training and trained.kept == trained.of
        for part, keys in ({} if whole else parts_of(study, signals_read(selection))).items():
            if keys:
                spent[part] = total(saved(study, store, key) for key in keys)
        spent["choosing"] = saved(study, store, ("subset_cost",), trial)
        tuning = (study.name, "tuning_cost")
        known, key = store.load(tuning) if store.find(tuning) else {}, tuned_as(trial.plain.selection, study.between)
        if tuned := known.get(key):
            spent["tuning"] = Cost(**tuned)
    if trial.distilled:
        names = ("teacher_cost", "teacher_logits_cost", "distillation_tuning_cost")
        spent["teacher"] = total(saved(study, store, (name,)) for name in names)
    return {part: cost for part in PARTS if (cost := spent.get(part, Cost())) != Cost()}


def saved(study: Study, store: Store, key: tuple[str, ...], trial: Trial | None = None) -> Cost:
    """Cost of an asset; zero where it does not belong to this study."""
    place = (study.name, *key)
    spent = store.load(place, trial) if store.find(place, trial) else {}
    return Cost(**{name: number for name, number in spent.items() if name != "model"})


def save_pass_cost(store: Store, study: str, model: str, seconds: float, forwarded: int) -> None:
    """Add the cost of a scoring pass to that of earlier ones with the same model, whose rows cost nothing now."""
    place = (study, "scoring_pass_cost")
    before: dict[str, Any] = dict(store.load(place)) if store.find(place) and not store.faults(place) else {}
    if before.pop("model", None) != model:
        before = {}
    elif not forwarded:
        return
    store.save(place, {"model": model, **vars(Cost(**before) + Cost(forwarded, seconds=seconds))})
