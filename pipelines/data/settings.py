"""What a study may write under `source`: eight kinds, told apart by `kind`.

Every kind takes `label_names`, `unlabelled`, `limit` and `split_seed`; all but `digits` and `diabetes` take either
`test` or `test_fraction`.
"""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

HELD_OUT = "share of the training samples held out for testing, drawn by stratum"


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    label_names: list[str] | None = Field(
        None, description="names of the labels 0, 1, …; strings in the label column become numbers by them"
    )
    unlabelled: Literal["reject", "drop"] = Field(
        "reject", description="rows whose label is missing: an error that names them, or left out of both splits"
    )
    limit: int | None = Field(None, ge=1, description="rows per split, a stratified draw by split_seed")
    split_seed: int = Field(0, ge=0, description="of the draws of limit and test_fraction")


class _Splits(_Settings):
    train: str = Field("train", description="split, or folder, of the training samples")
    test: str | None = Field(None, description="split, or folder, of the test samples")
    test_fraction: float | None = Field(None, gt=0, lt=1, description=HELD_OUT)

    @model_validator(mode="after")
    def _one_test(self) -> Self:
        _check_test(self.test, self.test_fraction)
        return self


class Bundled(_Settings):
    """Data in scikit-learn's wheel, a fifth held out for testing.

    `digits`: 1,797 handwritten digits, columns `image` (8 by 8, grey) and `label`. `diabetes`: 442 patients, ten
    columns of numbers from `age` to `s6` as they were measured, and `progression` after a year.
    """

    kind: Literal["digits", "diabetes"]


class Hub(_Splits):
    """A data set of the Hugging Face hub; `revision` is a branch, a tag or, to be reproducible, a commit."""

    kind: Literal["hub"]
    name: str = Field(description="owner/name on the hub")
    config: str | None = Field(None, description="of data sets that have several")
    revision: str | None = Field(None, description="branch, tag or commit")


class ImageFolder(_Splits):
    """Folders of pictures, one subfolder per class: `train` and `test` are paths."""

    kind: Literal["imagefolder"]
    train: str = Field(description="folder with a folder of pictures per class")


class Disk(_Splits):
    """What `save_to_disk` wrote: with `path` a DatasetDict and the names of its splits, otherwise two folders."""

    kind: Literal["disk"]
    path: str | None = Field(None, description="folder of a DatasetDict, whose splits train and test then name")


Paths = Annotated[
    list[str],
    Field(min_length=1),
    BeforeValidator(lambda given: [given] if isinstance(given, str) else given, json_schema_input_type=str | list[str]),
]
"""A path, a glob or a list of these; relative to the study's folder, `${NAME}` and `${NAME:-default}` expand."""


class _Files(_Settings):
    train: Annotated[Paths, Field(description="path, glob or list of these, of the training samples")]
    test: Annotated[Paths | None, Field(description="the same of the test samples")] = None
    test_fraction: float | None = Field(None, gt=0, lt=1, description=HELD_OUT)

    @model_validator(mode="after")
    def _one_test(self) -> Self:
        _check_test(self.test, self.test_fraction)
        return self


class Parquet(_Files):
    """Parquet files."""

    kind: Literal["parquet"]


class Csv(_Files):
    """CSV files with a header, in UTF-8."""

    kind: Literal["csv"]
    separator: str = Field(",", min_length=1, max_length=1, description="between the fields")


class Jsonl(_Files):
    """JSON lines: one object per line."""

    kind: Literal["jsonl"]


Source = Annotated[Bundled | Hub | Parquet | Csv | Jsonl | ImageFolder | Disk, Field(discriminator="kind")]


def _check_test(test: object, fraction: float | None) -> None:
    if (test is None) == (fraction is None):
        raise ValueError("give either test or test_fraction (with split_seed)")
