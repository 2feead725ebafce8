"""A study's `data`: policies for unusable, repeated and leaked rows."""

from typing import Literal

from pydantic import ConfigDict, Field

from secateur.scorers.settings import Settings


class DataPolicy(Settings):
    """Policies for rows; the first of each is the default."""

    model_config = ConfigDict(frozen=True)

    bad_rows: Literal["reject", "drop"] = Field(
        default="reject",
        description="rows whose input is missing, infinite or cannot be decoded: an error that names them, or left out",
    )
    unlabelled: Literal["reject", "drop"] = Field(
        default="reject", description="rows whose label is missing: an error that names them, or left out"
    )
    duplicates: Literal["keep", "drop"] = Field(
        default="keep", description="rows of equal input and target within a split: all, or the first of the file alone"
    )
    leaked: Literal["keep", "drop_from_training"] = Field(
        default="keep", description="training rows whose input is in the test split too: kept, or left out of training"
    )
