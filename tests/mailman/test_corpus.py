"""Genuine queue files come out as the programs that wrote them understood them."""

from __future__ import annotations

import base64
import datetime as dt
import email
import hashlib
import json
import os
import re
from email.header import decode_header, make_header
from pathlib import Path

import pytest

from watcher import mailman
from watcher.errors import Undecodable

CORPUS = Path(__file__).parent.parent / "corpus"
MANIFESTS = {folder: json.loads((CORPUS / folder / "manifest.json").read_text()) for folder in
             ("mm20", "mm20-v0", "mm214", "mm21", "mm3")}  # fmt: skip


def entries(*folders):
    return [
        pytest.param(CORPUS / folder, entry, id=f"{folder}-{index}")
        for folder in folders
        for index, entry in enumerate(MANIFESTS[folder]["entries"])
    ]


def expected(value):  # noqa: C901, PLR0911, PLR0912 - a table
    """Read the manifests' JSON conventions (tests/corpus/README.md)."""
    if isinstance(value, list):
        return [expected(item) for item in value]
    if not isinstance(value, dict):
        return value
    if len(value) <= 2:
        match value:
            case {"$unicode": text} | {"$bytes_ascii": text}:
                return text.encode() if "$bytes_ascii" in value else text
            case {"$bytes_b64": text}:
                return base64.b64decode(text)
            case {"$tuple": items}:
                return tuple(expected(item) for item in items)
            case {"$set": items}:
                return {expected(item) for item in items}
            case {"$int": text}:
                return int(text)
            case {"$float": text}:
                return float(text)
            case {"$dict": pairs}:
                return {expected(key): expected(item) for key, item in pairs}
            case {"$datetime": text}:
                return dt.datetime.fromisoformat(text)
            case {"$timedelta": parts}:
                return dt.timedelta(*parts)
            case {"$object": "__builtin__.ellipsis"}:
                return ...
            case {"$object": "email.header.Header"}:
                return IN_SUBJECT
    return {key: expected(item) for key, item in value.items()}


IN_SUBJECT = object()  # a Header object, which holds the subject or what the list left of it


def same(found, wanted):
    """Compare values and types, so that True is not 1 nor "a" b"a"."""
    if isinstance(wanted, set):
        return isinstance(found, set | frozenset) and found == wanted
    if type(found) is not type(wanted):
        return False
    if isinstance(wanted, dict):
        return list(map(str, sorted(found, key=str))) == list(
            map(str, sorted(wanted, key=str))
        ) and all(same(found[key], wanted[key]) for key in wanted)
    if isinstance(wanted, list | tuple):
        return len(found) == len(wanted) and all(map(same, found, wanted))
    return repr(found) == repr(wanted)


def check_metadata(found, entry):
    wanted = expected(entry["metadata"])
    assert sorted(found) == sorted(wanted)
    for key in [key for key in wanted if wanted[key] is IN_SUBJECT]:
        subject = str(make_header(decode_header(entry["subject"])))
        assert found[key].split(), key
        assert " ".join(found[key].split()) in " ".join(subject.split())
        wanted[key] = found[key]
    different = {
        key: (found[key], wanted[key]) for key in wanted if not same(found[key], wanted[key])
    }
    assert different == {}


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def headers_and_body(data):
    """Split a message; unfold its headers: a line break before white space goes."""
    head, _, body = data.partition(b"\n\n")
    unfolded = re.sub(rb"\r?\n[ \t]+", b" ", head)
    return [re.sub(rb"[ \t]+", b" ", line).strip() for line in unfolded.split(b"\n")], body


BOUNDARY = re.compile(rb"={15}[0-9a-f]+==")


def check_python2_message(found, path, entry):
    wanted = path.read_bytes()
    if "expected_note" in entry:
        found, wanted = BOUNDARY.sub(b"B", found), BOUNDARY.sub(b"B", wanted)
    found_headers, found_body = headers_and_body(found)
    wanted_headers, wanted_body = headers_and_body(wanted)
    assert found_headers == wanted_headers
    assert found_body == wanted_body


@pytest.mark.parametrize(("folder", "entry"), entries("mm20", "mm20-v0"))
def test_a_pair_of_mailman_2_0(folder, entry):
    assert sha256((folder / entry["msg"]).read_bytes()) == entry["msg_sha256"]
    check_metadata(mailman.read_db((folder / entry["db"]).read_bytes()), entry)


@pytest.mark.parametrize(("folder", "entry"), entries("mm214"))
def test_a_pair_of_mailman_2_1_4(folder, entry):
    directory = folder / entry["dir"]
    check_metadata(mailman.read_db((directory / entry["db"]).read_bytes()), entry)
    data = (directory / entry["message_file"]).read_bytes()
    if entry["message_file"].endswith(".msg"):
        assert sha256(data) == entry["msg_sha256"]
    else:
        assert mailman.pickles(data) == 1
        check_python2_message(mailman.read_pck_message(data), folder / entry["expected"], entry)


@pytest.mark.parametrize(("folder", "entry"), entries("mm21"))
def test_an_entry_of_mailman_2_1(folder, entry):
    data = (folder / entry["file"]).read_bytes()
    assert mailman.pickles(data) == 2
    found = mailman.read_pck(data)
    check_metadata(found.metadata, entry)
    if "expected" in entry:
        check_python2_message(found.message, folder / entry["expected"], entry)
    else:
        assert sha256(found.message) == entry["msg_sha256"]


@pytest.mark.parametrize(("folder", "entry"), entries("mm3"))
def test_an_entry_of_mailman_3(folder, entry):
    data = (folder / entry["file"]).read_bytes()
    found = mailman.read_pck(data)
    check_metadata(found.metadata, entry)
    assert len(found.message) == entry["msg_size"]
    rendered = folder / "expected" / (entry["file"].replace("/", "_") + ".eml")
    if rendered.exists():
        # nine messages name no boundary: Mailman draws one at each rendering, so that the
        # manifest's digest cannot be made again; the bytes of one rendering can
        assert BOUNDARY.sub(b"B", found.message) == BOUNDARY.sub(b"B", rendered.read_bytes())
        assert mailman.read_pck(data).message == found.message  # and ours is the same each time
    else:
        assert sha256(found.message) == entry["msg_sha256"]


@pytest.mark.parametrize("folder", ["mm21", "mm3"])
def test_damaged_and_hostile_files_are_refused_and_nothing_runs(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refused = 0
    for item in MANIFESTS[folder]["damaged"]:
        data = (CORPUS / folder / item["file"]).read_bytes()
        if "noplus" in item["file"] or item["file"].endswith(".tmp"):
            continue  # only the name is odd, or no reader is for it
        with pytest.raises(Undecodable) as caught:
            mailman.read_pck(data)
        assert len(str(caught.value).splitlines()) == 1
        refused += 1
    assert refused >= 2
    assert os.listdir(tmp_path) == []


def test_the_entry_without_a_plus_in_its_name_is_whole():
    data = (CORPUS / "mm21" / "damaged" / "noplus.pck").read_bytes()
    found = mailman.read_pck(data)
    assert email.message_from_bytes(found.message)["Message-ID"] == "<plain-1@example.com>"


def test_every_metadata_of_the_corpus_is_json_for_handlers():
    for folder in ("mm21", "mm3"):
        for entry in MANIFESTS[folder]["entries"]:
            found = mailman.read_pck((CORPUS / folder / entry["file"]).read_bytes())
            text = mailman.to_json(found.metadata)
            assert set(json.loads(text)) == set(found.metadata)
            assert "\n" not in text
