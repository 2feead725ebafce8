"""What a user brings to a study: scores and vectors that they computed, and budgets of a column."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import unquote

from pydantic import AfterValidator, Field, model_validator

from secateur.scorers.settings import STUDY_PATHS, Settings

HighMeans = Literal["harder", "easier", "better", "worse", "rarer", "denser"]
"""What a high value of a user's score may mean."""
DIRECTION = Field(description="the meaning of a high value; selectors that cut hard samples read it, and so do readers")
Unmatched = Annotated[
    Literal["reject", "drop"],
    Field(description="rows of the file that are of no row of the data: an error that names them, or left out"),
]


@dataclass(frozen=True)
class OwnCard:
    """What a score of the user's is, as pages and manifests say it."""

    name: str
    high_means: str
    summary: str
    version: str = "1"
    view: str = "the user's own"
    paper: str = ""


class FromFile(Settings):
    """Values that a column of the data holds, or a file of their own."""

    column: Annotated[str | None, Field(description="column of the data, or of the file")] = None
    file: Annotated[
        Path | None, STUDY_PATHS, Field(description="Parquet, CSV, JSON lines or .npy, from the study's folder")
    ] = None
    key: Annotated[
        str | None,
        Field(description="column of the file that says which row is meant: ids of the data, or content_hash"),
    ] = None
    fingerprint: Annotated[
        str | None,
        Field(description="of the data that a file without ids was made for, row by row; the refusal says it"),
    ] = None
    unmatched: Unmatched = "reject"

    @model_validator(mode="after")
    def _one_place(self) -> "FromFile":
        if self.column is None and self.file is None:
            raise ValueError("name a column of the data, or a file")
        for key in ("key", "fingerprint"):
            if self.file is None and getattr(self, key) is not None:
                raise ValueError(f"{key}: a column of the data goes with its rows; leave it out, or name a file")
        if self.key is not None and self.fingerprint is not None:
            raise ValueError("fingerprint: rows are matched by key; leave one of them out")
        return self

    def told(self) -> str:
        """Where the values come from, in words."""
        if self.file is None:
            return f"Column {self.column} of the data"
        return f"Column {self.column} of {self.file}" if self.column else f"The array {self.file}"


class OwnScore(FromFile):
    """One number per row that the user computed: a column of the data, or a file beside it."""

    high_means: Annotated[HighMeans, DIRECTION]

    def card(self, name: str) -> OwnCard:
        """What the score is, under the name that the study gives it."""
        return OwnCard(name, self.high_means, f"{self.told()}.")


class OwnVectors(FromFile):
    """One vector per row that the user computed: a column of lists, or a file beside the data."""


def brings(body: Any) -> bool:
    """Whether a part of a study, as written or as read, names a column or file that holds the values."""
    return isinstance(body, FromFile) or (isinstance(body, dict) and bool({"column", "file"} & body.keys()))


def possible_amount(keep: dict[str, int | float]) -> dict[str, int | float]:
    """The same budget; raises ValueError unless it is an amount above 0, or a share, of one column."""
    if len(keep) != 1:
        raise ValueError(f"name one column with its amount, such as {{tokens: 2000000}}, got {keep}")
    [(column, amount)] = keep.items()
    if isinstance(amount, bool) or not amount > 0:
        raise ValueError(f"{column} needs an amount above 0, or a share of all of it up to 1.0, got {amount}")
    return keep


Amount = Annotated[dict[str, int | float], AfterValidator(possible_amount)]
"""A budget of a column: an amount of it, or a share in (0, 1] where the number has a point."""
Budget = int | float | Amount


def amount_in(text: str) -> Budget:
    """The budget whose key in the name of a trial this is: `0.1`, `5000`, `tokens=2000000`."""
    column, equals, number = text.rpartition("=")
    value = int(number) if number.isdigit() else float(number)
    return {unquote(column): value} if equals else value


def plain_budget(keep: Mapping[str, Any] | int | float) -> str:
    """A budget for readers."""
    if isinstance(keep, Mapping):
        [(column, amount)] = keep.items()
        return f"{amount:,} {column}" if isinstance(amount, int) or amount > 1 else f"{amount:g} of all {column}"
    return f"{keep:,}" if isinstance(keep, int) else f"{keep:g}"
