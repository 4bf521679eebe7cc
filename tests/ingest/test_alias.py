"""A change of model behind an alias: on a server Qdrant's alias, embedded a link to a folder."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from qdrant_client import models

from fti_ingest.cli import run
from fti_ingest.cli.main import main
from fti_qdrant.errors import GalleryExists, GalleryNotFound, GalleryUnavailable, NotAGallery
from fti_qdrant.gallery import (
    EdgeGallery,
    Gallery,
    GallerySpec,
    ServerGallery,
    VectorQuery,
    connect,
)
from fti_qdrant.gallery.aliases import FolderAlias, ServerAlias, removal_command
from fti_qdrant.gallery.client_options import ClientOptions
from fti_qdrant.gallery.location import EmbeddedLocation, GalleryLocation, ServerLocation
from fti_qdrant.model.fingerprint import Fingerprint
from tests.ingest.sources_and_runs import Run, ingest, write_pictures
from tests.qdrant_standin import Standin, serving_standin

NAME = r"shop-[0-9a-f]{8}-\d{8}"
OTHER = ("--preprocess", "squash")
"""Makes another model of ``mini``: vectors of two preprocessings cannot be compared."""


class Place:
    """Galleries in a folder or on a stand-in, with the alias ``shop``."""

    def __init__(self, folder: Path, url: str | None, standin: Standin | None):
        self.folder, self.url, self.standin = folder, url, standin

    @property
    def server(self) -> tuple[str, ...]:
        return ("--url", self.url) if self.url else ()

    def run(self, *options: str, source: str = "photos") -> Run:
        files = ("--report", "report.json", "--rejects", "rejects.jsonl")
        every = (*self.server, "--alias", "shop", "--patience", "0", *files)
        return ingest(source, *every, *options, cwd=self.folder)

    def galleries(self) -> list[str]:
        if self.standin:
            found = self.standin.client.get_collections().collections
            return sorted(one.name for one in found)
        folders = {file.parent for file in self.folder.glob("*/gallery.json")}
        return sorted(one.name for one in folders if not one.is_symlink())

    def target(self) -> str | None:
        if self.standin:
            held = self.standin.client.get_aliases().aliases
            return next((one.collection_name for one in held), None)
        link = self.folder / "shop"
        return str(link.readlink()) if link.is_symlink() else None

    def open(self, name: str = "shop") -> Gallery:
        if self.url:
            return ServerGallery.open(connect(self.url), name)
        return EdgeGallery.open(self.folder / name)

    def chosen(self, name: str) -> tuple[str, ...]:
        return ("--collection", name) if self.url else ("--gallery", name)

    def command(self, line: str) -> str:
        """Runs a line of a message; returns what it prints."""
        program, *arguments = shlex.split(line)
        assert program == "fti-ingest"
        here = Path.cwd()
        os.chdir(self.folder)
        try:
            done = CliRunner().invoke(main, arguments)
        finally:
            os.chdir(here)
        assert done.exit_code == 0, done.stderr
        return done.stdout


@pytest.fixture(params=["server", "folder"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    write_pictures(tmp_path / "photos", 12)
    if request.param == "folder":
        yield Place(tmp_path, None, None)
        return
    standin = Standin(str(tmp_path / "server"))
    with serving_standin(standin) as port:
        yield Place(tmp_path, f"http://127.0.0.1:{port}", standin)


@pytest.fixture
def folder(tmp_path: Path) -> Place:
    write_pictures(tmp_path / "photos", 12)
    return Place(tmp_path, None, None)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Place]:
    write_pictures(tmp_path / "photos", 9)
    standin = Standin(str(tmp_path / "server"))
    with serving_standin(standin) as port:
        yield Place(tmp_path, f"http://127.0.0.1:{port}", standin)


def test_the_alias_goes_from_model_to_model_and_back(place: Place) -> None:
    first = place.run()
    assert first.code == 0, first.err
    assert re.search(rf"alias 'shop'.* stands for .*'{NAME}'\n", first.out)
    [old] = place.galleries()
    assert place.target() == old
    again = place.run()
    assert again.line.startswith("12 images in: 0 stored, 12 unchanged"), again.err
    assert "which was updated in place" in again.out
    assert (place.galleries(), place.target()) == ([old], old)

    with place.open() as reader:  # a service that goes on meanwhile
        held = reader.spec.fingerprint
        second = place.run(*OTHER)
        assert second.code == 0, second.err
        assert second.line.startswith("12 images in: 12 stored")
        [new] = set(place.galleries()) - {old}
        assert place.target() == new
        kept = re.search(r"The one before, .*, is kept; delete it with: (.*)\n", second.out)
        assert kept
        assert old in kept[1]
        assert ("curl -X DELETE" if place.url else "rm -r") in kept[1]
        [vector] = reader.random_vectors(1).values()
        assert reader.search(VectorQuery(vector))[0].score == pytest.approx(1, abs=1e-4)
        assert reader.spec.fingerprint == held, "the reader stays with what it has opened"
    with place.open() as reader:
        assert "squash" in reader.spec.fingerprint.preprocess
        assert new in reader.address

    back = place.run("--preprocess", "target-pad")
    assert back.line.startswith("12 images in: 0 stored, 12 unchanged"), back.err
    assert place.target() == old
    assert place.galleries() == sorted([old, new])
    switch = ("fti-ingest", "switch", *place.server, "--alias", "shop", *place.chosen(new))
    told = place.command(shlex.join(switch))
    assert place.target() == new
    assert f"stands for {'collection' if place.url else 'gallery'} '{new}' now" in told


def test_the_gallery_may_have_a_name_of_ones_own(folder: Place) -> None:
    assert folder.run(*folder.chosen("first")).code == 0
    assert folder.target() == "first"
    second = folder.run(*folder.chosen("second"))
    assert second.code == 0, second.err
    assert (folder.target(), folder.galleries()) == ("second", ["first", "second"])
    third = folder.run(*folder.chosen("second"))
    assert "updated in place" in third.out


def test_too_many_rejects_leave_the_alias(folder: Place) -> None:
    assert folder.run().code == 0
    [old] = folder.galleries()
    for name in ("a.jpg", "b.jpg"):
        (folder.folder / "photos" / name).write_bytes(b"no picture")
    run = folder.run(*OTHER)
    assert run.code == 2
    assert run.line.startswith("14 images in: 12 stored, 0 unchanged, 2 rejected")
    assert "2 of 14 images were rejected, see rejects.jsonl; alias 'shop'" in run.error
    assert folder.target() == old
    folder.command(run.error.partition("switch it with: ")[2])
    assert folder.target() != old


def test_a_much_smaller_gallery_does_not_take_the_place(folder: Place) -> None:
    assert folder.run().code == 0
    old = folder.target()
    write_pictures(folder.folder / "few", 10)
    run = folder.run(*OTHER, source="few")
    assert run.code == 2
    assert re.search(r"holds 10 images, and .* 12; alias 'shop'.* stays as it was", run.error)
    assert folder.target() == old
    write_pictures(folder.folder / "few", 11)
    assert folder.run(*OTHER, source="few").code == 0
    assert folder.target() != old


def test_a_dry_run_makes_nothing(place: Place) -> None:
    told = place.run("--dry-run")
    assert told.code == 0, told.err
    assert "12 new and 0 changed would be stored" in told.out
    assert (place.galleries(), place.target()) == ([], None)


def test_a_gallery_of_the_aliass_name_is_refused_before_any_work(place: Place) -> None:
    plain = (*place.server, *place.chosen("shop"))
    assert ingest("photos", *plain, cwd=place.folder).code == 0
    run = place.run(*OTHER)
    assert run.code == 1
    assert re.search("'shop' is a (collection|folder)", run.error)
    assert "another --alias" in run.error
    assert place.galleries() == ["shop"]


def test_a_run_that_fails_leaves_the_alias_and_is_continued(server: Place) -> None:
    assert server.standin
    assert server.run().code == 0
    [old] = server.galleries()
    server.standin.strict = models.StrictModeConfigOutput(enabled=True, upsert_max_batchsize=4)
    server.standin.fail_after = 1
    cut = server.run(*OTHER)
    assert cut.code == 1
    assert "disk is full" in cut.error
    assert server.target() == old
    [half] = set(server.galleries()) - {old}
    with server.open(half) as gallery:
        assert gallery.count() == 4
    server.standin.fail_after = -1
    server.standin.asked.clear()
    done = server.run(*OTHER)
    assert done.code == 0, done.err
    assert done.line == "9 images in: 5 stored, 4 unchanged, 0 rejected"
    assert server.target() == half
    assert server.galleries() == sorted([old, half])
    changes = [one for one in server.standin.asked if one.startswith("PUT") or "aliases" in one]
    assert changes.count("POST /collections/aliases") == 1
    assert changes[-1] == "POST /collections/aliases", "in one request, when all is stored"


@pytest.fixture
def aliased(server: Place) -> Place:
    """Two collections without images, of which ``old`` has the alias."""
    assert server.url
    spec = GallerySpec(fingerprint=Fingerprint("tiny", "0" * 16, "GELU", "targetpad", 8))
    client = connect(server.url)
    for name in ("old", "new"):
        ServerGallery.create(client, name, spec)
    ServerAlias(ServerLocation(server.url, "shop")).switch(ServerLocation(server.url, "old"))
    return server


def test_a_gallery_whose_collection_was_deleted_says_so(aliased: Place) -> None:
    assert aliased.url
    with aliased.open() as reader:
        assert reader.address.endswith("/collections/old")
        ServerAlias(ServerLocation(aliased.url, "shop")).switch(ServerLocation(aliased.url, "new"))
        assert reader.count() == 0
        connect(aliased.url).delete_collection("old")
        with pytest.raises(GalleryNotFound, match=r"does not exist; alias 'shop'.*open it again"):
            reader.count()
    with aliased.open() as reader:
        assert reader.address.endswith("/collections/new")


def test_a_key_that_may_not_list_aliases_still_opens_them(aliased: Place) -> None:
    assert aliased.standin
    aliased.standin.hidden = ("/aliases",)
    with aliased.open() as reader:
        assert reader.count() == 0
        assert reader.address.endswith("/collections/shop")


def test_an_alias_of_another_programs_collection_is_taken_over(server: Place) -> None:
    assert server.url
    client = connect(server.url)
    theirs = models.VectorParams(size=8, distance=models.Distance.COSINE)
    client.create_collection("theirs", vectors_config=theirs)
    alias = ServerAlias(ServerLocation(server.url, "shop"))
    alias.switch(ServerLocation(server.url, "theirs"))
    with pytest.raises(NotAGallery, match="was not made by fti-qdrant"):
        server.open()
    run = server.run()
    assert run.code == 0, run.err
    assert "The one before, collection 'theirs', is kept" in run.out
    with server.open() as gallery:
        assert gallery.count() == 9


def test_a_key_that_may_not_switch_says_so(aliased: Place) -> None:
    assert aliased.standin
    assert aliased.url
    aliased.standin.read_only = True
    with pytest.raises(GalleryUnavailable, match=r"alias 'shop' at .* may not write here"):
        ServerAlias(ServerLocation(aliased.url, "shop")).switch(ServerLocation(aliased.url, "new"))
    assert aliased.target() == "old"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--alias", "shop", "--gallery", "shop"), "need two names"),
        (("--url", "http://a", "--alias", "s", "--collection", "s"), "need two names"),
        (("--alias", "shop", "--collection", "c"), "--collection with --url"),
        (("--url", "http://a", "--alias", "shop", "--gallery", "g"), "either --gallery DIR"),
        (("--alias", " ", "--gallery", "g"), "it needs a name"),
        (("--alias", ".", "--gallery", "g"), "it needs a name"),
        (("--alias", "a/..", "--gallery", "g"), "it needs a name"),
        (("--alias", "shop", "--gallery", "{cwd}/shop"), "need two names"),
        (("--url", "http://a", "--alias", "a/b"), "none of <"),
        (("--url", "http://a", "--alias", "a" * 201, "--collection", "c"), "at most 200"),
        (("--gallery", "g", "--url", "http://a"), "pass either --gallery DIR, or --url URL"),
        (("--alias", "shop", "--bulk"), "need a server"),
    ],
)
def test_options_that_do_not_go_together(
    tmp_path: Path, options: tuple[str, ...], said: str
) -> None:
    write_pictures(tmp_path / "photos", 1)
    options = tuple(one.replace("{cwd}", str(tmp_path)) for one in options)
    run = ingest("photos", *options, cwd=tmp_path)
    assert run.code == 2
    assert said in " ".join(run.err.split())


def test_switch_needs_a_gallery_that_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for arguments, code, said in [
        (("--alias", "shop", "--gallery", "none"), 2, "no gallery at 'none'"),
        (("--alias", "shop"), 2, "pass --alias NAME, and the gallery"),
        (("--gallery", "none"), 2, "pass --alias NAME, and the gallery"),
    ]:
        done = CliRunner().invoke(main, ["switch", *arguments])
        assert (done.exit_code, said in done.stderr) == (code, True), done.stderr


def test_a_link_that_leads_nowhere_is_replaced(tmp_path: Path) -> None:
    alias = FolderAlias(tmp_path / "shop")
    assert alias.target() is None
    (tmp_path / "shop").symlink_to("gone")
    assert alias.target() == EmbeddedLocation(tmp_path / "gone")
    (tmp_path / "new").mkdir()
    alias.switch(EmbeddedLocation(tmp_path / "new"))
    assert (tmp_path / "shop").readlink() == Path("new")
    assert not list(tmp_path.glob("*.part"))
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(GalleryExists, match="another --alias, or make it one: mv"):
        FolderAlias(tmp_path / "taken").switch(EmbeddedLocation(tmp_path / "new"))


PAGE = (Path(__file__).parents[2] / "docs" / "updating.md").read_text(encoding="utf-8")


def test_the_pages_program_runs(folder: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder.folder / "galleries").mkdir()
    monkeypatch.chdir(folder.folder)
    [program] = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    scope: dict[str, object] = {}
    exec(program, scope)
    assert str(scope["switch"].line()).startswith("alias 'galleries/shop' stands for gallery ")  # type: ignore[attr-defined]
    with EdgeGallery.open("galleries/shop") as gallery:
        assert gallery.count() == 12


def test_the_pages_commands_are_ours() -> None:
    blocks = re.findall(r"^```\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    lines = [line for block in blocks for line in block.splitlines()]
    asked = [shlex.split(line)[1:] for line in lines if line.startswith("fti-ingest")]
    assert len(asked) == 4
    for arguments in asked:
        assert run.ingest.make_context("fti-ingest", arguments).params["alias"]


@pytest.mark.parametrize(
    ("location", "command"),
    [
        (EmbeddedLocation(Path("my shop")), "rm -r 'my shop'"),
        (ServerLocation("http://a:1/", "c"), "curl -X DELETE http://a:1/collections/c"),
        (
            ServerLocation("https://a", "c", "k", client_options=ClientOptions(prefix="/q/")),
            'curl -X DELETE -H "api-key: $QDRANT_API_KEY" https://a/q/collections/c',
        ),
    ],
)
def test_the_command_that_deletes_a_gallery(
    location: GalleryLocation, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("QDRANT_API_KEY", raising=False)
    assert removal_command(location) == command
