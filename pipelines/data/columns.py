"""Which columns of a table are input and which hold the target."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, cast, get_args

from pydantic import ConfigDict, Field, model_validator

from secateur.scorers.settings import Settings
from secateur.trainers.modalities.spellings import marks_of

Kind = Literal["image", "text", "features", "completion", "messages"]
KINDS: tuple[Kind, ...] = get_args(Kind)
Target = Literal["class", "numbers", "labels"]
"""Kind of the label columns' values: a class, one or several numbers, or a set of labels."""


COMPLETION_TOKENS = "completion_tokens"
"""Column of the table of samples, for language models: the number of tokens of a sample that the model learns."""
MISSING = ("?",)
"""Texts that stand for a missing feature where a study lists none."""


class Columns(Settings):
    """Which columns hold the input (an image, a text, features, a completion or messages) and which the target."""

    model_config = ConfigDict(frozen=True)

    image: str | None = Field(None, description="column of pictures, or of their paths")
    text: str | None = Field(None, description="column of texts")
    features: list[str] | None = Field(None, description="columns of numbers and categories")
    prompt: str | list[str] | None = Field(
        None, description="column of prompts, or several whose texts follow each other, such as instruction and input"
    )
    completion: str | None = Field(None, description="column of completions, which task sft learns")
    messages: str | None = Field(
        None, description="column of conversations, whose answers task sft learns: lists of role and content"
    )
    label: str | list[str] | None = Field(
        None,
        description="column of classes, of numbers, or of lists of labels; or several columns of numbers or of 0 and "
        "1; may be left out where nothing is trained",
    )
    id: str | None = Field(
        None, description="column of ids of your own, each once, by which manifests and explanations name rows too"
    )
    group: str | None = Field(
        None,
        description="column whose equal values are kept or dropped together, and stay on one side of a drawn split",
    )
    target: Target | None = Field(None, description="kind of the label; follows from the task if left out")
    missing: list[str] | dict[str, list[str]] | None = Field(
        None,
        description="texts of features that stand for a missing value, by column where they differ; those of "
        "encoding.missing if left out",
    )

    @model_validator(mode="after")
    def _check(self) -> "Columns":
        kinds = [kind for kind in KINDS if getattr(self, kind) is not None]
        if len(kinds) != 1:
            known = f"{', '.join(KINDS[:-1])} and {KINDS[-1]}"
            raise ValueError(f"name exactly one of {known}, got {' and '.join(kinds) or 'none'}")
        if self.prompt is not None and self.completion is None:
            raise ValueError("prompt stands beside completion: name that column, too")
        for key, names in (("features", self.inputs), ("prompt", self.inputs), ("label", self.labels)):
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
    def kind(self) -> Kind:
        """The kind of input."""
        return next(kind for kind in KINDS if getattr(self, kind) is not None)

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the input columns, in the order of the study."""
        if self.features is not None:
            return tuple(self.features)
        if self.completion is not None:
            return (*([self.prompt] if isinstance(self.prompt, str) else self.prompt or ()), self.completion)
        return (cast(str, self.image or self.text or self.messages),)

    @property
    def texts(self) -> tuple[str, ...]:
        """Input columns of texts, which count letter by letter; none for images and features."""
        return () if self.kind in ("image", "features") else self.inputs

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

    def holding(self, target: Target, *, learned: bool = True) -> "Columns":
        """These columns, with the kind of the label; raises ValueError where it does not fit them, or where they have
        no label to learn."""
        if self.label is None and learned:
            raise ValueError("columns.label: Field required, for whatever is trained learns it")
        if self.target not in (None, target):
            raise ValueError(f"columns.target: {self.target} does not fit the task, which reads {target}: leave it out")
        return Columns(**{**self.model_dump(), "target": target})
