"""Examples as tokens, with a label for each token that is learned and IGNORED for the others.

Plain text ends with the tokenizer's end-of-text token, as in trl. A conversation goes through the chat template: what
is learned of it are the assistant's answers with what ends them. Where the template marks them by {% generation %}
(or trl knows a version of it that does), the marks count; elsewhere a turn is what the template adds for it.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase
from trl.chat_template_utils import get_training_chat_template, has_generation_markers

from lmforge_workloads.common.exits import UserError
from lmforge_workloads.finetune.examples import Chat, Completion, Example, Message, Preference, Text, common_prefix

IGNORED = -100


@dataclass(frozen=True)
class Tokens:
    """One sequence."""

    ids: list[int]
    labels: list[int]

    def cut(self, length: int) -> "Tokens":
        """Its beginning."""
        return Tokens(self.ids[:length], self.labels[:length])

    def teaches(self) -> bool:
        """Whether anything is learned from it. (The first token is never predicted.)"""
        return any(label != IGNORED for label in self.labels[1:])


@dataclass(frozen=True)
class Pair:
    """A prompt with two answers."""

    prompt: list[int]
    chosen: list[int]
    rejected: list[int]

    def __len__(self) -> int:
        return len(self.prompt) + max(len(self.chosen), len(self.rejected))


class Encoder:
    """Makes tokens of examples by a tokenizer, whose chat template is set."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer

    def tokens(self, example: Example) -> Tokens:
        """A sequence to learn. Raises `UserError` where the chat template doesn't take the conversation."""
        match example:
            case Text(text):
                ids = self._plain(text, end=True)
                return Tokens(ids, list(ids))
            case Completion(prompt, completion):
                return _after(self._plain(prompt), self._plain(prompt + completion, end=True))
            case Chat(messages):
                return self._marked(messages) if self._marking else self._turns(messages)
            case _:
                raise TypeError(example)

    def pair(self, example: Preference) -> Pair:
        """A preference, cut where prompt and answers part."""
        if self.tokenizer.chat_template:
            prompt = self._chat(example.prompt, ask=True)
            chosen, rejected = (
                self._chat([*example.prompt, {"role": "assistant", "content": answer}])
                for answer in (example.chosen, example.rejected)
            )
        else:
            asked = "\n\n".join(message["content"] for message in example.prompt)
            prompt = self._plain(asked)
            chosen, rejected = (self._plain(asked + answer, end=True) for answer in (example.chosen, example.rejected))
        cut = min(common_prefix(prompt, chosen), common_prefix(prompt, rejected))
        return Pair(prompt[:cut], chosen[cut:], rejected[cut:])

    def _plain(self, text: str, *, end: bool = False) -> list[int]:
        if end and not text.endswith(self.tokenizer.eos_token):
            text += self.tokenizer.eos_token
        ids: list[int] = self.tokenizer(text)["input_ids"]
        return ids

    def _chat(self, messages: list[Message], *, ask: bool = False) -> list[int]:
        ids: list[int] = self._apply(messages, add_generation_prompt=ask)["input_ids"]
        return ids

    @cached_property
    def _marking(self) -> str | None:
        """A version of the chat template that marks what the assistant says."""
        if has_generation_markers(self.tokenizer.chat_template):
            return str(self.tokenizer.chat_template)
        try:
            known: str | None = get_training_chat_template(self.tokenizer)
        except (ValueError, TemplateError):
            return None
        return known

    def _marked(self, messages: list[Message]) -> Tokens:
        found = self._apply(messages, chat_template=self._marking, return_assistant_tokens_mask=True)
        ids, mask = found["input_ids"], found["assistant_masks"]
        return Tokens(ids, [token if said else IGNORED for token, said in zip(ids, mask, strict=True)])

    def _turns(self, messages: list[Message]) -> Tokens:
        """Answer by answer: what comes after the prompt for it, up to where the template's text for it ends."""
        ids = self._chat(messages)
        labels = [IGNORED] * len(ids)
        last = max((n for n, message in enumerate(messages) if message["role"] == "assistant"), default=-1)
        for number, message in enumerate(messages):
            if message["role"] != "assistant":
                continue
            begin = common_prefix(self._chat(messages[:number], ask=True), ids)
            until = self._chat(messages[: number + 1])
            end = common_prefix(until, ids)
            if end == len(until) or number == last:  # some templates show earlier answers differently: not learned
                labels[begin:end] = ids[begin:end]
        return Tokens(ids, labels)

    def _apply(self, messages: list[Message], **options: Any) -> Any:
        try:
            return self.tokenizer.apply_chat_template(messages, tokenize=True, return_dict=True, **options)
        except (TemplateError, TypeError, KeyError) as error:
            roles = ", ".join(message["role"] for message in messages)
            raise UserError(
                f"the chat template doesn't take a conversation of {roles or 'no messages'}: {error};"
                " change the rows, or write dataset.template.chat"
            ) from error


def _after(prompt: list[int], whole: list[int]) -> Tokens:
    """The sequence, of which what comes after the prompt is learned."""
    cut = common_prefix(prompt, whole)
    return Tokens(whole, [IGNORED] * cut + whole[cut:])
