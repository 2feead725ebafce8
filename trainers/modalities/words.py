"""Terms of a text for TF-IDF: words and pairs of words, and where a script writes none, sequences of characters."""

import re
import unicodedata
from itertools import pairwise

import regex

LONGEST = 3
"""Characters of a sequence."""
SCRIPTS = "".join(rf"\p{{sc={name}}}" for name in ("Han", "Hira", "Kana", "Bopo", "Thai", "Laoo", "Khmr", "Mymr"))
"""Scripts without spaces between words."""
LETTER = rf"[[{SCRIPTS}ー〆]&&[\p{{L}}\p{{N}}]]"
RUN = regex.compile(rf"(?V1)({LETTER}(?:{LETTER}|\p{{M}})*)")
CHARACTER = regex.compile(r"(?V1)\P{M}\p{M}*")
"""A letter with its marks."""
SIGN = r"[[\w\p{N}\p{M}]--[\u200c\u200d]]"
"""Letters, digits, underscores and the marks that belong to the letters before them."""
WORD = regex.compile(rf"(?V1)[[\w\p{{N}}]--[\p{{M}}\u200c\u200d]](?:{SIGN}|[\u200c\u200d](?={SIGN}))+")
"""Two or more signs; joiners between signs, as in Persian and Hindi, are inside a word."""
ASCII = re.compile(r"\w\w+")
"""The same words faster, of texts that are ASCII."""
LOOKS = regex.compile(r"[\ufe00-\ufe0f\U000e0100-\U000e01ef]")
"""Variation selectors: marks that say how a character looks, such as an emoji."""


def terms_of(text: str, pairs: bool = True) -> list[str]:
    """Words of two or more signs and pairs of them, one to three characters in a row of scripts without spaces.

    Of the NFKC form in lower case: equal texts have equal terms, however they are encoded.
    """
    if text.isascii():
        words: list[str] = ASCII.findall(text.lower())
        return with_pairs(words) if pairs else words
    pieces = RUN.split(LOOKS.sub("", unicodedata.normalize("NFKC", text)).lower())
    spaced = [WORD.findall(piece) for piece in pieces[::2]]
    terms = [term for words in spaced for term in (with_pairs(words) if pairs else words)]
    for run in pieces[1::2]:
        characters = CHARACTER.findall(run)
        for length in range(1, LONGEST + 1):
            terms += ["".join(characters[at : at + length]) for at in range(len(characters) - length + 1)]
    return terms


def with_pairs(words: list[str]) -> list[str]:
    """Words, and pairs of those that stand one after the other."""
    return words + [f"{first} {second}" for first, second in pairwise(words)]
