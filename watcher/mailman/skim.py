"""Finds the end of a pickle without making any of its values.

Guarantees: it reads at most `MAX_OPCODES`, in about 0.5 s, and keeps nothing of the input.
Fails: Undecodable if the data ends inside a pickle, has a byte that is not an opcode, or has too
many opcodes. It does not check the pickle's stack or names; `pickled.read` does.
"""

from __future__ import annotations

from watcher.errors import Undecodable

STOP = ord(".")
MAX_OPCODES = 2_000_000  # of a pickle: 500,000 values take about three each
_LINES = {"F": 1, "I": 1, "L": 1, "P": 1, "S": 1, "V": 1, "c": 2, "g": 1, "i": 2, "p": 1}
_FIXED = {
    0: b"(012NQRabdelostu)]}\x81\x85\x86\x87\x88\x89\x8f\x90\x91\x92\x93\x94\x97\x98",
    1: b"Khq\x80\x82",
    2: b"M\x83",
    4: b"Jjr\x84",
    8: b"G\x95",
}
_COUNTED = {1: b"UC\x8a\x8c", 4: b"TBX\x8b", 8: b"\x8d\x8e\x96"}
_WIDTH: dict[int, int] = {code: width for width, codes in _FIXED.items() for code in codes}
_COUNT: dict[int, int] = {code: width for width, codes in _COUNTED.items() for code in codes}


def end(data: bytes, position: int = 0) -> int:
    """Return where the pickle that begins at `position` ends; raise Undecodable."""
    size = len(data)
    for _ in range(MAX_OPCODES):
        if position >= size:
            raise Undecodable(f"truncated: the file ends inside a pickle at byte {size}")
        code = data[position]
        position += 1
        if code == STOP:
            return position
        if (width := _WIDTH.get(code)) is not None:
            position += width
        elif (width := _COUNT.get(code)) is not None:
            # a count beyond the end, or below zero, also ends the search
            position += width + int.from_bytes(data[position : position + width], "little")
        elif lines := _LINES.get(chr(code)):
            for _ in range(lines):
                position = data.find(b"\n", position) + 1 or size
        else:
            raise Undecodable(
                f"not a pickle: byte {position - 1} is {code:#04x}, which is not an opcode"
            )
    raise Undecodable(f"refused: a pickle of more than {MAX_OPCODES} opcodes")
