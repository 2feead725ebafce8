"""Show outcomes in the shell: the report of a study, or the trials of a part of it."""

from typing import TYPE_CHECKING, Any

from secateur.pipelines.commands.shell import out, say, table_of

if TYPE_CHECKING:
    from secateur.pipelines.studies.study import AnyStudy
    from secateur.trainers.tasks.contract import Metric


def show_report(answer: dict[str, Any]) -> None:
    """The comparison as a table and its verdict."""
    from secateur.pipelines.pages.equal_steps import AT_EPOCHS, AT_STEPS, in_terminal
    from secateur.pipelines.pages.tables import WORST_HEAD, terminal_table

    at_steps = answer["report"].get("at_equal_steps")  # reports of earlier versions have none
    if at_steps:
        say(AT_EPOCHS, style="bold")
    header, *lines = terminal_table(answer["report"], out.width)
    worst = [at for at, head in enumerate(header) if head.startswith(WORST_HEAD)]
    out.print(table_of(header, lines, right=(1, 2, *worst)))
    if recommendation := answer["report"]["recommendation"]:
        say(recommendation["sentence"], style="bold")
    for part in ("yardstick", "saving", "time_to_accuracy", "target"):
        if told := answer["report"].get(part):
            say(" ".join(told["sentences"]))
    say(answer["report"]["verdict"], style="bold")
    if at_steps:
        say(AT_STEPS, style="bold")
        header, *lines = in_terminal(at_steps["table"])
        out.print(table_of(header, lines, right=(1, 2)))
        for sentence in at_steps["sentences"]:
            say(sentence)
        say(at_steps["verdict"], style="bold")


def show_trials(study: "AnyStudy", trials: list[dict[str, Any]], metric: "Metric") -> None:
    """The outcomes of a part of a study as a table."""
    from secateur.pipelines.pages.words import number

    lines: list[tuple[object, ...]] = []
    for one in trials:
        kept = "all" if one["kept"] is None else f"{one['kept']:,} of {one['of']:,}"
        value = number(one["metrics"][metric.name], metric)
        lines.append((one["selection"], one["seed"], kept, f"{one['seconds']:.1f}", value))
    out.print(table_of((study.arm, "seed", "kept", "seconds", metric.title), lines, right=range(1, 5)))
