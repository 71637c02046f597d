"""A recipe's fields that hold one of a few names accept no other."""

from __future__ import annotations

from typing import Any

import pytest

from igs.encoder.recipe import Recipe, choices
from igs.format.errors import UsageError


def test_fields_with_names() -> None:
    assert len(choices()) == 15
    assert choices()["init_scale_mode"] == ("fixed", "neighbours", "area")
    Recipe().validate()


@pytest.mark.parametrize("name", choices())
def test_unknown_names_are_refused(name: str) -> None:
    changed: Any = {name: "other"}
    known = choices()[name]
    expected = f"{name}: expected {', '.join(known[:-1])} or {known[-1]}, found other"
    with pytest.raises(UsageError, match=f"^{expected}$"):
        Recipe(**changed).validate()
