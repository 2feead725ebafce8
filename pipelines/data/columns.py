"""Which columns of a table are input and label."""

from typing import Literal, cast

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Columns(BaseModel):
    """Which columns hold the input (one of an image, a text or features) and which the label."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    image: str | None = Field(None, description="column of pictures, or of their paths")
    text: str | None = Field(None, description="column of texts")
    features: list[str] | None = Field(None, description="columns of numbers and categories")
    label: str = Field(description="column of classes")

    @model_validator(mode="after")
    def _check(self) -> "Columns":
        given = [kind for kind in ("image", "text", "features") if getattr(self, kind) is not None]
        if len(given) != 1:
            raise ValueError(f"name exactly one of image, text and features, got {' and '.join(given) or 'none'}")
        names = self.inputs
        if not names:
            raise ValueError("features names no column")
        if len(set(names)) != len(names):
            raise ValueError(f"features names {next(n for n in names if names.count(n) > 1)!r} twice")
        if self.label in names:
            raise ValueError(f"{self.label!r} is the label, it cannot be an input as well")
        return self

    @property
    def kind(self) -> Literal["image", "text", "features"]:
        """Which of the three kinds of input this is."""
        return "image" if self.image is not None else "text" if self.text is not None else "features"

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the input columns, as given."""
        if self.features is not None:
            return tuple(self.features)
        return (cast(str, self.image or self.text),)
