"""Column budgets in the file of a study that trains: `keep: {tokens: 0.3}`, `keep: [{seconds: 7200}]`."""

from typing import Any

ROWS = "rows"


def budgets_of(content: dict[str, Any]) -> dict[str, Any]:
    """Return the file's content with column budgets as plain numbers and the column's name under `budget_of`."""
    keep = content.get("keep")
    listed: list[Any] = keep if isinstance(keep, list) else [keep]
    if not any(isinstance(each, dict) for each in listed):
        return content
    if not all(isinstance(each, dict) and len(each) == 1 for each in listed):
        raise ValueError(f"keep: budgets are all of rows, or all of one column such as {{tokens: 0.3}}, got {keep}")
    names = list(dict.fromkeys(name for each in listed for name in each))
    if len(names) > 1:
        raise ValueError(f"keep: a study that trains compares at budgets of one column, got {', '.join(names)}")
    if names == [ROWS]:
        raise ValueError("keep: rows are counted without a name, as in keep: 0.3; call a column of this name otherwise")
    found: list[Any] = []
    for [amount] in (each.values() for each in listed):
        found += amount if isinstance(amount, list) else [amount]
    whole = [int(each) if isinstance(each, float) and each > 1 and each == int(each) else each for each in found]
    auto = whole == ["auto"]
    for each in whole:
        if isinstance(each, int | float) and (
            isinstance(each, bool) or not each > 0 or (isinstance(each, float) and each > 1)
        ):
            raise ValueError(
                f"keep: {names[0]} needs a whole amount above 0, or a share of all of it up to 1.0, got {each}"
            )
    return {**content, "keep": "auto" if auto else whole, "budget_of": names[0]}
