"""Every experiment: its arms name a scorer and a selector of its unit, and each has the inputs that the other needs."""

import pytest

from secateur.scorers.contract import Scorer
from secateur.scorers.registry import scorers
from secateur.selectors.contract import mask_selectors
from secateur.trainers.experiments.contract import Arm, ArmTrial, declared, experiments


@pytest.mark.parametrize("name", sorted(experiments()))
def test_arms_name_a_scorer_and_a_selector_that_fit(name: str) -> None:
    experiment = experiments()[name]
    assert experiment.baseline == "random"
    assert experiment.baseline in experiment.arms
    assert not set(experiment.arms) & set(experiment.references)
    assert not [arm for arm in experiment.references.values() if arm.scorer or arm.selector]
    for arm in experiment.arms.values():
        if not arm.selector:
            assert not arm.scorer
            assert arm.settings, "the method is its training, which settings tell from other arms"
            continue
        selector = mask_selectors(experiment.unit)[arm.selector]
        assert ("scores" in selector.reads) == bool(arm.scorer)
        own = {key: value for key, value in arm.settings.items() if key in selector.settings.model_fields}
        assert selector.settings(**own).model_dump().items() >= own.items()
        if arm.scorer:
            scorer = scorers(experiment.unit)[arm.scorer]
            assert isinstance(scorer, Scorer)
            assert scorer.card.unit == experiment.unit


@pytest.mark.parametrize("name", sorted(experiments()))
def test_no_results_make_no_picture_that_fails(name: str) -> None:
    drawn = experiments()[name]().pictures({})
    assert all(content.startswith(b"<?xml") for content in drawn.values())


def test_an_arm_of_another_unit_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(ValueError, match="'snip' is not a scorer of channels; there are l1_filter, slimming"):
        declared(scorers("channel"), "snip", "a scorer of channels")
    assert ArmTrial("a", Arm(settings={"power": 3.0}), 0.5, 0).setting("power", 1.0) == 3.0
    assert ArmTrial("a", Arm(), 0.5, 0).setting("power", 1.0) == 1.0
