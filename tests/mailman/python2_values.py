"""Values that Python 2 wrote into a `.db`, and what a reader makes of them."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

ATOMS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(1 << 200), 1 << 200),
    st.text(st.characters(exclude_categories=())),
    st.binary(),
)


def values_of(atoms: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Return a strategy for atoms, and for lists, tuples and dicts of them."""
    return st.recursive(
        atoms,
        lambda inner: st.one_of(
            st.lists(inner, max_size=4),
            st.lists(inner, max_size=4).map(tuple),
            st.dictionaries(atoms, inner, max_size=4),
        ),
        max_leaves=20,
    )


def as_read(value: object) -> object:
    """Return the value that a reader makes: ASCII bytes become text."""
    if isinstance(value, bytes):
        return value.decode() if value.isascii() else value
    if isinstance(value, list | tuple):
        return type(value)(map(as_read, value))
    if isinstance(value, dict):
        return {as_read(key): as_read(item) for key, item in value.items()}
    return value
