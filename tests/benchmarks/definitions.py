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


def icir(
    queries: list[list[str]], database: list[list[str]], lists: list[list[str]]
) -> dict[str, float]:
    """AP by trapezoids over the whole ranking; over queries, over instances, over the worst."""
    values: dict[str, list[float]] = {}
    for (_, text, instance), found in zip(queries, lists):
        right = {path for path, shown, of in database if shown == text and of == instance}
        positions = [place for place, path in enumerate(found) if path in right]
        area = 0.0
        for number, place in enumerate(positions):
            before = number / place if place else 1.0
            after = (number + 1) / (place + 1)
            area += (before + after) / 2 * (1 / (len(right) + 1e-5))
        values.setdefault(instance, []).append(area)
    return {
        "mAP": mean([value for of in values.values() for value in of]),
        "mmAP": mean([mean(of) for of in values.values()]),
        "minmAP": mean([min(of) for of in values.values()]),
    }


def genecis(places: dict[str, list[int]]) -> dict[str, float]:
    """R@K of each task from the 1-based place of each target, and the mean over the tasks."""
    figures: dict[str, float] = {}
    for k in (1, 2, 3):
        for task, of in places.items():
            figures[f"{task} R@{k}"] = mean([float(place <= k) for place in of])
        figures[f"average R@{k}"] = mean([figures[f"{task} R@{k}"] for task in places])
    return figures


def pinpoint(rows: list[dict[str, Any]], lists: list[list[str]]) -> dict[str, float]:
    """Every measure as a mean over queries; the spread of P@10 over queries with equal images."""
    columns: dict[str, list[float]] = {}
    sets: dict[tuple[str, str], list[float]] = {}
    for row, found in zip(rows, lists):
        right, wrong = row["positive_candidates"], row["negative_candidates"]
        kept = [one for one in found if one not in wrong]
        for k in (1, 5, 10, 50):
            hits = len([one for one in found[:k] if one in right])
            bad = len([one for one in found[:k] if one in wrong])
            values = {
                f"mAP@{k}": _precision_to(found, right, k),
                f"mAP@{k} noNeg": _precision_to(kept, right, k),
                f"P@{k}": hits / k,
                f"recall@{k}": hits / len(right) if right else 0.0,
                f"NegRecall@{k}": bad / min(len(wrong), k) if wrong else 0.0,
            }
            for name, value in values.items():
                columns.setdefault(name, []).append(value)
            if k == 10:
                images = (row["query_image_signature"], row["query_image_signature2"])
                sets.setdefault(images, []).append(hits / k)
    several = [of for of in sets.values() if len(of) > 1]
    deviations = [mean([(one - mean(of)) ** 2 for one in of]) ** 0.5 for of in several]
    return {
        **{name: mean(of) for name, of in columns.items()},
        "P@10 range": mean([max(of) - min(of) for of in several]),
        "P@10 std": mean(deviations),
    }


def _precision_to(found: list[str], right: list[str], k: int) -> float:
    if not right:
        return 0.0
    total, hits = 0.0, 0
    for place, one in enumerate(found[:k], 1):
        if one in right:
            hits += 1
            total += hits / place
    return total / min(len(right), k)
