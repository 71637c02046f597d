"""What is kept, and what is waited for, when the decoder's work on a GPU goes to a caller's stream; without a GPU."""

from __future__ import annotations

import gc
import types
import weakref
from typing import ClassVar

import pytest

from igs.decoder.cuda import arrays
from igs.format.errors import UsageError


class Event:
    """As Numba's: recorded on one stream, waited for by others."""

    def __init__(self, timing: bool = True) -> None:
        self.recorded: list[object] = []
        self.waits: list[object] = []
        self.done = False
        Event.made.append(self)

    made: ClassVar[list[Event]] = []

    def record(self, stream: object = 0) -> None:
        self.recorded.append(stream)

    def wait(self, stream: object) -> None:
        self.waits.append(stream)

    def query(self) -> bool:
        return self.done


class Stream:
    """As Numba's."""

    def __init__(self, handle: int) -> None:
        self.handle = handle

    def __int__(self) -> int:
        return self.handle


@pytest.fixture(autouse=True)
def driver(monkeypatch: pytest.MonkeyPatch) -> None:
    """Numba's module, as far as streams go."""
    monkeypatch.setattr(Event, "made", [])
    monkeypatch.setattr(arrays, "SIMULATED", False)
    monkeypatch.setattr(arrays, "_in_use", [])
    drv = types.SimpleNamespace(driver=types.SimpleNamespace(Stream=Stream))
    cuda = types.SimpleNamespace(event=Event, external_stream=Stream, cudadrv=drv, as_cuda_array=as_cuda_array)
    monkeypatch.setattr(arrays, "load", lambda: cuda)


def as_cuda_array(array: types.SimpleNamespace, sync: bool) -> types.SimpleNamespace:
    """As Numba's; the host must not wait."""
    assert not sync
    found: types.SimpleNamespace = array.as_numba
    return found


class Memory:
    """Of which it can be seen whether it is kept."""


def test_what_a_launch_uses_is_kept_until_its_stream_is_done() -> None:
    stream = Stream(7)
    kept = [weakref.ref(memory) for memory in (Memory(), Memory()) if arrays.hold(stream, memory) is None]
    gc.collect()
    assert all(ref() is not None for ref in kept)
    assert [event.recorded for event in Event.made] == [[stream], [stream]]
    Event.made[0].done = True  # the second is still running
    arrays.hold(stream, Memory())
    gc.collect()
    assert [ref() is None for ref in kept] == [True, False]


def test_a_file_that_is_closed_lets_go_of_what_is_done_with() -> None:
    kept = [weakref.ref(memory) for memory in (Memory(), Memory()) if arrays.hold(Stream(7), memory) is None]
    Event.made[1].done = True
    arrays.let_go()
    gc.collect()
    assert [ref() is None for ref in kept] == [False, True]


@pytest.mark.parametrize(
    ("own", "asked", "waits"),
    [(0, 0, False), (0, 7, True), (7, 0, True), (7, 7, False), (7, 8, True), (1, 0, False), (0, 1, False)],
)
def test_work_on_an_array_begins_behind_its_own_stream(own: int, asked: int, waits: bool) -> None:
    """Of Numba's arrays, and of others that say which stream is theirs; 1 is the default one in the interface."""
    own_stream, stream = (Stream(number) if number else 0 for number in (own, asked))
    numba = types.SimpleNamespace(__cuda_ndarray__=True, stream=own_stream)
    other = types.SimpleNamespace(__cuda_array_interface__={}, as_numba=numba)
    for array in (numba, other):
        Event.made.clear()
        assert arrays.view(array, "out", stream) is numba
        assert [(event.recorded, event.waits) for event in Event.made] == [([own_stream], [stream])] * waits


def test_the_default_stream_keeps_its_order_by_itself() -> None:
    memory = Memory()
    arrays.hold(0, memory)
    assert not Event.made
    assert not arrays._in_use


def test_uploads_are_waited_for_by_other_streams_and_marked_once() -> None:
    upload, first, second = arrays.Upload(), Stream(7), Stream(8)
    upload.before(0)
    assert not Event.made
    for stream in (first, second, first):
        upload.before(stream)
    (event,) = Event.made
    assert event.recorded == [0]
    assert event.waits == [first, second, first]


def test_streams_of_others() -> None:
    own = Stream(9)
    assert arrays.stream_of(own) is own
    default = [Stream(0), Stream(1), None, 0]
    assert [arrays.stream_of(stream) for stream in default] == [0, 0, 0, 0]
    torch = types.SimpleNamespace(cuda_stream=11)
    cupy = types.SimpleNamespace(ptr=12)
    core = types.SimpleNamespace(__cuda_stream__=lambda: (0, 13))
    assert [int(arrays.stream_of(stream)) for stream in (5, torch, cupy, core)] == [5, 11, 12, 13]
    assert arrays.stream_of(torch).igs_owner is torch  # a temporary one lives as long as what is on it
    with pytest.raises(UsageError, match="expected a CUDA stream, found 'x'"):
        arrays.stream_of("x")


def test_nothing_of_this_is_needed_in_the_simulator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays, "SIMULATED", True)
    assert arrays.stream_of(Stream(9)) == 0
