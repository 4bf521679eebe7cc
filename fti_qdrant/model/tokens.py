"""Text as token ids, and the positions of pseudo-words among them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from open_clip.tokenizer import SimpleTokenizer
from torch import Tensor

from fti_qdrant.errors import PromptTooLong, UnsupportedModel

if TYPE_CHECKING:
    from typing_extensions import Self

Fixed = list[int | None]
"""Token ids that are never cut; None marks the position of a pseudo-word."""


@dataclass(frozen=True)
class Tokens:
    """A batch of tokenized prompts.

    Attributes:
        ids: ``[B, context]``, padded.
        ends: ``[B]``, index of each end-of-text token.
        rows, columns: ``[N]`` each, the positions of the pseudo-words, row by row.
        truncated: for each prompt, whether the end of its text was cut.
    """

    ids: Tensor
    ends: Tensor
    rows: Tensor
    columns: Tensor
    truncated: tuple[bool, ...]

    def __len__(self) -> int:
        return len(self.ids)

    def select(self, chosen: Tensor) -> tuple[Tokens, Tensor]:
        """Some of the prompts, and a mask ``[N]`` of the positions that are theirs."""
        renumbered = torch.full_like(self.ends, -1)
        renumbered[chosen] = torch.arange(len(chosen), device=chosen.device)
        rows = renumbered[self.rows]
        kept = rows >= 0
        truncated = tuple(self.truncated[row] for row in chosen.tolist())
        ids, ends, columns = self.ids[chosen], self.ends[chosen], self.columns[kept]
        return Tokens(ids, ends, rows[kept], columns, truncated), kept

    @classmethod
    def join(cls, parts: Sequence[Tokens]) -> Self:
        """One batch after the other; pseudo-words are joined in the same order."""
        starts = [0, *accumulate(len(part) for part in parts[:-1])]
        return cls(
            torch.cat([part.ids for part in parts]),
            torch.cat([part.ends for part in parts]),
            torch.cat([part.rows + start for part, start in zip(parts, starts)]),
            torch.cat([part.columns for part in parts]),
            tuple(flag for part in parts for flag in part.truncated),
        )

    def to(self, device: torch.device) -> Tokens:
        if self.ids.device == device:
            return self
        return Tokens(
            self.ids.to(device),
            self.ends.to(device),
            self.rows.to(device),
            self.columns.to(device),
            self.truncated,
        )


@dataclass(frozen=True)
class SentPrompt:
    """A prompt as the text encoder sees it: cleaned by the tokenizer, and cut to the context.

    Attributes:
        pieces: its text in parts; None marks a pseudo-word.

    Example:
        >>> prompt = SentPrompt(("a photo of", None, "with", None, "but in red"))
        >>> str(prompt)
        'a photo of * with * but in red'
        >>> prompt.in_words(["dress", "blue"])
        'a photo of [dress] with [blue] but in red'
    """

    pieces: tuple[str | None, ...]

    def __str__(self) -> str:
        return " ".join("*" if piece is None else piece for piece in self.pieces)

    @property
    def stars(self) -> int:
        """The number of pseudo-words."""
        return sum(piece is None for piece in self.pieces)

    def in_words(self, words: Iterable[str]) -> str:
        """The prompt with a word in place of each pseudo-word."""
        next_word = iter(words)
        return " ".join(f"[{next(next_word)}]" if one is None else one for one in self.pieces)


@dataclass(frozen=True)
class Vocabulary:
    """The parts of a tokenizer that prompts need.

    Attributes:
        encode: text -> ids, without start and end tokens.
        decode: ids -> text, as the tokenizer cleaned it.
        start: ids before every text (empty for SigLIP's tokenizers).
        end: the end-of-text id.
        pad: the id that fills the rest of the context.
        context_length: maximum number of tokens of one prompt, with start and end.
    """

    encode: Callable[[str], list[int]]
    decode: Callable[[list[int]], str]
    start: tuple[int, ...]
    end: int
    pad: int
    context_length: int

    @classmethod
    def of(cls, tokenizer: Any, context_length: int) -> Self:
        """From open_clip's own tokenizer, or from a transformers tokenizer that it wraps.

        What is a vocabulary already is returned as it is.

        Raises UnsupportedModel where a text has no end-of-text token.
        """
        if isinstance(tokenizer, cls):
            return tokenizer
        if isinstance(tokenizer, SimpleTokenizer):
            sot, eot = tokenizer.sot_token_id, tokenizer.eot_token_id
            return cls(tokenizer.encode, tokenizer.decode, (sot,), eot, 0, context_length)
        wrapped = tokenizer.tokenizer
        *start, end = wrapped("").input_ids or [None]
        if end is None or end != wrapped.eos_token_id:
            raise UnsupportedModel(
                f"its tokenizer {type(wrapped).__name__} does not end a text with its end-of-text "
                "token, where the text feature is read"
            )

        def encode(text: str) -> list[int]:
            return list(wrapped.encode(tokenizer.clean_fn(text), add_special_tokens=False))

        return cls(encode, wrapped.decode, tuple(start), end, wrapped.pad_token_id, context_length)

    def tokenize(self, texts: Sequence[str]) -> Tokens:
        """Plain texts, without pseudo-words."""
        return self.assemble([([], self.encode(text)) for text in texts])

    def as_sent(self, fixed: Fixed, free: list[int]) -> SentPrompt:
        """A prompt as ``assemble`` builds it, as text."""
        room = max(0, self.context_length - len(self.start) - len(fixed) - 1)
        pieces: list[str | None] = []
        run: list[int] = []
        for id in [*fixed, *free[:room], None]:
            if id is not None:
                run.append(id)
                continue
            pieces += [self.decode(run).strip(), None]
            run = []
        return SentPrompt(tuple(piece for piece in pieces[:-1] if piece != ""))

    def assemble(self, prompts: Sequence[tuple[Fixed, list[int]]]) -> Tokens:
        """Builds a batch from (fixed part, free part) pairs; None marks a pseudo-word's position.

        Where the two are longer than the context, the end of the free part is cut; the fixed part
        and the end-of-text token stay.

        Raises:
            PromptTooLong: the fixed part alone does not fit.
        """
        lines, ends, rows, columns, truncated = [], [], [], [], []
        for row, (fixed, free) in enumerate(prompts):
            room = self.context_length - len(self.start) - len(fixed) - 1
            if room < 0:
                raise PromptTooLong(
                    f"a prompt needs {len(fixed)} tokens before its text, and the context holds "
                    f"{self.context_length}; use fewer reference images"
                )
            line = [*self.start, *fixed, *free[:room], self.end]
            stars = enumerate(fixed, len(self.start))
            positions = [column for column, token in stars if token is None]
            rows += [row] * len(positions)
            columns += positions
            for column in positions:
                line[column] = 0
            lines.append(line)
            ends.append(len(line) - 1)
            truncated.append(len(free) > room)
        padded = [[*line, *[self.pad] * (self.context_length - len(line))] for line in lines]
        ids = torch.from_numpy(np.array(padded, dtype=np.int64).reshape(-1, self.context_length))
        return Tokens(ids, _index(ends), _index(rows), _index(columns), tuple(truncated))


def _index(positions: list[int]) -> Tensor:
    return torch.tensor(positions, dtype=torch.long)
