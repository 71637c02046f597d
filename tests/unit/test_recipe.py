"""A recipe's fields that hold one of a few names accept no other."""

from __future__ import annotations

from typing import Any

import pytest

from igs.encoder.presets import PRESETS
from igs.encoder.recipe import Recipe, choices
from igs.format.binary import round_f16
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


@pytest.mark.parametrize("preset", PRESETS)
def test_a_fit_sees_the_reach_that_the_file_holds(preset: str) -> None:
    recipe = PRESETS[preset]
    assert (recipe.reach2, recipe.relative_reach2) == (round_f16(recipe.reach2), round_f16(recipe.relative_reach2))
    assert Recipe(reach2=11.08253).reach2 == 11.0859375
    with pytest.raises(UsageError, match=r"reach2: expected above 0, up to 1024, found 0\.0"):
        Recipe(reach2=1e-9).validate()
