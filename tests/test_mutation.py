"""The mutator: every mutant is valid Python, one place differs, and the tests nearest to a file come first."""

import ast

import pytest
from mutants import mutants_of
from mutation import ROOT, nearest_tests


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("x < 1", {"(x <= 1)", "(x >= 1)", "x < 2", "x < 0"}),
        ("0 <= x < y", {"(0 < x < y)", "(0 > x < y)", "(0 <= x <= y)", "(0 <= x >= y)", "1 <= x < y", "-1 <= x < y"}),
        ("a is None", {"(a is not None)"}),
        ("a in b", {"(a not in b)"}),
        ("a and b or c", {"((a and b) and c)", "(a or b) or c"}),
        ("a + b * c", {"(a - b * c)", "a + (b // c)"}),
        ("not a", {"(a)"}),
        ("-a ** 2", {"(a ** 2)", "-(a * 2)", "-a ** 3", "-a ** 1"}),
        ("f(True, 0.5)", {"f(False, 0.5)", "f(True, 1.0)", "f(True, 0.25)"}),
        ("'größe' if a == b else 'text'", {"'größe' if (a != b) else 'text'"}),
        ("f'{a < b}'", set()),
    ],
)
def test_an_expression_becomes_each_of_its_neighbours(before: str, after: set[str]) -> None:
    source = f"found = {before}\n".encode()
    assert {mutant.apply(source).decode() for mutant in mutants_of("a.py", source)} == {f"found = {x}\n" for x in after}


def test_functions_return_defaults_and_neither_annotations_nor_messages_change() -> None:
    source = b"@known(1)\ndef f(a: Of[2]) -> bool:\n    if a:\n        raise ValueError(3)\n    return a.b\n"
    found = [mutant.apply(source).decode().splitlines()[-1].strip() for mutant in mutants_of("a.py", source)]
    assert found == ["return True", "return False"]
    assert mutants_of("a.py", source)[0].diff(source) == "-    return a.b\n+    return True"


@pytest.mark.parametrize(
    "path", ["selectors/draws/ranks.py", "pipelines/manifests/rows.py", "trainers/judging/outcome.py"]
)
def test_mutants_of_the_product_are_python_that_differs(path: str) -> None:
    source = (ROOT / path).read_bytes()
    mutants = mutants_of(path, source)
    assert len(mutants) > 20
    whole = ast.dump(ast.parse(source))
    for mutant in mutants[::5]:
        assert ast.dump(ast.parse(mutant.apply(source))) != whole


def test_the_tests_of_a_file_come_first() -> None:
    nearest = nearest_tests(ROOT)
    assert nearest["selectors/draws/ranks.py"][0] == "tests/selectors/test_ranks.py"
    assert nearest["scorers/checkpoints/pvi.py"][0] == "tests/scorers/test_pvi.py"
    assert not [path for path, tests in nearest.items() if not tests]
