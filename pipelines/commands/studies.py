"""Commands about studies: `studies`, `ui`, and `run`, also named `prune`, whose parts are `score` and `select`."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from secateur.pipelines.commands.choices import listed, show_chosen
from secateur.pipelines.commands.dry_run import forecast, show_forecast
from secateur.pipelines.commands.shell import (
    AsJson,
    StudyName,
    bar,
    caution,
    find_study,
    out,
    resumable,
    say,
    say_findings,
    table_of,
    tell,
)
from secateur.pipelines.commands.shown_outcomes import show_report, show_trials
from secateur.pipelines.commands.trials import Again, Keeps, Seeds, Selections, Wait, WithoutSamples, bars, trials_of
from secateur.pipelines.storage.home import marked_home

if TYPE_CHECKING:
    from secateur.pipelines.materialise import Made, Part
    from secateur.pipelines.storage.store import Store
    from secateur.pipelines.studies.files import StudyFile
    from secateur.pipelines.studies.grid import Trial
    from secateur.pipelines.studies.study import AnyStudy
    from secateur.trainers.judging.outcome import Outcome


def studies(as_json: AsJson = False) -> None:
    """List your own studies (folder `studies`, or SECATEUR_STUDIES), and the examples that ship."""
    from secateur.pipelines.studies.folders import files_in, own_folder

    own: list[dict[str, Any]] = []
    if files_in(own_folder()):
        from secateur.pipelines.studies.files import own_studies

        own = [described(file) for file in own_studies()]
    shipped = listed_examples({one["name"] for one in own})

    def show() -> None:
        if own:
            head = ("study", "unit", "selections", "budgets", "seeds", "trials")
            out.print(table_of(head, map(line_of, own), right=(4, 5)))
        else:
            say(f"no study of yours is in {own_folder()}: secateur init DATA writes one")
        for one in own:
            if one["error"]:
                say(f"{one['name']} is broken: {one['error']}", style="yellow")
        say("")
        lines = ((one["name"], one["unit"], one["description"]) for one in shipped)
        out.print(table_of(("example", "unit", "shows"), lines))
        say("secateur run NAME runs one of either; secateur init --example NAME copies an example, to change it")

    tell({"studies": [*own, *shipped]}, as_json, show)


def line_of(one: dict[str, Any]) -> tuple[object, ...]:
    """A study's line in the table."""
    if one["error"]:
        return (one["name"], "", "broken, see below", "", "", "")
    budgets = ", ".join(str(keep) for keep in one["keep"])
    return (one["name"], one["unit"], ", ".join(one["selections"]), budgets, one["seeds"], one["trials"])


def listed_examples(own: set[str]) -> list[dict[str, Any]]:
    """`described` for each study that ships, except those with the name of an own one.

    docs/reference_pages.py stores the list, as reading and checking all of them takes a second.
    """
    from secateur.pipelines.studies.folders import LISTING, shipped_files

    listed, files = json.loads(LISTING.read_text(encoding="utf-8")), shipped_files()
    return [{"name": one["name"], "file": str(files[one["name"]])} | one for one in listed if one["name"] not in own]


def described(file: "StudyFile") -> dict[str, Any]:
    """A study file as JSON-able data."""
    from secateur.pipelines.pages.stages import first_stage
    from secateur.pipelines.studies.samples import Study

    answer: dict[str, Any] = {"name": file.name, "file": str(file.path), "error": file.error or None}
    if (study := file.study) is None:
        return answer | {"kind": "broken"}
    decides = study.metric or "by its data"
    if isinstance(study, Study) and study.task.own:  # asking it would import its module
        decides = study.metric or "its task's"
    elif study.metric is None and not (isinstance(study, Study) and study.task.kind == "classification"):
        decides = study.metrics[0].name if study.metrics else "none, nothing is trained"
    return answer | {
        "kind": study.kind,
        "description": study.description,
        "unit": study.unit,
        "metric": decides,
        "selections": [*study.arms, *study.unbudgeted],
        "references": list(study.references),
        "baseline": study.baseline,
        "keep": list(study.keep),
        "seeds": study.seeds,
        "compare_at": list(study.lengths) if isinstance(study, Study) else None,
        "trials": len(first_stage(study)),
    }


def ui(
    port: Annotated[int, typer.Option(help="Port of the web page.", min=1, max=65535)] = 3000,
    examples: Annotated[bool, typer.Option("--examples", help="Show the studies that ship, too.")] = False,
) -> None:
    """Open the Dagster UI on your studies, with the results of the shell.

    Of the studies that ship it shows those that ran here, or all with --examples.
    """
    import os
    import sys

    from secateur.pipelines.materialise import instance_at, prepare_instance, set_pools
    from secateur.pipelines.pages.served import start_beside
    from secateur.pipelines.storage.home import ASSETS

    with instance_at(marked_home(), caution) as instance:
        set_pools(instance)
    os.environ["DAGSTER_HOME"] = str(prepare_instance(marked_home()))
    start_beside(marked_home() / ASSETS)
    if examples:
        os.environ["SECATEUR_EXAMPLES"] = "1"
    ignored = [os.environ.get("PYTHONWARNINGS", ""), "ignore:Function `dev_command` is superseded"]
    os.environ["PYTHONWARNINGS"] = ",".join(filter(None, ignored))
    say(f"the UI will be at http://localhost:{port}; stop it with Ctrl-C")
    command = [sys.executable, "-m", "dagster", "dev", "-m", "secateur.pipelines.definitions", "-p", str(port)]
    os.execv(sys.executable, command)


def run(
    name: StudyName,
    selection: Selections = None,
    keep: Keeps = None,
    seed: Seeds = None,
    again: Again = False,
    wait: Wait = False,
    without_samples: WithoutSamples = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the number of trainings, their time and memory; make nothing.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Make a study of any kind, or a part of it, then print the comparison with random, or the outcomes of the part.

    Fresh results, from the current settings and data, are not made again.
    """
    from secateur.pipelines.pages.stages import first_stage
    from secateur.pipelines.storage.store import Store

    (file, study), store = find_study(name), Store(marked_home() / "assets")
    if without_samples and "report_samples" in type(study).model_fields:
        study = study.model_copy(update={"report_samples": False})
        file = replace(file, study=study)
    trials = trials_of(study, selection, keep, seed)
    whole = len(trials) == len(list(study.trials))
    if dry_run:
        with bar("reading stored results"):
            now = first_stage(study) if whole else trials
            later = [trial for trial in trials if trial not in set(now)]
            foreseen = forecast(file, store, now, later, again=again)
        tell(foreseen, as_json, lambda: show_forecast(foreseen))
        return
    run_now(file, study, store, None if whole else trials, again=again, wait=wait, as_json=as_json)


@resumable()
def run_now(
    file: "StudyFile",
    study: "AnyStudy",
    store: "Store",
    part: "list[Trial] | None",
    *,
    again: bool,
    wait: bool,
    as_json: bool,
) -> None:
    """Make a study, or these trials of it, and print its outcomes."""
    from secateur.pipelines.runs.deciding import deciding_in
    from secateur.pipelines.runs.outcomes import outcomes_at

    made, whole = make(file, store, "everything", part, again=again, wait=wait), part is None
    trials = made.trials
    outcomes = outcomes_at(store, study, trials)
    answer = answer_of(file.name, store, study, outcomes, trials, whole=whole)

    def show() -> None:
        say_findings(answer["findings"])
        if not study.outcome_asset:
            show_chosen(answer)
        elif whole:
            show_report(answer)
        else:
            show_trials(study, answer["trials"], deciding_in(store, study))
        if best := answer["best"]:
            choices = ", ".join(f"{position} {choice}" for position, choice in best["choices"].items())
            say(f"best      {choices} (evaluation {best['found_at']} of {best['evaluations']})")
        for name in ("manifest", "report_file"):
            if answer[name]:
                say(f"{name.partition('_')[0]:<10}{answer[name]}")
        if answer["manifest"] and answer["report"] and not answer["report"].get("recommendation"):
            say("          The report recommends no selection; this manifest is of the first one.")
        say(in_words(made))

    tell({**answer, **made.counts()}, as_json, show)


def answer_of(
    name: str,
    store: "Store",
    study: "AnyStudy",
    outcomes: Mapping["Trial", "Outcome"],
    trials: Sequence["Trial"],
    *,
    whole: bool,
) -> dict[str, Any]:
    """The JSON that `run` prints for a study, or for these trials of it: findings, outcomes, report and manifest."""
    from secateur.pipelines.runs.by_class import by_class_in
    from secateur.pipelines.runs.deciding import deciding_in
    from secateur.pipelines.runs.findings import findings_of, values_by_selection
    from secateur.pipelines.runs.yardstick import beside_in

    known = beside_in(store, study, outcomes)
    name = deciding_in(store, study).name if outcomes else ""
    values = values_by_selection({trial: outcome.metrics.get(name) for trial, outcome in outcomes.items()})
    findings = findings_of(store, study, by_class_in(store, study, outcomes), known, values)
    answer: dict[str, Any] = {"study": name, "kind": study.kind, "findings": findings}
    answer["trials"] = [
        {"selection": trial.selection, "seed": trial.seed}
        | outcome.model_dump(mode="json", include={"metrics", "kept", "of", "steps", "seconds"})
        | {"manifest": manifest_at(store, study, trial)}
        for trial, outcome in outcomes.items()
    ] or listed(store, study, trials)
    answer |= report_of(store, study) if whole else {"report": None, "report_file": None}
    space = str(store.find((study.name, "pruned_search_space")) or "") if whole else ""
    answer["manifest"] = first_manifest(store, study, list(trials), answer["report"]) or space or None
    answer["best"] = best_of(store, study) if whole else None
    return answer


def make(
    file: "StudyFile",
    store: "Store",
    part: "Part",
    trials: "list[Trial] | None" = None,
    *,
    again: bool,
    wait: bool,
) -> "Made":
    """Make a part of a study with progress bars."""
    from secateur.pipelines.files.locks import Held

    def waits(text: str) -> None:
        caution(f"{text}; this command waits for its end")

    told = waits if wait else None
    with bars() as progress:
        from secateur.pipelines.materialise import instance_at, run_study

        how: dict[str, Any] = {"part": part, "trials": trials, "again": again, "waits": told, "told": caution}
        with instance_at(marked_home(), caution) as instance:
            try:
                return run_study(file, store.root, instance, progress, **how)
            except Held as error:
                raise Held(f"{error}: let it end, or add --wait to wait for it") from error


def in_words(made: "Made") -> str:
    """The number of results that were made."""
    if not made.made:
        return f"all {made.fresh} assets were fresh (--again makes them anew)"
    return f"{made.made} assets made, {made.fresh} were fresh"


def report_of(store: "Store", study: "AnyStudy") -> dict[str, Any]:
    """The comparison with random as JSON-able data, and the path of its page."""
    folder = store.load((study.name, "report"))
    report = json.loads((folder / "report.json").read_text())
    return {"report": report, "report_file": str(folder / "report.html")}


def manifest_at(store: "Store", study: "AnyStudy", trial: "Trial") -> str | None:
    """The path of a trial's manifest, if it has one."""
    path = store.find((study.name, study.manifests_of(trial)), trial)
    return str(path) if path else None


def first_manifest(
    store: "Store", study: "AnyStudy", trials: "list[Trial]", report: dict[str, Any] | None
) -> str | None:
    """The manifest of the recommended trial, if it has one; without a recommendation one of the study's own selections,
    before those of references and baselines.
    """
    last = {*study.references, study.baseline, study.second_baseline}
    ordered = sorted(trials, key=lambda trial: trial.name in last)
    if chosen := (report or {}).get("recommendation"):
        ordered = [trial for trial in ordered if trial.selection == chosen["selection"]]
    return next((path for trial in ordered if (path := manifest_at(store, study, trial))), None)


def best_of(store: "Store", study: "AnyStudy") -> dict[str, Any] | None:
    """The best architecture of a search; None where other units are pruned."""
    key = (study.name, "best_architecture")
    best: dict[str, Any] | None = store.load(key) if store.find(key) else None
    return best
