"""The command `secateur score`: of a study, or of a file of data."""

from pathlib import Path
from typing import Annotated, Any

import typer

from secateur.pipelines.commands import score_data as data
from secateur.pipelines.commands.select import is_data, refuse, refuse_said
from secateur.pipelines.commands.select_data import DATA, Overwrite
from secateur.pipelines.commands.shell import AsJson, find_samples_study, resumable, say, say_findings, tell
from secateur.pipelines.commands.studies import in_words, make
from secateur.pipelines.commands.trials import Again, Wait
from secateur.pipelines.storage.home import marked_home

What = Annotated[
    str,
    typer.Argument(
        metavar="STUDY|DATA",
        help="A study's name or YAML file; or a CSV, JSON-lines or Parquet file, a folder of them or of pictures.",
        show_default=False,
    ),
]


def score(
    context: typer.Context,
    name: What,
    again: Again = False,
    wait: Wait = False,
    label: data.Label = None,
    text: data.TextColumn = None,
    image: data.Image = None,
    features: data.Features = None,
    scores: data.Scores = None,
    settings: data.Set = None,
    model: data.Model = None,
    epochs: data.Epochs = None,
    seed: data.Seed = 0,
    task: data.Task = None,
    key: data.Key = None,
    to: data.To = None,
    file: data.Out = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Score every sample: of a study by all of its scores, or of a file of data by a small model that is trained on it.

    An argument that is a path of data names data; any other name, or a YAML file, names a study. For a study, fresh
    scores are not computed again. For data, the command writes a table of scores, a line for each row, and guesses
    columns, task and model that you do not name.
    """
    if is_data(name):
        refuse(name, "a study", {"--again": again, "--wait": wait})
        wish: dict[str, Any] = {"text": text, "image": image, "task": task, "model": model, "epochs": epochs}
        wish |= {"labels": tuple(label or ()), "features": tuple(features or ())}
        output = data.Output(name, file, to, overwrite=overwrite)
        data.score_data(output, wish, scores or [], settings or [], seed, key or [], as_json=as_json)
        return
    refuse_said(context, name, DATA)
    score_study(name, again=again, wait=wait, as_json=as_json)


@resumable()
def score_study(name: str, *, again: bool, wait: bool, as_json: bool) -> None:
    """Score every sample by every score of a study of samples, except those that are fresh."""
    from secateur.pipelines.runs.findings import findings_of
    from secateur.pipelines.runs.yardstick import beside_in
    from secateur.pipelines.storage.store import Store
    from secateur.pipelines.studies.scores import card_of

    (file, study), store = find_samples_study(name), Store(marked_home() / "assets")
    if not study.scores:
        raise ValueError(f"study {study.name} has no scores: add some under scores, or secateur select {study.name}")
    made = make(file, store, "scores", again=again, wait=wait)
    scores: list[dict[str, Any]] = []
    for score, declared in study.scores.items():
        key = (study.name, "scores", score)
        values = store.load(key)
        wide = values[:].astype("float64")
        numbers = {"min": wide.min(), "mean": wide.mean(), "max": wide.max()}
        scores.append(
            {"score": score, "high_means": card_of(score, declared).high_means}
            | {what: float(number) for what, number in numbers.items()}
            | {"samples": len(wide), "path": str(store.find(key))}
        )

    findings = findings_of(store, study, known=beside_in(store, study, {}))

    def show() -> None:
        say_findings(findings)
        data.print_scores(scores)
        say(f"{scores[0]['samples']:,} samples, {in_words(made)}; files in {Path(scores[0]['path']).parent}")

    tell({"study": file.name, "findings": findings, "scores": scores, **made.counts()}, as_json, show)
