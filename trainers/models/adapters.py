"""Low-rank adapters of a language model (Hu et al. 2022, "LoRA: low-rank adaptation of large language models",
arXiv 2106.09685), by the package peft: training freezes the pretrained weights and learns the product of two small
matrices beside some of them. The stored files hold the adapters alone, in peft's format.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, ValidationError

from secateur.scorers.lazy import is_there, nn, not_installed, safetensors
from secateur.scorers.settings import Settings

ADAPTER = "default"
"""peft's name of the one adapter, which is part of the names of weights, but not of those in its files."""


class Lora(Settings):
    """The settings `model_settings: {lora: …}`."""

    model_config = ConfigDict(frozen=True)

    rank: Annotated[int, Field(ge=1, le=4096, description="inner dimension of the product of two matrices")] = 16
    alpha: Annotated[
        float | None, Field(gt=0, le=10**6, description="scales the product by alpha / rank; default: twice the rank")
    ] = None
    dropout: Annotated[float, Field(ge=0, lt=1, description="dropout of an adapter's inputs")] = 0
    targets: Annotated[
        list[str] | Literal["all-linear"],
        Field(min_length=1, description="ends of the names of layers, such as q_proj; all-linear: all but the last"),
    ] = "all-linear"

    @classmethod
    def of(cls, given: Any) -> Lora:
        """The parsed settings; raises ValueError that names a wrong key, and without peft."""
        try:
            found = cls.model_validate(given)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            key = ".".join(["model_settings.lora", *map(str, first["loc"][:1])])
            raise ValueError(f"{key}: {first['msg']}; it has {', '.join(cls.model_fields)}") from error
        if not is_there("peft"):
            raise ValueError(f"model_settings.lora: {not_installed('the package peft', 'language')}")
        return found

    def config(self) -> Any:
        """The settings as peft's `LoraConfig`."""
        from peft import LoraConfig

        return LoraConfig(
            r=self.rank,
            lora_alpha=2 * self.rank if self.alpha is None else self.alpha,
            lora_dropout=self.dropout,
            target_modules=self.targets,
            task_type="CAUSAL_LM",
        )


def adapt(causal: Any, lora: Lora, name: str) -> Any:
    """Put adapters into a causal model of that name, in place, and freeze all other weights; returns peft's config.

    Adapters are float32 beside weights of any dtype, and have no effect at first: the second matrix is 0. Raises
    ValueError for targets that the model does not have, and for its embeddings and its last layer, whose weights give
    logits in pieces.
    """
    from peft import get_peft_model

    config = lora.config()
    config.base_model_name_or_path = name
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # peft uses deprecated names of transformers, and warns of tied layers.
            wrapped = get_peft_model(causal, config, adapter_name=ADAPTER)
    except Exception as error:  # peft has no common class for layers that it cannot adapt.
        layers = sorted({name.rpartition(".")[2] for name, one in causal.named_modules() if isinstance(one, nn.Linear)})
        raise ValueError(f"model_settings.lora.targets: {error}; linear layers are {', '.join(layers)}") from error
    for whole in (causal.get_output_embeddings(), causal.get_input_embeddings()):
        if hasattr(whole, "base_layer"):
            raise ValueError("model_settings.lora.targets: embeddings and the last layer have no adapters here")
    return wrapped.peft_config[ADAPTER]


def save_adapters(network: Any, folder: Path) -> None:
    """Write the adapters of a `TokenLosses` into `folder` for peft: `PeftModel.from_pretrained(model, folder)`."""
    folder.mkdir(exist_ok=True)
    beneath = f"base_model.model.{network.body.base_model_prefix}."
    weights = {
        beneath + name.removeprefix("body.").replace(f".{ADAPTER}.", "."): value.detach().cpu().contiguous()
        for name, value in network.named_parameters()
        if value.requires_grad
    }
    safetensors.save_file(weights, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    network.adapters.save_pretrained(folder)
