"""The prompt: one function for training and evaluation, and a hash that proves it is the same.

Plain style, for a base model:

    Solve the problem step by step. End with a line that holds #### and the final answer.

    Question: Natalia sold clips to 48 of her friends …
    Answer:

The completion is ` ` + the written steps + a last line `#### 72` + the end-of-sequence token. Chat style
puts instruction and question into one user turn of the tokenizer's own chat template. A published prompt
(`mathreason.evaluation.fewshot` has two) is rendered as it was published, whatever the style.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from mathreason.config import PromptConfig
from mathreason.data.problem import Problem
from mathreason.errors import InputError
from mathreason.results import content_hash

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_PROBE = Problem("What is 2 + 3?", "2 + 3 = 5", "5", "probe", "probe")


@dataclass(frozen=True)
class Example:
    """A tokenized training example: `ids` is prompt, completion and EOS; loss starts at `prompt_tokens`."""

    ids: list[int]
    prompt_tokens: int


class PublishedPrompt(Protocol):
    """A prompt whose every character is fixed by someone else, so that scores compare."""

    def render(self, question: str, position: int) -> str:
        """The whole prompt of the item that stands at `position` (from 0) in its benchmark."""

    @property
    def identity(self) -> dict[str, Any]:
        """What decides the text of every prompt, as a JSON value."""


class Prompter:
    """Renders questions for one tokenizer.

    A `published` prompt takes the place of instruction, style and shots. Raises InputError when the chat
    style is asked for and the tokenizer has no chat template, or when it has no end-of-sequence token.
    """

    def __init__(
        self,
        config: PromptConfig,
        tokenizer: PreTrainedTokenizerBase,
        shots: Sequence[Problem] = (),
        published: PublishedPrompt | None = None,
    ) -> None:
        self._tokenizer: Any = tokenizer
        self._published = published
        self.instruction = config.instruction
        self.shots = list(shots)
        has_template = bool(getattr(tokenizer, "chat_template", None))
        if published is None and config.style == "chat" and not has_template:
            raise InputError(
                "prompt.style is chat, but the tokenizer has no chat template; "
                "use plain, or the chat version of the model"
            )
        chat = config.style == "chat" or (config.style == "auto" and has_template)
        self.style = "chat" if chat and published is None else "plain"
        if self._tokenizer.eos_token_id is None:
            raise InputError("the tokenizer has no end-of-sequence token, so a response could never end")
        self.eos_id: int = self._tokenizer.eos_token_id

    @property
    def hash(self) -> str:
        """Hash of everything that shapes a prompt: texts, template, few-shot examples, token ids."""
        text = self.prompt(_PROBE.question)
        published = {} if self._published is None else {"published": self._published.identity}
        return content_hash(
            {
                "style": self.style,
                "prompt": text,
                "prompt_ids": self.prompt_ids(text),
                "completion": self.completion(_PROBE),
                "eos": self._tokenizer.eos_token,
                **published,
            }
        )

    def tokenizer_identity(self) -> str:
        """Hash of the tokenizer's own definition: vocabulary, rules and chat template."""
        backend = getattr(self._tokenizer, "backend_tokenizer", None)
        rules = backend.to_str() if backend is not None else sorted(self._tokenizer.get_vocab().items())
        template = getattr(self._tokenizer, "chat_template", None)
        return content_hash([type(self._tokenizer).__name__, self._tokenizer.name_or_path, rules, template])

    def prompt(self, question: str, position: int = 0) -> str:
        """The text the model sees before it answers `question`.

        `position` is the item's place in its whole benchmark: a published prompt may give each item other
        examples.
        """
        if self._published is not None:
            return self._published.render(question, position)
        if self.style == "chat":
            return self._chat(question)
        shots = "".join(
            f"Question: {shot.question}\nAnswer:{self.completion(shot)}\n\n" for shot in self.shots
        )
        start = f"{self.instruction}\n\n" if self.instruction else ""
        return f"{start}{shots}Question: {question}\nAnswer:"

    def messages(self, question: str, position: int = 0) -> list[dict[str, str]]:
        """The prompt as chat turns, for a server that renders them with a template of its own."""
        if self._published is not None:
            return [{"role": "user", "content": self._published.render(question, position)}]
        turns: list[dict[str, str]] = []
        for shot in self.shots:
            turns.append({"role": "user", "content": self._user_turn(shot.question)})
            turns.append({"role": "assistant", "content": self.completion(shot).lstrip()})
        return [*turns, {"role": "user", "content": self._user_turn(question)}]

    def _chat(self, question: str) -> str:
        rendered: str = self._tokenizer.apply_chat_template(
            self.messages(question), add_generation_prompt=True, tokenize=False
        )
        return rendered

    def _user_turn(self, question: str) -> str:
        return f"{self.instruction}\n\n{question}" if self.instruction else question

    def completion(self, problem: Problem) -> str:
        """The text the model is taught to write for `problem`, without the EOS token."""
        lead = " " if self.style == "plain" else ""
        steps = f"{problem.solution}\n" if problem.solution else ""
        return f"{lead}{steps}#### {problem.answer}"

    def prompt_ids(self, prompt: str) -> list[int]:
        """Token ids of a rendered prompt; a chat template already wrote its own special tokens."""
        ids: list[int] = self._tokenizer(prompt, add_special_tokens=self.style == "plain")["input_ids"]
        if self.style == "plain" and ids and ids[-1] == self.eos_id:
            ids = ids[:-1]  # some tokenizers close every text with EOS; a prompt is open-ended
        return ids

    def encode(self, problem: Problem) -> Example:
        """Prompt and completion as the model meets them: the prompt's ids, then what follows them.

        The joined text is tokenized once. Where a token spans the border (the prompt's ids are then no
        prefix), the completion is tokenized by itself, since generation starts after the prompt's ids.
        """
        prompt, completion = self.prompt(problem.question), self.completion(problem)
        prompt_ids = self.prompt_ids(prompt)
        joined = self.prompt_ids(prompt + completion)
        if joined[: len(prompt_ids)] != prompt_ids:
            joined = prompt_ids + self._tokenizer(completion, add_special_tokens=False)["input_ids"]
        return Example([*joined, self.eos_id], len(prompt_ids))
