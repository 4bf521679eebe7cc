"""Finds the files of an inverter: a known one, a folder, a checkpoint, a repository of the hub."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from pathlib import Path

from huggingface_hub.constants import CONFIG_NAME, SAFETENSORS_SINGLE_FILE
from pydantic import BaseModel, ConfigDict, PositiveInt, ValidationError

from fti_qdrant.errors import CheckpointError, HubUnavailable
from fti_qdrant.model.hub import HubName, Revision
from fti_qdrant.model.names import MINI
from fti_qdrant.model.pretrained import KNOWN_INVERTERS

CHECKPOINTS = (".pth", ".pt", ".ckpt", ".bin", ".pkl", ".safetensors")
"""Suffixes of files that may hold a network."""

OPEN_CLIP_CONFIG = "open_clip_config.json"

SHOWN_FILES = 6


class InverterConfig(BaseModel):
    """What every ``config.json`` of an inverter states: the sizes of its backbone."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    width: PositiveInt
    dim: PositiveInt
    token_dim: PositiveInt


@dataclass(frozen=True)
class InverterFiles:
    """Where an inverter was found.

    Attributes:
        path: a folder of ``save_inverter``, or a checkpoint file to convert.
        origin: where a file came from, as its record states it.
        backbones: names of the model that it was trained with; empty where nothing states it.
    """

    path: Path
    origin: dict[str, str] = field(default_factory=dict)
    backbones: tuple[str, ...] = ()


def find_inverter(source: str) -> InverterFiles:
    """The files of an inverter by name, fetched where they are on the hub.

    Raises CheckpointError, HubUnavailable: see ``inverter_loading.load_inverter``.
    """
    path = Path(source).expanduser()
    if path.is_file():
        beside = path.name == SAFETENSORS_SINGLE_FILE and (path.parent / CONFIG_NAME).is_file()
        return InverterFiles(path.parent if beside else path)
    # a folder that only has the name of a known inverter, such as the run "mini", is not meant
    if path.is_dir() and (source not in KNOWN_INVERTERS or (path / CONFIG_NAME).is_file()):
        return _in_folder(path, source)
    known = KNOWN_INVERTERS.get(source)
    if known is not None and known.repository is None:
        return InverterFiles(MINI / "inverter", backbones=(known.backbone, *known.same_backbone))
    name = HubName.parse(known.repository if known and known.repository else source)
    if name is None:
        raise CheckpointError(
            f"inverter {source!r}: no such file or folder, and no name of an inverter; pass "
            f"{', '.join(KNOWN_INVERTERS)}, a path, or ORG/REPO on the Hugging Face hub"
        )
    try:
        found = _on_the_hub(name)
        backbones = (known.backbone, *known.same_backbone) if known else ()
        return replace(found, backbones=backbones)
    except CheckpointError as error:
        missing = "" if known else "it is no file or folder here, and "
        raise type(error)(f"inverter {source!r} cannot be loaded: {missing}{error}") from error


def _in_folder(folder: Path, source: str) -> InverterFiles:
    names = [path.name for path in sorted(folder.iterdir()) if path.is_file()]
    try:
        file = _choose_file(names, folder.joinpath)
    except CheckpointError as error:
        inside = folder / "inverter"
        hint = f"; did you mean {str(inside)!r}?" if (inside / CONFIG_NAME).is_file() else ""
        raise CheckpointError(f"folder {source!r} {error}{hint}") from None
    return InverterFiles(folder / file if file else folder)


def _on_the_hub(name: HubName) -> InverterFiles:
    revision = Revision.find(name)
    file = name.file
    if file is None:
        try:
            file = _choose_file(revision.files, revision.fetch)
        except HubUnavailable:
            raise
        except CheckpointError as error:
            raise CheckpointError(f"repository {name.repository!r} {error}") from None
    elif file not in revision.files:
        raise CheckpointError(
            f"repository {name.repository!r} has no file {file!r}; it has {_listed(revision.files)}"
        )
    if file is None:
        return InverterFiles(revision.fetch(SAFETENSORS_SINGLE_FILE).parent)
    origin = {"repository": revision.repository, "revision": revision.commit}
    return InverterFiles(revision.fetch(file), origin)


def _choose_file(names: Collection[str], path_of: Callable[[str], Path]) -> str | None:
    """Which file of a folder or repository to convert; None for what ``save_inverter`` wrote.

    Args:
        path_of: the path of a file by name. Of a repository, only small files are asked for.

    Raises CheckpointError, whose message follows the folder's name, where there is no checkpoint,
    or more than one.
    """
    if CONFIG_NAME in names and _is_of_an_inverter(path_of(CONFIG_NAME)):
        if SAFETENSORS_SINGLE_FILE not in names:
            raise CheckpointError(f"has {CONFIG_NAME} and no {SAFETENSORS_SINGLE_FILE}")
        return None
    if OPEN_CLIP_CONFIG in names:
        raise CheckpointError("holds a CLIP model and no inverter; pass it as the model")
    found = [name for name in names if name.endswith(CHECKPOINTS)]
    if len(found) == 1:
        return found[0]
    if found:
        raise CheckpointError(
            f"holds {len(found)} checkpoints: {_listed(found)}; name one of them, as "
            "PATH or as ORG/REPO:FILE"
        )
    raise CheckpointError(
        f"holds no checkpoint: no {CONFIG_NAME} with {SAFETENSORS_SINGLE_FILE}, and no file "
        f"that ends in {', '.join(CHECKPOINTS)}; it holds {_listed(names)}"
    )


def _is_of_an_inverter(config: Path) -> bool:
    """Whether a ``config.json`` is an inverter's; a checkpoint may lie beside one of its own.

    Raises CheckpointError where it is that of a model of transformers, or no JSON.
    """
    try:
        stated = json.loads(config.read_bytes())
    except (OSError, ValueError) as error:
        raise CheckpointError(f"has a {CONFIG_NAME} that is not JSON: {error}") from error
    if not isinstance(stated, dict):
        return False
    other = stated.get("architectures") or stated.get("model_type")
    if other:
        kind = other[0] if isinstance(other, list) else other
        raise CheckpointError(f"holds another model ({kind}) and no inverter")
    try:
        InverterConfig.model_validate(stated)
    except ValidationError:
        return False
    return True


def _listed(names: Collection[str]) -> str:
    shown = ", ".join(sorted(names)[:SHOWN_FILES])
    return (shown or "nothing") + ", ..." * (len(names) > SHOWN_FILES)
