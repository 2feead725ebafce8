"""Output of `secateur run` for a study that trains nothing."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from secateur.pipelines.commands.shell import out, say, table_of

if TYPE_CHECKING:
    from secateur.pipelines.storage.store import Store
    from secateur.pipelines.studies.grid import Trial
    from secateur.pipelines.studies.study import AnyStudy


def listed(store: "Store", study: "AnyStudy", trials: "Sequence[Trial]") -> list[dict[str, Any]]:
    """The rows that each trial keeps, as JSON-able data, for a study that trains nothing; empty for any other."""
    from secateur.pipelines.studies.choice import Choice

    if not isinstance(study, Choice):
        return []
    found = []
    for trial in trials:
        spent = store.load((study.name, "subset_spent"), trial)
        kept, path = int(store.load((study.name, "subset"), trial).sum()), store.find((study.name, "manifest"), trial)
        told = {name: spent[name] for name in ("unit", "total", "limit", "whole", "groups")}
        of = store.load((study.name, "source"))["samples"]
        found.append({"selection": trial.selection, "seed": trial.seed, "kept": kept, "of": of, **told}
                     | {"manifest": str(path) if path else None})  # fmt: skip
    return found


def show_chosen(answer: dict[str, Any]) -> None:
    """The choices as a table, and a note on the limits of this comparison."""
    from secateur.pipelines.pages.choice_content import UNTRAINED

    grouped = any(one["groups"] is not None for one in answer["trials"])
    lines = []
    for one in answer["trials"]:
        groups = [f"{one['groups'] or 0:,}"] if grouped else []
        of = f"{one['total']:,.10g} of {one['limit']:,.10g} {one['unit']}"
        lines.append((one["selection"], one["seed"], f"{one['kept']:,}", *groups, of))
    head = ("selection", "seed", "rows kept", *(["groups"] if grouped else []), "comes to")
    out.print(table_of(head, lines, right=range(1, len(head) - 1)))
    say(UNTRAINED, style="bold")
