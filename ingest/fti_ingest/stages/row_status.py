"""Why a row is done with before its end, where that is not a fault of its image."""

UNCHANGED = "unchanged"
"""The gallery holds it already, as it is."""

UPDATED = "payload"
"""The gallery holds its image already, with another payload or from another place."""

SKIPPED = "duplicate"
"""It is there already under another name, and duplicates are not wanted."""

NO_FAULT = ("", UNCHANGED, UPDATED, SKIPPED)
"""All that a row may say which is not a reject's reason."""
