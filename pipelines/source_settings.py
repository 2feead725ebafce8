"""What a study may write under `source`: seven kinds, told apart by `kind`.

Every kind takes `label_names`, `limit` and `split_seed`; all but `digits` take either `test` or `test_fraction`.
"""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    label_names: list[str] | None = None
    limit: int | None = Field(None, ge=1, description="rows per split, a stratified draw by split_seed")
    split_seed: int = Field(0, ge=0)


class _Splits(_Settings):
    train: str = "train"
    test: str | None = None
    test_fraction: float | None = Field(None, gt=0, lt=1)

    @model_validator(mode="after")
    def _one_test(self) -> Self:
        _check_test(self.test, self.test_fraction)
        return self


class Digits(_Settings):
    """The 1,797 handwritten digits in scikit-learn's wheel: columns `image` (8 by 8, grey) and `label`."""

    kind: Literal["digits"]


class Hub(_Splits):
    """A data set of the Hugging Face hub; `revision` is a branch, a tag or, to be reproducible, a commit."""

    kind: Literal["hub"]
    name: str
    config: str | None = None
    revision: str | None = None


class ImageFolder(_Splits):
    """Folders of pictures, one subfolder per class: `train` and `test` are paths."""

    kind: Literal["imagefolder"]
    train: str


class Disk(_Splits):
    """What `save_to_disk` wrote: with `path` a DatasetDict and the names of its splits, otherwise two folders."""

    kind: Literal["disk"]
    path: str | None = None


Paths = Annotated[
    list[str], BeforeValidator(lambda given: [given] if isinstance(given, str) else given), Field(min_length=1)
]
"""A path, a glob or a list of these; relative to the study's folder, `${NAME}` and `${NAME:-default}` expand."""


class _Files(_Settings):
    train: Paths
    test: Paths | None = None
    test_fraction: float | None = Field(None, gt=0, lt=1)

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
    separator: str = Field(",", min_length=1, max_length=1)


class Jsonl(_Files):
    """JSON lines: one object per line."""

    kind: Literal["jsonl"]


Source = Annotated[Digits | Hub | Parquet | Csv | Jsonl | ImageFolder | Disk, Field(discriminator="kind")]


def _check_test(test: object, fraction: float | None) -> None:
    if (test is None) == (fraction is None):
        raise ValueError("give either test or test_fraction (with split_seed)")
