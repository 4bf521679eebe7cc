"""The emoji benchmark: queries from Unicode sequences alone, offline, with exact right answers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from fti_qdrant.benchmarks.base import (
    Benchmark,
    BenchmarkQuery,
    GalleryImage,
    Ranked,
    first_existing,
)
from fti_qdrant.benchmarks.emoji.artwork import drawings, file_name
from fti_qdrant.benchmarks.emoji.edits import (
    KNOWN_WORDINGS,
    PARAPHRASES,
    UNSEEN_WORDINGS,
    Edit,
    changed_facets,
    edits,
    families,
)
from fti_qdrant.benchmarks.emoji.facts import Emoji, all_emoji
from fti_qdrant.benchmarks.emoji.gallery import write_gallery
from fti_qdrant.benchmarks.emoji.paraphrases import unused_wordings
from fti_qdrant.benchmarks.metrics import Floats, variation
from fti_qdrant.benchmarks.predictions import ranked_lists

ARTWORK = "twemoji"
HELD_OUT, SEEN = "held out", "seen"
RECALL_AT, SUBSET_AT = (1, 5, 10, 50), (1, 2, 3)


class EmojiBenchmark(Benchmark):
    """One facet of an emoji changes; R@K over all emoji of the artwork, and among siblings."""

    name = "emoji"
    splits = ("heldout", "wordings", "paraphrases", "seen", "all")
    protocol = (
        "emoji: gallery = all Twemoji images, without the reference; R@1,5,10,50; subset "
        "R@1,2,3 among the emoji that differ from the reference in one facet. heldout: targets "
        "that the embedded model never trained on; wordings: the same, in wordings that it never "
        "trained on; paraphrases: the same, each in six wordings as people write them, of "
        "sentence structures that it never trained on; best and worst wording R@1: by the best and "
        "the worst of the six; deviation: the standard deviation of R@1 over the six; seen: all "
        "other edits"
    )
    reference_stays = False
    own_root = Path("eval/emoji-pictures")
    headlines = ("R@1", "R@10", "subset R@1")
    download = "nothing: fti-eval run emoji draws the images (needs fti-qdrant[demo])"

    def _check_root(self) -> None:
        """The images are drawn by ``prepare``."""

    def prepare(self, advance: Callable[[int, int], None]) -> None:
        """Draws the images that do not exist yet."""
        write_gallery(self.root, ARTWORK, advance)

    @cached_property
    def queries(self) -> list[BenchmarkQuery]:
        asked = (edit for edit in edits(self._emoji) if self._wanted(edit))
        if self.split == "paraphrases":
            return [query for edit in asked for query in self._paraphrased(edit)]
        return [self._query(edit) for edit in asked]

    @cached_property
    def _emoji(self) -> list[Emoji]:
        drawn = drawings(ARTWORK)
        return [emoji for emoji in all_emoji() if emoji.key in drawn]

    @cached_property
    def _siblings(self) -> dict[str, tuple[str, ...]]:
        """Emoji -> the emoji that differ from it in one facet."""
        found: dict[str, list[str]] = defaultdict(list)
        for family in families(self._emoji).values():
            for one in family:
                for other in family:
                    if len(changed_facets(one, other)) == 1:
                        found[one.key].append(other.key)
        return {key: tuple(others) for key, others in found.items()}

    def gallery(self) -> Iterator[GalleryImage]:
        for emoji in self._emoji:
            yield GalleryImage(emoji.key, self.picture(emoji.key))

    def picture(self, id: str) -> Path | None:
        return first_existing([self.root / file_name(id)])

    @cached_property
    def _names(self) -> dict[str, str]:
        return {emoji.key: emoji.name for emoji in self._emoji}

    def title(self, id: str) -> str:
        return self._names[id]

    def measure(self, ranked: Ranked) -> dict[str, Floats]:
        measured = self.recalls(ranked, RECALL_AT, SUBSET_AT)
        if self.split == "paraphrases":
            measured |= variation(measured["R@1"], PARAPHRASES)
        return measured

    def read_predictions(self, data: Any) -> Ranked:
        """``{query id: [emoji key, ...]}``."""
        gallery = {emoji.key for emoji in self._emoji}
        return Ranked(ranked_lists(data, [query.id for query in self.queries], gallery))

    def predictions(self, ranked: Ranked) -> dict[str, Any]:
        lists = {query.id: found for query, found in zip(self.queries, ranked.images or [])}
        return {f"emoji_{self.split}.json": lists}

    def annotation_deviations(self) -> list[str]:
        """None: the queries follow from Unicode and the installed packages, there are no files."""
        return []

    def _wanted(self, edit: Edit) -> bool:
        if self.split == "all":
            return True
        return edit.target.held_out == (self.split != "seen")

    def _query(self, edit: Edit) -> BenchmarkQuery:
        wordings = UNSEEN_WORDINGS if self.split == "wordings" else KNOWN_WORDINGS
        group = HELD_OUT if edit.target.held_out else SEEN
        kinds = (f"{group}: {edit.facet}", group) if self.split == "all" else ()
        return BenchmarkQuery(
            id=f"{edit.reference.key}>{edit.target.key}",
            reference=edit.reference.key,
            texts=(edit.wording(wordings),),
            relevant=(edit.target.key,),
            subset=self._siblings[edit.reference.key],
            aspects=(edit.facet, *kinds),
        )

    def _paraphrased(self, edit: Edit) -> list[BenchmarkQuery]:
        """The edit in unused wordings, one query each, side by side."""
        query = self._query(edit)
        return [
            replace(query, id=f"{query.id} {number}", texts=(text,))
            for number, text in enumerate(edit.some_wordings(unused_wordings(), PARAPHRASES), 1)
        ]
