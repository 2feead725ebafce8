"""The rows of a first study, read as its run will read them, with policies for rows that the run would reject."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from secateur.pipelines.data.check import check_data, text_findings
from secateur.pipelines.data.policy import DataPolicy
from secateur.pipelines.data.preparation import encoding_facts
from secateur.pipelines.data.sources import Columns, LeftEmpty, Loaded, Source, load
from secateur.pipelines.studies.draft import Draft, note_test, source_of
from secateur.pipelines.studies.draft_sft import rendered_sample
from secateur.pipelines.studies.draft_target import SFT
from secateur.pipelines.studies.problem import Problem
from secateur.pipelines.studies.samples import Study
from secateur.trainers.modalities import encoding as encodings

FRACTIONS, SEEDS = (0.2, 0.3, 0.5), 8
"""Test fractions and split seeds to try until every class has rows on both sides."""
NEEDED = {"bad_rows": "rows without input, or that cannot be decoded", "unlabelled": "rows without label"}


def read_rows(draft: Draft, base: Path, cache: Path) -> tuple[dict[str, Any], Loaded]:
    """The `source` section and both splits; adds policies, the test split and the data check's report to the draft.

    Raises SourceError for data that no study can read.
    """
    task = Problem(kind=draft.goal.task)
    held = Columns(**draft.columns).holding(task.target, learned=task.declared.learns_target)
    columns = held.reading(draft.encoding)
    lenient = DataPolicy(bad_rows="drop", unlabelled="drop")
    tries = list(sources(source_of(draft, base), draft))
    for source in tries:
        try:
            loaded = load(TypeAdapter(Source).validate_python(source), columns, base, cache, lenient)
            break
        except LeftEmpty:
            if source is tries[-1]:
                raise
    note_test(draft, source)
    for name in dict.fromkeys(left.policy for left in loaded.dropped):
        draft.policy[name] = "drop"
        count = sum(left.found.count for left in loaded.dropped if left.policy == name)
        draft.note(NEEDED[name], f"{count} left out", f"data.{name}: drop; a run rejects them without it")
    draft.report = check_data(loaded)
    return source, loaded


def look_at_encoding(draft: Draft, study: Study, loaded: Loaded) -> None:
    """Add to the draft's report which parts of its texts the study's encoding loses.

    Raises ValueError for rows that it cannot encode, as a run of the study would.
    """
    if draft.report and study.columns:
        with loaded.placing("train"):
            encoder = encodings.fit_encoder(study.resolved_encoding, loaded.rows["train"], study.columns.inputs)
            if draft.goal.task == SFT:
                draft.note(
                    "first sample", rendered_sample(encoder, loaded.rows["train"]), "the model learns the text in ⟦ ⟧"
                )
        facts = encoding_facts(encoder, loaded)
        sizes = {split: len(rows) for split, rows in loaded.rows.items()}
        draft.report = replace(draft.report, texts=text_findings(facts, sizes))


def sources(source: dict[str, Any], draft: Draft) -> Iterator[dict[str, Any]]:
    """Yield the source, then variants with other test fractions and seeds if it draws its test split."""
    yield source
    if "test_fraction" in source:
        for share in FRACTIONS if draft.wish.test_fraction is None else (draft.wish.test_fraction,):
            for seed in range(SEEDS):
                if seed or share != source["test_fraction"]:
                    yield source | {"test_fraction": share} | ({"split_seed": seed} if seed else {})
