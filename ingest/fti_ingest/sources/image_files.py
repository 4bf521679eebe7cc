"""Which files are images: by their names, and where these do not say, by their first bytes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from functools import cache

IMAGE_SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".pjpeg", ".jp2", ".j2k", ".jpx", ".jxl"),
    *(".avif", ".heic", ".heif", ".hif", ".webp", ".tif", ".tiff"),
    *(".png", ".apng", ".gif", ".bmp", ".dib", ".ico", ".svg", ".psd", ".tga"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".pcx", ".qoi"),
)
"""Files with these suffixes are listed; the decoder says of each whether it can be read."""

OTHER_SUFFIXES = frozenset(
    (
        # what stands beside images, and tables
        *(".json", ".jsonl", ".ndjson", ".txt", ".cls", ".csv", ".tsv", ".parquet", ".arrow"),
        *(".xml", ".yaml", ".yml", ".toml", ".xmp", ".aae", ".srt", ".vtt", ".md", ".rst", ".log"),
        *(".npy", ".npz", ".pkl", ".pt", ".pth", ".safetensors", ".onnx", ".h5", ".mat"),
        *(".sqlite", ".db", ".ini", ".cfg", ".conf", ".lock", ".part", ".crc", ".md5", ".sha256"),
        # documents and programs
        *(".html", ".htm", ".css", ".js", ".ts", ".py", ".pyc", ".ipynb", ".sh", ".bat", ".exe"),
        *(".c", ".h", ".cpp", ".java", ".go", ".rs", ".rb", ".php", ".sql"),
        *(".pdf", ".doc", ".docx", ".xls", ".xlsx", ".ppt", ".pptx", ".odt", ".ods", ".rtf"),
        *(".url", ".lnk", ".ttf", ".otf", ".woff", ".woff2"),
        # video and sound
        *(".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".3gp"),
        *(".mp3", ".m4a", ".wav", ".flac", ".ogg", ".aac"),
    )
)
"""Files with these suffixes are no images. They are counted, and neither opened nor listed."""

OTHER_NAMES = frozenset(
    ("readme", "license", "licence", "notice", "changelog", "makefile", "dockerfile")
)

APPLE_DOUBLE = "._"
"""Begins the names of the files in which macOS keeps what other systems have no place for."""

MAC_FOLDER = "__MACOSX"

NO_IMAGE = "no image: neither its name nor its first bytes are those of one"

GENERAL_BRANDS = (b"ftypmif1", b"ftypmsf1")
"""At byte 4 of pictures in the ISO format that do not say of which kind they are."""


class FileKind(Enum):
    """What the name of a file says.

    Attributes:
        UNCLEAR: its first bytes must decide.
    """

    IMAGE = "image"
    OTHER = "other"
    UNCLEAR = "unclear"


def kind_by_name(path: str) -> FileKind:
    """What the name of a file says about it.

    Example:
        >>> [kind_by_name(name).value for name in ("a.JPG", "a.json", "a.jpg_large", "._a.jpg")]
        ['image', 'other', 'unclear', 'unclear']
    """
    name = path.rpartition("/")[2].lower()
    if name.startswith(APPLE_DOUBLE):
        return FileKind.UNCLEAR
    if name.endswith(IMAGE_SUFFIXES):
        return FileKind.IMAGE
    if "".join(name.rpartition(".")[1:]) in OTHER_SUFFIXES or name in OTHER_NAMES:
        return FileKind.OTHER
    return FileKind.OTHER if name == ".ds_store" else FileKind.UNCLEAR


def is_hidden(path: str) -> bool:
    """Whether a file is for programs alone: macOS's copies, and whatever begins with a dot."""
    return any(part.startswith(".") or part == MAC_FOLDER for part in path.split("/"))


def suffix_of(path: str) -> str:
    """What files that are no images are counted by.

    Example:
        >>> [suffix_of(path) for path in ("a/b.TXT", "a/b", "._b.jpg", ".DS_Store", "x.tar.gz")]
        ['.txt', 'no suffix', '._*', '.ds_store', '.gz']
    """
    name = path.rpartition("/")[2].lower()
    if name.startswith(APPLE_DOUBLE):
        return f"{APPLE_DOUBLE}*"
    return "".join(name.rpartition(".")[1:]) if "." in name else "no suffix"


def counted(files: Mapping[str, int]) -> str:
    """Counts by suffix as a text.

    Example:
        >>> counted({".json": 1200, ".txt": 3})
        '1,200 .json, 3 .txt'
    """
    return ", ".join(f"{count:,} {suffix}" for suffix, count in files.items())


def is_image(head: bytes) -> bool:
    """Whether a file that begins with these bytes is an image that Pillow may read.

    Example:
        >>> is_image(b"GIF89a"), is_image(b"%PDF-1.7")
        (True, False)
    """
    from fti_qdrant.images.formats import OTHERS, known_kind

    if known_kind(head) is not None or head[4:12] in GENERAL_BRANDS:
        return True
    if any(head.startswith(begin) for begin, name in OTHERS if name.endswith("picture")):
        return True  # which Pillow does not read; decoding says so
    return any(_accepts(accept, head) for accept in _pillow_signatures())


@cache
def _pillow_signatures() -> list[Callable[[bytes], bool | str]]:
    """Pillow's own check of each format that has a signature, plugins included."""
    from PIL import Image

    Image.init()
    accepts = (Image.OPEN[name][1] for name in Image.ID if name in Image.OPEN)
    return [accept for accept in accepts if accept is not None]


def _accepts(accept: Callable[[bytes], bool | str], head: bytes) -> bool:
    try:
        return accept(head[:16]) is True
    except Exception:  # some look at bytes that a short file does not have
        return False
