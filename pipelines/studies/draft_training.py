"""Models, budgets and lengths of a first study's trainings, by kind of input and number of rows."""

import os
from pathlib import Path
from typing import Any

from secateur.pipelines.data.sources import Loaded, SourceError
from secateur.pipelines.studies.draft import Draft
from secateur.pipelines.studies.draft_length import first_length
from secateur.pipelines.studies.draft_metric import arms_of
from secateur.pipelines.studies.draft_target import SFT
from secateur.pipelines.studies.grid import CURVE
from secateur.trainers.models.registry import MODELS

EPOCHS_OF_TFIDF, STEPS_OF_TFIDF = 4, 200
"""Of a proxy on TF-IDF, whichever is longer: beyond this it memorises wrong labels (docs/label-noise.md)."""
SEEN, LEAST_EPOCHS, MOST_EPOCHS = 120_000, 3, 30
"""Samples that other proxies see over all epochs, and bounds on their epochs."""
KEEP_OF_TOKENS = [0.5, 0.3, 0.1]
LEAST_SAMPLES = 20
"""Fewest samples per average class at a budget below 0.5 in a first study."""


def settle(draft: Draft, loaded: Loaded) -> dict[str, Any]:
    """Choose model, training length and budget by kind of input and number of rows."""
    if draft.goal.task == SFT:
        return settle_sft(draft, loaded)
    wish, kind = draft.wish, next(iter(draft.columns))
    rows, regression = len(loaded.train), draft.goal.task == "regression"
    groups = 10 if regression else len(loaded.label_names)
    model, rate, why = choose_model(draft, loaded, kind)
    passes = epochs = wish.epochs or min(MOST_EPOCHS, max(LEAST_EPOCHS, round(SEEN / rows)))
    batch = wish.batch_size or (32 if rows < 2_000 else 64 if rows < 20_000 else 128 if rows < 100_000 else 256)
    if short := kind == "text" and wish.model in (None, "mlp") and wish.epochs is None:
        epochs = min(passes, max(EPOCHS_OF_TFIDF, -(-STEPS_OF_TFIDF * batch // rows)))
    enough = [part for part in CURVE if part >= 0.5 or part * rows >= LEAST_SAMPLES * groups]
    keep = list(wish.keep) or enough
    length = first_length(rows, batch, passes, arms_of(loaded, draft.goal.task), keep)
    seeds = wish.seeds or (5 if rows < 20_000 else 3)
    draft.note("model", wish.model or model, "you said so" if wish.model else why)
    by_size = "few: more would know labels of TF-IDF by heart" if short else epochs_reason(passes, rows)
    draft.note("epochs", epochs, "you said so" if wish.epochs else by_size)
    draft.note("batch size", batch, "you said so" if wish.batch_size else f"{rows:,} training samples")
    group = "tenth" if regression else f"class of {groups}"
    share = f"from most to few, at least {LEAST_SAMPLES} samples of an average {group}"
    draft.note("keep", ", ".join(map(str, keep)), "you said so" if wish.keep else share)
    also = "equal epochs and" if length.both else f"equal epochs; {length.ratio:.1f} times as long at"
    draft.note("training", f"{length.epochs} epochs", f"compared at {also} equal steps")
    config = {"model": wish.model or model, "batch_size": batch, "learning_rate": rate}
    small = {"model_settings": {"width": 16}} if config["model"] == "cnn" else {}
    return {
        "proxy": config | small | {"epochs": epochs},
        "training": config | small | {"epochs": length.epochs},
        "lengths": length.lines(),
        "el2n": max(1, min(10, epochs // 2)),
        "keep": keep,
        "seeds": seeds,
    }


def epochs_reason(epochs: int, rows: int) -> str:
    """The reason for a proxy's number of epochs."""
    if abs(epochs * rows - SEEN) <= rows:
        return f"about {SEEN:,} samples seen, of {rows:,}"
    return f"{'the most' if epochs == MOST_EPOCHS else 'the fewest'}, for {rows:,} samples"


def settle_sft(draft: Draft, loaded: Loaded) -> dict[str, Any]:
    """Choose models and lengths; pretrained weights score samples untrained, then train for one epoch."""
    wish, rows = draft.wish, len(loaded.train)
    given = wish.model if wish.model and wish.model not in MODELS and ":" not in wish.model else None
    weights = os.path.abspath(given) if given and Path(given).is_dir() else given
    batch = wish.batch_size or (16 if rows < 20_000 else 32)
    if weights:
        draft.note("model", weights, "you said so: scored as it comes, trained for an epoch")
        config: dict[str, Any] = {"model": "language_model", "model_settings": {"pretrained": weights}}
        proxy, training = config | {"epochs": wish.epochs or 0}, config | {"epochs": wish.epochs or 1}
        training |= {"batch_size": batch, "learning_rate": 2e-5}
    else:
        epochs = wish.epochs or min(10, max(2, round(20_000 / rows)))
        draft.note(
            "model", "language_model", "a small one from scratch; --model FOLDER or a name of the hub for weights"
        )
        config = {"model": wish.model or "language_model", "batch_size": batch, "learning_rate": 3e-3}
        proxy, training = config | {"epochs": epochs}, config | {"epochs": epochs}
    keep = list(wish.keep) or KEEP_OF_TOKENS
    draft.note("keep", ", ".join(map(str, keep)), "you said so" if wish.keep else "shares of the completion tokens")
    return {"proxy": proxy, "training": training, "keep": keep, "seeds": wish.seeds or 3, "lengths": []}


def choose_model(draft: Draft, loaded: Loaded, kind: str) -> tuple[str, float, str]:
    """Model, learning rate and reason; sets a smaller picture size in the encoding if pictures are large or differ."""
    if kind == "text":
        draft.encoding |= {"kind": "tfidf"} if draft.wish.model in (None, "mlp") else {}
        return "mlp", 1e-3, "TF-IDF under a small network: minutes on a CPU; try transformer later"
    if kind == "features":
        return "tabular_mlp", 2e-3, "a small network that embeds categories"
    sizes = picture_sizes(loaded, draft.columns["image"])
    height, width = max(sizes)
    if len(sizes) > 1 or max(height, width) > 64:
        side = 32 if max(height, width) <= 48 else 64
        draft.encoding["size"] = [side, side]
        draft.note("picture size", f"{side} x {side}", f"pictures differ or are large (up to {height} x {width})")
    if max(height, width) <= 12:
        return "mlp", 1e-3, f"pictures of {height} x {width} need no convolutions"
    return "cnn", 2e-3, "a small convolutional network: minutes on a CPU"


def picture_sizes(loaded: Loaded, column: str) -> set[tuple[int, int]]:
    """Height and width of up to about 64 pictures across the training rows; raises SourceError if none opens."""
    import datasets

    from secateur.trainers.modalities.decoding import decode_image

    rows = loaded.train.select_columns([column]).cast_column(column, datasets.Image(decode=False))
    step = max(1, len(rows) // 64)
    pictures = (decode_image(rows[row][column]) for row in range(0, len(rows), step))
    sizes = {(picture.height, picture.width) for picture in pictures if picture is not None}
    if not sizes:
        raise SourceError(f"image column {column!r}: none of the pictures that were tried can be opened")
    return sizes
