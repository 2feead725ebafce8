"""Show foreign text on a terminal, in Markdown and in pictures literally, without effects of its characters.

Class names, texts, columns and file names come from data. Terminals obey control characters in them, Markdown their
punctuation, browsers their tags, and characters that turn the direction of writing mislead readers.
"""

import html
import re

OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters but tab and newline, overrides of the direction of writing, and halves of surrogate pairs."""
ADDRESS = re.compile(r"(?<=https)(?=://)|(?<=http)(?=://)|(?<=ftp)(?=://)|(?<=www)(?=\.)", re.IGNORECASE)
MARKUP = re.compile(r"([\\`*_{}\[\]()#+!|~])")


def visible(text: str) -> str:
    r"""The text with a character such as escape written as `\x1b`; tabs and newlines stay."""
    return OBEYED.sub(lambda found: ascii(found[0])[1:-1], text)


def one_line(text: str, longest: int | None = None) -> str:
    """`visible` on one line of at most so many characters, cut with an ellipsis."""
    plain = " ".join(visible(text).split())
    return plain if longest is None or len(plain) <= longest else f"{plain[: longest - 1]}…"


def quoted(name: str, longest: int = 60) -> str:
    """A name of the user's for a sentence, in quotes."""
    return repr(one_line(name, longest))


def in_markdown(text: str, longest: int | None = None) -> str:
    """`one_line` as Markdown that shows the text literally: without markup, tags, links or pictures."""
    # GitHub turns addresses in a text into links.
    return ADDRESS.sub(r"\\\g<0>", MARKUP.sub(r"\\\1", html.escape(one_line(text, longest), quote=False)))
