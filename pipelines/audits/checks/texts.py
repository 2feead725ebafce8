"""Texts without content or with damage: of markup alone, with broken characters, cut. Empty ones are unreadable."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import polars as pl

from secateur.pipelines.audits.checks.contract import Odd, check
from secateur.pipelines.audits.contract import AuditRows

MARKUP = r"<[^>]*>|&#?\w+;|https?://\S+"
SPOKEN = r"[\p{L}\p{N}]"
"""A letter or a digit."""
SECOND = bytes(range(0x80, 0xC0)).decode("windows-1252", errors="ignore") + "\u0080-\u00bf"
"""The second byte of a UTF-8 character, decoded as Windows-1252 or Latin-1."""
BROKEN = rf"\u{{FFFD}}|[ÃÂ][{SECOND}]|â€[{SECOND}]|[\x00-\x08\x0B\x0C\x0E-\x1F\x7F]"
"""The replacement character, UTF-8 decoded as Windows-1252, and control characters."""
FEW, SHORT = 5, 40
"""Least number of texts of one length that suggests a cut; up to this many characters, equal lengths are chance."""


@check("text")
def texts_of_markup(rows: AuditRows) -> Iterator[Odd]:
    """Texts without a letter or digit besides tags, entities and links."""
    yield Odd("markup only", "nothing but markup, links or punctuation", np.flatnonzero(markup_only(rows.texts)))


@check("text")
def broken_characters(rows: AuditRows) -> Iterator[Odd]:
    """Texts that were decoded with the wrong charset."""
    found = np.flatnonzero(broken(rows.texts))
    says = "broken characters (�, UTF-8 read as Windows-1252, control characters): read the file in its own charset"
    yield Odd("broken characters", says, found)


@check("text")
def cut_texts(rows: AuditRows) -> Iterator[Odd]:
    """Texts of exactly the greatest length, where so many share it that they were probably cut."""
    lengths = rows.texts.str.len_chars().to_numpy()
    longest, found = cut(lengths)
    says = f"exactly {longest:,} characters, while none has more and fewer have nearly as many: they seem cut"
    yield Odd("cut", says, found)


def markup_only(texts: pl.Series) -> np.ndarray:
    """Bool `[n]`: the text is not empty, and has no letter or digit beside markup."""
    suspects = texts.str.contains(r"[<&]|https?://") | (texts.str.contains(r"\S") & ~texts.str.contains(SPOKEN))
    places = np.flatnonzero(suspects.fill_null(False).to_numpy())
    left = texts.gather(places).str.replace_all(MARKUP, " ")
    found = np.zeros(len(texts), bool)
    found[places[~left.str.contains(SPOKEN).to_numpy()]] = True
    return found


def broken(texts: pl.Series) -> np.ndarray:
    """Bool `[n]`: the text has a character that occurs only in damaged texts."""
    return texts.str.contains(BROKEN).fill_null(False).to_numpy()


def cut(lengths: np.ndarray) -> tuple[int, np.ndarray]:
    """The greatest length and its rows, none unless these outnumber the rows up to a tenth shorter."""
    longest = int(lengths.max(initial=0))
    found = np.flatnonzero(lengths == longest)
    near = int(((lengths < longest) & (lengths >= 0.9 * longest)).sum())
    return longest, found if longest > SHORT and len(found) >= max(FEW, near + 1) else found[:0]
