"""The asset `audit` of a study: leaks, copies, wrong labels and oddities of its rows, with checks and a page.

`secateur audit STUDY` or a materialisation in the UI makes it; `secateur run` leaves it out. In a recurring study it
reports rows that are new since the last audit.
"""

import json
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import polars as pl
from jaxtyping import Int64

from secateur.pipelines.assets.asset import key_of, study_asset
from secateur.pipelines.assets.facts import told_of
from secateur.pipelines.audits.auditing import Audited, How, audited
from secateur.pipelines.audits.cleaned import Samples
from secateur.pipelines.audits.contract import AuditRows
from secateur.pipelines.audits.later import audited_later
from secateur.pipelines.audits.memory import Memory, hashes_of, looks_of, memory_of
from secateur.pipelines.audits.of_study import known_from, study_rows
from secateur.pipelines.audits.study_models import identity_of, models_of
from secateur.pipelines.audits.study_vectors import NAME as EMBEDDINGS
from secateur.pipelines.audits.study_vectors import study_vectors, vectors_compared
from secateur.pipelines.data.stored_targets import strata_in
from secateur.pipelines.manifests.origin import Origin
from secateur.pipelines.pages.audit_folder import PAGE, TABLE, fill
from secateur.pipelines.pages.served import AUDIT, link_to
from secateur.pipelines.storage.store import Store
from secateur.pipelines.studies.choice import Choice
from secateur.pipelines.studies.samples import Study

SEEN = "audited_rows"
"""Key, beside the asset, of the rows of the last audit."""
MEMORY = "audit_memory"
"""Key, beside the asset of a recurring study, of results that the next audit can reuse."""
CHECKS = {
    "no_leaks": "No test row is in training, exactly or nearly.",
    "no_duplicates": "No training row is a copy of another.",
    "labels_right": "No training label is likely to be wrong.",
}
DESCRIPTION = (
    "Leaks, copies, wrong labels and oddities of the rows, what they mean, and manifests without them. `secateur run` "
    "leaves it out; `secateur audit STUDY` makes it."
)
OriginOf = Callable[[Any, dict[str, Any]], Origin]


def audit_asset(study: Study | Choice, base: Path, origin_of: OriginOf) -> dg.AssetsDefinition:
    """The audit of a study; `origin_of` finds the files of its rows."""
    key = key_of(study, "audit")
    link = link_to(study.name, AUDIT)

    @study_asset(
        study, "audit", ins=("samples", "source"),
        deps=[key_of(study, name) for name in beside(study)],
        description=DESCRIPTION, metadata={"page": dg.MetadataValue.url(link)} if link else {},
        check_specs=[dg.AssetCheckSpec(name, asset=key, description=text) for name, text in CHECKS.items()],
        accelerated=isinstance(study, Study),
    )  # fmt: skip
    def audit(
        context: dg.AssetExecutionContext, secateur_store: dg.ResourceParam[Store], samples: Any, source: Any
    ) -> dg.MaterializeResult:
        rows = study_rows(study, base, secateur_store.root / ".cache")
        seen, memory, looks = (study.name, SEEN), remembered(study, secateur_store), None
        if study.recurring and secateur_store.find(seen):
            before = secateur_store.load(seen, of_any_samples=True).collect()
            rows = replace(rows, known=known_from(rows, before))
        rows, how, made_of = asked(study, rows, secateur_store)
        told: dict[str, Any] = {"samples": study.report_samples, "say": context.log.info}
        rows, places = remembered_in(rows, memory)
        if memory and places is not None and len(places) < len(rows):
            with tempfile.TemporaryDirectory(prefix="secateur-") as aside:
                found, looks = audited_later(rows, memory, places, how, Path(aside), **told)
            rows = found.rows
        else:
            found = audited(rows, how, **told)
        with secateur_store.folder(key) as folder:
            own = samples_of(study, samples.collect(), source, origin_of)
            fill(found, folder, samples=own, more={"models": made_of})
        secateur_store.save(seen, hashes_of(rows))
        if study.recurring:
            with secateur_store.folder((study.name, MEMORY)) as folder:
                memory_of(found, looks_of(found) if looks is None else looks).write(folder)
        place = secateur_store.place(key).resolve()
        for finding in found.findings:
            context.log.warning(finding["text"])
        return dg.MaterializeResult(
            metadata={
                **told_of(found.findings),
                **{f"meaning {place}": text for place, text in enumerate(found.meaning, start=1)},
                **{f"note {place}": text for place, text in enumerate(rows.notes, start=1)},
                "leaks": found.leaks,
                "duplicates": found.duplicates,
                "rows audited anew": len(rows) if rows.known is None else int((~rows.known).sum()),
                "path": dg.MetadataValue.path(place / PAGE),
                "rows of findings": dg.MetadataValue.path(place / f"{TABLE}.csv"),
            },
            check_results=list(checks(found, key)),
        )

    return audit


def remembered(study: Study | Choice, store: Store) -> Memory | None:
    """The last audit's reusable results in a recurring study; None if they are missing or damaged."""
    key = (study.name, MEMORY)
    if not study.recurring or not store.find(key) or store.faults(key):
        return None
    return Memory.read(store.load(key, of_any_samples=True))


def remembered_in(rows: AuditRows, memory: Memory | None) -> tuple[AuditRows, Int64[np.ndarray, " known"] | None]:
    """Places of remembered rows among the current ones, None if none can be reused; adds a note to the rows if the
    reason is a change of vectors."""
    places = memory.places(rows) if memory else None
    if memory is None or places is None or not (why := memory.other_vectors(rows, places)):
        return rows, places
    return replace(rows, notes=(*rows.notes, f"near copies: all rows are compared again: {why}")), None


def beside(study: Study | Choice) -> list[str]:
    """Assets that an audit reads in addition to the samples and their source."""
    test = ["test_samples"] if isinstance(study, Study) else []
    return [*test, EMBEDDINGS] if vectors_compared(study) else test


def how_of(study: Study | Choice) -> How:
    """Settings of the audit: batch size and epochs of the study's training, for the cost of copies."""
    if isinstance(study, Choice) or not study.training:
        return How()
    training = study.training
    return How(batch_size=training.batch_size, epochs=training.epochs or 1)


def asked(study: Study | Choice, rows: AuditRows, store: Store) -> tuple[AuditRows, How, str]:
    """Rows with vectors and notes on the models, audit settings with the models' predictions, and their digest."""
    how = replace(how_of(study), near=not rows.whole)
    vectors, notes = study_vectors(study, store, rows)
    rows = replace(rows, vectors=vectors, notes=(*rows.notes, *notes))
    if isinstance(study, Choice):
        return rows, how, ""
    models, made_of = models_of(study, store, rows), identity_of(study, store)
    noted = replace(rows, notes=(*rows.notes, *models.notes))
    return noted, replace(how, own=models.training, tested=models.test, tested_by=models.name), made_of


def samples_of(study: Study | Choice, table: pl.DataFrame, source: dict[str, Any], origin_of: OriginOf) -> Samples:
    """The study's training samples, identified as in its manifests."""
    strata = strata_in(table)
    named = [name for name in ("row", "content_hash", "file", "file_row", "path", "id") if name in table.columns]
    columns = study.columns.model_dump(mode="json", exclude_none=True) if study.columns else {}
    return Samples(
        table=table.select(named).with_columns(stratum=pl.Series(strata)),
        rows=np.arange(len(table)),
        strata=tuple(source["strata"]),
        origin=origin_of(study, source),
        columns=columns,
        revision=source["revision"],
    )


def checks(found: Audited, key: dg.AssetKey) -> Iterator[dg.AssetCheckResult]:
    """Results of the asset's checks, with counts."""
    wrong = None if found.uncounted else found.suspects[0].wrong
    low = 0.0 if wrong is None else wrong.low
    told = {
        "no_leaks": (found.leaks == 0, f"{found.leaks:,} rows outside training are in it"),
        "no_duplicates": (found.duplicates == 0, f"{found.duplicates:,} training rows more than needed"),
        "labels_right": (
            low < 1,
            found.uncounted
            if wrong is None
            else f"about {wrong.count:,.0f} are wrong ({low:,.0f} to {wrong.high:,.0f})",
        ),
    }
    for name, (passed, text) in told.items():
        yield dg.AssetCheckResult(
            check_name=name, asset_key=key, passed=bool(passed), severity=dg.AssetCheckSeverity.WARN, description=text
        )


def answer_in(store: Store, study: Study | Choice) -> dict[str, Any]:
    """The result of a study's audit, as in its JSON."""
    folder = store.load((study.name, "audit"))
    answer: dict[str, Any] = json.loads((folder / "audit.json").read_text(encoding="utf-8"))
    return answer | {"folder": str(folder)}
