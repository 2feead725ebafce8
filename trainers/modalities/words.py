"""Terms of a text for TF-IDF: words and pairs of words, and in scripts without spaces sequences of characters."""

import re
import unicodedata
from itertools import pairwise

import regex

LONGEST = 3
"""Largest number of characters of a sequence."""
SCRIPTS = "".join(rf"\p{{sc={name}}}" for name in ("Han", "Hira", "Kana", "Bopo", "Thai", "Laoo", "Khmr", "Mymr"))
"""Scripts without spaces between words."""
LETTER = rf"[[{SCRIPTS}ー〆]&&[\p{{L}}\p{{N}}]]"
RUN = regex.compile(rf"(?V1)({LETTER}(?:{LETTER}|\p{{M}})*)")
CHARACTER = regex.compile(r"(?V1)\P{M}\p{M}*")
"""A letter with its marks."""
SIGN = r"[[\w\p{N}\p{M}]--[\u200c\u200d]]"
"""Letters, digits, underscores and marks."""
FIRST = r"[[\w\p{N}]--[\p{M}\u200c\u200d]]"
"""Letters, digits and underscores."""
WORD = regex.compile(rf"(?V1){FIRST}(?:{SIGN}|[\u200c\u200d](?={SIGN}))+")
"""Two or more signs; joiners between signs, as in Persian and Hindi, are inside a word."""
ASCII = re.compile(r"\w\w+")
"""A faster expression for the same words in ASCII texts."""
LOOKS = regex.compile(r"[\ufe00-\ufe0f\U000e0100-\U000e01ef]")
"""Variation selectors, which choose the look of a character such as an emoji."""


def terms_of(text: str, pairs: bool = True) -> list[str]:
    """Words of two or more signs and pairs of them; in scripts without spaces, sequences of one to three characters.

    They come from the NFKC form in lower case: canonically equal texts have equal terms.
    """
    spaced, sequences = pieces_of(text)
    return [term for words in spaced for term in (with_pairs(words) if pairs else words)] + sequences


def pieces_of(text: str) -> tuple[list[list[str]], list[str]]:
    """Words of each piece of a text between runs of scripts without spaces, and the sequences of these runs."""
    if text.isascii():
        return [ASCII.findall(text.lower())], []
    pieces = RUN.split(plain(text))
    sequences = []
    for run in pieces[1::2]:
        characters = CHARACTER.findall(run)
        for length in range(1, LONGEST + 1):
            sequences += ["".join(characters[at : at + length]) for at in range(len(characters) - length + 1)]
    return [WORD.findall(piece) for piece in pieces[::2]], sequences


def plain(text: str) -> str:
    """The normalised text: NFKC, in lower case, without variation selectors."""
    return unicodedata.normalize("NFKC", LOOKS.sub("", text)).lower()


def with_pairs(words: list[str]) -> list[str]:
    """Words, and pairs of consecutive words."""
    return words + [f"{first} {second}" for first, second in pairwise(words)]
