"""Tables and pictures of the measurements of `benchmarks/scale.py`."""

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from at_scale.data import KINDS, STEPS
from pictures import save

from secateur.trainers.experiments.drawing import COLOURS, RANDOM_COLOUR

PAGE = Path(__file__).parents[2] / "docs" / "big-data.md"
MARKS = ("<!-- scale -->\n", "<!-- end of scale -->")
STAGES = {
    "imports": "imports",
    "data": "data",
    "proxy training": "proxy training",
    "scores": "scores",
    "selection": "selection",
    "training": "trainings",
    "records of trainings": "models and their records",
    "evaluation": "evaluation",
    "manifests": "manifests",
    "report": "report",
}
"""Stages in their order, with their titles; all other stages count as the rest."""
REST, TRAININGS = "the rest", ("proxy training", "training")
Runs = Mapping[str, Mapping[str, Any]]


def grouped(run: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Stages of a run by title, with the unnamed ones combined."""
    found: dict[str, dict[str, float]] = {}
    for name, stage in run["stages"].items():
        mine = found.setdefault(STAGES.get(name, REST), {"wall": 0.0, "processor": 0.0, "peak": 0.0})
        mine["wall"], mine["processor"] = mine["wall"] + stage["wall"], mine["processor"] + stage["processor"]
        mine["peak"] = max(mine["peak"], stage["peak"])
    return found


def outside(run: Mapping[str, Any], what: str = "processor") -> tuple[float, float]:
    """Seconds within trainings, including the proxy's, and outside of them."""
    inside = sum(stage[what] for name, stage in run["stages"].items() if name in TRAININGS)
    return inside, run[what] - inside


def peak_of(run: Mapping[str, Any]) -> float:
    """Peak of anonymous memory, bytes."""
    return float(max(stage["peak"] for stage in run["stages"].values()))


def exponent(points: Sequence[tuple[int, float]]) -> str:
    """Exponent of a number's growth with the rows between the last two sizes; empty if it is unknown."""
    known = [(rows, value) for rows, value in points if value > 0]
    if len(known) < 2:
        return ""
    (few, small), (many, large) = known[-2:]
    return f"{math.log(large / small) / math.log(many / few):.2f}"


def number(value: float | None) -> str:
    """Seconds or megabytes with three digits; empty for unknown values, and for stages too short to be sampled."""
    if not value:
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def line_of(key: str, run: Mapping[str, Any]) -> str:
    """Summary of a run on one line."""
    inside, rest = outside(run)
    parts = ", ".join(f"{name} {stage['processor']:.1f}" for name, stage in grouped(run).items())
    return (
        f"{key}: {run['processor']:.1f} processor s, {run['wall']:.1f} wall s, outside of trainings {rest:.1f}, within "
        f"{inside:.1f}; peak {peak_of(run) / 1e6:,.0f} MB; {parts}"
    )


def of_kind(runs: Runs, kind: str, who: str) -> dict[int, Mapping[str, Any]]:
    """Runs of a kind by rows, ascending."""
    found = {int(key.split()[1]): run for key, run in runs.items() if key.startswith(kind) and key.endswith(who)}
    return dict(sorted(found.items()))


def table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table, right-aligned but for the first column."""
    rule = ["---", *["---:" for _ in head[1:]]]
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, rule, *lines))


def of_time(runs: Runs, kind: str) -> str:
    """Processor seconds by stage and rows."""
    ours, theirs = of_kind(runs, kind, "secateur"), of_kind(runs, kind, "by hand")
    most, both = max(ours), max(theirs, default=0)
    head = [
        "processor seconds",
        *(f"{rows:,} rows" for rows in ours),
        "exponent",
        "µs a row",
        *([f"by hand, {both:,} rows"] if theirs else []),
    ]
    lines = []
    for title in (*STAGES.values(), REST):
        points = [(rows, grouped(run).get(title, {}).get("processor", 0.0)) for rows, run in ours.items()]
        other = [number(grouped(theirs[both]).get(title, {}).get("processor"))] if theirs else []
        each = number(1e6 * points[-1][1] / most)
        lines.append([title, *(number(value) for _, value in points), exponent(points), each, *other])
    for title, place in (("all within trainings", 0), ("all outside of them", 1)):
        points = [(rows, outside(run)[place]) for rows, run in ours.items()]
        last = [number(outside(theirs[both])[place])] if theirs else []
        each = number(1e6 * points[-1][1] / most)
        lines.append([title, *(number(value) for _, value in points), exponent(points), each, *last])
    return table(head, lines)


def of_memory(runs: Runs, kind: str) -> str:
    """Peak memory by stage and rows, and bytes left on disk."""
    ours, theirs = of_kind(runs, kind, "secateur"), of_kind(runs, kind, "by hand")
    most, both = max(ours), max(theirs, default=0)
    head = [
        "peak of memory, MB", *(f"{rows:,} rows" for rows in ours), "exponent", "bytes a row", "bytes a row on disk",
        *([f"by hand, {both:,} rows"] if theirs else []),
    ]  # fmt: skip
    disk = {STAGES.get(name, REST): size for name, size in ours[most]["disk"].items()}
    lines = []
    for title in (*STAGES.values(), REST):
        points = [(rows, grouped(run).get(title, {}).get("peak", 0.0) / 1e6) for rows, run in ours.items()]
        other = [number(grouped(theirs[both]).get(title, {}).get("peak", 0.0) / 1e6)] if theirs else []
        each, left = number(1e6 * points[-1][1] / most), number(disk.get(title, 0) / most) if disk.get(title) else ""
        told = [exponent(points), each, left, *other]
        lines.append([title, *(number(value) for _, value in points), *told])
    return table(head, lines)


def sections(runs: Runs, steps: int) -> dict[str, str]:
    """Tables, sentence and command of each kind that ran with so many steps of each training, as Markdown."""
    found = {}
    for kind in KINDS:
        if not (ours := of_kind(runs, kind, "secateur")):
            continue
        most = max(ours)
        (inside, rest), (within, beyond) = outside(ours[most]), outside(ours[most], "wall")
        said = (
            f"At {most:,} rows the study takes {number(ours[most]['wall'])} s by the clock, {number(beyond)} s of them "
            f"outside of trainings; in processor seconds {number(rest)} outside, {rest / inside:.2f} times the "
            f"{number(inside)} within (by the clock {beyond / within:.2f} times). Its peak is "
            f"{number(peak_of(ours[most]) / 1e6)} MB of its own memory, {number(ours[most]['whole'] / 1e6)} MB with "
            "the pages of mapped files that the system may take back."
        )
        options = [*map(str, ours), *([f"--steps {steps}"] if steps != STEPS else [])]
        options += [] if of_kind(runs, kind, "by hand") else ["--alone"]
        command = f"Command: `python benchmarks/scale.py {kind} {' '.join(options)}`"
        found[kind] = "\n\n".join([of_time(runs, kind), of_memory(runs, kind), said, command])
    return found


def tables(runs: Runs, steps: int) -> str:
    """All of it as Markdown, by kind."""
    return joined(sections(runs, steps))


def joined(parts: Mapping[str, str]) -> str:
    """Parts of kinds, each under its heading, in the order of the kinds."""
    return "\n\n".join(f"### {kind.capitalize()}\n\n{parts[kind]}" for kind in KINDS if kind in parts)


def sections_in(text: str) -> dict[str, str]:
    """Parts of kinds that stand on the page, as `joined` wrote them."""
    parts = re.split(r"^### (.+)\n", text, flags=re.MULTILINE)[1:]
    return {name.lower(): part.strip() for name, part in zip(parts[::2], parts[1::2], strict=True)}


def draw(runs: Runs) -> None:
    """Draw seconds by stage and peak memory over rows, for tables."""
    ours, theirs = of_kind(runs, "tables", "secateur"), of_kind(runs, "tables", "by hand")
    lines = {"data": COLOURS[0], "scores": COLOURS[3], "selection": COLOURS[4], "manifests": COLOURS[5],
             "evaluation": COLOURS[2], "report": COLOURS[6]}  # fmt: skip

    def times(axes: Any) -> None:
        for title, colour in lines.items():
            heights = [grouped(run).get(title, {}).get("processor", 0.0) for run in ours.values()]
            axes.plot(list(ours), heights, color=colour, marker="o", markersize=4, linewidth=1, label=title)
        for runs_of, style, who in ((ours, "-", "secateur"), (theirs, "--", "by hand")):
            for place, colour, what in ((0, RANDOM_COLOUR, "all trainings"), (1, COLOURS[1], "all else")):
                heights = [outside(run)[place] for run in runs_of.values()]
                axes.plot(list(runs_of), heights, style, color=colour, marker="s", linewidth=2, label=f"{what}, {who}")
        axes.set(xscale="log", yscale="log", xlabel="rows", ylabel="processor seconds")
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8)

    def memory(axes: Any) -> None:
        for title, colour in lines.items():
            heights = [grouped(run).get(title, {}).get("peak", 0.0) / 1e9 for run in ours.values()]
            axes.plot(list(ours), heights, color=colour, marker="o", markersize=4, linewidth=1, label=title)
        for runs_of, style, who in ((ours, "-", "secateur"), (theirs, "--", "by hand")):
            heights = [peak_of(run) / 1e9 for run in runs_of.values()]
            axes.plot(list(runs_of), heights, style, color=COLOURS[1], marker="s", linewidth=2, label=f"peak, {who}")
        axes.set(xscale="log", yscale="log", xlabel="rows", ylabel="peak of memory, GB")
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8)

    save("scale_time", times, 6.8, 3.8)
    save("scale_memory", memory, 6.8, 3.4)


def write(runs: Runs, steps: int) -> None:
    """Write tables and pictures into the documentation, and leave those of kinds that did not run; exits if the page
    lacks the marks."""
    before, mark, rest = PAGE.read_text().partition(MARKS[0])
    old, end, after = rest.partition(MARKS[1])
    if not mark or not end or re.search(r"<!--", old):
        raise SystemExit(f"{PAGE.name} needs {MARKS[0].strip()} and {MARKS[1]} once each")
    if of_kind(runs, "tables", "secateur"):
        draw(runs)
    PAGE.write_text(f"{before}{mark}{joined(sections_in(old) | sections(runs, steps))}\n{end}{after}")
