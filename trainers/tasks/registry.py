"""All built-in tasks, found by their files, and the restoring of tasks from their states."""

from collections.abc import Mapping
from functools import cache
from typing import Any

from secateur.scorers.contract import discover
from secateur.trainers.tasks.contract import Task
from secateur.trainers.tasks.own import own_task


@cache
def tasks() -> Mapping[str, type[Task]]:
    """Every built-in task by name."""
    import secateur.trainers.tasks

    return discover(secateur.trainers.tasks, Task)


def task_from(state: Mapping[str, Any]) -> Task:
    """The task of a `Task.state`; settings and fitted values are arguments of its class.

    A `name` of the form module:factory is a user's own task. Raises ValueError for an unknown name, and for settings
    that the task does not take.
    """
    settings = dict(state)
    name = settings.pop("name", None)
    if isinstance(name, str) and ":" in name:
        if settings:
            raise ValueError(f"task {name!r} takes no settings: its factory has no arguments, given are {settings}")
        return own_task(name)
    if name not in tasks():
        raise ValueError(f"there is no task {name!r}; there are {', '.join(sorted(tasks()))}, or write module:factory")
    try:
        return tasks()[name](**settings)
    except TypeError as error:
        raise ValueError(f"task {name!r}: {error}") from error
