"""Parameters in the reference, as tables below docstrings: name, type, default, meaning.

Types and defaults are those of the code. Words come from a pydantic field's description, from the sentence of the
docstring that names the parameter, or from `WORDS`, which has those that many functions share.
"""

import ast
import importlib
import re
from collections.abc import Iterable, Mapping
from typing import Any

import griffe
from pydantic import BaseModel
from pydantic.fields import FieldInfo

WORDS = {
    "samples": "how many samples the data have",
    "device": "where the accumulators lie: that of the training",
    "batch": "a batch of samples, with the model's outputs under each checkpoint",
    "epochs": "how many epochs from the first on count",
    "window": "presentations of a sample in a sliding window",
    "decay": "weight of the latest window",
    "never_learned": "score of a sample that is never correct: its number of presentations, or 0",
    "per": "`presentation` divides by each sample's own number of presentations",
    "above_one": "keep ratios above 1, which the authors set to 0",
    "min_response_tokens": "completions of fewer tokens score 0",
    "reduce": "whether deviations or their squares are averaged",
    "stage": "which checkpoints count",
    "within": "whose mean and deviation count: those of the sample's class, or of all samples",
    "labels": "class of each sample, 0 … classes-1",
    "strata": "class, or other stratum, of each sample",
    "memberships": "class of each sample, or which labels it has",
    "embeddings": "one vector per sample, in memory or memory-mapped",
    "neighbour_distances": "distances to the nearest other samples, ascending along each row",
    "label_free_neighbours": "row numbers of the nearest other samples, by embeddings that did not learn the labels",
    "completion_tokens": "tokens of each completion",
    "prototype": "what stands for a class: the median or the mean in every dimension",
    "metric": "distance to the prototype: Euclidean, or 1 - cosine",
    "scores": "one score per sample, or arrays of scores by layer or tensor",
    "aum": "area under the margin of each sample: low values are likelier mislabelled",
    "el2n": "EL2N of each sample: high values are harder",
    "budget": "how many samples stay, exactly",
    "seed": "of every draw; the same seed gives the same result",
    "ids": "identity of each sample for draws and ties; row numbers if left out",
    "cutoff": "share of all samples, those of lowest area under the margin, that is cut before anything is drawn",
    "offset": "share of all samples, those of highest EL2N, that is skipped",
    "bins": "number of bins of equal width",
    "low": "lower end of what is drawn from",
    "high": "upper end of what is drawn from",
    "end": "which end of the ranking stays",
    "gamma": "how fast the reverse message falls with the distance",
    "concentration": "sum of the beta density's parameters",
    "clusters": "number of clusters of k-means",
    "first": "which samples of a cluster come first: those far from its centroid, or those close to it",
    "length": "whether a text weighs by all of its n-grams, or as one of the median length",
    "target_log_ratios": "mean over a text's n-grams of the log ratio of target to data",
    "ngram_counts": "number of n-grams of each text",
    "shard": "which share of each epoch this process gets; all of it if left out",
    "settings": "settings by name; a sampler keeps its own in its state",
    "reads": "arrays that the sampler reads, by name; their content is part of its state",
    "losses": "one loss per sample, from the forward pass before the update",
    "epoch": "number of the epoch, from 0",
    "name": "name, as a study has it",
    "shuffle": "whether each epoch has an order of its own, or that of the data",
    "replacement": "whether each epoch is a draw of its own, or the next piece of one order",
    "rounding": "how the window's width is rounded: half to even as in the published code, or up as in the paper",
    "pace": "`steps` holds each size for an equal part of the epochs, `line` joins the sizes by straight lines",
    "rule": "which losses are easy",
    "rescale": "whether samples that stay weigh for those left out",
    "epsilon": "bound on the loss against the full greedy algorithm; smaller looks at more candidates",
    "keep": "share of the units that stays",
    "shapes": "shape of each tensor, by name",
    "model": "the network",
    "names": "names of parameters",
    "batches": "pairs of inputs and int64 labels, as the network takes them",
    "delta": "fine-tuned less pre-trained weights of a tensor",
    "norms": "norm of each input over the samples, by column",
    "retrievals": "what each run copied, by head",
    "recalls": "recall of each run",
    "least": "least share of each layer that stays",
    "protected": "tokens that are never pruned",
    "control": "which heads stand in for the pruned ones",
    "threshold": "score from which a head counts as a retrieval head",
}
"""What parameters are that a docstring does not name."""

BOUNDS = {"Ge": ("ge", "≥ {:,}"), "Gt": ("gt", "> {:,}"), "Le": ("le", "≤ {:,}"), "Lt": ("lt", "< {:,}")}
ARRAYS = {"Float", "Float16", "Float32", "Float64", "Int64", "Integer", "Bool", "Num", "Shaped"}
"""Types of jaxtyping."""
DESCRIPTION = re.compile(r"description=(['\"])(.*?)\1")
TYPED = ("secateur.scorers.", "secateur.selectors.", "secateur.trainers.", "secateur.pipelines.manifests.")
"""Modules whose pydantic classes the reference shows; those of studies have pages of keys."""
SENTENCE = re.compile(r"(?<=[.;:])\s+(?=[A-Z`])")


class ParameterTables(griffe.Extension):
    """Adds a table to the docstring of each public function and class, and a signature to pydantic classes."""

    def on_function_instance(self, *, func: griffe.Function, **_: Any) -> None:
        """A function or method; `__init__` is shown with its class."""
        if func.docstring and not func.name.startswith("_"):
            add_table(func, rows_of(func, func.docstring.value), str(func.returns) if func.returns else "")

    def on_class_members(self, *, cls: griffe.Class, **_: Any) -> None:
        """A class: its fields if it is pydantic's, else the parameters of its own `__init__`."""
        if cls.name.startswith("_") or not cls.docstring:
            return
        if fields := fields_of(cls):
            sign(cls, fields)
            add_table(cls, [field_row(name, field) for name, field in fields.items()])
        elif (own := cls.members.get("__init__")) and isinstance(own, griffe.Function):
            add_table(cls, rows_of(own, cls.docstring.value))


def fields_of(cls: griffe.Class) -> dict[str, FieldInfo]:
    """The fields of a pydantic class that the reference shows, its bases' too; of any other class, none.

    Modules of classes without a base of pydantic's or of the project's are not imported.
    """
    bases = [base if isinstance(base, str) else base.canonical_path for base in cls.bases]
    if not cls.path.startswith(TYPED) or not any(base.startswith(("pydantic.", "secateur.")) for base in bases):
        return {}
    made = getattr(importlib.import_module(cls.module.path), cls.name, None)
    return made.model_fields if isinstance(made, type) and issubclass(made, BaseModel) else {}


def add_table(shown: griffe.Object, rows: list[list[str]], returns: str = "") -> None:
    """Put the table below the docstring; where there is nothing to say of any parameter, none."""
    if not any(row[3] for row in rows):
        return
    if returns and returns != "None":
        rows = [*rows, ["*returns*", in_cell(type_text(returns)), "", ""]]
    cells = (" | ".join(cell.replace("|", "\\|") for cell in row) for row in rows)
    lines = [
        "| parameter | type | default | meaning |",
        "| --- | --- | --- | --- |",
        *(f"| {row} |" for row in cells),
    ]
    assert shown.docstring
    shown.docstring.value = f"{shown.docstring.value.rstrip()}\n\n" + "\n".join(lines) + "\n"


def rows_of(func: griffe.Function, docstring: str) -> list[list[str]]:
    """A row for each parameter of a function."""
    shared = WORDS if func.path.startswith(("secateur.scorers.", "secateur.selectors.")) else {}
    return [
        [
            f"`{one.name}`",
            in_cell(type_text(str(one.annotation))) if one.annotation else "",
            default_text(str(one.default)) if one.default is not None else "required",
            words_of(one.name, docstring, str(one.annotation or ""), shared),
        ]
        for one in func.parameters
        if one.name not in ("self", "cls")
    ]


def words_of(name: str, docstring: str, annotation: str, shared: Mapping[str, str]) -> str:
    """What a parameter is: by its annotation, a sentence that begins with it, shared words, one that names it."""
    if told := DESCRIPTION.search(annotation):
        return told[2]
    text = re.split(r"^(?:>>> |\| )", docstring, maxsplit=1, flags=re.MULTILINE)[0]
    sentences = [one for paragraph in text.split("\n\n") for one in SENTENCE.split(" ".join(paragraph.split()))]
    begins = (one for one in sentences if one.startswith(f"`{name}`"))
    names = (one for one in sentences if re.search(f"`{name}[`=]", one) and not one.startswith("Raises"))
    return re.sub(r"[;:]$", ".", next(begins, None) or shared.get(name) or next(names, ""))


def sign(cls: griffe.Class, fields: dict[str, FieldInfo]) -> None:
    """Give a pydantic class the `__init__` that it has at run time."""
    made = [
        griffe.Parameter(
            name,
            annotation=type_text(annotation_of(field)),
            kind=griffe.ParameterKind.keyword_only,
            default=None if field.is_required() else default_of(field),
        )
        for name, field in fields.items()
    ]
    cls.set_member("__init__", griffe.Function("__init__", parameters=griffe.Parameters(*made)))


def field_row(name: str, field: FieldInfo) -> list[str]:
    """A row for a field of a pydantic class, with its bounds."""
    bounds = " ".join(bounds_of(field.metadata))
    default = "required" if field.is_required() else default_text(default_of(field))
    kind = in_cell(type_text(annotation_of(field)))
    return [f"`{name}`", f"{kind} {bounds}".strip(), default, " ".join((field.description or "").split())]


def bounds_of(metadata: Iterable[Any]) -> list[str]:
    """Least and greatest values that a field takes."""
    known = ((BOUNDS[type(each).__name__], each) for each in metadata if type(each).__name__ in BOUNDS)
    return [text.format(getattr(each, bound)) for (bound, text), each in known]


def annotation_of(field: FieldInfo) -> str:
    """A field's type as one would write it."""
    own = field.annotation
    return own.__name__ if isinstance(own, type) and not getattr(own, "__args__", ()) else str(own).removeprefix("~")


def default_of(field: FieldInfo) -> str:
    """A field's default as one would write it."""
    if field.default_factory and not isinstance(field.default_factory, type):
        return "..."  # another value on another machine
    value = field.default_factory() if field.default_factory else field.get_default()
    return f"{type(value).__name__}()" if isinstance(value, BaseModel) else repr(value)


def in_cell(kind: str) -> str:
    """A type as code of a cell, where a bar would end it."""
    return f"`{kind.replace(' | ', ' or ')}`"


def default_text(default: str) -> str:
    """A default, in code."""
    return f"`{default}`"


def type_text(annotation: str) -> str:
    """A type without modules and without pydantic's `Field`; arrays as type and shape."""
    try:
        tree = ast.parse(annotation, mode="eval").body
        tree = ast.parse(tree.value, mode="eval").body if isinstance(tree, ast.Constant) and tree.value else tree
    except (SyntaxError, TypeError):
        return annotation
    return re.sub(r"'(\w+ \[[^']*\])'", r"\1", ast.unparse(Plain().visit(tree)))


class Plain(ast.NodeTransformer):
    """Takes from a type what its reader needs."""

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        """`np.ndarray` is `ndarray`."""
        return ast.Name(node.attr)

    def visit_Name(self, node: ast.Name) -> ast.AST:
        """As types are written, None is itself."""
        return ast.Name("None") if node.id == "NoneType" else node

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        """`Annotated[T, …]` is T, `Float32[np.ndarray, "n k"]` float32 [n, k]."""
        name = node.value.attr if isinstance(node.value, ast.Attribute) else getattr(node.value, "id", "")
        parts = node.slice.elts if isinstance(node.slice, ast.Tuple) else []
        if name == "Annotated":
            return self.visit(parts[0])
        if name in ARRAYS and len(parts) == 2 and isinstance(parts[1], ast.Constant):
            return ast.Constant(f"{name.lower()} [{', '.join(str(parts[1].value).split())}]")
        return ast.Subscript(ast.Name(name), node.slice if name == "Literal" else self.visit(node.slice))
