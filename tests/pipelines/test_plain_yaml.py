"""Hostile or careless YAML is one sentence about its own file, with the line, and does not break other studies."""

from pathlib import Path

import pytest
import yaml

from secateur.pipelines.studies.files import read_studies
from secateur.pipelines.studies.folders import SHIPPED
from secateur.pipelines.studies.plain_yaml import read_yaml
from secateur.pipelines.studies.rejections import require

LAUGHS = "a0: &a0 [lol]\n" + "".join(
    f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 9)}]\n" for level in range(1, 10)
)
CHAIN = "a0: &a0 [x]\n" + "".join(f"a{level}: &a{level} [*a{level - 1}]\n" for level in range(1, 400))
MERGES = "a0: &a0 {k: 1}\n" + "".join(
    f"a{level}: &a{level} {{<<: [{', '.join([f'*a{level - 1}'] * 9)}]}}\n" for level in range(1, 10)
)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("x: " + "[" * 100_000, "line 1: values are nested more than 64 deep"),
        ("x:\n" + "".join(" " * level + "x:\n" for level in range(1, 200)), "line 64: values are nested"),
        (LAUGHS, r"line \d+: aliases unfold to more than 100000 values"),
        (MERGES, r"line \d+: aliases unfold to more than 100000 values"),
        ("name: x\nloop: &loop [*loop]\n", "line 2: an alias stands within its own value"),
        (CHAIN, r"line \d+: values are nested more than 64 deep"),
        ("name: x\nproxy: {<<: *a, <<: *a}\n".replace("x", "&a {}", 1), "line 2: key '<<' stands twice"),
        (f"name: x\nkeep: {2**63}\n", "line 2: 9223372036854775808 is beyond 64 bits"),
        (f"name: x\nkeep: -0x{'f' * 30}\n", "line 2: -0xf+ is beyond 64 bits"),
        ('name: x\nkeep: !!int ""\n', "line 2: '' is no int"),
        ("name: x\nkeep: !!bool maybe\n", "line 2: 'maybe' is no bool"),
        ("name: x\nkeep: !!timestamp soon\n", "line 2: 'soon' is no timestamp"),
        (f"name: x\nkeep: {'9' * 10_000}\n", "line 2: a whole number of 10000 digits"),
        ("name: x\nkeep: [0.5]\nname: y\n", "line 3: key 'name' stands twice"),
        ("name: x\nsource:\n  kind: csv\n  kind: jsonl\n", "line 4: key 'kind' stands twice"),
        ("name: x\nday: 2026-13-01\n", "line 2: '2026-13-01' is no timestamp"),
        ("name: x\n  bad: [\n", r"line 2: mapping values are not allowed here"),
        ("x: " + "*" + "a" * 5000, r"line 1: found undefined alias 'a+…$"),
        ("x: !!python/object/apply:os.system [true]", "could not determine a constructor"),
        (b"name: \xff\n", "can't decode byte 0xff"),
        ("name: a\0b", "special characters are not allowed"),
        (f"scores: {{{'k' * 300}: {{scorer: loss}}}}\n", "line 1: a key of 300 letters, and a name has at most 200"),
        ("#" * (1 << 20) + "\nname: x", r"bytes, and a study has at most 1048576"),
    ],
    ids=range(23),
)
def test_a_broken_study_is_one_sentence_and_alone(content: str | bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "broken.yaml").write_bytes(content.encode() if isinstance(content, str) else content)
    (tmp_path / "sound.yaml").write_bytes((SHIPPED / "digits.yaml").read_bytes())
    broken, sound = read_studies([tmp_path])
    assert sound.study is not None
    assert broken.study is None
    assert broken.error.startswith(f"{tmp_path}/broken.yaml: not readable as YAML: ")
    assert len(broken.error.splitlines()) == 1
    assert len(broken.error) < len(str(tmp_path)) + 250
    with pytest.raises(ValueError, match=message):
        read_yaml(tmp_path / "broken.yaml")


def test_a_long_value_is_cut_in_the_message(tmp_path: Path) -> None:
    content = (SHIPPED / "digits.yaml").read_text() + f"surplus: {'x' * 9000}\nseedz: [{'1, ' * 3000}]\n"
    (tmp_path / "a.yaml").write_text(content)
    (study,) = read_studies([tmp_path])
    assert "surplus" in study.error
    assert max(map(len, study.error.splitlines())) < 2000
    assert "x" * 200 not in study.error


def test_a_long_name_is_refused_and_not_repeated(tmp_path: Path) -> None:
    digits = yaml.safe_load((SHIPPED / "digits.yaml").read_text())
    for number, letters in enumerate(["x" * 9000, "x y " * 9000]):
        named = [{"name": letters}, {"kind": letters}, {"task": letters}, {"task": f"{letters}:f"}]
        named += [{"source": {"kind": letters}}, {"proxy": {"model": letters, "epochs": 1}}]
        named += [{"recurring": {"cron": letters}}, {"recurring": {"timezone": letters}}]
        for key, change in enumerate(named):
            (tmp_path / f"{number}{key}.yaml").write_text(yaml.safe_dump(digits | change))
    files = read_studies([tmp_path])
    assert len(files) == 16
    for file in files:
        assert file.error, file.path
        assert max(map(len, file.error.splitlines())) <= 2000 + len(str(file.path))
        assert file.error.count("x") < 1100


def test_values_at_the_limits_are_read(tmp_path: Path) -> None:
    """At the limit; keys that a merge overrides are no repetition, wherever the merge is read first."""
    path = tmp_path / "a.yaml"
    flow = "[" * 63 + "]" * 63  # within the mapping
    many = "a0: &a0 [lol]\n" + "".join(
        f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 9)}]\n" for level in range(1, 5)
    )
    path.write_text(f"deep: {flow}\nmost: {2**63 - 1}\nleast: {-(2**63)}\n{many}")
    content = read_yaml(path)
    assert (content["most"], content["least"], len(content["a4"])) == (2**63 - 1, -(2**63), 9)
    path.write_text(f"deep: [{flow}]\n")
    with pytest.raises(ValueError, match="line 1: values are nested more than 64 deep"):
        read_yaml(path)
    path.write_text("a: &a {x: 1}\nb: {c: {d: &b {<<: *a, x: 2}}}\ne: {<<: *b}\n")
    assert read_yaml(path)["e"] == {"x": 2}


def test_anchors_merges_and_dates_still_work(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(
        "base: &base {model: mlp, epochs: 3}\nproxy: {<<: *base, epochs: 4}\nkeep: [0.1, 1]\nday: 2026-01-31\n"
    )
    content = read_yaml(path)
    assert content["proxy"] == {"model": "mlp", "epochs": 4}
    assert (content["keep"], content["day"].isoformat()) == ([0.1, 1], "2026-01-31")


def test_a_name_of_many_letters_is_cut_where_a_message_repeats_it() -> None:
    with pytest.raises(ValueError, match=r"there is no 'k{99}…'") as refusal:
        require("k" * 500_000, {"samples": None}, "kind")
    assert len(str(refusal.value)) < 300
