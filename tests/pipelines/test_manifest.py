"""A manifest lists the kept rows, detects every change, and finds its rows again."""

import collections
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from secateur.pipelines.data.fingerprints import fingerprint
from secateur.pipelines.manifests import croissant, kept_rows
from secateur.pipelines.manifests.document import ManifestError
from secateur.pipelines.manifests.manifest import Manifest
from secateur.pipelines.manifests.provenance import Provenance, ScoreCard
from secateur.pipelines.manifests.rows import Rows
from secateur.pipelines.storage.versions import library_versions

EL2N = ScoreCard(name="el2n", version="1", high_means="harder", view="train mode", paper="arXiv:2107.07075")


def hash_of(text: str) -> str:
    return xxhash.xxh3_128_hexdigest(text.encode())


def hash_texts(dataset: datasets.Dataset) -> list[str]:
    return [hash_of(text) for text in dataset["text"]]


def dataset_of(texts: list[str]) -> datasets.Dataset:
    return datasets.Dataset.from_dict({"text": texts, "label": [len(text) % 3 for text in texts]})


def samples_of(dataset: datasets.Dataset) -> pl.DataFrame:
    return pl.DataFrame(
        {"row": np.arange(len(dataset)), "content_hash": hash_texts(dataset), "label": list(dataset["label"])},
        schema={"row": pl.Int64, "content_hash": pl.String, "label": pl.Int64},
    )


def provenance_of(keep: float, budget: int, **other: Any) -> Provenance:
    given_values: dict[str, Any] = {
        "dataset": "letters",
        "revision": "2f1c",
        "selection": "hard",
        "selector": "top",
        "selector_version": "1",
        "settings": {"end": "high", "nested": {"β": [0.1, None, True]}},
        "keep": keep,
        "budget": budget,
        "seed": 3,
        "scores": (EL2N,),
    }
    return Provenance(**(given_values | other))


TEXTS = [f"text {'x' * (row % 5)} {row}" for row in range(20)]


def write(folder: Path, texts: list[str] = TEXTS, kept: list[int] | None = None, **other: Any) -> Manifest:
    """A manifest of the texts; keeps every second one by default."""
    dataset = dataset_of(texts)
    keep = np.zeros(len(texts), dtype=np.bool_)
    keep[list(range(0, len(texts), 2)) if kept is None else kept] = True
    scores = {"el2n": np.linspace(-1, 1, len(texts), dtype=np.float32)}
    budget = int(keep.sum())
    arguments = {"scores": scores, "label_names": ["zero", "one", "zwei ü"]} | other
    provenance = arguments.pop("provenance", provenance_of(budget, budget))
    overwrite = arguments.pop("overwrite", False)
    return Manifest.write(folder, Rows.chosen(samples_of(dataset), keep, **arguments), provenance, overwrite=overwrite)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


# --- its content


def test_says_what_is_kept_of_what_and_how(tmp_path: Path) -> None:
    write(tmp_path / "m", weights=np.full(20, 2, dtype=np.float32))
    document = json.loads((tmp_path / "m" / "manifest.json").read_text())
    own = document["secateur"]
    assert (own["kept"], own["unit"], own["count"], own["of"]) == (True, "sample", 10, 20)
    assert "KEPT: 10 of 20 samples of letters" in document["description"]
    joined = "".join(hash_of(text) for text in TEXTS).encode()
    assert own["made_for"] == f"rows xxh3:{xxhash.xxh3_128_hexdigest(joined)}"
    content = (tmp_path / "m" / "kept.parquet").read_bytes()
    assert own["files"] == {"kept.parquet": {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}}
    before = collections.Counter(len(text) % 3 for text in TEXTS)
    after = collections.Counter(len(text) % 3 for text in TEXTS[::2])
    assert [(c["label"], c["name"], c["before"], c["after"]) for c in own["payload"]["classes"]] == [
        (label, name, before[label], after[label]) for label, name in enumerate(["zero", "one", "zwei ü"])
    ]
    source = own["provenance"]
    assert source["scores"][0]["high_means"] == "harder"
    assert source["settings"] == {"end": "high", "nested": {"β": [0.1, None, True]}}
    assert source["versions"]["numpy"] == np.__version__
    assert source["versions"]["secateur"] == library_versions()["secateur"]
    # The root, computed anew from its definition.
    del own["root"]
    canonical = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    assert Manifest.load(tmp_path / "m").declaration.root == hashlib.sha256(canonical).hexdigest()


def test_table_holds_the_kept_rows(tmp_path: Path) -> None:
    weights = np.linspace(1, 2, 20, dtype=np.float32)
    write(tmp_path / "m", kept=[1, 5, 6], weights=weights)
    manifest = Manifest.load(tmp_path / "m" / "manifest.json")
    table = pq.read_table(tmp_path / "m" / "kept.parquet")
    assert table.schema.names == ["row", "content_hash", "label", "weight", "score_el2n"]
    assert manifest.rows.tolist() == table["row"].to_pylist() == [1, 5, 6]
    assert manifest.rows.dtype == np.int64
    assert table["content_hash"].to_pylist() == [hash_of(TEXTS[row]) for row in (1, 5, 6)]
    assert manifest.weights is not None
    assert manifest.weights.tolist() == weights[[1, 5, 6]].tolist()
    assert table["score_el2n"].to_pylist() == np.linspace(-1, 1, 20, dtype=np.float32)[[1, 5, 6]].tolist()
    assert np.flatnonzero(manifest.keep(20)).tolist() == [1, 5, 6]
    with pytest.raises(ManifestError, match="of 20 rows, not 21"):
        manifest.keep(21)


def test_same_selection_gives_the_same_bytes(tmp_path: Path) -> None:
    write(tmp_path / "a")
    write(tmp_path / "deeper" / "b")
    assert contents(tmp_path / "a") == contents(tmp_path / "deeper" / "b")


@given(
    keep=st.lists(st.booleans(), min_size=1, max_size=40).filter(any),
    labels=st.randoms(use_true_random=False),
    seed=st.integers(-(2**63), 2**64),
)
@settings(max_examples=40, deadline=None)
def test_what_is_written_is_what_is_read(
    tmp_path_factory: pytest.TempPathFactory, keep: list[bool], labels: Any, seed: int
) -> None:
    folder = tmp_path_factory.mktemp("any") / "m"
    count, mask = len(keep), np.array(keep)
    samples = pl.DataFrame(
        {
            "row": np.arange(count),
            "content_hash": [hash_of(str(labels.randrange(5))) for _ in range(count)],
            "label": [labels.choice([-1, 0, 7, 2**62]) for _ in range(count)],
        }
    )
    budget = int(mask.sum())
    Manifest.write(folder, Rows.chosen(samples, mask), provenance_of(budget / count, budget, seed=seed))
    manifest = Manifest.load(folder)
    assert np.array_equal(manifest.keep(), mask)
    assert manifest.table.equals(samples.filter(pl.Series(mask)))
    assert manifest.provenance.seed == seed
    assert {c.label: c.before for c in manifest.declaration.payload.classes} == collections.Counter(
        samples["label"].to_list()
    )
    assert np.array_equal(manifest.locate(samples["content_hash"]), np.flatnonzero(mask))


# --- rejected on writing


def refused(message: str, call: Callable[[], object]) -> None:
    """The call raises ManifestError, in one line, with this text."""
    with pytest.raises(ManifestError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scores": {"el2n": np.full(20, np.nan, dtype=np.float32)}}, r"score_el2n.*NaN or infinite at rows 0, 1"),
        ({"scores": {"el2n": np.zeros(19, dtype=np.float32)}}, r"score_el2n must be float32 \[20\], got \[19\]"),
        ({"scores": {"aum": np.zeros(20, dtype=np.float32)}}, "score_aum'.* but may only list"),
        ({"weights": np.full(20, np.inf, dtype=np.float32)}, "weight.*NaN or infinite"),
        ({"label_names": ["zero", "one"]}, "labels run from 0 to 2, but 2 label names"),
        ({"provenance": provenance_of(0.5, 9)}, "10 samples are kept, but the budget is 9"),
        ({"provenance": provenance_of(0.3, 10)}, "keep 0.3 of 20 comes to 6"),
        ({"provenance": provenance_of(1.5, 10)}, "keep is a fraction of 1.5"),
        ({"provenance": provenance_of(0.5, 10, settings={"x": float("nan")})}, "JSON"),
        ({"provenance": provenance_of(0.5, 10, settings={"x": "\ud800"})}, "surrogate|utf-8"),
        ({"provenance": provenance_of(0.5, 10, scores=(EL2N, EL2N))}, "defines a score twice"),
    ],
)
def test_what_does_not_fit_is_not_written(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    refused(message, lambda: write(tmp_path / "m", **change))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.drop("label"), "need a column 'label'"),
        (lambda s: s.with_columns(pl.col("label").cast(pl.String)), "need a column 'label' of Int64, got String"),
        (lambda s: s.with_columns(row=pl.col("row") + 1), "must count 0, 1, 2"),
        (lambda s: s.with_columns(content_hash=pl.col("content_hash").str.to_uppercase()), "32 hexadecimal digits"),
        (lambda s: s.with_columns(content_hash=pl.lit(None, pl.String)), "32 hexadecimal digits at rows 0"),
        (lambda s: s.with_columns(label=pl.col("label").replace(2, None)), "label is missing at rows"),
        (lambda s: s.head(19), r"keep must be bool \[19\]"),
    ],
)
def test_samples_that_do_not_fit_are_not_written(
    tmp_path: Path, change: Callable[[pl.DataFrame], pl.DataFrame], message: str
) -> None:
    samples = change(samples_of(dataset_of(TEXTS)))
    keep = np.arange(20) % 2 == 0
    refused(message, lambda: Rows.chosen(samples, keep))
    assert list(tmp_path.iterdir()) == []


def test_existing_targets_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "m")
    old = contents(tmp_path)
    refused("exists already", lambda: write(tmp_path / "m", kept=[1]))
    assert contents(tmp_path) == old
    write(tmp_path / "m", kept=[1], overwrite=True)
    assert Manifest.load(tmp_path / "m").rows.tolist() == [1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m"]


def test_overwriting_never_deletes_anything_but_a_manifest(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.tex").write_text("years of work")
    refused("other things than a manifest, 'thesis.tex'", lambda: write(tmp_path / "home", overwrite=True))
    assert (tmp_path / "home" / "thesis.tex").read_text() == "years of work"


# --- found by verification


def test_verify_finds_a_change_after_loading(tmp_path: Path) -> None:
    manifest = write(tmp_path / "m")
    manifest.verify()
    write(tmp_path / "m", kept=[1], overwrite=True)
    refused("another one than was loaded", manifest.verify)


def test_every_changed_byte_is_found(tmp_path: Path) -> None:
    write(tmp_path / "m")
    for name in ("manifest.json", "kept.parquet"):
        path = tmp_path / "m" / name
        whole = path.read_bytes()
        places = range(0, len(whole), 1 + len(whole) // 250)
        for place in places:
            changed = bytearray(whole)
            changed[place] ^= 1 << (place % 8)
            path.write_bytes(changed)
            with pytest.raises(ManifestError):
                Manifest.load(tmp_path / "m")
        for cut in (whole[:-1], whole + b"\n", whole[: len(whole) // 2], b""):
            path.write_bytes(cut)
            with pytest.raises(ManifestError):
                Manifest.load(tmp_path / "m")
        path.write_bytes(whole)
    Manifest.load(tmp_path / "m")


def reseal(folder: Path, change: Callable[[dict[str, Any]], None] = lambda document: None) -> None:
    """Change the document, and make sizes, checksums and root match again, like an attacker."""
    document = json.loads((folder / "manifest.json").read_text())
    content = (folder / "kept.parquet").read_bytes()
    seal = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    document["secateur"]["files"]["kept.parquet"] = seal
    document["distribution"] = croissant.distribution(
        croissant.ParquetFile("kept.parquet", seal["bytes"], seal["sha256"])
    )
    document["version"] = f"1.0.0+{seal['sha256'][:12]}"
    change(document)
    document["secateur"]["root"] = croissant.root_of(document)
    (folder / "manifest.json").write_bytes(croissant.serialise(document))


def setting(*keys: Any, value: Any) -> Callable[[dict[str, Any]], None]:
    """A change of the document: the value at these keys."""

    def change(document: dict[str, Any]) -> None:
        place: Any = document
        for key in keys[:-1]:
            place = place[key]
        place[keys[-1]] = value

    return change


OWN = "secateur"


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        ((OWN, "kept"), False, "does not say that its samples are the kept ones"),
        ((OWN, "format"), 2, "format"),
        ((OWN, "unit"), "weight", "its unit is 'weight', its payload is of sample"),
        ((OWN, "unit"), "row", "unit"),
        ((OWN, "payload", "kind"), "masks", "payload"),
        ((OWN, "payload", "kind"), ["rows"], "its payload is of kind a list of 1"),
        ((OWN, "payload"), None, "its payload is of kind None"),
        ((OWN, "count"), 11, "budget"),
        ((OWN, "count"), 10.0, "count: Input should be a valid integer"),
        ((OWN, "count"), True, "count: Input should be a valid integer"),
        ((OWN, "of"), 12, "comes to|within"),
        ((OWN, "of"), 10**30, "of: Input should be less than"),
        ((OWN, "made_for"), "../x", "made_for"),
        ((OWN, "made_for"), "rows xxh3:" + "A" * 32, "no fingerprint"),
        ((OWN, "payload", "columns"), ["row", "content_hash", "label", "score_aum"], "may only list"),
        ((OWN, "payload", "columns"), ["row", "content_hash", "label"], "recordSet"),
        ((OWN, "files"), {"../x": {"bytes": 1, "sha256": "0" * 64}}, "files"),
        ((OWN, "files"), {"/etc/passwd": {"bytes": 1, "sha256": "0" * 64}}, "files"),
        ((OWN, "files"), {}, "must list the file kept.parquet"),
        ((OWN, "files", "kept.parquet", "bytes"), 1, "distribution"),
        ((OWN, "provenance", "keep"), 0, "keep is a count of 0"),
        ((OWN, "provenance", "keep"), -0.1, "keep is a fraction of -0.1"),
        ((OWN, "provenance", "budget"), 9, "budget is 9"),
        ((OWN, "provenance", "seed"), "3", "seed: Input should be a valid integer"),
        ((OWN, "provenance", "scores"), [], "may only list"),
        ((OWN, "provenance", "surprise"), 1, "surprise: Extra inputs are not permitted"),
        ((OWN, "payload", "classes"), [], "add up"),
        ((OWN, "payload", "classes", 0, "before"), 20, "add up"),
        ((OWN, "payload", "classes", 0, "after"), 1, "differs from the labels"),
        ((OWN, "payload", "classes", 0, "label"), 1, "ascending"),
        (("distribution", 0, "contentUrl"), "../../etc/passwd", "distribution"),
        (("distribution", 0, "contentUrl"), "https://example.com/other.parquet", "distribution"),
        (("distribution", 0, "contentSize"), "1 B", "distribution"),
        (("distribution",), None, "distribution"),
        (("recordSet", 0, "field", 0, "source", "extract", "column"), "label", "recordSet"),
        (("recordSet",), {"a": "b"}, "recordSet"),
        (("@context",), "http://localhost/context", "@context"),
        (("@context", "key"), "cr:md5", "@context"),
        (("@type",), "sc:Thing", "@type"),
        (("url",), "https://example.com", "url"),
        (("prov:wasDerivedFrom",), {"@id": "other"}, "prov:wasDerivedFrom"),
    ],
)
def test_lies_are_found_even_under_right_checksums(
    tmp_path: Path, keys: tuple[Any, ...], value: Any, message: str
) -> None:
    write(tmp_path / "m")
    reseal(tmp_path / "m", setting(*keys, value=value))
    refused(message, lambda: Manifest.load(tmp_path / "m"))


def test_prose_may_change_from_version_to_version(tmp_path: Path) -> None:
    write(tmp_path / "m")
    reseal(tmp_path / "m", setting("description", value="as an older secateur would put it"))
    assert Manifest.load(tmp_path / "m").declaration.count == 10


def columns_of(**changes: Any) -> dict[str, Any]:
    rows = list(range(0, 20, 2))
    columns: dict[str, Any] = {
        "row": pa.array(rows, pa.int64()),
        "content_hash": [hash_of(TEXTS[row]) for row in rows],
        "label": pa.array([len(TEXTS[row]) % 3 for row in rows], pa.int64()),
        "score_el2n": pa.array(np.zeros(10), pa.float32()),
    }
    return {name: changes.get(name, values) for name, values in columns.items()}


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (columns_of(row=pa.array([*range(0, 18, 2), 20], pa.int64())), r"ascending, each once, within 0 … 19"),
        (columns_of(row=pa.array([-1, *range(2, 20, 2)], pa.int64())), "ascending"),
        (columns_of(row=pa.array([0, 0, *range(4, 20, 2)], pa.int64())), "ascending"),
        (columns_of(row=pa.array([18, *range(0, 18, 2)], pa.int64())), "ascending"),
        (columns_of(row=pa.array([None, *range(2, 20, 2)], pa.int64())), "empty cells"),
        (columns_of(row=pa.array(np.arange(0.0, 20, 2))), "column row is double, not int64"),
        (columns_of(row=pa.array([[row] for row in range(10)])), "column row is list"),
        (columns_of(content_hash=["x" * 32] * 10), "not 32 hexadecimal digits at rows 0"),
        (columns_of(content_hash=["a" * 32 + "\n"] * 10), "not 32 hexadecimal digits"),
        (columns_of(content_hash=[b"\xff" * 32] * 10), "column content_hash is binary"),
        (columns_of(label=pa.array([0] * 10, pa.int64())), "differs from the labels"),
        (columns_of(score_el2n=pa.array([np.nan] * 10, pa.float32())), "score_el2n.*NaN or infinite"),
        (columns_of() | {"extra": [1] * 10}, "has the columns"),
        ({"row": [1]}, "has the columns"),
    ],
)
def test_a_table_that_is_none_is_refused(tmp_path: Path, columns: dict[str, Any], message: str) -> None:
    write(tmp_path / "m")
    pq.write_table(pa.table(columns), tmp_path / "m" / "kept.parquet")
    reseal(tmp_path / "m")
    refused(message, lambda: Manifest.load(tmp_path / "m"))


def test_text_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "m")
    broken = pa.Array.from_buffers(
        pa.string(), 10, [None, pa.py_buffer(np.arange(0, 352, 32, dtype=np.int32)), pa.py_buffer(b"\xff" * 320)]
    )
    pq.write_table(pa.table(columns_of(content_hash=broken)), tmp_path / "m" / "kept.parquet")
    reseal(tmp_path / "m")
    refused("UTF8|UTF-8", lambda: Manifest.load(tmp_path / "m"))


def test_a_bomb_is_refused_before_it_unpacks(tmp_path: Path) -> None:
    count = 5_000_000
    write(tmp_path / "m")
    with pq.ParquetWriter(
        tmp_path / "m" / "kept.parquet",
        pa.schema([pa.field(name, kept_rows.FIXED[name][0]) for name in ("row", "content_hash", "label")]),
        compression="zstd",
    ) as writer:
        part = pa.table({"row": np.zeros(10**6, np.int64), "content_hash": ["0" * 32] * 10**6, "label": [0] * 10**6})
        for _ in range(count // 10**6):
            writer.write_table(part)
    assert (tmp_path / "m" / "kept.parquet").stat().st_size < count // 10

    def claim(document: dict[str, Any]) -> None:
        own = document[OWN]
        own["payload"]["columns"] = ["row", "content_hash", "label"]
        own["count"] = own["of"] = own["provenance"]["budget"] = own["provenance"]["keep"] = count
        own["payload"]["classes"] = [{"label": 0, "name": None, "before": count, "after": count}]
        document["recordSet"][0]["field"] = document["recordSet"][0]["field"][:3]

    reseal(tmp_path / "m", claim)
    refused("would unpack 5000000 rows", lambda: Manifest.load(tmp_path / "m"))


@pytest.mark.parametrize("order", ["stride 1", "stride 1000", "random"])
def test_no_genuine_table_is_taken_for_a_bomb(tmp_path: Path, order: str) -> None:
    count, rng = 200_000, np.random.default_rng(0)
    steps = {"stride 1": 1, "stride 1000": 1000, "random": rng.integers(1, 100, count)}[order]
    table = pl.DataFrame(
        {"row": np.cumsum(np.full(count, steps)), "content_hash": ["0" * 32] * count, "label": np.zeros(count, int)}
        | {f"score_{name}": np.zeros(count, np.float32) for name in "abcdefghij"}
    )
    kept_rows.write(table, tmp_path / "kept.parquet")
    assert pl.from_arrow(kept_rows.read(tmp_path / "kept.parquet", table.columns, count)).equals(table)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not JSON"),
        (b"null\n", "holds no JSON object"),
        (b"[" * 200_000, "nested too deeply"),
        (b'{"a":' * 200_000, "nested too deeply"),
        ('{"@type": "sc:Dataset"}'.encode("utf-16"), "is not UTF-8"),
        (b"\xef\xbb\xbf{}\n", "is not JSON"),
        (b'{"a": 1, "a": 2}\n', "repeats a key"),
        (b'{"a": NaN}\n', "holds NaN"),
        (b'{"a": 1e999}\n', "JSON"),
        (b'{"a": ' + b"9" * 5000 + b"}\n", "digits"),
        (b'{\n  "a": "\\ud800"\n}\n', "UTF-8"),
        (b'{\n  "secateur": []\n}\n', "no object `secateur`"),
        (b"{}\n", "no object `secateur`"),
        (b" " * (8 * 2**20 + 1), "more than the 8388608"),
    ],
)
def test_documents_that_are_none_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    write(tmp_path / "m")
    (tmp_path / "m" / "manifest.json").write_bytes(content)
    refused(message, lambda: Manifest.load(tmp_path / "m"))


@pytest.mark.parametrize("name", ["manifest.json", "kept.parquet"])
def test_what_is_not_a_plain_file_is_not_opened(tmp_path: Path, name: str) -> None:
    write(tmp_path / "m")
    path = tmp_path / "m" / name
    shutil.copy(path, tmp_path / "outside")
    path.unlink()
    refused(f"there is no file .*{name}", lambda: Manifest.load(tmp_path / "m"))
    path.symlink_to(tmp_path / "outside")
    refused(f"{name} is not a plain file", lambda: Manifest.load(tmp_path / "m"))
    path.unlink()
    os.mkfifo(path)
    refused(f"{name} is not a plain file", lambda: Manifest.load(tmp_path / "m"))
    path.unlink()
    path.mkdir()
    refused(f"{name} is not a plain file", lambda: Manifest.load(tmp_path / "m"))


def test_no_folder_and_no_manifest_are_told(tmp_path: Path) -> None:
    refused("there is no file .*manifest.json", lambda: Manifest.load(tmp_path / "nowhere"))
    (tmp_path / "file").write_text("x")
    refused("manifest .*file: .*Not a directory", lambda: Manifest.load(tmp_path / "file"))


# --- applying


def test_apply_keeps_the_kept_rows(tmp_path: Path) -> None:
    manifest = write(tmp_path / "m", kept=[1, 5, 6])
    assert manifest.apply(dataset_of(TEXTS), hash_texts)["text"][:] == [TEXTS[row] for row in (1, 5, 6)]


def test_apply_hashes_by_the_columns_that_it_names(tmp_path: Path) -> None:
    from sample_tables import samples_table

    from secateur.pipelines.data.columns import Columns

    dataset, columns = dataset_of(TEXTS), {"text": "text", "label": "label"}
    keep = np.arange(20) % 3 == 0
    provenance = provenance_of(7, 7, columns=columns, scores=())
    Manifest.write(tmp_path / "m", Rows.chosen(samples_table(dataset, Columns(**columns)), keep), provenance)
    manifest = Manifest.load(tmp_path / "m")
    assert manifest.apply(dataset)["text"][:] == TEXTS[::3]
    renamed = dataset.rename_column("text", "sentence").shuffle(seed=1)
    found = manifest.apply(renamed, columns | {"text": "sentence"})["sentence"][:]
    assert found == [text for text in renamed["sentence"] if text in TEXTS[::3]] != TEXTS[::3]
    refused(r"Columns: 'sentence', 'label'", lambda: manifest.apply(renamed))
    refused("names no columns to hash", lambda: write(tmp_path / "bare").apply(dataset))
    splits = manifest.apply(datasets.DatasetDict(a=dataset, b=dataset.select([0])))
    assert (splits["a"]["text"][:], splits["b"]["text"][:]) == (TEXTS[::3], TEXTS[:1])


def test_rows_that_moved_are_found(tmp_path: Path) -> None:
    manifest = write(tmp_path / "m", kept=[1, 5, 6])
    moved = ["new", *TEXTS[::-1], "newer"]
    assert manifest.apply(dataset_of(moved), hash_texts)["text"][:] == [TEXTS[row] for row in (6, 5, 1)]
    located = manifest.locate([hash_of(text) for text in moved])
    assert [moved[row] for row in located] == [TEXTS[row] for row in (1, 5, 6)]


def test_other_data_is_refused_with_the_reason(tmp_path: Path) -> None:
    manifest = write(tmp_path / "m", kept=[1, 5, 6])
    without = [text for row, text in enumerate(TEXTS) if row not in (5, 6)]
    shown = f"{hash_of(TEXTS[5])} and content hash {hash_of(TEXTS[6])}"
    message = f"not made from this data: 2 of its 3 kept samples are missing from the 18 rows given .*{shown}"
    refused(message, lambda: manifest.apply(dataset_of(without), hash_texts))
    refused("3 of its 3 kept samples are missing", lambda: manifest.apply(dataset_of(["a", "b"]), hash_texts))
    refused("3 of its 3 kept samples are missing from the 0 rows", lambda: manifest.locate([]))


def test_duplicates_are_found_as_often_as_they_were_kept(tmp_path: Path) -> None:
    manifest = write(tmp_path / "m", texts=["a", "a", "b", "a"], kept=[0, 3])
    assert manifest.locate([hash_of(text) for text in "xaaab"]).tolist() == [1, 3]
    refused("1 of its 2 kept samples are missing", lambda: manifest.locate([hash_of(text) for text in "xbab"]))


@given(texts=st.lists(st.sampled_from("abcdef"), min_size=1, max_size=12), data=st.data())
@settings(max_examples=150, deadline=None)
def test_locating_agrees_with_a_search_one_by_one(texts: list[str], data: st.DataObject) -> None:
    kept = sorted(data.draw(st.sets(st.integers(0, len(texts) - 1), min_size=1)))
    now = data.draw(st.lists(st.sampled_from("abcdefg"), max_size=16) | st.permutations(texts))
    located = kept_rows.locate(np.array(kept), pl.Series([texts[row] for row in kept]), pl.Series(now, dtype=pl.String))
    expected, used = {}, set()
    for position, row in enumerate(kept):
        if row < len(now) and now[row] == texts[row]:
            expected[position] = row
            used.add(row)
    for position, row in enumerate(kept):
        if position not in expected:
            free = (at for at, text in enumerate(now) if text == texts[row] and at not in used)
            expected[position] = next(free, -1)
            used.add(expected[position])
    assert located.tolist() == [expected[position] for position in range(len(kept))]


@given(st.lists(st.text(alphabet="0123456789abcdef", min_size=32, max_size=32), max_size=9))
def test_fingerprint_is_that_of_the_joined_hashes(hashes: list[str]) -> None:
    assert fingerprint(pl.Series(hashes, dtype=pl.String)) == xxhash.xxh3_128_hexdigest("".join(hashes).encode())
