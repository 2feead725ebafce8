"""DARE and DAREx on a language model: SmolLM2 fine-tuned on SST-2, its delta pruned by `secateur deltas`, then tested.

    make language-model
    SECATEUR_DATA=folder python benchmarks/language_deltas.py [--minutes 30] [--seeds 5] [--keep 0.1 --keep 0.01]

The model is fine-tuned in full on phrases of SST-2, whose answer is the likelier of " great" and " terrible" after
"<phrase> It was": once plainly, once with AdamR. Every arm is a call of the command; the pruned checkpoint is evaluated
on test phrases and deleted. Masks of other seeds and validation phrases select q. All results are in
build/language-deltas and are not repeated, so you may stop it at any time. It prints a Markdown table over seeds of the
mask; results.json holds the processor seconds of each step. The model's weights were dequantised from 4 bits.
"""

import argparse
import json
import os
import shutil
import sys
import time
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from typer.testing import CliRunner

from secateur.pipelines.commands.main import app
from secateur.pipelines.files.whole_files import write_bytes
from secateur.pipelines.pages.words import with_sign
from secateur.trainers.judging.comparison import compare, summarise
from secateur.trainers.loop.adam_r import pull_towards
from secateur.trainers.models.causal_model import CausalModel, load_causal
from secateur.trainers.passes.layer_inputs import layer_inputs, save_inputs
from secateur.trainers.pruning.prompt_tokens import Evaluator, Examples, prompt_tokens

BUILD = Path(__file__).parents[1] / "build"
BASE = Path(os.environ.get("SECATEUR_LANGUAGE_MODEL") or BUILD / "language-model")
WORK = BUILD / "language-deltas"
TEMPLATE, WORDS = "{text} It was", (" terrible", " great")
STEPS, BATCH, RATE, WARM, PULL = 40, 8, 5e-5, 5, 0.2
TEST, VALIDATION, RECORDED = 300, 64, 32
EVERY = 10
"""Steps between snapshots from which a stopped fine-tuning resumes."""
LAYERS = ("--only", "*mlp*", "--only", "*self_attn*")
"""The layers that the authors prune in decoders; embeddings and norms keep their fine-tuned values."""
ARMS: dict[str, tuple[str, ...]] = {
    "random, divided by the share (DARE)": (),
    "random, q of each layer by the bound, eta 1.01": ("--rescale", "bound", "--eta", "1.01"),
    "random, q of each layer by moments": ("--rescale", "moments"),
    "random, not divided": ("--rescale", "none"),
    "largest": ("--by", "magnitude"),
}
SEARCHED = "random, one q by validation"
PULLED = "random, divided by the share, fine-tuned by AdamR"


def phrases(part: str, count: int, seed: int) -> Examples:
    """A random sample of phrases from a split of SST-2, with their labels."""
    data = Path(os.environ.get("SECATEUR_DATA") or Path(__file__).parents[2] / "shared" / "data")
    rows = pl.read_parquet(data / "sst2_glue" / f"{part}.parquet")
    chosen = rows[np.random.default_rng(seed).permutation(len(rows))[:count].tolist()]
    return Examples(tuple({"text": text} for text in chosen["text"]), chosen["label"].to_numpy().astype(np.int64))


def judge(causal: CausalModel) -> Evaluator:
    """The evaluator of a model's answers."""
    return Evaluator(causal, prompt_tokens(causal.tokenizer, TEMPLATE), WORDS, batch=32)


@cache
def held_out() -> tuple[Examples, Examples]:
    """Disjoint validation and test phrases."""
    both = phrases("validation", VALIDATION + TEST, 1)
    first, rest = both.fields[:VALIDATION], both.fields[VALIDATION:]
    return Examples(first, both.labels[:VALIDATION]), Examples(rest, both.labels[VALIDATION:])


def accuracy(folder: Path, examples: Examples) -> float:
    """Share of phrases whose label's word a checkpoint prefers."""
    asked = judge(load_causal(str(folder)))
    return float(asked.accuracy(np.ones((1, len(asked.prompt.ids)), dtype=np.bool_), examples)[0])


def validated(folder: Path) -> float:
    """Criterion for q: minus the mean loss of the label's word on validation phrases, finer than accuracy."""
    asked, examples = judge(load_causal(str(folder))), held_out()[0]
    chances = asked.probabilities(np.ones((1, len(asked.prompt.ids)), dtype=np.bool_), examples)[0]
    return float(np.log(chances[np.arange(len(examples)), examples.labels]).mean())


def tune(target: Path, pull: float) -> dict[str, float]:
    """Fine-tune every weight; resumes from a snapshot."""
    began, stopped = time.process_time(), target.with_suffix(".stopped.pt")
    causal = load_causal(str(BASE))
    model, asked = causal.model, judge(causal)
    optimiser = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.0, fused=True)
    if pull:
        pull_towards(optimiser, [weight.detach().clone() for weight in model.parameters()], strength=pull)
    done, spent = 0, 0.0
    if stopped.is_file():
        state = torch.load(stopped)
        model.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
        done, spent = state["done"], state["seconds"]
    training = phrases("train", STEPS * BATCH, 0)
    texts = [TEMPLATE.replace("{text}", one["text"]) for one in training.fields]
    for step in range(done, STEPS):
        places = sorted(
            range(step * BATCH, (step + 1) * BATCH), key=lambda at: len(causal.tokenizer(texts[at]).input_ids)
        )
        logits = asked.last_logits([causal.tokenizer(texts[at]).input_ids for at in places])
        loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(training.labels[places]))
        for group in optimiser.param_groups:
            group["lr"] = RATE * min((step + 1) / WARM, (STEPS - step) / (STEPS - WARM))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        print(f"{target.name}: step {step + 1} of {STEPS}, loss {float(loss.detach()):.3f}", file=sys.stderr)
        if (step + 1) % EVERY == 0 and step + 1 < STEPS:
            state = {"model": model.state_dict(), "optimiser": optimiser.state_dict(), "done": step + 1}
            torch.save(state | {"seconds": spent + time.process_time() - began}, stopped)
    model.eval()
    model.save_pretrained(target.with_suffix(".partial"))
    causal.tokenizer.save_pretrained(target.with_suffix(".partial"))
    target.with_suffix(".partial").rename(target)
    stopped.unlink(missing_ok=True)
    return {"seconds": spent + time.process_time() - began}


def record(target: Path) -> dict[str, float]:
    """Save inputs of the fine-tuned model's layers on training phrases outside of the fine-tuning set."""
    began, causal = time.process_time(), load_causal(str(WORK / "tuned"))
    texts = [TEMPLATE.replace("{text}", one["text"]) for one in phrases("train", STEPS * BATCH + RECORDED, 0).fields]
    batches = (torch.tensor([causal.tokenizer(text).input_ids]) for text in texts[STEPS * BATCH :])
    save_inputs(layer_inputs(causal.model, lambda model, ids: model(input_ids=ids), batches), target)
    return {"seconds": time.process_time() - began}


def pruned(tuned: str, keep: float, options: tuple[str, ...], seed: int) -> dict[str, Any]:
    """One call of the command, and the accuracy of its output."""
    out, began = WORK / "pruned", os.times()
    if any(name in ("bound", "moments") for name in options):
        options = (*options, "--inputs", str(WORK / "inputs.safetensors"))
    arguments = (str(BASE), str(WORK / tuned), "--keep", str(keep), *LAYERS, *options, "--seed", str(seed))
    asked = CliRunner().invoke(app, ["deltas", *arguments, "--out", str(out), "--overwrite", "--json"])
    if asked.exception:
        raise asked.exception
    told = json.loads(asked.stdout)
    found = {"accuracy": accuracy(out, held_out()[1]), "kept": told["kept"], "of": told["of"]}
    found["q"] = float(np.mean([one["q"] for one in told["tensors"].values()]))
    shutil.rmtree(out)
    spent = os.times()
    found["seconds"] = sum(after - before for after, before in zip(spent[:4], began[:4], strict=True))
    return found


class Results:
    """Known results, stored in results.json."""

    def __init__(self, minutes: float) -> None:
        self.file, self.until = WORK / "results.json", time.monotonic() + 60 * minutes
        self.known: dict[str, Any] = json.loads(self.file.read_text()) if self.file.is_file() else {}

    def once(self, name: str, make: Any) -> Any:
        """The result of that name, computed if it is missing and time is left."""
        if name not in self.known and time.monotonic() < self.until:
            self.known[name] = make()
            write_bytes(self.file, json.dumps(self.known, indent=1).encode(), overwrite=True)
            print(f"{name}: {self.known[name]}", file=sys.stderr)
        return self.known.get(name)


def run(results: Results, keeps: list[float], seeds: int) -> None:
    """Run everything missing, the most important parts first."""
    results.once("tuned", lambda: tune(WORK / "tuned", 0.0))
    results.once("inputs", lambda: record(WORK / "inputs.safetensors"))
    for name, folder in {"the model before": BASE, "fine-tuned": WORK / "tuned"}.items():
        results.once(f"whole: {name}", lambda folder=folder: {"accuracy": accuracy(folder, held_out()[1])})
    for seed in range(seeds):
        for keep in keeps:
            for arm, options in ARMS.items():
                if "magnitude" not in options or seed == 0:
                    results.once(f"{arm}@{keep}#{seed}", lambda o=options, k=keep, s=seed: pruned("tuned", k, o, s))
    score = ("--rescale", "search", "--score", "language_deltas:validated", "--draws", "1")
    for keep in keeps:
        found = results.once(f"{SEARCHED}@{keep}", lambda k=keep: pruned("tuned", k, score, seeds))
        for seed in range(seeds if found else 0):
            q = ("--rescale", repr(found["q"]))
            results.once(f"{SEARCHED}@{keep}#{seed}", lambda k=keep, q=q, s=seed: pruned("tuned", k, q, s))
    results.once("pulled", lambda: tune(WORK / "pulled", PULL))
    results.once("whole: fine-tuned by AdamR", lambda: {"accuracy": accuracy(WORK / "pulled", held_out()[1])})
    for keep in keeps:
        for seed in range(seeds):
            results.once(f"{PULLED}@{keep}#{seed}", lambda k=keep, s=seed: pruned("pulled", k, (), s))


def table(known: dict[str, Any], keeps: list[float], seeds: int) -> str:
    """Accuracy in % by arm and kept share, compared with DARE on the same seeds."""
    lines = ["| kept entries | share kept | accuracy, % | mean q | against DARE, points |", "|---|---|---|---|---|"]
    for name, found in known.items():
        if name.startswith("whole: "):
            lines.append(f"| {name.removeprefix('whole: ')} | | {100 * found['accuracy']:.1f} | | |")
    dare = next(iter(ARMS))
    for keep in keeps:
        each = {
            arm: [one for seed in range(seeds) if (one := known.get(f"{arm}@{keep}#{seed}"))]
            for arm in (*ARMS, SEARCHED, PULLED)
        }
        whole = {
            arm: [one["accuracy"] for one in found] for arm, found in each.items() if len(found) == len(each[dare])
        }
        beside = (
            compare({arm: values for arm, values in whole.items() if arm != dare}, whole[dare]) if whole[dare] else {}
        )
        for arm, found in each.items():
            if not found:
                continue
            mean = summarise([100 * one["accuracy"] for one in found])
            spread = "" if mean.half_width is None else f" ± {mean.half_width:.1f}"
            against = beside.get(arm)
            told = with_sign(f"{100 * against.difference:.1f}") if against else ""
            told += f" (p {against.p_value:.2g})" if against and against.p_value is not None else ""
            q = np.mean([one["q"] for one in found])
            lines.append(f"| {arm} | {keep:g} | {mean.mean:.1f}{spread} ({mean.seeds}) | {q:.3g} | {told} |")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    """See the file's first lines."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--keep", type=float, action="append")
    given = parser.parse_args(arguments)
    if not (BASE / "model.safetensors").is_file():
        print(
            f"SKIPPED, no language model in {BASE}: make language-model, or set SECATEUR_LANGUAGE_MODEL to its folder"
        )
        return
    WORK.mkdir(parents=True, exist_ok=True)
    results, keeps = Results(given.minutes), given.keep or [0.1, 0.01]
    run(results, keeps, given.seeds)
    print(table(results.known, keeps, given.seeds))


if __name__ == "__main__":
    main()
