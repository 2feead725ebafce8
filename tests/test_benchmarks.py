"""The long benchmarks run from end to end on a few images, so that the machine that has the time finds them whole."""

import io
import json
import sys
from pathlib import Path

import datasets
import numpy as np
import polars as pl
import pytest
from PIL import Image

from secateur.pipelines.studies.files import load_study

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def benchmarks(monkeypatch):
    """The scripts' folder where it is when one of them is run; what they import of each other is forgotten after."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    yield
    for name in set(sys.modules) - before:
        if getattr(sys.modules[name], "__file__", None) and Path(sys.modules[name].__file__).parent == BENCHMARKS:
            del sys.modules[name]


@pytest.fixture
def pictures(tmp_path):
    """A folder of small colour images whose brightness tells their class."""
    random = np.random.default_rng(0)
    names = datasets.ClassLabel(names=["dark", "grey", "light"])
    for split, count in (("train", 300), ("test", 60)):
        labels = np.arange(count) % 3
        pixels = random.integers(0, 60, (count, 12, 12, 3)) + 80 * labels[:, None, None, None]
        images = [Image.fromarray(each.astype(np.uint8)) for each in pixels]
        features = datasets.Features({"image": datasets.Image(), "label": names})
        made = datasets.Dataset.from_dict({"image": images, "label": labels}, features=features)
        made.to_parquet(tmp_path / f"{split}.parquet")
    return tmp_path


def test_cifar10_tries_every_selection_at_equal_steps_and_repeats_nothing(benchmarks, pictures, capsys):
    import cifar10

    file = pictures / "runs.json"
    asked = ["--data", str(pictures), "--tiny", "--json", str(file)]
    cifar10.main(asked)
    table = capsys.readouterr().out
    runs = json.loads(file.read_text())["runs"]
    assert len(runs) == 2 * (1 + 5)
    for keep, steps in ((1.0, 8), (0.3, 4)):
        here = [run for run in runs if run["keep"] == keep]
        assert {run["steps"] for run in here} == {steps}
        names = {"everything"} if keep == 1 else {"random", "coverage_centric", "rs2", "info_batch", "seta"}
        assert {run["selection"] for run in here} == names
        assert all(f"| {keep:g} | {name} |" in table for name in names)
    assert all(0 <= run["accuracy"] <= 1 for run in runs)
    assert {run["selection"] for run in runs if run["scoring_seconds"] > 0} == {"coverage_centric"}
    cifar10.main(asked)
    again = capsys.readouterr().out
    assert "seed 0" not in again
    assert again.partition("\n\n")[2] == table.partition("\n\n")[2]
    with pytest.raises(SystemExit, match="of another epochs"):
        cifar10.main([*asked[:2], "--cpu", "--rows", "120", "--batch-size", "32", "--epochs", "3", *asked[3:]])


def test_a_whole_study_is_measured_by_stage_beside_a_script_and_nothing_is_run_twice(benchmarks, tmp_path, capsys):
    import scale
    from at_scale import drawn

    file = tmp_path / "scale.json"
    asked = ["tables", "300", "--tiny", "--json", str(file), "--work", str(tmp_path)]
    scale.main(asked)
    printed = capsys.readouterr().out
    runs = json.loads(file.read_text())["runs"]
    assert list(runs) == ["tables 300 secateur", "tables 300 by hand"]
    assert [path.name for path in tmp_path.iterdir()] == ["scale.json"]
    ours, theirs = runs.values()
    for run in (ours, theirs):
        stages = run["stages"]
        told = {"data", "proxy training", "selection", "training", "evaluation", "manifests", "report", "imports"}
        assert told <= set(stages)
        assert sum(stage["processor"] for stage in stages.values()) == pytest.approx(run["processor"])
        assert sum(stage["wall"] for stage in stages.values()) == pytest.approx(run["wall"])
        assert 50e6 < drawn.peak_of(run) < run["whole"] < 2e9
        assert sum(drawn.outside(run)) == pytest.approx(run["processor"])
    # Of the rows 20 float32 and of what is kept row, hash and label are on disk at least.
    assert ours["disk"]["data"] > 300 * 80
    assert ours["disk"]["manifests"] > 3 * 135 * 40
    assert {"scores", "selection", "training", "report"} < ours["disk"].keys()
    scale.main(asked)
    again = capsys.readouterr().out
    assert again == printed[printed.index("\n\n### Tables") + 1 :]
    assert "| data | " in again
    assert "At 300 rows the study takes " in again
    held = json.loads(file.read_text())
    held["about"]["torch"] = "1.0"
    file.write_text(json.dumps(held))
    with pytest.raises(SystemExit, match="of another torch: name another file"):
        scale.main(asked)


def test_tables_of_kinds_that_did_not_run_stay_on_the_page(benchmarks, tmp_path, monkeypatch):
    from at_scale import drawn

    stage = {"wall": 2.0, "processor": 1.0, "peak": 3e6}
    run = {"stages": {"data": stage, "training": stage}, "wall": 4.0, "processor": 2.0, "whole": 5e6, "disk": {}}
    page = tmp_path / "page.md"
    page.write_text(f"a\n{drawn.MARKS[0]}### Tables\n\nold tables\n\n### Texts\n\nold texts\n{drawn.MARKS[1]}\nz\n")
    monkeypatch.setattr(drawn, "PAGE", page)
    drawn.write({"texts 10 secateur": run, "pictures 10 secateur": run, "pictures 10 by hand": run}, 100)
    found = drawn.sections_in(page.read_text().partition(drawn.MARKS[1])[0])
    assert list(found) == ["tables", "texts", "pictures"]
    assert found["tables"] == "old tables"
    assert "| data | 1.00 |  | 100,000 |\n" in found["texts"]
    assert found["texts"].endswith("Command: `python benchmarks/scale.py texts 10 --steps 100 --alone`")
    assert "| data | 1.00 |  | 100,000 | 1.00 |\n" in found["pictures"]
    assert found["pictures"].endswith("Command: `python benchmarks/scale.py pictures 10 --steps 100`")
    assert page.read_text().startswith("a\n")
    assert page.read_text().endswith("\nz\n")


def test_stages_have_the_peaks_that_were_seen_in_them_and_exponents_are_of_the_last_two_sizes(benchmarks):
    from at_scale import drawn, watched

    events = [(0.0, 0.0, "a"), (1.0, 0.5, "b"), (3.0, 2.5, "a"), (4.0, 3.0, "")]
    found = watched.by_stage(events, [(0.2, 5), (0.9, 7), (1.5, 20), (3.5, 6), (4.5, 100)])
    assert found == {"a": {"wall": 2.0, "processor": 1.0, "peak": 7}, "b": {"wall": 2.0, "processor": 2.0, "peak": 20}}
    assert drawn.exponent([(10, 1.0), (100, 2.0), (1000, 200.0)]) == "2.00"
    assert drawn.exponent([(10, 0.0), (100, 2.0)]) == ""
    sizes = {"tables 100 secateur": {}, "tables 10 secateur": {}, "texts 10 secateur": {}, "tables 10 by hand": {}}
    assert list(drawn.of_kind(sizes, "tables", "secateur")) == [10, 100]


def test_cifar10_says_what_it_lacks(benchmarks, tmp_path, capsys, monkeypatch):
    import cifar10

    monkeypatch.setattr(cifar10.torch.cuda, "is_available", lambda: False)
    cifar10.main(["--data", str(tmp_path / "nothing")])
    cifar10.main(["--data", str(tmp_path)])
    told = capsys.readouterr().out.splitlines()
    assert told[0].startswith(f"no data at {tmp_path / 'nothing'}")
    assert told[1].startswith("no GPU: --tiny")


def test_rs2_is_set_against_one_random_subset_at_equal_steps(benchmarks, pictures, capsys):
    import rs2_against_static

    page, file = pictures / "page.md", pictures / "runs.json"
    marker = f"rs2 against static, {pictures.name}"
    page.write_text(f"before\n<!-- {marker} -->\nold text\n<!-- end of {marker} -->\nafter\n")
    rs2_against_static.main(
        ["--data", str(pictures), "--epochs", "3", "--seeds", "2", "--write", str(page), "--json", str(file)]
    )
    text = page.read_text()
    assert text.startswith("before\n")
    assert "old text" not in text
    runs = json.loads(file.read_text())["runs"]
    steps = {name: [run["steps"] for run in each] for name, each in runs.items()}
    assert steps == {
        "static random": [3, 3],
        "RS2": [3, 3],
        "everything, same steps": [3, 3],
        "everything, same epochs": [9, 9],
    }
    assert [run["samples_seen"] for run in runs["RS2"]] == [90, 90]
    mean = np.mean([run["accuracy"] for run in runs["RS2"]])
    assert f"| RS2 | {100 * mean:.1f}" in text
    assert "Published for CIFAR-10" in capsys.readouterr().out


@pytest.fixture
def without_pytest(monkeypatch):
    """The CUDA tests are a process of their own: here only how one that skipped everything is told."""
    from on_gpu import checks

    def ended(words, **_):
        report = next(word for word in words if word.startswith("--junitxml=")).partition("=")[2]
        cases = [("one", ""), ("two", "<failure/>"), ("three", "<skipped/>")]
        Path(report).write_text(
            f"<s>{''.join(f'<testcase name={name!r}>{part}</testcase>' for name, part in cases)}</s>"
        )
        assert words[1:3] == ["-m", "pytest"]
        assert any(word.endswith("test_loop.py") for word in words)

    monkeypatch.setattr(checks.subprocess, "run", ended)


def test_the_script_for_a_gpu_runs_each_step_writes_one_table_and_repeats_nothing(
    benchmarks, without_pytest, tmp_path, capsys
):
    import gpu

    file = tmp_path / "gpu.json"
    assert gpu.main(["--tiny", "--json", str(file)]) == 1  # a test failed
    printed, held = capsys.readouterr().out, json.loads(file.read_text())
    assert list(held["steps"]) == [*gpu.STEPS, "ResNet-18"]
    rows = [each for step in held["steps"].values() for each in step["rows"]]
    tests, *others = rows
    assert (tests["measured"], tests["result"]) == ("1 passed, 1 skipped, 1 failed: two", "**failed**")
    assert not [each for each in others if each["result"] not in ("passed", "")]
    assert sum(each["result"] == "passed" for each in others) == 7
    arms = [each["what"] for each in rows if each["what"].startswith("ResNet-18 on CIFAR-10, ")]
    assert [name.partition(", ")[2] for name in arms] == ["everything", "random", "CCS", "RS2", "RS2 + KD"]
    runs = held["trainings"]["runs"]
    assert {name: (run["kept"], run["steps"]) for name, run in runs.items()} == {
        "everything": (120, 8), "random": (12, 2), "CCS": (12, 2), "RS2": (12, 2), "RS2 + KD": (12, 2)
    }  # fmt: skip
    assert [name for name, run in runs.items() if run["scoring_seconds"]] == ["CCS"]
    page = file.with_suffix(".md").read_text()
    assert page.count("| what | measured | result |") == 1
    assert all(f"| {each['what']} |" in page for each in rows)
    assert page.strip() in printed
    assert not file.with_suffix(".trainings").exists()

    del held["trainings"]["runs"]["RS2"]
    held["steps"]["ResNet-18"]["rows"][0]["result"] = "**failed**"
    file.write_text(json.dumps(held))
    assert gpu.main(["--tiny", "--json", str(file)]) == 1
    again = capsys.readouterr().out
    assert "ResNet-18, RS2: " in again
    assert "ResNet-18, random: " not in again
    assert "observers under" not in again.partition("| what")[0]
    held["about"]["torch"] = "1.0"
    file.write_text(json.dumps(held))
    with pytest.raises(SystemExit, match="of another torch: name another file"):
        gpu.main(["--tiny", "--json", str(file)])


def test_the_script_for_a_gpu_says_what_it_lacks_and_goes_on_after_an_error(benchmarks, tmp_path, capsys, monkeypatch):
    import gpu
    from on_gpu import trainings
    from on_gpu.state import State, circumstances

    monkeypatch.setattr(gpu.torch.cuda, "is_available", lambda: False)
    assert gpu.main(["--json", str(tmp_path / "gpu.json")]) == 0
    assert capsys.readouterr().out.startswith("no GPU: --tiny")
    assert not list(tmp_path.iterdir())
    state = State.of(tmp_path / "gpu.json", circumstances(tiny=False, data=tmp_path))
    asked = gpu.arguments_of(["--data", str(tmp_path / "nothing")])
    [row] = trainings.resnet(asked, state, 100.0)
    assert row["result"] == "not run"
    assert "name a folder with --data" in row["measured"]

    def broken():
        raise RuntimeError("called\na synchronizing CUDA operation")

    gpu.ran("observers", broken, state)
    assert state.rows[0]["measured"] == "RuntimeError: called a synchronizing CUDA operation"
    assert not state.done("observers")


def test_as_many_epochs_run_on_a_gpu_as_fit(benchmarks):
    from on_gpu.trainings import epochs_that_fit

    epochs, proxy = epochs_that_fit(360, 12_000, 50_000)
    seen = 50_000 * (epochs + proxy + 0.1 * epochs * 4.4)
    assert 0.85 * 360 < seen / 12_000 <= 0.9 * 360
    assert proxy == 10
    assert epochs_that_fit(1, 1_000, 50_000) == (0, 0)
    assert epochs_that_fit(1e9, 1_000, 50_000)[0] == 200


@pytest.fixture
def phrases(monkeypatch, tmp_path):
    """Phrases of two kinds under the folder of data, and the folder of a random Llama that knows their words."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    words = ["[UNK]", "good", "bad", "film", "It", "was", "great", "terrible"]
    model = Tokenizer(models.WordLevel({word: place for place, word in enumerate(words)}, unk_token="[UNK]"))
    model.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=model, unk_token="[UNK]")
    tokenizer.save_pretrained(tmp_path / "model")
    shape = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    torch.manual_seed(0)  # else the weights follow from the tests before
    LlamaForCausalLM(LlamaConfig(vocab_size=len(words), **shape)).save_pretrained(tmp_path / "model")
    for part, count in (("train", 60), ("validation", 30)):
        labels = np.arange(count) % 2
        rows = {"text": [f"{('bad', 'good')[label]} film" for label in labels], "label": labels}
        (tmp_path / "sst2_glue").mkdir(exist_ok=True)
        datasets.Dataset.from_dict(rows).to_parquet(tmp_path / "sst2_glue" / f"{part}.parquet")
    monkeypatch.setenv("SECATEUR_DATA", str(tmp_path))
    monkeypatch.setenv("SECATEUR_LANGUAGE_MODEL", str(tmp_path / "model"))
    return tmp_path


def test_a_fine_tuned_model_is_pruned_by_every_arm_and_nothing_is_done_twice(benchmarks, phrases, capsys, monkeypatch):
    import language_deltas as script

    sizes = {"STEPS": 6, "BATCH": 4, "RATE": 0.05, "TEST": 20, "VALIDATION": 10, "RECORDED": 4, "EVERY": 4}
    for name, value in (sizes | {"WORK": phrases / "work"}).items():
        monkeypatch.setattr(script, name, value)
    asked = ["--seeds", "2", "--keep", "0.5"]
    script.main(asked)
    told = capsys.readouterr()
    known = json.loads((phrases / "work" / "results.json").read_text())
    assert known["whole: fine-tuned"]["accuracy"] == 1.0
    for arm in (*script.ARMS, script.SEARCHED, script.PULLED):
        assert f"| {arm} | 0.5 | " in told.out
        one = known[f"{arm}@0.5#0"]
        assert one["kept"] == pytest.approx(one["of"] / 2, rel=0.01)
    divided, whole = known["random, divided by the share (DARE)@0.5#0"], known["random, not divided@0.5#0"]
    assert (divided["q"], whole["q"]) == (pytest.approx(0.5, rel=0.05), 1.0)
    assert "step 6 of 6" in told.err
    script.main(asked)
    again = capsys.readouterr()
    assert again.out == told.out
    assert not again.err
    monkeypatch.setattr(script, "BASE", phrases / "nowhere")
    script.main(asked)
    assert "SKIPPED, no language model" in capsys.readouterr().out


def test_every_claim_has_studies_with_its_arms_and_metrics_and_a_place_on_its_page(benchmarks):
    import claims

    from secateur.pipelines.studies.files import find_study

    listed = {name for claim in claims.CLAIMS.values() for name in claim.studies.values()}
    assert listed == {path.stem for path in claims.STUDIES.glob("*.yaml") if "kind: pruning" in path.read_text()}
    for name, claim in claims.CLAIMS.items():
        page = (claims.ROOT / claim.page).read_text()
        assert page.count(f"<!-- claim: {name} -->") == page.count(f"<!-- end of claim: {name} -->") == 1
        assert f"python benchmarks/claims.py {name}" in page
        for each in claim.studies.values():
            told = find_study(str(claims.STUDIES / f"{each}.yaml")).study
            assert set(claim.metrics) <= {metric.name for metric in told.metrics}
            assert {*claim.against, *claim.against.values()} <= {*told.arms}


def test_a_claim_is_measured_by_its_studies_and_its_table_written_between_the_markers(
    benchmarks, tmp_path, monkeypatch, capsys
):
    import claims
    from scipy import stats

    study = {
        "kind": "pruning", "name": "small_tickets", "experiment": "weight_refits", "seeds": 2,
        "settings": {"width": 8, "epochs": 2, "batch_size": 256},
        "arms": ["random", "ticket", "ticket_redrawn"], "keep": [0.5],
    }  # fmt: skip
    (tmp_path / "small_tickets.yaml").write_text(json.dumps(study))
    claim = claims.Claim("page.md", {"": "small_tickets"}, ["accuracy"], {"ticket": "ticket_redrawn"})
    for name, value in {"ROOT": tmp_path, "STUDIES": tmp_path, "CLAIMS": {"small": claim}}.items():
        monkeypatch.setattr(claims, name, value)
    monkeypatch.setenv("SECATEUR_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- claim: small -->\n<!-- end of claim: small -->\nafter\n")
    claims.main(["small", "--write"])
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")

    def found(arm):
        place = tmp_path / "home" / "assets" / "small_tickets" / "pruned" / f"{arm}@0.5"
        return [100 * json.loads(path.read_text())["metrics"]["accuracy"] for path in sorted(place.glob("*.json"))]

    ticket, other = found("ticket"), found("ticket_redrawn")
    assert len(ticket) == 2
    change, p_value = np.mean(np.subtract(ticket, other)), stats.ttest_rel(ticket, other).pvalue
    line = next(line for line in text.splitlines() if line.startswith("| 0.5 | ticket |"))
    assert f"| {np.mean(ticket):.1f} ± " in line
    assert f"{change:+.1f} (p {p_value:.2g}), ticket_redrawn |" in line
    assert "| 1 | dense |" in text
    made = sorted((path, path.stat().st_mtime_ns) for path in (tmp_path / "home" / "assets").rglob("pruned/*/*.json"))
    capsys.readouterr()
    claims.main(["small"])
    assert capsys.readouterr().out.strip() in text
    assert made == sorted(
        (path, path.stat().st_mtime_ns) for path in (tmp_path / "home" / "assets").rglob("pruned/*/*.json")
    )
    with pytest.raises(SystemExit):
        claims.main(["large"])
    assert "no claim is called 'large'; there are small" in capsys.readouterr().err


def test_pictures_that_are_no_clothes_are_grey_and_of_their_size(benchmarks, real_data, tmp_path, monkeypatch):
    if not all((real_data / name).is_dir() for name in ("fashion_mnist", "cifar10")):
        pytest.skip(f"no fashion_mnist and cifar10 at {real_data}: set SECATEUR_DATA to run this test")
    import claims

    for name, value in {"DATA": real_data, "TRAINED_ON": 50, "TESTED_ON": 30, "STRANGERS": 20}.items():
        monkeypatch.setattr(claims, name, value)
    claims.write_fashion(tmp_path / "new" / "fashion.npz")
    from secateur.trainers.experiments.pruning_data import split_of, strangers_in

    train, test = split_of(str(tmp_path / "new" / "fashion.npz"))
    assert (train.inputs.shape, test.inputs.shape, train.inputs.dtype) == ((50, 28, 28, 1), (30, 28, 28, 1), np.uint8)
    found = strangers_in(str(tmp_path / "new" / "fashion.npz"), ["cifar10", "digits", "noise"], test)
    assert {name: len(values) for name, values in found.items()} == {"cifar10": 20, "digits": 1797, "noise": 20}
    stored = pl.read_parquet(real_data / "cifar10" / "test.parquet", n_rows=1)["image"][0]["bytes"]
    small = np.asarray(Image.open(io.BytesIO(stored)).convert("L").resize((28, 28), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(found["cifar10"][0, ..., 0], small)
    assert found["digits"].max() == 255


def test_the_grid_of_teachers_goes_on_and_tabulates_whole_seeds(benchmarks, pictures, capsys, monkeypatch):
    import distillation_grid as grid

    for name, value in {"ALPHAS": (0.5, 1.0), "KEEPS": (0.3,), "WIDTHS": (4, 16), "STEPS": 4}.items():
        monkeypatch.setattr(grid, name, value)
    runs, page = pictures / "runs.jsonl", pictures / "page.md"
    page.write_text("<!-- weight, width and share -->\n<!-- end of weight, width and share -->\n")
    asked = ["--runs", str(runs), "--data", str(pictures), "--rows", "60", "--write", str(page)]
    grid.main([*asked, "--seeds", "1", "--minutes", "0"])
    assert "0 of 22 trainings of the first seed" in capsys.readouterr().out
    grid.main([*asked, "--seeds", "2"])
    first, *lines = runs.read_text().splitlines()
    assert len(lines) == 2 * 22
    table = page.read_text()
    assert all(table.count(f"| {name} |") == 2 for name in ["random", *grid.CLEVER])
    plain = [json.loads(line)[5] for line in lines if json.loads(line)[:4] == ["random", 0.2, 0.3, 0.0]]
    taught = [json.loads(line)[5] for line in lines if json.loads(line)[:4] == ["teacher 4", 0.2, 0.3, 0.5]]
    change = f"{100 * (np.mean(taught) - np.mean(plain)):+.1f}".replace("-0.0", "0.0")
    assert f"| random, teacher of width 4, alpha 0.5 | {change} ± " in table
    runs.write_text("\n".join([first, *lines[:-1]]) + '\n["teacher 16", 0.2')
    grid.main([*asked, "--seeds", "2"])
    assert runs.read_text().splitlines()[:-1] == [first, *lines[:-1]]
    assert json.loads(runs.read_text().splitlines()[-1]) == json.loads(lines[-1]), "the same training, the same number"
    assert page.read_text() == table
    monkeypatch.setattr(grid, "STEPS", 5)
    with pytest.raises(SystemExit, match=r"trainings of \{.*4\}, not of"):
        grid.main([*asked, "--seeds", "2"])


@pytest.mark.parametrize("name", ["scores", "curves", "target", "gradients"])
def test_memory_of_scoring_completions_is_measured_pass_by_pass(name, benchmarks, tmp_path, capsys, monkeypatch):
    import language_memory as script

    monkeypatch.setattr(script, "QUERIES", 30)
    for rows in (30, 200):
        script.write_samples(tmp_path / f"{rows}.npy", rows)
    learned = (np.load(tmp_path / "200.npy")[:, 1] == 3).sum(1)
    assert set(learned) == set(range(4, 10))
    script.alone(name, tmp_path, 200)
    added, seconds = json.loads(capsys.readouterr().out)
    assert added >= 0
    assert seconds > 0


@pytest.mark.parametrize("path", sorted((BENCHMARKS / "studies").glob("*.yaml")), ids=lambda path: path.stem)
def test_studies_of_the_benchmarks_load(path):
    study = load_study(path)
    assert study.name == path.stem


def test_the_two_proxies_are_compared_in_one_study_but_for_their_length():
    long, short = (load_study(BENCHMARKS / "studies" / f"cifar10_{which}_proxy.yaml") for which in ("long", "short"))
    assert (long.proxy.epochs, short.proxy.epochs) == (30, 5)
    same = {"name": "", "description": "", "proxy": long.proxy}
    assert long.model_copy(update=same) == short.model_copy(update=same)
