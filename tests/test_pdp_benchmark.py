"""The benchmark of PDP on a tiny network: its tables, and a file of runs that a second call goes on from."""

import json
from pathlib import Path

import pdp
import pytest


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """The shipped study with a network of 16 and 4 epochs, at one budget, and few seeds."""
    settings = {"width": 16, "epochs": 4, "batch_size": 256, "learning_rate": 0.05}
    study = pdp.shipped().model_copy(update={"settings": settings, "keep": [0.1]})
    for name, value in {"shipped": lambda: study, "TEMPERATURES": (0.02, 0.1), "HELD_SEEDS": range(1)}.items():
        monkeypatch.setattr(pdp, name, value)
    monkeypatch.setattr(pdp, "MORE_SEEDS", range(2))


def test_a_run_that_was_stopped_goes_on_to_the_same_tables(
    tiny: None, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file, page = tmp_path / "build" / "pdp.jsonl", tmp_path / "page.md"
    marks = [f"<!-- pdp {name} -->\nold\n<!-- end of pdp {name} -->\n" for name in pdp.TABLES]
    page.write_text("".join(marks))
    asked = ["--runs", str(file), "--write", str(page)]
    pdp.main(asked)
    table = page.read_text()
    assert "old" not in table
    first, *lines = file.read_text().splitlines()
    # Two temperatures of two arms and `gradual`, of one seed; four arms of two seeds.
    assert len(lines) == 5 + 8
    found = {key: metrics["accuracy"] for key, metrics in map(json.loads, lines)}
    soft = found[json.dumps(["temperature", "pdp", 0.1, 0, {"temperature": 0.1}])]
    assert f", {soft:.1f} |" in table or f"| {soft:.1f} |" in table
    shots = [found[json.dumps(["seeds", "one_shot", 0.1, seed, {}])] for seed in range(2)]
    assert f"| `one_shot` | 0.1 | {sum(shots) / 2:.1f} ± " in table

    file.write_text("\n".join([first, *lines[:-1]]) + '\n["a line that a kill cut short"')
    capsys.readouterr()
    pdp.main(asked)
    assert file.read_text().splitlines() == [first, *lines], "the same run, the same numbers"
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert page.read_text() == table

    study = pdp.shipped().model_copy(update={"settings": {"width": 8}})
    monkeypatch.setattr(pdp, "shipped", lambda: study)
    with pytest.raises(SystemExit, match="name another file"):
        pdp.main(asked)
