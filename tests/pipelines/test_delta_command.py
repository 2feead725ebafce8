"""`secateur deltas`: arguments, output, and one sentence for each mistake."""

import json
import os
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from secateur.pipelines.commands import main as cli
from secateur.trainers.passes.layer_inputs import layer_inputs, save_inputs


@pytest.fixture
def type_in(monkeypatch, capsys):
    """Run `secateur WORDS` as the entry point does; gives exit code, stdout and stderr."""

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["secateur", *map(str, words)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            cli.main()
        seen = capsys.readouterr()
        return int(left.value.code or 0), seen.out, seen.err

    return run


@pytest.fixture
def models(tmp_path):
    """Files of a network before and after fine-tuning, with the inputs of its layers."""
    network = torch.nn.Sequential(torch.nn.Linear(8, 6), torch.nn.ReLU(), torch.nn.Linear(6, 3))
    generator = torch.Generator().manual_seed(0)
    base = {name: torch.randn(each.shape, generator=generator) for name, each in network.state_dict().items()}
    tuned = {name: each + 0.1 * torch.randn(each.shape, generator=generator) for name, each in base.items()}
    save_file(base, tmp_path / "base.safetensors")
    save_file(tuned, tmp_path / "tuned.safetensors")
    network.load_state_dict(base)
    rows = torch.rand((20, 8), generator=generator)
    save_inputs(layer_inputs(network, lambda model, batch: model(batch), [rows]), tmp_path / "inputs.safetensors")
    return tmp_path / "base.safetensors", tmp_path / "tuned.safetensors", tmp_path


def test_a_pruned_checkpoint_is_written_and_told_of(models, type_in):
    base, tuned, folder = models
    out = folder / "out"
    code, told, errors = type_in("deltas", base, tuned, "--keep", "0.25", "-o", out, "--json")
    assert code == 0, errors
    answer = json.loads(told)
    assert answer["path"] == str(out)
    assert answer["kept"] == int(0.25 * answer["of"] + 0.5)
    before, after = load_file(base), load_file(out / "tuned.safetensors")
    changed = sum(int((before[name] != after[name]).sum()) for name in before)
    assert changed == answer["kept"]
    assert answer["tensors"]["0.weight"] == {"entries": 48, "kept": 12, "q": pytest.approx(0.25)}
    code, told, _ = type_in("deltas", base, tuned, "--keep", "0.25", "-o", out, "--overwrite", "--seed", "1")
    assert code == 0
    assert "entries of 4 tensors kept" in told
    assert "0.weight" in told


def test_rescaling_and_scores_that_need_inputs(models, type_in):
    base, tuned, folder = models
    given = ("--inputs", folder / "inputs.safetensors", "--json")
    for number, words in enumerate(
        [
            ("--rescale", "moments"),
            ("--rescale", "bound", "--eta", "0.5"),
            ("--rescale", "least_bound", "--eta", "3"),
            ("--by", "wanda", "--only", "*.weight"),
        ]
    ):
        code, told, errors = type_in(
            "deltas", base, tuned, "--keep", "0.2", "-o", folder / f"out{number}", *words, *given
        )
        assert code == 0, errors
        q = {name: each["q"] for name, each in json.loads(told)["tensors"].items()}
        assert set(q.values()) == {1.0} if "wanda" in words else len(set(q.values())) > 1


JUDGE = """
from safetensors.torch import load_file

def nearness(folder):
    base, pruned = load_file(BASE), load_file(folder / "tuned.safetensors")
    return -abs(float(sum((pruned[name] - base[name]).abs().sum() for name in base)) - 3)
"""


def test_a_q_is_found_by_a_function_of_the_users(models, type_in, monkeypatch):
    base, tuned, folder = models
    (folder / "judge_of_q.py").write_text(JUDGE.replace("BASE", repr(str(base))))
    monkeypatch.chdir(folder)
    given = ("--keep", "0.25", "--rescale", "search", "--score", "judge_of_q:nearness", "--draws", "2")
    code, told, errors = type_in("deltas", base, tuned, *given, "-o", "out", "--json")
    assert code == 0, errors
    found = json.loads(told)["search"]
    assert {each["q"] for each in json.loads(told)["tensors"].values()} != {found["q"]}  # q follows the rounded counts
    assert found["q"] == max(found["tried"], key=lambda pair: pair[1])[0]
    assert (found["score"], found["draws"]) == ("judge_of_q:nearness", 2)
    code, told, _ = type_in("deltas", base, tuned, *given, "-o", "out", "--overwrite")
    assert code == 0
    assert f"q = {found['q']:.4g}, the best of {len(found['tried'])} values by judge_of_q:nearness" in told
    assert type_in("verify", "out")[0] == 0
    assert type_in("apply", "out", base, "--tuned", tuned, "-o", "again")[0] == 0
    assert (folder / "again" / "tuned.safetensors").read_bytes() == (folder / "out" / "tuned.safetensors").read_bytes()


STOPPED = """
tried = []

def nearness(folder):
    tried.append(folder)
    if len(tried) == 3:
        raise KeyboardInterrupt
    return len(tried)
"""


def test_an_interrupted_search_for_q_keeps_what_it_tried(models, type_in, monkeypatch):
    base, tuned, folder = models
    (folder / "stopped_judge.py").write_text(STOPPED)
    monkeypatch.chdir(folder)
    given = ("--keep", "0.25", "--rescale", "search", "--score", "stopped_judge:nearness", "-o", "out")
    code, told, errors = type_in("deltas", base, tuned, *given)
    assert (code, told) == (130, "")
    assert errors == "error: interrupted; results stay: the same command again makes the rest\n"
    assert len(json.loads((folder / "out.tried.json").read_text())["values"]) == 2


def test_an_interrupted_pruning_without_a_search_keeps_nothing(models, type_in, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    base, tuned, folder = models
    monkeypatch.setattr("secateur.pipelines.manifests.deltas.write_pruned", interrupt)
    code, told, errors = type_in("deltas", base, tuned, "--keep", "0.25", "-o", folder / "out")
    assert (code, told) == (130, "")
    assert errors == "error: interrupted; the same command again starts from the beginning\n"
    assert [path.name for path in folder.glob("*out*")] == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--keep", "2"], "within (0, 1]"),
        (["--keep", "0.1", "--rescale", "least_bound"], "needs eta"),
        (["--keep", "0.1", "--rescale", "search"], "module:function (--score)"),
        (["--keep", "0.1", "--score", "json:dumps"], "--rescale search"),
        (["--keep", "0.1", "--rescale", "search", "--score", "nowhere:f"], "'nowhere:f' cannot be imported"),
        (["--keep", "0.1", "--by", "magnitud"], "did you mean 'magnitude'"),
        (["--keep", "0.1", "--rescale", "much"], "give a number or one of dare"),
        (["--keep", "0.1", "--rescale", "moments"], "--inputs"),
        (["--keep", "0.1", "--leave", "nothing"], "is called 'nothing'"),
        (["--keep", "0.1", "--factors"], "adapter_config.json"),
    ],
)
def test_a_mistake_is_one_sentence(models, type_in, words, message):
    base, tuned, folder = models
    code, told, errors = type_in("deltas", base, tuned, "-o", folder / "out", *words)
    assert (code, told) == (2, "")
    assert message in " ".join(errors.split())
    assert not (folder / "out").exists()


def test_a_folder_that_stands_there_is_kept(models, type_in):
    base, tuned, folder = models
    code, _, errors = type_in("deltas", base, tuned, "--keep", "0.5", "-o", folder)
    assert code == 2
    assert "exists already: name another path, or replace it with --overwrite (in Python overwrite=True)" in " ".join(
        errors.split()
    )
    assert base.exists()


def test_a_folder_that_cannot_be_written_is_refused_before_a_search(models, type_in, monkeypatch):
    base, tuned, _ = models
    monkeypatch.setattr("secateur.pipelines.manifests.deltas.Scored", lambda *_: pytest.fail("tensors were read"))
    for overwrite in ([], ["--overwrite"]):
        code, _, errors = type_in("deltas", base, tuned, "--keep", "0.5", "-o", base / "out", *overwrite)
        assert code == 2
        assert f"{base} is no folder; name another path" in " ".join(errors.split())


def test_help_loads_no_torch():
    code = (
        "import sys; from secateur.pipelines.commands import main as cli\n"
        "try: cli.app(['deltas', '--help'])\nexcept SystemExit: pass\n"
        "sys.exit('loaded torch' if 'torch' in sys.modules else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=os.environ | {"COLUMNS": "80"}
    )
    assert done.returncode == 0, done.stderr
    assert "--rescale" in done.stdout
