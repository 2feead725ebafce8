"""Text in the letters of ASCII, for names of studies and folders that stay readable."""

import unicodedata

SPELT = str.maketrans(
    {
        "ß": "ss", "ẞ": "SS", "æ": "ae", "Æ": "AE", "œ": "oe", "Œ": "OE", "ø": "o", "Ø": "O", "đ": "d", "Đ": "D",
        "ð": "d", "Ð": "D", "ł": "l", "Ł": "L", "þ": "th", "Þ": "TH", "\N{LATIN SMALL LETTER DOTLESS I}": "i",
    }
)  # fmt: skip
"""Latin letters that Unicode does not decompose."""


def latin(text: str) -> str:
    """The text in ASCII: letters without their accents, `ß` and its like spelt; characters of other scripts go.

    >>> latin("Straßenschilder Köln")
    'Strassenschilder Koln'
    """
    return unicodedata.normalize("NFKD", text.translate(SPELT)).encode("ascii", "ignore").decode()
