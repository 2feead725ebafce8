"""Runs of this process, recorded like those of the UI, so that its landing page shows them too."""

from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.execution.api import execute_run
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin

from secateur.pipelines.assets.sentences import Sentence

LOCATION, REPOSITORY = "secateur.pipelines.definitions", "__repository__"
"""Name of the code location of `secateur ui`, and Dagster's name for its definitions."""
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
FROM = "secateur/from"
"""Tag that distinguishes runs of the shell from those of the UI."""
NO_RETRIES = {"dagster/max_retries": "0"}
"""The UI does not restart a run that was killed in a shell; the user may do so there."""


def origin_of(job: dg.JobDefinition) -> RemoteJobOrigin:
    """Origin of a job in the UI, whose landing page ignores runs without one."""
    location = RegisteredCodeLocationOrigin(LOCATION)
    return RemoteJobOrigin(RemoteRepositoryOrigin(location, REPOSITORY), job.name)


def run_here(
    job: dg.JobDefinition,
    instance: dg.DagsterInstance,
    keys: Sequence[dg.AssetKey],
    *,
    run_id: str,
    tags: Mapping[str, str],
) -> None:
    """Materialise some assets of a job in this process, one step after the other.

    Raises the first error of a step, as the step raised it.
    """
    here: Any = job.as_ephemeral_job(resource_defs={}, input_values={})
    run = instance.create_run_for_job(
        here,
        run_id=run_id,
        run_config=QUIET,
        tags={**here.run_tags, FROM: "shell", **NO_RETRIES, **tags},
        asset_selection=frozenset(keys),
        remote_job_origin=origin_of(job),
    )
    try:
        execute_run(InMemoryJob(here), run, instance, raise_on_error=True)
    except Sentence as told:
        raise told.__cause__ or told from None
