"""Targets that cannot be written are rejected before any long work."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from secateur.pipelines.commands.main import app


@pytest.mark.parametrize(
    "command",
    [
        ("init", "{data}", "--label", "label", "--out", "{target}"),
        ("select", "{data}", "--by", "value", "--keep", "0.5", "--out", "{target}"),
        ("score", "{data}", "--score", "loss", "--label", "label", "--out", "{target}"),
        ("heads", "model", "--haystack", "{data}", "--out", "{target}"),
        ("init", "--example", "digits", "--out", "{target}"),
    ],
)
def test_a_target_that_cannot_be_written_is_rejected_before_the_data_are_read(
    command: tuple[str, ...], tmp_path: Path
) -> None:
    data, in_the_way = tmp_path / "data.csv", tmp_path / "file"
    data.write_text("value,label\n1,a\n2,b,too many\n")  # which reading would reject
    in_the_way.write_text("")
    ending = {"init": "study.yaml", "heads": "scores.json"}.get(command[0], "part.csv")
    target = in_the_way / "deeper" / ending
    done = CliRunner().invoke(app, [part.format(data=data, target=target) for part in command])
    assert isinstance(done.exception, ValueError), done.output
    assert str(done.exception) == f"{target}: {in_the_way} is no folder; name another path"
    assert in_the_way.read_text() == ""
