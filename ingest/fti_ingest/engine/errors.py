"""What ends a stage, as one of our errors."""

from __future__ import annotations

import re

from fti_qdrant import errors
from fti_qdrant.errors import FtiError, GalleryUnavailable, first_line

RAISED = re.compile(r"^((?:\w+\.)*[A-Z]\w*): (.+)$", re.MULTILINE)
"""The line of a traceback that names the error."""


def as_fti_error(error: BaseException) -> FtiError:
    """An error of ours as it is; of another's, one line that names it."""
    if isinstance(error, FtiError):
        return error
    return GalleryUnavailable(f"a worker failed: {type(error).__name__}: {first_line(error)}")


def worker_error(error: BaseException) -> FtiError:
    """Ray hands on a worker's error as a traceback: our own error again, or one line of it."""
    raised = list(RAISED.finditer(str(error)))
    if not raised:
        return GalleryUnavailable(f"a worker failed: {first_line(error)}")
    kind, message = raised[-1].groups()
    module, _, name = kind.rpartition(".")
    ours = getattr(errors, name, None) if module == errors.__name__ else None
    return ours(message) if ours else GalleryUnavailable(f"a worker failed: {name}: {message}")
