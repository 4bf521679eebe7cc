"""Duplicates: exact and near, in source order, decided alike whatever was decided before."""

from __future__ import annotations

import io
import itertools
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from fti_ingest.cli.main import main
from fti_ingest.stages.deduplicate import Duplicate, Originals
from fti_ingest.stages.perceptual_hash import CELLS, COLORS_APART, SHAPE_BITS_APART, PerceptualHash
from fti_qdrant.benchmarks.emoji.artwork import draw, drawings
from fti_qdrant.cli import extras
from fti_qdrant.gallery import EdgeGallery, point_id
from fti_qdrant.images import decode_image
from tests.ingest.sources_and_runs import ingest, picture

GRAY = bytes([128] * CELLS * CELLS * 3)


@pytest.fixture
def originals(tmp_path: Path) -> Originals:
    return Originals(str(tmp_path / "originals.sqlite"))


def flipped(value: int, bits: set[int]) -> str:
    for bit in bits:
        value ^= 1 << bit
    return look(value)


def look(shape: int, colors: bytes = GRAY) -> str:
    return str(PerceptualHash(shape, colors))


@given(st.integers(0, 2**64 - 1), st.sets(st.integers(0, 63), max_size=12))
def test_all_within_the_distance_are_near_and_no_others(value: int, bits: set[int]) -> None:
    originals = Originals(":memory:")
    assert originals.decide("a", "a.jpg", "1", look(value)) is None
    found = originals.decide("b", "b.jpg", "2", flipped(value, bits))
    assert (found is not None) == (len(bits) <= SHAPE_BITS_APART)
    if found:
        assert found == Duplicate("b", "b.jpg", "a", "a.jpg", "near")


def test_as_a_slow_search_over_all_originals(originals: Originals) -> None:
    rng = np.random.default_rng(0)
    centers = [int(one) for one in rng.integers(0, 2**63, 20)]
    so_far: list[tuple[int, str]] = []
    for number in range(400):
        bits = {int(bit) for bit in rng.integers(0, 64, int(rng.integers(0, 12)))}
        value = PerceptualHash.read(flipped(centers[number % 20], bits)).shape
        near = [((value ^ held).bit_count(), id) for held, id in so_far]
        best = min([one for one in near if one[0] <= SHAPE_BITS_APART], default=None)
        found = originals.decide(str(number), "", str(number), look(value))
        assert (found and found.of) == (best and best[1])
        if best is None:
            so_far.append((value, str(number)))


def test_the_same_bytes_are_exact_and_nobody_is_a_duplicate_of_a_duplicate(
    originals: Originals,
) -> None:
    assert originals.decide("a", "a", "same", flipped(0, set())) is None
    near = originals.decide("b", "b", "other", flipped(0, {1, 20, 40}))
    assert near is not None
    assert near.kind == "near"
    exact = originals.decide("c", "c", "same", flipped(0, set()))
    assert exact == Duplicate("c", "c", "a", "a", "exact")
    beyond = flipped(0, {1, 20, 40, 2, 21, 41, 3, 22, 42})  # near to b only
    assert originals.decide("d", "d", "third", beyond) is None


def test_asked_again_it_says_the_same(originals: Originals) -> None:
    images = [(str(n), f"{n}.jpg", str(n // 2), flipped(n << 50, set())) for n in range(40)]
    first = originals.decide_all(images)
    assert any(first)
    assert originals.decide_all(images) == first
    assert originals.decide_all(images[::-1]) == first[::-1]


def test_an_image_that_changed_is_looked_at_anew(originals: Originals) -> None:
    assert originals.decide("a", "a", "1", flipped(0, set())) is None
    assert originals.decide("a", "a", "2", flipped(2**64 - 1, set())) is None
    assert originals.decide("b", "b", "1", flipped(0, set())) is None


def test_a_duplicate_whose_original_has_gone_is_looked_at_anew(originals: Originals) -> None:
    """As after --prune; the same bytes come back under another uri, so that it is asked again."""
    ours = {"sha256": "1", "look": look(0), "duplicate_of": "gone", "duplicate": "exact"}
    assert list(originals.recording([("a", {"_fti": {**ours, "uri": "a"}})]))
    assert originals.decide("a", "elsewhere/a", "1", look(0)) is None
    assert originals.decide("b", "b", "1", look(0)) == Duplicate(
        "b", "b", "a", "elsewhere/a", "exact"
    )


def test_what_does_not_stay_is_nobodys_original(originals: Originals) -> None:
    held = [
        ("a", {"_fti": {"uri": "a", "sha256": "1", "look": look(0), "revision": "aa"}}),
        ("b", {"_fti": {"uri": "b", "sha256": "1", "duplicate_of": "a", "revision": "bb"}}),
        ("c", {"_fti": {"uri": "c", "sha256": "3", "look": look(2**64 - 1), "revision": "cc"}}),
        ("d", {"_fti": {"uri": "d", "sha256": "3", "duplicate_of": "c", "revision": "dd"}}),
    ]
    assert list(originals.recording(held[1:])) == held[1:]
    assert originals.outdated() == ["b"]
    assert originals.decide("b", "b", "1", look(0)) is None
    moved = originals.decide("moved/a", "moved/a", "1", look(0))
    assert moved == Duplicate("moved/a", "moved/a", "b", "b", "exact")


def test_duplicates_of_what_has_changed_are_outdated(originals: Originals) -> None:
    """e is near a, and near what a becomes; c and d are not, and f is nobody's."""
    originals.decide("a", "a", "1", look(0))
    for id, sha, shape in (("c", "1", 0), ("d", "2", 1), ("e", "3", 0b111), ("f", "6", 2**64 - 1)):
        originals.decide(id, id, sha, look(shape))
    assert originals.outdated() == []
    originals.decide("a", "a", "4", look(0b111111111))
    assert sorted(originals.outdated()) == ["c", "d"]
    assert originals.outdated() == []
    assert originals.decide("c", "c", "1", look(0)) is None


def test_a_copy_of_a_near_duplicate_is_near(originals: Originals) -> None:
    """Its bytes are not the original's, and of the duplicate nobody is one."""
    originals.decide("a", "a", "1", look(0))
    for id in "bc":
        assert originals.decide(id, id, "2", look(1)) == Duplicate(id, id, "a", "a", "near")


@given(
    st.binary(min_size=len(GRAY), max_size=len(GRAY)),
    st.integers(0, len(GRAY) - 1),
    st.integers(-255, 255),
)
def test_colors_too_far_apart_in_one_cell(colors: bytes, place: int, change: int) -> None:
    other = bytearray(colors)
    other[place] = min(255, max(0, other[place] + change))
    originals = Originals(":memory:")
    originals.decide("a", "a", "1", look(5, colors))
    found = originals.decide("b", "b", "2", look(5, bytes(other)))
    assert (found is not None) == (abs(other[place] - colors[place]) <= COLORS_APART)


@given(st.integers(0, 2**64 - 1), st.binary(min_size=len(GRAY), max_size=len(GRAY)))
def test_a_look_is_read_as_it_was_written(shape: int, colors: bytes) -> None:
    assert PerceptualHash.read(look(shape, colors)) == PerceptualHash(shape, colors)


def saved_anew(image: Image.Image, quality: int) -> Image.Image:
    data = io.BytesIO()
    image.save(data, "JPEG", quality=quality)
    return Image.open(data)


def drawn(key: str) -> Image.Image:
    return decode_image(draw(drawings("openmoji")[key], 160), uri=key).image


BOOKS = ("1f4d5", "1f4d7", "1f4d8", "1f4d9")
BABIES = ("1f476", "1f476-1f3fb", "1f476-1f3fc", "1f476-1f3fd", "1f476-1f3fe", "1f476-1f3ff")
"""Alike but for the color of the cover, of the skin."""


@pytest.mark.parametrize("key", [*BOOKS, *BABIES, "1f34e", "1f697", "1f455"])
def test_a_picture_saved_anew_looks_alike(key: str) -> None:
    image = drawn(key)
    for other in (saved_anew(image, 30), image.resize((80, 80)), image.quantize()):
        assert PerceptualHash.of(image).is_like(PerceptualHash.of(other))


@pytest.mark.parametrize("keys", [BOOKS, BABIES])
def test_the_same_in_another_color_does_not(keys: tuple[str, ...]) -> None:
    pairs = list(itertools.combinations([PerceptualHash.of(drawn(key)) for key in keys], 2))
    of_one_shape = [a.bits_apart(b) <= SHAPE_BITS_APART for a, b in pairs]
    assert sum(of_one_shape) >= len(pairs) / 2
    assert not any(a.is_like(b) for a, b in pairs)


def test_different_pictures_have_different_shapes() -> None:
    looks = [PerceptualHash.of(picture(seed, (120, 120))) for seed in range(30)]
    assert min(a.bits_apart(b) for a, b in itertools.combinations(looks, 2)) > SHAPE_BITS_APART


def write_doubles(folder: Path) -> None:
    """Six pictures, c a copy of a, d of b with other bytes."""
    folder.mkdir()
    for number, name in enumerate("abef"):
        picture(number, (200, 160)).save(folder / f"{name}.png")
    shutil.copy(folder / "a.png", folder / "c.png")
    picture(1, (200, 160)).save(folder / "d.png", compress_level=1)


def payloads(gallery: Path) -> dict[str, dict[str, Any]]:
    with EdgeGallery.open(gallery) as opened:
        return {id: payload["_fti"] for id, payload in opened.scroll()}


def test_duplicates_are_skipped_marked_or_kept(tmp_path: Path) -> None:
    write_doubles(tmp_path / "photos")
    first = {"c": "a", "d": "b"}
    for dedupe, stored in (("skip", "abef"), ("mark", "abcdef"), ("keep", "abcdef")):
        run = ingest("photos", "--gallery", dedupe, "--dedupe", dedupe, cwd=tmp_path)
        assert run.code == 0, run.err
        assert "1 exact and 1 near duplicates are listed in" in run.out
        lines = (tmp_path / dedupe / "duplicates.jsonl").read_text().splitlines()
        told = {Path(one["uri"]).stem: one for one in map(json.loads, lines)}
        assert {name: Path(one["of_uri"]).stem for name, one in told.items()} == first
        assert [told[name]["kind"] for name in "cd"] == ["exact", "near"]
        held = payloads(tmp_path / dedupe)
        assert set(held) == {point_id(f"{name}.png") for name in stored}
        marks = {id: ours["duplicate_of"] for id, ours in held.items() if "duplicate_of" in ours}
        expected = {point_id(f"{a}.png"): point_id(f"{b}.png") for a, b in first.items()}
        assert marks == (expected if dedupe == "mark" else {})
        again = ingest("photos", "--gallery", dedupe, "--dedupe", dedupe, cwd=tmp_path)
        assert payloads(tmp_path / dedupe) == held
        assert again.line.startswith(f"6 images in: 0 stored, {len(stored)} unchanged, 0 rejected")


def test_a_picture_that_became_a_duplicate_leaves(tmp_path: Path) -> None:
    """--dry-run says so before, and lists all duplicates."""
    write_doubles(tmp_path / "photos")
    asked = ("photos", "--gallery", "gallery", "--dedupe", "skip")
    assert ingest(*asked, cwd=tmp_path).code == 0
    shutil.copy(tmp_path / "photos" / "b.png", tmp_path / "photos" / "e.png")
    held = payloads(tmp_path / "gallery")
    told = ingest(*asked, "--dry-run", cwd=tmp_path)
    assert told.code == 0, told.err
    assert "0 new and 0 changed would be stored, 3 are unchanged, 0 would be rejected" in told.out
    assert "rejected, 3 skipped as duplicates; 0 in the gallery" in told.out
    assert f"exact duplicate of {tmp_path / 'photos' / 'b.png'}: " in told.out
    assert payloads(tmp_path / "gallery") == held

    again = ingest(*asked, cwd=tmp_path)
    assert again.line == ("6 images in: 0 stored, 3 unchanged, 0 rejected, 3 skipped as duplicates")
    assert set(payloads(tmp_path / "gallery")) == {point_id(f"{name}.png") for name in "abf"}


def test_a_picture_that_moved_is_not_its_own_duplicate(tmp_path: Path) -> None:
    """Else it would be skipped where it is, and pruned where it was."""
    photos = tmp_path / "photos"
    write_doubles(photos)
    asked = ("photos", "--gallery", "gallery", "--dedupe", "mark")
    assert ingest(*asked, cwd=tmp_path).code == 0
    (photos / "moved").mkdir()
    (photos / "a.png").rename(photos / "moved" / "a.png")
    asked = (*asked, "--prune", "--prune-at-most", "0.2")
    told = ingest(*asked, "--dry-run", cwd=tmp_path)
    assert "1 new and 1 changed would be stored, 4 are unchanged" in told.out
    again = ingest(*asked, cwd=tmp_path)
    assert again.line == "6 images in: 2 stored, 4 unchanged, 0 rejected, 1 pruned"
    held = payloads(tmp_path / "gallery")
    assert "duplicate_of" not in held[point_id("c.png")]
    assert held[point_id("moved/a.png")]["duplicate_of"] == point_id("c.png")
    assert held[point_id("d.png")]["duplicate_of"] == point_id("b.png")
    assert point_id("a.png") not in held
    assert ingest(*asked, cwd=tmp_path).line.startswith("6 images in: 0 stored, 6 unchanged")


def test_a_missing_package_is_told_before_anything_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda name: None)
    arguments = [str(tmp_path), "--gallery", str(tmp_path / "g"), "--dedupe", "mark"]
    told = CliRunner().invoke(main, arguments)
    assert told.exit_code == 2
    assert "pip install 'fti-qdrant[dedupe]'" in told.output
