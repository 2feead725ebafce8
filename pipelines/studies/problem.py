"""What a study writes under `task`: the learning problem and its settings, checked when the study loads."""

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, create_model, model_validator

from secateur.pipelines.data.columns import Target
from secateur.pipelines.studies.rejections import Strict, checked, nested, require
from secateur.trainers.tasks.contract import Task, tasks

COUNTED = {"class": "classes", "labels": "labels"}
"""The setting by which a task is told how many classes or labels the data have."""


class Problem(Strict):
    """A task by name, and its settings; a YAML writes the name alone, or `kind` with the settings beside it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Annotated[str, Field(description="a task")] = "classification"
    settings: Annotated[dict[str, Any], Field(description="of the task; a YAML writes them beside kind")] = Field(
        default_factory=dict
    )

    @model_validator(mode="before")
    @classmethod
    def _flat(cls, written: Any) -> Any:
        if isinstance(written, str):
            return {"kind": written}
        return nested("classification", written, "kind", set())

    @model_validator(mode="after")
    def _exists(self) -> "Problem":
        require(self.kind, tasks(), "task")
        checked(settings_of(self.declared), self.settings, f"task {self.kind}")
        return self

    @property
    def declared(self) -> type[Task]:
        """The class of the task."""
        return tasks()[self.kind]

    @property
    def target(self) -> Target:
        """What the label columns of such a study hold."""
        return self.declared.target

    def task(self, names: Sequence[str]) -> Task:
        """The task of data with these classes, numbers or labels, before it is fitted; raises ValueError."""
        counted = COUNTED.get(self.target)
        counts = {counted: len(names)} if counted else {}
        return self.declared(**counts, names=tuple(names), **self.settings)


def settings_of(task: type[Task]) -> type[BaseModel]:
    """What a study may set of a task, as a model that rejects anything else."""
    fields = {name: field for name, field in task.__dataclass_fields__.items() if name in task.settings}  # type: ignore[attr-defined]
    typed: dict[str, Any] = {name: (field.type, field.default) for name, field in fields.items()}
    return create_model(f"{task.__name__}Settings", __config__=ConfigDict(extra="forbid"), **typed)
