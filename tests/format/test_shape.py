"""Shapes: what a tensor can have, and how it is printed. Their messages are in test_bundle.py."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ckptool.errors import CorruptionError
from ckptool.format.shape import (
    MAX_ELEMENTS,
    MAX_RANK,
    check_shape,
    decode_shape,
    element_count,
    format_shape,
)


@given(st.lists(st.integers(-3, 2**63 - 1) | st.integers(0, 3), max_size=5).map(tuple))
def test_a_shape_that_passes_can_be_counted(shape: tuple[int, ...]) -> None:
    try:
        check_shape(shape)
    except CorruptionError as exc:
        message = str(exc)
    else:
        message = ""
    partial = [math.prod(shape[:n]) for n in range(len(shape) + 1)]
    if any(size < 0 for size in shape):
        assert message.endswith("negative dimension")
    elif max(partial) > MAX_ELEMENTS:
        assert message.endswith("too many elements")
    else:
        assert message == ""
        assert 0 <= element_count(shape) <= MAX_ELEMENTS


def test_limits() -> None:
    check_shape((2**63 - 1,))
    check_shape((0, 2**63 - 1, 2**63 - 1))
    check_shape((1,) * MAX_RANK)
    with pytest.raises(CorruptionError, match="rank 255 is more than 254"):
        check_shape((1,) * (MAX_RANK + 1))
    with pytest.raises(CorruptionError, match=r"invalid shape \[4611686018427387904,2\]: too many elements"):
        check_shape((2**62, 2))


def test_printed_form() -> None:
    assert [format_shape(shape) for shape in ((), (0,), (784, 200))] == ["[]", "[0]", "[784,200]"]


def test_what_a_shape_message_may_hold_besides() -> None:
    assert decode_shape(bytes.fromhex("120012040803080518010a02ffff")) == (0, 5)
    with pytest.raises(CorruptionError):
        decode_shape(b"\x12\x05\x08")
