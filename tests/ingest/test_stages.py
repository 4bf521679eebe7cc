"""The stages: decode, embed, stored revisions, points, rejects, and errors of workers."""

from __future__ import annotations

import hashlib
import json
import pickle
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from ray.exceptions import RayError, RayTaskError

from fti_ingest.engine.errors import worker_error
from fti_ingest.run.listed_blocks import BLOCKS, ListedBlocks, block_rows
from fti_ingest.run.rejects import RejectsFile
from fti_ingest.sources.listing import Listing
from fti_ingest.sources.source import Item, Reject
from fti_ingest.stages import embed
from fti_ingest.stages.columns import replaced
from fti_ingest.stages.decode import Decoder
from fti_ingest.stages.embed import Embedder, ModelChoice, words_of
from fti_ingest.stages.qdrant_datasink import PayloadSink
from fti_ingest.stages.revisions import revision_of, revisions_of, stored_revisions
from fti_ingest.stages.row_status import PAYLOAD, REJECTED, STORE, UNCHANGED
from fti_ingest.stages.write import points, updated_points
from fti_qdrant.composers.composer import Composer
from fti_qdrant.errors import CheckpointError, FtiError, GalleryUnavailable, ModelMismatch
from fti_qdrant.gallery import GallerySpec, StoredImage, WordsSpec, point_id
from fti_qdrant.gallery.location import ServerLocation
from fti_qdrant.images import Preprocess, open_image
from fti_qdrant.model.fingerprint import Fingerprint
from tests.ingest.sources_and_runs import picture, write_bad_pictures, write_odd_pictures

PREPROCESS = Preprocess(32, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def scrolled(revisions: dict[str, str | None]) -> list[tuple[str, dict[str, Any]]]:
    """What the ``scroll`` of a gallery with these images yields."""
    return [
        (id, {} if revision is None else {"_fti": {"revision": revision}})
        for id, revision in revisions.items()
    ]


def rows_of(files: list[Path], stored_revision: str = "") -> pa.Table:
    return pa.table(
        {
            "id": [point_id(file.name) for file in files],
            "uri": [str(file) for file in files],
            "payload": [json.dumps({"name": file.name}) for file in files],
            "stored_revision": [stored_revision] * len(files),
        }
    )


class TestDecoder:
    def test_good_pictures_have_the_pixels_of_the_one_preprocessing(self, tmp_path: Path) -> None:
        files = [tmp_path / name for name in write_odd_pictures(tmp_path)]
        decoded = Decoder(PREPROCESS)(rows_of(files))
        assert decoded["status"].to_pylist() == [STORE] * len(files)
        assert decoded["payload"].to_pylist() == rows_of(files)["payload"].to_pylist()
        for file, row in zip(files, decoded.to_pylist()):
            image = open_image(file).image
            assert row["pixels"] == PREPROCESS.pixels(image).tobytes()
            assert row["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
            assert (row["width"], row["height"]) == image.size

    def test_without_a_preprocessing_there_are_no_pixels(self, tmp_path: Path) -> None:
        files = [tmp_path / name for name in write_odd_pictures(tmp_path)]
        decoded = Decoder(None)(rows_of(files))
        assert decoded["status"].to_pylist() == [STORE] * len(files)
        assert set(decoded["pixels"].to_pylist()) == {b""}

    def test_bad_files_get_a_reason_and_no_pixels(self, tmp_path: Path) -> None:
        reasons = write_bad_pictures(tmp_path)
        decoded = Decoder(PREPROCESS)(rows_of([tmp_path / name for name in reasons]))
        assert set(decoded["status"].to_pylist()) == {REJECTED}
        assert set(decoded["pixels"].to_pylist()) == {b""}
        for wanted, error in zip(reasons.values(), decoded["error"].to_pylist()):
            assert wanted in error

    @pytest.mark.parametrize(
        ("uri", "allow", "reason"),
        [
            ("https://example.org/a.jpg", False, "--allow-urls"),
            ("http://127.0.0.1:9/a.jpg", True, "not a public address"),
            ("http://[bad/a.jpg", True, "it is not a URL"),
            ("/a\0b.jpg", False, "null"),
        ],
    )
    def test_uris_that_cannot_be_read(self, uri: str, allow: bool, reason: str) -> None:
        batch = rows_of([Path("x")]).set_column(1, "uri", pa.array([uri]))
        [given] = Decoder(PREPROCESS, allow_urls=allow)(batch)["error"].to_pylist()
        assert reason in given

    def test_a_stored_image_is_not_decoded(self, tmp_path: Path) -> None:
        file = tmp_path / "a.png"
        picture(1).save(file)
        sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
        revision = revision_of(sha256, str(file), json.dumps({"name": "a.png"}))
        decoded = Decoder(PREPROCESS)(rows_of([file], revision))
        assert decoded["status"].to_pylist() == [UNCHANGED]
        assert decoded["pixels"].to_pylist() == [b""]
        other = revision_of(sha256, str(file), json.dumps({"name": "b.png"}))
        moved = revision_of(sha256, "elsewhere", json.dumps({"name": "a.png"}))
        for before in (other, moved):
            decoded = Decoder(PREPROCESS)(rows_of([file], before))
            assert decoded["status"].to_pylist() == [PAYLOAD]
            assert decoded["pixels"].to_pylist() == [b""]
            assert decoded["revision"].to_pylist() == [revision]
        picture(2).save(file)
        assert Decoder(PREPROCESS)(rows_of([file], revision))["status"].to_pylist() == [STORE]

    def test_an_empty_batch(self) -> None:
        assert Decoder(PREPROCESS)(rows_of([]).slice(0, 0)).num_rows == 0


class TestEmbedder:
    @pytest.fixture
    def spec(self, tiny_composer: Composer) -> GallerySpec:
        return GallerySpec(
            fingerprint=tiny_composer.backbone.fingerprint, words=words_of(tiny_composer)
        )

    @pytest.fixture
    def embedder(
        self, spec: GallerySpec, tiny_composer: Composer, monkeypatch: pytest.MonkeyPatch
    ) -> Embedder:
        monkeypatch.setattr(embed, "_loaded", lambda choice: tiny_composer)
        return Embedder(ModelChoice("tiny", "inverter"), spec, threads=2, where="'g'")

    @pytest.fixture
    def decoded(self, tmp_path: Path, tiny_composer: Composer) -> pa.Table:
        files = [tmp_path / f"{number}.png" for number in range(5)]
        for number, file in enumerate(files):
            picture(number).save(file)
        files[2].write_bytes(b"")
        return Decoder(tiny_composer.backbone.preprocess)(rows_of(files))

    def test_vectors_and_pseudo_words_are_the_librarys(
        self, embedder: Embedder, decoded: pa.Table, tiny_composer: Composer, spec: GallerySpec
    ) -> None:
        from fti_qdrant.gallery.pseudo_words import stacked

        done = points(embedder(decoded), spec)
        images = [picture(number) for number in (0, 1, 3, 4)]
        features = tiny_composer.backbone.image_features(images)
        words = tiny_composer.references(features, (1,) * 4).words
        assert words is not None
        assert [point.id for point in done] == [point_id(f"{n}.png") for n in (0, 1, 3, 4)]
        assert np.allclose([point.vector for point in done], features.pooled, atol=1e-5)
        assert np.allclose([point.words for point in done], stacked(words), atol=2e-3)
        assert [point.payload["_fti"]["r"] for point in done] == words.counts.tolist()

    def test_payloads_hold_the_users_fields_and_our_facts(
        self, embedder: Embedder, decoded: pa.Table, spec: GallerySpec
    ) -> None:
        row = decoded.to_pylist()[0]
        payload = points(embedder(decoded), spec)[0].payload
        ours = payload.pop("_fti")
        assert payload == {"name": "0.png"}
        assert set(ours) == {"uri", "sha256", "width", "height", "revision", "r"}
        assert {name: row[name] for name in ours if name != "r"} == {
            name: value for name, value in ours.items() if name != "r"
        }

    def test_a_bad_row_passes_through(self, embedder: Embedder, decoded: pa.Table) -> None:
        out = embedder(decoded)
        for name in ("id", "status", "error"):
            assert out[name].to_pylist() == decoded[name].to_pylist()
        assert "0 bytes" in out["error"][2].as_py()
        all_bad = embedder(decoded.slice(2, 1))
        assert all_bad.schema == out.schema

    def test_where_nothing_is_to_be_stored_no_model_is_loaded(
        self, decoded: pa.Table, spec: GallerySpec, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(choice: ModelChoice) -> Composer:
            raise AssertionError("loaded")

        monkeypatch.setattr(embed, "_loaded", refuse)
        embedder = Embedder(ModelChoice("tiny"), spec, threads=2)
        same = replaced(decoded, status=pa.array([UNCHANGED] * len(decoded)))
        assert embedder(same)["status"].to_pylist() == [UNCHANGED] * len(decoded)
        embedder.close()
        with pytest.raises(AssertionError, match="loaded"):
            embedder(decoded)

    def test_another_model_than_the_gallerys_is_refused(
        self, embedder: Embedder, decoded: pa.Table, spec: GallerySpec
    ) -> None:
        assert spec.words is not None
        embedder.spec = spec.model_copy(
            update={"words": WordsSpec(inverter="other", topk=12, token_dim=64)}
        )
        with pytest.raises(ModelMismatch, match="stores pseudo-words of inverter other"):
            embedder(decoded)

    @pytest.mark.parametrize("value", [np.nan, np.inf, 0.0])
    def test_a_vector_that_no_store_takes_rejects_its_image_alone(
        self,
        embedder: Embedder,
        decoded: pa.Table,
        spec: GallerySpec,
        monkeypatch: pytest.MonkeyPatch,
        value: float,
    ) -> None:
        vectors = np.ones((4, 64), dtype=np.float32)
        vectors[1] = value
        words = np.zeros((4, 13 * 64), dtype=np.float16)
        monkeypatch.setattr(embedder, "_embed", lambda pixels: (vectors, words, [1] * 4))
        out = embedder(decoded)
        assert out["status"].to_pylist() == [STORE, REJECTED, REJECTED, STORE, STORE]
        assert "no finite vector" in out["error"][1].as_py()
        assert len(points(out, spec)) == 3

    def test_without_pseudo_words(
        self, decoded: pa.Table, tiny_composer: Composer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(embed, "_loaded", lambda choice: tiny_composer)
        spec = GallerySpec(fingerprint=tiny_composer.backbone.fingerprint)
        out = Embedder(ModelChoice("tiny"), spec, threads=2)(decoded)
        assert "words" not in out.column_names
        assert [point.words for point in points(out, spec)] == [None] * 4
        assert points(out.slice(2, 1), spec) == []

    def test_it_gives_the_threads_back(self, embedder: Embedder, decoded: pa.Table) -> None:
        import torch

        torch.set_num_threads(2)
        try:
            embedder(decoded)
            assert torch.get_num_threads() == 1
            embedder.close()
            assert torch.get_num_threads() == 2
        finally:
            torch.set_num_threads(1)


def test_an_update_keeps_the_vector_and_our_facts() -> None:
    facts = {"uri": "u", "sha256": "s", "r": 3}
    held = StoredImage(7, {"old": 1, "_fti": facts}, np.ones(2))

    class Gallery:
        spec = GallerySpec(fingerprint=Fingerprint("tiny", "0", "GELU", "squash", 2))

        def retrieve(self, ids: list[int]) -> list[StoredImage]:
            return [held] if ids == [7] else []

    rows = {"id": ["7", "8"], "payload": ['{"new": 2}', "{}"], "uri": ["v", "w"]}
    batch = pa.table({**rows, "revision": ["x", "y"], "status": [PAYLOAD, STORE]})
    [point] = updated_points(batch, Gallery())  # type: ignore[arg-type]
    assert point.payload == {"new": 2, "_fti": {"uri": "v", "sha256": "s", "r": 3, "revision": "x"}}
    assert point.vector is held.vector


class TestStoredRevisions:
    def test_they_are_found_by_id(self) -> None:
        held: dict[str, str | None] = {
            point_id(str(n)): f"{n * 2**50 + 1:016x}" for n in range(500)
        }
        foreign = str(uuid.uuid4())
        held[foreign] = None
        stored = stored_revisions(scrolled(held))
        asked = [point_id("3"), point_id("499"), point_id("new"), foreign, point_id("0")]
        expected = [held[asked[0]], held[asked[1]], "", "", held[asked[4]]]
        assert revisions_of(stored, asked) == expected

    def test_an_empty_gallery_has_none(self) -> None:
        assert revisions_of(stored_revisions([]), [point_id("a")]) == [""]

    def test_a_revision_changes_with_each_part(self) -> None:
        parts = [("a", "b", "c"), ("x", "b", "c"), ("a", "x", "c"), ("a", "b", "x")]
        revisions = [revision_of(*part) for part in parts]
        assert len(set(revisions)) == 4
        assert revisions[0] == revision_of(*parts[0])


def test_blocks_hold_every_row_once_and_stay_few(tmp_path: Path) -> None:
    listing = Listing()
    for number in range(BLOCKS * 32 + 100):
        listing.add(Item(f"{number}.jpg", f"/photos/{number}.jpg"))
    source = listing.source()
    stored = stored_revisions(scrolled({point_id("7.jpg"): "ab" * 8}))
    np.save(tmp_path / "revisions.npy", stored)
    rows = block_rows(len(source))
    assert BLOCKS / 2 < len(source) / rows <= BLOCKS
    here = ListedBlocks(source.path, tmp_path / "revisions.npy", rows)
    assert len(here) == -(-len(source) // rows)
    blocks = pickle.loads(pickle.dumps(here))  # as it goes to an actor
    joined = pa.concat_tables([blocks.block(number) for number in range(len(blocks))])
    assert joined.select(["id", "uri", "payload"]).equals(source.table)
    assert joined["stored_revision"].to_pylist()[6:9] == ["", "ab" * 8, ""]


def test_ray_qdrants_sink_gets_payloads_whole() -> None:
    """Fields by the names of the sink's own columns, of mixed types, missing in some rows."""
    payloads = [{"id": 7, "vector": "x", "size": 1}, {"size": "L"}, {"_fti": {"r": 1}}]
    table = pa.table({"payload": [json.dumps(payload) for payload in payloads]})
    sink = PayloadSink(ServerLocation("http://127.0.0.1:9", "c"))
    assert sink._to_payloads(table) == payloads
    limited = PayloadSink(ServerLocation("http://127.0.0.1:9", "c"), most_points=7)
    assert (limited.batch_size, sink.batch_size) == (7, 256)


class TestRejectsFile:
    def test_lines_are_there_before_the_end(self, tmp_path: Path) -> None:
        path = tmp_path / "rejects.jsonl"
        path.write_text("of the run before\n")
        with RejectsFile(path) as rejected:
            rejected.add(Reject("a.jpg", 'no "good"'))
            assert json.loads(path.read_text()) == {"uri": "a.jpg", "reason": 'no "good"'}
            rejected.add(Reject("größe.jpg", "two\nlines"))
        assert len(path.read_text().splitlines()) == 2
        assert rejected.first == Reject("a.jpg", 'no "good"')

    def test_without_rejects_there_is_no_file(self, tmp_path: Path) -> None:
        path = tmp_path / "rejects.jsonl"
        path.write_text("of the run before\n")
        with RejectsFile(path):
            pass
        assert not path.exists()

    def test_a_place_that_cannot_be_written(self, tmp_path: Path) -> None:
        with pytest.raises(FtiError, match="choose --rejects FILE"):
            RejectsFile(tmp_path / "no" / "such" / "folder.jsonl")


TRACEBACK = """ray::MapWorker(MapBatches(ServerWriter)).submit() (pid=1, ip=127.0.0.1)
  File "sinks.py", line 1, in __call__
    raise GalleryUnavailable("a: b")
{raised}
Failed to apply UDF transform after 1/1 attempts (total backoff 0.0s).
To change retry attempts, configure `ray.data.DataContext` if you believe this to be transient."""


@pytest.mark.parametrize(
    ("raised", "kind", "message"),
    [
        ("fti_qdrant.errors.CheckpointError: a: b", CheckpointError, "a: b"),
        ("MemoryError: 8 GB", GalleryUnavailable, "a worker failed: MemoryError: 8 GB"),
        ("other.errors.BadImage: x", GalleryUnavailable, "a worker failed: BadImage: x"),
    ],
)
def test_a_workers_error_is_ours_again_or_one_line(
    raised: str, kind: type[FtiError], message: str
) -> None:
    cause = worker_error(RayTaskError("submit", TRACEBACK.format(raised=raised), ValueError()))
    assert type(cause) is kind
    assert str(cause) == message


def test_a_worker_that_died_without_a_traceback() -> None:
    error = RayError("The actor died unexpectedly before finishing this task.\n\tclass_name: X: Y")
    assert str(worker_error(error)) == (
        "a worker failed: The actor died unexpectedly before finishing this task."
    )
