"""The tokenizer of a CLIP of transformers, read from its files without transformers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from open_clip.tokenizer import SimpleTokenizer

from fti_qdrant.errors import UnsupportedModel, first_line
from fti_qdrant.model.checkpoint_files import CheckpointFiles
from fti_qdrant.model.tokens import Vocabulary
from fti_qdrant.model.transformers_config import LEGACY_END, TextConfig

if TYPE_CHECKING:
    from tokenizers import Tokenizer

START, END = "<|startoftext|>", "<|endoftext|>"

PIECES = (
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
)
"""What CLIP's tokenizer splits a text into before it looks for byte pairs."""


def read_vocabulary(files: CheckpointFiles, config: TextConfig) -> Vocabulary:
    """From ``tokenizer.json``, or ``vocab.json`` with ``merges.txt``.

    A checkpoint without them, of CLIP's own number of tokens, has CLIP's own tokenizer.

    Raises UnsupportedModel: no tokenizer, or one that ends texts otherwise than ``config`` says.
    """
    tokenizer = _read_tokenizer(files)
    context = config.max_position_embeddings
    if tokenizer is None:
        own = SimpleTokenizer()
        if own.vocab_size != config.vocab_size:
            raise UnsupportedModel(
                f"model {files.name!r} has no tokenizer.json, nor vocab.json with merges.txt, and "
                f"its {config.vocab_size} tokens are not those of CLIP's own tokenizer"
            )
        found = Vocabulary.of(own, context)
    else:
        found = _vocabulary_of(tokenizer, context, files.name)
    if config.eos_token_id not in (LEGACY_END, found.end):
        raise UnsupportedModel(
            f"model {files.name!r}: config.json says that texts end with token "
            f"{config.eos_token_id}, and the tokenizer ends them with {found.end}"
        )
    if max(found.end, *found.start) >= config.vocab_size:
        raise UnsupportedModel(
            f"model {files.name!r}: the tokenizer ends texts with token {found.end}, and the text "
            f"tower has only {config.vocab_size} tokens"
        )
    return found


def _vocabulary_of(tokenizer: Tokenizer, context_length: int, name: str) -> Vocabulary:
    tokenizer.no_padding()
    tokenizer.no_truncation()
    around = tokenizer.encode("").ids
    if len(around) != 2:
        raise UnsupportedModel(
            f"model {name!r}: its tokenizer spells an empty text as {around}, and not as a start "
            "and an end"
        )

    def encode(text: str) -> list[int]:
        return list(tokenizer.encode(text, add_special_tokens=False).ids)

    def decode(ids: list[int]) -> str:
        return str(tokenizer.decode(ids)).replace("</w>", " ")

    return Vocabulary(encode, decode, (around[0],), around[1], 0, context_length)


def _read_tokenizer(files: CheckpointFiles) -> Tokenizer | None:
    from tokenizers import Tokenizer

    try:
        path = files.find("tokenizer.json")
        if path is not None:
            return Tokenizer.from_file(str(path))
        vocabulary, merges = files.find("vocab.json"), files.find("merges.txt")
        if vocabulary is None or merges is None:
            return None
        return _byte_pairs(str(vocabulary), str(merges))
    except UnsupportedModel:
        raise
    except Exception as error:  # the package raises plain Exception
        raise UnsupportedModel(
            f"model {files.name!r}: its tokenizer cannot be read: {first_line(error)}"
        ) from error


def _byte_pairs(vocabulary: str, merges: str) -> Tokenizer:
    """CLIP's tokenizer over these files, as transformers builds it."""
    from tokenizers import Regex, Tokenizer, decoders, normalizers, pre_tokenizers, processors
    from tokenizers.models import BPE

    model = BPE.from_file(vocabulary, merges, end_of_word_suffix="</w>", unk_token=END)
    tokenizer = Tokenizer(model)
    tokenizer.add_special_tokens([START, END])
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    split = pre_tokenizers.Split(Regex(PIECES), behavior="removed", invert=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [split, pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{START} $A {END}",
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in (START, END)],
    )
    return tokenizer
