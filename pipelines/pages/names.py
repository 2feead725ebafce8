"""Names of arms and references as readers see them."""

from secateur.pipelines.studies.study import AnyStudy


def title_of(study: AnyStudy, name: str) -> str:
    """The name of an arm or reference as readers see it."""
    return study.title(name)


def other_of(study: AnyStudy, name: str) -> str:
    """A name as the other side of a comparison: a reference that has a title in words takes an article."""
    title = title_of(study, name)
    return f"the {title}" if name in study.references and name in study.titles else title
