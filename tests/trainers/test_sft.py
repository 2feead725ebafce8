"""Fine-tuning of causal language models: rendering, masking, scores and training, against loops over single rows."""

import json
import math
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from sft_rows import CONFIG, encoded, opinionated, padded_on_the_left, rows_of

from secateur.scorers.checkpoints.checkpoint_loss import checkpoint_loss
from secateur.scorers.checkpoints.ifd_loss import ifd_loss
from secateur.scorers.checkpoints.ifd_ppl import ifd_ppl
from secateur.scorers.checkpoints.perplexity import perplexity
from secateur.scorers.checkpoints.response_tokens import response_tokens
from secateur.scorers.observers.loss import Loss
from secateur.scorers.registry import scorers
from secateur.trainers.contract import Data
from secateur.trainers.judging.evaluation import evaluate
from secateur.trainers.loop.train import train
from secateur.trainers.modalities.encoding import encode, encoding_of
from secateur.trainers.modalities.rows import RowFault
from secateur.trainers.models import registry as models
from secateur.trainers.models import token_losses
from secateur.trainers.passes.scoring import score_rows
from secateur.trainers.tasks.missing_signals import missing_signals
from secateur.trainers.tasks.sft import Sft
from secateur.trainers.tasks.token_roles import (
    CONTEXT,
    CUT,
    HEADER,
    PADDING,
    ROLE,
    SCORED,
    cut_rows,
    scored_in,
    token_counts,
)


@pytest.fixture(scope="module")
def made() -> tuple[Data, Any, Any]:
    """Data of 70 rows, their encoder, and a network with large weights, so that its predictions differ."""
    data, encoder = encoded(rows_of(70))
    return data, encoder, opinionated(data)


def causal(network: Any) -> Any:
    """The same weights as a model of transformers."""
    from transformers import AutoConfig, AutoModelForCausalLM

    made = AutoModelForCausalLM.from_config(AutoConfig.for_model(**network[1].rebuild_settings["config"]))
    made.load_state_dict(
        {f"model.{name.removeprefix('body.')}": value for name, value in network[1].state_dict().items()}, strict=False
    )
    return made


def by_hand(network: Any, tokenizer: Any, before: list[int], text: str) -> list[float]:
    """Loss of each token of a completion and its end, one row, in float64, from the library's own logits."""
    tokens = tokenizer.backend_tokenizer
    tokens.encode_special_tokens = True
    said = [*tokens.encode(text, add_special_tokens=False).ids, tokenizer.eos_token_id]
    tokens.encode_special_tokens = False
    with torch.no_grad():
        logits = causal(network).eval()(input_ids=torch.tensor([before + said])).logits[0].double().numpy()
    found = []
    for place, token in enumerate(said, len(before)):
        row = logits[place - 1]
        found.append(float(np.log(np.exp(row - row.max()).sum()) + row.max() - row[token]))
    return found


def every(data: Data, network: Any, batch: int) -> dict[str, np.ndarray]:
    """All scores of checkpoints that apply to language models."""
    wanted: dict[str, Any] = {
        "checkpoint_loss": (checkpoint_loss, {}),
        "perplexity": (perplexity, {}),
        "ifd_loss": (ifd_loss, {"min_response_tokens": 4, "above_one": True}),
        "ifd_ppl": (ifd_ppl, {"min_response_tokens": 4, "above_one": True}),
    }
    rows, device = np.arange(len(data)), torch.device("cpu")
    scores = score_rows([[network]], data, rows, wanted, device=device, batch_size=batch)
    return scores | {"response_tokens": response_tokens(token_counts(data.inputs))}


def test_scores_are_those_of_a_loop_over_single_rows(made: tuple[Data, Any, Any]) -> None:
    data, encoder, network = made
    rows, tokenizer, scores = rows_of(70), encoder.tokenizer, every(data, network, 64)
    for row in range(0, 70, 3):
        asked, answer = rows[row]["prompt"], rows[row]["answer"]
        header = "<|im_start|>assistant\n"
        context = tokenizer(f"<|im_start|>user\n{asked}<|im_end|>\n")["input_ids"] + tokenizer(header)["input_ids"]
        given = by_hand(network, tokenizer, context, answer)
        headed = by_hand(network, tokenizer, tokenizer(header)["input_ids"], answer)
        bare = by_hand(network, tokenizer, [tokenizer.bos_token_id], answer)
        assert scores["response_tokens"][row] == len(given)
        assert scores["checkpoint_loss"][row] == pytest.approx(np.mean(given), abs=1e-5)
        assert scores["perplexity"][row] == pytest.approx(math.exp(np.mean(given)), rel=1e-5)
        few = len(given) < 4
        assert scores["ifd_loss"][row] == pytest.approx(0 if few else np.mean(given) / np.mean(headed), abs=1e-5)
        assert scores["ifd_ppl"][row] == pytest.approx(0 if few else np.exp(np.mean(given) - np.mean(bare)), abs=1e-5)


def test_neither_the_batch_nor_the_side_of_the_padding_changes_a_score(
    made: tuple[Data, Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    data, _, network = made
    whole = every(data, network, 64)
    monkeypatch.setattr(token_losses, "PIECE", 1000)  # two tokens at a time
    for other in (every(data, network, 1), every(padded_on_the_left(data), network, 64)):
        for name, values in whole.items():
            np.testing.assert_allclose(other[name], values, atol=1e-5, rtol=1e-5, err_msg=name)


def test_both_definitions_order_differently_and_leave_out_what_their_papers_do(made: tuple[Data, Any, Any]) -> None:
    data, _, network = made
    rows = np.arange(len(data))
    raw = every(data, network, 64)
    kept = score_rows(
        [[network]], data, rows, {"ifd_loss": (ifd_loss, {}), "ifd_ppl": (ifd_ppl, {})}, device=torch.device("cpu")
    )
    short = raw["response_tokens"] < 8
    assert short.any()
    for name, out in (("ifd_loss", raw["ifd_loss"] > 1), ("ifd_ppl", raw["ifd_ppl"] >= 1)):
        assert (out & ~short).any()
        assert (kept[name][short | out] == 0).all()
        np.testing.assert_allclose(kept[name][~(short | out)], raw[name][~(short | out)], atol=1e-6)
    assert (np.argsort(raw["ifd_loss"]) != np.argsort(raw["ifd_ppl"])).any()


def test_the_gradient_is_that_of_a_plain_cross_entropy(
    made: tuple[Data, Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    data, _, network = made
    monkeypatch.setattr(token_losses, "PIECE", 1000)
    inputs = torch.from_numpy(data.inputs[:6])
    outputs = network(inputs)
    data.task.losses(outputs, inputs).mean().backward()
    ours = {name: weight.grad.clone() for name, weight in network.named_parameters()}
    network.zero_grad()
    ids, scored = inputs[:, 0].long(), torch.from_numpy(scored_in(data.inputs[:6]))
    logits = network[1].logits(network[1].hidden(ids, (inputs[:, 1] & ROLE) != PADDING))
    labels = ids.masked_fill(~scored, -100)[:, 1:]
    each = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), labels.flatten(), reduction="none")
    (each.view(labels.shape).sum(1) / (labels != -100).sum(1)).mean().backward()
    for name, weight in network.named_parameters():
        torch.testing.assert_close(ours[name], weight.grad, atol=1e-6, rtol=1e-4)
    network.zero_grad()


def test_no_more_than_a_piece_of_the_logits_is_there_at_once(
    made: tuple[Data, Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    data, _, network = made
    monkeypatch.setattr(token_losses, "PIECE", 4000)
    seen = []
    monkeypatch.setattr(type(network[1]), "logits", logits_seen(type(network[1]).logits, seen))
    network(torch.from_numpy(data.inputs)).sum().backward()
    network.zero_grad()
    assert max(seen) <= 4000 < sum(seen) / 2


def logits_seen(logits: Any, seen: list[int]) -> Any:
    """The same method, which also records the number of its logits."""

    def noting(self: Any, hidden: torch.Tensor) -> torch.Tensor:
        found = logits(self, hidden)
        seen.append(found.numel())
        return found

    return noting


def test_a_completion_is_what_is_learned_with_one_end_and_its_letters_end_no_turn(made: tuple[Data, Any, Any]) -> None:
    data, encoder, _ = made
    end = encoder.tokenizer.eos_token_id
    for row, sample in enumerate(rows_of(70)):
        ids, roles = data.inputs[row]
        said = ids[(roles & ROLE) == SCORED].tolist()
        if roles.max() < CUT:
            assert said[-1] == end
            assert end not in said[:-1]
            assert encoder.tokenizer.decode(said[:-1]) == sample["answer"]
        assert encoder.tokenizer.decode(ids[(roles & ROLE) == HEADER]) == "<|im_start|>assistant\n"


def test_cut_samples_are_marked_and_counted_and_what_leaves_nothing_is_refused() -> None:
    rows = rows_of(40)
    whole, _ = encoded(rows)
    lengths, said = ((whole.inputs[:, 1] & ROLE) != PADDING).sum(1), scored_in(whole.inputs).sum(1)
    most = int(np.median(lengths))
    data, encoder = encoded(rows, max_length=most)
    np.testing.assert_array_equal(cut_rows(data.inputs), lengths > most)
    assert encoder.facts(rows)["share of texts cut"] == (lengths > most).mean() > 0
    np.testing.assert_array_equal(scored_in(data.inputs).sum(1), said - np.maximum(lengths - most, 0))
    with pytest.raises(RowFault, match=r"fills all 24 tokens.*encoding.max_length"):
        encoded(rows, max_length=24)
    kept, _ = encoded(rows, max_length=most, cut="prompt")
    np.testing.assert_array_equal(scored_in(kept.inputs).sum(1), np.minimum(said, most - 2))
    np.testing.assert_array_equal(cut_rows(kept.inputs), lengths > most)


def test_every_answer_of_a_conversation_is_learned_as_generation_marks_say() -> None:
    marked = (
        "{% for message in messages %}{% if message['role'] == 'assistant' %}<|im_start|>assistant\n"
        "{% generation %}{{ message['content'] }}<|im_end|>{% endgeneration %}{{ '\n' }}"
        "{% else %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    talk = [("human", "Name a colour."), ("gpt", "Blue."), ("human", "Another?"), ("gpt", "Red,\nor green.")]
    theirs = [{"role": {"human": "user", "gpt": "assistant"}[who], "content": said} for who, said in talk]
    cells = [json.dumps([{"from": who, "value": said} for who, said in talk]), json.dumps(theirs)]
    rows = datasets.Dataset.from_dict({"messages": cells})
    encoding = encoding_of("sequence", {"form": "messages", "vocabulary": 300}, [CONFIG])
    made = encode(encoding, rows, rows, ("messages",))
    tokenizer = made.encoder.tokenizer  # type: ignore[attr-defined]
    np.testing.assert_array_equal(made.inputs[0], made.inputs[1])
    wanted = tokenizer.apply_chat_template(
        theirs, chat_template=marked, return_dict=True, return_assistant_tokens_mask=True
    )
    ids, roles = made.inputs[0]
    length = int((roles != PADDING).sum())
    assert ids[:length].tolist() == wanted["input_ids"][:length]
    assert ((roles & ROLE) == SCORED)[:length].tolist() == [bool(one) for one in wanted["assistant_masks"][:length]]
    assert not any(wanted["assistant_masks"][length:])


TALKS = [
    ([("system", "Be brief."), ("user", "Name a colour.")], [("assistant", "Blue.")]),
    ([("user", "One?"), ("assistant", "Two."), ("user", "Then?")], [("assistant", "Three,\nor four.")]),
    ([("user", "木?")], [("assistant", "naïve"), ("user", "More?"), ("assistant", "No.")]),
]


def spoken(talk: list[tuple[str, str]]) -> list[dict[str, str]]:
    return [{"role": who, "content": said} for who, said in talk]


def as_templates_do(talk: dict[str, Any], tokenizer: Any) -> tuple[list[int], list[bool]]:
    """Ids of a prompt and a completion of messages, and a mask of learned ones, as documented by TRL 1.16: both by the
    chat template, with all tokens after the prompt learned."""
    render = {"tokenize": True, "return_dict": False}
    asked = tokenizer.apply_chat_template(talk["prompt"], add_generation_prompt=True, **render)
    whole = tokenizer.apply_chat_template(talk["prompt"] + talk["completion"], **render)
    return whole, [place >= len(asked) for place in range(len(whole))]


def as_trl_does(talks: list[dict[str, Any]], tokenizer: Any) -> list[tuple[list[int], list[bool]]]:
    """The same from TRL's own trainer."""
    import tiny_language

    trl = pytest.importorskip("trl")
    arguments = trl.SFTConfig(report_to=[], use_cpu=True, bf16=False, max_length=None)
    trainer = trl.SFTTrainer(tiny_language.model(tokenizer), arguments, train_dataset=datasets.Dataset.from_list(talks),
                             processing_class=tokenizer)  # fmt: skip
    rows = trainer.train_dataset
    return [(row["input_ids"], [label != -100 for label in row["labels"]]) for row in rows]


@pytest.mark.filterwarnings("ignore:`gradient_checkpointing` is deprecated")
@pytest.mark.parametrize("by", ["template", pytest.param("trl", marks=pytest.mark.nightly)])
def test_prompts_and_completions_of_messages_are_rendered_as_by_trl(by: str) -> None:
    """Ids are TRL's up to the end of the last answer; learned are TRL's learned tokens of answers and their ends."""
    talks = [{"prompt": spoken(asked), "completion": spoken(said)} for asked, said in TALKS]
    cells = {name: [json.dumps(row[name]) for row in talks] for name in ("prompt", "completion")}
    rows = datasets.Dataset.from_dict(cells)
    encoding = encoding_of("sequence", {"form": "completion", "vocabulary": 300}, [CONFIG])
    made = encode(encoding, rows, rows, ("prompt", "completion"))
    tokenizer = made.encoder.tokenizer  # type: ignore[attr-defined]
    theirs = as_trl_does(talks, tokenizer) if by == "trl" else [as_templates_do(talk, tokenizer) for talk in talks]
    for row, (whole, taught) in enumerate(theirs):
        ids, roles = made.inputs[row]
        length = int((roles != PADDING).sum())
        assert ids[:length].tolist() == whole[:length]
        assert tokenizer.decode(whole[length:]) == "\n"
        learned = [bool(role & ROLE == SCORED) for role in roles[:length]]
        assert not any(mine and not other for mine, other in zip(learned, taught, strict=False))
        others = [whole[place] for place in range(length) if taught[place] and not learned[place]]
        assert tokenizer.decode(others) == (
            "" if row < 2 else "\n<|im_start|>user\nMore?<|im_end|>\n<|im_start|>assistant\n"
        )


def test_a_completion_of_messages_wants_a_prompt_of_messages() -> None:
    cells = {"prompt": ["a text"], "completion": [json.dumps(spoken([("assistant", "Blue.")]))]}
    rows = datasets.Dataset.from_dict(cells)
    encoding = encoding_of("sequence", {"form": "completion", "vocabulary": 300}, [CONFIG])
    with pytest.raises(RowFault, match=r"completion is a list of messages, and the prompt is not one.* at row 0"):
        encode(encoding, rows, rows, ("prompt", "completion"))


@pytest.mark.parametrize(
    ("cell", "fault"),
    [
        ("[{", "is no JSON"),
        ("[]", "the conversation is empty"),
        ('[{"role": "user", "content": "?"}]', "no answer of the assistant"),
        ('[{"role": "sage", "content": "?"}]', "no known role"),
        ('[{"role": "assistant", "content": [1]}]', "content that is no text"),
        ('[{"role": "assistant", "content": null, "tool_calls": [{"type": "function"}]}]', "calls tools and has no"),
        ('[{"role": "assistant", "content": " "}]', "is empty"),
    ],
)
def test_conversations_that_cannot_be_learned_name_their_row(cell: str, fault: str) -> None:
    good = '[{"role": "user", "content": "?"}, {"role": "assistant", "content": "!"}]'
    rows = datasets.Dataset.from_dict({"messages": [good, cell]})
    encoding = encoding_of("sequence", {"form": "messages", "vocabulary": 300}, [CONFIG])
    with pytest.raises(RowFault, match=f"{fault}.* at row 1"):
        encode(encoding, rows, rows, ("messages",))


def test_all_rows_of_one_fault_are_named_at_once() -> None:
    """Also rows of other batches, but no row with another fault."""
    good, empty = (json.dumps(spoken([("user", "?"), ("assistant", said)])) for said in "! ")
    rows = datasets.Dataset.from_dict({"messages": [empty if row in (3, 70, 2100) else good for row in range(2200)]})
    rows = datasets.concatenate_datasets([rows, datasets.Dataset.from_dict({"messages": ["[]"]})])
    encoding = encoding_of("sequence", {"form": "messages", "vocabulary": 300}, [CONFIG])
    with pytest.raises(RowFault, match="an answer of the assistant is empty") as raised:
        encode(encoding, rows, rows, ("messages",))
    assert raised.value.rows.tolist() == [3, 70, 2100]


def test_a_template_that_renders_earlier_turns_otherwise_is_refused(made: tuple[Data, Any, Any], tmp_path: Any) -> None:
    tokenizer = made[1].tokenizer
    last = "{% for message in messages %}{{ message['content'] if loop.last else '' }}{% endfor %}"
    tokenizer.save_pretrained(tmp_path)
    (tmp_path / "chat_template.jinja").write_text(last)
    with pytest.raises(RowFault, match="does not put an answer as it is behind the conversation"):
        encoded(rows_of(4), tokenizer=str(tmp_path))
    plain, encoder = encoded(rows_of(4), tokenizer=str(tmp_path), template="plain")
    assert (plain.inputs[:, 1, 0] == CONTEXT).all()
    assert (plain.inputs[:, 0, 0] == encoder.start_id).all()


def test_texts_are_learned_from_their_first_token() -> None:
    rows = datasets.Dataset.from_dict({"text": ["one two", "three"]})
    encoding = encoding_of("sequence", {"form": "text", "vocabulary": 300}, [CONFIG])
    inputs = encode(encoding, rows, rows, ("text",)).inputs
    assert (inputs[:, 1, 0] == CONTEXT).all()
    assert set(inputs[:, 1, 1:].flatten().tolist()) <= {SCORED, PADDING}


def test_training_watches_the_mean_per_row_and_lowers_it_and_a_saved_model_says_the_same(
    made: tuple[Data, Any, Any], tmp_path: Any
) -> None:
    data = made[0]
    watcher = Loss(len(data), torch.device("cpu"))
    before = train(data, CONFIG, seed=0, observers=[watcher]).model
    after = train(data, CONFIG.model_copy(update={"steps": 60, "learning_rate": 1e-2}), seed=0).model
    found, better = evaluate(before, data), evaluate(after, data)
    assert better["nll"] < 0.8 * found["nll"]
    with torch.no_grad():
        sums = before(torch.from_numpy(data.inputs)).double().numpy()
    assert found["nll"] == pytest.approx(sums[:, 0].sum() / sums[:, 1].sum())
    assert found["row_nll"] == pytest.approx((sums[:, 0] / sums[:, 1]).mean())
    assert 0 <= found["token_accuracy"] == pytest.approx(sums[:, 2].sum() / sums[:, 1].sum())
    models.save(after, tmp_path, CONFIG, data.inputs.shape[1:])
    assert evaluate(models.load(tmp_path), data) == pytest.approx(dict(better))


def test_losses_of_each_domain_and_of_none_that_is_absent() -> None:
    task = Sft(3, ["chat", "code", "maths"])
    outputs = np.array([[2.0, 4, 1], [3.0, 3, 1], [1.0, 1, 0]], np.float32)
    targets = np.array([0, 1, 1])
    found = task.evaluate(outputs, targets)
    assert found["nll"] == pytest.approx(6 / 8)
    assert found["nll_chat"] == pytest.approx(0.5)
    assert found["nll_code"] == pytest.approx(1.0)
    assert "nll_maths" not in found
    assert list(task.undefined(targets)) == ["nll_maths", "exact_match_maths"]


@pytest.mark.parametrize("name", ["aum", "accumulated_margin", "el2n", "entropy", "tdds", "grand", "self_confidence"])
def test_scores_of_one_prediction_per_row_are_refused_with_the_reason(name: str) -> None:
    [fault, *_] = missing_signals(scorers()[name], Sft(1))
    assert f"score '{name}'" in fault
    assert "token" in fault


def test_neighbours_are_not_asked_for_targets_that_nobody_learns() -> None:
    [fault] = missing_signals(scorers()["neighbour_agreement"], Sft(2))
    assert "of another source is no worse" in fault
    for name in ("density", "nearest_sample", "prototype_distance", "vog", "last_layer_grand", "dual", "forgetting"):
        assert not missing_signals(scorers()[name], Sft(2)), name


def test_classification_has_no_scores_of_completions() -> None:
    from secateur.trainers.tasks.classification import Classification

    assert "task sft" in missing_signals(ifd_ppl, Classification(2))[0]
