"""The parts of a report's page: the samples it lists, cells that sort, pictures inside it, its bytes; the server."""

import http.client
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import polars as pl
import psutil
import pytest
from reference_pages import SCHEMAS

from secateur.pipelines.pages import served
from secateur.pipelines.pages.cells import cells, numeric
from secateur.pipelines.pages.content import schema
from secateur.pipelines.pages.extremes import encoded
from secateur.pipelines.pages.inlined import inlined, library
from secateur.pipelines.pages.page import page_of
from secateur.pipelines.pages.plots import titled
from secateur.pipelines.pages.report import build_report
from secateur.pipelines.pages.suspects import LEAST, MOST, Suspects, guess_by, suspects_of, suspicion
from secateur.pipelines.studies.samples import Study
from secateur.scorers.registry import scorers
from secateur.trainers.contract import Data
from secateur.trainers.experiments.drawing import COLOURS, RANDOM_COLOUR, picture, written
from secateur.trainers.judging.outcome import Outcome
from secateur.trainers.tasks.classification import Classification
from secateur.trainers.tasks.multi_label import MultiLabel
from secateur.trainers.tasks.regression import Regression

ROOT = Path(__file__).parents[2]
CARDS = {name: declared.card for name, declared in scorers().items()}


def scored(count: int, *names: str, seed: int = 0) -> dict[str, Any]:
    """Random values under scorers' names, with ties."""
    rng = np.random.default_rng(seed)
    return {name: (CARDS[name], rng.integers(0, 40, count).astype(np.float32)) for name in names}


def test_suspicion_is_the_mean_rank_of_scores_turned_so_that_high_is_hard() -> None:
    scores = scored(60, "el2n", "aum", "vog", "density", "entropy")
    names, ranks = suspicion(scores)
    assert names == ["el2n", "aum"]  # vog finds no wrong labels, the others do not measure hardness
    assert ranks is not None
    hard, easy = (scores[name][1].astype(float) for name in names)
    for row in range(60):
        by_hand = [np.sum(values < values[row]) + (np.sum(values == values[row]) + 1) / 2 for values in (hard, -easy)]
        assert ranks[row] == pytest.approx(np.mean(by_hand), rel=1e-12)
    assert suspicion(scored(60, "vog", "density")) == ([], None)


def table_of(labels: np.ndarray) -> pl.LazyFrame:
    rows = np.arange(len(labels))
    return pl.LazyFrame({"row": rows, "file": np.zeros(len(rows), np.int32), "file_row": rows + 7, "label": labels})


def listed(count: int, side: int = 12, **given: Any) -> Suspects:
    """Suspects among noisy pictures of two classes; one guess for all."""
    labels, task = np.arange(count) % 2, Classification(2, ("cat", "dog"))
    inputs = np.random.default_rng(0).integers(0, 256, (count, side, side, 3), dtype=np.uint8)
    scores, table = given.get("scores") or scored(count, "el2n", "aum"), table_of(labels)
    if paths := given.get("paths"):
        table = table.with_columns(pl.Series("path", paths[:count]))
    told = suspects_of(
        scores, inputs, table, task.state(), ["train.csv"], None,
        lambda rows: (["dog"] * len(rows), [0.5] * len(rows)),
    )  # fmt: skip
    assert told
    return told


def test_the_hardest_samples_are_listed_with_file_row_targets_and_scores() -> None:
    scores = scored(400, "el2n", "aum")
    suspects = listed(400, scores=scores)
    ranks = suspicion(scores)[1]
    assert ranks is not None
    rows = [one.row for one in suspects.listed]
    assert len(rows) == 20  # a twentieth
    assert set(np.flatnonzero(ranks > ranks[rows[-1]])) <= set(rows)
    for one in suspects.listed:
        assert one.place == str(one.row + 7)
        assert one.given == ("cat", "dog")[one.row % 2]
        assert one.scores == {name: float(values[one.row]) for name, (_, values) in scores.items()}
        assert one.picture
    assert suspects.embedded == 20
    for one in listed(40, paths=["", None, "a/b.png"] * 20).listed:  # pictures that are not files have no path
        assert one.place == ("a/b.png" if one.row % 3 == 2 else str(one.row + 7))
    assert suspects.without_samples().embedded == 0
    assert [len(listed(count, side=2).listed) for count in (5, 100, 100_000)] == [5, LEAST, MOST]


class Known:
    """A network with known outputs."""

    def __init__(self, outputs: np.ndarray) -> None:
        self.outputs = outputs


@pytest.mark.parametrize(
    ("task", "targets", "outputs", "shown", "sure"),
    [
        (Classification(2, ("cat", "dog")), np.array([0, 1]), [[2.0, 0.0], [0.0, 1.0]], ["cat", "dog"], True),
        (Regression(units=("m",)), np.array([[0.0], [10.0]]), [[0.0], [1.0]], ["5 m", "10 m"], False),
        (
            MultiLabel(2, ("a", "b")),
            np.array([[True, False], [True, True]]),
            [[1.0, -1.0], [1.0, 2.0]],
            ["a", "a, b"],
            False,
        ),
    ],
)
def test_a_prediction_is_what_the_mean_output_of_the_proxies_stands_for(
    task: Any, targets: Any, outputs: Any, shown: list[str], sure: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("secateur.trainers.judging.evaluation.outputs_of", lambda model, some: model.outputs)
    task = task.fitted(targets)
    data = Data(np.zeros((2, 3), np.float32), targets, task)
    spread = [np.array(outputs, np.float32) + each for each in (-0.25, 0.25)]
    predicted, certain = guess_by([Known(each) for each in spread], data)(np.arange(2))
    assert predicted == shown
    if sure:
        assert certain == pytest.approx([1 / (1 + np.exp(-2)), 1 / (1 + np.exp(-1))], rel=1e-6)
    else:
        assert certain == [None, None]


def test_columns_of_numbers_sort_by_them() -> None:
    table = [
        ["selection", "kept", "accuracy %", "against random", "note"],
        ["random", "1,438", "89.9 ± 2.5", "the baseline", ""],
        ["hardest", "0.3 (431)", "95.5 ± 1.2", "worse -17.9 (p 0.0019)", "a3 b"],
        ["rs2", "", "7.25", "better +3.3 (p 0.0016)", "plain"],
    ]
    orders = [[cell.order for cell in line] for line in cells(table)]
    assert orders == [
        ["", "1438", "89.9", "", ""],
        ["", "0.3", "95.5", "-17.9", ""],
        ["", "", "7.25", "+3.3", ""],
    ]
    assert numeric(table) == [False, True, True, False, False]
    assert [cell.mood for line in cells(table) for cell in line if cell.mood] == ["bad", "good"]
    assert numeric(table[:1]) == [False] * 5


def test_axes_are_in_plain_numbers_and_colours_stand_out() -> None:
    for low, high in ((1e-4, 3e2), (2e4, 6e4), (3.0, 7.0)):
        svg = picture(lambda axes, ends=(low, high): (axes.plot(ends, ends), axes.set(xscale="log", yscale="log")))
        assert b"mathdefault" not in svg
        texts = re.findall(r"<text[^>]*>([^<]*)</text>", svg.decode())
        assert len(texts) > 3
        assert all(re.fullmatch(r"[\d,]+(\.\d+)?", text) for text in texts), texts
    assert [written(value) for value in (20_000, 1_234_567.0, 0.0005, 1, 0.25)] == [
        "20,000", "1,234,567", "0.0005", "1", "0.25",
    ]  # fmt: skip
    for page in ("#ffffff", "#16191d"):
        assert not [colour for colour in (*COLOURS, RANDOM_COLOUR) if contrast(colour, page) < 3]


def contrast(one: str, other: str) -> float:
    """WCAG 2.2's contrast ratio of two colours, from 1 to 21."""
    levels = []
    for colour in (one, other):
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        levels.append(0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2])
    return (max(levels) + 0.05) / (min(levels) + 0.05)


def test_pictures_inside_a_page_share_no_ids_and_take_its_colours() -> None:
    svg = picture(lambda axes: axes.plot([0, 1], [1, 2], gid="point-0"))
    named = titled(svg, ["a <b> & c"])
    first, second = (inlined(named, name, 'a "label"') for name in ("one two", "other"))
    ids = [re.findall(r'\bid="([^"]+)"', text) for text in (first, second)]
    assert ids[0]
    assert not set(ids[0]) & set(ids[1])
    for text, own in zip((first, second), ids, strict=True):
        assert set(re.findall(r"(?:url\(#|href=\"#)([^\")]+)", text)) <= set(own)
        assert 'role="img" aria-label="a &#34;label&#34;"' in text
        assert "<title>a &lt;b&gt; &amp; c</title>" in text
        assert "var(--ink)" in text
        assert "#7a7f87" not in text
        assert "<style" not in text
    foreign = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
    assert inlined(foreign, "own", "x").startswith('<img alt="x" src="data:image/svg+xml;base64,')
    assert not re.search(r"</script|<!--", library())


@pytest.fixture
def large(write_study: Any) -> Any:
    """A report of several selections at two budgets."""
    chosen = {f"hardest_{n}": {"selector": "top", "score": "el2n"} for n in range(3)}
    study = write_study(seeds=3, keep=[0.7, 0.3], selections=chosen).study
    assert isinstance(study, Study)
    rng = np.random.default_rng(0)
    outcomes = {
        trial: Outcome(
            metrics={"accuracy": 0.9 + rng.normal(0, 0.01)},
            steps=30, epochs=10, samples_seen=300, compare_at="equal steps", of=120,
            kept=120 if trial.name == "full" else round(120 * float(trial.keep)),
        )
        for trial in study.trials
    }  # fmt: skip
    return build_report(study, outcomes, "")


def test_a_large_page_stays_small_and_its_json_is_that_of_the_schema(large: Any, tmp_path: Path) -> None:
    """60 pictures of noise, which do not compress, among 60 rows."""
    finding = {
        "kind": "leaked",
        "split": "test",
        "importance": 0,
        "count": 2,
        "text": "two rows",
        "rows": [["a.csv", 3]],
    }
    page = page_of(large, findings=[finding], suspects=listed(2000, side=200))
    assert page.samples == MOST
    page.write(tmp_path)
    assert (tmp_path / "report.html").stat().st_size <= 3_000_000
    content = page.content.model_dump(mode="json")
    jsonschema.Draft202012Validator(schema()).validate(content)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(schema()).validate(content | {"colour": 1})
    for name, declared in SCHEMAS.items():
        written = json.dumps(declared(), indent=2) + "\n"
        assert (ROOT / name).read_text() == written, "stale: python docs/reference_pages.py"
    order = [part.name for part in page.parts]
    known = ["curve", "saving", "findings", "suspects", "table", "paired", "other-measures", "compute", "methods"]
    assert order == [name for name in known if name in order]
    assert {"curve", "findings", "suspects", "table", "paired", "methods"} <= set(order)
    assert "Before you rely on this: two rows" in page.markdown()


def test_the_page_says_whether_proxies_learned_from_the_labels_that_they_predict(large: Any) -> None:
    suspects = listed(400)
    for held_out, said in ((False, "The proxy learned from these labels"), (True, "Proxies that did not learn from a")):
        page = page_of(large, suspects=replace(suspects, held_out=held_out)).html()
        assert said in page
        assert (("may repeat a wrong one" in page), held_out) in ((True, False), (False, True))


def test_captions_of_pictures_are_broken_into_lines_that_fit() -> None:
    words = [f"word{number}" for number in range(40)]

    def draw(axes: Any) -> None:
        axes.set(xlabel=" ".join(words), title="short", ylabel=" ".join(words[:12]))

    lines = re.findall(r"<text [^>]*>([^<]*)</text>", picture(draw, width=4.0, height=2.4).decode())
    told = [line for line in lines if "word" in line]
    assert sorted(" ".join(told).split()) == sorted(words + words[:12])
    assert len(told) > 4
    assert max(map(len, told)) < 70  # 4 inches hold this many letters of 9 points
    assert "short" in lines


@pytest.mark.parametrize("picture_side", [3, 500])
def test_small_pictures_stay_as_they_are_and_large_ones_are_made_smaller(picture_side: int) -> None:
    import io

    from PIL import Image

    content = encoded(Image.new("RGB", (picture_side, picture_side // 2 or 1), "red"))
    assert max(Image.open(io.BytesIO(content)).size) == min(picture_side, 112)


@pytest.fixture
def reports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, int]]:
    """A server of a store's reports in a process of its own; it ends with the test."""
    folder = tmp_path / "assets" / "blobs" / "report"
    folder.mkdir(parents=True)
    (folder / "report.html").write_text("<p>the page</p>")
    (folder / "report.json").write_text("{}")
    (folder / "findings.csv").write_text("finding,importance\n")
    outside = tmp_path / "assets" / "stolen" / "report"
    outside.mkdir(parents=True)
    (tmp_path / "secret").write_text("secret")
    (outside / "report.html").symlink_to(tmp_path / "secret")
    monkeypatch.setenv(served.ADDRESS, "")
    assert served.link_to("blobs") == ""
    base = served.start_beside(tmp_path / "assets")
    assert served.link_to("blobs") == f"{base}/blobs/report.html"
    yield "127.0.0.1", int(base.rpartition(":")[2])
    for child in psutil.Process().children():
        if "secateur.pipelines.pages.served" in child.cmdline():
            child.kill()  # SIGTERM may be ignored here, which processes inherit
            child.wait(60)


def asked(place: tuple[str, int], path: str, method: str = "GET", **headers: str) -> tuple[int, bytes, dict[str, str]]:
    connection = http.client.HTTPConnection(*place, timeout=60)
    connection.request(method, path, headers=headers)
    answer = connection.getresponse()
    return answer.status, answer.read(), dict(answer.getheaders())


def test_the_server_gives_reports_and_nothing_else(reports: tuple[str, int]) -> None:
    status, page, headers = asked(reports, "/blobs/report.html")
    assert (status, page) == (200, b"<p>the page</p>")
    assert headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert asked(reports, "/blobs/report.html", "HEAD")[:2] == (200, b"")
    status, table, headers = asked(reports, "/blobs/findings.csv")
    assert (status, table, headers["Content-Type"]) == (200, b"finding,importance\n", "text/csv; charset=utf-8")
    assert headers["Content-Disposition"].startswith("attachment")
    for path in (
        "/", "/blobs", "/blobs/", "/blobs/report.json", "/other/report.html", "/../secret", "/blobs/../../secret",
        "/stolen/findings.csv", "/%2e%2e/report.html", "/..%2fsecret/report.html", "/stolen/report.html",
    ):  # fmt: skip
        status, body, _ = asked(reports, path)
        assert status == 404, path
        assert b"secret" not in body
    assert asked(reports, "/blobs/report.html", Host="evil.example")[0] == 403
    assert asked(reports, "/blobs/report.html", "POST")[0] == 501


def test_the_server_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    code = (
        "import sys, time, psutil\nfrom pathlib import Path\nfrom secateur.pipelines.pages.served import start_beside\n"
        "start_beside(Path(sys.argv[1]))\nprint(psutil.Process().children()[0].pid, flush=True)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    pid, end = int(done.stdout), time.monotonic() + 60
    while psutil.pid_exists(pid) and time.monotonic() < end:
        time.sleep(0.2)
    assert not psutil.pid_exists(pid)
