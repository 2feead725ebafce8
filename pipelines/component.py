"""Studies as components of a Dagster project of your own: the keys of a study's file are a component's attributes.

Resources, jobs, schedules and sensors have names of their own, so several components fit together and with the rest of
the project. Runs take the project's executor.
"""

import re
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Self

import dagster as dg
from dagster.components import Scaffolder, ScaffoldRequest, scaffold_component
from pydantic import BaseModel

from secateur.pipelines.definitions import build, resources_of
from secateur.pipelines.storage.home import marked_home
from secateur.pipelines.studies.architectures import Search
from secateur.pipelines.studies.choice import Choice
from secateur.pipelines.studies.files import StudyFile
from secateur.pipelines.studies.samples import Study
from secateur.pipelines.studies.study import AnyStudy
from secateur.pipelines.studies.units import PruningStudy


@cache
def shared_resources(root: Path) -> dict[str, Any]:
    """The same objects for each component: Dagster refuses two resources of one key."""
    return resources_of(root)


class Example(Scaffolder[BaseModel]):
    """Fills a new component with a study that runs, named after its folder."""

    def scaffold(self, request: ScaffoldRequest[BaseModel]) -> None:
        """Write the component's file; `dg scaffold defs` calls this."""
        model = {each.__name__: each.model for each in COMPONENTS}[request.type_name.rpartition(".")[2]]
        [example] = model.model_json_schema()["examples"]
        name = re.sub(r"\W", "_", request.target_path.name).lower()
        scaffold_component(request, example | {"name": name})


class ByModel:
    """Base of components with one of our models; relative paths start at the folder of its file.

    It is not a component itself, as Dagster lists every component that it finds.
    """

    model: ClassVar[type[AnyStudy]]

    def __init__(self, content: AnyStudy) -> None:
        self.content = content

    @classmethod
    def get_model_cls(cls) -> type[BaseModel]:
        """The model, from which Dagster takes the schema of the attributes."""
        return cls.model

    @classmethod
    def load(cls, attributes: BaseModel | None, context: dg.ComponentLoadContext) -> Self:
        """Fill in templates such as `{{ env.DATA }}` and validate the result again."""
        assert attributes is not None  # Dagster checks them by the model, which has required keys
        written = attributes.model_dump(mode="json", exclude_unset=True)
        return cls(cls.model.model_validate(context.resolution_context.resolve_value(written)))

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """Assets, jobs, schedules and sensors of the study; their results are below SECATEUR_HOME."""
        root = marked_home() / "assets"
        searches = [each.content.name for each in context.component_tree.get_all_components(SearchComponent)]
        file = StudyFile(context.path / "defs.yaml", self.content)
        resources = shared_resources(root)
        return build([file], root, searches=searches, export=f"{file.name}_export", own_executor=False, **resources)


@dg.scaffold_with(Example)
class StudyComponent(ByModel, dg.Component):
    """Prunes a training set: scores samples, selects subsets, trains on them, and reports each beside random."""

    model = Study


@dg.scaffold_with(Example)
class SearchComponent(ByModel, dg.Component):
    """Prunes a space of architectures and searches the rest, beside random search and regularised evolution."""

    model = Search


@dg.scaffold_with(Example)
class PruningComponent(ByModel, dg.Component):
    """Prunes weights, channels, heads, deltas or prompts, beside random."""

    model = PruningStudy


@dg.scaffold_with(Example)
class ChoiceComponent(ByModel, dg.Component):
    """Chooses rows by scores that you bring, beside as many at random; it trains nothing."""

    model = Choice


COMPONENTS = (StudyComponent, ChoiceComponent, SearchComponent, PruningComponent)
