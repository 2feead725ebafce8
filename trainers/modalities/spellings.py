"""Spellings of booleans and numbers, and the one canonical spelling of each."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import polars as pl

BOOLEANS: Final = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
"""Spellings of booleans in CSV files."""
WHOLE: Final = r"^-?(0|[1-9][0-9]*)$"
"""Whole numbers without leading zeros: 01 is a code, not the number 1."""
REAL: Final = (
    r"^[+-]?((0|[1-9][0-9]*)(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?$"
    r"|^(NaN|nan|NAN|[+-]?(inf|Inf|INF|Infinity|infinity))$"
)


def marks_of(missing: Sequence[str] | Mapping[str, Sequence[str]], name: str) -> Sequence[str]:
    """Texts that mean a missing value in a column."""
    return missing.get(name, ()) if isinstance(missing, Mapping) else missing


def text_of_number(number: "pl.Expr") -> "pl.Expr":
    """The canonical text of a float, the same for all types of column: 1 for 1.0."""
    import polars as pl

    whole = number.cast(pl.Int64, strict=False)
    return pl.when(whole.cast(pl.Float64) == number).then(whole.cast(pl.String)).otherwise(number.cast(pl.String))


def one_spelling(texts: "pl.Series") -> "pl.Series":
    """Canonical texts: 1 for 1.0, +1 and 1e0, and true for True, as in columns of numbers and booleans.

    Codes do not change: 01, and whole numbers beyond 64 bits.
    """
    import polars as pl

    text = pl.col("text")
    whole = pl.when(text.str.contains(WHOLE)).then(text.cast(pl.Int64, strict=False))
    real = pl.when(text.str.contains(REAL) & ~text.str.contains(WHOLE))
    number = real.then(text.str.to_lowercase().cast(pl.Float64, strict=False))
    columns = pl.DataFrame({"text": texts}).with_columns(whole=whole, number=number)
    spelled = text_of_number(pl.when(pl.col("number").is_finite()).then("number"))
    flag = pl.when(text.is_in(list(BOOLEANS))).then(text.str.to_lowercase())
    return columns.select(pl.coalesce(pl.col("whole").cast(pl.String), spelled, flag, text))["whole"].alias(texts.name)
