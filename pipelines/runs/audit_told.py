"""The audit of a study for its report and its findings: the stored answer, if it is about the current rows."""

import json
from collections.abc import Mapping
from typing import Any

import polars as pl

from secateur.pipelines.storage.store import Store
from secateur.pipelines.studies.signals import AUDIT
from secateur.pipelines.studies.study import AnyStudy

ANSWER, TABLE = "audit.json", "findings.parquet"
LINK = "../audit/audit.html"
"""From the folder of a report to the page of the audit, on disk and as `secateur ui` serves both."""
SHARED = ("leaked", "duplicates", "conflicts", "groups")
"""Kinds of findings that the check of the data has as well, and reports first."""


def audit_told(store: Store, study: AnyStudy) -> dict[str, Any] | None:
    """The audit's answer from its JSON; None where there is none about the study's current rows."""
    key = (study.name, AUDIT)
    if not store.holds(key):
        return None
    answer: dict[str, Any] = json.loads((store.load(key) / ANSWER).read_text(encoding="utf-8"))
    return answer


def audit_lines(store: Store, study: AnyStudy) -> pl.DataFrame | None:
    """The audit's table of rows; None where `audit_told` is None."""
    key = (study.name, AUDIT)
    return pl.read_parquet(store.load(key) / TABLE) if store.holds(key) else None


def audited_content(study: AnyStudy, store: Store) -> dict[str, str]:
    """Digest of the audit that a report would show, by its key; nothing without one."""
    key = (study.name, AUDIT)
    return {AUDIT: store.content(key) or ""} if store.holds(key) else {}


def audit_findings(answer: Mapping[str, Any] | None, known: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Findings of the audit beside those that are `known`, each marked as the audit's."""
    if answer is None:
        return []
    said = {(one["kind"], one["split"]) for one in known}
    new = [one for one in answer["findings"] if one["kind"] not in SHARED or (one["kind"], one["split"]) not in said]
    shown = {"source": "audit", "group_count": 0}
    return [{**one, **shown, "view": "rows" if one["rows"] or one["paths"] else "sentence"} for one in new]


def audit_sentences(answer: Mapping[str, Any] | None) -> list[str]:
    """Number and consequences of the audit's findings, without the findings themselves."""
    if answer is None:
        return []
    sizes = ", ".join(f"{count:,} of {name}" for name, count in answer["rows"].items())
    count = len(answer["findings"])
    first = f"The audit has {count or 'no'} finding{'' if count == 1 else 's'} in rows: {sizes}."
    meant = [answer[name]["sentence"] for name in ("resting_on_leaks", "saving") if answer[name]]
    meant += [one["sentence"] for one in answer["contamination"].values()]
    if answer["labels_not_looked_at"]:
        meant.append(f"Labels were not looked at: {answer['labels_not_looked_at']}")
    return [first, *(f"{text}." for text in meant)]
