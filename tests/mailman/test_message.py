"""Message objects come out as their own programs render them; hostile ones cost nothing."""

from __future__ import annotations

import pickle
import struct
import time
from email.header import Header
from email.message import EmailMessage, Message
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText

import pytest
from hypothesis import given, settings, strategies as st

from watcher import mailman
from watcher.errors import Undecodable
from watcher.mailman import message as rendering
from watcher.mailman.header import header_text
from watcher.mailman.values import CHARSET, HEADER, MESSAGE, Inert

MB = 1_000_000
ENOUGH = 4  # seconds: what takes one on an idle machine


def inert(kind, **state):
    made = Inert(kind)
    made.state.update(state)
    return made


def letter(headers=(), payload=None, **state):
    return inert(MESSAGE, _headers=list(headers), _payload=payload, **state)


def new(headers=(), payload=None, **state):
    """Return a message of Python 3: those have a policy."""
    return letter(headers, payload, policy=None, **state)


def rendered(value, size=1000):
    return rendering.render(value, size)


def readable(error):
    assert str(error).isprintable()
    assert len(str(error)) < 300


def entry(message, protocol=4):
    return pickle.dumps(message, protocol) + pickle.dumps({}, protocol)


# -- Python 3: as the standard library renders --------------------------------------------------

line = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=90)
ascii_line = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=200)
body = st.text(st.characters(min_codepoint=9, max_codepoint=126), max_size=300)


@st.composite
def messages(draw):
    made = Message()
    for _ in range(draw(st.integers(0, 4))):
        made["X-Text"] = draw(ascii_line)
    for text in draw(st.lists(line, max_size=2)):
        made["Subject"] = Header(
            text, draw(st.sampled_from(["utf-8", None])), header_name="Subject"
        )
    raw = draw(st.binary(max_size=40)).replace(b"\n", b"").replace(b"\r", b"")
    made["X-Raw"] = raw.decode("ascii", "surrogateescape")
    if draw(st.booleans()):
        made.set_payload(draw(body))
    else:
        made.add_header("Content-Type", "multipart/mixed", boundary="=-=")
        made.set_payload(
            [MIMEText(draw(line), "plain", "utf-8") for _ in range(draw(st.integers(1, 3)))]
        )
        made.preamble = draw(st.none() | body)
        made.epilogue = draw(st.none() | body)
    return made


@given(messages(), st.integers(0, 5))
def test_a_message_object_comes_out_as_it_renders_itself(made, protocol):
    wanted = made.as_bytes()
    assert mailman.read_pck(entry(made, protocol)).message == wanted


def test_a_message_in_a_message_comes_out_as_it_renders_itself():
    outer = MIMEMultipart("digest", boundary="b")
    inner = Message()
    inner["Subject"] = "inner"
    inner.set_payload("text\nFrom here\n")
    wrapper = Message()
    wrapper["Content-Type"] = "message/rfc822"
    wrapper.attach(inner)
    outer.attach(wrapper)
    outer.set_unixfrom("From ann Mon Nov 23 2026")
    assert mailman.read_pck(entry(outer)).message == outer.as_bytes()


def test_bytes_that_are_no_text_stay_the_bytes_they_are():
    data = b"Subject: \xe9\xff\nContent-Type: text/plain; charset=utf-8\n\n\xe9 \x80\n"
    import email

    made = email.message_from_bytes(data)
    assert mailman.read_pck(entry(made)).message == data


def test_an_invented_boundary_is_the_same_at_each_attempt_and_not_in_the_text():
    made = MIMEMultipart()
    made.attach(MIMEText("one"))
    first, second = (mailman.read_pck(entry(made)).message for _ in range(2))
    assert first == second
    import email

    (part,) = email.message_from_bytes(first).get_payload()
    assert part.get_payload() == "one"


def test_a_message_of_another_policy_is_refused():
    made = EmailMessage()
    made["Subject"] = "x"
    with pytest.raises(Undecodable, match="not on the allow-list"):
        mailman.read_pck(entry(made))


# -- Python 2 -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "wanted"),
    [
        (letter([("A", "b")], "text"), b"A: b\n\ntext"),
        (letter([("A", "b\n c")], None), b"A: b\n c\n\n"),
        (letter([("A", b"\xe9")], b"\xff"), b"A: \xe9\n\n\xff"),
        (letter([("A", "\u20ac")], "From me\nFrom you"), b"A: \xe2\x82\xac\n\n>From me\n>From you"),
        (letter([], "x", _unixfrom="From ann"), b"\nx"),
        (
            letter([("Content-Type", "message/rfc822")], [letter([("B", "c")], "in")]),
            b"Content-Type: message/rfc822\n\nB: c\n\nin",
        ),
        (
            letter(
                [("Content-Type", 'multipart/mixed; boundary="="')],
                [letter([], "one"), letter([], "two")],
                preamble="before",
                epilogue="after",
            ),
            (
                b'Content-Type: multipart/mixed; boundary="="\n\n'
                b"before\n--=\n\none\n--=\n\ntwo\n--=--\nafter"
            ),
        ),
    ],
)
def test_a_message_of_python_2_is_written_by_its_own_rules(message, wanted):
    assert rendered(message) == wanted


def test_a_header_object_of_python_2_is_encoded_in_its_charset():
    chunk = (b"\xc3\xa9t\xc3\xa9", inert(CHARSET, input_charset="utf-8"))
    subject = inert(HEADER, _chunks=[chunk], _continuation_ws=" ")
    assert rendered(letter([("Subject", subject)], "")) == b"Subject: =?utf-8?b?w6l0w6k=?=\n\n"


def test_a_multipart_without_a_boundary_gets_one():
    data = rendered(letter([("Content-Type", "multipart/mixed")], [letter([], "one")]))
    import email

    (part,) = email.message_from_bytes(data).get_payload()
    assert part.get_payload() == "one"


# -- plain --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (b"\xff\x00", b"\xff\x00"),
        ("\u20ac", "\u20ac".encode()),
        (b"\xe9".decode("ascii", "surrogateescape"), b"\xe9"),
    ],
)
def test_a_plain_message_is_its_bytes(value, wanted):
    assert rendered(value) == wanted


@pytest.mark.parametrize(
    "value",
    [None, 7, [], {}, inert(HEADER), inert("policy"), "\ud800", "\U0010ffff\udfff"],
    ids=["none", "number", "list", "dict", "header", "policy", "high half", "low half"],
)
def test_what_is_no_message_is_refused(value):
    with pytest.raises(Undecodable):
        rendered(value)


# -- damaged ------------------------------------------------------------------------------------

junk = st.recursive(
    st.none()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.binary(max_size=5)
    | st.sampled_from(["message/rfc822", "multipart/mixed", "Content-Type", "utf-8", "\ud800"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=3), inner, max_size=2)
        | st.builds(letter, st.lists(st.tuples(inner, inner), max_size=3), inner)
        | st.builds(new, st.lists(st.tuples(inner, inner), max_size=3), inner, preamble=inner)
        | st.builds(
            lambda chunks: inert(HEADER, _chunks=chunks),
            st.lists(st.tuples(inner, inner), max_size=2),
        )
        | st.builds(lambda headers: inert(MESSAGE, _headers=headers, policy=None), inner)
    ),
    max_leaves=12,
)


@settings(max_examples=400)
@given(junk)
def test_nothing_but_undecodable_escapes_from_any_object(value):
    try:
        data = rendered(value)
    except Undecodable as error:
        readable(error)
    else:
        assert isinstance(data, bytes)


# -- hostile: refused or rendered at the cost of its size -----------------------------------------


def text(value):
    data = value if isinstance(value, bytes) else value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def pickled(headers=b"]", payload=b"N", policy=True):
    state = b"}(" + text("_headers") + headers + text("_payload") + payload
    return (
        b"cemail.message\nMessage\n)\x81"
        + state
        + (text("policy") + b"N" if policy else b"")
        + b"ub"
    )


def header(name, value):
    return b"](" + text(name) + text(value) + b"\x86e"


def header_object(words, charset, more=b""):
    chunk = text(words) + text(charset) + b"\x86q\x00" + more
    return (
        b"]("
        + text("Subject")
        + b"cemail.header\nHeader\n)\x81}("
        + text("_chunks")
        + b"]("
        + chunk
        + b"eub\x86e"
    )


def times(value, count):
    return b"](" + value + b"q\x00" + b"h\x00" * count + b"e"


def nested(depth, headers, policy):
    found = pickled(b"]", text("x" * MB), policy)
    for _ in range(depth):
        found = pickled(headers, b"](" + found + b"e", policy)
    return found


MULTIPART = header("Content-Type", "multipart/mixed; boundary=b")
NO_BOUNDARY = header("Content-Type", "multipart/mixed")
BODY = header("Content-Type", "text/plain; charset=punycode")
SHAPES = (
    {
        "one part many times": lambda p: pickled(
            MULTIPART, times(pickled(b"]", text("x" * (MB - 20_000)), p), 9_000), p
        ),
        "itself many times": lambda p: (
            b"cemail.message\nMessage\n)\x81q\x00}("
            + (text("policy") + b"N" if p else b"")
            + text("_payload")
            + b"]("
            + b"h\x00" * (MB // 2)
            + b"eub"
        ),
        "itself once": lambda p: (
            b"cemail.message\nMessage\n)\x81q\x00}("
            + (text("policy") + b"N" if p else b"")
            + text("_payload")
            + b"](h\x00eub"
        ),
        "one header many times": lambda p: pickled(
            times(text("a") + text("x" * (MB // 2)) + b"\x86", MB // 4), policy=p
        ),
        "59 parts deep": lambda p: nested(58, MULTIPART, p),
        "59 parts deep without a boundary": lambda p: nested(58, NO_BOUNDARY, p),
        "59 messages deep": lambda p: nested(58, header("Content-Type", "message/rfc822"), p),
        "200 parts deep": lambda p: nested(200, MULTIPART, p),
        "a million From": lambda p: pickled(payload=text("From \n" * (MB // 6)), policy=p),
        "undecodable body": lambda p: pickled(BODY, text(b"\xed\xb3\xa9." * (MB // 4)), p),
    }
    | {
        f"a {name} of {what}": lambda p, name=name, value=value: pickled(
            header(name, value), b"](" + pickled(policy=p) + b"e", p
        )
        for name in ("Content-Type", "Subject")
        for what, value in {
            "semicolons": "multipart/mixed" + ";" * MB,
            "parameters": "multipart/mixed" + "; a" * (MB // 3),
            "quotes": 'multipart/mixed; a="' + '\\"' * (MB // 2),
            "pieces": "multipart/mixed" + "".join(f";b*{number}=x" for number in range(90_000)),
            "8 KB of semicolons": "multipart/mixed" + ";" * 8_000,
            "words": "x " * (MB // 2),
            "folds": "a\n " * (MB // 3),
            "encoded words": "=?utf-8?q?a?= " * (MB // 14),
            "raw bytes": b"\xed\xb3\x83\xed\xb2\xa9" * (MB // 6),
        }.items()
    }
    | {
        f"a Header in {charset} of {what}": lambda p, charset=charset, words=words: pickled(
            header_object(words, charset), policy=p
        )
        for charset in (
            "utf-8",
            "us-ascii",
            "iso-2022-jp",
            "shift_jis",
            "unknown-8bit",
            "utf-7",
            "punycode",
            "idna",
            "unicode_escape",
            "zlib",
            "x\ny",
        )
        for what, words in {
            "1 MB": "\u00e9 " * (MB // 3),
            "64 KB of one word": "\u00e9" * 65_000,
            "64 KB of words": "a " * 32_000,
        }.items()
    }
    | {
        "a Header of half a million chunks": lambda p: pickled(
            header_object("\u00e9", "utf-8", b"h\x00" * (MB // 2)), policy=p
        ),
        "many Headers of 60 KB": lambda p: pickled(
            header_object("\u00e9" * 30_000, "utf-8")[:-1] + b"2" * 5_000 + b"e", text("x" * MB), p
        ),
    }
)


@pytest.mark.parametrize("policy", [True, False], ids=["python3", "python2"])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_a_hostile_message_is_refused_or_rendered_at_the_cost_of_its_size(shape, policy):
    data = b"\x80\x02" + shape(policy) + b"." + pickle.dumps({}, 2)
    began = time.process_time()
    try:
        size = len(mailman.read_pck(data).message)
    except Undecodable as error:
        readable(error)
        size = 0
    assert time.process_time() - began < ENOUGH
    assert size < 5 * len(data) + (1 << 17)


def test_only_charsets_of_mail_are_looked_up():
    subject = inert(HEADER, _chunks=[("text", "punycode")])
    for made in (letter, new):
        with pytest.raises(Undecodable, match="not a charset of mail"):
            rendered(made([("Subject", subject)], ""))


def test_attributes_that_are_no_part_of_a_message_do_not_pass():
    made = new(
        [("A", "b")], "x", as_bytes="no", _write_headers="no", get_payload="no", __class__="no"
    )
    assert rendered(made) == b"A: b\n\nx"


@pytest.mark.parametrize(
    "trouble", [OSError(24, "Too many open files"), ImportError(), MemoryError()]
)
def test_a_shortage_of_the_machine_is_not_taken_for_damage(trouble, monkeypatch):
    def fail(*_arguments, **_options):
        raise trouble

    monkeypatch.setattr("email.message.Message.set_default_type", fail)
    subject = inert(HEADER, _chunks=[("text", "utf-8")])
    with pytest.raises(type(trouble)):
        rendered(new([("A", "b")], "x", _default_type="text/plain"))
    monkeypatch.setattr("email.header.Header.append", fail)
    with pytest.raises(type(trouble)):
        header_text(subject)
    with pytest.raises(type(trouble)):
        rendered(letter([("Subject", subject)], "x"))


def test_a_header_object_in_the_metadata_is_bounded():
    assert header_text(inert(HEADER, _chunks=[("x" * 60_000, "utf-8")])) == "x" * 60_000
    for chunks in ([("x" * 70_000, "utf-8")], [("", "utf-8")] * 1_001):
        with pytest.raises(Undecodable, match="refused: a header of more than"):
            header_text(inert(HEADER, _chunks=chunks))
