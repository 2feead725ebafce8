"""The command line: commands, output, exit codes, and one line for each mistake."""

import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import dagster as dg
import datasets
import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from shell_here import secateur_here
from typer.testing import CliRunner

from secateur.pipelines.commands import entry
from secateur.pipelines.commands import main as cli
from secateur.pipelines.commands.trials import trials_of
from secateur.pipelines.materialise import blocks, instance_at
from secateur.pipelines.storage.home import marked_home
from secateur.pipelines.storage.study_lock import study_lock
from secateur.pipelines.studies.files import StudyFile
from secateur.pipelines.studies.grid import Trial

ManifestOf = Callable[..., Any]
WriteStudy = Callable[..., StudyFile]
SHAPE = {
    *("study", "kind", "findings", "trials", "report", "report_file", "manifest", "best", "made", "fresh"),
}
"""Keys of the JSON of `run --json`, for every kind of study."""
COMMANDS = ("init", "studies", "ui", "run", "open", "prune", "score", "select", "verify", "export", "diff", "explain")


@pytest.fixture
def type_in(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run `secateur WORDS` through the entry point; returns exit code, output and errors."""

    def run(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["secateur", *words])
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            cli.main()
        seen = capsys.readouterr()
        return int(left.value.code or 0), seen.out, seen.err

    return run


TypeIn = Callable[..., tuple[int, str, str]]


def secateur(*words: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run the command in a process of its own, like a user."""
    command = [sys.executable, "-c", "from secateur.pipelines.commands.main import main; main()", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | environment)


def test_help_names_every_command_in_its_panel_with_exit_codes() -> None:
    text = CliRunner().invoke(cli.app, ["--help"], env={"COLUMNS": "80", "NO_COLOR": "1"}).output
    for word in (*COMMANDS, "Start here", "Studies", "Manifests", "Exit codes"):
        assert word in text
    assert max(map(len, text.splitlines())) <= 80
    assert "\x1b[" not in text


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command: str) -> None:
    text = CliRunner().invoke(cli.app, [command, "-h"], env={"COLUMNS": "80"}).output
    assert "Examples" in text
    assert f"secateur {command}" in text
    assert ("--json" in text) == (command != "ui")


def loaded_by(words: Sequence[str], heavy: set[str]) -> str:
    """The modules among these that a command loads, whether it ends well or in a mistake; empty for none."""
    code = (
        "import sys; from secateur.pipelines.commands import main as cli\n"
        f"try: cli.app({list(words)!r})\n"
        "except SystemExit as end: assert end.code in (0, 1), end.code\n"
        "except ValueError as mistake: assert str(mistake).startswith('there is no '), mistake\n"
        f"print(*sorted({heavy!r} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stderr.strip()


@pytest.mark.parametrize("command", [[], *([one] for one in COMMANDS), ["experiments"], ["deltas"]], ids=" ".join)
def test_help_loads_no_pipeline(command: list[str]) -> None:
    heavy = {"dagster", "torch", "numpy", "polars", "datasets", "yaml"} | (set() if command else {"pydantic"})
    assert not loaded_by([*command, "--help"], heavy)


NEVER = {"torch", "dagster", "matplotlib", "pandas", "datasets", "scipy", "sklearn", "PIL", "pyarrow.compute"}
"""Libraries that take a tenth of a second or more to import, and that no small command needs."""
TABLES = {"polars", "polars_hash", "pyarrow"}


@pytest.mark.parametrize(
    ("words", "heavy"),
    [
        (["verify", "{manifest}"], NEVER | {"polars", "polars_hash", "yaml"}),
        (["diff", "{manifest}", "{manifest}"], NEVER | {"yaml"}),
        (["explain", "{manifest}", "3"], NEVER - {"pyarrow.compute"} | {"yaml"}),
        (["studies"], NEVER | TABLES),
        (["verify", "nothere"], NEVER | TABLES | {"numpy", "yaml"}),
        (["diff", "nothere", "nothere"], NEVER | TABLES | {"numpy", "yaml"}),
        (["explain", "nothere", "3"], NEVER | TABLES | {"numpy", "yaml"}),
        (["init", "nothere.csv"], NEVER | TABLES | {"yaml"}),
        (["init", "{folder}/rows.csv", "-o", "{folder}/rows.yaml"], {"torch", "dagster", "matplotlib"}),
        (["experiments"], NEVER),
    ],
    ids=lambda given: " ".join(given[:2]) if isinstance(given, list) else "",
)
def test_small_commands_load_what_they_need(
    words: list[str], heavy: set[str], write_study: WriteStudy, manifest_of: ManifestOf, tmp_path: Path
) -> None:
    if words[0] == "studies":
        write_study()
    table = datasets.Dataset.from_dict({"x": [0.5, 1.5, 2.5, 3.5] * 10, "label": [0, 1, 0, 1] * 10})
    table.to_csv(tmp_path / "rows.csv")
    manifest = str(manifest_of(table, {"features": ["x"], "label": "label"}, [0, 3]).path)
    assert not loaded_by([word.format(manifest=manifest, folder=tmp_path) for word in words], heavy)


def test_where_no_study_is_ones_own_none_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECATEUR_STUDIES", str(tmp_path))
    assert not loaded_by(["studies"], NEVER | TABLES | {"numpy", "yaml"})


@pytest.mark.parametrize(("sent", "code", "word"), [("SIGINT", 130, "interrupted"), ("SIGTERM", 143, "stopped")])
def test_a_signal_in_a_step_is_one_sentence(
    write_study: WriteStudy, tmp_path: Path, sent: str, code: int, word: str
) -> None:
    begun = tmp_path / "begun"
    (tmp_path / "slow_network.py").write_text(
        "import pathlib, time\n\n\n"
        "def slow(shape, classes):\n"
        f"    pathlib.Path({str(begun)!r}).touch()\n"
        "    time.sleep(300)\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(["", str(tmp_path), *filter(None, sys.path)])}
    slow = {"model": "slow_network:slow", "epochs": 1}
    study = {**yaml.safe_load(write_study().path.read_text()), "proxy": slow}
    (tmp_path / "slow.yaml").write_text(yaml.safe_dump(study))
    command = [sys.executable, "-c", "from secateur.pipelines.commands.main import main; main()"]
    with subprocess.Popen(
        [*command, "run", str(tmp_path / "slow.yaml")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    ) as process:
        try:
            while not begun.exists():
                assert process.poll() is None, process.stderr.read() if process.stderr else ""
                time.sleep(0.1)
            process.send_signal(getattr(signal, sent))
            out, errors = process.communicate(timeout=60)
        finally:
            process.kill()
    assert (process.returncode, out) == (code, "")
    assert "Traceback" not in errors
    assert errors.count("error: ") == 1
    assert f"error: {word}; results stay" in errors
    with instance_at(Path(os.environ["SECATEUR_HOME"]), pytest.fail) as instance:
        assert [run.status for run in instance.get_runs()] == [dg.DagsterRunStatus.FAILURE]


def test_ctrl_c_while_commands_load_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "typer.py").write_text("raise KeyboardInterrupt\n")
    command = f"from {entry.__name__} import main; main()"
    places = os.pathsep.join([str(tmp_path), *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", command], capture_output=True, text=True, env=os.environ | {"PYTHONPATH": places}
    )
    assert done.returncode == 130
    assert done.stderr == "error: interrupted before the command began\n"


def interrupt(*_: object, **__: object) -> None:
    """Stands for work that Ctrl-C ends."""
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("words", "work", "stay"),
    [
        (["run", "{study}"], "commands.studies.make", True),
        (["run", "{study}", "--dry-run"], "commands.studies.forecast", False),
        (["score", "{study}"], "commands.score.make", True),
        (["score", "{data}", "--label", "label"], "commands.score_data.columns_of", False),
        (["select", "{study}"], "commands.select.make", True),
        (["select", "{data}", "--by", "x", "--keep", "2"], "commands.select_data.share_of", False),
        (["audit", "{study}"], "commands.audit_study.make", True),
        (["audit", "{study}", "--against", "{data}"], "audits.of_study.study_rows", True),
        (["audit", "{data}"], "commands.audit.look", False),
    ],
)
def test_an_interrupted_command_says_whether_its_results_stay(
    words: list[str],
    work: str,
    stay: bool,
    write_study: WriteStudy,
    type_in: TypeIn,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "rows.csv").write_text("x,label\n1,a\n2,b\n3,a\n")
    monkeypatch.setattr(f"secateur.pipelines.{work}", interrupt)
    given = {"study": write_study().path, "data": tmp_path / "rows.csv"}
    code, out, errors = type_in(*(word.format(**given) for word in words))
    assert (code, out) == (130, "")
    kept = "results stay: the same command again makes the rest"
    assert errors == f"error: interrupted; {kept if stay else 'the same command again starts from the beginning'}\n"


@pytest.mark.parametrize("command", ["run", "score", "select"])
def test_a_second_run_of_a_study_names_the_first_and_ends(
    command: str, write_study: WriteStudy, type_in: TypeIn
) -> None:
    path = write_study(seeds=2, keep=0.25).path
    with study_lock(marked_home() / "assets", "blobs", "a run of mine"):
        code, out, errors = type_in(command, str(path))
    assert (code, out) == (2, "")
    told = " ".join(errors.split())
    assert f" error: study blobs is at work in process {os.getpid()} (a run of mine, since " in told
    assert told.endswith("let it end, or add --wait to wait for it")


def no_bytes() -> None:
    """From now on this process, and programs that it becomes, cannot write to any file."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


def test_a_full_disk_is_one_sentence(write_study: WriteStudy) -> None:
    study, home = write_study(), os.environ["SECATEUR_HOME"]
    command = [
        sys.executable,
        "-c",
        "from secateur.pipelines.commands.main import main; main()",
        "run",
        str(study.path),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, preexec_fn=no_bytes)
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(rf"error: {home}/layout.json cannot be written: the file would be larger.*\n", done.stderr)
    assert os.listdir(home) == []


def test_score_select_run_by_parts(write_study: WriteStudy, type_in: TypeIn) -> None:
    path = write_study(seeds=2, keep=0.25)
    where = str(path.path)
    done = secateur_here("score", where, "--json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert [one["score"] for one in answer["scores"]] == ["aum", "el2n", "forgetting"]
    for one in answer["scores"]:
        values = np.load(one["path"])
        assert one["mean"] == pytest.approx(values.mean(dtype=np.float64))
        assert (one["min"], one["max"], one["samples"]) == (values.min(), values.max(), 120)
    assert answer["fresh"] == 0
    home = Path(os.environ["SECATEUR_HOME"]) / "assets" / "blobs"
    assert not (home / "subset").exists()
    scored = (home / "scores" / "aum.npy").stat().st_mtime_ns

    write_study(seeds=2, keep=0.25, description="Another one.")
    chosen = json.loads(secateur_here("select", where, "--selection", "hardest", "--seed", "1", "--json").stdout)
    assert [(one["selection"], one["seed"], one["kept"]) for one in chosen["subsets"]] == [("hardest@0.25", 1, 30)]
    assert (home / "scores" / "aum.npy").stat().st_mtime_ns == scored
    assert [entry.name for entry in (home / "manifest").iterdir()] == ["hardest@0.25"]
    assert not (home / "trained_model").exists()
    manifest = chosen["subsets"][0]["manifest"]

    done = secateur_here("run", where, "--selection", "hardest", COLUMNS="80", NO_COLOR="1")
    assert done.returncode == 0, done.stderr
    table, _, rest = done.stdout.partition("manifest  ")
    assert "hardest@0.25" in table
    assert max(map(len, table.splitlines())) <= 80
    assert rest.startswith(str(home / "manifest" / "hardest@0.25"))
    assert (home / "scores" / "aum.npy").stat().st_mtime_ns == scored
    assert sorted(entry.name for entry in (home / "evaluation" / "hardest@0.25").iterdir()) == ["0.json", "1.json"]
    write_study(seeds=2, keep=0.25, scores={"aum": None, "el2n": {"epochs": 1}, "forgetting": {}})
    again = json.loads(secateur_here("score", where, "--json").stdout)
    assert (home / "scores" / "aum.npy").stat().st_mtime_ns > scored
    assert again["made"] > 0

    assert type_in("verify", manifest)[0] == 0
    content = (Path(manifest) / "kept.parquet").read_bytes()
    (Path(manifest) / "kept.parquet").write_bytes(content[:-9] + bytes([content[-9] ^ 1]) + content[-8:])
    code, _, errors = type_in("verify", manifest)
    assert code == 1
    assert "kept.parquet was changed" in " ".join(errors.split())
    code, seen, _ = type_in("verify", manifest, "--json")
    assert (code, json.loads(seen)["sound"]) == (1, False)


def test_version(type_in: TypeIn) -> None:
    assert type_in("--version") == (0, f"{metadata.version('secateur')}\n", "")


def test_run_verify_export(
    type_in: TypeIn, write_study: WriteStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_study(seeds=2, keep=0.25).path
    code, _, errors = type_in("open", str(path))
    assert (code, "has no report yet: secateur run blobs" in " ".join(errors.split())) == (2, True)
    done = secateur("run", str(path), COLUMNS="80", NO_COLOR="1")
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    seen = done.stdout
    for word in ("selection", "against random", "the baseline", "hardest", "full set"):
        assert word in seen
    manifest = Path(next(line for line in seen.splitlines() if line.startswith("manifest")).split()[1])
    report = Path(next(line for line in seen.splitlines() if line.startswith("report")).split()[1])
    assert report.is_file()
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", lambda url: opened.append(url) or True)
    assert type_in("open", str(path)) == (0, f"{report}\n", "")
    assert opened == [report.as_uri()]
    monkeypatch.setattr("webbrowser.open", lambda url: False)
    assert "no browser" in type_in("open", str(path))[2]
    assert manifest.parts[-2] == "full", "two seeds cannot show that something can go, and everything is recommended"
    assert "Keep everything: " in seen
    manifest = manifest.parents[1] / "hardest@0.25" / "0"
    code, seen, _ = type_in("verify", str(manifest))
    assert code == 0
    assert "30 of 120 samples of blobs kept" in seen
    target = tmp_path / "kept.npy"
    assert type_in("export", str(manifest), "--to", "indices", "--out", str(target))[0] == 0
    assert len(np.load(target)) == 30
    code, _, errors = type_in("export", str(manifest), "--to", "indices", "--out", str(target))
    assert code == 2
    assert "exists" in errors
    code, seen, _ = type_in("explain", str(manifest), "0", "--json")
    assert code == 0
    assert json.loads(seen)["scores"][0]["within"] == "all samples"
    other = manifest.parents[1] / "uniform_random@0.25" / "0"
    assert type_in("diff", str(manifest), str(other))[0] == 1
    folder = Path(os.environ["SECATEUR_HOME"]) / "assets" / "blobs"
    scores, other = folder / "scores" / "el2n.npy", folder / "trained_model" / "uniform_random@0.25" / "0"
    model = folder / "trained_model" / "hardest@0.25" / "0" / "model.safetensors"
    shared = [path.stat().st_mtime_ns for path in (scores, other)]
    weights, made_at = model.read_bytes(), model.stat().st_mtime_ns
    words = ("--selection", "hardest", "--seed", "0", "--again", "--json")
    selected, whole, anew = (
        json.loads(secateur_here(*given).stdout)
        for given in (("select", str(path), "--json"), ("run", str(path), "--json"), ("run", str(path), *words))
    )
    # Results of `run` are fresh, for itself and for the commands that make a part.
    assert selected["made"] == 0
    assert whole["made"] == 0
    assert set(whole) == SHAPE
    assert [(one["selection"], one["seed"]) for one in whole["trials"]] == [
        (trial.selection, trial.seed) for trial in write_study(seeds=2, keep=0.25).study.trials
    ]
    assert whole["report"]["verdict"]
    # Named trials are made anew, but nothing that they share with others.
    assert set(anew) == SHAPE
    assert anew["report"] is None
    assert anew["made"] == 4
    assert model.stat().st_mtime_ns > made_at
    assert model.read_bytes() == weights
    assert [path.stat().st_mtime_ns for path in (scores, other)] == shared
    [one] = anew["trials"]
    assert one["metrics"] == next(
        other["metrics"] for other in whole["trials"] if (other["selection"], other["seed"]) == ("hardest@0.25", 0)
    )


def test_settings_that_leave_no_room_are_one_sentence(write_study: WriteStudy) -> None:
    cut = {"coverage_centric": {"score": "aum", "cutoff": 0.9}}
    done = secateur_here("select", str(write_study(keep=0.5, seeds=1, selections=cut).path))
    assert done.returncode == 2, done.stderr
    assert "lower keep, or change the settings" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run", "digit"], "there is no study 'digit'; did you mean 'digits'?"),
        (["run", "no/such.yaml"], "no/such.yaml: not readable"),
        (["score", "digits_search"], "is of kind 'search' and selects no samples: use secateur run digits_search"),
        (["select", "digits_pdp"], "is of kind 'pruning' and selects no samples: use secateur run digits_pdp"),
        (["run", "digits_search", "--selection", "randon"], "no selection 'randon'; did you mean 'random'?"),
        (["run", "digits_search", "--keep", "7"], "has no keep '7'"),
        (["select", "digits", "--selection", "hardes"], "no selection 'hardes'; did you mean 'hardest'?"),
        (["select", "digits", "--keep", "0.7"], "has no keep '0.7'; did you mean '0.3'? there are: 0.1, 0.3"),
        (["run", "digits", "--seed", "9"], "has no seed '9'"),
        (["verify", "nowhere"], "there is no manifest at nowhere"),
        (["export", "nowhere", "--to", "indices"], "nowhere"),
        (["diff", "nowhere", "nowhere"], "nowhere"),
        (["explain", "nowhere", "1"], "nowhere"),
        (["explain", "nowhere", "one.csv:1"], "nowhere"),
        (["init", "nowhere.csv"], "there is no file or folder 'nowhere.csv'"),
        (["scor", "digits"], "No such command 'scor'"),
        (["score"], "Missing argument 'STUDY|DATA'"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(words: Sequence[str], said: str, type_in: TypeIn) -> None:
    code, seen, errors = type_in(*words)
    assert code == 2
    assert said in " ".join(errors.replace("│", " ").split())
    assert "Traceback" not in errors
    assert seen == ""


def test_brackets_in_a_message_are_not_taken_for_markup(type_in: TypeIn) -> None:
    code, _, errors = type_in("verify", "folder[bold]of[/]mine")
    assert code == 2
    assert "folder[bold]of[/]mine" in errors


def test_a_failure_of_ours_ends_with_3_and_a_traceback(type_in: TypeIn, monkeypatch: pytest.MonkeyPatch) -> None:
    from secateur.pipelines.studies import folders

    def broken(folder: Path) -> list[Path]:
        raise RuntimeError("a bug")

    monkeypatch.setattr(folders, "files_in", broken)
    code, _, errors = type_in("studies")
    assert code == 3
    assert "Traceback" in errors
    assert "a bug" in errors


def test_studies_are_listed_broken_ones_with_their_reason(type_in: TypeIn) -> None:
    folder = Path(os.environ["SECATEUR_STUDIES"])
    folder.mkdir()
    (folder / "mine.yaml").write_text("name: [")
    code, seen, _ = type_in("studies")
    assert code == 0
    for word in ("digits", "mine", "broken"):
        assert word in seen
    listed = json.loads(type_in("studies", "--json")[1])["studies"]
    kinds = {one["name"]: one["kind"] for one in listed}
    assert (kinds["digits"], kinds["mine"], kinds["digits_search"]) == ("samples", "broken", "search")


def test_trials_that_are_asked_for(write_study: WriteStudy) -> None:
    study = write_study(seeds=3).study
    assert study is not None
    assert trials_of(study, None, None, None) == list(study.trials)
    assert trials_of(study, ["hardest"], ["60"], [2]) == [Trial("hardest@60", 2)]
    assert {trial.selection for trial in trials_of(study, ["full"], None, None)} == {"full"}
    assert {trial.name for trial in trials_of(study, None, ["0.25"], [0])} == set(study.selections)


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_blocks_are_ranges_that_hold_just_the_trials(data: st.DataObject) -> None:
    names, seeds = [f"s{number}@0.1" for number in range(5)], range(6)

    every = [Trial(name, seed) for name in names for seed in seeds]
    trials = data.draw(st.lists(st.sampled_from(every), unique=True))
    found = list(blocks(trials, names))
    assert sorted(trial for block in found for trial in block) == sorted(trials)
    for block in found:
        first, last = block[0], block[-1]
        rows = names[names.index(first.selection) : names.index(last.selection) + 1]
        assert sorted(block) == sorted(Trial(name, seed) for name in rows for seed in range(first.seed, last.seed + 1))


def test_a_dry_run_counts_trainings_measures_and_makes_nothing(write_study: WriteStudy, type_in: TypeIn) -> None:
    study, home = write_study(seeds=2, keep=0.25), Path(os.environ["SECATEUR_HOME"])
    assert study.study is not None
    code, seen, errors = type_in("run", str(study.path), "--dry-run", "--json")
    assert code == 0, errors
    before, trials = json.loads(seen), len(list(study.study.trials))
    assert before["trainings"][0] == {"of": "trials", "to_make": trials, "made": 0}
    assert {"of": "proxy", "to_make": 1, "made": 0} in before["trainings"]
    assert before["seconds"] > 0
    assert "cut short" in before["seconds_by"]
    assert before["memory_bytes"] == sum(before["memory"].values()) > 1e8
    assert not (home / "assets" / "blobs").exists()
    done = secateur_here("run", str(study.path), "--json")
    assert done.returncode == 0, done.stderr
    stages = [line.partition(" ")[2] for line in done.stderr.splitlines()]
    wanted = ["loading libraries", "reading the data", "training the proxy", "comparing and drawing the report"]
    assert [stage for stage in stages if stage in wanted] == wanted, "a log says each stage as it begins"
    files = {path: path.read_bytes() for path in (home / "assets" / "blobs").rglob("*") if path.is_file()}
    assert before["assets"]["to_make"] == json.loads(done.stdout)["made"]
    after = json.loads(type_in("run", str(study.path), "--dry-run", "--json")[1])
    assert after["trainings"][0] == {"of": "trials", "to_make": 0, "made": trials}
    assert (after["seconds"], after["assets"]["to_make"]) == (0, 0)
    assert f"made before ({trials})" in after["seconds_by"]
    some = json.loads(type_in("run", str(study.path), "--dry-run", "--again", "--seed", "1", "--json")[1])
    assert some["trainings"][0]["to_make"] == trials // 2
    assert files == {path: path.read_bytes() for path in (home / "assets" / "blobs").rglob("*") if path.is_file()}
