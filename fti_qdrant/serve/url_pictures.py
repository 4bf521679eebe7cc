"""Pictures at URLs: fetched before their query waits for the model."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace

import anyio

from fti_qdrant.errors import BadImage, BadQuery
from fti_qdrant.images import ImageLimits
from fti_qdrant.images.read import read_bytes
from fti_qdrant.serve.held import Held
from fti_qdrant.serve.schemas import MOST_REFERENCES, ReferenceImage
from fti_qdrant.serve.threads import in_thread

FETCHED_AT_ONCE = 8
"""Pictures that are downloaded at the same time, of all requests."""


class UrlPictures:
    """Downloads the references of requests, a few at a time, within the limits of a body."""

    def __init__(self, allowed: bool, limits: ImageLimits, most: int, held: Held):
        """Args:
        limits: of each picture.
        most: bytes of all pictures of one request.
        held: counts them while they are in memory.
        """
        self._allowed = allowed
        self._limits = replace(limits, max_bytes=min(limits.max_bytes, most))
        self._most = most
        self._held = held
        self._fetching = anyio.CapacityLimiter(FETCHED_AT_ONCE)

    @asynccontextmanager
    async def fetched(
        self, references: Iterable[ReferenceImage]
    ) -> AsyncIterator[dict[str, bytes]]:
        """The bytes of those references that are URLs, for as long as the context is open.

        Raises BadQuery where URLs are off, BadImage.
        """
        urls = list(dict.fromkeys(one.url for one in references if one.url is not None))
        if urls and not self._allowed:
            raise BadQuery(
                f"URLs are off, and {urls[0]!r} is one; send the picture itself, or start the "
                "service with --allow-urls"
            )
        if len(urls) > MOST_REFERENCES:
            raise BadQuery(
                f"{len(urls)} pictures at URLs; the most of a request is {MOST_REFERENCES}"
            )
        found: dict[str, bytes | BadImage] = {}
        async with anyio.create_task_group() as tasks:
            for url in urls:
                tasks.start_soon(self._fetch, url, found)
        pictures = _all_good(found, urls)
        size = sum(map(len, pictures.values()))
        if size > self._most:
            raise BadImage(f"the pictures at URLs are over the limit of {self._most:,} bytes")
        try:
            self._held.add(size)
            yield pictures
        finally:
            self._held.remove(size)

    async def _fetch(self, url: str, found: dict[str, bytes | BadImage]) -> None:
        try:
            found[url] = await in_thread(self._read, url, limiter=self._fetching)
        except BadImage as error:
            found[url] = error

    def _read(self, url: str) -> bytes:
        return read_bytes(url, allow_urls=True, allow_paths=False, limits=self._limits)[0]


def _all_good(found: Mapping[str, bytes | BadImage], urls: Iterable[str]) -> dict[str, bytes]:
    pictures = {}
    for url in urls:
        one = found[url]
        if isinstance(one, BadImage):
            raise one
        pictures[url] = one
    return pictures
