"""Pictures of the documentation, in light and dark colours: docs/images/NAME_light.svg and NAME_dark.svg.

    python benchmarks/pictures.py crossover      # scikit-learn's digits; minutes of one core
    python benchmarks/pictures.py wrong_labels   # Fashion-MNIST of SECATEUR_DATA; a minute
    python benchmarks/pictures.py selections     # the table of docs/which-selection.md; seconds
    python benchmarks/pictures.py report         # the report of digits, as PNG; minutes of one core, needs chromium
    python benchmarks/pictures.py audit          # the page of an audit, as PNG; seconds, needs chromium

`crossover` runs the study of the tutorial at seven budgets, five seeds each, the hardest rows against as many random
ones, all for as many steps as everything. `wrong_labels` audits all 60,000 training pictures and shows the first twelve
of its list, unselected. `selections` draws the figures on the page. `report` runs the study digits, or takes the stored
results of SECATEUR_HOME, and shows the top of its report and its samples to inspect. `audit` audits the made-up
tickets of docs/audit.md.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from secateur.trainers.experiments.drawing import COLOURS, RANDOM_COLOUR, picture

ROOT = Path(__file__).parents[1]
IMAGES, PAGE = ROOT / "docs" / "images", ROOT / "docs" / "which-selection.md"
INKS = {"light": "#3d434b", "dark": "#c3c8d0"}
KEEP = (0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9)
STUDY = {
    "name": "pictures",
    "source": {"kind": "imagefolder", "train": "../pictures", "test_fraction": 0.2},
    "columns": {"image": "image", "label": "label"},
    "proxy": {"model": "mlp", "batch_size": 32, "learning_rate": 0.001, "epochs": 30},
    "scores": {"el2n": {"epochs": 10}},
    "selections": {"hardest": {"selector": "top", "score": "el2n", "end": "high"}},
    "keep": list(KEEP),
    "training": {"model": "mlp", "batch_size": 32, "learning_rate": 0.001, "steps": 765},
    "seeds": 5,
}
SHOWN, ACROSS = 12, 4
GALLERY, MARKED = 12, 2
"""Samples in the picture of the report's gallery, and marked pairs in the picture of the audit."""
Area = dict[str, float]
LINE = re.compile(r"^\| (\S.*?) \| ([\d.]+) ± ([\d.]+) \|[^|]*\| ([\d.]+) ± ([\d.]+) \|", re.MULTILINE)


def save(name: str, draw: Callable[[Any], None], width: float, height: float) -> None:
    """Write the picture in both colour schemes."""
    for scheme, ink in INKS.items():
        path = IMAGES / f"{name}_{scheme}.svg"
        path.write_bytes(picture(draw, width=width, height=height, ink=ink))
        print(f"{path.name}: {path.stat().st_size:,} bytes")


def crossover() -> None:
    """Run the study and draw accuracy by budget."""
    with tempfile.TemporaryDirectory() as folder:
        report = study_of_pictures(Path(folder))
    found: dict[str, list[tuple[float, float, float]]] = {"random": [], "hardest": []}
    for trial in report["rows"]:
        if trial["title"] in found:
            height = trial["metrics"]["accuracy"]
            found[trial["title"]].append((trial["kept"], 100 * height["mean"], 100 * height["half_width"]))
    (full,) = report["whole"]
    draw_crossover(found, full["kept"], 100 * full["metrics"]["accuracy"]["mean"])


def study_of_pictures(folder: Path) -> dict[str, Any]:
    """Content of the study's report, on the pictures of the tutorial."""
    import yaml

    import secateur as sc

    text = (ROOT / "docs" / "tutorial.md").read_text()
    code = text.partition("file=pictures.py\n")[2].partition("```")[0]
    os.chdir(folder)
    exec(compile(code, "pictures.py", "exec"), {"__name__": "page"})
    (folder / "studies").mkdir()
    (folder / "studies" / "pictures.yaml").write_text(yaml.safe_dump(STUDY))
    data: dict[str, Any] = sc.study("pictures").report.data
    return data


def draw_crossover(found: dict[str, list[tuple[float, float, float]]], rows: int, full: float) -> None:
    """Means with 95% intervals over a logarithmic axis of kept rows."""

    def draw(axes: Any) -> None:
        for name, colour, marker in (("random", RANDOM_COLOUR, "s"), ("hardest", COLOURS[1], "o")):
            kept, means, halves = zip(*sorted(found[name]), strict=True)
            axes.errorbar(kept, means, yerr=halves, color=colour, marker=marker, capsize=3, label=name)
        axes.axhline(full, color=COLOURS[0], linestyle="--", linewidth=1, label=f"all {rows:,} rows")
        axes.set(xscale="log", xlabel="rows kept (logarithmic)", ylabel="accuracy %")
        kept = [place for place, *_ in sorted(found["random"])]
        axes.set_xticks(kept, [f"{place:,}" for place in kept])
        axes.minorticks_off()
        axes.legend(loc="lower right")

    save("crossover", draw, 6.0, 3.2)


def wrong_labels() -> None:
    """Audit real pictures and draw the first ones of the list."""
    import io

    import polars as pl
    from PIL import Image

    import secateur as sc

    if "SECATEUR_DATA" not in os.environ:
        raise SystemExit("SECATEUR_DATA names no folder: docs/figures-data.md says what it holds")
    path = Path(os.environ["SECATEUR_DATA"]) / "fashion_mnist" / "train.parquet"
    audit = sc.audit(path, label="label", near=False, progress=False)
    print(*(one["text"] for one in audit.findings), sep="\n")
    first = audit.labels.head(SHOWN)
    rows = pl.read_parquet(path, columns=["image"])["image"]
    pictures = [np.asarray(Image.open(io.BytesIO(rows[row]["bytes"]))) for row in first["row"].to_list()]
    said = list(zip(first["given"].to_list(), first["suggested"].to_list(), strict=True))
    print(*zip(first["row"].to_list(), said, strict=True), sep="\n")

    def draw(axes: Any) -> None:
        tall = 1.6
        for place, (shown, (given, better)) in enumerate(zip(pictures, said, strict=True)):
            x, y = place % ACROSS, -tall * (place // ACROSS)
            axes.imshow(shown, cmap="gray", extent=(x + 0.06, x + 0.94, y + 0.06, y + 0.94), interpolation="nearest")
            axes.text(x + 0.5, y + 0.02, f"label: {given}\nrather: {better}", ha="center", va="top", fontsize=8)
        axes.set(xlim=(0, ACROSS), ylim=(-tall * (SHOWN // ACROSS - 1) - 0.5, 1))
        axes.axis("off")

    save("wrong_labels", draw, 4.6, 5.0)


def selections() -> None:
    """Draw the page's table: every selection at two budgets, the best first."""
    table = PAGE.read_text().partition("## Every selection on Fashion-MNIST")[2]
    rows = [(name.replace("`", ""), *map(float, numbers)) for name, *numbers in LINE.findall(table)]
    if len(rows) < 20:
        raise SystemExit(f"{PAGE.name}: {len(rows)} lines of its table were understood")
    rows.sort(key=lambda row: row[3])
    (random,) = [row for row in rows if row[0] == "random"]

    def draw(axes: Any) -> None:
        for number, (kept, colour, marker) in enumerate(
            (("1,200 kept", COLOURS[1], "o"), ("6,000 kept", COLOURS[0], "D"))
        ):
            means, halves = ([row[1 + 2 * number + part] for row in rows] for part in (0, 1))
            places = np.arange(len(rows)) + (0.15 if number else -0.15)
            axes.errorbar(means, places, xerr=halves, fmt=marker, color=colour, capsize=2, markersize=4, label=kept)
            axes.axvline(random[1 + 2 * number], color=colour, linewidth=0.8, linestyle="--", zorder=0)
        axes.set_xscale("function", functions=(lambda x: -np.log(100 - np.minimum(x, 99)), lambda y: 100 - np.exp(-y)))
        ticks = (20, 40, 60, 70, 75, 80, 83, 85)
        axes.set_xticks(ticks, map(str, ticks))
        axes.set_yticks(range(len(rows)), [row[0] for row in rows])
        axes.set(xlabel="accuracy %; broken lines: random", ylim=(-0.7, len(rows) - 0.3))
        axes.legend(loc="upper left")

    save("selections", draw, 6.8, 5.6)


def secateur(folder: Path, *words: str, **variables: str) -> None:
    """Run a command of secateur in a folder."""
    run = "from secateur.pipelines.commands.main import main; main()"
    subprocess.run([sys.executable, "-c", run, *words], check=True, cwd=folder, env=os.environ | variables)


def shoot(file: Path, width: int, parts: dict[str, Callable[[Any], Area]]) -> None:
    """Save parts of a page as PNG in both colour schemes: NAME_light.png and NAME_dark.png. Each part is a function of
    the page, which may click on it and returns the area to save."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for scheme in INKS:
            page = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 900}).new_page()
            page.goto(file.absolute().as_uri())
            page.wait_for_selector("html[data-tables=ready]", state="attached")
            for name, area in parts.items():
                path = IMAGES / f"{name}_{scheme}.png"
                page.screenshot(path=path, full_page=True, clip=area(page))
                few = Image.open(path).convert("P", palette=Image.Palette.ADAPTIVE, colors=128)
                few.save(path, optimize=True)
                print(f"{path.name}: {path.stat().st_size:,} bytes")
        browser.close()


def report() -> None:
    """Save the top of the page, down to the end of its first picture, and the first samples to inspect."""
    home = Path(os.environ.get("SECATEUR_HOME", ROOT / ".secateur")).absolute()
    secateur(ROOT, "run", "digits", SECATEUR_HOME=str(home))

    def top(page: Any) -> Area:
        box = page.locator("figure").first.bounding_box()
        return {"x": 0, "y": 0, "width": 1200, "height": box["y"] + box["height"]}

    def suspects(page: Any) -> Area:
        first = page.locator("#suspects").bounding_box()
        row = page.locator("#suspects img").nth(GALLERY).bounding_box()
        return {"x": 0, "y": first["y"], "width": 1200, "height": row["y"] - 16 - first["y"]}

    shoot(home / "assets" / "digits" / "report" / "report.html", 1200, {"report": top, "report_suspects": suspects})


def audit() -> None:
    """Audit the files of the page Audit data, mark the first near copies among test rows, and save their picture."""
    sys.path.append(str(ROOT / "tests" / "support"))
    from planted import topics

    def near(page: Any) -> Area:
        part = page.locator("section", has=page.get_by_role("heading", name="nearly the same as a row of training"))
        asked = part.locator("fieldset")
        for place in range(MARKED):
            asked.nth(place).locator("input[value=yes]").check()
        page.evaluate("document.activeElement.blur(); scrollTo(0, 0)")  # a click scrolls, but areas refer to the page
        first, last = part.bounding_box(), asked.nth(MARKED).bounding_box()
        return {"x": 0, "y": first["y"], "width": 1000, "height": last["y"] + last["height"] + 16 - first["y"]}

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        train, test = topics(folder, copies=30, leaks=12, wrong=40)
        train.rename(folder / "tickets.csv")
        words = ("--test", test.name, "--label", "queue", "--write", "audit")
        secateur(folder, "audit", "tickets.csv", *words)
        shoot(folder / "audit" / "audit.html", 1000, {"audit": near})


DRAWN = {
    "crossover": crossover,
    "wrong_labels": wrong_labels,
    "selections": selections,
    "report": report,
    "audit": audit,
}

if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("which", choices=DRAWN, nargs="+")
    for which in options.parse_args().which:
        DRAWN[which]()
