"""Uploads an inverter and its card to the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import HfApi

from fti_qdrant.errors import CheckpointError, OutputUnavailable
from fti_qdrant.model.inverter_loading import load_inverter
from fti_training.card.write import CARD
from fti_training.fit.state import INVERTER


def upload(run: Path, repo: str, private: bool = False) -> str:
    """Creates the repository if it does not exist, and uploads the folder; its address.

    Raises:
        CheckpointError: the run has no inverter, or no card.
        OutputUnavailable: the hub does not answer, or refuses the upload.
    """
    folder = run / INVERTER
    load_inverter(str(folder))
    if not (folder / CARD).is_file():
        raise CheckpointError(f"{str(folder)!r} has no card; run: fti-train card {run}")
    hub = HfApi()
    try:
        name = hub.create_repo(repo, private=private, exist_ok=True).repo_id
        commit = hub.upload_folder(
            repo_id=name, folder_path=folder, commit_message="Upload an FTI4CIR inverter"
        )
    except Exception as error:  # its HTTP client, and so its errors, differ between versions
        reason = " ".join(str(error).split())[:300]
        raise OutputUnavailable(f"{repo!r} cannot be uploaded to the hub: {reason}") from error
    return str(commit.repo_url)
