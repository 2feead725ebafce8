"""Models of `report.json`, the source of the file and of its published schema."""

import ast
import inspect
import re
import textwrap
from collections.abc import Mapping
from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from secateur.pipelines.pages.budgets import Budgets
from secateur.pipelines.pages.rows import Row
from secateur.pipelines.pages.words import Table
from secateur.pipelines.runs.by_class import ByClass, Lost
from secateur.pipelines.runs.yardstick import Beside
from secateur.trainers.judging.comparison import Comparison, Summary
from secateur.trainers.tasks.contract import Metric

FORMAT: Literal[1] = 1
"""Version of the file; it increases with changes that break readers of the previous one."""


class Content(BaseModel):
    """A model without undeclared keys and without NaN."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Member(Content):
    """One row of a group."""

    split: Annotated[str, Field(description="train or test")]
    file: Annotated[str, Field(description="its file, or the path of its picture")]
    row: Annotated[int, Field(ge=0, description="in that file, from 0")]
    sample: Annotated[int, Field(ge=0, description="among the samples of its split")]
    id: Annotated[str, Field(description="its name in a task of your own; empty otherwise")] = ""
    given: Annotated[str, Field(description="its target in the data")]


class GroupContent(Content):
    """Rows that are equal in their input."""

    number: Annotated[int, Field(ge=1, description="of the group in its finding, also in findings.csv")]
    count: Annotated[int, Field(ge=2, description="its rows in all")]
    rows: Annotated[list[Member], Field(description="the first of them")]


class Told(Content):
    """One finding about the data or the scores."""

    kind: Annotated[str, Field(description="kind of finding, such as leaked or duplicates")]
    split: Annotated[str, Field(description="train or test")]
    importance: Annotated[int, Field(ge=0, description="its rank, 0 for the most severe")]
    count: Annotated[int, Field(ge=0, description="number of rows, files or classes")]
    text: Annotated[str, Field(description="the sentence")]
    rows: Annotated[list[tuple[str, int]], Field(description="the first of its rows, by file and row in it")] = []
    paths: Annotated[list[str], Field(description="the first of its files")] = []
    selection: Annotated[str, Field(description="the selection that it concerns, if any")] = ""
    classes: Annotated[list[str], Field(description="the classes that it concerns, if any")] = []
    source: Annotated[Literal["", "audit"], Field(description="audit for findings of the study's audit")] = ""
    view: Annotated[
        Literal["sentence", "rows", "groups", "samples"],
        Field(description="its form on the page: the sentence alone, its rows, groups of rows, samples to inspect"),
    ] = "sentence"
    group_count: Annotated[int, Field(ge=0, description="number of its groups of equal rows")] = 0
    groups: Annotated[list[GroupContent], Field(description="the first of these groups")] = []


class Listed(Content):
    """One sample to inspect; only the page shows its content."""

    row: Annotated[int, Field(ge=0, description="among the training samples; an argument of secateur explain")]
    place: Annotated[
        str, Field(description="row in its file, with the file's name if there are several; the path of a picture")
    ]
    file: Annotated[str, Field(description="its file, or the path of its picture")]
    file_row: Annotated[int, Field(ge=0, description="its row in that file, from 0")]
    given: Annotated[str, Field(description="its target in the data")]
    predicted: Annotated[
        str, Field(description="the proxies' target for it; empty without a proxy, and for tasks without such a guess")
    ]
    certainty: Annotated[float | None, Field(description="probability of that class; null without classes")]
    scores: Annotated[Mapping[str, float], Field(description="every score of the study, by name")]


class SuspectContent(Content):
    """Samples to inspect, the most suspicious first."""

    ordered_by: Annotated[list[str], Field(description="scores whose mean rank orders them")]
    of: Annotated[int, Field(ge=1, description="training samples")]
    listed: Annotated[list[Listed], Field(description="the samples")]


class Tested(Content):
    """One budget of one arm, compared with the full data."""

    arm: Annotated[str, Field(description="the arm")]
    keep: Annotated[int | float, Field(description="its budget")]
    level: Annotated[float, Field(description="significance level of this budget's test")]
    state: Annotated[
        str,
        Field(
            description="shown, or the reason why not: loses more, given up, undecided, needs more seeds, or further "
            "seeds would change nothing"
        ),
    ]
    difference: Annotated[float | None, Field(description="mean over seeds; higher is better")]
    lower: Annotated[float | None, Field(description="its lower bound; null for one seed")]
    spread: Annotated[float | None, Field(description="standard deviation of the differences by seed")]
    seeds: Annotated[int, Field(ge=0, description="number of seeds of the verdict")]
    not_worse: Annotated[bool, Field(description="whether its loss is significantly below the margin")]


class RecommendationContent(Content):
    """The recommended budget."""

    selection: Annotated[str, Field(description="selection of the recommended trials, whose manifest the report names")]
    sentence: Annotated[str, Field(description="the recommendation")]
    margin: Annotated[float, Field(description="the accepted loss, in the unit of the metric")]
    level: Annotated[float, Field(description="chance of a false claim over all arms and budgets")]
    power: Annotated[float | None, Field(description="power of the test for a budget without loss; null for one seed")]
    claims: Annotated[list[Tested], Field(description="every tested budget, in order")]


class EqualStepsContent(Content):
    """The comparison at equal steps; all other keys hold the one at equal epochs."""

    verdict: Annotated[str, Field(description="which arms did better than random at equal steps")]
    sentences: Annotated[list[str], Field(description="the meaning of both comparisons, and where they disagree")]
    rows: Annotated[list[Row], Field(description="arms at budgets, against random, the full data, and equal epochs")]
    whole: Annotated[list[Row], Field(description="references, common to both comparisons, then arms without a budget")]
    note: Annotated[str, Field(description="how to read the numbers")]
    table: Annotated[Table, Field(description="the table of the page, its header first")]
    paired: Annotated[Table, Field(description="every comparison by seed, as on the page")]


class Winner(Content):
    """The best arm at a budget."""

    keep: Annotated[int | float, Field(description="the budget")]
    arm: Annotated[str, Field(description="the arm with the best mean")]
    mean: Annotated[float, Field(description="of the deciding metric")]


class TargetContent(Content):
    """Selections for a target compared with random rows."""

    sentences: Annotated[list[str], Field(description="the best selection at each budget, and significant differences")]
    winners: Annotated[list[Winner], Field(description="best of the selections for the target and the random ones")]


class ReportContent(Content):
    """The facts of a report. It holds no samples, only their file, row, target and scores."""

    format: Annotated[Literal[1], Field(description="of this file")] = FORMAT
    study: Annotated[str, Field(description="name of the study")]
    description: Annotated[str, Field(description="of the study")]
    unit: Annotated[str, Field(description="unit of selection, such as sample")]
    arm: Annotated[str, Field(description="the word for an arm, such as selection")]
    metrics: Annotated[list[Metric], Field(min_length=1, description="measures; the first one decides")]
    baseline: Annotated[str, Field(description="name of the arm that keeps units at random")]
    seeds: Annotated[int, Field(ge=1, description="of the study, at most")]
    looks: Annotated[list[int], Field(description="numbers of seeds at which budgets were tested; empty: after all")]
    compare_at: Annotated[str | None, Field(description="equal steps or equal epochs; null for trials of any length")]
    verdict: Annotated[str, Field(description="which arms did better than random")]
    recommendation: Annotated[RecommendationContent | None, Field(description="null without an answer")]
    saving: Annotated[Mapping[str, Any] | None, Field(description="saving of each selection; null for other units")]
    time_to_accuracy: Annotated[
        Mapping[str, Any] | None, Field(description="steps and seconds to a target; null without measurements")
    ]
    yardstick: Annotated[Beside | None, Field(description="metrics of a simple model; null for studies of other units")]
    budgets: Annotated[Budgets | None, Field(description="totals of selections; null for exact numbers of single rows")]
    target: Annotated[TargetContent | None, Field(description="null for a study without selections for a target")]
    by_class: Annotated[ByClass | None, Field(description="recall of each class on test samples; null for numbers")]
    findings: Annotated[list[Told], Field(description="faults, the most severe first; last, samples to inspect")]
    suspects: Annotated[SuspectContent | None, Field(description="null without a score of hardness")]
    rows: Annotated[list[Row], Field(description="arms at budgets, with their numbers in the unit of each metric")]
    whole: Annotated[list[Row], Field(description="references, then arms without a budget")]
    tuning: Annotated[Mapping[str, Any], Field(description="settings that held-out training samples chose, by arm")]
    note: Annotated[str, Field(description="how to read the numbers")]
    table: Annotated[Table, Field(description="the main table of the page, its header first")]
    tables: Annotated[Mapping[str, Table], Field(description="the other tables of the page, by title")]
    at_equal_steps: Annotated[
        EqualStepsContent | None, Field(description="the second comparison; null for a study with one")
    ]


def docstrings_of(kind: type) -> dict[str, str]:
    """Docstrings below the attributes of a class, by attribute, from its source."""
    [declared] = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    assert isinstance(declared, ast.ClassDef)
    told = {}
    for field, below in pairwise(declared.body):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(below, ast.Expr):
            text = " ".join(str(ast.literal_eval(below.value)).split()).rstrip(".")
            told[field.target.id] = re.sub(r"\bNone\b", "null", text)
    return told


def schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of `report.json`."""
    made = ReportContent.model_json_schema(mode="serialization")
    made["$defs"]["Comparison"]["properties"]["verdict"] = made["$defs"].pop("Verdict")
    for kind in (Row, Summary, Comparison, Metric, ByClass, Lost, Beside):
        for name, told in docstrings_of(kind).items():
            made["$defs"][kind.__name__]["properties"][name]["description"] = told
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **made, "title": "report.json of secateur"}
