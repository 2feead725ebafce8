"""Adapters and teachers of completions in a study: refusals before training, and the work of launched trainings."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from sft_rows import CONFIG, encoded, rows_of

from secateur.pipelines.assets.teacher import copy_teacher
from secateur.pipelines.runs.worker import Taught, TrainingJob, files_of
from secateur.pipelines.studies.files import load_study
from secateur.trainers.contract import Data
from secateur.trainers.distillation.cached_logits import write
from secateur.trainers.distillation.objective import Distillation
from secateur.trainers.distillation.token_teacher import STARTS, TokenTeacher, cache_tokens
from secateur.trainers.loop.train import train
from secateur.trainers.modalities.sequences import trained
from secateur.trainers.models import registry as models

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of pretrained weights: `base` and `larger` with one tokenizer, `foreign` with another."""
    from transformers import AutoConfig, AutoModelForCausalLM

    folder, rows = tmp_path_factory.mktemp("weights"), rows_of(40)
    tokenizers = {"base": trained(iter(rows["answer"]), 300), "foreign": trained(iter(["zebra quagga okapi"] * 9), 300)}
    tokenizers["larger"] = tokenizers["base"]
    for name, tokenizer in tokenizers.items():
        described: dict[str, Any] = {
            "hidden_size": 32 if name == "larger" else 16, "num_hidden_layers": 1, "num_attention_heads": 2,
            "num_key_value_heads": 2, "intermediate_size": 16, "vocab_size": len(tokenizer),
            "max_position_embeddings": 256,
        }  # fmt: skip
        config = AutoConfig.for_model("llama", **described)
        AutoModelForCausalLM.from_config(config).save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
    return folder


def study_with(tmp_path: Path, weights: Path, teacher: str) -> Any:
    """A study of adapters, taught by pretrained weights."""
    rows_of(40).to_json(tmp_path / "data.jsonl")
    training = {"model": "language_model", "model_settings": {"pretrained": str(weights / "base"), "lora": {}}}
    taught = {"model": "language_model", "model_settings": {"pretrained": str(weights / teacher)}, "epochs": 0}
    written = {
        "name": "taught",
        "source": {"kind": "jsonl", "train": str(tmp_path / "data.jsonl"), "test_fraction": 0.2},
        "columns": {"prompt": "prompt", "completion": "answer"},
        "task": "sft",
        "encoding": {"tokenizer": str(weights / "base")},
        "scores": {"response_tokens": None},
        "selections": {"longest": {"selector": "top", "score": "response_tokens", "end": "high"}},
        "keep": [0.5],
        "training": training | {"epochs": 1},
        "distillation": {"for": ["uniform_random"], "teacher": taught, "alpha": 0.5, "top_k": 4},
    }
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(written))
    return load_study(tmp_path / "study.yaml")


def test_a_teacher_of_another_tokenizer_is_refused_before_anything_is_trained(weights: Path, tmp_path: Path) -> None:
    assert study_with(tmp_path, weights, "larger").revision(tmp_path, tmp_path / "cache")
    study = study_with(tmp_path, weights, "foreign")
    with pytest.raises(ValueError, match=r"foreign' has another tokenizer than encoding.tokenizer: token ids of one"):
        study.revision(tmp_path, tmp_path / "cache")
    data, _ = encoded(rows_of(40), tokenizer=str(weights / "base"))
    config = CONFIG.model_copy(update={"model_settings": {"pretrained": str(weights / "foreign")}})
    with pytest.raises(ValueError, match="has another tokenizer"):
        train(data, config, seed=0)


def test_a_teacher_from_a_folder_has_the_tokens_of_the_data_and_reads_as_many(weights: Path, tmp_path: Path) -> None:
    rows = rows_of(40)
    data, _ = encoded(rows, tokenizer=str(weights / "base"))
    short, _ = encoded(rows, tokenizer=str(weights / "base"), max_length=40, cut="prompt")
    other, _ = encoded(rows, tokenizer=str(weights / "foreign"))
    saved: dict[str, Data] = {"same": data, "short": short, "other": other}
    for name, own in saved.items():
        (tmp_path / name).mkdir()
        (tmp_path / f"copy-{name}").mkdir()
        model = models.build(CONFIG, own.inputs.shape[1:], own.task, seed=0, learned=own.model_settings)
        models.save(model, tmp_path / name, CONFIG, own.inputs.shape[1:])
    copy_teacher(tmp_path / "same", tmp_path / "copy-same", data)
    copy_teacher(tmp_path / "same", tmp_path / "copy-short", short)  # a teacher of longer texts reads shorter ones
    with pytest.raises(ValueError, match=f"reads 40 tokens, samples have up to {data.inputs.shape[2]}"):
        copy_teacher(tmp_path / "short", tmp_path / "copy-short", data)
    with pytest.raises(ValueError, match=r"knows other tokens than encoding.tokenizer"):
        copy_teacher(tmp_path / "other", tmp_path / "copy-other", data)


def test_a_launched_process_trains_adapters_by_a_teachers_tokens_as_a_call_here(weights: Path, tmp_path: Path) -> None:
    data, _ = encoded(rows_of(40), tokenizer=str(weights / "base"))
    chosen = {"pretrained": str(weights / "base"), "lora": {"rank": 2}}
    config = CONFIG.model_copy(update={"model_settings": chosen, "steps": 4, "length_buckets": 2})
    larger = CONFIG.model_copy(update={"model_settings": {"pretrained": str(weights / "larger")}})
    teacher = models.build(larger, data.inputs.shape[1:], data.task, seed=0, learned=data.model_settings)
    settings = Distillation(alpha=0.7, temperature=2.0, top_k=4)
    cached = cache_tokens(teacher, data, device=CPU, top_k=4, temperature=2.0)
    for name in ("teacher", "logits"):
        (tmp_path / name).mkdir()
    models.save(teacher, tmp_path / "teacher", larger, data.inputs.shape[1:])
    write(tmp_path / "logits", [cached.tokens], len(cached.tokens))
    np.save(tmp_path / "logits" / STARTS, cached.starts)
    files = files_of(data, tmp_path / "data")
    for logits, told in ((tmp_path / "logits", TokenTeacher(cached=cached)), (None, None)):
        taught = Taught(settings=settings, teacher=tmp_path / "teacher", logits=logits, share=0.5)
        job = TrainingJob(data=files, config=config, seed=3, taught=taught)
        job = TrainingJob.model_validate_json(job.model_dump_json())
        found = job.train(tmp_path / f"job-{logits is None}")
        expected = train(
            data, config, seed=3, device=CPU,
            objective=settings.objective(told or TokenTeacher(teacher, top_k=4, temperature=2.0), config, keep=0.5),
        )  # fmt: skip
        assert found.tokens_seen == expected.tokens_seen > 0
        for one, other in zip(found.model.parameters(), expected.model.parameters(), strict=True):
            assert torch.equal(one, other)
