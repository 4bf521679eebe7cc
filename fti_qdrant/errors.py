"""Everything that this package raises on purpose, under one root.

A message says what is wrong, shows the offending value, and says what to do about it. The command
lines print it as one line; ``exit_code`` is 2 for bad input and 1 for an outside failure (a server,
a disk, a file lock). Each error is also the built-in exception that it is by nature: ``except
ValueError`` catches most bad input.
"""

from __future__ import annotations


class FtiError(Exception):
    """Root of the hierarchy: ``except FtiError`` catches everything that fti-qdrant raises.

    Example:
        >>> try:
        ...     raise BadQuery("limit must be a whole number of at least 1, got 0")
        ... except ValueError as error:
        ...     print(error)
        limit must be a whole number of at least 1, got 0
    """

    exit_code = 2


class BadImage(FtiError, ValueError):
    """An image source that cannot be read, is too large, or is not an image."""


class BadQuery(FtiError, ValueError):
    """A query that cannot be answered: wrong types, nothing to search for, limit below 1."""


class BadFilter(FtiError, ValueError):
    """A filter mapping with an unknown operator, a wrong type, or an unknown payload field."""


class BadManifest(FtiError, ValueError):
    """A gallery source that cannot be listed: no such folder, no ``image`` column, bad rows."""


class BadBenchmark(FtiError, ValueError):
    """A benchmark folder with missing files, or an annotation that the protocol does not allow."""


class BadPredictions(FtiError, ValueError):
    """A ranked-list file with missing, duplicate or unknown queries or images."""


class BadCalibration(FtiError, ValueError):
    """Judged queries that chances cannot be fitted on: too few, or of another model."""


class PromptTooLong(FtiError, ValueError):
    """More pseudo-words than the text encoder's context can hold."""


class UnsupportedModel(FtiError, ValueError):
    """A model that cannot be loaded, or that cannot do what is asked of it."""


class ModelMismatch(FtiError, ValueError):
    """Two parts that were made by or for different models."""


class CheckpointError(FtiError, ValueError):
    """A model folder or training checkpoint that is missing, truncated, or of other shapes."""


class HubUnavailable(CheckpointError):
    """The Hugging Face hub cannot be reached, and its cache on this machine does not help."""

    exit_code = 1


class BadCollection(FtiError, ValueError):
    """A collection of another program that cannot be searched as it is, or as it is described."""


class GalleryNotFound(FtiError, LookupError):
    """No gallery at this path, or no such collection on the server."""


class UnknownImageId(FtiError, LookupError):
    """An image id that the gallery does not have."""


class GalleryUnavailable(FtiError, RuntimeError):
    """The gallery is there but cannot be used now: locked, server down, access refused."""

    exit_code = 1


class Overloaded(FtiError, RuntimeError):
    """More queries at one time than a search takes.

    Attributes:
        retry_after: seconds after which it is worth trying again.
    """

    exit_code = 1

    def __init__(self, message: str, retry_after: float = 1.0):
        super().__init__(message)
        self.retry_after = retry_after

    def __reduce__(self) -> tuple[type[Overloaded], tuple[str, float]]:
        return type(self), (str(self), self.retry_after)


class GalleryExists(GalleryUnavailable):
    """A gallery that was to be created is there already: open it."""


class NotAGallery(GalleryUnavailable):
    """A collection of another program, which does not say which model made its vectors."""


class OutputUnavailable(FtiError, OSError):
    """A file that cannot be written: no space, no permission, or another run is writing it."""

    exit_code = 1


class Interrupted(FtiError):
    """Ctrl-C: the message says what is kept, and how to go on."""

    exit_code = 130


def first_line(error: BaseException) -> str:
    """The first line of another library's error message; the error's type if it has none.

    Example:
        >>> first_line(ValueError("no such column\\n  at line 3"))
        'no such column'
        >>> first_line(EOFError())
        'EOFError'
    """
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
