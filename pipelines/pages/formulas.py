"""Escapes texts of data in a CSV, so that spreadsheets do not take them for formulas."""

import polars as pl

FORMULA, NUMBER = r"^[=+\-@\t\r]", r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
"""Patterns of texts that spreadsheets evaluate, and of plain numbers among them."""


def unformulated(texts: pl.Expr) -> pl.Expr:
    """Texts that spreadsheets show instead of evaluating: a text that begins like a formula gets a quote in front.
    Numbers stay numbers.
    """
    computed = texts.str.contains(FORMULA) & ~texts.str.contains(NUMBER)
    return pl.when(computed).then("'" + texts).otherwise(texts).name.keep()
