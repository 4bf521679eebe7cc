"""The files of a checkpoint, in a folder here or in a repository of the Hugging Face hub."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

from fti_qdrant.errors import UnsupportedModel, first_line
from fti_qdrant.model.hub import fetching
from fti_qdrant.model.names import TRANSFORMERS, local_folder


@dataclass
class CheckpointFiles:
    """Files by name, fetched where they are first asked for.

    Attributes:
        name: the model's, for messages.
        folder: where the files are; None for a hub repository.
        repository, revision: on the hub.
    """

    name: str
    folder: Path | None = None
    repository: str = ""
    revision: str | None = None
    _unreachable: bool = field(default=False, init=False)

    @classmethod
    def of(cls, name: str) -> CheckpointFiles:
        """Of ``hf:ORG/REPO[@REVISION]`` or a folder."""
        folder = local_folder(name)
        if folder is not None:
            return cls(name, folder)
        repository, _, revision = name.removeprefix(TRANSFORMERS).partition("@")
        return cls(name, None, repository, revision or None)

    def find(self, file: str) -> Path | None:
        """The path of a file; None where the checkpoint has none of this name.

        Raises UnsupportedModel: no such repository or revision, or no access to it.
        """
        if self.folder is not None:
            path = self.folder / file
            return path if path.is_file() else None
        try:
            with fetching():
                return Path(hf_hub_download(self.repository, file, revision=self.revision))
        except LocalEntryNotFoundError:
            self._unreachable = True
            return None
        except EntryNotFoundError:
            return None
        except Exception as error:
            reason = first_line(error)
            raise UnsupportedModel(f"model {self.name!r} cannot be fetched: {reason}") from error

    def require(self, *files: str) -> Path:
        """The first of these files that is there. Raises UnsupportedModel where none is."""
        for file in files:
            path = self.find(file)
            if path is not None:
                return path
        where = " (the hub cannot be reached, and they are not cached)" if self._unreachable else ""
        raise UnsupportedModel(f"model {self.name!r} has no {' or '.join(files)}{where}")

    def read_json(self, path: Path) -> dict[str, Any]:
        """A JSON object. Raises UnsupportedModel for anything else."""
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise UnsupportedModel(
                f"model {self.name!r}: {path.name} cannot be read: {first_line(error)}"
            ) from error
        if not isinstance(values, dict):
            raise UnsupportedModel(f"model {self.name!r}: {path.name} holds no JSON object")
        return values
