"""The user's own inputs to a study: scores, vectors, and budgets of a column."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import unquote

from pydantic import AfterValidator, Field, model_validator

from secateur.scorers.settings import STUDY_PATHS, Settings

HighMeans = Literal["harder", "easier", "better", "worse", "rarer", "denser"]
"""Possible meanings of a high value of a user's score."""
DIRECTION = Field(description="meaning of a high value, for readers and for selectors that distinguish hard samples")
Unmatched = Annotated[
    Literal["reject", "drop"],
    Field(description="rows of the file without a row in the data: reject raises an error that names them"),
]


@dataclass(frozen=True)
class OwnCard:
    """Description of a user's score for pages and manifests."""

    name: str
    high_means: str
    summary: str
    version: str = "1"
    view: str = "the user's own"
    paper: str = ""


class FromFile(Settings):
    """Values in a column of the data or in a separate file."""

    column: Annotated[str | None, Field(description="column of the data, or of the file")] = None
    file: Annotated[
        Path | None, STUDY_PATHS, Field(description="Parquet, CSV, JSON lines or .npy, from the study's folder")
    ] = None
    key: Annotated[
        str | None,
        Field(description="column of the file that identifies rows: by ids of the data, or by content_hash"),
    ] = None
    fingerprint: Annotated[
        str | None,
        Field(description="of the data that a file without ids matches row by row; the error message shows it"),
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
        """The source of the values, in words."""
        if self.file is None:
            return f"Column {self.column} of the data"
        return f"Column {self.column} of {self.file}" if self.column else f"The array {self.file}"


class OwnScore(FromFile):
    """One number per row that the user computed: a column of the data, or a separate file."""

    high_means: Annotated[HighMeans, DIRECTION]

    def card(self, name: str) -> OwnCard:
        """The score's card, under its name in the study."""
        return OwnCard(name, self.high_means, f"{self.told()}.")


class OwnVectors(FromFile):
    """One vector per row that the user computed: a column of lists, or a separate file."""


def brings(body: Any) -> bool:
    """Whether a part of a study, before or after validation, names a column or file with the values."""
    return isinstance(body, FromFile) or (isinstance(body, dict) and bool({"column", "file"} & body.keys()))


def possible_amount(keep: dict[str, int | float]) -> dict[str, int | float]:
    """Return the budget unchanged; raise ValueError unless it is an amount above 0, or a share, of one column."""
    if len(keep) != 1:
        raise ValueError(f"name one column with its amount, such as {{tokens: 2000000}}, got {keep}")
    [(column, amount)] = keep.items()
    if isinstance(amount, bool) or not amount > 0:
        raise ValueError(f"{column} needs an amount above 0, or a share of all of it up to 1.0, got {amount}")
    return keep


Amount = Annotated[dict[str, int | float], AfterValidator(possible_amount)]
"""A budget of a column: an amount of it, or a share in (0, 1] if the number is a decimal."""
Budget = int | float | Amount


def amount_in(text: str) -> Budget:
    """Parse the budget in a trial's key: `0.1`, `5000`, `tokens=2000000`."""
    column, equals, number = text.rpartition("=")
    value = int(number) if number.isdigit() else float(number)
    return {unquote(column): value} if equals else value


def plain_budget(keep: Mapping[str, Any] | int | float) -> str:
    """A budget in readable form."""
    if isinstance(keep, Mapping):
        [(column, amount)] = keep.items()
        return f"{amount:,} {column}" if isinstance(amount, int) or amount > 1 else f"{amount:g} of all {column}"
    return f"{keep:,}" if isinstance(keep, int) else f"{keep:g}"
