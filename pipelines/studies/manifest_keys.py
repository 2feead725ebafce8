"""Selections from manifests in a study that trains, each with a random baseline of equal size."""

from collections.abc import Sequence
from pathlib import Path

from secateur.pipelines.studies.grid import KD, STEPS, Trial
from secateur.pipelines.studies.rejections import require
from secateur.pipelines.studies.selection import RANDOM, Selection
from secateur.pipelines.studies.target_keys import TargetKeys


class ManifestKeys(TargetKeys):
    """Handling of manifests under `selections`."""

    def add_as_many(self) -> None:
        """Add a random baseline of equal size for each selection with a manifest."""
        for name in self.manifests:
            beside = self.selections.setdefault(
                f"{name}{RANDOM}", Selection(selector="uniform_random", budget="own", as_many_as=name)
            )
            if beside.as_many_as != name:
                raise ValueError(
                    f"selections.{name}{RANDOM}: as many rows as {name} keeps, at random, have this name; call the "
                    "selection otherwise"
                )
        for name, selection in self.selections.items():
            if selection.as_many_as is not None:
                require(selection.as_many_as, self.manifests, f"selections.{name}.as_many_as")

    @property
    def manifests(self) -> dict[str, Path]:
        """Folders of the manifests by the names of their selections."""
        return {name: one.manifest for name, one in self.selections.items() if one.manifest is not None}

    def as_many(self, name: str) -> str:
        plain = name.removesuffix(KD).removesuffix(STEPS)
        return f"{plain}{RANDOM}{name.removeprefix(plain)}" if plain in self.manifests else ""

    def title(self, name: str) -> str:
        plain = name.removesuffix(KD).removesuffix(STEPS)
        of = self.selections[plain].as_many_as if plain in self.selections else None
        if not of:
            return super().title(name)
        further = "" if plain == f"{of}{RANDOM}" else f"{plain}: "
        return super().title(name).replace(plain, f"{further}random, as many as {of}", 1)

    def listed_by(self, name: str) -> str:
        """The selection whose manifest sets a selection's rows or row count; empty if there is none."""
        selection = self.selections.get(name)
        return "" if selection is None else name if selection.manifest is not None else selection.as_many_as or ""

    def follows(self, names: Sequence[str], trial: Trial | None, content: str) -> bool:
        root, _, rest = content.partition(".")
        if root == "selections" and rest.endswith(".manifest"):
            plain = trial.plain.name if trial else ""
            return names[0] == "subset" and bool(plain) and self.listed_by(plain) == rest.partition(".")[0]
        return super().follows(names, trial, content)
