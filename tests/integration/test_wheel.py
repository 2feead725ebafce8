"""The wheel: its content, a run outside of the checkout, and complete declarations of its imports."""

import ast
import re
import subprocess
import sys
import tomllib
import venv
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FLOORS = ("scorers", "selectors", "trainers", "pipelines")


def run(*words: object, cwd: Path) -> str:
    done = subprocess.run([str(word) for word in words], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, ROOT, cwd=folder)
    return next(folder.glob("secateur-*.whl"))


def test_the_wheel_holds_every_module_and_data_file(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for floor in FLOORS:
        for path in (ROOT / floor).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                assert f"secateur/{path.relative_to(ROOT)}" in names


def test_the_wheel_runs_in_another_environment(wheel: Path, tmp_path: Path) -> None:
    """A path file adds this environment's dependencies; secateur itself comes from the wheel."""
    venv.create(tmp_path / "env", with_pip=True)
    python = tmp_path / "env" / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", "--no-deps", wheel, cwd=tmp_path)
    purelib = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=tmp_path).strip())
    found = [path for path in sys.path if path.endswith("site-packages")]
    (purelib / "dependencies.pth").write_text("\n".join(found) + "\n")
    code = "import secateur.pipelines.definitions as d, secateur as sc; print(d.__file__); d.defs()\n"
    code += "print(sc.select, sc.score, sc.scores_of, sc.study, sc.Manifest, sc.samplers.InfoBatch, sc.__version__)"
    assert str(purelib) in run(python, "-W", "ignore", "-c", code, cwd=tmp_path)
    assert "verify" in run(tmp_path / "env" / "bin" / "secateur", "--help", cwd=tmp_path)
    assert "digits" in run(tmp_path / "env" / "bin" / "secateur", "studies", cwd=tmp_path)


APART = ("litdata", "streaming")
"""In no extra: their requirements conflict with ours or restrict them; docs/in-place.md explains the installation."""


def test_everything_imported_is_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = {re.split(r"[^A-Za-z0-9_.-]", line)[0].lower() for line in project["dependencies"]}
    optional = {
        re.split(r"[^A-Za-z0-9_.-]", line)[0].lower()
        for name, lines in project["optional-dependencies"].items()
        if name != "dev"
        for line in lines
    }
    providers = {"lance": ["pylance"]} | packages_distributions()  # no test installs Lance
    for path in (path for floor in FLOORS for path in (ROOT / floor).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
            for top in {name.split(".")[0] for name in names} - sys.stdlib_module_names - {"secateur", *APART}:
                distributions = {name.lower().replace("_", "-") for name in providers.get(top, [top])}
                assert distributions & (declared | optional), f"{path.name} imports {top}, which is not declared"


@pytest.mark.nightly
def test_the_wheel_and_its_dependencies_install_into_an_empty_environment(wheel: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "env", with_pip=True)
    python = tmp_path / "env" / "bin" / "python"
    constraints = ROOT / "constraints.txt"
    run(python, "-m", "pip", "install", "--quiet", "--constraint", constraints, wheel, cwd=tmp_path)
    assert "verify" in run(tmp_path / "env" / "bin" / "secateur", "--help", cwd=tmp_path)
    assert "faiss-cpu" in run(python, "-m", "pip", "freeze", cwd=tmp_path)
