"""Masked heads against weights edited by hand, and against attention written out."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MambaConfig,
    OPTConfig,
    Qwen2Config,
    Qwen3Config,
)

from secateur.trainers.pruning.masked_heads import attention_layers, heads_of, kept_heads, masked_heads, remove_heads

LAYERS, HEADS, WIDTH, VOCABULARY = 2, 4, 16, 11
LLAMA_LIKE: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": WIDTH,
    "intermediate_size": 24,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "num_key_value_heads": 2,
    "max_position_embeddings": 32,
    "initializer_range": 0.5,
    "pad_token_id": None,
}
CONFIGS: dict[str, Any] = {
    "llama": LlamaConfig(**LLAMA_LIKE),
    "qwen2": Qwen2Config(**LLAMA_LIKE),
    "qwen3": Qwen3Config(**LLAMA_LIKE, head_dim=8),
    "gpt2": GPT2Config(vocab_size=VOCABULARY, n_embd=WIDTH, n_layer=LAYERS, n_head=HEADS, n_positions=32),
    "opt": OPTConfig(
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        ffn_dim=24,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        word_embed_proj_dim=WIDTH,
        max_position_embeddings=32,
    ),
    "neox": GPTNeoXConfig(
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        intermediate_size=24,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
    ),
}
TOKENS = torch.from_numpy(np.random.default_rng(0).integers(0, VOCABULARY, (3, 9)))


def model_of(kind: str) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = AutoModelForCausalLM.from_config(CONFIGS[kind], attn_implementation="eager").eval()
    for name, weight in model.named_parameters():
        if name.endswith("bias"):  # Biases start at zero, which would hide a forgotten one.
            weight.data.uniform_(-1, 1, generator=torch.Generator().manual_seed(2))
    return model


def logits(model: Any, tokens: torch.Tensor = TOKENS, **more: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=tokens, **more).logits


def silence_by_hand(model: Any, keep: np.ndarray) -> None:
    """Zero the weights of the output projection that read the masked heads."""
    for layer, kept in zip(attention_layers(model), keep, strict=True):
        weight = layer.output.weight.data
        by_head = (weight.T if isinstance(layer.output, nn.Linear) else weight).view(HEADS, -1, WIDTH)
        for head in np.flatnonzero(~kept):
            by_head[head] = 0


MASKS = st.lists(st.booleans(), min_size=LAYERS * HEADS, max_size=LAYERS * HEADS).map(
    lambda bits: np.array(bits).reshape(LAYERS, HEADS)
)


@settings(max_examples=8, deadline=None)
@given(keep=MASKS)
@pytest.mark.parametrize("kind", CONFIGS)
def test_zeroed_heads_are_those_of_edited_weights(kind: str, keep: np.ndarray) -> None:
    model, edited = model_of(kind), model_of(kind)
    silence_by_hand(edited, keep)
    plain = logits(model)
    with masked_heads(model, keep):
        inside = logits(model)
    torch.testing.assert_close(inside, logits(edited), rtol=1e-5, atol=1e-6)
    assert torch.equal(logits(model), plain)
    assert torch.equal(inside, plain) == bool(keep.all())


@pytest.mark.parametrize("how", ["zero", "uniform"])
@pytest.mark.parametrize("kind", [*CONFIGS])
def test_masks_within_the_weights_compute_what_hooks_do(kind: str, how: Any) -> None:
    model, edited = model_of(kind), model_of(kind)
    keep = np.array([[True, False, True, True], [False, True, True, False]])
    if how == "uniform" and kind == "neox":
        with pytest.raises(ValueError, match="no queries of their own"):
            remove_heads(edited, keep, how=how)
        return
    remove_heads(edited, keep, how=how)
    with masked_heads(model, keep, how=how):
        inside = logits(model)
    exact = {"rtol": 0.0, "atol": 0.0} if how == "uniform" else {"rtol": 1e-5, "atol": 1e-6}
    torch.testing.assert_close(logits(edited), inside, **exact)
    assert not torch.equal(inside, logits(model))


@pytest.mark.parametrize("kind", ["llama", "qwen2", "qwen3", "gpt2", "opt"])
def test_uniform_heads_attend_to_everything_alike(kind: str) -> None:
    model = model_of(kind)
    keep = np.array([[True, False, True, True], [False, True, True, False]])
    with torch.no_grad(), masked_heads(model, keep, how="uniform"):
        attentions = model(input_ids=TOKENS, output_attentions=True).attentions
    places = torch.arange(1, TOKENS.shape[1] + 1)
    uniform = torch.tril(torch.ones(len(places), len(places))) / places[:, None]
    for attention, kept in zip(attentions, keep, strict=True):
        for head in range(HEADS):
            assert torch.allclose(attention[:, head], uniform.expand_as(attention[:, head])) == (not kept[head])


@pytest.mark.parametrize("how", ["zero", "uniform"])
def test_decoding_only_reads_the_prompt_with_all_heads(how: Any) -> None:
    model = model_of("llama")
    keep = np.array([[True, False, True, True], [False, True, True, False]])
    plain = logits(model)
    with torch.no_grad(), masked_heads(model, keep, how=how, decoding_only=True):
        read = model(input_ids=TOKENS[:, :-1], use_cache=True)
        last = model(input_ids=TOKENS[:, -1:], past_key_values=read.past_key_values).logits
    assert torch.equal(read.logits, logits(model, TOKENS[:, :-1]))
    with torch.no_grad():
        cache = model(input_ids=TOKENS[:, :-1], use_cache=True).past_key_values
        with masked_heads(model, keep, how=how):
            expected = model(input_ids=TOKENS[:, -1:], past_key_values=cache).logits
    torch.testing.assert_close(last, expected)
    assert not torch.allclose(last[:, 0], plain[:, -1])


def test_gradients_flow_through_what_stays_alone() -> None:
    model = model_of("llama")
    keep = np.array([[False, True, True, True], [True, True, True, True]])
    with masked_heads(model, keep):
        model(input_ids=TOKENS).logits.square().sum().backward()
    by_head = model.model.layers[0].self_attn.q_proj.weight.grad.view(HEADS, -1)
    assert not by_head[0].any()
    assert by_head[1:].any(dim=1).all()


def test_hooks_go_even_when_the_block_fails() -> None:
    model, keep = model_of("llama"), np.zeros((LAYERS, HEADS), bool)
    plain = logits(model)
    with pytest.raises(RuntimeError, match="broken"), masked_heads(model, keep):
        raise RuntimeError("broken")
    assert torch.equal(logits(model), plain)
    neox = model_of("neox")
    plain = logits(neox)
    with pytest.raises(ValueError, match="use how='zero'"), masked_heads(neox, keep, how="uniform"):
        pass
    assert torch.equal(logits(neox), plain)


def test_models_built_in_another_way_are_refused() -> None:
    keep = np.ones((LAYERS, HEADS), bool)
    mamba = AutoModelForCausalLM.from_config(
        MambaConfig(vocab_size=VOCABULARY, hidden_size=WIDTH, num_hidden_layers=1, state_size=4)
    )
    with pytest.raises(ValueError, match="no single num_attention_heads"), masked_heads(mamba, keep):
        pass
    with pytest.raises(ValueError, match="not a model of transformers"), masked_heads(nn.Linear(2, 2), keep):
        pass
    shape = r"the mask of heads is \[4, 2\], the model has 2 layers of 4 heads"
    with pytest.raises(ValueError, match=shape), masked_heads(model_of("llama"), keep.T):
        pass


def test_a_fused_layout_is_masked_by_zero_and_refused_for_uniform() -> None:
    bloom = AutoModelForCausalLM.from_config(
        BloomConfig(vocab_size=VOCABULARY, hidden_size=WIDTH, n_layer=LAYERS, n_head=HEADS)
    ).eval()
    keep = np.ones((LAYERS, HEADS), bool)
    keep[0, 1] = False
    plain = logits(bloom)
    with masked_heads(bloom, keep):
        assert not torch.allclose(logits(bloom), plain)
    with pytest.raises(ValueError, match="use how='zero'"), masked_heads(bloom, keep, how="uniform"):
        pass


def test_what_is_kept_loads_back_onto_its_model_and_no_other() -> None:
    model = model_of("gpt2")
    keep = np.array([[True, False, True, True], [False, True, True, False]])
    kept = kept_heads(model, keep, {"how": "zero"})
    assert (kept.count, kept.of, list(kept.groups)) == (5, 8, ["transformer.h.0.attn", "transformer.h.1.attn"])
    np.testing.assert_array_equal(heads_of(model, kept), keep)
    model.transformer.h[1].mlp.c_fc.bias.data[0] += 1
    with pytest.raises(ValueError, match="with other weights"):
        heads_of(model, kept)
    with pytest.raises(ValueError, match=r"not heads of model\.layers\.0"):
        heads_of(model_of("llama"), kept)
