"""Where memory on a device runs out there is one error of ours, which names what lacked it."""

from __future__ import annotations

import pytest

from igs.format.errors import LimitExceeded, UsageError

arrays = pytest.importorskip("igs.decoder.cuda.arrays", reason="needs numba-cuda")


class DriverError(Exception):
    def __init__(self, code: int) -> None:
        super().__init__(f"[{code}] call failed")
        self.code = code


@pytest.mark.parametrize("error", [MemoryError(), OverflowError(), DriverError(2)])
def test_lack_of_memory_is_told_in_our_words(error: Exception) -> None:
    with pytest.raises(UsageError, match="points do not fit"), arrays.room(UsageError("points do not fit")):
        raise error
    with pytest.raises(LimitExceeded, match="E_LIMIT"), arrays.room(LimitExceeded("E_LIMIT_GAUSSIANS", "too many")):
        raise error


@pytest.mark.parametrize("error", [DriverError(700), ValueError("other"), KeyboardInterrupt()])
def test_other_errors_stay_what_they_are(error: BaseException) -> None:
    with pytest.raises(type(error)) as found, arrays.room(UsageError("points do not fit")):
        raise error
    assert found.value is error
