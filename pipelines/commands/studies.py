"""Commands about studies: `studies`, `ui`, `run`, also named `prune`, and its parts `score` and `select`."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from secateur.pipelines.commands.shell import (
    AsJson,
    StudyName,
    find_samples_study,
    find_study,
    out,
    say,
    say_findings,
    table_of,
    tell,
)
from secateur.pipelines.commands.trials import Again, Keeps, Seeds, Selections, bars, trials_of
from secateur.pipelines.storage.home import marked_home

if TYPE_CHECKING:
    from secateur.pipelines.materialise import Made, Part
    from secateur.pipelines.storage.store import Store
    from secateur.pipelines.studies.files import StudyFile
    from secateur.pipelines.studies.grid import Trial
    from secateur.pipelines.studies.study import AnyStudy


def studies(as_json: AsJson = False) -> None:
    """List the studies that ship and your own (folder `studies`, or SECATEUR_STUDIES)."""
    from secateur.pipelines.studies.files import read_studies, study_folders

    files = read_studies(study_folders())

    def show() -> None:
        lines: list[tuple[object, ...]] = []
        for file in files:
            if study := file.study:
                arms = ", ".join([*study.arms, *study.unbudgeted])
                budgets = ", ".join(str(keep) for keep in study.keep)
                lines.append((file.name, study.unit, arms, budgets, study.seeds))
            else:
                lines.append((file.name, "", f"broken: {file.error}", "", ""))
        out.print(table_of(("study", "unit", "selections", "budgets", "seeds"), lines, right=(4,)))
        for folder in sorted({file.path.parent for file in files}):
            say(f"in {folder}: {', '.join(file.name for file in files if file.path.parent == folder)}")

    tell({"studies": [described(file) for file in files]}, as_json, show)


def described(file: "StudyFile") -> dict[str, Any]:
    """A study file as JSON-able data."""
    from secateur.pipelines.studies.samples import Study

    answer: dict[str, Any] = {"name": file.name, "file": str(file.path), "error": file.error or None}
    if (study := file.study) is None:
        return answer | {"kind": "broken"}
    own = isinstance(study, Study) and study.task.own  # whose module would have to be imported to ask it
    return answer | {
        "kind": study.kind,
        "description": study.description,
        "unit": study.unit,
        "metric": "its task's" if own else study.metric.name,
        "selections": [*study.arms, *study.unbudgeted],
        "references": list(study.references),
        "baseline": study.baseline,
        "keep": list(study.keep),
        "seeds": study.seeds,
    }


def ui(port: Annotated[int, typer.Option(help="Port of the web page.", min=1, max=65535)] = 3000) -> None:
    """Open the Dagster UI on every study, with what was run from the shell."""
    import os
    import sys

    from secateur.pipelines.materialise import instance_at, prepare_instance, set_pools

    with instance_at(marked_home()) as instance:
        set_pools(instance)
    os.environ["DAGSTER_HOME"] = str(prepare_instance(marked_home()))
    say(f"the UI will be at http://localhost:{port}; stop it with Ctrl-C")
    command = [sys.executable, "-m", "dagster", "dev", "-m", "secateur.pipelines.definitions", "-p", str(port)]
    os.execv(sys.executable, command)


def run(
    name: StudyName,
    selection: Selections = None,
    keep: Keeps = None,
    seed: Seeds = None,
    again: Again = False,
    as_json: AsJson = False,
) -> None:
    """Make a study of any kind, or a part of it, then print the comparison with random, or the outcomes of the part.

    What is fresh, made of the same settings and data as now, is not made again.
    """
    from secateur.pipelines.runs.findings import findings_of
    from secateur.pipelines.runs.outcomes import outcomes_at
    from secateur.pipelines.storage.store import Store

    (file, study), store = find_study(name), Store(marked_home() / "assets")
    trials = trials_of(study, selection, keep, seed)
    whole = len(trials) == len(list(study.trials))
    made = make(file, store, "everything", trials, again=again)
    outcomes = outcomes_at(store, study, trials)
    answer: dict[str, Any] = {"study": file.name, "kind": study.kind, "findings": findings_of(store, study)}
    answer["trials"] = [
        {"selection": trial.selection, "seed": trial.seed}
        | outcome.model_dump(mode="json", include={"metrics", "kept", "of", "steps", "seconds"})
        | {"manifest": manifest_at(store, study, trial)}
        for trial, outcome in outcomes.items()
    ]
    answer |= report_of(store, study) if whole else {"report": None, "report_file": None}
    space = str(store.find((study.name, "pruned_search_space")) or "") if whole else ""
    answer["manifest"] = first_manifest(store, study, trials) or space or None
    answer["best"] = best_of(store, study) if whole else None

    def show() -> None:
        say_findings(answer["findings"])
        if whole:
            show_report(answer)
        else:
            show_trials(study, answer["trials"])
        if best := answer["best"]:
            choices = ", ".join(f"{position} {choice}" for position, choice in best["choices"].items())
            say(f"best      {choices} (evaluation {best['found_at']} of {best['evaluations']})")
        for name in ("manifest", "report_file"):
            if answer[name]:
                say(f"{name.partition('_')[0]:<10}{answer[name]}")
        say(in_words(made))

    tell({**answer, **vars(made)}, as_json, show)


def score(name: StudyName, again: Again = False, as_json: AsJson = False) -> None:
    """Score every sample by every score of a study of samples; what is fresh is not made again."""
    from secateur.pipelines.runs.findings import findings_of
    from secateur.pipelines.storage.store import Store

    (file, study), store = find_samples_study(name), Store(marked_home() / "assets")
    made = make(file, store, "scores", again=again)
    scores: list[dict[str, Any]] = []
    for score, declared in study.scores.items():
        key = (study.name, "scores", score)
        values = store.load(key)
        wide = values[:].astype("float64")
        numbers = {"min": wide.min(), "mean": wide.mean(), "max": wide.max()}
        scores.append(
            {"score": score, "high_means": declared.declared.card.high_means}
            | {what: float(number) for what, number in numbers.items()}
            | {"samples": len(wide), "path": str(store.find(key))}
        )

    findings = findings_of(store, study)

    def show() -> None:
        say_findings(findings)
        names = ("min", "mean", "max")
        lines = [(one["score"], *(f"{one[k]:.4g}" for k in names), one["high_means"]) for one in scores]
        out.print(table_of(("score", *names, "high means"), lines, right=(1, 2, 3)))
        say(f"{scores[0]['samples']:,} samples, {in_words(made)}; files in {Path(scores[0]['path']).parent}")

    tell({"study": file.name, "findings": findings, "scores": scores, **vars(made)}, as_json, show)


def select(
    name: StudyName,
    selection: Selections = None,
    keep: Keeps = None,
    seed: Seeds = None,
    again: Again = False,
    as_json: AsJson = False,
) -> None:
    """Choose the samples to keep, score first where that is needed, and write a manifest of each selection."""
    from secateur.pipelines.manifests.manifest import Manifest
    from secateur.pipelines.runs.findings import findings_of
    from secateur.pipelines.storage.store import Store

    (file, study), store = find_samples_study(name), Store(marked_home() / "assets")
    trials = trials_of(study, selection, keep, seed)
    made = make(file, store, "subsets", trials, again=again)
    subsets: list[dict[str, Any]] = []
    for trial in trials:
        path = manifest_at(store, study, trial)
        if path is None:  # an in-training selection keeps other samples in every epoch
            continue
        declared = Manifest.load(Path(path), verify=False).declaration
        shares = [counted.after / counted.before for counted in declared.payload.classes if counted.before]
        subsets.append(
            {"selection": trial.selection, "seed": trial.seed, "kept": declared.count, "of": declared.of}
            | {"least_of_a_class": min(shares), "most_of_a_class": max(shares), "manifest": path}
        )

    findings = findings_of(store, study)

    def show() -> None:
        say_findings(findings)
        ends = ("least_of_a_class", "most_of_a_class")
        lines = [
            (*(one[name] for name in ("selection", "seed", "kept", "of")), *(f"{one[name]:.1%}" for name in ends))
            for one in subsets
        ]
        header = ("selection", "seed", "kept", "of", "least of a stratum", "most")
        out.print(table_of(header, lines, right=range(1, 6)))
        say(f"{in_words(made)}; manifests in {store.root / study.name / 'manifest'}/SELECTION/SEED")

    tell({"study": file.name, "findings": findings, "subsets": subsets, **vars(made)}, as_json, show)


def make(
    file: "StudyFile", store: "Store", part: "Part", trials: "list[Trial] | None" = None, *, again: bool
) -> "Made":
    """Make a part of a study with bars to look at."""
    from secateur.pipelines.materialise import instance_at, run_study

    with instance_at(marked_home()) as instance, bars() as progress:
        return run_study(file, store.root, instance, progress, part=part, trials=trials, again=again)


def in_words(made: "Made") -> str:
    """How much was made."""
    if not made.made:
        return f"all {made.fresh} assets were fresh (--again makes them anew)"
    return f"{made.made} assets made, {made.fresh} were fresh"


def report_of(store: "Store", study: "AnyStudy") -> dict[str, Any]:
    """The comparison with random as JSON-able data, and where its page is."""
    folder = store.load((study.name, "report"))
    report = json.loads((folder / "report.json").read_text())
    return {"report": report, "report_file": str(folder / "report.html")}


def manifest_at(store: "Store", study: "AnyStudy", trial: "Trial") -> str | None:
    """Where the manifest of a trial is, if it has one."""
    path = store.find((study.name, "manifest"), trial)
    return str(path) if path else None


def first_manifest(store: "Store", study: "AnyStudy", trials: "list[Trial]") -> str | None:
    """A manifest to begin with: of the study's own selections before those of references and baselines."""
    last = {*study.references, study.baseline, study.second_baseline}
    ordered = sorted(trials, key=lambda trial: trial.name in last)
    return next((path for trial in ordered if (path := manifest_at(store, study, trial))), None)


def best_of(store: "Store", study: "AnyStudy") -> dict[str, Any] | None:
    """The best architecture of a search; None where other units are pruned."""
    key = (study.name, "best_architecture")
    best: dict[str, Any] | None = store.load(key) if store.find(key) else None
    return best


def show_report(answer: dict[str, Any]) -> None:
    """The comparison as a table and its verdict."""
    from secateur.pipelines.pages.tables import terminal_table

    header, *lines = terminal_table(answer["report"])
    out.print(table_of(header, lines, right=(1, 2)))
    say(answer["report"]["verdict"], style="bold")


def show_trials(study: "AnyStudy", trials: list[dict[str, Any]]) -> None:
    """The outcomes of a part of a study as a table."""
    from secateur.pipelines.pages.words import number

    metric = study.metric
    lines: list[tuple[object, ...]] = []
    for one in trials:
        kept = "all" if one["kept"] is None else f"{one['kept']:,} of {one['of']:,}"
        value = number(one["metrics"][metric.name], metric)
        lines.append((one["selection"], one["seed"], kept, f"{one['seconds']:.1f}", value))
    out.print(table_of((study.arm, "seed", "kept", "seconds", metric.title), lines, right=range(1, 5)))
