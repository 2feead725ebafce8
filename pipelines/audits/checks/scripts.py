"""Texts in another script than the data's own."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import polars as pl

from secateur.pipelines.audits.checks.contract import Odd, check
from secateur.pipelines.audits.contract import AuditRows

SCRIPTS = {
    "Latin": r"\p{Latin}",
    "Cyrillic": r"\p{Cyrillic}",
    "Greek": r"\p{Greek}",
    "Arabic": r"\p{Arabic}",
    "Hebrew": r"\p{Hebrew}",
    "Chinese or Japanese": r"[\p{Han}\p{Hiragana}\p{Katakana}]",
    "Hangul": r"\p{Hangul}",
    "Devanagari": r"\p{Devanagari}",
    "Thai": r"\p{Thai}",
}
OTHER = "another script"
OWN = 0.05
"""Least share of the texts for a script to be one of the data's own."""


@check("text")
def other_scripts(rows: AuditRows) -> Iterator[Odd]:
    """Texts whose letters are mostly of a script that fewer than a twentieth of the texts use."""
    script = scripts_of(rows.texts)
    written = script.drop_nulls()
    shares = written.value_counts(normalize=True)
    own = shares.filter(pl.col("proportion") >= OWN)["script"].to_list()
    for name in sorted(set(written.unique()) - set(own)):
        says = f"written in {name}, most texts in {' and '.join(sorted(own))}"
        yield Odd("other script", says, np.flatnonzero((script == name).fill_null(False).to_numpy()))


def scripts_of(texts: pl.Series) -> pl.Series:
    """The script of more than half of each text's letters, String `[n]`; null where none is, and for no letters."""
    letters = texts.str.count_matches(r"\p{L}").fill_null(0).to_numpy()
    found = np.full(len(texts), None, object)
    left = np.flatnonzero(letters > 0)
    for name, letter in SCRIPTS.items():
        most = 2 * texts.gather(left).str.count_matches(letter).to_numpy() > letters[left]
        found[left[most]] = name
        left = left[~most]
        if not len(left):
            break
    # The rest are mixtures of these scripts, and letters of other ones.
    known = "".join(SCRIPTS.values()).replace("[", "").replace("]", "")
    mixed = 2 * texts.gather(left).str.count_matches(f"[{known}]").to_numpy() > letters[left]
    found[left[~mixed]] = OTHER
    # As a list: polars takes the type of an object array from its first element, which may be null.
    return pl.Series("script", found.tolist(), dtype=pl.String)
