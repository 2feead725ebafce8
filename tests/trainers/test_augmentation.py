"""Views of images against a loop over images; equal draws for equal generator states; errors with a remedy."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from secateur.trainers.augmentation import Augmentation, Views, apply_views, augment, draw_views
from secateur.trainers.contract import Data, TrainingConfig
from secateur.trainers.loop.train import train
from secateur.trainers.modalities.encoding import encoding_of


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def pictures(count, height, width, channels, dtype=torch.uint8):
    random = generator(5)
    if dtype == torch.uint8:
        return torch.randint(1, 256, (count, height, width, channels), generator=random, dtype=dtype)
    return torch.rand((count, height, width, channels), generator=random).to(dtype) + 1


def one_at_a_time(images, augmentation, views):
    """Pad with NumPy, cut out, mirror, paint: the documented steps, image by image."""
    most, found = augmentation.crop_padding, []
    for row, image in enumerate(images.numpy()):
        height, width, _ = image.shape
        if most:
            sides = ((most, most), (most, most), (0, 0))
            padded = np.pad(image, sides, mode="constant" if augmentation.padding == "zero" else "reflect")
            top, left = most + int(views.shift_y[row]), most + int(views.shift_x[row])
            image = padded[top : top + height, left : left + width]
        if augmentation.flip and views.mirrored[row]:
            image = np.fliplr(image)
        image = image.copy()
        if augmentation.cutout:
            top = int(views.centre_y[row]) - augmentation.cutout // 2
            left = int(views.centre_x[row]) - augmentation.cutout // 2
            image[max(0, top) : top + augmentation.cutout, max(0, left) : left + augmentation.cutout] = (
                augmentation.cutout_fill
            )
        found.append(image)
    return torch.from_numpy(np.stack(found))


augmentations = st.builds(
    Augmentation,
    crop_padding=st.integers(0, 4),
    padding=st.sampled_from(["zero", "reflect"]),
    flip=st.booleans(),
    cutout=st.integers(0, 5),
    cutout_fill=st.sampled_from([(0.0,), (7.0,), (3.0, 200.0, 9.0)]),
)


@settings(max_examples=60, deadline=None)
@given(
    augmentation=augmentations,
    size=st.tuples(st.integers(5, 9), st.integers(5, 9)),
    dtype=st.sampled_from([torch.uint8, torch.float32]),
    seed=st.integers(0, 1000),
)
def test_views_are_those_made_one_image_at_a_time(augmentation, size, dtype, seed):
    images = pictures(7, *size, 3, dtype)
    untouched = images.clone()
    found = augment(images, augmentation, generator(seed))
    views = draw_views(7, (*size, 3), augmentation, generator(seed))
    expected = one_at_a_time(images, augmentation, views)
    assert found.dtype == dtype
    assert torch.equal(found, expected)
    assert torch.equal(images, untouched)


EVERYTHING = Augmentation(crop_padding=2, padding="reflect", flip=True, cutout=3)


def test_draws_are_those_of_the_generator_alone():
    images = pictures(16, 8, 8, 3)
    before = torch.get_rng_state()
    one, same, other = (augment(images, EVERYTHING, generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    used = generator(1)
    assert not torch.equal(augment(images, EVERYTHING, used), augment(images, EVERYTHING, used))


def test_a_draw_is_shared_out_among_processes():
    images = pictures(10, 8, 8, 1)
    views = draw_views(10, (8, 8, 1), EVERYTHING, generator())
    parts = [apply_views(images[rows], EVERYTHING, views.take(rows)) for rows in (slice(0, 4), slice(4, 10))]
    assert torch.equal(torch.cat(parts), augment(images, EVERYTHING, generator()))


def test_every_place_is_drawn_equally_often():
    views = draw_views(60_000, (8, 6, 1), EVERYTHING, generator(3))
    for values, low, high in (
        (views.shift_y, -2, 2),
        (views.shift_x, -2, 2),
        (views.mirrored, 0, 1),
        (views.centre_y, 0, 7),
        (views.centre_x, 0, 5),
    ):
        counts = torch.bincount(values - low)
        places = high - low + 1
        assert len(counts) == places
        # Five standard deviations of a binomial count.
        slack = 5 * (60_000 / places * (1 - 1 / places)) ** 0.5
        assert (counts - 60_000 / places).abs().max() < slack


def test_nothing_asked_is_nothing_done():
    images, random = pictures(3, 4, 4, 3), generator()
    state = random.get_state()
    assert torch.equal(augment(images, Augmentation(), random), images)
    assert torch.equal(random.get_state(), state)
    assert vars(draw_views(3, (4, 4, 3), Augmentation(), random)) == vars(Views(None, None, None, None, None))


def test_settings_that_are_none_are_refused():
    for wrong in ({"crop_padding": -1}, {"cutout": -1}, {"padding": "wrap"}, {"flips": True}, {"cutout_fill": ()}):
        with pytest.raises(ValidationError):
            Augmentation(**wrong)
    with pytest.raises(ValidationError, match="frozen"):
        Augmentation().flip = True


@pytest.mark.parametrize(
    ("augmentation", "shape", "message"),
    [
        (Augmentation(flip=True), (10,), r"wants images.*\(10,\): leave it out"),
        (Augmentation(flip=True), (10, 4), r"wants images.*\(10, 4\)"),
        (Augmentation(crop_padding=4), (8, 4, 1), r"crop_padding is 4, for images of 8 x 4 it must be below 4"),
        (Augmentation(cutout=9), (12, 8, 1), r"cutout is 9, images are 12 x 8"),
        (Augmentation(cutout=2, cutout_fill=(1, 2)), (8, 8, 3), r"2 values.*3 channels it must have 1 or 3"),
        (Augmentation(cutout=2, cutout_fill=(1, 2)), (8, 8, 1), r"1 channels it must have 1$"),
    ],
)
def test_inputs_that_cannot_be_varied_are_refused(augmentation, shape, message):
    with pytest.raises(ValueError, match=message):
        augmentation.check(shape)
    with pytest.raises(ValueError, match=message):
        augment(torch.zeros(2, *shape), augmentation, generator())


@pytest.mark.parametrize("modality", ["text", "features"])
def test_a_task_without_images_refuses_to_vary_them(modality):
    configs = [TrainingConfig(steps=1), TrainingConfig(steps=1, augmentation=Augmentation(flip=True))]
    with pytest.raises(ValueError, match=f"augmentation is for images, the columns hold {modality}"):
        encoding_of(modality, {}, configs)
    assert encoding_of("image", {}, configs)
    assert encoding_of(modality, {}, configs[:1])


def test_training_sees_the_views_and_a_table_is_refused_before_it_begins():
    images = pictures(12, 8, 8, 3).numpy()
    data = Data(images, np.arange(12) % 2, 2)
    cut = TrainingConfig(steps=2, batch_size=12, augmentation=Augmentation(cutout=8, cutout_fill=(5,)))
    seen = []

    def objective(batch, inputs):
        seen.append(inputs)
        return batch.losses

    train(data, cut, seed=0, objective=objective, device=torch.device("cpu"))
    assert len(seen) == 2
    # A square as wide as the image leaves the part of each image far from its centre, and covers the quarter at it.
    for inputs in seen:
        covered = (inputs == 5).all(dim=3).float().mean(dim=(1, 2))
        assert ((covered >= 0.25) & (covered <= 1)).all()
    assert not torch.equal(seen[0], seen[1])
    with pytest.raises(ValueError, match="wants images"):
        train(Data(images.reshape(12, -1), data.targets, 2), cut, seed=0, device=torch.device("cpu"))
