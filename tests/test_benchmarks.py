"""The long benchmarks run from end to end on a few images, so that the machine that has the time finds them whole."""

import json
import sys
from pathlib import Path

import datasets
import numpy as np
import pytest
from PIL import Image

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
    page.write_text(f"before\n<!-- {marker} -->\nwhat was there\n<!-- end of {marker} -->\nafter\n")
    rs2_against_static.main(
        ["--data", str(pictures), "--epochs", "3", "--seeds", "2", "--write", str(page), "--json", str(file)]
    )
    text = page.read_text()
    assert text.startswith("before\n")
    assert "what was there" not in text
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
def phrases(monkeypatch, tmp_path):
    """Phrases of two kinds under the folder of data, and the folder of a random Llama that knows their words."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    words = ["[UNK]", "good", "bad", "film", "It", "was", "great", "terrible"]
    model = Tokenizer(models.WordLevel({word: place for place, word in enumerate(words)}, unk_token="[UNK]"))
    model.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=model, unk_token="[UNK]")
    tokenizer.save_pretrained(tmp_path / "model")
    shape = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
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
