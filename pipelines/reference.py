"""What pages show of what the code declares: scorers, selectors, settings, commands; tests hold the pages to it."""

import inspect
import re
from collections.abc import Iterable
from pathlib import Path

from pydantic import BaseModel

from secateur.pipelines.command_tables import command_reference
from secateur.pipelines.markdown_tables import table
from secateur.pipelines.settings_tables import pruning_keys, search_keys, study_keys
from secateur.scorers.checkpoints import CheckpointScorer
from secateur.scorers.contract import Scorer
from secateur.scorers.registry import AnyScorer, scorers
from secateur.selectors.contract import Selector, selectors
from secateur.trainers.experiment import experiments


def kind_of(declared: AnyScorer) -> str:
    """What a scorer looks at."""
    if inspect.isclass(declared):
        return "training run"
    return "checkpoints" if isinstance(declared, CheckpointScorer) else "signals"


def reads_of(declared: AnyScorer) -> Iterable[str]:
    """Signals by name, where a scorer reads any."""
    return declared.signals if isinstance(declared, Scorer) else ()


def score_table() -> str:
    """Every scorer: name, what it says, what high means, kind, view, settings, paper."""
    return table(
        ("score", "what it is", "high means", "kind", "view", "settings", "paper"),
        [
            (
                f"`{name}`",
                one.card.summary,
                one.card.high_means,
                " ".join([kind_of(one), *(f"`{signal}`" for signal in reads_of(one))]),
                one.card.view,
                settings_text(one.settings),
                one.card.paper,
            )
            for name, one in sorted(scorers().items())
        ],
    )


def selector_table() -> str:
    """Every selector: name, what it does, what it reads, settings, paper."""
    return table(
        ("selector", "what it does", "reads", "settings", "draws", "paper"),
        [
            (
                f"`{name}`",
                one.summary,
                ", ".join(f"`{signal}`" for signal in reads_by(one)),
                settings_text(one.settings, one.tunable),
                "yes" if one.draws else "ties only",
                one.paper,
            )
            for name, one in sorted(selectors().items())
        ],
    )


def short_score_table() -> str:
    """Every scorer in three columns."""
    rows = [(f"`{name}`", one.card.high_means, kind_of(one)) for name, one in sorted(scorers().items())]
    return table(("score", "high means", "of"), rows)


def short_selector_table() -> str:
    """Every selector in two columns."""
    rows = [(f"`{name}`", ", ".join(f"`{s}`" for s in reads_by(one))) for name, one in sorted(selectors().items())]
    return table(("selector", "reads"), rows)


def experiment_table() -> str:
    """Every experiment: unit, arms, what it measures, what the paper claims, settings, paper."""
    return table(
        ("experiment", "prunes", "arms and references", "measures", "claim", "settings", "paper"),
        [
            (
                f"`{name}`",
                f"{one.unit}s",
                ", ".join(f"`{arm}`" for arm in (*one.arms, *one.references)),
                one.metric,
                one.claim,
                settings_text(one.settings),
                one.paper,
            )
            for name, one in sorted(experiments().items())
        ],
    )


def scorer_pages() -> str:
    """What mkdocstrings is to show of every scorer: the class or the function in the file of its name."""
    names = [(name, one.__name__ if inspect.isclass(one) else name) for name, one in sorted(scorers().items())]
    return "\n\n".join(shown_by_mkdocstrings(f"secateur.scorers.{name}.{own}") for name, own in names)


def selector_pages() -> str:
    """What mkdocstrings is to show of every selector."""
    return "\n\n".join(shown_by_mkdocstrings(f"secateur.selectors.{name}.{name}") for name in sorted(selectors()))


def shown_by_mkdocstrings(path: str) -> str:
    """A class or function without its members, one heading deeper than a module."""
    return f"::: {path}\n    options: {{members: false, heading_level: 3, show_root_full_path: false}}"


def reads_by(chosen: Selector[...]) -> list[str]:
    """Signals that a selector reads, less the budget."""
    return [name for name in chosen.reads if name != "budget"]


def settings_text(settings: type[BaseModel], tunable: Iterable[str] = ()) -> str:
    """Settings with their defaults; those that are chosen on a validation split say so."""
    texts = []
    for name, declared in settings.model_fields.items():
        value = "" if declared.is_required() else f" = {declared.default!r}"
        texts.append(f"`{name}{value}`{' (chosen on validation data)' if name in set(tunable) else ''}")
    return ", ".join(texts)


TABLES = {
    "score table": score_table,
    "selector table": selector_table,
    "short score table": short_score_table,
    "short selector table": short_selector_table,
    "scorer pages": scorer_pages,
    "selector pages": selector_pages,
    "study keys": study_keys,
    "search keys": search_keys,
    "pruning keys": pruning_keys,
    "experiment table": experiment_table,
    "command reference": command_reference,
}
"""What stands between `<!-- name -->` and `<!-- end of name -->` in a page."""

PAGES = (
    "README.md",
    "docs/scores.md",
    "docs/selectors.md",
    "docs/reference/scorers.md",
    "docs/reference/selectors.md",
    "docs/reference/study.md",
    "docs/reference/search.md",
    "docs/reference/pruning.md",
    "docs/reference/commands.md",
)


def filled(page: str) -> str:
    """The page with every table between markers made anew."""
    for name, make in TABLES.items():
        start, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
        whole = f"{start}\n{make()}\n{end}"
        page = re.sub(f"{re.escape(start)}.*?{re.escape(end)}", lambda _, whole=whole: whole, page, flags=re.DOTALL)
    return page


def update(root: Path) -> None:
    """Write the tables of all pages below the project's root anew."""
    for name in PAGES:
        (root / name).write_text(filled((root / name).read_text()))
