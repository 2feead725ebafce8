"""Grokking tickets at the paper's own share of training pairs, one seed: minutes to hours, so nightly only.

Results are kept in build/claims: a night continues with the arms that the previous one left.
"""

from pathlib import Path

import claims
import pytest

from secateur.pipelines.studies.files import find_study
from secateur.pipelines.studies.units import PruningStudy

ROOT = Path(__file__).parents[2]


@pytest.mark.nightly
def test_the_grokked_ticket_generalises_far_sooner_than_the_dense_network(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("SECATEUR_HOME", str(ROOT / "build" / "claims"))
    claims.main(["grokking_paper_split"])
    assert "| 0.4 | grokked |" in capsys.readouterr().out
    told = find_study(str(claims.STUDIES / "grokking_paper_split.yaml")).study
    assert isinstance(told, PruningStudy)
    outcomes = claims.outcomes_of(told)
    found = {arm: outcomes[arm, 0.4][0].metrics for arm in told.arms} | {"dense": outcomes["dense", 1.0][0].metrics}
    assert found["grokked"]["steps_to_generalise"] < found["dense"]["steps_to_generalise"] / 5
    for arm in ("random", "memorised", "magnitude_at_init", "snip_at_init", "grasp_at_init", "synflow_at_init"):
        assert found[arm]["mean_test_accuracy"] < found["grokked"]["mean_test_accuracy"], arm
