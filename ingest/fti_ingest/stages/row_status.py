"""What becomes of a row: the values of the column ``status``. Why, if bad, is in ``error``."""

from __future__ import annotations

STORE = "store"
"""A new or changed image, to be embedded and stored."""

UNCHANGED = "unchanged"
"""The gallery holds this image with this payload."""

PAYLOAD = "payload"
"""The gallery holds this image, with another payload or under another URI: no need to embed."""

FOREIGN = "foreign"
"""The gallery holds a point of this id that another program made, which stays as it is."""

SKIPPED = "skipped"
"""A duplicate of another image, and duplicates are not wanted."""

REJECTED = "rejected"
"""It cannot be read, decoded or embedded; ``error`` says why."""
