"""Image networks of the transformers library under a linear classifier: residual networks, vision transformers, and any
other by its configuration or by the name of its weights."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from secateur.scorers.lazy import nn, torch
from secateur.trainers.contract import reads
from secateur.trainers.models.transformer import load_pretrained

DEPTHS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}
"""Blocks of each stage, with two convolutions, from 50 layers on with three (He et al. 2016, table 1)."""
SMALL_IMAGES = 64
"""Largest side in pixels for which the CIFAR stem is the default."""
LEAST_SIDE = {"cifar": 8, "imagenet": 32}
"""Total stride before pooling, by stem."""
LEAST_WIDTH = 16
"""Strided 1 x 1 convolutions of fewer channels, channels last, write past their memory on CPUs (oneDNN issue 6035)."""


def image_shape(model: str, shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Height, width and channels; raises ValueError if the inputs are no images."""
    if len(shape) != 3:
        raise ValueError(
            f"model {model!r} wants images, [height, width, channels], the inputs have shape {shape}: use a model for "
            "tables or texts, such as 'mlp'"
        )
    return shape[0], shape[1], shape[2]


def resnet(layers: int) -> Callable[..., nn.Module]:
    """Factory of the residual network of so many layers."""
    name = f"resnet{layers}"

    def factory(
        shape: tuple[int, ...],
        classes: int,
        *,
        stem: str | None = None,
        width: int = 64,
        dropout: float = 0.0,
    ) -> nn.Module:
        from transformers import ResNetConfig, ResNetModel
        from transformers.models.resnet.modeling_resnet import ResNetConvLayer

        from secateur.trainers.models.networks import ImageClassifier

        height, across, channels = image_shape(name, shape)
        chosen = stem or ("cifar" if max(height, across) <= SMALL_IMAGES else "imagenet")
        if chosen not in LEAST_SIDE:
            raise ValueError(f"model {name!r} has the stems cifar and imagenet, not {chosen!r}")
        if min(height, across) < LEAST_SIDE[chosen]:
            raise ValueError(
                f"model {name!r} with the {chosen} stem wants images of {LEAST_SIDE[chosen]} pixels or more at either "
                f"side, they are {height} x {across}: set encoding.size, or use model 'cnn' or 'mlp'"
            )
        if width < LEAST_WIDTH:
            raise ValueError(f"model {name!r} wants a width of {LEAST_WIDTH} or more, not {width}")
        bottleneck = layers >= 50
        config = ResNetConfig(
            num_channels=channels,
            embedding_size=width,
            hidden_sizes=[width * 2**stage * (4 if bottleneck else 1) for stage in range(4)],
            depths=list(DEPTHS[layers]),
            layer_type="bottleneck" if bottleneck else "basic",
        )
        encoder = ResNetModel(config)
        if chosen == "cifar":
            stem_layer: Any = encoder.embedder
            stem_layer.embedder = ResNetConvLayer(channels, width, kernel_size=3, stride=1)
            stem_layer.pooler = nn.Identity()
            stem_layer.apply(encoder._init_weights)
        return ImageClassifier(encoder, shape, classes, dropout=dropout)

    factory.__name__ = factory.__qualname__ = name
    factory.__doc__ = f"""ResNet-{layers} of He et al. 2016, "Deep residual learning for image recognition".

    The stem is a 7 x 7 convolution and pooling that quarter each side (`imagenet`), or a 3 x 3 one that keeps it
    (`cifar`, the default up to {SMALL_IMAGES} pixels). `width` is that of the first stage. From 50 layers on the 3 x 3
    convolution of a block has its stride. Raises ValueError for inputs that are no images, or too small."""
    return reads("numbers")(factory)


resnet18, resnet34, resnet50 = resnet(18), resnet(34), resnet(50)


@reads("numbers")
def vit(
    shape: tuple[int, ...],
    classes: int,
    *,
    patch: int = 4,
    width: int = 192,
    layers: int = 12,
    heads: int = 3,
    dropout: float = 0.0,
) -> nn.Module:
    """A vision transformer (Dosovitskiy et al. 2021) with random weights and a classifier on the class token.

    The defaults are ViT-Tiny's (Touvron et al. 2021, DeiT, table 1) with patches for images of CIFAR's size; its
    feed-forward layers are four times as wide. Raises ValueError for inputs that are no images, patches that do not
    tile them, and a width that the heads do not divide.
    """
    from transformers import ViTConfig, ViTModel

    from secateur.trainers.models.networks import ImageClassifier

    height, across, channels = image_shape("vit", shape)
    if height % patch or across % patch:
        both = math.gcd(height, across)
        fitting = ", ".join(str(side) for side in range(1, both + 1) if both % side == 0)
        raise ValueError(
            f"model 'vit' wants images that patches of {patch} x {patch} tile, they are {height} x {across}: set "
            f"model_settings.patch to one of {fitting}, or encoding.size"
        )
    if width % heads:
        raise ValueError(f"model 'vit': a width of {width} is no multiple of {heads} heads")
    config = ViTConfig(
        image_size=(height, across),
        patch_size=patch,
        num_channels=channels,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=4 * width,
        hidden_dropout_prob=dropout,
    )
    return ImageClassifier(ViTModel(config, add_pooling_layer=False), shape, classes)


def side_and_side(resize: int | Sequence[int] | None) -> tuple[int, int] | None:
    """Height and width from a setting of one number for both, or of two; raises ValueError for any other."""
    if resize is None:
        return None
    both = (resize, resize) if isinstance(resize, int) else tuple(resize)
    if len(both) != 2 or min(both) < 1:
        raise ValueError(f"model_settings.resize is one side in pixels, or height and width, not {resize!r}")
    return both[0], both[1]


@reads("numbers")
def image_encoder(
    shape: tuple[int, ...],
    classes: int,
    *,
    pretrained: str | None = None,
    revision: str | None = None,
    config: Mapping[str, Any] | None = None,
    resize: int | Sequence[int] | None = None,
    dropout: float = 0.0,
) -> nn.Module:
    """An image encoder of the transformers library under a linear classifier.

    `pretrained` names weights, on the hub or in a folder; `config` is a configuration with its `model_type`, for random
    weights. The network resizes images to `resize`, a side, or height and width. It repeats grey images for an encoder
    of colours. Raises ValueError if the encoder reads no images, or none of this size.
    """
    from transformers import AutoConfig, AutoModel

    from secateur.trainers.models.networks import ImageClassifier

    *sides, channels = image_shape("image_encoder", shape)
    if (pretrained is None) == (config is None):
        raise ValueError("model 'image_encoder' wants one of model_settings.pretrained and model_settings.config")
    if pretrained is not None:
        encoder = load_pretrained(AutoModel, pretrained, revision, dtype=torch.float32)
    else:
        encoder = AutoModel.from_config(AutoConfig.for_model(**config))  # type: ignore[no-untyped-call, arg-type]
    if getattr(encoder, "main_input_name", None) != "pixel_values":
        raise ValueError(f"model {pretrained or dict(config or {})!r} is a {type(encoder).__name__}, no image encoder")
    pooler = getattr(encoder, "pooler", None)
    if isinstance(pooler, nn.Module) and next(pooler.parameters(), None) is not None:
        encoder.pooler = None  # Untrained, or trained for another task: the classifier reads the class token.
    size = side_and_side(resize)
    wanted = getattr(encoder.config, "num_channels", channels)
    if wanted != channels and channels != 1:
        raise ValueError(f"the encoder reads images of {wanted} channels, the inputs have {channels}")
    try:
        network = ImageClassifier(encoder, shape, classes, dropout=dropout, size=size, copies=wanted // channels)
    except (ValueError, RuntimeError) as error:
        own = getattr(encoder.config, "image_size", None)
        height, width = own if isinstance(own, list | tuple) else (own, own)
        wish = f" (it wants {height} x {width})" if own else ""
        raise ValueError(
            f"the encoder does not take images of {' x '.join(map(str, size or sides))}{wish}: set "
            f"model_settings.resize, or encoding.size; it says: {' '.join(str(error).split())}"
        ) from error
    written = json.loads(encoder.config.to_json_string())
    network.rebuild_settings = {"config": written, "resize": size, "dropout": dropout}
    return network
