"""Texts as arrays of token ids, int32 `[n, length]`; `tfidf.py` has the other encoding that the settings name."""

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from jaxtyping import Int32
from pydantic import ConfigDict, Field

from secateur.scorers.settings import PATHS, Settings
from secateur.trainers.modalities.rows import Batches, batches_of

if TYPE_CHECKING:
    import datasets
    import pyarrow as pa
    import tokenizers

PADDING, UNKNOWN, START, END = "[PAD]", "[UNK]", "[CLS]", "[SEP]"
BATCH = 4096
LEAST, MOST = 16, 512
"""Tokens of a text where the length follows from the training texts."""
CUT, WITHOUT_TERM = "share of texts cut", "share of texts without a term"
UNSEEN = "system turns that the template leaves out"
AT_MOST = "tokens that the model reads at most"
"""Facts that a reader should know of where they are not small."""
CORPUS = 1 << 19
"""Texts that a tokenizer is trained on at most: of more texts every second, third, … one."""


class TextEncoding(Settings):
    """How texts become arrays."""

    model_config = ConfigDict(frozen=True)

    kind: Annotated[
        Literal["tokens", "tfidf"] | None, Field(description="the models' input, if left out: tokens or numbers")
    ] = None
    tokenizer: Annotated[
        str | None,
        PATHS,
        Field(description="a tokenizer of the hub or a folder; the pretrained model's, or one trained on the corpus"),
    ] = None
    revision: Annotated[str | None, Field(description="the tokenizer's, on the hub")] = None
    max_length: Annotated[
        int | None,
        Field(
            ge=4,
            le=100_000,
            description="tokens; longer ones are cut; if left out, 95 of 100 training texts stay whole, within "
            "16 … 512 and the limit of the tokenizer's model",
        ),
    ] = None
    vocabulary: Annotated[int, Field(ge=64, description="tokens of a tokenizer that is trained, at most")] = 4000
    lower_case: Annotated[bool, Field(description="of a tokenizer that is trained")] = True
    terms: Annotated[
        int, Field(ge=1, description="words, pairs of words and sequences of characters of TF-IDF, at most")
    ] = 2048


def texts_of(rows: "Batches | datasets.Dataset", column: str) -> Iterator[list[str]]:
    """Texts in batches, missing ones empty."""
    for table in batches_of(rows, [column]):
        for start in range(0, table.num_rows, BATCH):
            yield texts_in(table.slice(start, BATCH), column)


def texts_in(table: "pa.Table", column: str) -> list[str]:
    """Texts of a batch, missing ones empty."""
    return [text or "" for text in table[column].to_pylist()]


def train_tokenizer(
    batches: Iterable[Sequence[str]], *, vocabulary: int, lower_case: bool = True
) -> "tokenizers.Tokenizer":
    """Byte-pair encoding (Sennrich et al. 2016) of a corpus, `[PAD]` 0; the same corpus gives the same tokenizer.

    Not WordPiece: its trainer numbers tokens in the order of a hash table, another one in every process.
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
    """A tokenizer of the hub or a folder, its padding id, and how many tokens its model reads at most.

    Raises ValueError with the remedy where there is none.
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
    with suppress(ValueError):  # a folder with nothing but a tokenizer
        config = load_pretrained(AutoConfig, name, revision)
        longest = min(longest, getattr(config, "max_position_embeddings", longest))
    return tokenizer, int(found.pad_token_id), longest


@dataclass(frozen=True)
class TokenEncoder:
    """Token ids, cut at `length`, padded on the right."""

    column: str
    tokenizer: "tokenizers.Tokenizer"
    padding_id: int
    length: int

    @classmethod
    def fit(cls, rows: "Batches | datasets.Dataset", column: str, encoding: TextEncoding) -> "TokenEncoder":
        """Train or load the tokenizer; the length is that of the longest training text, at most the setting's.

        Without a setting it is the one that 95 of 100 training texts do not exceed, rounded up to a multiple of 8,
        within 16 … 512 and the limit of the tokenizer's model.
        """
        if encoding.tokenizer is None:
            every = chain.from_iterable(texts_of(rows, column))
            some = islice(every, None, None, max(1, -(-len(rows) // CORPUS)))
            batches = iter(lambda: list(islice(some, BATCH)), [])
            tokenizer = train_tokenizer(batches, vocabulary=encoding.vocabulary, lower_case=encoding.lower_case)
            padding_id, most = 0, MOST
        else:
            tokenizer, padding_id, most = load_tokenizer(encoding.tokenizer, encoding.revision)
        tokenizer.no_padding()
        tokenizer.no_truncation()
        counts = np.zeros(1, np.int64)
        for batch in texts_of(rows, column):
            found = np.bincount([len(encoded.ids) for encoded in tokenizer.encode_batch(batch)])
            counts = np.pad(counts, (0, max(0, len(found) - len(counts))))
            counts[: len(found)] += found
        if encoding.max_length is not None:
            length = min(encoding.max_length, len(counts) - 1)
        else:
            usual = int(np.searchsorted(np.cumsum(counts), 0.95 * counts.sum()))
            length = min(max(-(-usual // 8) * 8, LEAST), MOST, most)
        return cls(column, tokenizer, padding_id, max(length, 1))

    @property
    def model_settings(self) -> dict[str, Any]:
        """What a network of token ids must know."""
        size = max(self.tokenizer.get_vocab().values()) + 1
        return {"kind": "tokens", "vocabulary": size, "padding_id": self.padding_id}

    def tokens_of(self, rows: "Batches | datasets.Dataset") -> Iterator[tuple[list[int], bool]]:
        """Ids of each text and whether it was cut."""
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(self.length)
        for texts in texts_of(rows, self.column):
            for row in self.tokenizer.encode_batch(texts):
                yield row.ids, bool(row.overflowing)

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
        """Share of the texts that are cut."""
        cut = sum(was_cut for _, was_cut in self.tokens_of(rows))
        return {"length": self.length, CUT: cut / max(1, len(rows))}

    def save(self, folder: Path) -> None:
        """Write `tokenizer.json` and `encoding.json`."""
        self.tokenizer.save(str(folder / "tokenizer.json"))
        learned = {"column": self.column, "padding_id": self.padding_id, "length": self.length}
        (folder / "encoding.json").write_text(json.dumps({"encoder": "tokens"} | learned) + "\n")
