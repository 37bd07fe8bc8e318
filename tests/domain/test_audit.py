"""The chain of the audit log: whatever is done to it is found."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.audit import LARGEST_ENTRY, MOST_OBJECTS, bounded, link, verify


def chain(count: int) -> list[bytes]:
    lines, previous = [], ""
    for seq in range(1, count + 1):
        entry = json.dumps({"id": seq, "action": "deletePlan", "after": {"x": '"}\\'}}).encode()
        previous = link(previous, entry)
        lines.append(b'{"seq":%d,"hash":"%s","entry":%s}\n' % (seq, previous.encode(), entry))
    return lines


def test_a_chain_is_followed_to_its_end() -> None:
    lines = chain(5)
    found = verify(lines)
    assert (found.entries, found.seq, found.fault) == (5, 5, None)
    assert verify(lines, (3, json.loads(lines[2])["hash"])).fault is None
    assert verify([]).fault is None


@given(st.data())
def test_no_byte_can_be_changed(data: st.DataObject) -> None:
    lines = chain(4)
    place = data.draw(st.integers(0, 3))
    line = bytearray(lines[place])
    # What is outside of the entry, its hash and number is only how the line is written.
    at = data.draw(st.integers(line.index(b'"entry":') + 8, len(line) - 3))
    byte = data.draw(st.integers(0, 255).filter(lambda value: value != line[at]))
    line[at] = byte
    lines[place] = bytes(line)
    found = verify(lines)
    assert found.fault is not None
    assert found.fault.seq == place + 1


@pytest.mark.parametrize("count", [2, 5])
def test_nothing_can_be_taken_out_put_in_or_moved(count: int) -> None:
    lines = chain(count)
    for place in range(count - 1):
        gone = verify(lines[:place] + lines[place + 1 :]).fault
        moved = [*lines]
        moved[place], moved[place + 1] = moved[place + 1], moved[place]
        twice = verify([*lines[: place + 1], *lines[place:]]).fault
        assert gone is not None
        assert gone.seq == place + 1
        assert verify(moved).fault is not None
        assert twice is not None


def test_an_end_that_is_cut_off_is_found_by_what_was_noted() -> None:
    lines = chain(5)
    head = (5, json.loads(lines[4])["hash"])
    assert verify(lines[:4]).fault is None
    cut = verify(lines[:4], head).fault
    assert cut is not None
    assert cut.seq == 5
    other = verify(lines, (5, "0" * 64)).fault
    assert other is not None
    assert other.message == "another hash was noted for this place"


@pytest.mark.parametrize("line", [b"nonsense\n", b"[]\n", b'{"seq": 1}\n', b'{"seq":"x","hash":"","entry":{}}\n'])
def test_what_is_no_entry_is_named(line: bytes) -> None:
    found = verify([*chain(1), line]).fault
    assert found is not None
    assert (found.seq, found.message) == (2, "the line is no entry")


def test_what_is_long_is_left_out_and_said_to_be() -> None:
    found = bounded({"Workflow:1": {"definition": "x" * 2_000, "name": "w"}})
    assert found == {"Workflow:1": {"definition": {"$omitted": 2_002}, "name": "w"}}
    many = bounded({f"Plan:{number}": {"name": "p"} for number in range(MOST_OBJECTS + 3)})
    assert (len(many), many["$omitted"]) == (MOST_OBJECTS + 1, {"objects": 3})
    wide = {f"Plan:{number}": {f"c{column}": "x" * 900 for column in range(5)} for number in range(20)}
    assert len(json.dumps(bounded(wide))) < LARGEST_ENTRY
    assert bounded(wide)["Plan:0"] == {"$omitted": ["c0", "c1", "c2", "c3", "c4"]}
