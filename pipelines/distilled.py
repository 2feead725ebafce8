"""What a study may write under `distillation`: how a teacher teaches, and which selections get a taught twin."""

from collections.abc import Iterable, Mapping
from typing import Annotated, Any

from pydantic import ConfigDict, Field

from secateur.pipelines.strict_settings import require
from secateur.trainers.contract import Recipe
from secateur.trainers.distillation import Distillation
from secateur.trainers.models import check_recipe


class Distilled(Distillation):
    """A `Distillation` and the selections that it is for: each gets a twin `<name>+kd`, trained on the same samples."""

    model_config = ConfigDict(populate_by_name=True)

    selections: Annotated[
        list[str] | None,
        Field(alias="for", min_length=1, description="names of selections, or full; every selection if left out"),
    ] = None

    def students(self, selections: Iterable[str]) -> list[str]:
        """Names, `full` among them where it is asked for, of what gets a twin."""
        return list(selections) if self.selections is None else self.selections

    def check(self, known: Mapping[str, Any]) -> None:
        """Raise ValueError for a selection or a teacher's model that does not exist."""
        for name in self.selections or ():
            require(name, known, "distillation.for")
        if isinstance(self.teacher, Recipe):
            check_recipe(self.teacher)
