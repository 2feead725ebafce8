"""What `secateur run STUDY --dry-run` says: what would be trained, how long that takes, and what room it needs."""

from typing import TYPE_CHECKING, Any

from secateur.pipelines.commands.shell import out, say, table_of

if TYPE_CHECKING:
    from secateur.pipelines.runs.forecast import Rate
    from secateur.pipelines.storage.store import Store
    from secateur.pipelines.studies.files import StudyFile
    from secateur.pipelines.studies.grid import Trial
    from secateur.pipelines.studies.samples import Study
    from secateur.pipelines.studies.study import AnyStudy


def forecast(file: "StudyFile", store: "Store", trials: "list[Trial]", *, again: bool) -> dict[str, Any]:
    """The answer of the command; it trains for a moment at most, and writes nothing that belongs to the study."""
    from secateur.pipelines.materialise import to_make
    from secateur.pipelines.runs.forecast import past_rate, peak_memory
    from secateur.pipelines.studies.samples import Study

    study = file.study
    assert study
    todo, fresh = to_make(file, store.root, trials, again=again)
    rate = past_rate(study, store)
    if rate is None and isinstance(study, Study):
        rate = rate_by_probe(study, file, store)
    training = "trained_model" if isinstance(study, Study) else study.outcome_asset
    missing = [trial for trial in todo.get(training, []) if trial]
    trainings = [counted("trials", [t for t in trials if not t.at_steps], missing)] if training else []
    if longer := [trial for trial in trials if trial.at_steps]:
        trainings.append(counted("trials at equal steps", longer, missing))
    seconds, kept_bytes = seconds_of(study, missing, rate), 0
    if isinstance(study, Study):
        others = {name: numbers for name, numbers in other_trainings(study, rate).items() if numbers}
        for name, numbers in others.items():
            anew = name in todo
            trainings.append({"of": name, "to_make": len(numbers) * anew, "made": len(numbers) * (not anew)})
            if anew and rate and seconds is not None:
                seconds += rate.seconds * sum(numbers)
    if rate:
        kept_bytes = rate.trial_bytes * len(missing)
    return {
        "study": file.name,
        "kind": study.kind,
        "trainings": trainings,
        "assets": {"to_make": sum(map(len, todo.values())), "fresh": fresh},
        "seconds": None if seconds is None else round(seconds, 1),
        "seconds_by": rate.of if rate else None,
        "memory_bytes": peak_memory(),
        "disk_bytes": kept_bytes if rate else None,
    }


def counted(name: str, trials: "list[Trial]", missing: "list[Trial]") -> dict[str, Any]:
    """How many of some trials are to be trained, and how many were."""
    to_make = len(set(trials) & set(missing))
    return {"of": name, "to_make": to_make, "made": len(trials) - to_make}


def rate_by_probe(study: "Study", file: "StudyFile", store: "Store") -> "Rate | None":
    """How fast the study trains, measured; None where its data would have to be read for long."""
    from secateur.pipelines.runs.forecast import data_at_hand, probed_rate

    data = data_at_hand(study, file.path.parent, store)
    return None if data is None else probed_rate(study, data)


def seconds_of(study: "AnyStudy", missing: "list[Trial]", rate: "Rate | None") -> float | None:
    """Of the trainings of trials; None where it is not known."""
    from secateur.pipelines.runs.forecast import seconds_of_trials

    if rate is None:
        return None if missing else 0.0
    return seconds_of_trials(study, missing, rate)


def other_trainings(study: "Study", rate: "Rate | None") -> dict[str, list[int]]:
    """Samples that each training besides those of the trials works through, by the asset that it is for."""
    from secateur.pipelines.runs.forecast import samples_seen, trainings_of_tuning
    from secateur.pipelines.runs.possible import learned_from

    samples = rate.samples if rate and rate.samples else 1
    tuned = [samples_seen(study.training, kept) for kept in trainings_of_tuning(study, samples)]
    learned = learned_from(samples, study.proxy.folds)
    return {"proxy": [samples_seen(study.proxy, learned)] * len(study.proxies), "tuning": tuned}


def show_forecast(answer: dict[str, Any]) -> None:
    """The trainings as a table, then time and room."""
    lines = ((one["of"], one["to_make"], one["made"]) for one in answer["trainings"])
    if answer["trainings"]:
        out.print(table_of(("trainings", "to make", "made already"), lines, right=(1, 2)))
    if answer["seconds"] is None:
        say("how long they take is not known: no trial of the study was made here before, and none is tried for a look")
    elif answer["seconds"]:
        how_long = f"about {in_time(answer['seconds'])} of training, by {answer['seconds_by']}"
        say(f"{how_long}; reading, choosing and writing come on top")
    else:
        say("nothing is to be trained")
    if answer["disk_bytes"]:
        say(f"about {in_bytes(answer['disk_bytes'])} of files")
    say(f"memory: {in_bytes(answer['memory_bytes'])} in this process now, the data and one training included if tried")
    say("nothing was made", style="bold")


def in_time(seconds: float) -> str:
    """Seconds as people say them."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def in_bytes(count: int) -> str:
    """Bytes as people say them."""
    power = min(4, max(0, (len(str(count)) - 1) // 3))
    size = count / 1000**power
    unit = ("bytes", "kB", "MB", "GB", "TB")[power]
    return f"{size:.0f} {unit}" if not power or size >= 10 else f"{size:.1f} {unit}"
