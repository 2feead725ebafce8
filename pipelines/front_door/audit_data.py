"""Read a caller's data for an audit: training rows, and beside them test, target and benchmarks, in any format.

Columns are guessed as for a first study; without a column that looks like a label, rows are audited without one.
"""

from __future__ import annotations

import codecs
import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import polars as pl
from pydantic import TypeAdapter

from secateur.pipelines.audits.contract import BENCHMARK, TARGET, TEST, TRAIN, AuditRows
from secateur.pipelines.audits.reading import PartFiles, rows_of
from secateur.pipelines.data.columns import Columns
from secateur.pipelines.data.own_values import column_over
from secateur.pipelines.data.profile import BUNDLED, Column, Place, find_data, profile, separator_of
from secateur.pipelines.data.source_kinds.files import SourceError, at_hand
from secateur.pipelines.data.source_kinds.registry import Source
from secateur.pipelines.data.sources import options_named, own_manners, read
from secateur.pipelines.front_door.as_tables import chats_in_hand, flattened, listed_pictures
from secateur.pipelines.front_door.audit_vectors import AskedVectors, lacking, vectors_for
from secateur.pipelines.front_door.held import alone
from secateur.pipelines.front_door.read_whole import written
from secateur.pipelines.studies.draft import KNOWN, Draft, Wish, guess_inputs, source_of, text_of
from secateur.pipelines.studies.draft_target import Goal, goal_of
from secateur.pipelines.studies.problem import Problem
from secateur.pipelines.studies.rejections import did_you_mean

SURE = ("you said so", "its name", "the file declares it a ClassLabel", "the column of lists", "the columns of 0 and 1")
"""Reasons that suffice to take a column for the label; being the last possible column does not."""
HELD = {"image": "pictures", "text": "texts", "features": "tables"}
"""The content of data, by the kind of their input."""
NAMED = 5
"""Most columns in a message."""
IN_HAND = {"train": "the data", "test": "the test rows", "target": "the target rows"}
"""Names of data in memory for people, by their part."""


@dataclass(frozen=True)
class Given:
    """A caller's arguments: training rows, and the data to compare them with; each a path or data in memory."""

    data: Any
    test: Any = None
    target: Any = None
    against: Sequence[Any] = ()
    wish: Wish = field(default_factory=Wish)
    group: str | None = None
    key: str | None = None
    """The column of the caller's own ids."""
    unlabelled: bool = False
    """Whether to take no column for a label."""
    charset: str | None = None
    """Encoding of CSV files that are not UTF-8."""
    embeddings: AskedVectors | None = None
    """Vectors for a further comparison of rows."""


@dataclass(frozen=True)
class Located:
    """A part's place, and the names of the part and its files for people."""

    name: str
    place: Place
    shown: tuple[str, ...] = ()
    """Names of its files, where the read files are not the user's."""
    base: Path = Path()
    """Start of relative paths of pictures."""
    chat: str | None = None
    """Its column of conversations, which is read as texts."""


def audit_rows(given: Given, folder: Path, alive: Any = None) -> AuditRows:
    """Read all of the caller's data; files are written below `folder` where necessary. Raises SourceError."""
    try:
        if given.charset is not None:
            codecs.lookup(given.charset)
    except LookupError as error:
        raise SourceError(f"--charset {given.charset}: there is no such encoding; write latin-1 or cp1252") from error
    with options_named():
        return read_rows(given, folder, alive)


def read_rows(given: Given, folder: Path, alive: Any = None) -> AuditRows:
    """`audit_rows`, with errors in the words of a study."""
    given_text = given.wish.text
    refuse_both(given.wish)
    refuse_twice(given)
    train = located(given.data, "train", given, folder)
    if train.chat:
        given = replace(given, wish=replace(given.wish, text=train.chat))
        refuse_both(given.wish)
    draft = drafted(train.place, given, chat=None if given_text else train.chat)
    columns = columns_of(draft, given)
    parts = {TRAIN: part_files(train, draft, columns, folder)}
    if given.test is not None:
        parts[TEST] = beside(located(given.test, "test", given, folder), draft, columns, folder)
    elif train.place.test:
        parts[TEST] = replace(parts[TRAIN], name="test", files=files_of(draft, columns, folder, "test"))
    if given.target is not None:
        parts[TARGET] = beside(located(given.target, "target", given, folder), draft, columns, folder)
    for number, one in enumerate(given.against):
        parts[BENCHMARK + number] = beside(benchmark(one, number, given, folder, parts), draft, columns, folder)
    asked = given.embeddings
    there = draft.profile.columns or columns.inputs
    vectors = vectors_for(asked, parts, there, columns.kind) if asked else None
    notes = [f"{guess.what}: {guess.value} ({guess.why})" for guess in draft.guesses]
    notes += lacking(vectors, parts) if vectors else []
    task = draft.goal.task if columns.labels else None
    name = str(given.data) if isinstance(given.data, str | Path) else IN_HAND["train"]
    pictures = train.base if columns.image else None
    told: dict[str, Any] = {"pictures": pictures, "notes": notes, "chat": train.chat, "alive": alive}
    rows = replace(rows_of(name, dict(sorted(parts.items())), task, folder, **told), vectors=vectors)
    if vectors:
        vectors.check(rows)
    return replace(rows, besides=left_out_of(draft, columns, parts[TRAIN])) if columns.kind == "features" else rows


def refuse_both(wish: Wish) -> None:
    """Raise SourceError where one column is both the label and the input."""
    if both := {*wish.labels} & {wish.text, wish.image, *wish.features}:
        name = min(map(str, both))
        raise SourceError(f"column {name!r} is named as the label and as the input: name another column as one of them")


def refuse_twice(given: Given) -> None:
    """Raise SourceError for a column that is named twice, and for a label together with `unlabelled`."""
    for what, names in (("label", given.wish.labels), ("feature", given.wish.features)):
        if twice := [name for name in names if list(names).count(name) > 1]:
            raise SourceError(f"column {twice[0]!r} is named twice as a {what}: name it once")
    if given.unlabelled and given.wish.labels:
        raise SourceError(
            f"column {given.wish.labels[0]!r} is named as the label, and labels are not to be looked at (--no-label, "
            "in Python unlabelled=True): leave one of them out"
        )


def left_out_of(draft: Draft, columns: Columns, part: PartFiles) -> pl.DataFrame | None:
    """Columns of the training rows that nobody named and that the guess excluded from the features, such as
    identifiers; None without any, or where the caller named the features.
    """
    used = {*columns.inputs, *columns.labels, columns.group, columns.id, *draft.wish.leave_out}
    held = {name: column.holds for name, column in draft.profile.columns.items() if name not in used}
    names = [name for name, holds in held.items() if holds in ("text", "integer", "number", "boolean")]
    if not names or draft.wish.features:
        return None
    return pl.DataFrame([column_over(part.files, name) for name in names])


def located(data: Any, part: str, given: Given, folder: Path) -> Located:
    """A part's place; data in memory, chats and pictures without classes become a file below `folder`."""
    wish, charset = given.wish, given.charset
    name = part.replace(" ", "_")
    if not isinstance(data, str | Path):
        shown = IN_HAND.get(part, part)
        path = folder / f"{name}.parquet"
        path = chats_in_hand(data, path) or written(data, wish, path)
        flat = flattened(alone(find_data(str(path)), path), folder, name, wish.text)
        return Located(part, flat.place, (shown,), Path.cwd(), flat.column)
    path = at_hand(data)
    if str(data) in BUNDLED and not path.exists():
        return Located(part, Place(str(data)))  # type: ignore[arg-type]
    base = Path(os.path.abspath(path if path.is_dir() else path.parent))
    if path.is_dir() and (listed := listed_pictures(path, folder / f"{name}.parquet")):
        return Located(part, alone(find_data(str(listed)), listed), (str(path),), base)
    place = find_data(str(path))
    if place.kind == "csv" and charset is not None:
        separator = separator_of(place.first, charset)
        place = replace(place, charset=charset, separator=separator)
    if path.is_file():  # without its neighbours
        place = alone(place, path)
    flat = flattened(place, folder, name, wish.text)
    return Located(part, flat.place, flat.names, base, flat.column)


def benchmark(data: Any, number: int, given: Given, folder: Path, parts: dict[int, PartFiles]) -> Located:
    """A benchmark, named by its path, or by its number where it lies in memory; names are unique."""
    name = str(data) if isinstance(data, str | Path) else f"benchmark {number + 1}"
    taken = {"train", "test", "target", *(part.name for part in parts.values())}
    found = located(data, f"benchmark {number + 1}", given, folder)
    return replace(found, name=name if name not in taken else f"{name} ({number + 1})")


def drafted(place: Place, given: Given, chat: str | None = None) -> Draft:
    """Columns, task and label of the training rows, guessed where the caller names none; raises SourceError.

    `chat` is a text column that holds conversations and that nobody named.
    """
    found, wish = profile(place), given.wish
    draft = Draft(found, wish, goal=Goal((), "classification", "", ""))
    if place.kind in KNOWN:
        columns, task, why = KNOWN[place.kind]
        draft.columns, draft.goal = dict(columns), Goal((columns["label"],), task, why, why)
        return draft
    for name in (*wish.labels, wish.text, wish.image, *wish.features, *wish.leave_out, given.group, given.key):
        if name is not None and name not in found.columns:
            near = did_you_mean(name, found.columns)
            raise SourceError(f"there is no column {name!r}; {near}there are: {', '.join(found.columns)}")
    aside = {name for name in (given.group, given.key) if name is not None and name not in wish.features}
    goal = None if given.unlabelled else goal_if_sure(draft, wish, aside)
    if goal:
        draft.goal = goal
        draft.note("label", ", ".join(goal.columns), goal.column_why)
        draft.note("task", goal.task, goal.task_why)
    else:
        inputs = {wish.text, wish.image, *wish.features, *wish.leave_out, *aside}
        rest = {name: column for name, column in found.columns.items() if name not in inputs}
        hint = unnamed(rest if len(found.columns) > 1 else {})  # a single column is the input
        draft.note("label", "none", "you said so" if given.unlabelled else hint)
    out = {*draft.goal.columns, *wish.leave_out, *aside}
    guess_inputs(draft, {name: column.unmarked or column for name, column in found.columns.items() if name not in out})
    if chat:
        draft.guesses[:] = [
            replace(one, why="it holds conversations") if one.what == "text" else one for one in draft.guesses
        ]
    if goal:
        draft.columns["label"] = goal.label
    return draft


def unnamed(columns: Mapping[str, Column]) -> str:
    """A hint to name the label, with the last column that may be one, if any."""
    able = [name for name, column in columns.items() if column.holds in ("text", "integer", "number", "boolean")]
    return f"name it with --label, such as --label {shlex.quote(able[-1])}" if able else "name it with --label"


def goal_if_sure(draft: Draft, wish: Wish, aside: set[str]) -> Goal | None:
    """The named label, or a guess with a good reason."""
    taken = (wish.text, wish.image, *wish.features, *wish.leave_out, *aside)
    if wish.labels:
        return goal_of(draft.profile, wish.labels, wish.task, taken)
    try:
        goal = goal_of(draft.profile, (), wish.task, taken)
    except SourceError:
        return None
    return goal if goal.column_why in SURE else None


def columns_of(draft: Draft, given: Given) -> Columns:
    """Columns of the training rows in a study's form."""
    named = dict(draft.columns) | {"group": given.group, "id": given.key}
    columns = Columns(**named)
    return (columns.holding(Problem(kind=draft.goal.task).target) if columns.labels else columns).reading(
        draft.encoding
    )


def files_of(draft: Draft, columns: Columns, folder: Path, split: str) -> Sequence[Any]:
    """Files of a split of a place."""
    source = TypeAdapter(Source).validate_python(source_of(draft, folder))
    with own_manners():
        return read(source, columns, folder, folder / "sources")[0][split]


def part_files(at: Located, draft: Draft, columns: Columns, folder: Path) -> PartFiles:
    """The files of a part with the given columns."""
    own = replace(draft, profile=replace(draft.profile, place=at.place))
    source = TypeAdapter(Source).validate_python(source_of(own, folder))
    with own_manners():
        found = read(source, columns, folder, folder / "sources")[0]
    every = found["train"] if at.name == "train" else [file for files in found.values() for file in files]
    return PartFiles(at.name, every, columns, source, at.base, at.shown)


def beside(at: Located, draft: Draft, columns: Columns, folder: Path) -> PartFiles:
    """The files of a part to compare training with: the same columns without missing labels, and possibly another name
    of the texts or pictures. Raises SourceError for a missing feature.
    """
    if at.place.kind in KNOWN:
        if columns.kind not in (own := KNOWN[at.place.kind][0]):
            held = HELD["features" if "features" in own else "image"]
            inputs = ", ".join(map(repr, columns.inputs[:NAMED])) + (", …" if len(columns.inputs) > NAMED else "")
            raise SourceError(
                f"{at.name}: {at.place.train or at.place.kind} holds {held}, and the training rows are "
                f"{HELD.get(columns.kind, columns.kind)} of {inputs}: name data of the same kind"
            )
        return part_files(at, draft, Columns(**{**columns.model_dump(), **KNOWN[at.place.kind][0]}), folder)
    there = profile(at.place).columns
    named = columns.model_dump()
    if missing := [name for name in columns.features or () if name not in there]:
        raise SourceError(
            f"{at.name}: there is no column {missing[0]!r}, which training has as a feature; "
            f"{did_you_mean(missing[0], there)}there are: {', '.join(there)}"
        )
    kind = columns.kind
    if kind != "features" and named[kind] not in there:
        pictures = [name for name, column in there.items() if column.holds in ("image", "path")]
        found = (at.chat or text_of(there)) if kind == "text" else next(iter(pictures), None)
        if found is None:
            raise SourceError(
                f"{at.name}: no column looks like the {kind} that training has as {named[kind]!r}; there are: "
                f"{', '.join(there)}"
            )
        draft.note(f"{kind} of {at.name}", found, f"it has no column {named[kind]!r}")
        named[kind] = found
    if not all(name in there for name in columns.labels):
        named |= {"label": None, "target": None}
    named |= {role: None for role in ("group", "id") if named[role] not in there}
    return part_files(at, draft, Columns(**named), folder)
