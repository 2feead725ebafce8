"""What studies of tests have in common."""

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
