"""Pages show what the code declares: scorers, selectors, settings, commands. Fill them: python docs/reference_pages.py

Tests fail where a page differs.
"""

import inspect
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias, TypeVar, get_args

import typer
from pydantic import BaseModel
from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption

from secateur.pipelines.commands.studies import described
from secateur.pipelines.pages.choice_content import schema as choice_schema
from secateur.pipelines.pages.content import schema as report_schema
from secateur.pipelines.pages.words import with_minus
from secateur.pipelines.runs.room import HELD
from secateur.pipelines.studies.architectures import Search
from secateur.pipelines.studies.choice import UNTRAINED, Choice
from secateur.pipelines.studies.files import read_studies
from secateur.pipelines.studies.folders import LISTING, SHIPPED
from secateur.pipelines.studies.samples import Study
from secateur.pipelines.studies.units import PruningStudy
from secateur.scorers.checkpoints.contract import CheckpointScorer
from secateur.scorers.contract import Scorer, Unit
from secateur.scorers.registry import AnyScorer, direction_of
from secateur.scorers.registry import declared as declared_scorers
from secateur.selectors.contract import MaskSelector, Selector
from secateur.selectors.contract import declared as declared_selectors
from secateur.trainers.experiments.contract import Arm, experiments
from secateur.trainers.modalities.encoding import ENCODINGS


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; a vertical bar inside a cell is escaped."""
    lines = [head, ["---"] * len(head), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def one_line(text: str) -> str:
    """Text with every run of white space as one space, as a cell of a table wants it."""
    return " ".join(text.split())


Schema = Mapping[str, Any]
Declared = TypeVar("Declared")
NAMES = {"string": "text", "integer": "whole number", "number": "number", "boolean": "true or false", "null": "nothing"}
BOUNDS = {"minimum": "from {}", "exclusiveMinimum": "above {}", "maximum": "to {}", "exclusiveMaximum": "below {}"}
WIDEST = 2**63 - 1
"""Bound of every whole number that a file of arrays holds, which tells a reader nothing."""
HEAD = ("key", "type", "default", "meaning")

WHOSE = {"OwnScore": "of your own", "OwnVectors": "of your own", "OutputScore": "from your model's outputs"}
"""Models that stand at the same key as ones that secateur computes."""
OF_TASK = {"sequence": "of task sft"}
"""Encodings that follow from the task and not from the columns."""


def study_keys() -> str:
    """Every key of a study, one table per part; what `encoding` takes is that of each modality."""
    encodings = [
        part
        for kind, encoding in ENCODINGS.items()
        for part in parts_of(
            encoding, f"encoding, {'of task sft' if kind == 'sequence' else f'where columns name {kind}'}"
        )
    ]
    return "\n\n".join([*parts_of(Study, ""), *encodings])


def search_keys() -> str:
    """Every key of a search that is not one of a study's too."""
    return "\n\n".join(parts_of(Search, "", but=set(Study.model_json_schema()["$defs"])))


def pruning_keys() -> str:
    """Every key of a study of other units."""
    return "\n\n".join(parts_of(PruningStudy, ""))


def choice_keys() -> str:
    """Every key of a study that trains nothing, but those of a study too, and those that it inherits and rejects."""
    schema = Choice.model_json_schema()
    own = {key: declared for key, declared in schema["properties"].items() if key not in UNTRAINED}
    return "\n\n".join(parts_in({**schema, "properties": own}, "", but=set(Study.model_json_schema()["$defs"])))


def choice_report_keys() -> str:
    """Every key of its report.json."""
    return "\n\n".join(parts_in(choice_schema(), ""))


def report_keys() -> str:
    """Every key of a report.json."""
    return "\n\n".join(parts_in(report_schema(), ""))


def parts_of(model: type[BaseModel], name: str, but: Iterable[str] = ()) -> list[str]:
    """A heading, a sentence and a table for the model and for each model below it, in the order of their keys."""
    return parts_in(model.model_json_schema(), name, but)


def parts_in(schema: Schema, name: str, but: Iterable[str] = ()) -> list[str]:
    """`parts_of` a model whose schema this is."""
    places: dict[str, list[str]] = {}
    visit(schema, "", schema.get("$defs", {}), places)
    told = [section(schema, [name], top=not name)]
    below = {each: list(dict.fromkeys(where)) for each, where in places.items() if each not in but}
    return told + [section(schema["$defs"][each], where, WHOSE.get(each, "")) for each, where in below.items()]


def visit(schema: Schema, path: str, models: Schema, places: dict[str, list[str]]) -> None:
    """Note below which keys each model stands; a model that contains itself would be noted once."""
    for key, declared in schema.get("properties", {}).items():
        for named, kind in models_in(declared, f"{path}{key}"):
            first = kind not in places
            places.setdefault(kind, []).append(named)
            if first:
                visit(models[kind], f"{named}.", models, places)


def models_in(declared: Any, path: str) -> Iterable[tuple[str, str]]:
    """Paths and models that a key may hold; the values of a mapping stand below `NAME`."""
    if isinstance(declared, list):
        for each in declared:
            yield from models_in(each, path)
    elif isinstance(declared, Mapping):
        if "$ref" in declared:
            yield path, declared["$ref"].rsplit("/", 1)[1]
        for key in ("anyOf", "oneOf", "items"):
            yield from models_in(declared.get(key), path)
        yield from models_in(declared.get("additionalProperties"), f"{path}.NAME")


def section(schema: Schema, places: list[str], whose: str = "", *, top: bool = False) -> str:
    """One model: where it stands, its docstring, its keys; `whose` distinguishes models at the same place."""
    kind = schema.get("properties", {}).get("kind", {}).get("const")
    heading = ", ".join(f"`{place}`" if " " not in place else place for place in places)
    heading += f" of kind `{kind}`" if kind and not top else ""
    heading += f" {whose}" if whose else ""
    required = set(schema.get("required", ()))
    rows = [
        (f"`{key}`", type_of(declared), default_of(key, declared, required), description_of(key, declared))
        for key, declared in schema.get("properties", {}).items()
    ]
    said = "" if top else f"## {heading}\n\n{schema.get('description', '')}\n\n"
    return f"{said}{table(HEAD, rows)}"


def description_of(key: str, declared: Schema) -> str:
    """What the declaration says, with YAML in braces as code; of a key that tells models apart, just that."""
    said = one_line(declared.get("description") or ("selects this kind" if "const" in declared else ""))
    return re.sub(r"(?<!`)\{[^}]*\}", r"`\g<0>`", said)


def default_of(key: str, declared: Schema, required: Iterable[str]) -> str:
    """The default as YAML would write it; of a part with keys of its own, nothing."""
    if key in required:
        return "required"
    default = declared.get("default")
    if default is None or default in ("", [], {}):
        return ""
    if isinstance(default, Mapping):
        return "its own defaults"
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


def type_of(declared: Schema) -> str:
    """A type in words, with its bounds."""
    if "$ref" in declared or "oneOf" in declared:
        return "keys, below"
    if "const" in declared:
        return f"`{declared['const']}`"
    if "enum" in declared:
        return " or ".join(f"`{each}`" for each in declared["enum"])
    if "anyOf" in declared:
        told = (type_of(each) for each in declared["anyOf"] if each.get("type") != "null")
        return " or ".join(dict.fromkeys(told))
    if "prefixItems" in declared:
        return f"list of {len(declared['prefixItems'])}"
    if declared.get("type") == "array":
        return f"list of {type_of(declared['items'])}" if "items" in declared else "list"
    if declared.get("type") == "object":
        return "names with keys, below" if "$ref" in str(declared.get("additionalProperties")) else "settings by name"
    bounds = [
        with_minus(text.format(declared[bound]))
        for bound, text in BOUNDS.items()
        if bound in declared and declared[bound] != WIDEST
    ]
    return " ".join([NAMES.get(declared.get("type", ""), "any value"), *bounds])


MARKUP = re.compile(r"\[/?[a-z ]*\]")
"""Rich's markup, such as [bold] and [/]."""


Parameter: TypeAlias = TyperArgument | TyperOption


def commands() -> dict[str, TyperCommand]:
    """Commands by name, in the order of the help."""
    from secateur.pipelines.commands.main import app

    whole = typer.main.get_command(app)
    assert isinstance(whole, TyperGroup)
    return {name: command for name, command in whole.commands.items() if isinstance(command, TyperCommand)}


def command_reference() -> str:
    """A heading, the help and a table of arguments and options for each command."""
    return "\n\n".join(command_section(name, command) for name, command in commands().items())


def command_section(name: str, command: TyperCommand) -> str:
    """One command."""
    parameters = [each for each in command.params if isinstance(each, TyperArgument | TyperOption)]
    rows = [(f"`{spelling(each)}`", option_default(each), plain(each.help or "")) for each in parameters]
    paragraphs = [plain(text) for text in (command.help or "").split("\n\n")]
    examples = [f"$ {line}" for line in map(plain, (command.epilog or "").splitlines()) if "secateur " in line]
    shown = "\n".join(["```console", *examples, "```"])
    options = table(("argument or option", "default", "meaning"), rows) if rows else "It takes nothing."
    return "\n\n".join([f"## secateur {name}", *paragraphs, options, shown])


def plain(text: str) -> str:
    """Help without colours, on one line."""
    return one_line(MARKUP.sub("", text))


def spelling(parameter: Parameter) -> str:
    """An argument by its name, an option by its spellings and what it takes."""
    if isinstance(parameter, TyperArgument):
        return parameter.metavar or (parameter.name or "").upper()
    names = ", ".join([*parameter.opts, *parameter.secondary_opts])
    return names if parameter.is_flag else f"{names} {parameter.metavar or 'VALUE'}"


def option_default(parameter: Parameter) -> str:
    """The default as one would write it; empty where there is none."""
    if parameter.required:
        return "required"
    given = parameter.default
    if given == "\n":  # A row of a table is one line.
        return r"`$'\n'`"
    return "" if given is None or isinstance(given, bool) or given in ((), []) else f"`{given}`"


def kind_of(declared: AnyScorer) -> str:
    """What a scorer looks at."""
    if inspect.isclass(declared):
        return "training run"
    return "checkpoints" if isinstance(declared, CheckpointScorer) else "signals"


def reads_of(declared: AnyScorer) -> Iterable[str]:
    """Signals by name, where a scorer reads any."""
    return declared.signals if isinstance(declared, Scorer) else ()


def score_table() -> str:
    """Every scorer, those of samples first: unit, what it says, what high means, kind, view, settings, paper."""
    return table(
        ("score", "of", "definition", "high means", "kind", "view", "settings", "paper"),
        [
            (
                f"`{name}`",
                f"{one.card.unit}s",
                one.card.summary,
                with_minus(direction_of(one.card)),
                " ".join([kind_of(one), *(f"`{signal}`" for signal in reads_of(one))]),
                one.card.view,
                settings_text(one.settings),
                one.card.paper,
            )
            for name, one in by_unit(declared_scorers(), lambda one: one.card.unit)
        ],
    )


def selector_table() -> str:
    """Every selector, those of samples first: unit, what it does, what it reads, settings, paper."""
    return table(
        ("selector", "of", "rule", "reads", "settings", "draws", "paper"),
        [
            (
                f"`{name}`",
                ", ".join(f"{unit}s" for unit in units_of(one)) or "groups of any unit",
                one.summary,
                ", ".join(f"`{signal}`" for signal in reads_by(one)),
                settings_text(one.settings, getattr(one, "tunable", ())),
                "yes" if one.draws else "ties only",
                one.paper,
            )
            for name, one in by_unit(declared_selectors(), lambda one: (*units_of(one), "weight")[0])
        ],
    )


def units_of(chosen: Selector[...] | MaskSelector[..., Any]) -> tuple[Unit, ...]:
    """Units that a selector is for; none where it takes any in groups."""
    return chosen.units if isinstance(chosen, MaskSelector) else ("sample",)


def by_unit(declared: Mapping[str, Declared], unit_of: Callable[[Declared], Unit]) -> list[tuple[str, Declared]]:
    """Names and what they declare, samples first, and of each unit in alphabetical order."""
    return sorted(declared.items(), key=lambda one: (get_args(Unit).index(unit_of(one[1])), one[0]))


def experiment_table() -> str:
    """Every experiment: unit, arms, what it measures, what the paper claims, settings, paper."""
    return table(
        ("experiment", "prunes", "arms and references", "measures", "claim", "settings", "paper"),
        [
            (
                f"`{name}`",
                f"{one.unit}s",
                ", ".join(arm_text(name, arm) for name, arm in {**one.arms, **one.references}.items()),
                one.metrics[0].name,
                one.claim,
                settings_text(one.settings),
                one.paper,
            )
            for name, one in sorted(experiments().items())
        ],
    )


def arm_text(name: str, arm: Arm) -> str:
    """An arm, with its scorer and selector."""
    chosen = " → ".join(part for part in (arm.scorer, arm.selector) if part)
    return f"`{name}`" + (f" ({chosen})" if chosen else "")


def scorer_pages() -> str:
    """What mkdocstrings is to show of every scorer: the class or the function in the file of its name."""
    every = by_unit(declared_scorers(), lambda one: one.card.unit)
    return "\n\n".join(shown_by_mkdocstrings(one) for _, one in every)


def selector_pages() -> str:
    """What mkdocstrings is to show of every selector."""
    every = by_unit(declared_selectors(), lambda one: (*units_of(one), "weight")[0])
    return "\n\n".join(shown_by_mkdocstrings(one) for _, one in every)


def shown_by_mkdocstrings(declared: AnyScorer | Selector[...] | MaskSelector[..., Any]) -> str:
    """A class or function without its members, one heading deeper than a module."""
    own = declared if inspect.isclass(declared) else getattr(declared, "choose", None) or declared.compute
    shown = f"::: {own.__module__}.{own.__name__}"
    return f"{shown}\n    options: {{members: false, heading_level: 3, show_root_full_path: false}}"


def reads_by(chosen: Selector[...] | MaskSelector[..., Any]) -> list[str]:
    """Signals that a selector reads, less the budget."""
    return [name for name in chosen.reads if name not in ("budget", "keep")]


def settings_text(settings: type[BaseModel], tunable: Iterable[str] = ()) -> str:
    """Settings with their defaults; those that are chosen on a validation split say so."""
    texts = []
    for name, declared in settings.model_fields.items():
        value = "" if declared.is_required() else f" = {declared.default!r}"
        texts.append(f"`{name}{value}`{' (chosen on validation data)' if name in set(tunable) else ''}")
    return ", ".join(texts)


def held_table() -> str:
    """What steps of a study hold in memory."""
    rows = ((step, str(each), f"{each / 100:g} GB") for step, each in HELD.items())
    return table(("step", "bytes of each row", "at 10⁷ rows"), rows)


TABLES = {
    "held in memory": held_table,
    "score table": score_table,
    "selector table": selector_table,
    "scorer pages": scorer_pages,
    "selector pages": selector_pages,
    "study keys": study_keys,
    "search keys": search_keys,
    "pruning keys": pruning_keys,
    "report keys": report_keys,
    "choice keys": choice_keys,
    "choice report keys": choice_report_keys,
    "experiment table": experiment_table,
    "command reference": command_reference,
}
"""What stands between `<!-- name -->` and `<!-- end of name -->` in a page."""

REFERENCE = ("scorers", "selectors", "study", "search", "choice", "pruning", "commands", "report")
PAGES = (
    "docs/big-data.md",
    "docs/scores.md",
    "docs/selectors.md",
    *(f"docs/reference/{name}.md" for name in REFERENCE),
)

SCHEMAS = {
    "docs/reference/report.schema.json": report_schema,
    "docs/reference/choice_report.schema.json": choice_schema,
}
"""JSON Schemas of what reports hold, by the files that have them."""


def filled(page: str) -> str:
    """The page with every table between markers made anew."""
    for name, make in TABLES.items():
        start, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
        whole = f"{start}\n{make()}\n{end}"
        page = re.sub(f"{re.escape(start)}.*?{re.escape(end)}", lambda _, whole=whole: whole, page, flags=re.DOTALL)
    return page


def listing() -> str:
    """What `secateur studies` says of each study that ships, as JSON; where its file is, it finds out itself."""
    described_files = (described(file) for file in read_studies([SHIPPED]))
    listed = [{key: value for key, value in one.items() if key != "file"} for one in described_files]
    return json.dumps(listed, indent=1) + "\n"


def update(root: Path) -> None:
    """Write the tables of all pages below the project's root anew."""
    for name in PAGES:
        (root / name).write_text(filled((root / name).read_text()))
    for name, schema in SCHEMAS.items():
        (root / name).write_text(json.dumps(schema(), indent=2) + "\n")
    LISTING.write_text(listing())


if __name__ == "__main__":
    update(Path(__file__).parents[1])
