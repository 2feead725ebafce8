"""What studies of tests have in common."""

REST = """
proxy: {model: mlp, epochs: 1}
scores: {el2n: }
selections: {hardest: {selector: top, score: el2n}}
keep: [0.5]
training: {model: mlp, steps: 5}
seeds: 2
"""
"""Scores, selections and trainings of a study that is over in a moment."""
