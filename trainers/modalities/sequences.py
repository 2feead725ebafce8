"""Fine-tuning samples as arrays, int32 `[n, 2, length]`: token ids, and the role of each.

The encoder tokenises prompt, header and completion separately, so no token spans two of them. It reads no special
tokens in the completion, so no letters in it end a turn. It decodes completions again and compares them.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from jaxtyping import Int32, Int64
from pydantic import ConfigDict, Field, model_validator

from secateur.scorers.settings import PATHS, Settings
from secateur.trainers.contract import PACKED
from secateur.trainers.modalities.rendering import CHATML, Piece, Rendering, Unfit, holds_messages, messages_in
from secateur.trainers.modalities.rows import Batches, RowFault, batches_of, results_of
from secateur.trainers.modalities.texts import AT_MOST, CORPUS, CUT, UNSEEN
from secateur.trainers.models.causal_model import vocabulary_of
from secateur.trainers.models.transformer import load_pretrained
from secateur.trainers.tasks import token_roles
from secateur.trainers.tasks.token_roles import CONTEXT, ROLE, SCORED

if TYPE_CHECKING:
    import datasets
    import pyarrow as pa

PADDING, START, TURN, END = "<|pad|>", "<|start|>", "<|im_start|>", "<|im_end|>"
"""Special tokens of tokenizers trained here, ids 0 to 3."""
MOST = 1024
"""Largest length if it follows from the training samples."""
ROWS = 1024
"""Samples tokenised per call."""
FEW = 8
TOKENS, SHORT = "completion tokens", f"completions of fewer than {FEW} tokens"
"""Names of facts about the samples."""


class SequenceEncoding(Settings):
    """Settings of the encoding of fine-tuning samples as token ids."""

    model_config = ConfigDict(frozen=True)

    tokenizer: Annotated[
        str | None,
        PATHS,
        Field(description="name on the hub or folder; default: the pretrained model's, or one trained on the corpus"),
    ] = None
    revision: Annotated[str | None, Field(description="the tokenizer's revision on the hub")] = None
    template: Annotated[
        Literal["chat", "plain"] | None,
        Field(description="the tokenizer's chat template, or plain prompt and completion; default: chat if it has one"),
    ] = None
    max_length: Annotated[
        int | None,
        Field(
            ge=8,
            le=1_000_000,
            description="tokens, longer samples are cut; default: those of the longest training sample, at most 1024 "
            "and the limit of the tokenizer's model",
        ),
    ] = None
    cut: Annotated[
        Literal["end", "prompt"],
        Field(description="the cut part of a longer sample: its end, or the beginning of the part before the answer"),
    ] = "end"
    vocabulary: Annotated[int, Field(ge=300, description="largest number of tokens of a trained tokenizer")] = 4000
    form: Annotated[
        Literal["completion", "messages", "text"] | None, Field(description="form of the columns; set by the study")
    ] = None

    @model_validator(mode="before")
    @classmethod
    def _packs_nothing(cls, given: Any) -> Any:
        if isinstance(given, Mapping) and "packing" in given:
            raise ValueError(PACKED)
        return given


@dataclass(frozen=True)
class Tokens:
    """Ids of one sample and the role of each."""

    ids: list[int]
    roles: list[int]


@dataclass(frozen=True)
class SequenceEncoder:
    """Encodes samples as token ids with roles, cut at `length`, padded on the right.

    By `encoding.form`, `columns` are one of messages, one of texts, or those of the prompt and last the completion's.
    """

    columns: tuple[str, ...]
    tokenizer: Any
    """A tokenizer of transformers."""
    encoding: SequenceEncoding
    length: int

    @classmethod
    def fit(
        cls, rows: "Batches | datasets.Dataset", columns: Sequence[str], encoding: SequenceEncoding
    ) -> "SequenceEncoder":
        """Load the tokenizer, or train one on the training samples; the setting `max_length` explains the length."""
        if encoding.tokenizer is None:
            tokenizer, most = trained(texts_in(rows, columns, encoding), encoding.vocabulary), MOST
        else:
            tokenizer, most = loaded(encoding.tokenizer, encoding.revision), readable(encoding)
        whole = cls(tuple(columns), tokenizer, encoding, 1 << 40)
        longest = whole.longest_of(rows)
        return cls(tuple(columns), tokenizer, encoding, min(encoding.max_length or most, longest))

    @cached_property
    def rendering(self) -> Rendering:
        """The rendering by `encoding.template`; raises ValueError for chat without a chat template."""
        template = self.encoding.template or ("chat" if self.tokenizer.chat_template else "plain")
        if template == "chat" and not self.tokenizer.chat_template:
            raise ValueError("encoding.template: the tokenizer has no chat template; leave it out, or write plain")

        def rendered(messages: Any, prompt: bool) -> str:
            return str(self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=prompt))

        plain = self.encoding.form == "text" or template == "plain"
        return Rendering(None if plain else rendered, str(self.tokenizer.eos_token), self.special)

    @cached_property
    def special(self) -> tuple[str, ...]:
        """Special tokens, as texts."""
        return tuple(str(token) for token in self.tokenizer.added_tokens_decoder.values() if token.special)

    @cached_property
    def adds_start(self) -> bool:
        """Whether the tokenizer itself puts a start token before every text."""
        return self.tokenizer.bos_token is not None and self.tokenizer("a")["input_ids"][:1] == [self.start_id]

    @property
    def start_id(self) -> int:
        """The start token of samples without a prompt: the tokenizer's begin token, else its end token."""
        begin = self.tokenizer.bos_token_id
        return int(self.tokenizer.eos_token_id if begin is None else begin)

    @property
    def model_settings(self) -> dict[str, Any]:
        """Facts about the ids for a language model."""
        own = vocabulary_of(self.tokenizer)
        return {"kind": "sequences", "vocabulary": len(self.tokenizer), "start_id": self.start_id, "tokenizer": own}

    @property
    def names(self) -> tuple[str, ...]:
        return self.columns

    @property
    def shape(self) -> tuple[int, ...]:
        return (2, self.length)

    sparse, spared = False, ()
    dtype = np.dtype(np.int32)

    def rendered(self, table: "pa.Table") -> Iterator[list[Piece] | Unfit]:
        """Each sample of a batch as pieces of text, or the reason why it cannot be rendered."""
        for cells in zip(*(table[name].to_pylist() for name in self.columns), strict=True):
            texts = [cell or "" for cell in cells]
            try:
                if self.encoding.form == "messages":
                    yield self.rendering.conversed(messages_in(texts[0]))
                elif self.encoding.form == "text":
                    yield self.rendering.plain(texts[0])
                elif holds_messages(texts[-1]):
                    yield self.rendering.paired(texts[:-1], texts[-1])
                else:
                    yield self.rendering.prompted(texts[:-1], texts[-1])
            except Unfit as error:
                yield error

    def pieces_of(self, table: "pa.Table", first: int = 0) -> list[list[Piece]]:
        """Each sample of a batch as pieces of text; raises RowFault for the first fault, with all rows of the batch
        that have it."""
        found = list(self.rendered(table))
        unfit = {first + row: one for row, one in enumerate(found) if isinstance(one, Unfit)}
        if unfit:
            why = next(iter(unfit.values()))
            rows = [row for row, one in unfit.items() if one.fault == why.fault]
            raise RowFault(why.fault, np.array(rows), why.remedy) from why
        return [one for one in found if not isinstance(one, Unfit)]

    def tokens_of(self, table: "pa.Table", first: int = 0) -> list[Tokens]:
        """Ids and roles of each sample of a batch, uncut; raises RowFault if ids do not decode to the completion."""
        samples = self.pieces_of(table, first)
        flat = [(row, piece) for row, pieces in enumerate(samples) for piece in pieces]
        told = [[], []]  # type: list[list[list[int]]]
        backend = self.tokenizer.backend_tokenizer
        backend.no_padding()
        backend.no_truncation()
        for kind in (0, 1):
            texts = [piece.text for _, piece in flat if (piece.role == SCORED) == bool(kind)]
            # Learned text has no special tokens: "<|im_end|>" in an answer is ten letters.
            backend.encode_special_tokens = bool(kind)
            told[kind] = [encoded.ids for encoded in backend.encode_batch(texts, add_special_tokens=False)]
            if kind:
                self.refuse_other_texts([row + first for row, p in flat if p.role == SCORED], texts, told[kind])
        backend.encode_special_tokens = False
        ids = [iter(told[0]), iter(told[1])]
        found = [self.begun(pieces) for pieces in samples]
        for row, piece in flat:
            ends = [self.tokenizer.convert_tokens_to_ids(piece.end)] if piece.end else []
            own = next(ids[piece.role == SCORED]) + ends
            found[row].ids.extend(own)
            found[row].roles.extend([piece.role] * len(own))
        return found

    def begun(self, pieces: Sequence[Piece]) -> Tokens:
        """The tokens before the first piece: a start token without a template, before a learned first piece, or if the
        tokenizer puts one before every text and the template does not write it."""
        writes = pieces[0].text.startswith(str(self.tokenizer.bos_token))
        needed = self.rendering.template is None or pieces[0].role == SCORED or (self.adds_start and not writes)
        return Tokens([self.start_id], [CONTEXT]) if needed else Tokens([], [])

    def refuse_other_texts(self, rows: Sequence[int], texts: Sequence[str], ids: Sequence[list[int]]) -> None:
        """Raise RowFault if the ids of a completion do not decode to the same text."""
        decoded = self.tokenizer.backend_tokenizer.decode_batch(list(ids), skip_special_tokens=False)
        other = [row for row, text, back in zip(rows, texts, decoded, strict=True) if text != back]
        if other:
            raise RowFault(
                "the tokenizer does not give a completion back as it is",
                np.unique(other).astype(np.int64),
                "name a tokenizer that loses nothing (encoding.tokenizer), such as one of byte-level pieces",
            )

    def samples_in(self, table: "pa.Table", first: int) -> Iterator[Tokens]:
        """Tokens of every sample of a batch, uncut."""
        for start in range(0, table.num_rows, ROWS):
            yield from self.tokens_of(table.slice(start, ROWS), first + start)

    def longest_of(self, rows: "Batches | datasets.Dataset") -> int:
        """Tokens of the longest sample, at least 1; raises RowFault for the first fault, with all rows that have it."""
        try:
            return max(results_of(rows, self.columns, self.longest_in), default=1)
        except RowFault as error:
            also = [error.rows, *results_of(rows, self.columns, partial(self.unfit_in, error.fault))]
            raise RowFault(error.fault, np.unique(np.concatenate(also)), error.remedy) from error

    def longest_in(self, table: "pa.Table", first: int) -> list[int]:
        """Tokens of the longest sample of a batch."""
        return [max((len(each.ids) for each in self.samples_in(table, first)), default=1)]

    def unfit_in(self, fault: str, table: "pa.Table", first: int) -> list[Int64[np.ndarray, " k"]]:
        """Row numbers of a batch's samples with this fault."""
        found = enumerate(self.rendered(table), first)
        return [np.array([row for row, one in found if isinstance(one, Unfit) and one.fault == fault], np.int64)]

    def cut(self, sample: Tokens) -> Tokens:
        """A sample cut to at most `length` tokens; the role of its last token is marked if tokens were cut."""
        over = len(sample.ids) - self.length
        if over <= 0:
            return sample
        ids, roles = sample.ids, sample.roles
        if self.encoding.cut == "prompt":
            context = next(place for place, role in enumerate(roles) if role == SCORED)
            gone = min(over, context - 2) if context > 2 else 0
            ids, roles = ids[:1] + ids[1 + gone :], roles[:1] + roles[1 + gone :]
        roles = roles[: self.length]
        return Tokens(ids[: self.length], [*roles[:-1], roles[-1] | token_roles.CUT])

    def encode_batch(self, table: "pa.Table", first: int = 0) -> Int32[np.ndarray, "b 2 length"]:
        """Ids and roles of every sample; raises RowFault for samples without a completion token after the cut."""
        found = np.zeros((table.num_rows, 2, self.length), np.int32)
        for start in range(0, table.num_rows, ROWS):
            for row, sample in enumerate(self.tokens_of(table.slice(start, ROWS), first + start), start):
                sample = self.cut(sample)
                found[row, :, : len(sample.ids)] = sample.ids, sample.roles
        empty = np.flatnonzero(~token_roles.scored_in(found).any(1))
        if len(empty):
            raise RowFault(
                f"the prompt fills all {self.length} tokens, so that nothing of it is left",
                first + empty,
                "raise encoding.max_length, write encoding: {cut: prompt}, or remove these rows",
            )
        return found

    def facts(self, rows: "Batches | datasets.Dataset", inputs: Any = None) -> dict[str, Any]:
        """Length, share of cut samples, number of learned tokens and of short completions, and system turns lost."""
        cut, tokens, short, unseen = np.sum([np.zeros(4, np.int64), *results_of(rows, self.columns, self.told_of)], 0)
        lost = {UNSEEN: int(unseen)} if unseen else {}
        if cut and self.length == read_by_model(self.encoding):
            lost[AT_MOST] = self.length
        share = int(cut) / max(1, len(rows))
        return {"length": self.length, CUT: share, TOKENS: int(tokens), SHORT: int(short), **lost}

    def told_of(self, table: "pa.Table", first: int) -> list[Int64[np.ndarray, " 4"]]:
        """For a batch the numbers of cut samples, of learned tokens, of samples with few of them, and of samples with a
        system turn that the chat template omits."""
        cut, counts = 0, []
        for sample in self.samples_in(table, first):
            cut += len(sample.ids) > self.length
            counts.append(sum(role & ROLE == SCORED for role in self.cut(sample).roles))
        told = np.array(counts, np.int64)
        return [np.array([cut, told.sum(), (told < FEW).sum(), self.unseen(table)], np.int64)]

    def unseen(self, table: "pa.Table") -> int:
        """Number of samples of a batch with a system turn that the chat template omits."""
        count = 0
        for cells in zip(*(table[name].to_pylist() for name in self.columns), strict=True):
            if self.encoding.form == "messages" or holds_messages(cells[-1] or ""):
                messages = [message for cell in cells if cell for message in messages_in(cell)]
                count += self.rendering.leaves_out_system(messages)
        return count

    def save(self, folder: Path) -> None:
        """Write the tokenizer in transformers' format, and `encoding.json`."""
        self.tokenizer.backend_tokenizer.no_padding()  # Undo settings of its last call.
        self.tokenizer.backend_tokenizer.no_truncation()
        self.tokenizer.save_pretrained(folder)
        learned = {"columns": list(self.columns), "length": self.length}
        settings = self.encoding.model_dump(mode="json", include={"form", "template", "cut"})
        (folder / "encoding.json").write_text(json.dumps({"encoder": "sequences"} | learned | settings) + "\n")


def loaded(name: str, revision: str | None) -> Any:
    """A tokenizer of the hub or a folder; raises ValueError for one outside the tokenizers library, or without an end
    token."""
    from transformers import AutoTokenizer

    tokenizer = load_pretrained(AutoTokenizer, name, revision)
    if getattr(tokenizer, "backend_tokenizer", None) is None:
        raise ValueError(f"tokenizer {name!r} is not of the tokenizers library (no tokenizer.json): name another one")
    if tokenizer.eos_token_id is None:
        raise ValueError(f"tokenizer {name!r} has no token that ends a text: set eos_token and save it")
    return tokenizer


def readable(encoding: SequenceEncoding) -> int:
    """The default limit of tokens per sample: `MOST`, or the limit of the tokenizer's model if that is smaller."""
    return MOST if encoding.max_length is not None else min(MOST, read_by_model(encoding) or MOST)


def read_by_model(encoding: SequenceEncoding) -> int | None:
    """The number of positions of the model beside the tokenizer, minus one for the start token before a completion
    alone; None without a model, or if its config has no such number."""
    from transformers import AutoConfig

    if encoding.tokenizer is not None:
        with suppress(ValueError):  # A folder may hold only a tokenizer.
            config = load_pretrained(AutoConfig, encoding.tokenizer, encoding.revision)
            positions = getattr(config, "max_position_embeddings", None)
            return None if positions is None else int(positions) - 1
    return None


def texts_in(rows: "Batches | datasets.Dataset", columns: Sequence[str], encoding: SequenceEncoding) -> Iterator[str]:
    """Texts for training a tokenizer: of more than `CORPUS` cells every second, third, …"""
    step = max(1, -(-len(rows) * len(columns) // CORPUS))
    cells = (cell or "" for table in batches_of(rows, columns) for name in columns for cell in table[name].to_pylist())
    for cell in islice(cells, None, None, step):
        if encoding.form == "messages" or (encoding.form == "completion" and holds_messages(cell)):
            with suppress(Unfit):  # The encoding raises it with its row.
                yield from (message["content"] for message in messages_in(cell))
        else:
            yield cell


def trained(texts: Iterator[str], vocabulary: int) -> Any:
    """Train a byte-level BPE tokenizer with ChatML as its template; the same texts give the same tokenizer."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[PADDING, START, TURN, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PADDING,
        bos_token=START,
        eos_token=END,
        chat_template=CHATML,
        clean_up_tokenization_spaces=False,
    )
