"""Everything this package raises on purpose, under one root.

A message says what is wrong, shows the offending value, and says what to do about it.
The command lines print it as one line; ``exit_code`` is 2 for bad input and 1 for a failure
of something outside (a server, a disk, a file lock).
"""

from __future__ import annotations


class FtiError(Exception):
    """Root of the hierarchy: ``except FtiError`` catches all that fti-qdrant raises."""

    exit_code = 2


class BadImage(FtiError):
    """An image source that cannot be read, is too large, or is not an image."""


class BadQuery(FtiError):
    """A query that cannot be answered: wrong types, nothing to search for, limit below 1."""


class BadFilter(FtiError):
    """A filter mapping with an unknown operator, a wrong type, or an unknown payload field."""


class BadManifest(FtiError):
    """A gallery source that cannot be listed: no such folder, no ``image`` column, bad rows."""


class BadBenchmark(FtiError):
    """A benchmark's folder that lacks files, or an annotation that its protocol does not allow."""


class BadPredictions(FtiError):
    """A ranked-list file with missing, duplicate or unknown queries or images."""


class PromptTooLong(FtiError):
    """More pseudo-words than the text encoder's context can hold."""


class UnsupportedModel(FtiError):
    """A model that the method cannot use: not a ViT, unknown name, no weights named."""


class ModelMismatch(FtiError):
    """Two parts that were made by or for different models."""


class CheckpointError(FtiError):
    """A model folder or training checkpoint that is missing, truncated or of another shape."""


class GalleryNotFound(FtiError):
    """No gallery at this path, or no such collection on the server."""


class UnknownImageId(FtiError):
    """An image id that the gallery does not hold."""


class GalleryUnavailable(FtiError):
    """The gallery is there but cannot be used now: locked, server down, access refused."""

    exit_code = 1


class OutputUnavailable(FtiError):
    """A file that cannot be written now: no space, no permission, or another run writes it."""

    exit_code = 1


class Interrupted(FtiError):
    """Ctrl-C: the message says what is kept, and how to go on."""

    exit_code = 130


def first_line(error: BaseException) -> str:
    """What an exception of another library says, in one line; its type where it says nothing.

    Example:
        >>> first_line(ValueError("no such column\\n  at line 3"))
        'no such column'
        >>> first_line(EOFError())
        'EOFError'
    """
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
