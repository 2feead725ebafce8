"""Pruned deltas on disk: against the formula in memory, peft's own, and with faulty checkpoints."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from secateur.pipelines.deltas import stream as delta_stream
from secateur.pipelines.deltas.files import Checkpoint
from secateur.pipelines.deltas.sources import AdapterDelta, FactorDelta, TunedDelta
from secateur.pipelines.deltas.stream import DeltaChoice
from secateur.pipelines.files.whole_files import sha256_of
from secateur.pipelines.manifests.deltas import prune_deltas
from secateur.pipelines.manifests.manifest import Manifest
from secateur.pipelines.storage.packed_masks import write_masks
from secateur.trainers.passes.layer_inputs import LayerInputs

SHAPES = {"a.weight": (20, 31), "a.bias": (20,), "b.weight": (7, 20), "norm.scale": (), "conv": (4, 3, 2, 2)}


def weights(seed, dtype=torch.float32, shapes=SHAPES, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    return {name: (scale * torch.randn(shape, generator=generator)).to(dtype) for name, shape in shapes.items()}


def added(base, delta):
    return {name: (each.float() + delta[name]).to(each.dtype) for name, each in base.items()}


def save_sharded(tensors, folder, count):
    folder.mkdir()
    names = list(tensors)
    placed = {name: f"model-{place % count + 1:05}-of-{count:05}.safetensors" for place, name in enumerate(names)}
    for file in set(placed.values()):
        save_file({name: tensors[name] for name in names if placed[name] == file}, folder / file, {"format": "pt"})
    index = {"metadata": {"total_size": 1}, "weight_map": placed}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "config.json").write_text('{"model_type": "made up"}')
    return folder


def read(folder):
    return {
        name: value
        for file in folder.glob("*.safetensors")
        if file.name != "kept.safetensors"
        for name, value in load_file(file).items()
    }


def masks_of(folder):
    packed_bits = load_file(folder / "kept.safetensors")
    with (folder / "kept.safetensors").open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    shapes = json.loads(header["__metadata__"]["shapes"])
    return {
        name: np.unpackbits(bits.numpy(), count=int(np.prod(shapes[name])), bitorder="little")
        .astype(bool)
        .reshape(shapes[name])
        for name, bits in packed_bits.items()
    }


@pytest.fixture
def pair(tmp_path):
    """Paths of a base and of its fine-tuned model, and both in memory."""
    base = weights(0)
    tuned = added(base, weights(1, scale=0.1))
    save_file(base, tmp_path / "base.safetensors")
    save_file(tuned, tmp_path / "tuned.safetensors")
    return tmp_path / "base.safetensors", tmp_path / "tuned.safetensors", base, tuned


def source_of(base, tuned, **settings):
    return TunedDelta.of(Checkpoint.read(base), Checkpoint.read(tuned), **settings)


CHOICES = [
    DeltaChoice(0.1),
    DeltaChoice(0.3, each=True),
    DeltaChoice(0.1, rescale=0.25, seed=3),
    DeltaChoice(0.2, select="magnitude"),
    DeltaChoice(0.2, select="magnitude", over="all", rescale=0.5),
    DeltaChoice(0.5, select="magnitude", over="row"),
    DeltaChoice(1.0),
]


@pytest.mark.parametrize("choice", CHOICES, ids=lambda choice: f"{choice.select}-{choice.over}-{choice.keep}")
def test_what_is_written_is_base_plus_kept_delta_over_q(pair, tmp_path, monkeypatch, choice):
    monkeypatch.setattr(delta_stream, "ENTRIES", 50)
    base_path, tuned_path, base, tuned = pair
    pruned = prune_deltas(source_of(base_path, tuned_path), tmp_path / "out", choice)
    written, masks = read(tmp_path / "out"), masks_of(tmp_path / "out")
    assert set(masks) == set(base)
    for name in base:
        count = pruned.tensors[name]
        assert masks[name].shape == tuple(base[name].shape)
        assert (count.entries, count.kept) == (masks[name].size, masks[name].sum())
        delta = tuned[name].double().numpy() - base[name].double().numpy()
        expected = base[name].double().numpy() + np.where(masks[name], delta / count.q, 0.0)
        np.testing.assert_allclose(written[name].numpy(), expected, rtol=1e-5, atol=1e-6)
        assert (written[name].numpy()[~masks[name]] == base[name].numpy()[~masks[name]]).all()
        if choice.over == "tensor" and not choice.each:
            assert abs(masks[name].sum() - choice.keep * masks[name].size) < 2
        if choice.select == "magnitude" and choice.over == "tensor":
            dropped = np.abs(delta)[~masks[name]]
            assert not dropped.size or np.abs(delta)[masks[name]].min() >= dropped.max() - 1e-7
        if choice.over == "row" and masks[name].ndim > 1:
            rows = masks[name].reshape(len(masks[name]), -1)
            assert (rows.sum(axis=1) == max(1, int(choice.keep * rows.shape[1] + 0.5))).all()
    if choice.over != "row" and not choice.each:
        assert pruned.kept == int(choice.keep * pruned.of + 0.5)
    if choice.over == "all":
        whole = np.concatenate([np.abs(tuned[name] - base[name]).numpy().ravel() for name in base])
        stays = np.concatenate([masks[name].ravel() for name in base])
        assert stays.sum() == int(choice.keep * len(whole) + 0.5)
        assert whole[stays].min() >= whole[~stays].max()


def test_unbiased_where_a_hundredth_of_a_small_tensor_is_one_entry(tmp_path):
    """The mean over draws is the fine-tuned model, in the smallest tensors too."""
    base = {"w": torch.zeros(10), "scalar": torch.zeros(()), "rest": torch.zeros(500)}
    tuned = {"w": torch.arange(1.0, 11.0), "scalar": torch.tensor(2.0), "rest": torch.ones(500)}
    save_file(base, tmp_path / "b.safetensors")
    save_file(tuned, tmp_path / "t.safetensors")
    source = source_of(tmp_path / "b.safetensors", tmp_path / "t.safetensors")
    total = torch.zeros(10)
    for seed in range(150):
        prune_deltas(source, tmp_path / "out", DeltaChoice(0.01, seed=seed), overwrite=seed > 0)
        written = read(tmp_path / "out")
        assert written["scalar"] == 2
        total += written["w"]
    assert abs(float(total.sum()) / 150 / 55 - 1) < 0.15


def test_masks_depend_on_neither_shards_nor_blocks_nor_the_order_of_tensors(pair, tmp_path, monkeypatch):
    base_path, tuned_path, _, tuned = pair
    for choice in (DeltaChoice(0.1), DeltaChoice(0.1, each=True), DeltaChoice(0.1, select="magnitude", over="all")):
        prune_deltas(source_of(base_path, tuned_path), tmp_path / "one", choice, overwrite=True)
        many = tmp_path / f"many-{choice.select}-{choice.each}"
        save_sharded(dict(reversed(tuned.items())), many, 3)
        with monkeypatch.context() as patch:
            patch.setattr(delta_stream, "ENTRIES", 33)
            out = tmp_path / f"out-{choice.select}-{choice.each}"
            prune_deltas(source_of(base_path, many), out, choice)
        for name, value in read(tmp_path / "one").items():
            assert torch.equal(value, read(out)[name])
        assert {file.name for file in out.iterdir()} == {
            *(file.name for file in many.iterdir()),
            "kept.safetensors",
            "manifest.json",
        }
        index = "model.safetensors.index.json"
        assert (out / index).read_bytes() == (many / index).read_bytes()
        with pytest.raises(ValueError, match=r"holds no adapter_config\.json"):
            AdapterDelta.of(Checkpoint.read(base_path), many)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_types_stay_and_arithmetic_is_finer_than_they_are(tmp_path, dtype):
    base = weights(0, dtype)
    tuned = added(base, weights(1, scale=0.1))
    save_file(base, tmp_path / "b.safetensors")
    save_file(tuned, tmp_path / "t.safetensors")
    pruned = prune_deltas(
        source_of(tmp_path / "b.safetensors", tmp_path / "t.safetensors"), tmp_path / "out", DeltaChoice(0.25)
    )
    written, masks = read(tmp_path / "out"), masks_of(tmp_path / "out")
    for name in base:
        exact = torch.promote_types(dtype, torch.float32)
        delta = tuned[name].to(exact) - base[name].to(exact)
        expected = base[name].to(exact) + torch.from_numpy(masks[name]) * delta / pruned.tensors[name].q
        assert written[name].dtype == dtype
        torch.testing.assert_close(
            written[name], expected.to(dtype), rtol=0, atol=0 if dtype != torch.float64 else 1e-15
        )
    # At keep 1 the fine-tuned model comes back.
    prune_deltas(
        source_of(tmp_path / "b.safetensors", tmp_path / "t.safetensors"), tmp_path / "whole", DeltaChoice(1.0)
    )
    for name, value in read(tmp_path / "whole").items():
        torch.testing.assert_close(value, tuned[name])


def test_the_arithmetic_of_one_draw_is_that_of_peft(pair, tmp_path, monkeypatch):
    """peft draws its own Bernoulli mask; given ours, `dare_linear` gives our delta."""
    from peft.utils import merge_utils

    base_path, tuned_path, base, tuned = pair
    prune_deltas(source_of(base_path, tuned_path), tmp_path / "out", DeltaChoice(0.3, each=True))
    written, masks = read(tmp_path / "out"), masks_of(tmp_path / "out")
    for name in ("a.weight", "a.bias", "b.weight"):
        with monkeypatch.context() as patch:
            patch.setattr(torch, "bernoulli", lambda input, mask=masks[name]: torch.from_numpy(mask).to(input))  # noqa: A006
            delta = merge_utils.dare_linear([tuned[name] - base[name]], torch.ones(1), 0.3)
        torch.testing.assert_close(written[name] - base[name], delta, rtol=1e-4, atol=1e-6)
    by_magnitude = prune_deltas(
        source_of(base_path, tuned_path), tmp_path / "top", DeltaChoice(0.25, select="magnitude")
    )
    for name in ("a.weight", "a.bias", "b.weight"):
        share = by_magnitude.tensors[name].kept / base[name].numel()
        expected = merge_utils.magnitude_based_pruning(tuned[name] - base[name], share)
        torch.testing.assert_close(read(tmp_path / "top")[name] - base[name], expected, rtol=1e-4, atol=1e-6)


def test_draws_are_distributed_as_those_of_peft(tmp_path):
    from peft.utils.merge_utils import random_pruning

    base = {"w": torch.zeros(40_000)}
    tuned = {"w": torch.ones(40_000)}
    save_file(base, tmp_path / "b.safetensors")
    save_file(tuned, tmp_path / "t.safetensors")
    prune_deltas(
        source_of(tmp_path / "b.safetensors", tmp_path / "t.safetensors"), tmp_path / "o", DeltaChoice(0.1, each=True)
    )
    ours = read(tmp_path / "o")["w"]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        theirs = random_pruning(tuned["w"], 0.1, rescale=True)
    for values in (ours, theirs):
        assert abs(float(values.mean()) - 1) < 4 * 3 / 200
        assert set(values.unique().tolist()) == {0.0, 10.0}


@pytest.mark.parametrize("stabilised", [False, True])
def test_an_adapter_at_keep_1_is_what_peft_merges(tmp_path, stabilised):
    from peft import LoraConfig, get_peft_model

    class Small(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = torch.nn.Embedding(11, 6)
            self.layers = torch.nn.ModuleList([torch.nn.Linear(6, 9), torch.nn.Linear(9, 4)])

        def forward(self, tokens):
            return self.layers[1](self.layers[0](self.embed(tokens)).relu())

    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Small()
        save_file(model.state_dict(), tmp_path / "base.safetensors")
        config = LoraConfig(
            r=2,
            lora_alpha=6,
            target_modules=["embed", "layers.0", "layers.1"],
            alpha_pattern={"layers.1": 3},
            use_rslora=stabilised,
            init_lora_weights=False,
        )
        tuned = get_peft_model(model, config)
        tuned.save_pretrained(tmp_path / "adapter")
        merged = tuned.merge_and_unload().state_dict()
    base = Checkpoint.read(tmp_path / "base.safetensors")
    source = AdapterDelta.of(base, tmp_path / "adapter")
    assert set(source.names) == {"embed.weight", "layers.0.weight", "layers.1.weight"}
    prune_deltas(source, tmp_path / "whole", DeltaChoice(1.0))
    written = read(tmp_path / "whole")
    assert set(written) == set(merged)
    for name, value in merged.items():
        torch.testing.assert_close(written[name], value)
    prune_deltas(source, tmp_path / "out", DeltaChoice(0.25))
    before, masks = load_file(tmp_path / "base.safetensors"), masks_of(tmp_path / "out")
    for name in source.names:
        share = masks[name].sum() / masks[name].size
        expected = before[name] + (merged[name] - before[name]) * torch.from_numpy(masks[name]) / share
        torch.testing.assert_close(read(tmp_path / "out")[name], expected.float(), rtol=1e-4, atol=1e-6)
    factors = FactorDelta.of(tmp_path / "adapter")
    prune_deltas(factors, tmp_path / "factors", DeltaChoice(0.5))
    file = "adapter_model.safetensors"
    for name, value in load_file(tmp_path / "adapter" / file).items():
        mask = torch.from_numpy(masks_of(tmp_path / "factors")[name])
        torch.testing.assert_close(
            load_file(tmp_path / "factors" / file)[name], value * mask / (mask.sum() / mask.numel())
        )
    assert (tmp_path / "factors" / "adapter_config.json").is_file()
    for setting, value in (("use_dora", True), ("peft_type", "IA3"), ("modules_to_save", ["head"])):
        path = tmp_path / "adapter" / "adapter_config.json"
        content = path.read_text()
        path.write_text(json.dumps(json.loads(content) | {setting: value}))
        with pytest.raises(ValueError, match=setting if setting != "peft_type" else "IA3"):
            AdapterDelta.of(base, tmp_path / "adapter")
        path.write_text(content)


def test_layers_get_their_own_q_and_their_bias_the_same(pair, tmp_path):
    base_path, tuned_path, base, tuned = pair
    rng = np.random.default_rng(0)
    inputs = {
        name: LayerInputs(rng.normal(0.5, 1, columns), rng.uniform(1, 2, columns))
        for name, columns in (("a.weight", 31), ("b.weight", 20))
    }
    choice = DeltaChoice(0.1, each=True, rescale="moments")
    pruned = prune_deltas(source_of(base_path, tuned_path), tmp_path / "out", choice, inputs=inputs)
    delta = {name: (tuned[name] - base[name]).double().numpy() for name in base}
    joined = np.concatenate([delta["a.weight"] * inputs["a.weight"].means, delta["a.bias"][:, None]], axis=1)
    expected = 0.1 + 0.9 * np.square(joined).sum() / np.square(joined.sum(axis=1)).sum()
    q = {name: each.q for name, each in pruned.tensors.items()}
    assert q["a.weight"] == pytest.approx(expected, rel=1e-5) == q["a.bias"]
    assert q["conv"] == q["norm.scale"] == pytest.approx((q["a.weight"] + q["b.weight"]) / 2)
    bound = DeltaChoice(0.1, rescale="bound", eta=0.5)
    assert prune_deltas(source_of(base_path, tuned_path), tmp_path / "two", bound, inputs=inputs).kept == pruned_count()
    wanda = DeltaChoice(0.2, select="wanda", over="row")
    source = source_of(base_path, tuned_path, only=["*.weight"])
    prune_deltas(source, tmp_path / "three", wanda, inputs=inputs)
    for name, mask in masks_of(tmp_path / "three").items():
        scores = np.abs(delta[name]) * inputs[name].norms
        for row in range(len(scores)):
            assert scores[row][mask[row]].min() >= scores[row][~mask[row]].max() - 1e-6
    assert torch.equal(read(tmp_path / "three")["conv"], tuned["conv"])
    with pytest.raises(ValueError, match=r"wanda needs.*'a\.bias'"):
        prune_deltas(source_of(base_path, tuned_path), tmp_path / "no", wanda, inputs=inputs)
    with pytest.raises(ValueError, match="needs the mean inputs"):
        prune_deltas(source_of(base_path, tuned_path), tmp_path / "no", bound)
    narrow = {"a.weight": LayerInputs(np.ones(3), np.ones(3))}
    with pytest.raises(ValueError, match=r"a\.weight \[3\] and \[20, 31\]"):
        prune_deltas(source_of(base_path, tuned_path), tmp_path / "no", bound, inputs=narrow)


def pruned_count():
    return int(0.1 * sum(int(np.prod(shape)) for shape in SHAPES.values()) + 0.5)


def test_it_is_a_manifest_that_seals_the_checkpoint_too(pair, tmp_path):
    base_path, tuned_path, _, _ = pair
    pruned = prune_deltas(source_of(base_path, tuned_path), tmp_path / "out", DeltaChoice(0.1))
    manifest = Manifest.load(tmp_path / "out")
    assert {name: seal.sha256 for name, seal in manifest.declaration.files.items()} == {
        name: sha256_of(tmp_path / "out" / name) for name in ("kept.safetensors", "tuned.safetensors")
    }
    assert manifest.declaration.count == pruned.kept == pruned_count()
    assert (manifest.provenance.keep, manifest.provenance.settings["select"]) == (0.1, "random")
    masks = masks_of(tmp_path / "out")
    assert list(manifest.kept.groups) == list(masks)
    assert all(np.array_equal(manifest.kept.groups[name], mask) for name, mask in masks.items())
    # Masks have the same packed bytes in memory and streamed.
    write_masks(masks, tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == (tmp_path / "out" / "kept.safetensors").read_bytes()
    prune_deltas(source_of(base_path, tuned_path), tmp_path / "twin", DeltaChoice(0.1))
    for file in (tmp_path / "out").iterdir():
        assert file.read_bytes() == (tmp_path / "twin" / file.name).read_bytes()


def test_tied_weights_that_were_stored_twice_stay_tied(tmp_path):
    base, tuned = weights(0), weights(1)
    for each in (base, tuned):
        each["head"] = each["a.weight"].clone()
    save_file(base, tmp_path / "b.safetensors")
    save_file(tuned, tmp_path / "t.safetensors")
    prune_deltas(source_of(tmp_path / "b.safetensors", tmp_path / "t.safetensors"), tmp_path / "out", DeltaChoice(0.2))
    written = read(tmp_path / "out")
    assert torch.equal(written["head"], written["a.weight"])


def test_what_does_not_pair_up_is_refused_by_name(pair, tmp_path):
    base_path, tuned_path, base, tuned = pair
    save_file({**tuned, "classifier.weight": torch.ones(3, 20)}, tmp_path / "head.safetensors")
    with pytest.raises(ValueError, match=r"base\.safetensors lacks 'classifier\.weight'.*--leave"):
        source_of(base_path, tmp_path / "head.safetensors")
    left = source_of(base_path, tmp_path / "head.safetensors", leave=["classifier*"])
    prune_deltas(left, tmp_path / "out", DeltaChoice(0.1))
    assert torch.equal(read(tmp_path / "out")["classifier.weight"], torch.ones(3, 20))
    with pytest.raises(ValueError, match=r"head\.safetensors lacks|lacks 'classifier\.weight'"):
        source_of(tmp_path / "head.safetensors", tuned_path)
    save_file({**base, "tied": base["a.weight"].clone()}, tmp_path / "tied.safetensors")
    with pytest.raises(ValueError, match=r"lacks 'tied' \(tied to another tensor there: 'tied'\)"):
        source_of(tmp_path / "tied.safetensors", tuned_path)
    save_file({**tuned, "a.bias": torch.ones(21)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match=r"shapes differ: 'a\.bias \[20\] and \[21\]'"):
        source_of(base_path, tmp_path / "other.safetensors")
    save_file({**tuned, "a.bias": torch.ones(20, dtype=torch.float8_e4m3fn)}, tmp_path / "eight.safetensors")
    with pytest.raises(ValueError, match=r"leave out of .*eight\.safetensors, or convert: 'a\.bias'"):
        source_of(base_path, tmp_path / "eight.safetensors")
    with pytest.raises(ValueError, match=r"no tensor of .* is called 'nothing'"):
        source_of(base_path, tuned_path, leave=["nothing"])
    with pytest.raises(ValueError, match="left to prune"):
        source_of(base_path, tuned_path, leave=["*"])


def test_broken_checkpoints_are_refused_and_leave_nothing(pair, tmp_path):
    base_path, tuned_path, _, tuned = pair
    (tmp_path / "cut.safetensors").write_bytes(tuned_path.read_bytes()[:-5])
    with pytest.raises(ValueError, match=r"cut\.safetensors is no whole safetensors file"):
        Checkpoint.read(tmp_path / "cut.safetensors")
    with pytest.raises(ValueError, match="no checkpoint at"):
        Checkpoint.read(tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="one safetensors file or one index of several, it has: none"):
        Checkpoint.read(tmp_path / "empty")
    folder = save_sharded(tuned, tmp_path / "sharded", 2)
    index = folder / "model.safetensors.index.json"
    told = json.loads(index.read_text())
    for change, message in (
        ({"ghost": "model-00001-of-00002.safetensors"}, "do not hold: 'ghost'"),
        ({"a.bias": "model-00009.safetensors"}, "lacks files that .* names"),
        ({"a.bias": "../tuned.safetensors"}, "is no index"),
    ):
        index.write_text(json.dumps({"weight_map": told["weight_map"] | change}))
        with pytest.raises(ValueError, match=message):
            Checkpoint.read(folder)
    broken = {**tuned, "b.weight": tuned["b.weight"].clone()}
    broken["b.weight"][3, 4] = float("nan")
    save_file(broken, tmp_path / "nan.safetensors")
    with pytest.raises(ValueError, match=r"the delta of 'b\.weight' is NaN"):
        prune_deltas(source_of(base_path, tmp_path / "nan.safetensors"), tmp_path / "out", DeltaChoice(0.5))
    half = {name: each.half() for name, each in tuned.items()}
    half["b.weight"][0, 0] = 60_000
    save_file(half, tmp_path / "half.safetensors")
    with pytest.raises(ValueError, match=r"'b\.weight' divided by q = 0\.01 does not fit into torch\.float16"):
        prune_deltas(
            source_of(base_path, tmp_path / "half.safetensors", only=["b.weight"]),
            tmp_path / "out",
            DeltaChoice(0.99, each=True, rescale=0.01),
        )
    assert not (tmp_path / "out").exists()
    assert not [each for each in tmp_path.iterdir() if "partial" in each.name]
    with pytest.raises(FileExistsError, match="exists already"):
        prune_deltas(source_of(base_path, tuned_path), folder, DeltaChoice(0.5))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"keep": 0.0}, "within"),
        ({"keep": 0.5, "over": "row"}, "drawn in each tensor"),
        ({"keep": 0.5, "select": "magnitude", "each": True}, "each by itself"),
        ({"keep": 0.5, "rescale": "bound"}, "needs eta"),
        ({"keep": 0.5, "rescale": 0.0}, "above 0"),
    ],
)
def test_choices_that_cannot_be_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        DeltaChoice(**settings)


MEASURED = """
import sys
from pathlib import Path
from secateur.pipelines.deltas.files import Checkpoint
from secateur.pipelines.deltas.sources import TunedDelta
from secateur.pipelines.deltas.stream import DeltaChoice
from secateur.pipelines.manifests.deltas import prune_deltas
from secateur.scorers.memory import peak_memory
folder, select, over = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
def run(name, out):
    source = TunedDelta.of(Checkpoint.read(folder / f"{name}-base"), Checkpoint.read(folder / f"{name}-tuned"))
    prune_deltas(source, folder / out, DeltaChoice(0.1, select=select, over=over))
run("small", f"{select}-{over}-small")
before = peak_memory()
run("large", f"{select}-{over}-large")
print(peak_memory() - before)
"""


@pytest.mark.parametrize(("select", "over"), [("random", "tensor"), ("magnitude", "all")])
def test_memory_is_that_of_a_few_tensors_however_many_there_are(tmp_path, select, over):
    """12 tensors of 8 MB: with base and result 300 MB lie on the disk; three tensors are 25 MB."""
    size, count = 1 << 21, 12
    for name, entries, tensors in (("small", 1_500_032, 2), ("large", size, count)):
        for part in ("base", "tuned"):
            folder = tmp_path / f"{name}-{part}"
            folder.mkdir()
            placed = {}
            for place in range(tensors):
                file = f"model-{place // 6}.safetensors"
                placed[f"layer.{place}.weight"] = file
            for file in set(placed.values()):
                rng = np.random.default_rng(len(part))
                held = {
                    each: torch.from_numpy(rng.random((64, entries // 64), dtype=np.float32))
                    for each, where in placed.items()
                    if where == file
                }
                save_file(held, folder / file)
            (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": placed}))
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, str(tmp_path), select, over], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) <= 3 * 4 * size + (8 << 20)
    assert (Path(tmp_path) / f"{select}-{over}-large" / "manifest.json").is_file()
