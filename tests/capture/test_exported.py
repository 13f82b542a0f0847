"""Socket records say who, whom and what, and nothing more."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capture import exported
from capture.model import Endpoint, Frame

ADDRESSES = st.binary(min_size=4, max_size=4) | st.binary(min_size=16, max_size=16)
PORTS = st.integers(0, 65535)


def frame(data: bytes) -> Frame:
    return Frame(1, 0, data, len(data), exported.LINKTYPE_UPPER_PDU)


@given(
    ADDRESSES.flatmap(lambda a: st.tuples(st.just(a), st.binary(min_size=len(a), max_size=len(a)))),
    PORTS,
    PORTS,
    st.binary(),
)
def test_what_is_packed_is_unpacked(pair: tuple[bytes, bytes], source: int, destination: int, data: bytes) -> None:
    ends = Endpoint(pair[0], source), Endpoint(pair[1], destination)
    packed = exported.pack(*ends, data)
    assert exported.unpack(frame(packed)) == (*ends, data, len(packed) - len(data))


@given(st.binary(max_size=200))
def test_no_octets_whatever_make_it_raise(data: bytes) -> None:
    exported.unpack(frame(data))


@pytest.mark.parametrize("cut", [0, 3, 4, 10, 40])
def test_a_record_cut_inside_its_tags_is_none(cut: int) -> None:
    packed = exported.pack(Endpoint(b"\x7f\0\0\1", 40000), Endpoint(b"\x7f\0\0\2", 25), b"QUIT\r\n")
    assert exported.unpack(frame(packed[:cut])) is None
