"""`secateur run STUDY --dry-run`: list the missing trainings, and estimate their time and memory."""

from typing import TYPE_CHECKING, Any

from secateur.pipelines.commands.shell import out, say, table_of

if TYPE_CHECKING:
    from secateur.pipelines.runs.forecast import Rate
    from secateur.pipelines.storage.store import Store
    from secateur.pipelines.studies.files import StudyFile
    from secateur.pipelines.studies.grid import Trial
    from secateur.pipelines.studies.samples import Study
    from secateur.pipelines.studies.study import AnyStudy


def forecast(
    file: "StudyFile", store: "Store", trials: "list[Trial]", later: "list[Trial]", *, again: bool
) -> dict[str, Any]:
    """The answer of the command; it trains briefly at most, and writes no file of the study.

    `later` are trials of further stages; earlier outcomes decide how many of them run. Raises SourceError for a missing
    file of a target.
    """
    from secateur.pipelines.data.target_rows import file_at
    from secateur.pipelines.materialise import to_make
    from secateur.pipelines.runs.forecast import MANY, other_trainings, past_rate
    from secateur.pipelines.studies.choice import Choice
    from secateur.pipelines.studies.samples import Study

    study = file.study
    assert study
    if isinstance(study, Study | Choice) and study.target and study.target.file is not None:
        file_at(file.path.parent, study.target.file)  # a run reads it after the source
    todo, fresh = to_make(file, store.root, trials, again=again)
    rate, room, unknown = past_rate(study, store), None, list[str]()
    if isinstance(study, Study):
        rate, room, unknown = looked_at(study, file, store, rate)
    training = "trained_model" if isinstance(study, Study) else study.outcome_asset
    missing = [trial for trial in todo.get(training, []) if trial]
    trainings = [counted("trials", [t for t in trials if not t.at_steps], missing)] if training else []
    if longer := [trial for trial in trials if trial.at_steps]:
        trainings.append(counted("trials at equal steps", longer, missing))
    seconds, kept_bytes = seconds_of(study, missing, rate), 0
    if isinstance(study, Study):
        others = other_trainings(study, rate.samples if rate and rate.samples else MANY)
        for name, numbers in others.items():
            anew = name in todo
            if numbers:
                trainings.append({"of": name, "to_make": len(numbers) * anew, "made": len(numbers) * (not anew)})
            if numbers and anew:
                seconds = None if seconds is None or rate is None else seconds + rate.seconds * sum(numbers)
    if rate:
        kept_bytes = rate.trial_bytes * len(missing)
    return {
        "study": file.name,
        "kind": study.kind,
        "trainings": trainings,
        "assets": {"to_make": sum(map(len, todo.values())), "fresh": fresh},
        "later_stages": {"trials": len(later), "seconds": rounded(seconds_of(study, later, rate))},
        "seconds": rounded(seconds),
        "seconds_by": rate.of if rate else None,
        "memory_bytes": sum(room.values()) if room else None,
        "memory": room,
        "disk_bytes": kept_bytes if rate else None,
        "unknown": unknown,
    }


def rounded(seconds: float | None) -> float | None:
    """Seconds with one decimal, where they are known."""
    return None if seconds is None else round(seconds, 1)


def looked_at(
    study: "Study", file: "StudyFile", store: "Store", rate: "Rate | None"
) -> "tuple[Rate | None, dict[str, int] | None, list[str]]":
    """The training rate, by a probe where no trial shows it, the memory, and the reasons why one is unknown."""
    from secateur.pipelines.runs.forecast import (
        data_at_hand,
        memory_of,
        probed_rate,
        refuse_amounts,
        why_unknown,
    )
    from secateur.scorers.memory import peak_memory

    libraries, base = peak_memory(), file.path.parent
    if (data := data_at_hand(study, base, store)) is None:
        return rate, None, [why_unknown(study, base)]
    refuse_amounts(study, data)
    unknown = []
    taught = study.distillation
    if taught and taught.teacher and (getattr(taught.teacher, "model", study.training.model) != study.training.model):
        unknown.append("the teacher is another network than the students: its seconds are counted as if it were theirs")
    return rate or probed_rate(study, data), memory_of(study, data, libraries), unknown


def counted(name: str, trials: "list[Trial]", missing: "list[Trial]") -> dict[str, Any]:
    """Numbers of missing and of finished trainings among some trials."""
    to_make = len(set(trials) & set(missing))
    return {"of": name, "to_make": to_make, "made": len(trials) - to_make}


def seconds_of(study: "AnyStudy", missing: "list[Trial]", rate: "Rate | None") -> float | None:
    """Seconds of the trainings of trials; None if unknown."""
    from secateur.pipelines.runs.forecast import seconds_of_trials

    if rate is None:
        return None if missing else 0.0
    return seconds_of_trials(study, missing, rate)


def show_forecast(answer: dict[str, Any]) -> None:
    """The trainings as a table, then time and room."""
    from secateur.pipelines.pages.words import span

    lines = ((one["of"], one["to_make"], one["made"]) for one in answer["trainings"])
    if answer["trainings"]:
        out.print(table_of(("trainings", "to make", "made already"), lines, right=(1, 2)))
    if answer["seconds"] is None:
        say("how long they take is not known: no trial of the study was made here before, and none is tried for a look")
    elif answer["seconds"]:
        how_long = f"about {span(answer['seconds'])} of training, by {answer['seconds_by']}"
        say(f"{how_long}; reading, choosing and writing come on top")
    else:
        say("nothing is to be trained")
    if more := answer["later_stages"]["trials"]:
        length = answer["later_stages"]["seconds"]
        took = f", about {span(length)} of training" if length else ""
        say(f"this is the first stage: up to {more} further trials follow where outcomes ask for them{took}")
    if answer["disk_bytes"]:
        say(f"about {in_bytes(answer['disk_bytes'])} of files")
    if room := answer["memory"]:
        parts = ", ".join(f"{name} {in_bytes(count)}" for name, count in room.items())
        say(f"memory: about {in_bytes(answer['memory_bytes'])} ({parts}) and a batch in the network")
    else:
        say("memory: not known")
    for reason in answer["unknown"]:
        say(reason)
    say("nothing was made", style="bold")


def in_bytes(count: int) -> str:
    """Bytes in a readable unit."""
    power = min(4, max(0, (len(str(count)) - 1) // 3))
    size = count / 1000**power
    unit = ("bytes", "kB", "MB", "GB", "TB")[power]
    return f"{size:.0f} {unit}" if not power or size >= 10 else f"{size:.1f} {unit}"
