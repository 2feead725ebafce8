"""Write language models without a manifest's dropped heads, and prompts without its dropped tokens."""

from pathlib import Path

from secateur.pipelines.files.whole_files import new_folder, write_bytes
from secateur.trainers.experiments.prompt_pruning import pruned_prompt
from secateur.trainers.models.causal_model import load_causal
from secateur.trainers.models.transformer import load_pretrained
from secateur.trainers.pruning.kept import Kept
from secateur.trainers.pruning.masked_heads import heads_of, remove_heads
from secateur.trainers.pruning.prompt_tokens import prompt_tokens


def write_without_heads(kept: Kept, model: Path, output: Path) -> None:
    """Write the model, with the masks applied to its weights, and its tokenizer as a folder for `from_pretrained`.

    `model` is a folder, or a name on the hub. Raises ValueError for another model than the manifest's, and for masks
    that hold for new tokens alone, as weights cannot express these.
    """
    causal = load_causal(str(model))
    keep = heads_of(causal.model, kept)
    if kept.settings.get("decoding_only"):
        raise ValueError("heads are masked while tokens are written and not before, which no weights can do")
    remove_heads(causal.model, keep, how=kept.settings.get("how", "zero"))
    with new_folder(output) as partial:
        causal.model.save_pretrained(partial)
        causal.tokenizer.save_pretrained(partial)


def write_prompt(kept: Kept, target: Path, output: Path, *, model: str | None = None) -> None:
    """Write a prompt with its kept tokens, as UTF-8 text.

    `target` is a text file with the prompt, together with the `model` of the prompt (a folder or a name on the hub), or
    that model itself for the manifest's own prompt. Raises ValueError for another prompt, and for a model that cuts it
    into other tokens.
    """
    from transformers import AutoTokenizer

    if target.is_file() and model is None:
        raise ValueError("tokens are those of a tokenizer: name the model that the prompt is for (model, --model)")
    text = target.read_text(encoding="utf-8").removesuffix("\n") if target.is_file() else kept.settings.get("template")
    if not isinstance(text, str):
        raise ValueError("the manifest holds no template: name a file with the prompt")
    tokenizer = load_pretrained(AutoTokenizer, model or str(target), None)
    write_bytes(output, pruned_prompt(prompt_tokens(tokenizer, text), kept).encode())
