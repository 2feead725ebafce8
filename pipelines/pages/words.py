"""Numbers and comparisons in words: the only place that turns a `Verdict` into a sentence."""

import html
import math
import re

from markupsafe import Markup, escape

from secateur.pipelines.files.shown_text import in_markdown
from secateur.trainers.judging.comparison import Comparison, Summary, Verdict
from secateur.trainers.tasks.contract import Metric

MARKUP = re.compile(r"[\\`*{}\[\]#!~<&]|(?<!\w)_|_(?!\w)")
"""Markup characters, which our own sentences never contain."""
CODE = re.compile(r"`([^`\n]+)`")
"""A command or a key in our own sentences."""
BACKSLASH = "\\"
ESCAPED = re.compile(r"\\`([^`\n]+)\\`")
"""The same after escaping of the whole sentence."""
MINUS = re.compile(r"(?<![\w.,/-])-(?=\d)")
"""A hyphen before a number, which becomes a minus sign on a page."""
LOST = "▼"
"""Mark before the number of a lost class."""
HOUR = 3600
MOST_DECIMALS = 6
"""Of a mean and of its interval."""
Table = list[list[str]]
"""Lines of text, the header first."""


def scale_of(metric: Metric) -> float:
    """The factor from a metric's values to displayed numbers."""
    return 100.0 if metric.percent else 1.0


def unit_of(metric: Metric) -> str:
    """The unit of displayed numbers; empty for a metric without one."""
    return "%" if metric.percent else metric.unit


def number(value: float, metric: Metric) -> str:
    """A share as percent with one decimal; any other number with about three digits."""
    if metric.percent:
        return f"{100 * value:.1f}"
    size = abs(value)
    return f"{value:,.0f}" if size >= 1000 else f"{value:.1f}" if size >= 10 else f"{value:.3g}"


def with_sign(text: str) -> str:
    """A number in digits with its sign; one that rounds to zero from below has none, and NaN has none."""
    return f"+{text}" if text[0].isdigit() else text if text.strip("-0.,") else text.removeprefix("-")


def signed(value: float, metric: Metric) -> str:
    """A difference, with its sign; one that rounds to zero from below has none."""
    return with_sign(number(value, metric))


def decimals_of(half_width: float | None, metric: Metric) -> int | None:
    """Decimals that leave two digits of an interval; None where `number` decides, as for shares and tiny intervals."""
    if metric.percent or not half_width or not math.isfinite(half_width):
        return None
    decimals = max(1 - math.floor(math.log10(half_width)), 0)
    return decimals if decimals <= MOST_DECIMALS else None


def with_interval(value: float, half_width: float | None, metric: Metric, *, sign: bool = False) -> str:
    """A number ± the half-width of its interval, both to the same decimals; the number alone without an interval."""
    decimals = decimals_of(half_width, metric)

    def shown(one: float) -> str:
        return number(one, metric) if decimals is None else f"{one:,.{decimals}f}"

    middle = with_sign(shown(value)) if sign else shown(value)
    return middle if half_width is None else f"{middle} ± {shown(half_width)}"


def mean_of(summary: Summary, metric: Metric) -> str:
    """Mean ± half-width of the interval; the mean alone for one seed."""
    return with_interval(summary.mean, summary.half_width, metric)


def difference_of(compared: Comparison, metric: Metric) -> str:
    """Difference ± half-width of its interval."""
    return with_interval(compared.difference, compared.half_width, metric, sign=True)


def brief(compared: Comparison, metric: Metric, *, with_p: bool = True) -> str:
    """The verdict for a table's cell; the column's header names the other side."""
    p_value = f" (p {compared.p_value:.2g})" if with_p and compared.p_value is not None else ""
    return f"{compared.verdict} {signed(compared.difference, metric)}{p_value}"


def sentence(compared: Comparison, metric: Metric, other: str) -> str:
    """The verdict in full."""
    unit = " points" if metric.percent else f" {metric.unit}" if metric.unit else ""
    change = f"{signed(compared.difference, metric)}{unit}"
    if compared.verdict is Verdict.ONE_SEED or compared.p_value is None:
        return f"one seed says nothing: {change} against {other}"
    digits = ".2f" if compared.verdict is Verdict.NO_BETTER else ".2g"
    return f"{compared.verdict} than {other} ({change}, p = {compared.p_value:{digits}} over {compared.seeds} seeds)"


def sentence_of(better: list[str], worse: list[str], compared: int, seeds: int, arm: str) -> str:
    """A sentence on the compared arms that did better than random, and on those that did worse."""
    if better:
        rest = "; the others were not" if len(better) < compared else ""
        said = f"Better than random at the same budget, over {seeds} seeds: {', '.join(better)}{rest}."
    else:
        said = f"No {arm} did better than random at the same budget, over {seeds} seeds."
    return f"{said} Random did better than {', '.join(worse)}." if worse else said


def direction(metric: Metric) -> str:
    """The better direction, in words."""
    return "higher is better" if metric.higher_is_better else "lower is better"


def as_text(said: str) -> str:
    """Our own sentence for Markdown, with code in backticks as code; escaped as a whole if a user's name in it contains
    markup."""
    words = CODE.sub("", said)
    if not MARKUP.search(words):
        return said.replace("|", "\\|")
    return ESCAPED.sub(lambda found: f"`{html.unescape(found[1].replace(BACKSLASH, ''))}`", in_markdown(said))


def as_html(said: str) -> Markup:
    """Our own sentence for a page: as text with minus signs, code in backticks as code."""
    parts = CODE.split(str(escape(said)))  # every second one is code
    return Markup("".join(f"<code>{part}</code>" if at % 2 else with_minus(part) for at, part in enumerate(parts)))


def with_minus(said: str) -> str:
    """Our own sentence for a page, with hyphens before numbers as minus signs; terminal, JSON and CSV keep hyphens."""
    return MINUS.sub("−", said)  # noqa: RUF001


def text_table(table: Table) -> str:
    """A table in Markdown."""
    header, *lines = ([as_text(cell) for cell in line] for line in table)
    listed = [" | ".join(line) for line in (header, ["---"] * len(header), *lines)]
    return "\n".join(f"| {line} |" for line in listed)


def span(seconds: float) -> str:
    """A time span with about three digits, in a unit by its size."""
    for unit, size in (("hours", HOUR), ("minutes", 60)):
        if abs(seconds) >= 3 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.2f} seconds" if abs(seconds) < 10 else f"{seconds:.1f} seconds"
