"""One vector per sample, float16, in blocks of rows: by the proxy, by a pretrained encoder, or without a network.

Weighted means of completions are float32: their numbers are too small for float16.

Blocks begin at multiples of the block size, and the rows for fitting depend on the seed alone, so a run resumed at a
block gives the same bytes as an uninterrupted one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Literal

import numpy as np
from jaxtyping import Float16, Float32, Float64, Int64, Shaped
from pydantic import ConfigDict, Field, model_validator

from secateur.scorers.checkpoints.contract import forward_with_features
from secateur.scorers.contract import rows_text
from secateur.scorers.lazy import nn, torch
from secateur.scorers.settings import PATHS, Settings
from secateur.trainers.contract import Data
from secateur.trainers.modalities.tables import one_hot
from secateur.trainers.models.pooling import mean_of_real, pooled
from secateur.trainers.models.transformer import load_pretrained

Block = Float16[np.ndarray, "b d"] | Float32[np.ndarray, "b d"]
Rows = Int64[np.ndarray, " b"]
Embed = Callable[[Rows], Shaped[np.ndarray, "b d"]]


class EmbeddingSettings(Settings):
    """The source of embeddings.

    `proxy`: the inputs of the proxy's classifier; for completions the weighted mean of RDS+ over the last hidden states
    of prompt and completion (Ivison et al. 2025). `encoder`: a model of the transformers library; the mean over tokens
    of a text, the pooled output or class token of an image. `sklearn`: TF-IDF and truncated SVD for texts (latent
    semantic analysis, Deerwester et al. 1990), PCA for images and tables; no network, no download.
    """

    model_config = ConfigDict(frozen=True)

    kind: Annotated[Literal["proxy", "encoder", "sklearn"], Field(description="source of the vectors")] = "proxy"
    encoder: Annotated[str | None, PATHS, Field(description="name on the Hugging Face hub, or a folder")] = None
    revision: Annotated[str | None, Field(description="the encoder's revision on the hub")] = None
    max_length: Annotated[int, Field(ge=4, description="tokens of a text that the encoder reads")] = 128
    dimensions: Annotated[int, Field(ge=1, description="largest number of dimensions of SVD and PCA")] = 128
    fit_rows: Annotated[int, Field(ge=2, description="largest number of rows for fitting SVD and PCA")] = 20_000
    block: Annotated[int, Field(ge=1, description="rows per block")] = 4096
    batch_size: Annotated[int, Field(ge=1, description="rows per forward pass")] = 128
    seed: Annotated[int, Field(description="seed of the rows for fitting SVD and PCA")] = 0

    @model_validator(mode="after")
    def _named(self) -> EmbeddingSettings:
        if (self.encoder is not None) != (self.kind == "encoder"):
            raise ValueError("encoder: name one where kind is 'encoder', and only there")
        return self


def embed(
    settings: EmbeddingSettings,
    data: Data,
    *,
    model: nn.Module | None = None,
    texts: Sequence[str | None] | None = None,
    device: torch.device | None = None,
    start: int = 0,
    fitted_to: tuple[Data, Sequence[str | None] | None] | None = None,
) -> Iterator[Block]:
    """Vectors of the rows from `start` on, float16 `[b, d]`, in blocks of `settings.block` rows, the last one shorter;
    float32 for completions by the proxy.

    `model` is the proxy, for `proxy`. `texts` are the rows' texts, for texts with `encoder` and `sklearn`: any object
    indexed by row numbers, such as a column of a `datasets.Dataset`; other modalities read `data.inputs`. `fitted_to`
    are other rows, with their texts, for fitting SVD and PCA, so that vectors of both are comparable. Raises ValueError
    for missing arguments, for a `start` inside a block, and for rows beyond the range of float16.
    """
    if start % settings.block:
        raise ValueError(f"start {start} is not at the beginning of a block of {settings.block} rows")
    refuse_other_texts(data, texts)
    known, known_texts = fitted_to or (data, texts)
    learned = learn(settings, known, None if texts is None else known_texts)
    return embedder(settings, data, model=model, texts=texts, device=device, learned=learned)(start)


def embedder(
    settings: EmbeddingSettings,
    data: Data,
    *,
    model: nn.Module | None = None,
    texts: Sequence[str | None] | None = None,
    device: torch.device | None = None,
    learned: Learned | None = None,
) -> Callable[[int], Iterator[Block]]:
    """A function of the first row that yields the blocks of `embed`; `learned` is the result of `learn`, for
    `sklearn`."""
    refuse_other_texts(data, texts)
    device = device or (next(model.parameters()).device if model is not None else torch.device("cpu"))
    if settings.kind == "proxy":
        compute = of_proxy(settings, data, model, device)
    elif settings.kind == "encoder":
        compute = of_encoder(settings, data, texts, device)
    else:
        assert learned is not None
        compute = partial(learned, data, texts)
    exact = settings.kind == "proxy" and of_completions(data)
    return lambda start: as_stored(compute, len(data), settings.block, start, np.float32 if exact else np.float16)


def refuse_other_texts(data: Data, texts: Sequence[str | None] | None) -> None:
    """Raise ValueError if there are more or fewer texts than samples."""
    if texts is not None and len(texts) != len(data):
        raise ValueError(f"there are {len(texts)} texts for {len(data)} samples")


def of_completions(data: Data) -> bool:
    """Whether samples are token ids with roles."""
    return bool(data.model_settings.get("kind") == "sequences")


def in_batches(rows: np.ndarray, size: int) -> list[np.ndarray]:
    """Rows in runs of `size`, the last one shorter."""
    return np.split(rows, range(size, len(rows), size))


def as_stored(
    compute: Embed, count: int, size: int, start: int, kind: type[np.float16] | type[np.float32]
) -> Iterator[Block]:
    """Blocks in the dtype `kind`; raises ValueError that names the rows of overflows."""
    for first in range(start, count, size):
        rows = np.arange(first, min(first + size, count), dtype=np.int64)
        values = compute(rows)
        wrong = rows[(~(np.abs(values) <= np.finfo(kind).max)).any(axis=1)]
        if len(wrong):
            raise ValueError(
                f"embeddings are not finite, or beyond {kind.__name__}, at {rows_text(wrong)}: the network diverges "
                "there; look at these samples, or take embeddings of another kind"
            )
        yield values.astype(kind)


def of_proxy(settings: EmbeddingSettings, data: Data, model: nn.Module | None, device: torch.device) -> Embed:
    """A function of row numbers to the inputs of the classifier of `model`, or to weighted means of completions."""
    if model is None:
        raise ValueError("embeddings of kind 'proxy' need the proxy model")
    if of_completions(data):
        from secateur.trainers.passes.completions import weighted_means

        return lambda rows: torch.cat(
            [weighted_means(model, data, part, device) for part in in_batches(rows, settings.batch_size)]
        ).numpy()
    model.to(device).eval()

    def compute(rows: Rows) -> Float32[np.ndarray, "b d"]:
        parts = [
            forward_with_features(model, data.take(part).network_inputs(device))[1].cpu()
            for part in in_batches(rows, settings.batch_size)
        ]
        return torch.cat(parts).numpy()

    return compute


def of_encoder(
    settings: EmbeddingSettings, data: Data, texts: Sequence[str | None] | None, device: torch.device
) -> Embed:
    """A function of row numbers to vectors of a pretrained encoder, for texts if there are any, else for images."""
    images = data.inputs.ndim == 4
    if texts is None and not images:
        raise ValueError("embeddings of kind 'encoder' need texts or images; use 'proxy' or 'sklearn' for a table")
    encoder = loaded_encoder(settings, device)
    if texts is None:
        see = picture_reader(settings, encoder, device)
        size = settings.batch_size
        return lambda rows: np.concatenate([see([*data.inputs[part]]) for part in in_batches(rows, size)])
    read = text_reader(settings, encoder, device)
    return lambda rows: read([texts[row] for row in rows.tolist()])


def loaded_encoder(settings: EmbeddingSettings, device: torch.device) -> Any:
    """The encoder, in float32 and evaluation mode; raises ValueError if it cannot be loaded."""
    from transformers import AutoModel

    assert settings.encoder is not None
    model = load_pretrained(AutoModel, settings.encoder, settings.revision, dtype=torch.float32)
    return model.to(device).eval()


def text_reader(
    settings: EmbeddingSettings, encoder: Any, device: torch.device
) -> Callable[[Sequence[str | None]], Float32[np.ndarray, "b d"]]:
    """A function of texts to vectors, the mean over real tokens of the last layer; a missing text counts as empty, and
    texts of similar length share a batch."""
    from transformers import AutoTokenizer

    tokenizer = load_pretrained(AutoTokenizer, str(settings.encoder), settings.revision)
    if tokenizer.pad_token_id is None:
        raise ValueError(f"tokenizer {settings.encoder!r} has no padding token: set one and save it")
    longest = min(settings.max_length, getattr(encoder.config, "max_position_embeddings", settings.max_length))

    @torch.no_grad()
    def read(texts: Sequence[str | None]) -> Float32[np.ndarray, "b d"]:
        words = [text or "" for text in texts]
        order = np.argsort([len(text) for text in words], kind="stable")
        vectors = np.empty((len(words), encoder.config.hidden_size), np.float32)
        for part in in_batches(order, settings.batch_size):
            batch = tokenizer(
                [words[place] for place in part], padding=True, truncation=True, max_length=longest, return_tensors="pt"
            ).to(device)
            hidden = encoder(**batch).last_hidden_state
            vectors[part] = mean_of_real(hidden, batch["attention_mask"].bool()).float().cpu().numpy()
        return vectors

    return read


def picture_reader(
    settings: EmbeddingSettings, encoder: Any, device: torch.device
) -> Callable[[Sequence[Shaped[np.ndarray, "_ _ _"]]], Float32[np.ndarray, "b d"]]:
    """A function of pictures, uint8 `[h, w, c]` of any sizes, to vectors: image features if the encoder has a method
    for them (CLIP), else its pooled output, else the class token."""
    from transformers import AutoImageProcessor

    processor = load_pretrained(AutoImageProcessor, str(settings.encoder), settings.revision)

    @torch.no_grad()
    def see(pictures: Sequence[Shaped[np.ndarray, "_ _ _"]]) -> Float32[np.ndarray, "b d"]:
        parts = []
        for start in range(0, len(pictures), settings.batch_size):
            some = pictures[start : start + settings.batch_size]
            coloured = [np.repeat(one, 3, axis=2) if one.shape[2] == 1 else one for one in some]
            batch = processor(images=coloured, input_data_format="channels_last", return_tensors="pt").to(device)
            output = encoder.get_image_features(**batch) if hasattr(encoder, "get_image_features") else encoder(**batch)
            parts.append(pooled(output).float().flatten(1).cpu())
        return torch.cat(parts).numpy()

    return see


def learn(settings: EmbeddingSettings, known: Data, texts: Sequence[str | None] | None) -> Learned | None:
    """Truncated SVD of TF-IDF, or PCA of standardised values, fitted to at most `fit_rows` of the rows; None if a
    network computes the vectors. Raises ValueError for token ids without texts."""
    if settings.kind != "sklearn":
        return None
    random = np.random.default_rng(settings.seed)
    count = min(settings.fit_rows, len(known))
    chosen = np.sort(random.choice(len(known), count, replace=False)).astype(np.int64)
    if texts is not None:
        return LatentSemantics.fit(settings, texts, chosen)
    if known.model_settings.get("kind") in ("tokens", "sequences"):
        raise ValueError("embeddings of kind 'sklearn' need the texts: token ids are no quantities")
    return PrincipalComponents.fit(settings, known, chosen)


@dataclass(frozen=True)
class LatentSemantics:
    """TF-IDF of words, then truncated SVD; a text without a known word is the zero vector."""

    vectoriser: Any
    reduction: Any

    @classmethod
    def fit(cls, settings: EmbeddingSettings, texts: Sequence[str | None], chosen: Rows) -> LatentSemantics:
        """Fit both to the chosen texts."""
        from sklearn.decomposition import TruncatedSVD
        from sklearn.feature_extraction.text import TfidfVectorizer

        from secateur.trainers.modalities.words import terms_of

        vectoriser = TfidfVectorizer(analyzer=partial(terms_of, pairs=False), max_features=50_000, sublinear_tf=True)
        weights = vectoriser.fit_transform(texts_at(texts, chosen))
        dimensions = max(1, min(settings.dimensions, weights.shape[1] - 1, len(chosen) - 1))
        # In float64: in float32 the last digits of a product depend on the number of rows.
        return cls(vectoriser, TruncatedSVD(dimensions, random_state=settings.seed).fit(weights))

    def __call__(self, data: Data, texts: Sequence[str | None] | None, rows: Rows) -> Float64[np.ndarray, "b d"]:
        assert texts is not None
        return np.asarray(self.reduction.transform(self.vectoriser.transform(texts_at(texts, rows))))


def texts_at(texts: Sequence[str | None], rows: Rows) -> list[str]:
    """Texts of some rows, with "" for missing ones."""
    return [texts[row] or "" for row in rows.tolist()]


@dataclass(frozen=True)
class PrincipalComponents:
    """PCA of columns of tables divided by `spread`, with one-hot codes of `categories`, or of pixels divided by 255."""

    categories: list[int] | None
    spread: Float64[np.ndarray, " columns"]
    reduction: Any

    @classmethod
    def fit(cls, settings: EmbeddingSettings, known: Data, chosen: Rows) -> PrincipalComponents:
        """Fit to the chosen rows."""
        from sklearn.decomposition import PCA

        categories = known.model_settings.get("categories")
        sample = values_at(known, categories, chosen)
        spread = np.ones(sample.shape[1]) if known.inputs.ndim == 4 else sample.std(axis=0)
        spread[spread == 0] = 1.0
        dimensions = max(1, min(settings.dimensions, *sample.shape))
        return cls(categories, spread, PCA(dimensions, random_state=settings.seed).fit(sample / spread))

    def __call__(self, data: Data, texts: Sequence[str | None] | None, rows: Rows) -> Float64[np.ndarray, "b d"]:
        return np.asarray(self.reduction.transform(values_at(data, self.categories, rows) / self.spread))


def values_at(data: Data, categories: list[int] | None, rows: Rows) -> Float64[np.ndarray, "b columns"]:
    """Inputs of some rows as numbers, a row each."""
    values = np.asarray(data.inputs[rows])
    if categories:
        values = one_hot(values, categories)
    return values.reshape(len(rows), -1).astype(np.float64) / (255 if values.dtype == np.uint8 else 1)


Learned = LatentSemantics | PrincipalComponents
"""Fitted embeddings without a network."""
