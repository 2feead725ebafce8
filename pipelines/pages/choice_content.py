"""Models of `report.json` of a study of choices, the source of the file and of its schema."""

from typing import Annotated, Any, Literal

from pydantic import Field

from secateur.pipelines.pages.content import Content, Told
from secateur.pipelines.pages.words import Table

UNTRAINED = (
    "Nothing was trained, so nothing here says that a model learns more from a selection than from as much at random: "
    "train on both manifests, or add proxy and training to the study."
)
"""A reminder for readers of every choice."""


class ScoreFacts(Content):
    """A score from the user."""

    name: Annotated[str, Field(description="its name in the study")]
    high_means: Annotated[str, Field(description="the meaning of a high value")]
    brought: Annotated[str, Field(description="its source")]
    low: Annotated[float, Field(description="the lowest value")]
    mean: Annotated[float, Field(description="mean over all rows")]
    high: Annotated[float, Field(description="the highest value")]
    distinct: Annotated[int, Field(ge=1, description="distinct values")]


class Kept(Content):
    """The rows of one selection at one budget and seed, beside its random baseline."""

    selection: Annotated[str, Field(description="its name and budget, as in the names of manifests")]
    budget: Annotated[str, Field(description="the budget in words")]
    seed: Annotated[int, Field(ge=0, description="of its draws")]
    kept: Annotated[int, Field(ge=0, description="kept rows")]
    of: Annotated[int, Field(ge=1, description="rows in all")]
    groups: Annotated[int | None, Field(description="kept groups; null without a column of groups")]
    unit: Annotated[str, Field(description="unit of the budget: rows, or a column")]
    limit: Annotated[float, Field(description="largest sum over the kept rows")]
    total: Annotated[float, Field(description="their sum")]
    left: Annotated[float, Field(ge=0, description="rest of the budget, into which no further row of the order fits")]
    whole: Annotated[float, Field(description="sum over all rows")]
    random: Annotated[str | None, Field(description="its random baseline; null for a random selection")]
    random_kept: Annotated[int | None, Field(description="its rows")]
    random_total: Annotated[float | None, Field(description="their sum")]
    scores: Annotated[dict[str, float], Field(description="mean of each score over the kept rows")]
    random_scores: Annotated[dict[str, float], Field(description="the same for the random baseline")]


class Overlap(Content):
    """Two selections at one budget and seed."""

    one: Annotated[str, Field(description="a selection and its budget")]
    other: Annotated[str, Field(description="another one at that budget")]
    both: Annotated[int, Field(ge=0, description="rows that both keep")]
    jaccard: Annotated[float, Field(ge=0, le=1, description="rows that both keep, of those that either keeps")]
    by_chance: Annotated[
        float, Field(ge=0, le=1, description="the expected value of two random selections of these sizes")
    ]


class Part(Content):
    """Share of one value of a column among kept rows, in the unit of the budget."""

    selection: Annotated[str, Field(description="its name and budget")]
    column: Annotated[str, Field(description="the column of the quotas")]
    value: Annotated[str, Field(description="one of its values")]
    before: Annotated[float, Field(ge=0, le=1, description="its share of all rows")]
    after: Annotated[float, Field(ge=0, le=1, description="its share of kept rows")]


class Extreme(Content):
    """A row at an end of a score; only the page shows its text."""

    score: Annotated[str, Field(description="the score")]
    end: Annotated[Literal["high", "low"], Field(description="which end")]
    value: Annotated[float, Field(description="its score")]
    file: Annotated[str, Field(description="the user's file")]
    row: Annotated[int, Field(ge=0, description="row in that file, from 0")]
    id: Annotated[str | None, Field(description="your id of it, if the study names a column of ids")]


class ChoiceContent(Content):
    """The facts of a report on a study without training. It holds no samples, only their file, row and id."""

    format: Annotated[Literal[1], Field(description="of this file")] = 1
    kind: Annotated[Literal["choice"], Field(description="distinguishes it from reports on trainings")] = "choice"
    study: Annotated[str, Field(description="name of the study")]
    description: Annotated[str, Field(description="of the study")]
    unit: Annotated[str, Field(description="unit of selection")]
    seeds: Annotated[int, Field(ge=1, description="repetitions of every draw")]
    samples: Annotated[int, Field(ge=1, description="rows in all")]
    verdict: Annotated[str, Field(description="a reminder that no model was trained")]
    recommendation: Annotated[None, Field(description="null: the study measures nothing")] = None
    scores: Annotated[list[ScoreFacts], Field(description="your scores")]
    target: Annotated[str, Field(description="baselines of selections for a target; empty without one")] = ""
    kept: Annotated[list[Kept], Field(description="every selection at every budget and seed")]
    overlaps: Annotated[list[Overlap], Field(description="pairs of selections, of seed 0")]
    parts: Annotated[list[Part], Field(description="quotas of columns before and after, of seed 0")]
    extremes: Annotated[list[Extreme], Field(description="rows at the ends of each score")]
    findings: Annotated[list[Told], Field(description="faults of data and scores, the most severe first")]
    note: Annotated[str, Field(description="how to read the table")]
    table: Annotated[Table, Field(description="the main table of the page, its header first")]


def schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of `report.json` of a study of choices."""
    made = ChoiceContent.model_json_schema(mode="serialization")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **made,
        "title": "report.json of a choice of secateur",
    }
