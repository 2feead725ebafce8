"""Digests of files by the processes of a Ray cluster, outside of any other pass over the rows."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from secateur.pipelines.data import source_digests
from secateur.pipelines.files.contents import unknown
from secateur.pipelines.runs.ray_cluster import spread_over
from secateur.pipelines.studies.samples import Study
from secateur.pipelines.studies.study import AnyStudy


def elsewhere_of(study: AnyStudy) -> source_digests.Elsewhere | None:
    """How a study has its files digested before its run: on the cluster with `scoring: ray`, None elsewhere."""
    if not isinstance(study, Study) or study.compute.scoring != "ray":
        return None
    return partial(digest_on_ray, study.compute.ray_address)


def digest_on_ray(address: str | None, paths: Sequence[Path]) -> None:
    """Digest files of `LEAST` bytes or more together on the cluster at an address.

    Without Ray, or without a cluster, the process digests them itself later: a command that only looks whether data
    have changed needs no cluster.
    """
    if sum(path.stat().st_size for path in unknown(paths)) < source_digests.LEAST:
        return
    try:
        with spread_over("ray", address) as spread:
            assert spread is not None
            source_digests.digest_elsewhere(spread, paths)
    except (ConnectionError, ModuleNotFoundError):
        return
