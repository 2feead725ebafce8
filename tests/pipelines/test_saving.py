"""The report's saving by a subset: planted costs with known break-even, and known curves with known times."""

import json
import math
from collections.abc import Callable
from typing import Any

import pytest
from small_studies import read

from secateur.pipelines.pages.page import page_of
from secateur.pipelines.pages.report import build_report
from secateur.pipelines.pages.saving import Saving, ordinal, saving_of
from secateur.pipelines.pages.time_to import TimeToAccuracy, time_to_of
from secateur.pipelines.pages.words import span
from secateur.pipelines.studies.files import StudyError, StudyFile
from secateur.pipelines.studies.samples import Study
from secateur.trainers.judging.outcome import Cost, Outcome
from secateur.trainers.tasks.contract import Metric

ACCURACY, RMSE = Metric("accuracy", percent=True), Metric("rmse", higher_is_better=False, unit="mg")
WriteStudy = Callable[..., StudyFile]


@pytest.fixture
def study(write_study: WriteStudy) -> Study:
    selections = {"hardest": {"selector": "top", "score": "el2n"}, "rs2": {}}
    return read(write_study(seeds=3, keep=[0.5], selections=selections, cost_per_hour=36.0))


def trial(kept: int, seconds: float, steps: int, *, epochs: int = 10, **facts: Any) -> Outcome:
    """A training with `kept` of 100 samples; `once` are its one-time costs."""
    once, seen = facts.pop("once", {}), kept * epochs
    compute = {"training": Cost(seen, seen, seconds)} | once
    known = {"metrics": {"accuracy": 0.9}, "kept": kept, "of": 100, "steps": steps, "epochs": epochs} | facts
    return Outcome(**{"compare_at": "equal epochs"} | known, samples_seen=seen, seconds=seconds, compute=compute)


def runs(subset: list[Outcome], name: str = "hardest@0.5", full: float = 10.0) -> dict[str, dict[int, Outcome]]:
    return {name: dict(enumerate(subset)), "full": {seed: trial(100, full, 40) for seed in range(len(subset))}}


def saved(study: Study, trials: dict[str, dict[int, Outcome]], recommended: str | None = "hardest@0.5") -> Saving:
    found = saving_of(study, trials, recommended)
    assert found is not None
    return found


def test_once_is_what_no_further_training_costs_and_the_saving_pays_it_back(study: Study) -> None:
    """Ten seconds are six where half of the samples stay: eleven spent once are back in the third training."""
    once = {"proxy": Cost(300, 300, 8.0), "scoring": Cost(100, 0, 2.5), "choosing": Cost(seconds=0.5)}
    found = saved(study, runs([trial(50, 6.0, 20, once=once) for _ in range(3)]))
    [row] = found.rows
    assert (row.seconds, row.steps, row.work, row.once_seconds, row.pays_from) == (4.0, 20, 500, 11.0, 3)
    assert row.once_work == 300 + 100 / 3
    assert found.sentences == [
        "The recommended subset saves 50 of 100 samples, and in each training 50% of the steps and 4.00 seconds of "
        "10.0 seconds (40%; in money 0.04).",
        "Making it took 11.0 seconds once (proxy 8, scoring 2.5, choosing 0.5; in money 0.11): it pays from the third "
        "training on.",
        "The 6 trainings of the study itself took 48.0 seconds (in money 0.48), not counted here.",
    ]
    content = json.loads(json.dumps(found.content(), allow_nan=False))
    assert content["rows"][0]["once"]["proxy"] == {"samples": 300, "seconds": 8.0}
    assert (content["rows"][0]["money"], content["rows"][0]["once_money"]) == pytest.approx((0.04, 0.11))
    assert content["study"] == {"trainings": 6, "seconds": 48.0, "money": pytest.approx(0.48)}


@pytest.mark.parametrize(("once", "pays"), [(0.0, 1), (4.0, 1), (4.01, 2), (8.0, 2), (8.01, 3)])
def test_break_even_is_where_the_sum_of_the_saving_reaches_what_was_spent(study: Study, once: float, pays: int) -> None:
    [row] = saved(study, runs([trial(50, 6.0, 20, once={"proxy": Cost(seconds=once)})])).rows
    assert row.pays_from == pays
    assert pays * 4 >= once > (pays - 1) * 4 or once == 0


def test_a_training_that_is_no_shorter_never_pays(study: Study) -> None:
    longer = saved(study, runs([trial(50, 11.0, 20, once={"proxy": Cost(seconds=1.0)})]))
    assert (longer.rows[0].saves, longer.rows[0].pays_from) == (False, None)
    assert longer.sentences[:2] == [
        "The recommended subset saves 50 of 100 samples of storage, and nothing in training.",
        "Making it took 1.00 seconds once (proxy 1; in money 0.01): in training time it never pays.",
    ]
    assert longer.table[1][-1] == "never"
    equal = {"compare_at": "equal steps", "epochs": 20}
    [alike] = saved(study, runs([trial(50, 9.0, 40, **equal)])).rows
    assert alike.pays_from is None, "as much work in less time is chance"


def test_where_seeds_disagree_nothing_is_sure(study: Study) -> None:
    found = saved(study, runs([trial(50, seconds, 20) for seconds in (6.0, 7.0, 10.5)]))
    assert (found.rows[0].seconds, found.rows[0].saves, found.rows[0].pays_from) == (3.0, None, None)
    assert found.table[1][-1] == "not sure"
    assert "whether it pays is not sure" in found.sentences[1]


def test_equal_steps_say_why_no_time_is_saved_and_nothing_recommended_saves_nothing(study: Study) -> None:
    equal = {"compare_at": "equal steps", "epochs": 20}
    trials = runs([trial(50, 10.0, 40, **equal)])
    trials["full"] = {0: trial(100, 10.0, 40, compare_at="equal steps")}
    cheaper = saved(study, {"hardest@0.5": {0: trial(50, 9.56, 40, **equal | {"epochs": 19})}, "full": trials["full"]})
    assert cheaper.rows[0].work > 0, "its batches are smaller"
    assert cheaper.sentences[0] == "The recommended subset saves 50 of 100 samples of storage, and nothing in training."
    assert "write `training: {epochs: …}`" in cheaper.sentences[2]
    assert cheaper.table[1][3:5] == ["none of 10.00", ""]
    assert cheaper.table[1][-1] == "never"
    assert "equal_steps" not in cheaper.content()["rows"][0]
    found = saved(study, trials, "full")
    assert found.sentences[0] == ("Everything is kept, so nothing is saved; the table lists the saving of each subset.")
    assert found.sentences[1].startswith("At equal steps every training is as long as one on the full set")


def test_costs_that_are_not_known_are_no_saving(study: Study) -> None:
    bare = {"hardest@0.5": {0: Outcome(kept=50, of=100)}, "full": {0: Outcome(kept=100, of=100)}}
    assert saving_of(study, bare, None) is None
    assert saving_of(study, {"hardest@0.5": bare["hardest@0.5"]}, None) is None
    kept = {"hardest@0.5": {0: trial(100, 9.0, 40)}, "full": {0: trial(100, 10.0, 40)}}
    assert saving_of(study, kept, None) is None, "a selection that keeps all saves nothing"


def test_without_a_price_no_money_is_spoken_of(study: Study) -> None:
    found = saved(study.model_copy(update={"cost_per_hour": None}), runs([trial(50, 6.0, 20)]))
    assert not any("money" in text for text in [*found.sentences, *found.table[0]])
    assert found.content()["rows"][0]["money"] is None


def test_the_price_changes_no_training(study: Study) -> None:
    other = study.model_copy(update={"cost_per_hour": 1.0})
    assert study.decides("trained_model", next(iter(study.trials))) == other.decides(
        "trained_model", next(iter(study.trials))
    )
    assert study.decides("proxy", None) == other.decides("proxy", None)
    assert study.decides("report", None) != other.decides("report", None)


def test_numbers_in_words() -> None:
    assert [ordinal(number) for number in (1, 10, 11, 21, 22, 103, 112)] == [
        *("first", "tenth", "11th", "21st", "22nd", "103rd", "112th")
    ]
    assert [span(seconds) for seconds in (0.5, 12.34, 240, 3 * 3600)] == [
        *("0.50 seconds", "12.3 seconds", "4 minutes", "3 hours")
    ]


def curve(*points: tuple[int, float, float], metric: str = "accuracy") -> dict[str, Any]:
    return {"curve": [{"steps": s, "seconds": t, "metrics": {metric: value}} for s, t, value in points]}


def timed(study: Study, metric: Metric, trials: dict[str, list[Outcome]]) -> TimeToAccuracy:
    found = time_to_of(study, metric, {name: dict(enumerate(each)) for name, each in trials.items()})
    assert found is not None
    return found


def test_times_are_medians_over_seeds_with_what_the_selection_cost(study: Study) -> None:
    """The full set ends at 0.9: 90% of it is 0.81. Of three seeds of rs2 one never gets there."""
    score = {"proxy": Cost(seconds=2.0)}
    fast, faster = curve((10, 1.0, 0.7), (20, 2.0, 0.82)), curve((10, 1.0, 0.81), (20, 2.0, 0.8))
    sampled = [
        trial(50, 2.0, 20, in_training=True, once=score, facts=facts)
        for facts in (fast, faster, curve((10, 1.0, 0.5), (20, 2.0, 0.6)))
    ]
    whole = [trial(100, 10.0, 40, facts=curve((20, 5.0, 0.8), (40, 10.0, 0.9))) for _ in range(3)]
    random = [trial(50, 2.0, 20, facts=curve((20, 2.0, 0.7))) for _ in range(3)]
    study = study.model_copy(update={"time_to": study.watched.model_copy(update={"shares": [0.9], "values": [70.0]})})  # type: ignore[union-attr]
    found = timed(study, ACCURACY, {"full": whole, "rs2@0.5": sampled, "uniform_random@0.5": random})
    told = {(row.arm, row.target.title): row for row in found.rows}
    row = told["rs2", "90% of the full set's"]
    assert (row.reached, row.seeds, row.steps, row.seconds) == (2, 3, 20, 4.0)
    assert row.beside == {"everything": 0.4}
    assert told["full", "90% of the full set's"].seconds == 10.0
    assert math.isinf(told["uniform_random", "90% of the full set's"].seconds)
    assert told["uniform_random", "70"].steps == 20
    assert told["rs2", "70"].beside == {"everything": 3.0 / 5.0, "random": 1.5}
    assert found.sentences == [
        "Soonest at accuracy of 70.0% is rs2 at 0.5, by 3 seconds and 10 steps in the median (2 of 3 seeds reached "
        "it), what it is made of included; random at 0.5 took 2 seconds and 20 steps, the full set took 5 seconds and "
        "20 steps."
    ]
    json.dumps(found.content(), allow_nan=False)


def test_where_lower_is_better_a_share_of_the_result_is_above_it(study: Study) -> None:
    def run(*values: float, **known: Any) -> Outcome:
        points = [(step + 1, float(step + 1), value) for step, value in enumerate(values)]
        facts = curve(*points, metric="rmse")
        return trial(50, 2.0, 20, facts=facts, metrics={"rmse": values[-1]}, in_training=True, **known)

    found = timed(study, RMSE, {"full": [run(60.0, 50.0, 45.0)], "rs2@0.5": [run(49.0, 48.0, 47.0)]})
    assert [row.target.value for row in found.rows[::2]] == pytest.approx([45 / 0.9, 45 / 0.95, 45 / 0.99])
    assert [row.steps for row in found.rows if row.arm == "rs2"] == [1, 3, math.inf]
    assert [row.steps for row in found.rows if row.arm == "full"] == [2, 3, 3]


def test_nothing_is_timed_where_nothing_was_measured(study: Study) -> None:
    bare = [trial(50, 2.0, 20)]
    assert time_to_of(study, ACCURACY, {"full": dict(enumerate(bare)), "rs2@0.5": dict(enumerate(bare))}) is None


@pytest.mark.parametrize(
    ("written", "asked"),
    [
        (None, {"rs2": 20, "uniform_random": 20, "full": 20, "hardest": 0, "stratified_random": 0}),
        (False, {"rs2": 0, "full": 0}),
        ([0.5], {"rs2": 20, "hardest": 20, "stratified_random": 20, "full": 20}),
        ({"values": [80], "shares": [], "evaluations": 4}, {"hardest": 4, "full": 4}),
    ],
)
def test_a_study_says_what_is_measured_along_the_way(
    write_study: WriteStudy, written: Any, asked: dict[str, int]
) -> None:
    selections = {"hardest": {"selector": "top", "score": "el2n"}, "rs2": {}}
    study = read(write_study(selections=selections, time_to=written))
    assert {name: study.evaluations_of(name) for name in asked} == asked


def test_without_a_selection_in_training_nothing_is_measured_unless_it_is_asked_for(write_study: WriteStudy) -> None:
    assert read(write_study()).evaluations_of("full") == 0
    assert read(write_study(time_to=[0.9])).evaluations_of("full") == 20
    with pytest.raises(StudyError, match="time_to: name shares of the full set's result, or values"):
        write_study(time_to={"shares": []})


def test_the_page_has_the_sentences_and_the_tables(study: Study) -> None:
    facts = curve((10, 1.0, 0.7), (20, 2.0, 0.95))
    outcomes = {}
    for each in study.trials:
        kept = 100 if each.selection == "full" else 50
        outcomes[each] = trial(kept, kept / 10 + each.seed / 100, kept, in_training=each.name == "rs2", facts=facts)
    report = build_report(study, outcomes)
    page = page_of(report)
    [part] = [part for part in page.parts if part.name == "saving"]
    assert len(part.tables) == 2
    assert report.saving is not None
    assert report.saving.sentences[0] in page.html()
    assert page.content.time_to_accuracy["split"] == "test"
    assert page.content.saving["rows"][0]["pays_from"] == 1
