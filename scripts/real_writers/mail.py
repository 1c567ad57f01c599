"""Mail programs that deliver into a Maildir whose `new/` is the watched folder.

The Maildir lies beside the folder, and its `new` is a symbolic link to it: the calls are the same.
"""

from __future__ import annotations

import mailbox
import os

from real_writers.case import ANY_NAME, Expected, Place, case, run

_HEADERS = b"From: ann@example.com\nTo: bob@example.com\nSubject: a report\n\n"


def _message(place: Place) -> bytes:
    return _HEADERS + place.queue.encode() + b"\n"


def _maildir(place: Place) -> str:
    maildir = os.path.join(place.beside, "Maildir")
    for name in ("", "tmp", "cur"):
        os.mkdir(os.path.join(maildir, name))
    os.symlink(place.queue, os.path.join(maildir, "new"))
    return maildir


def _profile(place: Place, text: str) -> str:
    path = os.path.join(place.beside, "profile")
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    os.chmod(path, 0o600)
    return path


@case("Maildir: Python mailbox")
def _python(place: Place) -> Expected:
    name = mailbox.Maildir(_maildir(place)).add(_message(place))
    return {name: [_message(place)]}


@case("Maildir: procmail", "procmail")
def _procmail(place: Place) -> Expected:
    maildir = _maildir(place)
    profile = _profile(place, f"MAILDIR={place.beside}\nDEFAULT={maildir}/\nLOGFILE=/dev/null\n")
    run("procmail", "-p", "-m", profile, stdin=_message(place))
    return {ANY_NAME: [_message(place)]}


@case("Maildir: maildrop", "maildrop")
def _maildrop(place: Place) -> Expected:
    profile = _profile(place, f'to "{_maildir(place)}"\n')
    run("maildrop", profile, stdin=_message(place))
    return {ANY_NAME: [_message(place)]}
