"""Files of the Hugging Face hub, through its own cache: fetched once, then read from the disk.

Where the hub cannot be reached, or ``HF_HUB_OFFLINE=1`` is set, what the cache holds is used.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import HfApi, constants, get_session, hf_hub_download, scan_cache_dir
from huggingface_hub.errors import (
    CacheNotFound,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from fti_qdrant.errors import CheckpointError, HubUnavailable, first_line

NAME = re.compile(
    r"(?P<repository>\w[\w.-]*/\w[\w.-]*)(?:@(?P<revision>[^@:\s]+))?(?::(?P<file>[^:\s]+))?"
)
MAIN = "main"
TIMEOUT = 10.0
"""Seconds to wait for the hub's answer about a repository."""


@dataclass(frozen=True)
class HubName:
    """``ORG/REPO``, ``ORG/REPO@REVISION`` or ``ORG/REPO@REVISION:FILE``.

    Attributes:
        revision: a branch, a tag or a commit.
        file: one of the repository's files; None leaves the choice to what is there.
    """

    repository: str
    revision: str = MAIN
    file: str | None = None

    @classmethod
    def parse(cls, text: str) -> HubName | None:
        """None where the text is no name on the hub.

        Example:
            >>> HubName.parse("iLearn-Lab/SIGIR24-FTI4CIR@main:model.pth")
            HubName(repository='iLearn-Lab/SIGIR24-FTI4CIR', revision='main', file='model.pth')
            >>> HubName.parse("runs/first/inverter") is None
            True
        """
        found = NAME.fullmatch(text)
        if found is None:
            return None
        return cls(found["repository"], found["revision"] or MAIN, found["file"])


@dataclass(frozen=True)
class Revision:
    """One state of a repository.

    Attributes:
        revision: the branch, tag or commit that was asked for.
        commit: what it stands for now.
        files: names of the files that are there; of a repository in the cache, those in it.
        cached: found in the cache, without the hub.
    """

    repository: str
    revision: str
    commit: str
    files: tuple[str, ...]
    cached: bool = False

    @classmethod
    def find(cls, name: HubName) -> Revision:
        """Asks the hub; without it, looks into the cache.

        Raises:
            CheckpointError: no such repository or revision, or no access to it.
            HubUnavailable: the hub does not answer, and the cache does not hold it.
        """
        if constants.HF_HUB_OFFLINE:
            return cls._in_cache(name, "HF_HUB_OFFLINE=1 is set")
        try:
            with quiet():
                info = HfApi(endpoint=constants.ENDPOINT).model_info(
                    name.repository, revision=name.revision, timeout=TIMEOUT
                )
        except Exception as error:  # its HTTP client, and so its errors, differ between versions
            reason = _refusal(name, error)
            if reason is not None:
                raise CheckpointError(reason) from error
            return cls._in_cache(name, _unreachable(error))
        files = tuple(one.rfilename for one in info.siblings or ())
        return cls(name.repository, name.revision, str(info.sha), files)

    def fetch(self, file: str) -> Path:
        """The file's path in the cache, downloaded where it is not there yet.

        Raises HubUnavailable where the hub breaks off.
        """
        try:
            with quiet():
                return Path(
                    hf_hub_download(
                        self.repository,
                        file,
                        # by the name that was asked for: the cache then knows it, too
                        revision=self.commit if self.cached else self.revision,
                        local_files_only=self.cached,
                        cache_dir=constants.HF_HUB_CACHE,
                        endpoint=constants.ENDPOINT,
                    )
                )
        except Exception as error:
            raise HubUnavailable(
                f"{file!r} of {self.repository!r} cannot be fetched ({_unreachable(error)}); try "
                "again, or pass a file on this machine"
            ) from error

    @classmethod
    def _in_cache(cls, name: HubName, reason: str) -> Revision:
        for commit, refs, files in _cached_revisions(name.repository):
            if name.revision in {commit, *refs}:
                return cls(name.repository, name.revision, commit, files, cached=True)
        raise HubUnavailable(
            f"{name.repository!r} at {name.revision!r} is not in the cache "
            f"{constants.HF_HUB_CACHE}, and {reason}; fetch it once where the hub can be reached, "
            "or pass a file on this machine"
        )


@contextmanager
def quiet() -> Iterator[None]:
    """Hides what the hub's client and open_clip log while they fetch, such as each retry.

    What went wrong is said by the error at the end. open_clip logs through the functions of
    ``logging``, which would also set up the root logger for good.
    """

    def hide(record: logging.LogRecord) -> bool:
        return record.levelno >= logging.ERROR

    def hide_open_clip(record: logging.LogRecord) -> bool:
        return "open_clip" not in record.pathname

    root, nothing = logging.getLogger(), logging.NullHandler()
    handlers = list(logging.getLogger("huggingface_hub").handlers)
    for handler in handlers:
        handler.addFilter(hide)
    root.addHandler(nothing)
    root.addFilter(hide_open_clip)
    try:
        yield
    finally:
        root.removeFilter(hide_open_clip)
        root.removeHandler(nothing)
        for handler in handlers:
            handler.removeFilter(hide)


@contextmanager
def fetching() -> Iterator[None]:
    """For another library's calls that fetch from the hub: quiet, and without useless retries.

    Where the hub does not answer, they are made in offline mode: the client would try each file
    for half a minute before it looks into the cache.
    """
    with quiet(), _OFFLINE if not hub_answers() else nullcontext():
        yield


def hub_answers() -> bool:
    """Whether the hub can be reached; asked until it answers once."""
    if constants.HF_HUB_OFFLINE or constants.ENDPOINT in _ANSWERED:
        return not constants.HF_HUB_OFFLINE
    try:
        get_session().head(constants.ENDPOINT, timeout=TIMEOUT)
    except Exception:  # its HTTP client, and so its errors, differ between versions
        return False
    _ANSWERED.add(constants.ENDPOINT)
    return True


_ANSWERED: set[str] = set()
"""Hubs that have answered in this process."""


class _OfflineMode:
    """Sets the client's offline mode while at least one thread is inside."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._before = False

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._before, constants.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE, True
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                constants.HF_HUB_OFFLINE = self._before


_OFFLINE = _OfflineMode()


def offline() -> AbstractContextManager[None]:
    """For calls that must not fetch anything: they use what the cache holds, or fail."""
    return _OFFLINE


def _cached_revisions(repository: str) -> Iterator[tuple[str, set[str], tuple[str, ...]]]:
    """(commit, branches and tags, files) of each revision in the cache."""
    try:
        cache = scan_cache_dir(constants.HF_HUB_CACHE)
    except (CacheNotFound, ValueError):
        return
    for repo in cache.repos:
        if repo.repo_type == "model" and repo.repo_id == repository:
            for one in repo.revisions:
                paths = [file.file_path.relative_to(one.snapshot_path) for file in one.files]
                yield one.commit_hash, set(one.refs), tuple(sorted(map(Path.as_posix, paths)))


def _refusal(name: HubName, error: Exception) -> str | None:
    """What the hub says about a repository; None where it did not answer about it."""
    repository = f"repository {name.repository!r}"
    if isinstance(error, GatedRepoError):
        return f"{repository} asks you to accept its terms on the hub first, then to set HF_TOKEN"
    if isinstance(error, RevisionNotFoundError):
        return f"{repository} has no revision {name.revision!r}"
    if isinstance(error, HFValidationError):
        return f"{name.repository!r} is no name of a repository: {first_line(error)}"
    response = getattr(error, "response", None)
    status = getattr(response, "status_code", 0)
    if isinstance(error, RepositoryNotFoundError) or status in (401, 403, 404):
        return f"there is no {repository} on the hub, or it is private: then set HF_TOKEN"
    if isinstance(error, HfHubHTTPError) and 400 <= status < 500 and status != 429:
        return f"the hub refuses {repository}: {first_line(error)}"
    return None


def _unreachable(error: BaseException) -> str:
    """The innermost cause, which names the network's fault."""
    while error.__cause__ is not None or error.__context__ is not None:
        error = error.__cause__ or error.__context__ or error
    return f"the hub at {constants.ENDPOINT} cannot be reached: {first_line(error)}"
