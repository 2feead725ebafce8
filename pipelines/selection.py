"""A study's selections: a static selector, or an in-training sampler, with its settings."""

from typing import Annotated, Any

from pydantic import Field

from secateur.pipelines.strict_settings import Strict
from secateur.selectors.class_policy import Policy, with_class_policy
from secateur.selectors.contract import Selector, selectors


class ClassShares(Strict):
    """How classes share the budget."""

    policy: Annotated[Policy, Field(description="none, proportional or balanced")] = "none"
    floor: Annotated[int, Field(ge=0, description="samples that stay of each class")] = 0


class Selection(Strict):
    """A selector with its settings and the score that it reads."""

    selector: str
    score: str | None = None
    classes: ClassShares | None = None
    settings: dict[str, Any] = Field(default_factory=dict)

    @property
    def declared(self) -> Selector[...]:
        """The selector, under the class policy if there is one."""
        plain = selectors()[self.selector]
        return with_class_policy(plain, self.classes.policy, floor=self.classes.floor) if self.classes else plain

    @property
    def untuned(self) -> tuple[str, ...]:
        """Settings to be chosen on the validation split."""
        return tuple(name for name in self.declared.tunable if self.settings.get(name) is None)
