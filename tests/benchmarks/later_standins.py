"""Folders of i-CIR, GeneCIS and PinPoint in their published layouts, small and made up."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from fti_qdrant.benchmarks.genecis import TASKS
from tests.benchmarks.standins import paint, write_json

DEEP = 70
"""Database images of i-CIR's first instance: more than a run stores of a ranking."""


def icir(root: Path, prefix: str = "icir/") -> Path:
    """``prefix`` is what the CSV files put before the paths below the folder."""
    queries, database = [], []
    for instance, images in (("temple", DEEP), ("mug", 9), ("toy dog", 6)):
        folder = instance.replace(" ", "_")
        texts = ["at sunset", "as a drawing"][: 1 if instance == "mug" else 2]
        for number in range(2):
            path = f"query/{folder}/{folder}-q{number}.png"
            paint(root / path)
            queries += [(path, text, instance) for text in texts]
        for number in range(images):
            path = f"database/{folder}/{'hn/' if number % 3 else ''}{folder}-{number:04}.png"
            paint(root / path)
            text = texts[number // 3 % len(texts)] if not number % 3 else ""
            database.append((path, text, instance))
    for name, rows in (("query_files.csv", queries), ("database_files.csv", database)):
        lines = [f"{prefix}{path},{text},{instance}\n" for path, text, instance in rows]
        (root / name).write_text("".join(lines))
    return root


def genecis(root: Path, genome: str = "VG_100K_2", coco: str = "val2017") -> Path:
    """Each task has five queries with a gallery of 4, and one with a gallery of 3, left out."""
    for at, task in enumerate(TASKS):
        templates = []
        for number in range(6):
            first = 100 * at + 7 * number
            lengths = range(first + 2, first + (6 if number != 2 else 5))
            make = _crop if "attribute" in task else _photo
            templates.append(
                {
                    "reference": make(root, first, genome, coco),
                    "target": make(root, first + 1, genome, coco),
                    "gallery": [make(root, other, genome, coco) for other in lengths],
                    "condition": f"the color {number}",
                }
            )
        write_json(root / "genecis" / f"{task}.json", templates)
    return root


def _photo(root: Path, number: int, genome: str, coco: str) -> dict[str, Any]:
    paint(root / coco / f"{number:012}.jpg")
    return {"val_image_id": number, "instance_bbox": None}


def _crop(root: Path, number: int, genome: str, coco: str) -> dict[str, Any]:
    """Some boxes reach over an edge when they are dilated; two crops are of one photo."""
    photo = number - number % 2
    paint(root / genome / f"{photo}.jpg")
    box = [(3 * number) % 40, (5 * number) % 30, 12 + number % 9, 9 + number % 7]
    return {"image_id": photo, "instance_bbox": box, "object_name": "cup"}


def pinpoint(root: Path, nested: bool = False) -> Path:
    """Four questions in several wordings: one with two images, one without right answers."""
    signatures = [hashlib.md5(str(number).encode()).hexdigest() for number in range(60)]
    (root / "index_signatures.txt").parent.mkdir(parents=True, exist_ok=True)
    (root / "index_signatures.txt").write_text("\n".join(signatures[:-1]) + "\n")
    for one in signatures:
        folder = Path(one[:2], one[2:4], one[4:6]) if nested else Path()
        paint(root / "images" / folder / f"{one}.jpg")
    rows = []
    for question, wordings in enumerate((3, 3, 1, 3)):
        answers = range(12 * (question != 2))
        right = [signatures[(11 * question + one) % 59] for one in answers]
        wrong = [signatures[(29 + 13 * question + one) % 59] for one in range(5 * (question != 1))]
        second = signatures[40] if question == 1 else "None"
        for wording in range(wordings):
            rows.append(
                {
                    "query_id": f"query_{len(rows) + 1}",
                    "query_image_signature": signatures[59 - question],
                    "query_image_signature2": second,
                    "instruction": f"{['make it', 'turn it', 'change it to'][wording]} blue",
                    "positive_candidates": [*right[: 4 + 3 * wording], *right[:1]],
                    "negative_candidates": wrong,
                    "query_category": ["fashion", "home"][question % 2],
                    "token_count": 3,
                }
            )
    parquet.write_table(pa.Table.from_pylist(rows), root / "pinpoint_licensed.parquet")
    return root


LATER: dict[str, Callable[..., Path]] = {"icir": icir, "genecis": genecis, "pinpoint": pinpoint}
