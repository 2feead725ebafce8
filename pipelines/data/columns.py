"""Which columns of a table are input and which hold the target."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, cast

from pydantic import ConfigDict, Field, model_validator

from secateur.scorers.settings import Settings
from secateur.trainers.modalities.spellings import marks_of

Target = Literal["class", "numbers", "labels"]
"""What label columns hold: a class, one or several numbers, or a set of labels."""


MISSING = ("?",)
"""Texts that stand for a missing feature where a study lists none."""


class Columns(Settings):
    """Which columns hold the input (one of an image, a text or features) and which the target."""

    model_config = ConfigDict(frozen=True)

    image: str | None = Field(None, description="column of pictures, or of their paths")
    text: str | None = Field(None, description="column of texts")
    features: list[str] | None = Field(None, description="columns of numbers and categories")
    label: str | list[str] | None = Field(
        None,
        description="column of classes, of numbers, or of lists of labels; or several columns of numbers or of 0 and "
        "1; may be left out where nothing is trained",
    )
    id: str | None = Field(
        None, description="column of ids of your own, each once, by which manifests and explanations name rows too"
    )
    group: str | None = Field(None, description="column whose equal values stay on one side of a split that is drawn")
    target: Target | None = Field(None, description="what label holds; follows from the task if left out")
    missing: list[str] | dict[str, list[str]] | None = Field(
        None,
        description="texts of features that stand for a missing value, by column where they differ; those of "
        "encoding.missing if left out",
    )

    @model_validator(mode="after")
    def _check(self) -> "Columns":
        kinds = [kind for kind in ("image", "text", "features") if getattr(self, kind) is not None]
        if len(kinds) != 1:
            raise ValueError(f"name exactly one of image, text and features, got {' and '.join(kinds) or 'none'}")
        for key, names in (("features", self.inputs), ("label", self.labels)):
            if not names and getattr(self, key) is not None:
                raise ValueError(f"{key} names no column")
            if len(set(names)) != len(names):
                raise ValueError(f"{key} names {next(n for n in names if names.count(n) > 1)!r} twice")
        for name in self.labels:
            if name in self.inputs:
                raise ValueError(f"{name!r} is the label, it cannot be an input as well")
        if self.target == "class" and len(self.labels) > 1:
            raise ValueError(
                f"label names {len(self.labels)} columns, and classification reads one: name one, or write "
                "task: regression (of numbers) or task: multi_label (of columns of 0 and 1)"
            )
        return self

    @property
    def kind(self) -> Literal["image", "text", "features"]:
        """Which of the three kinds of input this is."""
        return "image" if self.image is not None else "text" if self.text is not None else "features"

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the input columns, in the order of the study."""
        if self.features is not None:
            return tuple(self.features)
        return (cast(str, self.image or self.text),)

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the columns that hold the target, in the order of the study; none without a label."""
        return (self.label,) if isinstance(self.label, str) else tuple(self.label or ())

    def reading(self, encoding: Mapping[str, Any]) -> "Columns":
        """These columns, with the texts of missing features that a study's encoding lists."""
        if self.features is None or self.missing is not None:
            return self
        return Columns(**{**self.model_dump(), "missing": encoding.get("missing", list(MISSING))})

    def marks(self, name: str) -> Sequence[str]:
        """Texts that stand for a missing value in a column."""
        return marks_of(self.missing or (), name) if name in (self.features or ()) else ()

    def holding(self, target: Target) -> "Columns":
        """These columns, with what the label holds; raises ValueError where that does not fit them, or is none."""
        if self.label is None:
            raise ValueError("columns.label: Field required, for whatever is trained learns it")
        if self.target not in (None, target):
            raise ValueError(f"columns.target: {self.target} does not fit the task, which reads {target}: leave it out")
        return Columns(**{**self.model_dump(), "target": target})
