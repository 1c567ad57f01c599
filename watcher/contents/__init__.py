"""placeholder until the decoders land"""
from __future__ import annotations
from typing import NamedTuple
MAX_SIZE = 256 << 20
class Contents(NamedTuple):
    message: bytes
    metadata: dict[str, object]
def read_pck(data: bytes) -> Contents: raise NotImplementedError
def read_pck_message(data: bytes) -> bytes: raise NotImplementedError
def pickles(data: bytes) -> int: raise NotImplementedError
def read_db(data: bytes) -> dict[str, object]: raise NotImplementedError
def write_pck(message: bytes, metadata: dict[str, object]) -> bytes: raise NotImplementedError
def to_json(metadata: dict[str, object]) -> str: raise NotImplementedError
