"""A first study of fine-tuning data: conversations, or prompts and completions, recognised by their columns.

The shapes are TRL's (`messages`; `prompt` and `completion`, texts or lists of messages), Alpaca's (`instruction`,
`input`, `output`) and ShareGPT's (`conversations` of `from` and `value`).
"""

from collections.abc import Mapping, Sequence
from typing import Any

from secateur.pipelines.data.profile import Column
from secateur.pipelines.data.sources import SourceError
from secateur.pipelines.studies.plain_yaml import flowed

CONVERSATIONS = ("messages", "conversations", "conversation", "dialogue", "dialog", "chat")
PAIRS = (
    ("prompt", "completion"),
    ("instruction", "output"),
    ("instruction", "response"),
    ("prompt", "response"),
    ("question", "response"),
    ("query", "response"),
)
"""Columns of a prompt and its completion; an Alpaca's `input` follows its instruction."""
SOURCES = ("source", "domain", "dataset", "data_source", "category", "task", "subset", "topic")
"""Usual names of a column of sources."""
MOST_SOURCES = 100
LONGEST = 400
"""Characters of the rendered sample."""

SCORED = (
    "scores:",
    "  checkpoint_loss: # nats per completion token, given the prompt",
    "  ifd_ppl: # how little the prompt helps: a ratio of perplexities, and below of losses",
    "  ifd_loss:",
)
SELECTED = (
    "  ifd: {selector: top, score: ifd_ppl, end: high}",
    "  ifd_by_loss: {selector: top, score: ifd_loss, end: high}",
    "  likeliest: {selector: top, score: checkpoint_loss, end: low}",
)
SCORED_PLAIN = (
    "scores:",
    "  perplexity: # of a token, given those before it",
    "  response_tokens: # tokens of the text",
)
SELECTED_PLAIN = (
    "  likeliest: {selector: top, score: perplexity, end: low}",
    "  unlikeliest: {selector: top, score: perplexity, end: high}",
)
"""Scores and selections of a first study: of rows with prompts, and of plain texts, for which IFD is undefined."""
MOST_CHECKPOINTS = 5
"""Checkpoints of the proxy in a first study of plain texts."""


def recognised(columns: Mapping[str, Column], asked: str | None) -> tuple[dict[str, Any], str] | None:
    """The input columns of fine-tuning data, with the reason; None if there are none and `asked` is not `sft`.

    Raises SourceError if there are none and it is.
    """
    names = {name.lower(): name for name in columns}
    for word in CONVERSATIONS:
        if word in names and columns[names[word]].holds in ("other", "text"):
            return {
                "messages": names[word]
            }, "conversations: lists of messages with role and content, or from and value"
    for prompt, completion in PAIRS:
        holds = columns[names[completion]].holds if prompt in names and completion in names else ""
        if holds == "other" and columns[names[prompt]].holds == "other":
            return {"prompt": names[prompt], "completion": names[completion]}, "TRL's lists of messages"
        if holds in ("text", "path"):
            follows = [names["input"]] if "input" in names and prompt == "instruction" else []
            asked_for = [names[prompt], *follows]
            shape = "Alpaca's columns" if follows else "their names"
            return {"prompt": asked_for if follows else asked_for[0], "completion": names[completion]}, shape
    if asked != "sft":
        return None
    wordy = max(
        (name for name in columns if columns[name].holds == "text"), key=lambda n: columns[n].words, default=None
    )
    if wordy is None:
        raise SourceError(f"--task sft: no column holds texts or conversations, there are: {', '.join(columns)}")
    return {"text": wordy}, "the column of most words: every word of it is learned"


def source_column(columns: Mapping[str, Column], taken: Sequence[str]) -> str | None:
    """The column with the source of each row; None if there is none."""
    named = {name.lower(): name for name in columns if name not in taken}
    for word in SOURCES:
        column = columns.get(named.get(word, ""))
        if column and column.holds == "text" and 2 <= column.distinct <= min(MOST_SOURCES, column.rows // 4):
            return column.name
    return None


def sft_lines(settled: Mapping[str, Any], *, by_source: bool, prompted: bool) -> list[str]:
    """YAML lines, with comments, of scores, selections and trainings; `prompted` means that rows have prompts."""
    epochs = settled["proxy"]["epochs"]
    curved = epochs > 1 and not prompted
    what = (
        "The model as it comes scores the samples."
        if epochs == 0
        else "One training run on all samples; scores watch it."
    )
    beside = "the longest first, and random rows of all sources alike" if by_source else "and the longest first"
    return [
        f"# {what}",
        f"proxy: {flowed(settled['proxy'])}",
        *([f"checkpoints: {min(epochs, MOST_CHECKPOINTS)} # at which s2l reads the losses"] if curved else []),
        "",
        *(SCORED if prompted else SCORED_PLAIN),
        "",
        f"# Two random selections at the same budget are always added, {beside}.",
        "selections:",
        *(SELECTED if prompted else SELECTED_PLAIN),
        *(["  s2l: # rows of every shape of the loss over the proxy's training"] if curved else []),
        "",
        "# Shares of the completion tokens that stay: at equal rows, long ones would be more training.",
        f"keep: {{tokens: {flowed(settled['keep'])}}}",
        f"training: {flowed(settled['training'])}",
    ]


def rendered_sample(encoder: Any, rows: Any) -> str:
    """The first training sample as the model reads it, with the learned text in ⟦ ⟧."""
    from secateur.trainers.modalities.rendering import shown

    table = next(rows.batches(encoder.names)).slice(0, 1)
    text = shown(encoder.pieces_of(table)[0])
    return text if len(text) <= LONGEST else f"{text[: LONGEST // 2]} … {text[-LONGEST // 2 :]}"
