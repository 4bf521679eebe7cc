"""How a client speaks to a Qdrant server. Importable without qdrant-client."""

from __future__ import annotations

import os
import re
import ssl
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from fti_qdrant.errors import GalleryUnavailable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from typing_extensions import Self

TIMEOUT = 30
"""Timeout of one request, in seconds."""

HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""A token of RFC 9110."""

HEADER_VALUE = re.compile(r"[\x20-\x7e]*")


@dataclass(frozen=True)
class ClientOptions:
    """How our own clients speak to a server, beside the address; can be sent to other processes.

    Attributes:
        timeout: seconds for one request; qdrant-client rounds them up.
        headers: sent with every request, names in small letters, as gRPC needs them.
        prefix: of the path behind a proxy, such as ``qdrant``; may be in the URL instead. gRPC has
            none.
        ca_file: PEM file of the authority that signed the server's certificate; by default those
            that the system trusts.

    Raises GalleryUnavailable: a value that no client could use.
    """

    timeout: float = TIMEOUT
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    prefix: str | None = None
    ca_file: str | None = None

    def __post_init__(self) -> None:
        number = isinstance(self.timeout, (int, float)) and not isinstance(self.timeout, bool)
        if not number or not 0 < self.timeout <= 86_400:
            raise GalleryUnavailable(
                f"timeout must be seconds above 0, at most a day, got {self.timeout!r}"
            )
        for name, value in self.headers:
            _check_header(name, value)
        if self.prefix is not None and not is_prefix(self.prefix):
            raise GalleryUnavailable(
                f"prefix {self.prefix!r} is not a path; pass the part of the URL behind the host, "
                "such as qdrant"
            )
        if self.ca_file is not None:
            self._context()

    @classmethod
    def of(
        cls,
        timeout: float | None = None,
        headers: Mapping[str, str] | None = None,
        prefix: str | None = None,
        ca_file: str | os.PathLike[str] | None = None,
    ) -> Self:
        """The options as a user gives them; None stands for the default. Raises as the class."""
        named = tuple((str(name).lower(), value) for name, value in (headers or {}).items())
        return cls(
            TIMEOUT if timeout is None else timeout,
            named,
            prefix or None,
            None if ca_file is None else os.fspath(ca_file),
        )

    def given(self) -> list[str]:
        """The names of those that are not the default.

        Example:
            >>> ClientOptions.of(timeout=5, headers={"X-Team": "search"}).given()
            ['timeout', 'headers']
        """
        return [one.name for one in fields(self) if getattr(self, one.name) != one.default]

    def certificates(self, *, grpc: bool) -> dict[str, Any]:
        """The arguments of a client that trusts ``ca_file``."""
        arguments: dict[str, Any] = {"verify": self._context()}
        if grpc:
            pem = Path(str(self.ca_file)).read_bytes()
            arguments["grpc_options"] = {"root_certificates": pem}
        return arguments

    def _context(self) -> ssl.SSLContext:
        try:
            return ssl.create_default_context(cafile=self.ca_file)
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            raise GalleryUnavailable(
                f"{self.ca_file!r} is not a file of certificates ({error}); pass the PEM file of "
                "the authority that signed the server's"
            ) from None


def check_address(url: str, options: ClientOptions) -> None:
    """Raises GalleryUnavailable where a URL is not a server's address."""
    wrong = f"{url!r} is not a server's address; pass one such as http://localhost:6333"
    if not url.startswith(("http://", "https://")):
        raise GalleryUnavailable(wrong)
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise GalleryUnavailable(f"{wrong} ({error})") from None
    if not parts.hostname or port == 0:
        raise GalleryUnavailable(wrong)
    if "@" in parts.netloc:
        raise GalleryUnavailable(
            f"the address of server {parts.hostname!r} contains a password; pass it as api_key, or "
            "in headers"
        )
    if parts.query or parts.fragment:
        raise GalleryUnavailable(f"{wrong}, without what follows '?' or '#'")
    if options.prefix and parts.path.strip("/"):
        raise GalleryUnavailable(
            f"the prefix is given twice, as {options.prefix!r} and in {url!r}; give it once"
        )


def is_prefix(text: object) -> bool:
    """Whether a text is a path without query, spaces and parts that lead upwards."""
    if not isinstance(text, str) or not re.fullmatch(r"[!-~]*", text) or set(text) & set("?#@:"):
        return False
    parts = text.strip("/").split("/")
    return all(part not in ("", ".", "..") for part in parts)


def _check_header(name: object, value: object) -> None:
    if not isinstance(name, str) or not HEADER_NAME.fullmatch(name):
        raise GalleryUnavailable(f"{name!r} is not the name of an HTTP header; use letters and -")
    if not isinstance(value, str) or not HEADER_VALUE.fullmatch(value):
        raise GalleryUnavailable(
            f"the value of header {name!r} must be printable ASCII text in one line"
        )
