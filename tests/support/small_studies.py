"""What studies of tests have in common."""

from pathlib import Path

import dagster as dg

from secateur.pipelines.definitions import build
from secateur.pipelines.studies.files import StudyFile
from secateur.pipelines.studies.samples import Study

REST = """
proxy: {model: mlp, epochs: 1}
scores: {el2n: }
selections: {hardest: {selector: top, score: el2n}}
keep: [0.5]
training: {model: mlp, steps: 5}
seeds: 2
"""
"""Scores, selections and trainings of a study that is over in a moment."""


def read(file: StudyFile) -> Study:
    """The study of samples in a file that holds one."""
    assert isinstance(file.study, Study)
    return file.study


def inputs_made(file: StudyFile, root: Path) -> bytes:
    """Bytes of the inputs of the study blobs, training and test, materialised below a folder."""
    names = ("source", "samples", "test_samples", "inputs", "test_inputs", "encoder")
    job = build([file], root).resolve_implicit_global_asset_job_def()
    with dg.DagsterInstance.ephemeral() as instance:
        job.execute_in_process(instance=instance, asset_selection=[dg.AssetKey(["blobs", name]) for name in names])
    return b"".join((root / "blobs" / f"{name}.npy").read_bytes() for name in ("inputs", "test_inputs"))
