"""`secateur audit STUDY`: the asset of a study, or a new audit of its rows beside benchmarks of the command."""

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from secateur.pipelines.commands.audit_files import caution_strange, finished, refuse, show
from secateur.pipelines.commands.select import refuse as refuse_option
from secateur.pipelines.commands.shell import READING, bar, find_samples_study, resumable, say, tell
from secateur.pipelines.commands.studies import make

if TYPE_CHECKING:
    from secateur.pipelines.audits.auditing import Audited
    from secateur.pipelines.audits.cleaned import Samples
    from secateur.pipelines.audits.contract import AuditRows
    from secateur.pipelines.audits.limits import Limit
    from secateur.pipelines.storage.store import Store
    from secateur.pipelines.studies.choice import Choice
    from secateur.pipelines.studies.samples import Study

BESIDE_STUDY = (
    "against", "exact", "seed", "page", "findings", "write", "marks", "without-samples", "overwrite",
)  # fmt: skip
"""Options of data that also apply to a study with benchmarks."""


@resumable()
def audit_of_study(
    name: str, limits: "dict[str, Limit]", options: dict[str, Any], *, again: bool, wait: bool, as_json: bool
) -> list[str]:
    """Audit a study, anew with benchmarks; returns exceeded limits. Raises ValueError for options of data alone."""
    against = bool(options["against"])
    able = BESIDE_STUDY if against else ("marks",)
    if not against and (alone := next((one for one in BESIDE_STUDY if options[one] and one not in able), None)):
        raise ValueError(f"--{alone}: a study has it with --against alone; its own audit is written into the home")
    refuse_option(name, "data", {f"--{one}": value for one, value in options.items() if one not in able})
    if not against:
        return audit_study(name, limits, options["marks"], again=again, wait=wait, as_json=as_json)
    if again:
        raise ValueError("--again: with --against the rows of a study are always audited anew: leave it out")
    return audit_against(name, limits, options, wait=wait, as_json=as_json)


def audit_study(
    name: str, limits: "dict[str, Limit]", marks: Path | None, *, again: bool, wait: bool, as_json: bool
) -> list[str]:
    """Make the audit of a study unless it is fresh, and show it; returns the limits that it exceeds."""
    import polars as pl

    from secateur.pipelines.audits.limits import exceeded, refuse_unmet
    from secateur.pipelines.audits.marking import precisions, read_marks
    from secateur.pipelines.pages.audit_folder import TABLE
    from secateur.pipelines.storage.home import ASSETS, marked_home
    from secateur.pipelines.storage.store import Store

    (file, study), store = find_samples_study(name), Store(marked_home() / ASSETS)
    known = None if marks is None else read_marks(marks)
    refuse_unmet(limits, parts_of(study), labelled=bool(study.columns and study.columns.labels))
    make(file, store, "audit", again=again or by_other_models(store, study), wait=wait)
    folder = store.load((study.name, "audit"))
    answer = json.loads((folder / "audit.json").read_text(encoding="utf-8"))
    over = exceeded(answer, limits)
    right, strange = ([], 0) if known is None else precisions(pl.read_parquet(folder / f"{TABLE}.parquet"), known)
    answer |= {"precision": [one.content() for one in right]}
    answer |= {"exceeded": over, "files": {"folder": str(folder), "page": str(folder / "audit.html")}}
    report = store.find((study.name, "report"))

    def told() -> None:
        show(answer)
        if report:
            say(f"secateur run {shlex.quote(name)} puts these findings into the report of the study")

    tell(answer, as_json, told)
    caution_strange(strange)
    return over


def parts_of(study: "Study | Choice") -> list[str]:
    """Names of the parts that an audit of a study compares."""
    from secateur.pipelines.studies.choice import Choice

    return ["train", *(["test"] if not isinstance(study, Choice) else []), *(["target"] if study.target else [])]


def by_other_models(store: "Store", study: "Study | Choice") -> bool:
    """Whether models of the study were trained since its audit, which would use them."""
    from secateur.pipelines.audits.study_models import identity_of
    from secateur.pipelines.studies.choice import Choice

    key = (study.name, "audit")
    if isinstance(study, Choice) or not store.holds(key):
        return False
    answer = json.loads((store.load(key) / "audit.json").read_text(encoding="utf-8"))
    return bool(answer.get("models") != identity_of(study, store))


def audit_against(
    name: str, limits: "dict[str, Limit]", asked: dict[str, Any], *, wait: bool, as_json: bool
) -> list[str]:
    """Audit the rows of a study anew beside the benchmarks in `asked`, and show the result; returns the limits that it
    exceeds. The study's own audit is not changed."""
    from secateur.pipelines.audits.limits import refuse_unmet
    from secateur.pipelines.audits.marking import read_marks
    from secateur.pipelines.audits.of_study import study_rows
    from secateur.pipelines.pages.audit_paths import paths_in
    from secateur.pipelines.storage.home import ASSETS, marked_home
    from secateur.pipelines.storage.store import Store

    (file, study), store = find_samples_study(name), Store(marked_home() / ASSETS)
    base, marks, against = file.path.parent, asked["marks"], asked["against"]
    known = None if marks is None else read_marks(marks)
    paths = {key: asked[key] for key in ("page", "findings", "write")}
    inputs = [file.path, store.root, *paths_in(against)]
    refuse(**paths, inputs=inputs, marks=marks, overwrite=asked["overwrite"])
    refuse_unmet(limits, [*parts_of(study), *against], labelled=bool(study.columns and study.columns.labels))
    with bar(READING):
        rows = study_rows(study, base, store.root / ".cache", against)
    make(file, store, "audit_inputs", again=False, wait=wait)
    found, samples = compared(study, store, rows, asked)
    return finished(found, limits, asked, known, as_json=as_json, samples=samples)


def compared(
    study: "Study | Choice", store: "Store", rows: "AuditRows", asked_for: dict[str, Any]
) -> "tuple[Audited, Samples]":
    """The audit of a study's rows by its models and embeddings, as in its asset, and its training samples."""
    from dataclasses import replace

    from secateur.pipelines.assets import choice, origin
    from secateur.pipelines.assets.audit import asked, samples_of
    from secateur.pipelines.audits.auditing import audited
    from secateur.pipelines.studies.choice import Choice

    rows, how, _ = asked(study, rows, store)
    how = replace(how, near=how.near and not asked_for["exact"], seed=asked_for["seed"])
    table, source = (store.load((study.name, one)) for one in ("samples", "source"))
    origin_of = choice.origin_of if isinstance(study, Choice) else origin.origin_of
    with bar("comparing rows"):
        found = audited(rows, how, samples=study.report_samples and not asked_for["without-samples"])
    return found, samples_of(study, table.collect(), source, origin_of)
