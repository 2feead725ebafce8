"""The data stage in other processes, here by calls in another order with pickled arguments: the same bytes."""

import pickle
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from pydantic import TypeAdapter
from spread_studies import STUDIES, left_in, prepared_in, small_shards, study_of, told, write_sources

from secateur.pipelines.data.preparation import write_inputs
from secateur.pipelines.data.scan import SplitRows
from secateur.pipelines.data.source_digests import digested_by
from secateur.pipelines.data.sources import Columns, Source, SourceError, load
from secateur.pipelines.data.spread import SpreadRows
from secateur.pipelines.data.spread_scan import Start, in_runs, shard_starts
from secateur.pipelines.files.contents import entries_of
from secateur.pipelines.runs.ray_digests import elsewhere_of
from secateur.pipelines.studies.samples import Study
from secateur.pipelines.studies.sections import Compute
from secateur.trainers.modalities.rows import RowFault
from secateur.trainers.modalities.tables import Category, Number, TableEncoder, TableEncoding


class Killed(BaseException):
    """Stands for a signal that ends the process."""


@dataclass
class Elsewhere:
    """Units in a random order; `stop` ends the driver before so many results exist."""

    stop: int = 1 << 30
    room: int = 3
    done: list[str] = field(default_factory=list)

    def __call__(self, work: Callable[[Any], Any], units: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        cloudpickle = pytest.importorskip("ray.cloudpickle", reason="Ray pickles closures: install the extra `ray`")
        sent, order = cloudpickle.dumps(work), list(enumerate(units))
        random.Random(0).shuffle(order)
        for number, unit in order:
            if len(self.done) >= self.stop:
                raise Killed
            self.done.append(getattr(getattr(work, "func", work), "__name__", ""))
            try:
                result = pickle.loads(sent)(pickle.loads(pickle.dumps(unit)))
            except Exception as error:
                raise pickle.loads(pickle.dumps(error)) from error
            yield number, pickle.loads(cloudpickle.dumps(result))


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sources")
    write_sources(folder)
    return folder


@pytest.mark.parametrize("kind", STUDIES)
def test_files_and_what_is_said_are_those_of_one_process(kind: str, sources: Path) -> None:
    with small_shards():
        local = prepared_in(sources, kind, f"{kind}-local", None)
        spread = prepared_in(sources, kind, f"{kind}-spread", others := Elsewhere())
    assert told(spread) == told(local)
    files = left_in(sources, f"{kind}-local")
    assert left_in(sources, f"{kind}-spread") == files
    assert sum(name.endswith(".arrow") for name in files) >= (4 if kind == "folder" else 12)
    assert ("of_shard" in others.done) == (kind not in ("pictures", "folder")), "sums of the encoder, and its facts"


def test_a_driver_that_is_killed_goes_on_with_what_is_missing(sources: Path) -> None:
    with small_shards():
        prepared_in(sources, "tfidf", "whole", None)
        whole = Elsewhere()
        prepared_in(sources, "tfidf", "calm", whole)
        for stop in range(3, len(whole.done), 11):
            place = f"killed-{stop}"
            with pytest.raises(Killed):
                prepared_in(sources, "tfidf", place, Elsewhere(stop))
            prepared_in(sources, "tfidf", place, Elsewhere())
            assert left_in(sources, place) == left_in(sources, "whole")


def test_a_scan_that_one_process_began_is_finished_by_others(sources: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from secateur.pipelines.data import scan

    write, writes = scan.write_bytes, 0

    def killing(*arguments: Any, **named: Any) -> None:
        nonlocal writes
        writes += 1
        if writes == 3:
            raise Killed
        write(*arguments, **named)

    with small_shards():
        prepared_in(sources, "tokens", "once", None)
        with monkeypatch.context() as patch:
            patch.setattr(scan, "write_bytes", killing)
            with pytest.raises(Killed):
                prepared_in(sources, "tokens", "begun", None)
        others = Elsewhere()
        prepared_in(sources, "tokens", "begun", others)
    assert 0 < others.done.count("sizes_of") < 6, "files that were read whole are not read again"
    assert left_in(sources, "begun") == left_in(sources, "once")


@pytest.mark.parametrize("beside", [False, True], ids=["files", "pictures beside them"])
def test_files_are_digested_by_others_in_units_of_one_size(
    beside: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_sources(tmp_path)
    if beside:
        paths = sorted((tmp_path / "pictures").rglob("*.png"))
        labels = [path.parent.name for path in paths]
        frame = pl.DataFrame({"image": [str(path) for path in paths], "label": labels})
        frame.write_csv(tmp_path / "rows" / "g.csv")
    keys = {"kind": "csv", "train": "rows/g.csv" if beside else "rows/*.csv", "test_fraction": 0.3}
    source: Any = TypeAdapter(Source).validate_python(keys)
    columns = Columns(image="image", label="label") if beside else Columns(features=["x", "word"], label="label")
    for name, value in {"contents._known": {}, "contents.SETTLED": -(10**12)}.items():
        monkeypatch.setattr(f"secateur.pipelines.files.{name}", value)
    here = load(source, columns, tmp_path, tmp_path / "here").revision
    asked: list[list[Path]] = []

    @dataclass
    class Told(Elsewhere):
        def __call__(self, work: Callable[[Any], Any], units: Sequence[Any]) -> Iterator[tuple[int, Any]]:
            if work is entries_of:
                asked.append([path for unit in units for path in unit])
                assert len(units) <= 4 * self.room + 1
            return super().__call__(work, units)

    monkeypatch.setattr("secateur.pipelines.files.contents._known", {})
    monkeypatch.setattr("secateur.pipelines.data.source_digests.LEAST", 1 << 30)
    few = Told()
    assert load(source, columns, tmp_path, tmp_path / "few", spread=few).revision == here
    assert not asked
    monkeypatch.setattr("secateur.pipelines.files.contents._known", {})
    monkeypatch.setattr("secateur.pipelines.data.source_digests.LEAST", 1)
    assert load(source, columns, tmp_path, tmp_path / "others", spread=Told()).revision == here
    own = [tmp_path / "rows" / "g.csv"] if beside else sorted((tmp_path / "rows").glob("*.csv"))
    assert asked == [own, *([paths] if beside else [])]


def test_a_study_on_ray_has_large_files_digested_there_before_it_runs_and_needs_no_cluster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_sources(tmp_path)
    local = study_of(tmp_path, "table")
    study = local.model_copy(update={"compute": Compute(scoring="ray", ray_address="there")})
    asked: list[tuple[Any, ...]] = []
    others, calls = Elsewhere(), count()

    def answering(*arguments: Any) -> Any:
        asked.append(arguments)
        return nullcontext(others)

    def silent(*arguments: Any) -> Any:
        asked.append(arguments)
        raise ConnectionError

    def revision(of: Study, over: Any, least: int) -> str:
        monkeypatch.setattr("secateur.pipelines.files.contents._known", {})
        monkeypatch.setattr("secateur.pipelines.data.source_digests.LEAST", least)
        monkeypatch.setattr("secateur.pipelines.runs.ray_digests.spread_over", over)
        with digested_by(elsewhere_of(of)):
            return of.contents(tmp_path, tmp_path / f"cache-{next(calls)}")["source"]

    plain = revision(local, answering, 1)
    assert revision(study, answering, 1 << 30) == plain
    assert not asked
    assert revision(study, answering, 1) == plain
    assert others.done == ["entries_of"] * len(others.done) != []
    assert revision(study, silent, 1) == plain
    assert asked == [("ray", "there")] * 2


def test_sums_of_tables_have_the_bits_of_one_process_and_an_origin_from_the_first_value(tmp_path: Path) -> None:
    random, large = np.random.default_rng(0), 2**60
    whole = random.integers(0, 1000, 200)
    values: dict[str, list[Any]] = {
        "x": [None if row % 9 == 0 else float(value) for row, value in enumerate(random.normal(1e6, 1, 200))],
        "code": [None if row < 60 else large + int(value) for row, value in enumerate(whole)],
        "count": whole.tolist(),
        "word": [f"w{row % 11}" if row % 5 else None for row in range(200)],
    }
    frame = pl.DataFrame(values)
    for number in range(4):
        part = frame.slice(50 * number, 50)
        part.write_ipc(tmp_path / f"{number}.arrow", compat_level=pl.CompatLevel.oldest())
    rows = SplitRows(tuple(sorted(tmp_path.glob("*.arrow"))))
    encoding = TableEncoding(categorical=["count"])
    here = TableEncoder.fit(rows, list(values), encoding)
    assert TableEncoder.fit(SpreadRows(rows.shards, Elsewhere()), list(values), encoding) == here
    x, code, kinds, word = here.columns
    assert isinstance(x, Number)
    assert isinstance(code, Number)
    there = frame["x"].drop_nulls().to_numpy()
    np.testing.assert_allclose([x.mean, x.deviation], [there.mean(), there.std()], rtol=1e-10)
    assert (x.marked, x.origin) == (True, 0)
    assert (code.marked, code.origin) == (True, large + int(whole[60]))
    np.testing.assert_allclose([code.mean, code.deviation], [(whole[60:] - whole[60]).mean(), whole[60:].std()])
    assert isinstance(kinds, Category)
    assert set(kinds.values) == {str(value) for value in whole}
    assert word == Category("word", tuple(sorted({f"w{row % 11}" for row in range(200) if row % 5})))
    facts = here.facts(rows)
    assert here.facts(SpreadRows(rows.shards, Elsewhere())) == facts
    assert facts["share of unknown categories"] == 0
    few = TableEncoder((Category("word", ("w1", "w2")),), [], "codes")
    unknown = sum(word not in (None, "w1", "w2") for word in values["word"])
    for held in (rows, SpreadRows(rows.shards, Elsewhere())):
        assert few.facts(held)["share of unknown categories"] == unknown / 200


def test_faults_name_the_rows_that_one_process_names(tmp_path: Path) -> None:
    for name, values in (("a", range(50)), ("b", [*range(20), float("inf"), *range(29)])):
        pl.DataFrame({"x": list(map(float, values))}).write_ipc(
            tmp_path / f"{name}.arrow", compat_level=pl.CompatLevel.oldest()
        )
    rows = SplitRows((tmp_path / "a.arrow", tmp_path / "b.arrow"))
    encoder = TableEncoder((Number("x", 0.0, 1.0, False),), [], "codes")
    for number, spread in enumerate((None, Elsewhere())):
        with pytest.raises(RowFault, match="is infinite") as found:
            write_inputs(tmp_path / f"{number}.npy", encoder, rows, spread)
        np.testing.assert_array_equal(found.value.rows, [70])
    assert SpreadRows(rows.shards, Elsewhere()).firsts == [0, 50]
    assert list(SpreadRows(rows.shards, Elsewhere()).each(["x"], lambda table, first: [first])) == [0, 50]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ({"text": 5, "label": "u"}, r"column 'text' holds whole numbers in .*f\.jsonl"),
        ({"txt": "a", "label": "u"}, "there is no column 'text'; did you mean 'txt'"),
        ({"text": " ", "label": "u"}, r"text is empty at row 1 of rows/f\.jsonl"),
    ],
)
def test_bad_files_are_refused_with_the_same_words(line: dict[str, Any], said: str, tmp_path: Path) -> None:
    write_sources(tmp_path)
    good = dict.fromkeys(line, "good")
    pl.DataFrame([good if said.startswith("text") else line, line]).write_ndjson(tmp_path / "rows" / "f.jsonl")
    words = []
    with small_shards():
        for spread in (None, Elsewhere()):
            with pytest.raises(SourceError, match=said) as found:
                prepared_in(tmp_path, "tfidf", f"{spread is None}", spread)
            words.append(str(found.value))
    assert words[0] == words[1]


def test_shards_begin_where_limits_say_and_runs_fill_the_room() -> None:
    sizes = [[(0, 0, 10, 5), (0, 10, 10, 5), (0, 20, 3, 9)], [(1, 0, 4, 1)], [(2, 0, 30, 1), (2, 30, 1, 1)]]
    starts = shard_starts(sizes, 7, (20, 1000))
    assert starts == [Start(7, 0, 0), Start(8, 0, 20), Start(9, 2, 30)]
    assert shard_starts(sizes, 0, (1000, 9)) == [Start(0, 0, 0), Start(1, 0, 20), Start(2, 1, 0)]
    assert in_runs(starts, 1) == [starts[:2], starts[2:]]
    assert in_runs(starts, 4) == [[start] for start in starts]
    assert in_runs([], 4) == []
