"""Published figures, shown next to ours. They are quoted, not recomputed.

All with CLIP ViT-L/14, as later papers and surveys quote them; in percent, as printed.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    """One row of a paper's table.

    Attributes:
        split: what it was measured on.
        figures: measure -> percent; of FashionIQ the averages over the categories.
    """

    method: str
    paper: str
    benchmark: str
    split: str
    figures: dict[str, float]


def _fashioniq(method: str, paper: str, at10: float, at50: float) -> Published:
    return Published(method, paper, "fashioniq", "val", {"R@10": at10, "R@50": at50})


def _cirr(method: str, paper: str, recalls: dict[str, float], subset: float) -> Published:
    return Published(method, paper, "cirr", "test1", {**recalls, "subset R@1": subset})


def _circo(method: str, paper: str, at5: float, at50: float) -> Published:
    return Published(method, paper, "circo", "test", {"mAP@5": at5, "mAP@50": at50})


PUBLISHED = (
    _fashioniq("Pic2Word", "CVPR 2023", 24.70, 43.70),
    _fashioniq("SEARLE-XL", "ICCV 2023", 25.56, 46.23),
    _fashioniq("FTI4CIR", "SIGIR 2024", 29.39, 50.88),
    _cirr(
        "Pic2Word", "CVPR 2023", {"R@1": 23.90, "R@5": 51.70, "R@10": 65.30, "R@50": 87.80}, 53.76
    ),
    _cirr(
        "SEARLE-XL", "ICCV 2023", {"R@1": 24.24, "R@5": 52.48, "R@10": 66.29, "R@50": 88.84}, 53.76
    ),
    _cirr("LinCIR", "CVPR 2024", {"R@1": 25.04, "R@5": 53.25, "R@10": 66.68}, 57.11),
    _circo("Pic2Word", "CVPR 2023", 8.72, 11.29),
    _circo("SEARLE-XL", "ICCV 2023", 11.68, 15.12),
    _circo("LinCIR", "CVPR 2024", 12.59, 15.85),
)


def published_for(benchmark: str) -> list[Published]:
    """The published rows for a benchmark."""
    return [row for row in PUBLISHED if row.benchmark == benchmark]
