"""Random views of images on the training device: shifted crops, mirror images, cutout.

Crops of a padded image and mirror images are the standard augmentation of CIFAR (He et al. 2016, "Deep residual
learning for image recognition", section 4.2); cutout is of DeVries and Taylor 2017 ("Improved regularization of
convolutional neural networks with cutout", section 3). One private generator draws all random numbers, apart from the
pixels: the same generator state gives the same views on any device and with any loader.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from secateur.scorers.lazy import torch
from secateur.scorers.settings import Settings


class Augmentation(Settings):
    """Random augmentation of training images; the defaults change nothing."""

    model_config = ConfigDict(frozen=True)

    crop_padding: Annotated[int, Field(ge=0, description="pixels added at each side before a crop of the old size")] = 0
    padding: Annotated[Literal["zero", "reflect"], Field(description="values of the added pixels")] = "zero"
    flip: Annotated[bool, Field(description="mirror left and right, with probability one half")] = False
    cutout: Annotated[int, Field(ge=0, description="side in pixels of a square that is painted over")] = 0
    cutout_fill: Annotated[
        tuple[float, ...], Field(min_length=1, description="raw value painted, one or one per channel")
    ] = (0.0,)

    def check(self, shape: tuple[int, ...]) -> None:
        """Raise ValueError if one sample of this shape is no image, or is too small for these settings."""
        if len(shape) != 3:
            raise ValueError(
                f"augmentation wants images, [height, width, channels], the inputs have shape {shape}: leave it out"
            )
        height, width, channels = shape
        least = min(height, width)
        if self.crop_padding >= least:
            raise ValueError(f"augmentation.crop_padding is {self.crop_padding}, for images of {height} x {width} it "
                             f"must be below {least}")  # fmt: skip
        if self.cutout > least:
            raise ValueError(f"augmentation.cutout is {self.cutout}, images are {height} x {width}")
        if len(self.cutout_fill) not in (1, channels):
            raise ValueError(
                f"augmentation.cutout_fill has {len(self.cutout_fill)} values, for images of {channels} channels it "
                f"must have 1{f' or {channels}' if channels > 1 else ''}"
            )


@dataclass(frozen=True)
class Views:
    """The random draws for each image of a batch, int64 `[b]` each; None where the setting is off.

    `shift_y` and `shift_x` lie in -padding … padding, `mirrored` is 0 or 1, `centre_y` and `centre_x` are pixels.
    """

    shift_y: torch.Tensor | None
    shift_x: torch.Tensor | None
    mirrored: torch.Tensor | None
    centre_y: torch.Tensor | None
    centre_x: torch.Tensor | None

    def take(self, rows: slice) -> Views:
        """The views of some images of the batch; each process takes its part of one draw."""
        return Views(*(None if values is None else values[rows] for values in vars(self).values()))


def draw_views(count: int, shape: tuple[int, ...], augmentation: Augmentation, generator: torch.Generator) -> Views:
    """Views of `count` images of `shape` `[height, width, channels]`, on the generator's device.

    The order and number of draws depend on the settings alone, and so does the generator's state afterwards.
    """

    def draw(low: int, high: int) -> torch.Tensor:
        return torch.randint(low, high, (count,), generator=generator, device=generator.device)

    most = augmentation.crop_padding
    return Views(
        shift_y=draw(-most, most + 1) if most else None,
        shift_x=draw(-most, most + 1) if most else None,
        mirrored=draw(0, 2) if augmentation.flip else None,
        centre_y=draw(0, shape[0]) if augmentation.cutout else None,
        centre_x=draw(0, shape[1]) if augmentation.cutout else None,
    )


def augment(inputs: torch.Tensor, augmentation: Augmentation, generator: torch.Generator) -> torch.Tensor:
    """A random view of each image: uint8 or float `[b, h, w, c]` to the same shape, dtype and device.

    Crops each padded image, then mirrors it, then cuts out a square. Draws on the generator's device and synchronises
    with no other. Raises ValueError as `Augmentation.check`.
    """
    augmentation.check(tuple(inputs.shape[1:]))
    views = draw_views(len(inputs), tuple(inputs.shape[1:]), augmentation, generator)
    return apply_views(inputs, augmentation, views)


def apply_views(inputs: torch.Tensor, augmentation: Augmentation, views: Views) -> torch.Tensor:
    """Apply one view to each image, `[b, h, w, c]` to the same shape, dtype and device."""
    drawn = {
        name: None if values is None else values.to(inputs.device, non_blocking=True)
        for name, values in vars(views).items()
    }
    height, width = inputs.shape[1:3]
    across = torch.arange(width, device=inputs.device).expand(len(inputs), width)
    down = torch.arange(height, device=inputs.device).expand(len(inputs), height)
    images = inputs
    if drawn["mirrored"] is not None:
        across = torch.where(drawn["mirrored"].bool()[:, None], width - 1 - across, across)
    if drawn["shift_y"] is not None and drawn["shift_x"] is not None:
        down, across = down + drawn["shift_y"][:, None], across + drawn["shift_x"][:, None]
    if views.shift_y is not None or views.mirrored is not None:
        images = gathered(images, down, across, augmentation.padding)
    if drawn["centre_y"] is not None and drawn["centre_x"] is not None:
        images = painted_over(images, drawn["centre_y"], drawn["centre_x"], augmentation)
    return images


def gathered(images: torch.Tensor, down: torch.Tensor, across: torch.Tensor, padding: str) -> torch.Tensor:
    """Pixels at rows `down` `[b, h]` and columns `across` `[b, w]` of each image; `padding` fills those outside."""
    count, height, width, channels = images.shape
    inside_y, inside_x = within(down, height, padding), within(across, width, padding)
    rows = torch.arange(count, device=images.device)[:, None] * height + inside_y
    pixels = rows[:, :, None] * width + inside_x[:, None, :]
    found = images.reshape(-1, channels).index_select(0, pixels.flatten()).reshape(images.shape)
    if padding == "zero":
        outside = (inside_y != down)[:, :, None] | (inside_x != across)[:, None, :]
        found = found.masked_fill(outside[..., None], 0)
    return found


def within(places: torch.Tensor, size: int, padding: str) -> torch.Tensor:
    """Map places into 0 … size-1: to the nearest with zero padding, else mirrored about the edge pixel."""
    if padding == "zero":
        return places.clamp(0, size - 1)
    return (size - 1) - ((size - 1) - places.abs()).abs()


def painted_over(
    images: torch.Tensor, centre_y: torch.Tensor, centre_x: torch.Tensor, augmentation: Augmentation
) -> torch.Tensor:
    """Fill a square of side `cutout` about each centre; at the border only its part inside the picture."""
    side = augmentation.cutout

    def covered(centres: torch.Tensor, size: int) -> torch.Tensor:
        distance = torch.arange(size, device=images.device) - (centres[:, None] - side // 2)
        return (distance >= 0) & (distance < side)

    square = covered(centre_y, images.shape[1])[:, :, None] & covered(centre_x, images.shape[2])[:, None, :]
    fill = augmentation.cutout_fill
    if len(set(fill)) == 1:
        return images.masked_fill(square[..., None], fill[0])
    colour = torch.tensor(fill, dtype=images.dtype)
    return torch.where(square[..., None], colour.to(images.device, non_blocking=True), images)
