"""Scores of the outputs of the user's own model, by the scorers that observe our training runs."""

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from secateur.pipelines.studies.own_scores import OwnCard, OwnScore
from secateur.pipelines.studies.rejections import checked, require
from secateur.scorers.registry import of_other_units, scorers

Names = str | list[str] | None


class OutputScore(OwnScore):
    """A score of the logits or probabilities of the user's own model: `[n, classes]` of one pass over the data, or
    `[epochs, n, classes]` of a training."""

    column: Annotated[
        Names, Field(description="column of lists, or tensor, of the file or the data; a list names one for each epoch")
    ] = None  # type: ignore[assignment]
    outputs: Annotated[Literal["logits", "probabilities"], Field(description="kind of the numbers")]
    scorer: Annotated[str, Field(description="a scorer; optional if the score has the scorer's name")]
    settings: Annotated[dict[str, Any], Field(description="the scorer's; YAML writes them beside scorer")] = Field(
        default_factory=dict
    )
    classes: Annotated[
        list[str] | None,
        Field(description="classes or labels in the order of the outputs; optional if they are 0, 1, 2, …"),
    ] = None
    high_means: Annotated[str, Field(description="set by the scorer")]  # type: ignore[assignment]

    @model_validator(mode="before")
    @classmethod
    def _as_its_scorer_says(cls, body: Any) -> Any:
        if not isinstance(body, dict):
            return body
        require(str(body.get("scorer")), scorers(), "scorer", of_other_units)
        means = scorers()[body["scorer"]].card.high_means
        if body.get("high_means", means) != means:
            raise ValueError(f"high_means: {means} it is, of {body['scorer']}; leave it out")
        own = {key: value for key, value in body.items() if key in cls.model_fields}
        flat = {key: value for key, value in body.items() if key not in cls.model_fields}
        return {"settings": flat, **own, "high_means": means}

    @model_validator(mode="after")
    def _takes_settings(self) -> "OutputScore":
        checked(scorers()[self.scorer].settings, self.settings, self.scorer)
        if self.file is None and not isinstance(self.column, str):
            raise ValueError("column: outputs in the data are one column of lists; name a file for several epochs")
        return self

    def told(self) -> str:
        """The source of the outputs, in words."""
        return f"{self.outputs.capitalize()} in {self.file or f'column {self.column} of the data'}"

    def card(self, name: str) -> OwnCard:
        """The score's card, under its name in the study."""
        card = scorers()[self.scorer].card
        told = f"{card.summary} Of {self.told()[:1].lower()}{self.told()[1:]}."
        return OwnCard(name, card.high_means, told, version=card.version, paper=card.paper)


def is_output(body: Any) -> bool:
    """Whether a value under `scores` is a score of outputs, before or after validation."""
    return isinstance(body, OutputScore) or (isinstance(body, dict) and "outputs" in body)


def with_scorer(name: str, body: Any) -> Any:
    """A value under `scores` as written, with its name as the scorer of outputs that name none."""
    return {"scorer": name, **body} if isinstance(body, dict) and is_output(body) else body


AnyOwn = Annotated[
    Annotated[OwnScore, Tag("[OwnScore]")] | Annotated[OutputScore, Tag("[OutputScore]")],
    Discriminator(lambda body: "[OutputScore]" if is_output(body) else "[OwnScore]"),
]
"""A score from the user: numbers, or model outputs for a scorer."""
