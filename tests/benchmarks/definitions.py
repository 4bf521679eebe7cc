"""The protocols, transcribed one sentence at a time from their definitions; slow and plain.

Each takes the parsed annotation file and ranked lists, and knows nothing of the package.
"""

from __future__ import annotations

from typing import Any


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def fashioniq(
    annotations: dict[str, list[Any]], lists: dict[str, list[list[str]]]
) -> dict[str, float]:
    """R@10 and R@50 in each category, and their averages over the categories."""
    figures: dict[str, float] = {}
    for k in (10, 50):
        for category, entries in annotations.items():
            hits = [
                1.0 if entry["target"] in found[:k] else 0.0
                for entry, found in zip(entries, lists[category])
            ]
            figures[f"{category} R@{k}"] = mean(hits)
        figures[f"average R@{k}"] = mean([figures[f"{one} R@{k}"] for one in annotations])
    return figures


def cirr(entries: list[Any], lists: dict[str, list[str]]) -> dict[str, float]:
    """The reference is left out; R@K; subset R@K among the other five of the image set."""
    figures: dict[str, float] = {}
    ranked = {
        entry["pairid"]: [one for one in lists[str(entry["pairid"])] if one != entry["reference"]]
        for entry in entries
    }
    for k in (1, 5, 10, 50):
        figures[f"R@{k}"] = mean(
            [float(e["target_hard"] in ranked[e["pairid"]][:k]) for e in entries]
        )
    for k in (1, 2, 3):
        hits = []
        for entry in entries:
            members = entry["img_set"]["members"]
            group = [one for one in ranked[entry["pairid"]] if one in members]
            hits.append(float(entry["target_hard"] in group[:k]))
        figures[f"subset R@{k}"] = mean(hits)
    return figures


def circo(entries: list[Any], lists: dict[str, list[int]]) -> dict[str, float]:
    """mAP@K over all right answers, R@K of the target, mAP@10 of each semantic aspect."""
    figures: dict[str, float] = {}
    precisions: dict[int, list[float]] = {}
    for k in (5, 10, 25, 50):
        precisions[k] = []
        hits = []
        for entry in entries:
            found, right = lists[str(entry["id"])], entry["gt_img_ids"]
            total, hits_so_far = 0.0, 0
            for place, image in enumerate(found[:k], 1):
                if image in right:
                    hits_so_far += 1
                    total += hits_so_far / place
            precisions[k].append(total / min(k, len(right)))
            hits.append(float(entry["target_img_id"] in found[:k]))
        figures[f"mAP@{k}"] = mean(precisions[k])
        figures[f"R@{k}"] = mean(hits)
    for aspect in sorted({aspect for entry in entries for aspect in entry["semantic_aspects"]}):
        figures[f"{aspect} mAP@10"] = mean(
            [ap for ap, e in zip(precisions[10], entries) if aspect in e["semantic_aspects"]]
        )
    return figures
