"""Draft a first study of a data set: guess its columns, task, models and budget, and state the reason of each guess."""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from secateur.pipelines.data.check import DataReport, Finding
from secateur.pipelines.data.profile import BUNDLED, MISSING, Column, Place, Profile, profile, stem_of
from secateur.pipelines.data.sources import Loaded, SourceError
from secateur.pipelines.files.latin_letters import latin
from secateur.pipelines.studies.draft_metric import metric_lines, selection_lines
from secateur.pipelines.studies.draft_sft import recognised, sft_lines, source_column
from secateur.pipelines.studies.draft_target import SFT, Goal, goal_of
from secateur.pipelines.studies.plain_yaml import flowed
from secateur.pipelines.studies.rejections import did_you_mean

TEXTS = ("text", "sentence", "content", "body", "message", "review", "question", "utterance", "title", "description")
IDENTIFIERS = re.compile(r"(?i)^(|id|idx|index|key|uuid|guid|row|rowid|row_id|unnamed: ?\d+|.*[_ ]id|.*Id)$")
CODES = re.compile(r"(?i)(^|[_ ])(code|zip|zipcode|postcode|type|category|class|group|kind)$")
MOST_CATEGORIES = 1000
LONGEST = 90
"""Characters of a guessed name; a study's may have 100, and a number may follow."""
DIABETES = ["age", "sex", "bmi", "bp", "s1", "s2", "s3", "s4", "s5", "s6"]
KNOWN: dict[str, tuple[dict[str, Any], str, str]] = {
    "imagefolder": ({"image": "image", "label": "label"}, "classification", "one folder of pictures per class"),
    "digits": ({"image": "image", "label": "label"}, "classification", "scikit-learn's digits"),
    "diabetes": ({"features": DIABETES, "label": "progression"}, "regression", "scikit-learn's diabetes"),
}
"""Columns, task and reason for sources with a known schema."""
OFFERED = (("leaked", "leaked", "drop_from_training"), ("duplicates", "duplicates", "drop"))
"""Optional policies: key, kind of finding, choice."""


@dataclass(frozen=True)
class Wish:
    """The user's own settings; None and empty leave a setting to the guess."""

    labels: tuple[str, ...] = ()
    task: str | None = None
    text: str | None = None
    image: str | None = None
    features: tuple[str, ...] = ()
    leave_out: tuple[str, ...] = ()
    keep: tuple[float, ...] = ()
    name: str | None = None
    model: str | None = None
    epochs: int | None = None
    batch_size: int | None = None
    seeds: int | None = None
    test_fraction: float | None = None


@dataclass(frozen=True)
class Guess:
    """One decision, in words, with its reason."""

    what: str
    value: str
    why: str


@dataclass
class Draft:
    """A study in the making: its sections as in YAML, and the guesses."""

    profile: Profile
    wish: Wish
    columns: dict[str, Any] = field(default_factory=dict)
    encoding: dict[str, Any] = field(default_factory=dict)
    goal: Goal = field(default_factory=lambda: Goal(("label",), "classification", "", ""))
    policy: dict[str, str] = field(default_factory=dict)
    """The study's `data` section: policies for rows that it cannot use."""
    report: DataReport | None = None
    guesses: list[Guess] = field(default_factory=list)

    @property
    def findings(self) -> list[Finding]:
        """Findings of the data check."""
        return self.report.findings() if self.report else []

    def note(self, what: str, value: object, why: str) -> None:
        """Remember a decision."""
        self.guesses.append(Guess(what, str(value), why))


def draft_columns(place: Place, wish: Wish) -> Draft:
    """Guess columns and task; raise SourceError, which lists the columns, if there is no label or no input."""
    found = profile(place)
    draft = Draft(found, wish)
    if place.kind == "hub":
        draft.note("revision", str(place.revision)[:7], "its commit now; a later run reads the same rows")
        if place.config is not None:
            draft.note("config", place.config, "of several configurations")
    if place.kind in KNOWN:
        columns, task, why = KNOWN[place.kind]
        draft.columns, draft.goal = dict(columns), Goal((columns["label"],), task, why, why)
        draft.note("columns", ", ".join(str(value) for value in columns.values()), why)
        draft.note("task", task, why)
        return draft
    for name in (*wish.labels, wish.text, wish.image, *wish.features, *wish.leave_out):
        if name is not None and name not in found.columns:
            near = did_you_mean(name, found.columns)
            raise SourceError(f"there is no column {name!r}; {near}there are: {', '.join(found.columns)}")
    if wish.task in (None, SFT) and (wish.task or not (wish.labels or wish.text or wish.image or wish.features)):
        left = {name: column for name, column in found.columns.items() if name not in wish.leave_out}
        if shape := recognised(left, wish.task):
            return draft_sft(draft, *shape)
    draft.goal = goal = goal_of(found, wish.labels, wish.task, (wish.text, wish.image, *wish.features, *wish.leave_out))
    counted = f"; {len(goal.classes)} {'labels' if goal.task == 'multi_label' else 'classes'}" if goal.classes else ""
    draft.note("label", ", ".join(goal.columns), f"{goal.column_why}{counted}")
    draft.note("task", goal.task, goal.task_why)
    out = (*goal.columns, *wish.leave_out)
    guess_inputs(draft, {n: column.unmarked or column for n, column in found.columns.items() if n not in out})
    draft.columns["label"] = goal.label
    return draft


def draft_sft(draft: Draft, columns: dict[str, Any], why: str) -> Draft:
    """Set the columns of fine-tuning data and the column of its sources."""
    draft.columns = dict(columns)
    names = [name for given in columns.values() for name in ([given] if isinstance(given, str) else given)]
    for kind, given in columns.items():
        draft.note(kind, given if isinstance(given, str) else ", ".join(given), why)
    source = draft.wish.labels[0] if draft.wish.labels else source_column(draft.profile.columns, names)
    if source is not None:
        draft.columns["label"] = source
        draft.note("sources", source, "you said so" if draft.wish.labels else "its name")
    draft.goal = Goal((source,) if source else (), SFT, why, why)
    draft.note("task", SFT, "texts that a language model learns to write; for another say --task or --label")
    if others := [name for name in draft.profile.columns if name not in (*names, source)]:
        draft.note("left out", ", ".join(others), "not learned")
    return draft


def guess_inputs(draft: Draft, rest: dict[str, Column]) -> None:
    """Choose an image column, a text column, or a table of every column that can be a feature."""
    wish = draft.wish
    pictures = [name for name, column in rest.items() if column.holds in ("image", "path")]
    if wish.image is not None or (pictures and not wish.text and not wish.features):
        name = wish.image or pictures[0]
        draft.columns = {"image": name}
        held = "paths of pictures" if rest[name].holds == "path" else "pictures"
        draft.note("image", name, "you said so" if wish.image else f"it holds {held}")
        return
    text = None if wish.features else wish.text or text_of(rest)
    if text is not None:
        draft.columns = {"text": text}
        draft.note("text", text, "you said so" if wish.text else f"strings of {rest[text].words:.1f} words on average")
        others = [name for name in rest if name != text]
        if others:
            draft.note("left out", ", ".join(others), "a study reads a text or features, not both (--features)")
        return
    guess_features(draft, rest)


def text_of(rest: dict[str, Column]) -> str | None:
    """The column of free text: one with a usual name, otherwise the one with most words, at least four on average."""
    strings = {name: column for name, column in rest.items() if column.holds == "text"}
    usual = [name for word in TEXTS for name in strings if name.lower() == word and strings[name].words >= 1.5]
    wordy = sorted((name for name in strings if strings[name].words >= 4), key=lambda name: -strings[name].words)
    return next(iter([*usual, *wordy]), None)


def guess_features(draft: Draft, rest: dict[str, Column]) -> None:
    """Choose every column that can be a feature, the categorical ones among integers, and marks of missing values."""
    wish = draft.wish
    if wish.features:
        kept, out = list(wish.features), {}
        draft.note("features", f"{len(kept)} columns", "you said so")
    else:
        reasons = {name: reason_against(column) for name, column in rest.items()}
        kept, out = [name for name in rest if not reasons[name]], {n: why for n, why in reasons.items() if why}
        numbers = sum(rest[name].holds in ("integer", "number") for name in kept)
        draft.note("features", f"{numbers} numeric, {len(kept) - numbers} categorical", "everything that can be one")
    for why in sorted(set(out.values())):
        draft.note("left out", ", ".join(name for name in out if out[name] == why), why)
    if not kept:
        raise SourceError(f"no column can be a feature; name some with --features, there are: {', '.join(rest)}")
    draft.columns = {"features": kept}
    columns = draft.profile.columns
    known = {name: columns[name].unmarked or columns[name] for name in kept}
    coded = [name for name in kept if known[name].holds == "integer" and is_code(known[name])]
    if coded:
        draft.encoding["categorical"] = coded
        draft.note("categories", ", ".join(coded), "whole numbers whose names speak of codes")
    texts = {name: sorted(set(map(str.strip, texts_in(known[name]))) & set(MISSING)) for name in kept}
    marks = {name: sorted({*texts[name], *columns[name].marks}) for name in kept}
    marks = {name: found for name, found in marks.items() if found}
    if marks:
        every = sorted(set().union(*marks.values()))
        # A mark in a column of numbers may be a word in another: NA among countries is Namibia.
        apart = any(texts.values()) and any(columns[name].marks for name in kept)
        draft.encoding["missing"] = marks if apart else every
        why = "marks that usually stand for nothing"
        draft.note("missing values", " ".join(every), f"{why}, in {', '.join(marks)}" if apart else why)


def texts_in(column: Column) -> Iterable[str]:
    """The distinct strings of a column."""
    return [value for value in column.values if isinstance(value, str)]


def is_code(column: Column) -> bool:
    """Whether whole numbers stand for categories."""
    return bool(CODES.search(column.name)) and column.distinct <= MOST_CATEGORIES


def reason_against(column: Column) -> str:
    """The reason why a column is no feature; empty if it can be one."""
    if column.holds == "nothing":
        return "empty"
    if column.holds in ("other", "image", "path"):
        return "neither number nor text nor yes or no"
    if column.distinct < 2 and not column.missing:
        return "one value throughout"
    unique = column.distinct == column.rows
    if column.counts_up or (unique and IDENTIFIERS.match(column.name)):
        return "identifies rows"
    if column.holds == "text" and not column.strays and (unique or column.distinct > MOST_CATEGORIES):
        return "text that is nearly different in every row"
    return ""


def source_of(draft: Draft, base: Path) -> dict[str, Any]:
    """The `source` section, with paths relative to a study in the absolute folder `base`."""
    place, wish = draft.profile.place, draft.wish

    def told(path: str) -> str:
        absolute, near = Path(os.path.abspath(path)), base.parent
        if absolute.is_relative_to(near):
            relative = absolute.relative_to(near)
            inside = absolute.is_relative_to(base)
            return str(absolute.relative_to(base) if inside else Path("..") / relative)
        return str(absolute)

    source: dict[str, Any] = {"kind": place.kind}
    if place.kind in BUNDLED:
        return source
    if place.kind == "hub":
        source |= {"name": place.path} | ({"config": place.config} if place.config else {})
        source |= {"revision": place.revision, "train": place.train} | ({"test": place.test} if place.test else {})
    elif place.path is not None:
        source |= {"path": told(place.path), "train": place.train}
        source |= {"test": place.test} if place.test else {}
    else:
        source |= {"train": told(place.train)} | ({"test": told(place.test)} if place.test else {})
    if wish.test_fraction is not None or not place.test:
        source.pop("test", None)
        source["test_fraction"] = wish.test_fraction or 0.2
    if place.kind == "csv" and place.separator != ",":
        source["separator"] = place.separator
    if place.kind == "csv" and place.charset != "utf-8":
        source["charset"] = place.charset
    return source | ({"label_names": list(draft.goal.label_names)} if draft.goal.label_names else {})


def note_test(draft: Draft, source: dict[str, Any]) -> None:
    """Note the source of the test samples."""
    if draft.profile.place.kind in BUNDLED:
        draft.note("test", "a fifth of the rows", "drawn by their inputs")
    elif "test" in source:
        draft.note("test", Path(source["test"]).name, "beside the training samples")
    else:
        why = "no test samples beside them; drawn by their inputs, equal ones on one side"
        seed = (
            f" (split_seed {source['split_seed']}, for one row of each class at least)"
            if "split_seed" in source
            else ""
        )
        draft.note("test", f"{source['test_fraction']:.0%} of the rows", why + seed)


def free_name(wanted: str, taken: Sequence[str]) -> str:
    """A study's name made of the words in `wanted`, followed by a number if the name is taken.

    Names are of ASCII: accents go, letters such as ß are spelt, and `study` stands for a name in another script.
    """
    plain = re.sub(r"[^a-z0-9]+", "_", latin(wanted).lower()).strip("_")
    plain = plain if re.match("[a-z]", plain) else f"study_{plain}"
    plain = plain[:LONGEST].strip("_")
    return next(name for name in [plain, *(f"{plain}_{number}" for number in range(2, 1000))] if name not in taken)


def name_of(place: Place) -> str:
    """The name of a data set: its file's, or its folder's if the file has a generic name."""
    if place.kind in BUNDLED:
        return place.kind
    if place.kind == "hub":
        return str(place.path).partition("/")[2]
    path = Path(os.path.abspath(place.path or place.train))
    plain = re.sub(r"[*]|[-_.]?\d+(-of-\d+)?$", "", stem_of(path))
    dull = plain.lower() in ("", "train", "training", "data", "dataset", "all")
    return path.parent.name if dull else plain


def render(name: str, draft: Draft, source: dict[str, Any], settled: dict[str, Any], loaded: Loaded) -> str:
    """The study as YAML with comments."""
    encoding = [f"encoding: {flowed(draft.encoding)}"] if draft.encoding else []
    rows, tests, task = f"{len(loaded.train):,}", f"{len(loaded.test):,}", draft.goal.task
    about = {
        "classification": f"in {len(loaded.label_names)} classes",
        "regression": f"with {', '.join(loaded.label_names)} to predict",
        "multi_label": f"with sets of {len(loaded.label_names)} labels",
        SFT: f"from {len(loaded.label_names)} sources" if loaded.label_names else "of one source",
    }[task]
    lines = [
        f"# {rows} training and {tests} test samples {about}. Written by `secateur init`:",
        "# change its guesses as you like. Run it: secateur run " + name,
        f"name: {name}",
        "",
        "source:",
        *(f"  {key}: {flowed(value)}" for key, value in source.items()),
        f"columns: {flowed(draft.columns)}",
        f"task: {task}",
        *metric_lines(loaded, task),
        *encoding,
        *policies_of(draft.policy, draft.findings),
        "",
        *(
            sft_lines(settled, by_source=bool(loaded.label_names), prompted="text" not in draft.columns)
            if task == SFT
            else middle(settled, loaded, task)
        ),
        *settled["lengths"],
        f"seeds: {settled['seeds']} # trainings of each selection; more make the intervals narrower",
    ]
    return "\n".join(lines) + "\n"


def middle(settled: dict[str, Any], loaded: Loaded, task: str) -> list[str]:
    """The YAML lines, with comments, of scores, selections and trainings of a study of targets."""
    return [
        "# One training run on all samples; scores watch it.",
        f"proxy: {flowed(settled['proxy'])}",
        "",
        "scores:",
        "  loss:",
        *scores_of(task),
        f"  el2n: {{epochs: {settled['el2n']}}} # early error; high means harder",
        "",
        "# The study adds two random selections at each budget, to compare with.",
        "selections:",
        *selection_lines(loaded, task),
        "",
        "# Shares of the training samples that stay, or counts; auto tries one more where the answer lies.",
        f"keep: {flowed(settled['keep'])}",
        "# A subset trains for as many epochs as everything, so in fewer steps: you save the others.",
        f"training: {flowed(settled['training'])}",
    ]


def policies_of(policy: Mapping[str, str], findings: Sequence[Finding]) -> list[str]:
    """Lines of the required policies and, as comments, of the recommended ones with their findings."""
    seen = {name: [finding.text for finding in findings if finding.kind == kind] for name, kind, _ in OFFERED}
    offers = [(name, choice, seen[name][0]) for name, _, choice in OFFERED if seen[name]]
    lines = ["# Policies for rows that cannot be used, or should not."] if policy or offers else []
    lines += [f"data: {flowed(dict(policy))}"] if policy else []
    for name, choice, text in offers:
        lines += [f"# {text.partition('; ')[0]}:", f"# {'  ' if policy else ''}data: {{{name}: {choice}}}"]
    return lines


def scores_of(task: str) -> list[str]:
    """Lines of a task's scores in addition to loss and early error."""
    if task == "regression":
        return ["  dynamic_uncertainty: # how much predictions vary over training"]
    return ["  forgetting:", "  aum: # area under the margin; low means likelier mislabelled"]
