"""Recall and false positives of the search for copies in texts, pictures and table rows, and its cost.

    python benchmarks/audit.py texts      # planted edits in generated and, with SECATEUR_DATA, in real texts
    python benchmarks/audit.py pictures   # re-encoded, cropped, resized and brightened pictures; imagehash beside
    python benchmarks/audit.py semhash    # 130,000 short texts by the same vectors as SemHash, in one run
    python benchmarks/audit.py scale      # a million table rows, and rows and texts that are all alike
    python benchmarks/audit.py album      # 100,000 pictures of 32 x 32
    python benchmarks/audit.py minhash    # rensa and datasketch beside our MinHash on the same word sets

Claims: recall of at least 0.9 at 1% false or less; 130,000 texts within twice SemHash's time; a million rows of 20
columns and 100,000 pictures of 32 x 32 in under ten minutes on two cores. Pictures come from the test splits: the rates
in `scorers/copies/pictures.py` were tuned on the first 10,000 training pictures of Fashion-MNIST. SemHash, imagehash,
rensa and datasketch are optional and take part if they are installed. Times are both wall time and processor time,
which other load on the machine does not lengthen.
"""

import argparse
import importlib
import importlib.util
import io
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from PIL import Image, ImageEnhance

from secateur.scorers.copies.contract import Copies
from secateur.scorers.copies.pictures import picture_copies
from secateur.scorers.copies.points import table_copies, vector_copies
from secateur.scorers.copies.sharing import signatures
from secateur.scorers.copies.texts import text_copies
from secateur.scorers.copies.word_sets import word_sets, words_of
from secateur.scorers.memory import peak_memory

DATA = Path(os.environ.get("SECATEUR_DATA", Path(__file__).parents[2] / "shared" / "data"))
SHARE = 0.01
"""Share of rows with a planted copy."""

FEWEST = 60
"""Fewest planted copies among texts."""


def timed(work: Callable[[], Any]) -> tuple[Any, str]:
    """A call's result, and its seconds by the clock and by the processor."""
    clock, core = time.perf_counter(), time.process_time()
    result = work()
    seconds = f"{time.perf_counter() - clock:.1f} s ({time.process_time() - core:.1f} s of a core)"
    return result, f"{seconds}, {peak_memory() / 1e9:.1f} GB at most so far"


def report(name: str, found: Copies, planted: np.ndarray, sources: np.ndarray, cost: str) -> None:
    """Print the shares of planted rows in a group with their source, and of other rows in any group."""
    joined = (found.group[planted] >= 0) & (found.group[planted] == found.group[sources])
    others = np.setdiff1d(np.arange(len(found.group)), np.concatenate([planted, sources]))
    false = (found.group[others] >= 0).mean()
    print(f"{name}: recall {joined.mean():.3f}, false {false:.4f}, threshold {found.threshold:.3f}, {cost}", flush=True)
    print(f"    {found.reason}", flush=True)


def zipf(count: int, lengths: list[int], *, words: int = 20_000, power: float = 1.0, seed: int = 0) -> list[list[str]]:
    """Texts with words by Zipf's law."""
    random = np.random.default_rng(seed)
    share = np.arange(1, words + 1) ** -power
    drawn = random.choice(words, (count, max(lengths)), p=share / share.sum())
    sizes = random.choice(lengths, count)
    return [[f"w{word}" for word in row[:size]] for row, size in zip(drawn, sizes, strict=True)]


def templates(count: int, kinds: int, *, seed: int = 0) -> list[list[str]]:
    """Texts of ten words from disjoint templates, each with three slots for one of 500 words."""
    random = np.random.default_rng(seed)
    made = []
    for row in range(count):
        text = [f"t{row % kinds}x{place}" if place % 2 else f"v{(row % kinds * 7 + place) % 90}" for place in range(10)]
        for place in (2, 5, 8):
            text[place] = f"s{random.integers(500)}"
        made.append(text)
    return made


def slots(count: int, kinds: int, *, seed: int = 0) -> list[list[str]]:
    """Texts of 8 to 200 words from disjoint templates, with a random one of 500 words in every third place."""
    random, sizes, made = np.random.default_rng(seed), [8, 12, 20, 50, 100, 200], []
    for kind in np.arange(count) % kinds:
        text = [f"t{kind}x{place}" for place in range(sizes[kind % len(sizes)])]
        text[2::3] = [f"s{word}" for word in random.integers(500, size=len(text[2::3]))]
        made.append(text)
    return made


def edited(words: list[str], edits: int, vocabulary: list[str], random: np.random.Generator) -> list[str]:
    """Apply random edits: swap two neighbours, insert, delete or replace a word."""
    words = list(words)
    for _ in range(edits):
        place, other = int(random.integers(len(words) - 1)), vocabulary[int(random.integers(len(vocabulary)))]
        match int(random.integers(4)):
            case 0:
                words[place], words[place + 1] = words[place + 1], words[place]
            case 1:
                words.insert(place, other)
            case 2:
                del words[place]
            case _:
                words[place] = other
    return words


def real(name: str) -> list[list[str]]:
    """Distinct texts of at least eight words from a data set in the data folder."""
    path = DATA / name / "train.parquet"
    if not path.exists():
        print(f"{path} is absent: {name} is left out")
        return []
    table = pl.read_parquet(path)
    column = next(column for column in table.columns if table[column].dtype == pl.String)
    return [text.split() for text in table[column].unique(maintain_order=True) if len(text.split()) >= 8]


def texts() -> None:
    """Edit 5% and 15% of the words, at least one, in 1% of texts."""
    kinds = {
        "8 words": zipf(10_000, [8]),
        "8 to 200 words": zipf(10_000, [8, 12, 20, 50, 100, 200]),
        "8 words of a small vocabulary": zipf(10_000, [8], words=3000, power=1.2),
        "200 templates": templates(10_000, 200),
        "2,000 templates": templates(10_000, 2000),
        "8 to 200 words, 60 templates": slots(3000, 60),
        "8 to 200 words, 300 templates": slots(3000, 300),
        "8 to 200 words, a template for each": slots(3000, 3000),
        **{name: real(name) for name in ("banking77", "clinc150", "sst2_glue")},
    }
    for name, base in kinds.items():
        for rate in (0.05, 0.15):
            random = np.random.default_rng(1)
            if not base:
                continue
            vocabulary = sorted({word for text in base for word in text})
            sources = random.choice(len(base), max(FEWEST, int(SHARE * len(base))), replace=False)
            copies = [edited(base[row], max(1, round(rate * len(base[row]))), vocabulary, random) for row in sources]
            rows = pl.Series([" ".join(text) for text in [*base, *copies]])
            part = np.repeat([0, 1], [len(base), len(copies)]).astype(np.int16)
            (found,), cost = timed(lambda rows=rows, part=part: text_copies(rows, part))
            planted = np.arange(len(base), len(rows))
            report(f"{name}, {rate:.0%} of the words", found, planted, sources, cost)
            if "templates" in name and "200 words" in name:
                by_length(base, found, planted, sources)


def by_length(base: list[list[str]], found: Copies, planted: np.ndarray, sources: np.ndarray) -> None:
    """Print recall and the share of false positives among texts of each length."""
    lengths = np.array([len(text) for text in base])
    joined = (found.group[planted] >= 0) & (found.group[planted] == found.group[sources])
    others = np.setdiff1d(np.arange(len(base)), sources)
    for length in np.unique(lengths):
        own, rest = lengths[sources] == length, others[lengths[others] == length]
        met = f"recall {joined[own].mean():.3f} of {own.sum()}" if own.any() else "no copies"
        print(f"    {length} words: {met}, false {(found.group[rest] >= 0).mean():.4f} of {len(rest):,}")


def encoded(image: Image.Image, quality: int) -> Image.Image:
    """The picture after JPEG compression."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(io.BytesIO(buffer.getvalue())).convert(image.mode)


def cropped(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """A random crop, 5% smaller in each dimension."""
    wide, high = image.size
    less = max(1, round(0.05 * wide))
    left, top = random.integers(less + 1, size=2)
    return image.crop((left, top, wide - less + left, high - less + top))


def zoomed(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """A random crop, 5% smaller in each dimension, enlarged to the old size."""
    wide, high = image.size
    left, top = 0.05 * random.random(2) * (wide, high)
    return image.resize((wide, high), Image.Resampling.BILINEAR, box=(left, top, left + 0.95 * wide, top + 0.95 * high))


CHANGES: dict[str, Callable[[Image.Image, np.random.Generator], Image.Image]] = {
    "JPEG 75": lambda image, random: encoded(image, 75),
    "JPEG 40": lambda image, random: encoded(image, 40),
    "cropped by 5%": cropped,
    "cropped by 5% and enlarged": zoomed,
    "resized": lambda image, random: image.resize(
        tuple(round(side * random.choice([0.5, 0.75, 1.5, 2])) for side in image.size), Image.Resampling.BICUBIC
    ),
    "brightened": lambda image, random: ImageEnhance.Brightness(image).enhance(random.choice([0.7, 0.8, 1.2, 1.3])),
    "all": lambda image, random: encoded(ImageEnhance.Brightness(zoomed(image, random)).enhance(1.2), 80),
}


def decoded(name: str, rows: int) -> list[Image.Image]:
    """Test pictures of a data set in the data folder."""
    path = DATA / name / "test.parquet"
    if not path.exists():
        print(f"{path} is absent: {name} is left out")
        return []
    table = pl.read_parquet(path, n_rows=rows)
    column = next(column for column in ("image", "img") if column in table.columns)
    return [Image.open(io.BytesIO(each["bytes"])) for each in table[column]]


def pictures(rows: int) -> None:
    """Change 1% of pictures in one of seven ways, in one run; compare 64-bit hashes at the same collision rate."""
    for name in ("fashion_mnist", "cifar10"):
        base = decoded(name, rows)
        if not base:
            continue
        random = np.random.default_rng(1)
        sources = random.choice(len(base), int(SHARE * len(base)) // 7 * 7, replace=False)
        kinds = list(CHANGES)
        copies = [CHANGES[kinds[place % 7]](base[row], random) for place, row in enumerate(sources)]
        part = np.repeat([0, 1], [len(base), len(copies)]).astype(np.int16)
        (found,), cost = timed(lambda both=[*base, *copies], part=part: picture_copies(both, part))
        planted = np.arange(len(base), len(base) + len(copies))
        report(f"{name}, {len(base):,} pictures", found, planted, sources, cost)
        joined = (found.group[planted] >= 0) & (found.group[planted] == found.group[sources])
        print("    " + ", ".join(f"{kind} {joined[place::7].mean():.2f}" for place, kind in enumerate(kinds)))
        if importlib.util.find_spec("imagehash"):
            hashes(base, copies, sources)


def hashes(base: list[Image.Image], copies: list[Image.Image], sources: np.ndarray) -> None:
    """Recall of imagehash's hashes at the largest Hamming distance that flags at most 1% of other pictures."""
    imagehash = importlib.import_module("imagehash")

    for kind in ("phash", "dhash", "average_hash"):
        make = getattr(imagehash, kind)
        bits = np.stack([make(image).hash.ravel() for image in [*base, *copies]]).astype(np.float32)
        whole, planted = bits[: len(base)], bits[len(base) :]
        others = np.setdiff1d(np.arange(len(base)), sources)[:2000]
        apart = (whole[others][:, None, :1] != whole[None, :, :1]).sum(2).astype(np.float32)
        apart += whole[others, 1:] @ (1 - whole[:, 1:].T) + (1 - whole[others, 1:]) @ whole[:, 1:].T
        apart[np.arange(len(others)), others] = 65
        nearest, own = apart.min(axis=1), (planted != whole[sources]).sum(axis=1)
        limits = [limit for limit in range(65) if (nearest <= limit).mean() <= 0.01]
        limit = max(limits, default=-1)
        print(f"    imagehash.{kind} at distance {limit} or less: recall {(own <= limit).mean():.3f}", flush=True)


def semhash(rows: int) -> None:
    """Search the same vectors, of hashed and projected words, with SemHash and our code."""
    base = zipf(rows * 99 // 100, [8, 10, 12])
    random, vocabulary = np.random.default_rng(1), [f"w{word}" for word in range(20_000)]
    sources = random.choice(len(base), rows - len(base), replace=False)
    texts = [" ".join(text) for text in [*base, *(edited(base[row], 1, vocabulary, random) for row in sources)]]
    table = np.random.default_rng(2).standard_normal((20_000, 256)).astype(np.float32)
    vectors = np.stack([table[[int(word[1:]) for word in text.split()]].mean(axis=0) for text in texts])
    planted, part = np.arange(len(base), rows), np.zeros(rows, np.int16)
    found, cost = timed(lambda: vector_copies(vectors, part))
    report(f"{rows:,} short texts by vectors", found, planted, sources, cost)
    (found,), cost = timed(lambda: text_copies(pl.Series(texts), part))
    report(f"{rows:,} short texts by words", found, planted, sources, cost)
    if not importlib.util.find_spec("semhash"):
        print("SemHash cannot be imported: it is left out")
        return
    SemHash = importlib.import_module("semhash").SemHash

    class Given:
        """An encoder that returns the known vectors of these texts."""

        def __init__(self) -> None:
            self.rows = {text: row for row, text in enumerate(texts)}

        def encode(self, sentences: Any, **_: Any) -> np.ndarray:
            return vectors[[self.rows[text] for text in sentences]]

    result, cost = timed(lambda: SemHash.from_records(records=texts, model=Given()).self_deduplicate())
    gone = {item.record for item in result.filtered}
    met = np.mean([texts[copy] in gone or texts[row] in gone for copy, row in zip(planted, sources, strict=True)])
    others = np.setdiff1d(np.arange(len(base)), sources)
    false = np.mean([texts[row] in gone for row in others])
    print(f"SemHash at its own threshold: recall {met:.3f}, false {false:.4f}, {cost}", flush=True)


def scale(rows: int) -> None:
    """Search large sets, and sets of near-equal rows, whose pairs would exceed any memory."""
    random = np.random.default_rng(0)
    numbers = random.standard_normal((rows, 20), dtype=np.float32)
    copies = rows // 100
    numbers[-copies:] = numbers[:copies] + 0.05 * random.standard_normal((copies, 20), dtype=np.float32)
    part, sources, planted = np.zeros(rows, np.int16), np.arange(copies), np.arange(rows - copies, rows)
    (found,), cost = timed(lambda: table_copies(numbers, part))
    report(f"{rows:,} rows of 20 columns", found, planted, sources, cost)
    numbers[:] = 1
    (found,), cost = timed(lambda: table_copies(numbers, part))
    print(f"{rows:,} equal rows: {(found.group == 0).sum():,} in one group, {cost}", flush=True)
    few = rows // 10
    numbers = random.standard_normal((2 * few, 20), dtype=np.float32)
    numbers[:few] = numbers[0] + 0.01 * random.standard_normal((few, 20), dtype=np.float32)
    (found,), cost = timed(lambda: table_copies(numbers, part[: 2 * few]))
    print(f"{few:,} of {2 * few:,} rows in one cluster: {(found.group == 0).sum():,} in its group, {cost}", flush=True)
    words, base = [f"w{word}" for word in range(20_000)], zipf(1, [20])[0]
    texts = pl.Series([" ".join(edited(base, 1, words, random)) for _ in range(few)])
    others = pl.Series([" ".join(text) for text in zipf(few, [20], seed=5)])
    (found,), cost = timed(lambda: text_copies(pl.concat([texts, others]), part[: 2 * few]))
    print(f"{few:,} texts in one cluster of {2 * few:,}: {(found.group == 0).sum():,} in it, {cost}", flush=True)


def album(rows: int) -> None:
    """Search blurred pictures of 4 x 4 colours, with 1% JPEG copies."""
    coarse = np.random.default_rng(0).integers(0, 255, (rows, 4, 4, 3), dtype=np.uint8)
    scenes = [Image.fromarray(each).resize((32, 32), Image.Resampling.BICUBIC) for each in coarse]
    sources = np.arange(int(SHARE * rows))
    planted = rows - 1 - sources
    for source, copy in zip(sources, planted, strict=True):
        scenes[copy] = encoded(scenes[source], 75)
    (found,), cost = timed(lambda: picture_copies(scenes, np.zeros(rows, np.int16)))
    report(f"{rows:,} pictures of 32 x 32", found, planted, sources, cost)


def minhash(rows: int) -> None:
    """Compute 192 MinHashes of the same word sets with three libraries."""
    texts = [" ".join(text) for text in zipf(rows, [8, 12, 20, 50])]
    sets = word_sets(words_of(pl.Series(texts)))
    print(f"secateur: {timed(lambda: signatures(sets, 3, 64, 0))[1]}", flush=True)
    tokens = [[*text.split(), *map(" ".join, zip(text.split(), text.split()[1:], strict=False))] for text in texts]
    if importlib.util.find_spec("rensa"):
        rensa = importlib.import_module("rensa")

        def sketch() -> None:
            for each in tokens:
                one = rensa.RMinHash(num_perm=192, seed=0)
                one.update(each)
                one.digest()

        print(f"rensa: {timed(sketch)[1]}", flush=True)
    if importlib.util.find_spec("datasketch"):
        bulk = importlib.import_module("datasketch").MinHash.bulk

        print(f"datasketch: {timed(lambda: bulk([[t.encode() for t in e] for e in tokens], num_perm=192))[1]}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["texts", "pictures", "semhash", "scale", "album", "minhash"])
    parser.add_argument("--rows", type=int, help="rows instead of the claims' number")
    given = parser.parse_args()
    work: dict[str, tuple[Callable[..., None], int]] = {
        "pictures": (pictures, 10_000),
        "album": (album, 100_000),
        "semhash": (semhash, 130_000),
        "scale": (scale, 1_000_000),
        "minhash": (minhash, 50_000),
    }
    if given.part == "texts":
        texts()
    else:
        run, usual = work[given.part]
        run(given.rows or usual)
