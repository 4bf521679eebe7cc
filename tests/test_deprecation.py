"""Renamed names keep working and say what to use."""

from __future__ import annotations

import pytest

from fti_qdrant.deprecation import renamed_argument, warn_deprecated


def test_the_warning_says_what_when_and_what_to_use():
    def old():
        warn_deprecated("old()", since="0.2", removed_in="0.4", use="new()")

    with pytest.warns(DeprecationWarning, match="deprecated") as caught:
        old()
    (warning,) = caught
    assert str(warning.message) == (
        "old() is deprecated since version 0.2 and will be removed in version 0.4; use new()"
    )
    assert warning.filename == __file__


def test_a_renamed_argument():
    @renamed_argument("colour", "color", since="0.2", removed_in="0.4")
    def paint(wall, color="white"):
        """Paints."""
        return wall, color

    assert paint("north", "red") == paint("north", color="red") == ("north", "red")
    with pytest.warns(
        DeprecationWarning, match=r"paint\(colour=\.\.\.\).*use color=\.\.\."
    ) as caught:
        assert paint("north", colour="red") == ("north", "red")
    assert caught[0].filename == __file__
    assert paint.__doc__ == "Paints."
    with pytest.raises(TypeError, match="got both 'colour' and 'color'"):
        paint("north", colour="red", color="blue")
