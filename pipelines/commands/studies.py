"""Commands about studies: `studies`, `ui`, `run`, and its parts `score`, `select` and `train`."""

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
    table_of,
    tell,
)
from secateur.pipelines.commands.trials import Again, Keeps, Seeds, Selections, bars, trials_of
from secateur.pipelines.storage.home import home

if TYPE_CHECKING:
    from secateur.pipelines.materialise import Made, Stage
    from secateur.pipelines.storage.store import Store
    from secateur.pipelines.studies.files import StudyFile
    from secateur.pipelines.studies.grid import Trial


def studies(as_json: AsJson = False) -> None:
    """List the studies that ship and your own (folder `studies`, or SECATEUR_STUDIES)."""
    from secateur.pipelines.studies.files import read_studies, study_folders

    files = read_studies(study_folders())

    def show() -> None:
        lines: list[tuple[object, ...]] = []
        for file in files:
            if file.study:
                budgets = ", ".join(str(keep) for keep in file.study.keep)
                lines.append((file.name, ", ".join(file.study.selections), budgets, file.study.seeds))
            elif file.pruning:
                budgets = ", ".join(f"{keep:g}" for keep in file.pruning.keep)
                lines.append((file.name, ", ".join(file.pruning.arm_names), budgets, file.pruning.seeds))
            elif file.search:
                budget = f"{file.search.search.budget} evaluations"
                lines.append((file.name, "search of architectures", budget, file.search.seeds))
            else:
                lines.append((file.name, f"broken: {file.error}", "", ""))
        out.print(table_of(("study", "selections", "budgets", "seeds"), lines, right=(3,)))
        for folder in sorted({file.path.parent for file in files}):
            say(f"in {folder}: {', '.join(file.name for file in files if file.path.parent == folder)}")

    tell({"studies": [described(file) for file in files]}, as_json, show)


def described(file: "StudyFile") -> dict[str, Any]:
    """A study file as JSON-able data."""
    answer: dict[str, Any] = {"name": file.name, "file": str(file.path), "error": file.error or None}
    if file.study:
        answer |= {"kind": "study", "selections": list(file.study.selections), "keep": file.study.keep}
        return answer | {"seeds": file.study.seeds, "scores": list(file.study.scores)}
    if file.pruning:
        answer |= {"kind": "pruning", "experiment": file.pruning.experiment, "arms": file.pruning.arm_names}
        return answer | {"keep": file.pruning.keep, "seeds": file.pruning.seeds}
    return answer | ({"kind": "search", "seeds": file.search.seeds} if file.search else {"kind": "broken"})


def ui(port: Annotated[int, typer.Option(help="Port of the web page.", min=1, max=65535)] = 3000) -> None:
    """Open the Dagster UI on every study, with what was run from the shell."""
    import os
    import sys

    from secateur.pipelines.materialise import instance_at, prepare_instance, set_pools

    with instance_at(home()) as instance:
        set_pools(instance)
    os.environ["DAGSTER_HOME"] = str(prepare_instance(home()))
    say(f"the UI will be at http://localhost:{port}; stop it with Ctrl-C")
    command = [sys.executable, "-m", "dagster", "dev", "-m", "secateur.pipelines.definitions", "-p", str(port)]
    os.execv(sys.executable, command)


def run(study: StudyName, as_json: AsJson = False) -> None:
    """Make everything of a study anew, then print the comparison with random."""
    from secateur.pipelines.materialise import instance_at, run_study
    from secateur.pipelines.storage.store import Store

    file, store = find_study(study), Store(home() / "assets")
    with instance_at(home()) as instance, bars() as progress:
        run_study(file, store.root, instance, progress)
    report = report_of(store, file)
    tell(report, as_json, lambda: show_report(report))


def score(study: StudyName, again: Again = False, as_json: AsJson = False) -> None:
    """Score every sample by every score of the study; what is fresh is not made again."""
    import dagster as dg

    from secateur.pipelines.storage.store import Store

    file, store = find_samples_study(study), Store(home() / "assets")
    made = materialised(file, store, "scores", again=again)
    assert file.study is not None
    found: list[dict[str, Any]] = []
    for name, declared in file.study.scores.items():
        key = dg.AssetKey([file.study.name, "scores", name])
        values = store.load(key)
        wide = values[:].astype("float64")
        numbers = {"min": wide.min(), "mean": wide.mean(), "max": wide.max()}
        found.append(
            {"score": name, "high_means": declared.declared.card.high_means}
            | {what: float(number) for what, number in numbers.items()}
            | {"samples": len(wide), "path": str(store.find(key))}
        )

    def show() -> None:
        lines = [(one["score"], *(f"{one[k]:.4g}" for k in ("min", "mean", "max")), one["high_means"]) for one in found]
        out.print(table_of(("score", "min", "mean", "max", "high means"), lines, right=(1, 2, 3)))
        say(f"{found[0]['samples']:,} samples, {told(made)}; files in {Path(found[0]['path']).parent}")

    tell({"study": file.name, "scores": found, **vars(made)}, as_json, show)


def select(
    study: StudyName,
    selection: Selections = None,
    keep: Keeps = None,
    seed: Seeds = None,
    again: Again = False,
    as_json: AsJson = False,
) -> None:
    """Choose what to keep, score first where that is needed, and write a manifest of each choice."""
    import dagster as dg

    from secateur.pipelines.manifests.manifest import Manifest
    from secateur.pipelines.storage.store import Store

    file, store = find_samples_study(study), Store(home() / "assets")
    assert file.study is not None
    trials = trials_of(file.study, selection, keep, seed)
    made = materialised(file, store, "subsets", trials, again=again)
    found: list[dict[str, Any]] = []
    for trial in trials:
        path = store.find(dg.AssetKey([file.study.name, "manifest"]), trial)
        if path is None:  # an in-training selection keeps other samples in every epoch
            continue
        declared = Manifest.load(path, verify=False).declaration
        shares = [counted.after / counted.before for counted in declared.payload.classes if counted.before]
        found.append(
            {"selection": trial.selection, "seed": trial.seed, "kept": declared.count, "of": declared.of}
            | {"least_of_a_class": min(shares), "most_of_a_class": max(shares), "manifest": str(path)}
        )

    def show() -> None:
        ends = ("least_of_a_class", "most_of_a_class")
        lines = [
            (*(one[name] for name in ("selection", "seed", "kept", "of")), *(f"{one[name]:.1%}" for name in ends))
            for one in found
        ]
        header = ("selection", "seed", "kept", "of", "least of a class", "most")
        out.print(table_of(header, lines, right=range(1, 6)))
        place = store.place(dg.AssetKey([file.name, "manifest"]))
        say(f"{told(made)}; manifests in {place}/SELECTION/SEED")

    tell({"study": file.name, "subsets": found, **vars(made)}, as_json, show)


def train(
    study: StudyName,
    selection: Selections = None,
    keep: Keeps = None,
    seed: Seeds = None,
    again: Again = False,
    as_json: AsJson = False,
) -> None:
    """Train and judge a model on what each selection keeps, score and select first where that is needed.

    With everything trained the comparison with random is made too.
    """
    import dagster as dg

    from secateur.pipelines.storage.store import Store

    file, store = find_samples_study(study), Store(home() / "assets")
    assert file.study is not None
    metric_of_study = file.study.task.metric
    trials = trials_of(file.study, selection, keep, seed)
    whole = len(trials) == len(list(file.study.trials))
    made = materialised(file, store, "everything" if whole else "models", trials, again=again)
    models = []
    for trial in trials:
        judged = store.load(dg.AssetKey([file.study.name, "evaluation"]), trial)
        numbers = judged["metrics"] | {name: judged[name] for name in ("kept", "steps", "seconds")}
        models.append({"selection": trial.selection, "seed": trial.seed} | numbers)
    report = report_of(store, file) if whole else {}

    def show() -> None:
        if whole:
            show_report(report)
        else:
            from secateur.pipelines.pages.words import number

            names, metric = ("selection", "seed", "kept", "steps"), metric_of_study
            lines = [
                (*(one[name] for name in names), f"{one['seconds']:.1f}", number(one[metric.name], metric))
                for one in models
            ]
            header = ("selection", "seed", "kept", "steps", "seconds", metric.title)
            out.print(table_of(header, lines, right=range(1, 6)))
        say(told(made))

    tell({"study": file.name, "models": models, **report, **vars(made)}, as_json, show)


def materialised(
    file: "StudyFile", store: "Store", part: "Stage", trials: "list[Trial] | None" = None, *, again: bool
) -> "Made":
    """Make a part of a study with bars to look at."""
    from secateur.pipelines.materialise import instance_at, materialise

    with instance_at(home()) as instance, bars() as progress:
        return materialise(file, store.root, instance, part, trials=trials, progress=progress, again=again)


def told(made: "Made") -> str:
    """How much was made, in words."""
    if not made.made:
        return f"all {made.fresh} assets were fresh (--again makes them anew)"
    return f"{made.made} assets made, {made.fresh} were fresh"


def report_of(store: "Store", file: "StudyFile") -> dict[str, Any]:
    """The comparison with random as JSON-able data, where it is and a manifest are, and a search's best network."""
    import dagster as dg

    folder = store.load(dg.AssetKey([file.name, "report"]))
    answer: dict[str, Any] = {"report": json.loads((folder / "report.json").read_text())}
    answer["report_file"] = str(folder / "report.html")
    answer["manifest"] = next((str(path) for path in manifests_of(store, file) if path.exists()), None)
    if file.search:
        answer["best"] = store.load(dg.AssetKey([file.name, "best_architecture"]))
    return answer


def manifests_of(store: "Store", file: "StudyFile") -> list[Path]:
    """Where manifests of a study are, those of its own selections before those of baselines."""
    import dagster as dg

    from secateur.pipelines.studies.samples import BASELINES

    if file.search:
        return [store.place(dg.AssetKey([file.name, "pruned_search_space"]))]
    study = file.study or file.pruning
    trials = sorted(study.trials if study else (), key=lambda trial: trial.name in ("full", "random", *BASELINES))
    return [store.place(dg.AssetKey([file.name, "manifest"]), trial) for trial in trials]


def show_report(answer: dict[str, Any]) -> None:
    """The comparison as a table, its verdict, then where manifest and report are."""
    from secateur.pipelines.pages.tables import terminal_table

    header, *lines = terminal_table(answer["report"])
    out.print(table_of(header, lines, right=(1, 2)))
    say(answer["report"]["verdict"], style="bold")
    if best := answer.get("best"):
        choices = ", ".join(f"{position} {choice}" for position, choice in best["choices"].items())
        say(f"best      {choices} (evaluation {best['found_at']} of {best['evaluations']})")
    if answer["manifest"]:
        say(f"manifest  {answer['manifest']}")
    say(f"report    {answer['report_file']}")
