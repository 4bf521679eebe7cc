"""Published figures, shown next to ours. They are quoted, not recomputed.

In percent, as printed. Those with CLIP ViT-L/14 are from the tables of the paper on FiRE, by the
group of FTI4CIR; those of BGE-VL are from its own paper.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

CIRR_RECALLS = ("R@1", "R@5", "R@10", "R@50")
CIRR_SUBSET = ("subset R@1", "subset R@2", "subset R@3")


@dataclass(frozen=True)
class Published:
    """One row of a paper's table.

    Attributes:
        paper: that presents the method.
        split: what it was measured on.
        figures: measure -> percent; of FashionIQ the averages over the categories.
        backbone: the CLIP model.
    """

    method: str
    paper: str
    benchmark: str
    split: str
    figures: dict[str, float]
    backbone: str = "ViT-L/14"

    @property
    def label(self) -> str:
        """As a table names it.

        Example:
            >>> published_by("FTI4CIR")[0].label
            'FTI4CIR, published (SIGIR 2024, ViT-L/14, val)'
        """
        return f"{self.method}, published ({self.paper}, {self.backbone}, {self.split})"


def _fashioniq(method: str, paper: str, at10: float, at50: float) -> Published:
    return Published(method, paper, "fashioniq", "val", {"R@10": at10, "R@50": at50})


def _cirr(
    method: str,
    paper: str,
    recalls: Sequence[float],
    subset: Sequence[float] = (),
    backbone: str = "ViT-L/14",
) -> Published:
    figures = dict(zip(CIRR_RECALLS, recalls)) | dict(zip(CIRR_SUBSET, subset))
    return Published(method, paper, "cirr", "test1", figures, backbone)


def _circo(
    method: str, paper: str, figures: dict[int, float], backbone: str = "ViT-L/14"
) -> Published:
    means = {f"mAP@{at}": value for at, value in figures.items()}
    return Published(method, paper, "circo", "test", means, backbone)


PUBLISHED = (
    _fashioniq("Pic2Word", "CVPR 2023", 24.70, 43.70),
    _fashioniq("SEARLE-XL", "ICCV 2023", 25.56, 46.23),
    _fashioniq("LinCIR", "CVPR 2024", 26.28, 46.48),
    _fashioniq("FTI4CIR", "SIGIR 2024", 29.39, 50.88),
    _cirr("Pic2Word", "CVPR 2023", [23.90, 51.70, 65.30, 87.80]),
    _cirr("SEARLE-XL", "ICCV 2023", [24.24, 52.48, 66.29, 88.84], [53.76]),
    _cirr("LinCIR", "CVPR 2024", [25.04, 53.25, 66.68], [57.11]),
    _cirr("FTI4CIR", "SIGIR 2024", [25.90, 55.61, 67.66, 89.66], [55.21, 75.88, 87.98]),
    _cirr("BGE-VL-base", "arXiv 2412.14475", [36.1], backbone="ViT-B/16"),
    _cirr("BGE-VL-large", "arXiv 2412.14475", [38.0]),
    _circo("Pic2Word", "CVPR 2023", {5: 8.72, 10: 9.51, 50: 11.29}),
    _circo("SEARLE-XL", "ICCV 2023", {5: 11.68, 10: 12.73, 50: 15.12}),
    _circo("LinCIR", "CVPR 2024", {5: 12.59, 10: 13.58, 50: 15.85}),
    _circo("FTI4CIR", "SIGIR 2024", {5: 15.05, 10: 16.32, 25: 18.06, 50: 19.05}),
    _circo("BGE-VL-base", "arXiv 2412.14475", {5: 34.3}, backbone="ViT-B/16"),
    _circo("BGE-VL-large", "arXiv 2412.14475", {5: 39.2}),
)


def published_for(benchmark: str) -> list[Published]:
    """The published rows for a benchmark."""
    return [row for row in PUBLISHED if row.benchmark == benchmark]


def published_by(method: str | None) -> list[Published]:
    """The published rows of a method; none for None."""
    return [row for row in PUBLISHED if row.method == method]
