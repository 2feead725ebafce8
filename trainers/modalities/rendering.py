"""Fine-tuning samples as pieces of text with a role each: prompts and completions, conversations, plain texts.

For each answer the template renders the conversation with and without it: the difference is the answer. That needs no
generation marks in the template. Templates that render earlier turns differently once the conversation continues raise
`Unfit`.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

from jinja2 import TemplateSyntaxError

from secateur.trainers.tasks.token_roles import CONTEXT, HEADER, SCORED

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""The chat template of tokenizers trained here."""
SPOKEN = {"human": "user", "gpt": "assistant", "chatgpt": "assistant", "bot": "assistant", "model": "assistant"}
"""ShareGPT's names of roles to those of chat templates."""
ROLES = ("system", "user", "assistant", "tool", "developer", "function")


class Piece(NamedTuple):
    """Text with the role of its tokens; after a completion also the special token that ends it, which is learned."""

    text: str
    role: int
    end: str = ""


class Unfit(ValueError):
    """The reason why one sample cannot be rendered, and the remedy."""

    def __init__(self, fault: str, remedy: str) -> None:
        super().__init__(f"{fault}: {remedy}")
        self.fault, self.remedy = fault, remedy


@dataclass(frozen=True)
class Rendering:
    """Renders samples to pieces: by a chat template, or without one by concatenation.

    `template(messages, add_generation_prompt)` renders a conversation; `end` is the token that ends texts; `special`
    are all special tokens, because a template may end answers with another one.
    """

    template: Callable[[Sequence[Mapping[str, str]], bool], str] | None
    end: str
    special: Sequence[str] = ()

    def prompted(self, prompts: Sequence[str], completion: str) -> list[Piece]:
        """A prompt of one or several parts, and its completion.

        In a chat template the non-empty parts form one message, separated by empty lines; without a template each part
        ends with a line break (Li et al. 2024, Superfiltering).
        """
        parts = [part for part in prompts if part]
        if self.template is None:
            return [*(Piece(f"{part}\n", CONTEXT) for part in parts), Piece(completion, SCORED, self.end)]
        asked = [{"role": "user", "content": "\n\n".join(parts)}] if parts else []
        return self.conversed([*asked, {"role": "assistant", "content": completion}])

    def paired(self, prompts: Sequence[str], completion: str) -> list[Piece]:
        """A prompt and its completion as TRL's lists of messages, JSON each; the answers of the assistant in the
        completion are learned, those in the prompt are not. Raises Unfit for a prompt that is no such list.
        """
        if len(prompts) > 1 or not all(holds_messages(prompt) for prompt in prompts if prompt):
            raise Unfit(
                "the completion is a list of messages, and the prompt is not one",
                "write both as lists of {role, content}, or both as texts",
            )
        asked = messages_in(prompts[0]) if prompts and prompts[0] else []
        return self.conversed([*asked, *messages_in(completion)], len(asked))

    def plain(self, text: str) -> list[Piece]:
        """A text with all tokens learned, from the first to the end token."""
        return [Piece(text, SCORED, self.end)]

    def conversed(self, messages: Sequence[Mapping[str, str]], first: int = 0) -> list[Piece]:
        """A conversation; the assistant's answers from message `first` on are learned. Raises Unfit if not possible."""
        if self.template is None:
            raise Unfit(
                "a conversation needs a chat template, and the tokenizer has none",
                "name a tokenizer that has one (encoding.tokenizer), or write columns with prompt and completion",
            )
        whole, pieces, done = self.rendered(messages, False), list[Piece](), 0
        for turn, message in enumerate(messages):
            if message["role"] != "assistant" or turn < first:
                continue
            begun = self.rendered(messages[:turn], False) if turn else ""
            asked, answered = self.rendered(messages[:turn], True), self.rendered(messages[: turn + 1], False)
            answer = answered[len(asked) :]
            said = next(
                (text for text in (message["content"], message["content"].strip()) if answer.startswith(text)), ""
            )
            follows = answered.startswith(asked) and whole.startswith(answered) and asked.startswith(begun)
            if not (follows and said and done <= len(begun)):
                raise Unfit(
                    "the tokenizer's chat template does not put an answer as it is behind the conversation so far",
                    "write encoding: {template: plain} with prompt and completion, or name a tokenizer whose template "
                    "leaves earlier turns as they are",
                )
            pieces += [Piece(whole[done : len(begun)], CONTEXT), Piece(asked[len(begun) :], HEADER)]
            ends = max((token for token in self.special if answer[len(said) :].startswith(token)), key=len, default="")
            pieces.append(Piece(said, SCORED, ends))
            done = len(asked) + len(said) + len(ends)
        if not pieces:
            raise Unfit("the conversation has no answer of the assistant", "remove it: there is nothing to learn")
        # Drop all text after the last answer, such as a line break or another question: no answer depends on it.
        last = pieces[-1]._replace(end=pieces[-1].end or self.end)
        return [*(piece for piece in pieces[:-1] if piece.text), last]

    def leaves_out_system(self, messages: Sequence[Mapping[str, str]]) -> bool:
        """Whether the template omits the text of a system turn of a conversation."""
        texts = [message["content"].strip() for message in messages if message["role"] == "system"]
        if not any(texts):
            return False
        whole = self.rendered(messages, False)
        return any(text not in whole for text in texts)

    def rendered(self, messages: Sequence[Mapping[str, str]], prompt: bool) -> str:
        """The template's text; raises Unfit with the template's error message."""
        assert self.template is not None
        try:
            return self.template(messages, prompt)
        except Exception as error:  # A template may raise anything.
            if not messages:  # The conversation before an answer in the first turn.
                fault = "nothing precedes the answer, and the chat template renders no empty conversation"
                raise Unfit(fault, "write a prompt, or remove the row") from error
            reason = " ".join(str(error).split())
            if isinstance(error, TemplateSyntaxError):
                raise Unfit(f"the tokenizer's chat template is no Jinja ({reason})", "correct the template") from error
            raise Unfit(f"the chat template refuses the conversation ({reason})", "correct its roles") from error


def holds_messages(cell: str) -> bool:
    """Whether a cell is JSON of a list of TRL's messages (`role`, `content`).

    >>> holds_messages('[{"role": "user", "content": "?"}]'), holds_messages('[{"a": 1}]'), holds_messages("[1]")
    (True, False, False)
    """
    if not cell.lstrip().startswith("[") or '"role"' not in cell:
        return False
    with suppress(json.JSONDecodeError):
        given = json.loads(cell)
        return bool(given) and all(isinstance(one, dict) and {"role", "content"} <= one.keys() for one in given)
    return False


def messages_in(cell: str) -> list[dict[str, str]]:
    """The conversation in a cell, JSON of a list of TRL's messages (`role`, `content`) or ShareGPT's (`from`, `value`).

    Raises Unfit for anything else, for unknown roles and for contents that are no texts.
    """
    try:
        given = json.loads(cell)
    except json.JSONDecodeError as error:
        raise Unfit(f"the conversation is no JSON ({error})", "write a list of {role, content}") from error
    if isinstance(given, dict):  # Lines in OpenAI's and similar formats hold the list under a key.
        given = given.get("messages") or given.get("conversations")
    if given == []:
        raise Unfit("the conversation is empty", "remove the row: there is nothing to learn")
    if not isinstance(given, list):
        raise Unfit("the conversation is no list of messages", "write a list of {role, content}")
    return [message_of(each) for each in given]


def message_of(given: Any) -> dict[str, str]:
    """One message with the keys and roles of chat templates; raises Unfit for an unusable one."""
    role = given.get("role") or given.get("from") if isinstance(given, dict) else None
    content = (given.get("content") if given.get("content") is not None else given.get("value")) if role else None
    role = SPOKEN.get(role, role) if isinstance(role, str) else None
    written = f"write role ({', '.join([*ROLES, *SPOKEN])}) and content (a text), or ShareGPT's from and value"
    if role not in ROLES:
        raise Unfit("a message has no known role", written)
    if content is None and given.get("tool_calls"):
        raise Unfit(
            "a message calls tools and has no content, and templates differ in how they write calls",
            "write the call into its content as the model shall write it, or remove the row",
        )
    if not isinstance(content, str):
        raise Unfit("a message has a content that is no text", written)
    if role == "assistant" and not content.strip():
        raise Unfit("an answer of the assistant is empty", "remove the row: there is nothing to learn")
    return {"role": role, "content": content}


def shown(pieces: Sequence[Piece]) -> str:
    """A rendered sample for a reader, with learned text in ⟦ ⟧."""
    return "".join(f"⟦{piece.text}{piece.end}⟧" if piece.role == SCORED else piece.text for piece in pieces)
