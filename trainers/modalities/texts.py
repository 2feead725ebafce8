"""Texts as arrays of token ids, int32 `[n, length]`; `tfidf.py` has the other encoding of the settings."""

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from jaxtyping import Bool, Int32, Int64
from pydantic import ConfigDict, Field

from secateur.scorers.settings import PATHS, Settings
from secateur.trainers.modalities.rows import Batches, batches_of, results_of

if TYPE_CHECKING:
    import datasets
    import pyarrow as pa
    import tokenizers

PADDING, UNKNOWN, START, END = "[PAD]", "[UNK]", "[CLS]", "[SEP]"
BATCH = 4096
LEAST, MOST = 16, 512
"""Bounds of the length if it follows from the training texts."""
CUT, WITHOUT_TERM = "share of texts cut", "share of texts without a term"
UNSEEN = "system turns that the template leaves out"
AT_MOST = "tokens that the model reads at most"
"""Names of facts that readers should see if they are not small."""
CORPUS = 1 << 19
"""Largest number of texts for training a tokenizer: of more texts every second, third, … one."""
COUNTED = 1 << 16
"""Largest number of texts that decide the length: the error of the share of whole texts is below 0.2 percentage points
then."""


class TextEncoding(Settings):
    """Settings of the encoding of texts."""

    model_config = ConfigDict(frozen=True)

    kind: Annotated[
        Literal["tokens", "tfidf"] | None, Field(description="default: the models' kind of input, tokens or numbers")
    ] = None
    tokenizer: Annotated[
        str | None,
        PATHS,
        Field(description="name on the hub or folder; default: the pretrained model's, or one trained on the corpus"),
    ] = None
    revision: Annotated[str | None, Field(description="the tokenizer's revision on the hub")] = None
    max_length: Annotated[
        int | None,
        Field(
            ge=4,
            le=100_000,
            description="tokens, longer texts are cut; default: 95 of 100 training texts stay whole, within "
            "16 … 512 and the limit of the tokenizer's model",
        ),
    ] = None
    vocabulary: Annotated[int, Field(ge=64, description="largest number of tokens of a trained tokenizer")] = 4000
    lower_case: Annotated[bool, Field(description="lower-case texts for a trained tokenizer")] = True
    terms: Annotated[
        int, Field(ge=1, description="largest number of TF-IDF terms: words, pairs of words, character sequences")
    ] = 2048


def texts_of(rows: "Batches | datasets.Dataset", column: str, most: int | None = None) -> Iterator[list[str]]:
    """Texts in batches, with "" for missing ones; of more than `most` every second, third, … one."""
    step, first = max(1, -(-len(rows) // most)) if most else 1, 0
    for table in batches_of(rows, [column]):
        places = np.arange(-first % step, table.num_rows, step)
        some, first = table if step == 1 else table.take(places), first + table.num_rows
        for start in range(0, some.num_rows, BATCH):
            yield texts_in(some.slice(start, BATCH), column)


def texts_in(table: "pa.Table", column: str) -> list[str]:
    """Texts of a batch, with "" for missing ones."""
    return [text or "" for text in table[column].to_pylist()]


def train_tokenizer(
    batches: Iterable[Sequence[str]], *, vocabulary: int, lower_case: bool = True
) -> "tokenizers.Tokenizer":
    """Train byte-pair encoding (Sennrich et al. 2016), `[PAD]` 0; the same corpus gives the same tokenizer.

    Not WordPiece: its trainer numbers tokens in the order of a hash table, which differs between processes.
    """
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.BPE(unk_token=UNKNOWN))
    steps = [normalizers.NFKC(), *([normalizers.Lowercase()] if lower_case else [])]
    tokenizer.normalizer = normalizers.Sequence(steps)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Metaspace(), pre_tokenizers.Punctuation()])
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=[PADDING, UNKNOWN, START, END], show_progress=False
    )
    tokenizer.train_from_iterator(batches, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{START} $A {END}", special_tokens=[(name, tokenizer.token_to_id(name)) for name in (START, END)]
    )
    return tokenizer


def load_tokenizer(name: str, revision: str | None = None) -> tuple["tokenizers.Tokenizer", int, int]:
    """A tokenizer of the hub or a folder, its padding id, and its model's limit of tokens, at most `MOST`.

    Raises ValueError with the remedy for an unusable tokenizer.
    """
    from transformers import AutoConfig, AutoTokenizer

    from secateur.trainers.models.transformer import load_pretrained

    found = load_pretrained(AutoTokenizer, name, revision)
    tokenizer = getattr(found, "backend_tokenizer", None)
    if tokenizer is None:
        raise ValueError(f"tokenizer {name!r} is not of the tokenizers library (no tokenizer.json): name another one")
    if found.pad_token_id is None:
        raise ValueError(f"tokenizer {name!r} has no padding token: set one and save it with save_pretrained")
    longest = int(min(found.model_max_length, MOST))
    with suppress(ValueError):  # A folder may hold only a tokenizer.
        config = load_pretrained(AutoConfig, name, revision)
        longest = min(longest, getattr(config, "max_position_embeddings", longest))
    return tokenizer, int(found.pad_token_id), longest


@dataclass(frozen=True)
class TokenEncoder:
    """Encodes texts as token ids, cut at `length`, padded on the right."""

    column: str
    tokenizer: "tokenizers.Tokenizer"
    padding_id: int
    length: int

    @classmethod
    def fit(cls, rows: "Batches | datasets.Dataset", column: str, encoding: TextEncoding) -> "TokenEncoder":
        """Train or load the tokenizer; the length is that of the longest training text, at most `max_length`.

        Without `max_length` it is the 95th percentile of training texts, rounded up to a multiple of 8, within 16 … 512
        and the limit of the tokenizer's model.
        """
        if encoding.tokenizer is None:
            some = texts_of(rows, column, CORPUS)
            tokenizer = train_tokenizer(some, vocabulary=encoding.vocabulary, lower_case=encoding.lower_case)
            padding_id, most = 0, MOST
        else:
            tokenizer, padding_id, most = load_tokenizer(encoding.tokenizer, encoding.revision)
        tokenizer.no_padding()
        tokenizer.no_truncation()
        if encoding.max_length is not None:
            length = longest_of(tokenizer, texts_of(rows, column), encoding.max_length)
        else:
            lengths = np.concatenate([lengths_of(tokenizer, batch) for batch in texts_of(rows, column, COUNTED)])
            usual = int(np.sort(lengths)[-(-95 * len(lengths) // 100) - 1])
            length = min(max(-(-usual // 8) * 8, LEAST), MOST, most)
        return cls(column, tokenizer, padding_id, max(length, 1))

    @property
    def model_settings(self) -> dict[str, Any]:
        """Facts about the ids for networks."""
        size = max(self.tokenizer.get_vocab().values()) + 1
        return {"kind": "tokens", "vocabulary": size, "padding_id": self.padding_id}

    @property
    def names(self) -> tuple[str, ...]:
        return (self.column,)

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.length,)

    sparse, spared = False, ()
    dtype = np.dtype(np.int32)

    def encode_batch(self, table: "pa.Table", first: int = 0) -> Int32[np.ndarray, "b length"]:
        """Ids of every row."""
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(self.length)
        ids = np.full((table.num_rows, self.length), self.padding_id, np.int32)
        for row, encoded in enumerate(self.tokenizer.encode_batch(texts_in(table, self.column))):
            ids[row, : len(encoded.ids)] = encoded.ids
        return ids

    def facts(self, rows: "Batches | datasets.Dataset", inputs: Any = None) -> dict[str, Any]:
        """Length and share of cut texts; with `inputs` it tokenises only the texts again that fill the length."""
        maybe = None
        if inputs is not None and (end := self.end) not in (None, self.padding_id):
            maybe = np.asarray(inputs[:, -1] == end)
        cut = sum(results_of(rows, [self.column], partial(self.cut_in, maybe)))
        return {"length": self.length, CUT: cut / max(1, len(rows))}

    @property
    def end(self) -> int | None:
        """The token that the tokenizer puts behind every text, cut or not; None if there is none."""
        self.tokenizer.no_truncation()
        last = {ids[-1] if (ids := self.tokenizer.encode(text).ids) else None for text in ("", "a", "b")}
        return last.pop() if len(last) == 1 else None

    def cut_in(self, maybe: Bool[np.ndarray, " n"] | None, table: "pa.Table", first: int) -> list[int]:
        """Number of cut texts in a batch, among all, or among the candidates in the mask `maybe`."""
        if maybe is not None:
            table = table.take(np.flatnonzero(maybe[first : first + table.num_rows]))
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(self.length)
        parts = (texts_in(table.slice(start, BATCH), self.column) for start in range(0, table.num_rows, BATCH))
        return [sum(bool(one.overflowing) for part in parts for one in self.tokenizer.encode_batch(part))]

    def save(self, folder: Path) -> None:
        """Write `tokenizer.json` and `encoding.json`."""
        self.tokenizer.no_padding()  # Undo settings of its last call.
        self.tokenizer.no_truncation()
        self.tokenizer.save(str(folder / "tokenizer.json"))
        learned = {"column": self.column, "padding_id": self.padding_id, "length": self.length}
        (folder / "encoding.json").write_text(json.dumps({"encoder": "tokens"} | learned) + "\n")


def lengths_of(tokenizer: "tokenizers.Tokenizer", texts: Sequence[str]) -> Int64[np.ndarray, " b"]:
    """Number of tokens of each text."""
    return np.array([len(encoded.ids) for encoded in tokenizer.encode_batch(texts)], np.int64)


def longest_of(tokenizer: "tokenizers.Tokenizer", batches: Iterable[Sequence[str]], most: int) -> int:
    """Tokens of the longest text, at most `most`; stops reading at the first text that reaches it."""
    longest = 0
    for texts in batches:
        longest = max(longest, int(lengths_of(tokenizer, texts).max(initial=0)))
        if longest >= most:
            return most
    return longest
