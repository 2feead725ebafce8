"""Adapters whose training changed their base: an error names them; after conversion by peft they are valid."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from secateur.pipelines.deltas.files import Checkpoint
from secateur.pipelines.deltas.sources import AdapterDelta, FactorDelta
from secateur.pipelines.deltas.stream import DeltaChoice
from secateur.pipelines.manifests.deltas import prune_deltas


class Small(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = torch.nn.ModuleList([torch.nn.Linear(12, 9), torch.nn.Linear(9, 8)])

    def forward(self, rows):
        return self.layers[1](self.layers[0](rows).relu())


def trained(folder, beginning):
    """Write a base and an adapter with this initialisation before and after training; gives the weights peft merges."""
    from peft import LoraConfig, get_peft_model

    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Small()
        save_file(model.state_dict(), folder / "base.safetensors")
        config = LoraConfig(r=2, lora_alpha=2, target_modules=["layers.0", "layers.1"], init_lora_weights=beginning)
        tuned = get_peft_model(model, config)
        tuned.peft_config["default"].init_lora_weights = True
        tuned.save_pretrained(folder / "initial")
        tuned.peft_config["default"].init_lora_weights = beginning
        with torch.no_grad():
            for name, weight in tuned.named_parameters():
                if "lora_" in name:
                    weight += 0.1 * torch.randn(weight.shape)
        tuned.save_pretrained(folder / "adapter")
        if beginning in ("pissa", "olora"):
            tuned.save_pretrained(
                folder / "converted", path_initial_model_for_weight_conversion=str(folder / "initial")
            )
        return tuned.merge_and_unload().state_dict()


@pytest.mark.filterwarnings("ignore:.*changes the base weights of the model:UserWarning")  # peft warns, too
@pytest.mark.parametrize("beginning", ["pissa", "olora"])
def test_a_changed_base_is_refused_and_the_conversion_that_is_named_helps(tmp_path, beginning):
    merged = trained(tmp_path, beginning)
    base = Checkpoint.read(tmp_path / "base.safetensors")
    with pytest.raises(ValueError, match=rf"init_lora_weights '{beginning}'.*path_initial_model_for_weight_conversion"):
        AdapterDelta.of(base, tmp_path / "adapter")
    config = tmp_path / "adapter" / "adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"init_lora_weights": True}))
    wrong, right = AdapterDelta.of(base, tmp_path / "adapter"), AdapterDelta.of(base, tmp_path / "converted")
    for source, name in ((wrong, "wrong"), (right, "right")):
        prune_deltas(source, tmp_path / name, DeltaChoice(1.0))
        written = load_file(tmp_path / name / "base.safetensors")
        far = max(float((written[key] - merged[key]).abs().max()) for key in merged)
        assert far < 1e-4 if name == "right" else far > 0.1  # without the error another model would be written


@pytest.mark.parametrize("beginning", ["gaussian", "orthogonal", "mica", "eva"])
def test_beginnings_that_leave_the_base_alone_are_what_peft_merges(tmp_path, beginning):
    if beginning == "eva":  # its vectors come from data; the saved adapter is of the same kind
        merged = trained(tmp_path, "gaussian")
        config = tmp_path / "adapter" / "adapter_config.json"
        config.write_text(json.dumps(json.loads(config.read_text()) | {"init_lora_weights": "eva"}))
    else:
        merged = trained(tmp_path, beginning)
    source = AdapterDelta.of(Checkpoint.read(tmp_path / "base.safetensors"), tmp_path / "adapter")
    prune_deltas(source, tmp_path / "out", DeltaChoice(1.0))
    for name, value in load_file(tmp_path / "out" / "base.safetensors").items():
        torch.testing.assert_close(value, merged[name])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"init_lora_weights": "pissa_niter_4"}, "pissa_niter_4"),
        ({"init_lora_weights": "corda"}, "'corda' changes the base"),
        ({"init_lora_weights": "loftq"}, "'loftq' changes the base"),
        ({"init_lora_weights": "lora_ga"}, "'lora_ga' changes the base"),
        ({"init_lora_weights": "of_next_year"}, "known to leave the base alone are true, false, gaussian"),
        ({"alora_invocation_tokens": [1, 2]}, "alora_invocation_tokens: the adapter acts on"),
        ({"use_qalora": True}, "use_qalora changes more"),
        ({"target_parameters": ["experts"]}, "target_parameters changes more"),
    ],
)
def test_what_base_and_factors_cannot_make_is_refused_by_its_setting(tmp_path, settings, message):
    trained(tmp_path, True)
    config = tmp_path / "adapter" / "adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | settings))
    with pytest.raises(ValueError, match=message):
        AdapterDelta.of(Checkpoint.read(tmp_path / "base.safetensors"), tmp_path / "adapter")
    with pytest.raises(ValueError, match=message):
        FactorDelta.of(tmp_path / "adapter")
