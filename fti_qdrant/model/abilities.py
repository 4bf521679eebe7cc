"""What a backbone can do beside image and text features, which every backbone has.

Importable without torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fti_qdrant.errors import UnsupportedModel

Ability = Literal["patch_tokens", "pseudo_words"]

WORDS: dict[Ability, str] = {
    "patch_tokens": "patch tokens",
    "pseudo_words": "pseudo-words in its prompts",
}
"""The abilities as messages name them."""


@dataclass(frozen=True)
class Abilities:
    """Which of the two things that textual inversion needs a backbone has.

    Attributes:
        no_patch_tokens: why the image tower gives no patch tokens; empty where it does.
        no_pseudo_words: why the text tower takes no pseudo-words; empty where it does.

    Example:
        >>> resnet = Abilities(no_patch_tokens="its image tower is a ModifiedResNet")
        >>> resnet.patch_tokens, resnet.pseudo_words
        (False, True)
    """

    no_patch_tokens: str = ""
    no_pseudo_words: str = ""

    @property
    def patch_tokens(self) -> bool:
        """Whether ``ImageFeatures.tokens`` is there."""
        return not self.no_patch_tokens

    @property
    def pseudo_words(self) -> bool:
        """Whether prompts may hold pseudo-words in place of real ones."""
        return not self.no_pseudo_words

    def require(self, model: str, *wanted: Ability, needed_by: str) -> None:
        """Raises UnsupportedModel where one of these abilities is missing.

        Args:
            model: its name, for the message.
            needed_by: what needs the abilities, such as "an inverter".
        """
        reasons = {"patch_tokens": self.no_patch_tokens, "pseudo_words": self.no_pseudo_words}
        for ability in wanted:
            if reasons[ability]:
                raise UnsupportedModel(
                    f"{needed_by} needs {WORDS[ability]}, and model {model!r} has none: "
                    f"{reasons[ability]}. Use a CLIP with a ViT, such as "
                    "ViT-B-32/laion2b_s34b_b79k, or a composer that needs no inverter, such as "
                    "image, text, sum or slerp"
                )
