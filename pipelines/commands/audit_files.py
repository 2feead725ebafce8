"""Files and output that the audits of data and of studies share in the shell."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from secateur.pipelines.commands.shell import caution, out, say, table_of, tell

if TYPE_CHECKING:
    import polars as pl

    from secateur.pipelines.audits.auditing import Audited
    from secateur.pipelines.audits.cleaned import Samples
    from secateur.pipelines.audits.limits import Limit
    from secateur.pipelines.audits.marking import Precision


def refuse(
    *,
    page: Path | None,
    findings: Path | None,
    write: Path | None,
    inputs: list[Path],
    marks: Path | None,
    overwrite: bool,
) -> None:
    """Raise ValueError or FileExistsError, before any file is read, for files that cannot be written."""
    from secateur.pipelines.files.unwritable import refuse_unwritable
    from secateur.pipelines.pages.audit_folder import refuse_other
    from secateur.pipelines.pages.audit_paths import refuse_inputs, refuse_page, refuse_table

    every = [*inputs, *([marks] if marks else [])]
    if page is not None:
        refuse_page(page, every, overwrite=overwrite)
    if findings is not None:
        refuse_table(findings, every, overwrite=overwrite)
    if write is not None:
        refuse_inputs(write, inputs)  # marks may lie in the folder to be replaced
        refuse_other(write, overwrite=overwrite)
    refuse_unwritable(page, findings, write)


def written(
    found: "Audited",
    right: "list[Precision]",
    marks: bytes,
    over: list[str],
    *,
    page: Path | None,
    findings: Path | None,
    write: Path | None,
    overwrite: bool,
    samples: "Samples | None" = None,
) -> dict[str, str]:
    """Write the requested files; returns their paths by their description. Manifests of a study name its `samples`."""
    from secateur.pipelines.pages.audit_folder import write_audit, write_page, write_table

    paths: dict[str, str] = {}
    if page is not None:
        write_page(found, page, precisions=right, overwrite=overwrite)
        paths["page"] = str(page)
    if findings is not None:
        write_table(found, findings, overwrite=overwrite)
        paths["findings"] = str(findings)
    if write is not None:
        paths["folder"] = str(write)
        told: dict[str, Any] = {"precisions": right, "more": {"exceeded": over}, "samples": samples, "marks": marks}
        paths |= write_audit(found, write, **told, overwrite=overwrite)
    return paths


def finished(
    found: "Audited",
    limits: "dict[str, Limit]",
    asked: dict[str, Any],
    known: "pl.DataFrame | None",
    *,
    as_json: bool,
    samples: "Samples | None" = None,
) -> list[str]:
    """Write the files in `asked`, and show the result; returns the limits that it exceeds. `known` are marks."""
    from secateur.pipelines.audits.limits import exceeded
    from secateur.pipelines.audits.marking import precisions

    right, strange = ([], 0) if known is None else precisions(found.lines, known)
    answer = found.content() | {"precision": [one.content() for one in right]}
    answer["exceeded"] = over = exceeded(answer, limits)
    marks = asked["marks"].read_bytes() if asked["marks"] else b""
    paths = {key: asked[key] for key in ("page", "findings", "write", "overwrite")}
    answer["files"] = written(found, right, marks, over, **paths, samples=samples)
    tell(answer, as_json, lambda: show(answer))
    caution_strange(strange)
    return over


def show(answer: dict[str, Any]) -> None:
    """Findings as a table, their consequences, the reader's guesses, and the paths of files."""
    lines = [(one["kind"], one["split"], f"{one['count']:,}", one["text"]) for one in answer["findings"]]
    if lines:
        out.print(table_of(("finding", "of", "rows", ""), lines, right=(2,)))
    sizes = ", ".join(f"{count:,} {name}" for name, count in answer["rows"].items())
    say(f"{len(lines) or 'no'} finding{'' if len(lines) == 1 else 's'} in {sizes} rows", style="bold")
    meant = [answer[name]["sentence"] for name in ("resting_on_leaks", "saving") if answer[name]]
    meant += [one["sentence"] for one in answer["contamination"].values()]
    for sentence in (*meant, *(one["sentence"] for one in answer["precision"])):
        say(sentence)
    if answer["labels_not_looked_at"]:
        say(f"labels were not looked at: {answer['labels_not_looked_at']}")
    for note in answer["notes"]:
        say(note)
    for name, path in answer["files"].items():
        say(f"{name}  {path}")


def caution_strange(count: int) -> None:
    """Warn of marks that do not count, if there are any."""
    if count:
        caution(f"{count:,} mark{'s are' if count > 1 else ' is'} of rows that were not drawn, and do not count")
