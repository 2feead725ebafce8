"""Instructions and their answers from a small grammar, on request with wrong answers (junk) and copies.

A thing has a colour and a place. "find" asks for both, "tell" for both the other way round; three idle words in front
make instructions of one meaning different texts. Junk are rows that have each other's answers; copies are rows that
stand once more, junk among them.
"""

import json
from pathlib import Path

import numpy as np

THINGS = [first + second for first in ("ba", "do", "ki", "lu") for second in ("ta", "sel", "ren")]
COLOURS = ("red", "green", "blue", "grey", "pink", "gold")
PLACES = ("shed", "barn", "lake", "hill", "road", "shop")
IDLE = ("now", "please", "again", "then", "so", "well")


def instructions(
    count: int, seed: int, *, junk: float = 0.0, copies: float = 0.0, things: int = len(THINGS)
) -> list[dict[str, str]]:
    """`count` rows: a share `copies` are copies of others, and a share `junk` of the others have wrong answers.

    `kind` names each row's group.
    """
    draw = np.random.default_rng(seed)
    rows = []
    for _ in range(round(count * (1 - copies))):
        thing, order = int(draw.integers(things)), ("find", "tell")[int(draw.integers(2))]
        said = [COLOURS[(5 * thing + thing // 6) % 6], PLACES[(thing + thing // 4) % 6]]
        answer = " ".join(said if order == "find" else said[::-1])
        asked = f"{' '.join(draw.choice(IDLE, 3))} {order} {THINGS[thing]}"
        rows.append({"prompt": asked, "completion": answer, "source": order, "kind": "clean"})
    wrong = draw.permutation(len(rows))[: round(junk * len(rows))]
    answers = [rows[row]["completion"] for row in wrong]
    for row, other in zip(wrong, draw.permutation(len(wrong)), strict=True):
        rows[row] |= {"completion": answers[other], "kind": "junk"}
    again = [rows[row] for row in draw.integers(0, len(rows), count - len(rows))]
    rows += [row | {"kind": f"copy of {row['kind']}"} for row in again]
    return [rows[row] for row in draw.permutation(len(rows))]


def write(path: Path, rows: list[dict[str, str]]) -> None:
    """As JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
