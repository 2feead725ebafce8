"""Networks of images: published sizes, outputs computed by hand, saving and loading, and scorers."""

import json

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from secateur.scorers.checkpoints.contract import forward_with_features
from secateur.scorers.checkpoints.ghost_norms import squared_gradient_norms
from secateur.trainers.augmentation import Augmentation
from secateur.trainers.contract import Data, TrainingConfig
from secateur.trainers.judging.evaluation import outputs_of
from secateur.trainers.loop.train import train
from secateur.trainers.models.registry import build, factory_of, load, save

CPU = torch.device("cpu")
CONVNEXT = {"model_type": "convnext", "num_channels": 3, "depths": [1, 1], "hidden_sizes": [8, 16], "num_stages": 2}
RESNET = TrainingConfig(model="resnet18", model_settings={"width": 16}, steps=4, batch_size=10)
SMALL_VIT = {"patch": 4, "width": 12, "layers": 2, "heads": 2}
VIT = TrainingConfig(model="vit", model_settings=SMALL_VIT, steps=4, batch_size=10)
BY_CONFIG = TrainingConfig(model="image_encoder", model_settings={"config": CONVNEXT}, steps=4, batch_size=10)


def images(samples=20, height=8, width=8, channels=3):
    random = np.random.default_rng(0)
    inputs = random.integers(0, 256, (samples, height, width, channels), dtype=np.uint8)
    return Data(inputs, random.integers(0, 3, samples), 3)


def with_statistics(model):
    """Set running statistics and scales of batch norms to other than their initial values."""
    random = torch.Generator().manual_seed(1)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for values in (module.running_mean, module.running_var, module.weight.data, module.bias.data):
                values.copy_(torch.rand(values.shape, generator=random) + 0.5)
    return model.eval()


@pytest.mark.parametrize(
    ("model", "shape", "classes", "published"),
    [
        ("resnet18", (32, 32, 3), 10, 11_173_962),
        ("resnet34", (32, 32, 3), 10, 21_282_122),
        ("resnet50", (32, 32, 3), 10, 23_520_842),
        ("resnet18", (224, 224, 3), 1000, 11_689_512),
        ("resnet34", (224, 224, 3), 1000, 21_797_672),
        ("resnet50", (224, 224, 3), 1000, 25_557_032),
        ("vit", (224, 224, 3), 1000, 5_717_416),
    ],
)
def test_networks_are_as_large_as_published(model, shape, classes, published):
    settings = {"patch": 16} if model == "vit" else {}
    with torch.device("meta"):  # Shapes alone, without memory.
        network = factory_of(model)(shape, classes, **settings)
    assert sum(parameter.numel() for parameter in network.parameters()) == published


def normalised(values, state, name):
    named = (state[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
    return functional.batch_norm(values, *named)


def residual_network(inputs, state, depths, bottleneck, stem):
    """ResNet as functions of its weights: He et al. 2016, figures 3 and 5."""

    def convolved(values, name, stride=1):
        weight = state[f"{name}.convolution.weight"]
        values = functional.conv2d(values, weight, stride=stride, padding=weight.shape[2] // 2)
        return normalised(values, state, f"{name}.normalization")

    values = functional.relu(convolved(inputs, "embedder.embedder", 2 if stem == "imagenet" else 1))
    if stem == "imagenet":
        values = functional.max_pool2d(values, 3, 2, 1)
    for stage, depth in enumerate(depths):
        for block in range(depth):
            name, stride = f"encoder.stages.{stage}.layers.{block}", 2 if stage and not block else 1
            shortcut = values
            if f"{name}.shortcut.convolution.weight" in state:
                shortcut = convolved(values, f"{name}.shortcut", stride)
            strides = (1, stride, 1) if bottleneck else (stride, 1)
            for layer, step in enumerate(strides):
                values = convolved(values, f"{name}.layer.{layer}", step)
                values = functional.relu(values) if layer < len(strides) - 1 else values
            values = functional.relu(values + shortcut)
    return values.mean(dim=(2, 3))


@pytest.mark.parametrize(
    ("model", "depths", "stem", "side"),
    [
        ("resnet18", (2, 2, 2, 2), "cifar", 16),
        ("resnet18", (2, 2, 2, 2), "imagenet", 64),
        ("resnet34", (3, 4, 6, 3), "cifar", 12),
        ("resnet50", (3, 4, 6, 3), "cifar", 16),
        ("resnet50", (3, 4, 6, 3), "imagenet", 64),
    ],
)
def test_residual_networks_are_what_is_written_out_by_hand(model, depths, stem, side):
    config = TrainingConfig(model=model, model_settings={"width": 16, "stem": stem}, steps=1)
    network = with_statistics(build(config, (side, side, 3), 5, seed=3)[1]).double()
    inputs = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    state = network.encoder.state_dict()
    with torch.no_grad():
        features = residual_network(inputs, state, depths, model == "resnet50", stem)
        torch.testing.assert_close(network.features(inputs), features, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(network(inputs), network.classifier(features), rtol=1e-10, atol=1e-10)
    assert features.std() > 0


def test_the_stem_follows_the_size_of_the_images():
    for side, kernel in ((32, 3), (64, 3), (65, 7)):
        network = build(
            TrainingConfig(model="resnet18", model_settings={"width": 16}, steps=1), (side, side, 1), 2, seed=0
        )[1]
        assert network.encoder.embedder.embedder.convolution.kernel_size == (kernel, kernel)


def test_a_vision_transformer_is_the_one_of_torch():
    """The same weights in `nn.TransformerEncoder`, with class token and positions written out."""
    width, heads, layers = 12, 2, 2
    network = build(VIT, (8, 12, 3), 5, seed=3)[1].eval()
    state = network.encoder.state_dict()
    layer = nn.TransformerEncoderLayer(
        width, heads, 4 * width, 0.0, "gelu", layer_norm_eps=1e-12, batch_first=True, norm_first=True
    )
    other = nn.TransformerEncoder(layer, layers, nn.LayerNorm(width, eps=1e-12), enable_nested_tensor=False).eval()
    names = {
        "norm1": "layernorm_before",
        "norm2": "layernorm_after",
        "self_attn.out_proj": "attention.o_proj",
        "linear1": "mlp.fc1",
        "linear2": "mlp.fc2",
    }
    copied = {f"norm.{kind}": state[f"layernorm.{kind}"] for kind in ("weight", "bias")}
    for number in range(layers):
        for kind in ("weight", "bias"):
            own, theirs = f"layers.{number}.{{}}.{kind}".format, f"layers.{number}.attention.{{}}_proj.{kind}".format
            copied |= {own(new): state[own(old)] for new, old in names.items()}
            packed = torch.cat([state[theirs(part)] for part in "qkv"])
            copied[f"layers.{number}.self_attn.in_proj_{kind}"] = packed
    other.load_state_dict(copied)
    inputs = torch.randn(2, 3, 8, 12, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        projection = {kind: state[f"embeddings.patch_embeddings.projection.{kind}"] for kind in ("weight", "bias")}
        patches = functional.conv2d(inputs, stride=4, **projection).flatten(2).mT
        tokens = torch.cat([state["embeddings.cls_token"].expand(2, 1, width), patches], dim=1)
        expected = other(tokens + state["embeddings.position_embeddings"])[:, 0]
        torch.testing.assert_close(network.features(inputs), expected, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(network(inputs), network.classifier(expected), rtol=1e-4, atol=1e-5)


ALL = pytest.mark.parametrize(
    ("config", "data"),
    [
        (RESNET, images()),
        (TrainingConfig(model="resnet50", model_settings={"width": 16}, steps=2, batch_size=10), images(channels=1)),
        (VIT, images(width=12)),
        (BY_CONFIG, images(height=32, width=32)),
    ],
    ids=["resnet18", "grey-resnet50", "vit", "convnext-by-config"],
)


@ALL
def test_training_is_repeatable_and_a_saved_model_gives_the_same_logits(config, data, tmp_path):
    one, two = (train(data, config, seed=1, device=CPU).model for _ in range(2))
    expected = outputs_of(one, data)
    np.testing.assert_array_equal(expected, outputs_of(two, data))
    assert expected.std() > 0
    save(one, tmp_path, config, data.inputs.shape[1:])
    np.testing.assert_array_equal(outputs_of(load(tmp_path), data), expected)


@ALL
def test_weights_come_from_the_seed_alone_and_features_are_what_the_classifier_sees(config, data):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one, same, other = (build(config, data.inputs.shape[1:], 3, seed=seed).eval() for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    drawn = 0
    for (name, value), (_, another) in zip(one.state_dict().items(), other.state_dict().items(), strict=True):
        assert torch.equal(value, same.state_dict()[name])
        drawn += not torch.equal(value, another)
    assert drawn > 3
    inputs = torch.tensor(data.inputs[:3])
    logits, features = forward_with_features(one, inputs)
    torch.testing.assert_close(features, one[1].features(one[0](inputs)))
    torch.testing.assert_close(logits, one[1].classifier(features))


@pytest.mark.parametrize("model", ["resnet18", "resnet50"])
def test_gradient_norms_of_a_residual_network_are_those_of_a_loop(model):
    config, data = TrainingConfig(model=model, model_settings={"width": 16}, steps=1), images(4, 9, 8)
    network = with_statistics(build(config, (9, 8, 3), 3, seed=0))
    inputs, labels = torch.tensor(data.inputs), torch.tensor(data.targets)
    found = squared_gradient_norms(
        network, inputs, lambda logits: functional.cross_entropy(logits, labels, reduction="sum")
    )
    for row in range(4):
        network.zero_grad()
        functional.cross_entropy(network(inputs[row : row + 1]), labels[row : row + 1]).backward()
        expected = sum(float(p.grad.double().square().sum()) for p in network.parameters() if p.grad is not None)
        assert float(found[row]) == pytest.approx(expected, rel=1e-3)


def test_gradient_norms_of_a_vision_transformer_are_refused_by_the_parameter_that_has_none():
    model = build(VIT, (8, 8, 3), 3, seed=0).eval()
    with pytest.raises(ValueError, match=r"cls_token.*ViTEmbeddings has no per-sample gradient norm.*last_layer_grand"):
        squared_gradient_norms(model, torch.zeros(2, 8, 8, 3, dtype=torch.uint8), lambda logits: logits.sum())


def test_channels_last_changes_nothing_but_rounding():
    data = images(4, 16, 16)
    model = with_statistics(build(RESNET, (16, 16, 3), 3, seed=0))
    expected = outputs_of(model, data)
    model.to(memory_format=torch.channels_last)
    assert model[1].encoder.embedder.embedder.convolution.weight.is_contiguous(memory_format=torch.channels_last)
    np.testing.assert_allclose(outputs_of(model, data), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("config", [RESNET, VIT], ids=["resnet18", "vit"])
def test_training_in_bfloat16_channels_last_on_varied_images_learns_all_the_same(config, tmp_path):
    random = np.random.default_rng(0)
    labels = np.arange(48) % 2
    inputs = (random.integers(0, 100, (48, 8, 8, 3)) + 100 * labels[:, None, None, None]).astype(np.uint8)
    data = Data(inputs, labels, 2)
    length = {"steps": 25, "batch_size": 16, "learning_rate": 3e-3}
    fast = {"precision": "bfloat16", "channels_last": True, "augmentation": Augmentation(crop_padding=1, flip=True)}
    changed = TrainingConfig(**config.model_dump() | length | fast)
    model = train(data, changed, seed=0, device=CPU).model
    logits = outputs_of(model, data)
    assert (logits.argmax(axis=1) == labels).mean() > 0.9
    save(model, tmp_path, changed, (8, 8, 3))
    np.testing.assert_allclose(outputs_of(load(tmp_path), data), logits, rtol=1e-4, atol=1e-4)


def vit_config(**changes):
    from transformers import ViTConfig

    given = {"image_size": 8, "patch_size": 4, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    return ViTConfig(**given | {"intermediate_size": 16} | changes)


@pytest.fixture
def pretrained(tmp_path):
    from transformers import ViTModel

    model = ViTModel(vit_config()).eval()
    model.save_pretrained(tmp_path / "vit")
    return tmp_path / "vit", model


@pytest.mark.parametrize(("channels", "side"), [(3, 8), (1, 8), (3, 12)])
def test_pretrained_weights_by_folder_are_used_and_not_needed_to_load_again(pretrained, tmp_path, channels, side):
    folder, reference = pretrained
    settings = {"pretrained": str(folder)} | ({"resize": 8} if side != 8 else {})
    config, data = (
        TrainingConfig(model="image_encoder", model_settings=settings, steps=1),
        images(4, side, side, channels),
    )
    model = build(config, data.inputs.shape[1:], 3, seed=0).eval()
    assert model[1].encoder.pooler is None
    inputs = model[0](torch.tensor(data.inputs)).repeat(1, 3 // channels, 1, 1)
    if side != 8:
        inputs = functional.interpolate(inputs, (8, 8), mode="bilinear", antialias=True)
    with torch.no_grad():
        expected = reference(pixel_values=inputs).last_hidden_state[:, 0]
        torch.testing.assert_close(model[1].features(model[0](torch.tensor(data.inputs))), expected)
    (tmp_path / "saved").mkdir()
    save(model, tmp_path / "saved", config, data.inputs.shape[1:])
    for file in folder.iterdir():
        file.unlink()
    np.testing.assert_array_equal(outputs_of(load(tmp_path / "saved"), data), outputs_of(model, data))
    written = json.loads((tmp_path / "saved" / "model.json").read_text())["config"]["model_settings"]
    assert "pretrained" not in written


def test_what_an_encoder_does_not_take_is_refused_with_what_it_wants(pretrained, tmp_path):
    from transformers import BertConfig, BertModel

    def refusal(shape, **settings):
        with pytest.raises(ValueError, match=r"image|model_settings|loaded") as caught:
            build(TrainingConfig(model="image_encoder", model_settings=settings, steps=1), shape, 3, seed=0)
        return str(caught.value)

    folder = str(pretrained[0])
    assert "does not take images of 12 x 12 (it wants 8 x 8): set model_settings.resize" in refusal(
        (12, 12, 3), pretrained=folder
    )
    assert "reads images of 3 channels, the inputs have 4" in refusal((8, 8, 4), pretrained=folder)
    assert "wants images" in refusal((8,), pretrained=folder)
    assert "one of model_settings.pretrained and model_settings.config" in refusal((8, 8, 3))
    assert "one of model_settings" in refusal((8, 8, 3), pretrained=folder, config=CONVNEXT)
    assert "resize is one side in pixels, or height and width, not [8]" in refusal(
        (8, 8, 3), config=CONVNEXT, resize=[8]
    )
    assert "cannot be loaded as AutoModel" in refusal((8, 8, 3), pretrained=str(tmp_path / "nothing"))
    small = BertConfig(vocab_size=9, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8)
    BertModel(small).save_pretrained(tmp_path / "bert")
    assert "is a BertModel, no image encoder" in refusal((8, 8, 3), pretrained=str(tmp_path / "bert"))


@pytest.mark.parametrize(
    ("model", "settings", "shape", "message"),
    [
        ("resnet18", {}, (10,), r"'resnet18' wants images.*\(10,\)"),
        ("resnet34", {}, (7, 9, 3), r"'resnet34' with the cifar stem wants images of 8 pixels or more.*7 x 9"),
        ("resnet50", {"stem": "imagenet"}, (28, 28, 1), r"imagenet stem wants images of 32 pixels.*28 x 28"),
        ("resnet18", {"width": 12}, (32, 32, 3), r"width of 16 or more, not 12"),
        ("resnet18", {"stem": "deep"}, (32, 32, 3), r"the stems cifar and imagenet, not 'deep'"),
        ("vit", {}, (10,), r"'vit' wants images"),
        (
            "vit",
            {"patch": 8},
            (28, 20, 1),
            r"patches of 8 x 8 tile.*28 x 20.*patch to one of 1, 2, 4, or encoding.size",
        ),
        ("vit", {"width": 10}, (8, 8, 1), r"width of 10 is no multiple of 3 heads"),
        ("resnet18", {"depth": 3}, (32, 32, 3), r"'resnet18' has no setting 'depth'; it has stem, width, dropout"),
    ],
)
def test_inputs_and_settings_that_do_not_fit_are_refused(model, settings, shape, message):
    with pytest.raises(ValueError, match=message):
        build(TrainingConfig(model=model, model_settings=settings, steps=1), shape, 3, seed=0)
