"""Texts of data in a CSV, which programs for tables must not take for formulas."""

import polars as pl

FORMULA, NUMBER = r"^[=+\-@\t\r]", r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
"""Beginnings of what programs for tables compute, and what of it is a mere number."""


def unformulated(texts: pl.Expr) -> pl.Expr:
    """Texts as programs for tables show them, and do not compute them: one that begins like a formula gets a quote
    ahead. Numbers stay numbers.
    """
    computed = texts.str.contains(FORMULA) & ~texts.str.contains(NUMBER)
    return pl.when(computed).then("'" + texts).otherwise(texts).name.keep()
