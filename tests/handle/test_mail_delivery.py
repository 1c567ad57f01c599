"""`lmtp` and `smtp` against a scripted server: each recipient once, whatever the server answers."""

from __future__ import annotations

import base64
import itertools
import threading
import time

import pytest

from tests.mail_server import CLOSE, MailServer, certificate, server_context
from watcher.handle.handler_kinds import read_handler
from watcher.handle.mail import mail_pool
from watcher.rules.results import Verdict

ANN, BOB, EVE = "ann@example.org", "bob@example.org", "eve@example.org"
MESSAGE = b"Subject: x\n\n.dot\n..\nend"
SENT = b"Subject: x\r\n\r\n.dot\r\n..\r\nend\r\n"
PATIENCE = 30  # seconds


@pytest.fixture
def serve():
    """Start a server; it ends with the test."""
    started = []

    def start(**options):
        started.append(MailServer(**options))
        return started[-1]

    yield start
    for server in started:
        server.close()


@pytest.fixture
def deliver():
    """Return a handler that sends to a server."""
    loaded = []

    def load(server, **options):
        kind = "lmtp" if server.lmtp else "smtp"
        loaded.append(read_handler({kind: server.address, **options}, "handler").load())
        return loaded[-1]

    yield load
    for handler in loaded:
        handler.terminate()


FEATURES = ("SIZE 9999999", "8BITMIME")


@pytest.fixture(params=["lmtp", "smtp"])
def server(request, serve):
    """A server of each kind; that of LMTP takes commands ahead of their replies."""
    lmtp = request.param == "lmtp"
    return serve(lmtp=lmtp, features=(*FEATURES, "PIPELINING") if lmtp else FEATURES)


@pytest.fixture
def entry(claimed_entry):
    """Make a claimed entry of Mailman 3 with recipients; the later attempts know what is said."""

    def make(*recipients, message=MESSAGE, sender="list@example.org", known=None, attempt=1):
        metadata = {"recipients": list(recipients), "sender": sender}
        made = claimed_entry(message, metadata, attempt=attempt)
        return Again(made, known, attempt)

    return make


class Again:
    """An entry as the next attempt sees it: with what the one before remembered."""

    def __init__(self, entry, known, attempt):
        self._entry, self.remembered, self.attempt = entry, known or {}, attempt

    def __getattr__(self, name):
        return getattr(self._entry, name)

    def after(self, result, attempt=None):
        return Again(self._entry, result.remembered, attempt or self.attempt + 1)


def test_a_message_is_sent_whole_with_its_key_and_nothing_in_it_is_a_command(
    server, deliver, entry
):
    sent = entry(ANN, BOB)
    assert deliver(server).run(sent).verdict is Verdict.DONE
    assert server.recipients == [ANN, BOB]
    (one, _) = server.accepted
    assert one.data == b"X-Watcher-Key: %s\r\n" % sent.key.encode() + SENT
    assert one.sender == "list@example.org"
    assert f"MAIL FROM:<list@example.org> SIZE={len(one.data)}" in server.commands


@pytest.mark.parametrize(
    "text",
    [b"a\n.\nMAIL FROM:<x>\n", b"a\r.\rRCPT TO:<x>\r\n", b"a\r\n.\nQUIT\r\n", b"a\n.\r\nDATA\n"],
)
def test_a_message_cannot_end_itself(server, deliver, entry, text):
    assert deliver(server).run(entry(ANN, message=b"S: x\n\n" + text)).verdict is Verdict.DONE
    assert len(server.accepted) == 1
    verbs = [command.split()[0].upper() for command in server.commands]
    assert verbs[1:4] == ["MAIL", "RCPT", "DATA"]
    assert set(verbs[4:]) <= {"QUIT"}


REPLIES = {"2": b"250 ok", "4": b"451 4.3.0 later", "5": b"550 5.1.1 no such user"}


ORDERS = [("END", "".join(order)) for order in itertools.product("245", repeat=3)]
ORDERS += [("RCPT", order) for order in ("222", "242", "425", "254", "555", "552", "444")]


@pytest.mark.parametrize(("stage", "given"), ORDERS)
def test_each_recipient_has_its_own_reply_and_the_accepted_are_never_sent_again(
    serve, deliver, entry, stage, given
):
    """The rows of the table for LMTP: every order of replies, at RCPT and after the message."""
    server = serve(lmtp=True, features=("PIPELINING",))
    replies = dict(zip((ANN, BOB, EVE), given, strict=True))
    server.answers[stage] = lambda recipient: REPLIES[replies[recipient]]
    sent = entry(*replies)
    result = deliver(server).run(sent)
    expected = Verdict.RETRY if "4" in given else Verdict.REJECT if "5" in given else Verdict.DONE
    assert result.verdict is expected
    accepted = [each for each, kind in replies.items() if kind == "2"]
    assert server.recipients == accepted
    if expected is Verdict.RETRY:  # another process, later: only those that are left
        server.answers.clear()
        server.commands.clear()
        later = deliver(server).run(sent.after(result))
        left = [each for each, kind in replies.items() if kind == "4"]
        assert server.recipients == accepted + left
        named = [command[9:-1] for command in server.commands if command.startswith("RCPT")]
        assert named == left
        assert later.verdict is (Verdict.REJECT if "5" in given else Verdict.DONE)
        assert {each.key for each in server.accepted} == {sent.key}


def test_a_reject_names_the_refused_and_a_requeue_sends_to_them_alone(serve, deliver, entry):
    server = serve(lmtp=True)
    server.answers["RCPT"] = lambda recipient: REPLIES["5"] if recipient == BOB else None
    sent = entry(ANN, BOB, EVE)
    result = deliver(server).run(sent)
    assert result.reason == (
        f"1 of 3 recipients refused: {BOB}: 550 5.1.1 no such user; accepted: {ANN}, {EVE}"
    )
    server.answers.clear()
    requeued = sent.after(result, attempt=1)
    assert deliver(server).run(requeued).verdict is Verdict.DONE
    assert server.recipients == [ANN, EVE, BOB]


def test_after_giving_up_a_requeue_tries_the_refused_again(serve, deliver, entry):
    server = serve(lmtp=True)
    server.answers["END"] = lambda to: {ANN: None, BOB: REPLIES["4"], EVE: REPLIES["5"]}[to]
    sent = entry(ANN, BOB, EVE)
    result = deliver(server).run(sent)
    server.answers.clear()
    assert deliver(server).run(sent.after(result, attempt=1)).verdict is Verdict.DONE
    assert server.recipients == [ANN, BOB, EVE]


def test_this_process_knows_who_was_accepted_though_the_note_is_lost(serve, deliver, entry):
    server = serve(lmtp=True)
    server.answers["END"] = lambda to: REPLIES["4"] if to == BOB else None
    sent, handler = entry(ANN, BOB), deliver(server)
    handler.run(sent)
    server.answers.clear()
    assert handler.run(sent).verdict is Verdict.DONE
    assert server.recipients == [ANN, BOB]


def test_what_is_remembered_of_another_commit_counts_for_nothing(serve, deliver, entry):
    server = serve(lmtp=True)
    other = {"key": "0" * 64, "accepted": [ANN], "refused": {}}
    assert deliver(server).run(entry(ANN, known=other)).verdict is Verdict.DONE
    assert server.recipients == [ANN]


@pytest.mark.parametrize(
    "known", [{"accepted": 5, "refused": []}, {"accepted": [5, None]}, {"refused": {"a": 1}}]
)
def test_a_note_that_makes_no_sense_is_no_memory(serve, deliver, entry, known):
    server, sent = serve(lmtp=True), entry(ANN)
    again = Again(sent, {"key": sent.key, **known}, 2)
    assert deliver(server).run(again).verdict is Verdict.DONE


@pytest.mark.parametrize(
    ("stage", "reply", "verdict"),
    [
        ("GREETING", b"421 4.3.2 closing", Verdict.RETRY),
        ("GREETING", b"450 busy", Verdict.RETRY),
        ("GREETING", b"554 5.3.2 no service", Verdict.MISCONFIGURED),
        ("GREETING", b"SSH-2.0-OpenSSH", Verdict.RETRY),
        ("GREETING", CLOSE, Verdict.RETRY),
        ("MAIL", b"421 4.3.2 closing", Verdict.RETRY),
        ("MAIL", b"452 4.3.1 full", Verdict.RETRY),
        ("MAIL", b"550 5.1.8 bad sender", Verdict.REJECT),
        ("MAIL", b"552 5.3.4 too big", Verdict.REJECT),
        ("MAIL", b"530 5.7.0 authenticate first", Verdict.MISCONFIGURED),
        ("MAIL", b"hello", Verdict.RETRY),
        ("MAIL", CLOSE, Verdict.RETRY),
        ("RCPT", b"421 4.3.2 closing", Verdict.RETRY),
        ("RCPT", b"452 4.2.2 full", Verdict.RETRY),
        ("RCPT", b"452 too many", Verdict.RETRY),
        ("RCPT", b"552 5.2.2 full", Verdict.REJECT),
        ("RCPT", b"552 too many", Verdict.RETRY),
        ("RCPT", b"530 5.7.0 authenticate first", Verdict.MISCONFIGURED),
        ("RCPT", b"999 x", Verdict.RETRY),
        ("DATA", b"451 no", Verdict.RETRY),
        ("DATA", b"554 no", Verdict.REJECT),
        ("DATA", b"250 ok", Verdict.RETRY),
        ("DATA", CLOSE, Verdict.RETRY),
        ("END", b"421 closing", Verdict.RETRY),
        ("END", b"452 4.3.1 full", Verdict.RETRY),
        ("END", b"552 5.2.2 full", Verdict.REJECT),
        ("END", b"354 go on", Verdict.RETRY),
        ("END", b"x" * 9999, Verdict.RETRY),
        ("END", b"\n".join([b"250-x"] * 200), Verdict.RETRY),
        ("END", b"\xff\x00\x1b[31m", Verdict.RETRY),
        ("END", CLOSE, Verdict.RETRY),
    ],
)
def test_a_reply_to_all_means_the_same_at_both_servers(
    server, deliver, entry, stage, reply, verdict
):
    server.answers[stage] = lambda _argument: reply
    result = deliver(server).run(entry(ANN))
    assert result.verdict is verdict
    assert result.reason.isprintable()
    assert len(result.reason) < 600
    assert server.accepted == [] or reply.startswith(b"250")  # no answer that a client reads


def test_with_pipelining_no_reply_is_waited_for_between_the_recipients(serve, deliver, entry):
    server = serve(features=("PIPELINING",))
    came = []
    server.answers["MAIL"] = lambda _sender: came.append(server.waiting())
    assert deliver(server).run(entry(ANN, BOB)).verdict is Verdict.DONE
    assert came == [f"RCPT TO:<{ANN}>\r\nRCPT TO:<{BOB}>\r\n".encode()]


def test_replies_to_what_was_sent_ahead_are_not_taken_for_others(serve, deliver, entry):
    server = serve(lmtp=True, features=("PIPELINING",))
    handler = deliver(server)
    server.answers["MAIL"] = lambda _sender: b"550 5.1.8 not you"
    server.answers["RCPT"] = lambda _to: b"503 5.5.1 no MAIL"
    assert handler.run(entry(ANN, BOB)).verdict is Verdict.REJECT
    server.answers.clear()
    assert handler.run(entry(EVE)).verdict is Verdict.DONE
    assert (server.recipients, server.connections) == ([EVE], 1)


def test_smtp_falls_back_to_helo(serve, deliver, entry):
    server = serve()
    server.answers["EHLO"] = lambda _name: b"502 what?"
    assert deliver(server).run(entry(ANN)).verdict is Verdict.DONE


def test_a_server_that_takes_few_recipients_at_a_time_is_given_the_rest_at_once(
    server, deliver, entry
):
    named = []
    server.answers["MAIL"] = lambda _sender: named.clear()
    server.answers["RCPT"] = lambda to: (
        b"452 4.5.3 too many recipients" if len(named) >= 3 else named.append(to)
    )
    many = [f"u{number}@example.org" for number in range(8)]
    assert deliver(server).run(entry(*many)).verdict is Verdict.DONE
    assert server.recipients == many
    assert server.connections == 1


def test_many_recipients_go_in_transactions_of_a_hundred(server, deliver, entry):
    many = [f"u{number}@example.org" for number in range(250)]
    assert deliver(server).run(entry(*many)).verdict is Verdict.DONE
    assert server.recipients == many
    assert len([each for each in server.commands if each == "DATA"]) == 3


def test_what_an_earlier_transaction_delivered_is_kept_if_a_later_one_fails(server, deliver, entry):
    many = [f"u{number}@example.org" for number in range(150)]
    replies = [None, CLOSE]
    server.answers["DATA"] = lambda _argument: replies.pop(0)
    sent = entry(*many)
    result = deliver(server).run(sent)
    assert result.verdict is Verdict.RETRY
    assert result.remembered["accepted"] == many[:100]
    server.answers.clear()
    assert deliver(server).run(sent.after(result)).verdict is Verdict.DONE
    assert server.recipients == many


def test_an_entry_that_is_half_delivered_is_not_blamed_for_a_wrong_password(serve, deliver, entry):
    server = serve(lmtp=True)
    server.answers["END"] = lambda to: REPLIES["4"] if to == BOB else None
    sent = entry(ANN, BOB)
    result = deliver(server).run(sent)
    server.answers["MAIL"] = lambda _sender: b"530 5.7.0 authenticate first"
    again = deliver(server).run(sent.after(result))
    assert again.verdict is Verdict.MISCONFIGURED  # the note stays as it is


def test_no_server_is_a_retry_that_names_it(serve, deliver, entry):
    server = serve()
    handler = deliver(server)
    server.close()
    result = handler.run(entry(ANN))
    assert result.verdict is Verdict.RETRY
    assert result.ran  # for the breaker
    assert result.reason == f"{server.address}: the connection: Connection refused"


@pytest.mark.parametrize("stage", ["GREETING", "MAIL", "END"])
def test_a_server_that_sends_a_byte_now_and_then_is_left_at_the_timeout(
    server, deliver, entry, stage
):
    ended = threading.Event()

    def trickle(_argument):
        for connection in list(server.open):
            while not ended.wait(0.02):
                try:
                    connection.sendall(b"2")
                except OSError:
                    break
        return CLOSE

    server.answers[stage] = trickle
    began = time.monotonic()
    result = deliver(server, timeout="300ms").run(entry(ANN))
    assert time.monotonic() - began < 3
    ended.set()
    assert result.verdict is Verdict.RETRY
    assert "timeout: no answer to " in result.reason
    assert ("may be accepted" in result.reason) == (stage == "END")


# -- connections -------------------------------------------------------------------------------


def test_a_connection_serves_many_entries_and_not_too_many(server, deliver, entry, monkeypatch):
    monkeypatch.setattr(mail_pool, "MOST_TRANSACTIONS", 3)
    handler = deliver(server)
    for _ in range(7):
        assert handler.run(entry(ANN)).verdict is Verdict.DONE
    assert (len(server.accepted), server.connections) == (7, 3)


def test_after_a_refusal_the_connection_serves_the_next_entry(server, deliver, entry):
    handler = deliver(server)
    server.answers["RCPT"] = lambda to: REPLIES["5"] if to == BOB else None
    assert handler.run(entry(BOB)).verdict is Verdict.REJECT
    assert handler.run(entry(ANN)).verdict is Verdict.DONE
    assert server.connections == 1
    assert server.commands.count("RSET") == 1


@pytest.mark.parametrize("how", ["it hung up", "421 at MAIL", "closed at MAIL"])
def test_a_connection_that_the_server_ended_is_opened_anew(server, deliver, entry, how):
    handler = deliver(server)
    assert handler.run(entry(ANN)).verdict is Verdict.DONE
    if how == "it hung up":
        server.hang_up()
        assert server.closed.acquire(timeout=PATIENCE)
    else:
        replies = [b"421 4.4.2 idle" if how == "421 at MAIL" else CLOSE]
        server.answers["MAIL"] = lambda _sender: replies.pop() if replies else None
    assert handler.run(entry(BOB)).verdict is Verdict.DONE
    assert server.recipients == [ANN, BOB]
    assert server.connections == 2


def test_an_idle_connection_is_closed_and_no_thread_stays(server, deliver, entry, monkeypatch):
    monkeypatch.setattr(mail_pool, "IDLE", 0.05)
    threads = threading.active_count()
    handler = deliver(server)
    handler.run(entry(ANN))
    assert server.closed.acquire(timeout=PATIENCE)
    assert server.commands[-1] == "QUIT"
    deadline = time.monotonic() + PATIENCE
    while threading.active_count() > threads:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_without_a_thread_to_close_it_no_connection_is_kept(server, deliver, entry, monkeypatch):
    def refused(_timer):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Timer, "start", refused)
    handler = deliver(server)
    for _ in range(2):
        assert handler.run(entry(ANN)).verdict is Verdict.DONE
    assert server.connections == 2


def test_terminate_ends_an_attempt_and_its_entry_stays(server, deliver, entry):
    waits, asked = threading.Event(), threading.Event()
    server.answers["END"] = lambda _to: asked.set() or (waits.wait(PATIENCE) and CLOSE)
    handler, results = deliver(server), []
    sending = threading.Thread(target=lambda: results.append(handler.run(entry(ANN))))
    sending.start()
    assert asked.wait(PATIENCE)
    handler.terminate()
    sending.join(PATIENCE)
    waits.set()
    assert [result.verdict for result in results] == [Verdict.STOPPED]
    assert handler.run(entry(BOB)).verdict is Verdict.STOPPED


def test_what_was_accepted_before_terminate_is_remembered(serve, deliver, entry):
    server = serve(lmtp=True)
    waits, asked = threading.Event(), threading.Event()

    def answer(to):
        if to == BOB:
            asked.set()
            waits.wait(PATIENCE)
            return CLOSE
        return None

    server.answers["END"] = answer
    handler, results, sent = deliver(server), [], entry(ANN, BOB)
    sending = threading.Thread(target=lambda: results.append(handler.run(sent)))
    sending.start()
    assert asked.wait(PATIENCE)
    handler.terminate()
    sending.join(PATIENCE)
    waits.set()
    (result,) = results
    assert (result.verdict, result.after) == (Verdict.RETRY, 0.0)
    assert result.remembered["accepted"] == [ANN]


# -- what a server can do ----------------------------------------------------------------------


def test_a_message_larger_than_the_server_takes_is_not_sent(serve, deliver, entry):
    server = serve(features=("SIZE 50",))
    result = deliver(server).run(entry(ANN))
    assert (result.verdict, "the server takes 50" in result.reason) == (Verdict.REJECT, True)
    assert not any(command.startswith("MAIL") for command in server.commands)


@pytest.mark.parametrize("size", ["SIZE", "SIZE 0", "SIZE x", "SIZE " + "9" * 99])
def test_a_size_that_says_nothing_is_no_limit(serve, deliver, entry, size):
    assert deliver(serve(features=(size,))).run(entry(ANN)).verdict is Verdict.DONE


def test_eight_bits_are_said_where_the_server_knows_them(serve, deliver, entry):
    message = "Subject: x\n\nSmørrebrød".encode()
    for features, said in (((), False), (("8BITMIME",), True)):
        server = serve(features=("X", *features))
        assert deliver(server).run(entry(ANN, message=message)).verdict is Verdict.DONE
        assert any(each.endswith("BODY=8BITMIME") for each in server.commands) == said
        assert server.accepted[0].data.endswith("Smørrebrød\r\n".encode())


def test_an_address_that_is_not_ascii_needs_a_server_that_takes_it(serve, deliver, entry):
    other = "smørrebrød@example.org"
    server = serve(features=("SMTPUTF8", "8BITMIME"))
    assert deliver(server).run(entry(ANN, other)).verdict is Verdict.DONE
    assert server.recipients == [ANN, other]
    server = serve()
    result = deliver(server).run(entry(ANN, other))
    assert (result.verdict, server.recipients) == (Verdict.REJECT, [ANN])
    assert "no SMTPUTF8" in result.reason
    result = deliver(server).run(entry(ANN, sender=other))
    assert (result.verdict, server.recipients) == (Verdict.REJECT, [ANN])


def test_a_hostile_recipient_is_refused_and_the_others_are_sent(server, deliver, entry):
    hostile = ["x@y>\r\nRCPT TO:<eve@example.org", "-oQ/tmp@x", "", "a b@x", "x" * 300, 5, "\udc80"]
    result = deliver(server).run(entry(ANN, *hostile))
    assert result.verdict is Verdict.REJECT
    assert "7 of 8 recipients refused" in result.reason
    assert server.recipients == [ANN]
    assert len([each for each in server.commands if each.startswith("RCPT")]) == 1


def test_without_an_envelope_nothing_is_sent(server, deliver, claimed_entry):
    handler = deliver(server)
    for metadata, why in (
        ({}, "no envelope sender"),
        ({"recipients": [ANN]}, "no envelope sender"),
        ({"recipients": [], "sender": "a@b"}, "no recipients"),
        ({"recipients": 5, "sender": "a@b"}, "no list of recipients"),
        ({"recips": [ANN], "envsender": "a\nb"}, "its sender is no address"),
    ):
        result = handler.run(claimed_entry(MESSAGE, metadata))
        assert result.verdict is Verdict.REJECT
        assert why in result.reason, result.reason
    assert server.connections == 0


def test_the_envelope_of_a_raw_message_can_come_from_its_headers(server, deliver, claimed_entry):
    text = (
        b"From: List <list@example.org>\nTo: Ann <ann@example.org>,\n bob@example.org\n"
        b"Bcc: eve@example.org,\n fay@example.org\nSubject: x\n\nBcc: this stays\n"
    )
    handler = deliver(server, **{"from": "headers", "to": "headers"})
    assert handler.run(claimed_entry(text, form="raw")).verdict is Verdict.DONE
    assert server.recipients == [ANN, BOB, EVE, "fay@example.org"]
    head, _, body = server.accepted[0].data.partition(b"\r\n\r\n")
    assert (b"bcc" in head.lower(), b"fay" in head, body) == (False, False, b"Bcc: this stays\r\n")
    assert server.accepted[0].sender == "list@example.org"


def test_a_configured_envelope_comes_before_that_of_the_entry(server, deliver, entry):
    handler = deliver(server, **{"from": "<>", "to": [BOB]})
    assert handler.run(entry(ANN)).verdict is Verdict.DONE
    assert [(each.sender, each.recipient) for each in server.accepted] == [("", BOB)]


# -- TLS and login -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    directory = tmp_path_factory.mktemp("tls")
    return certificate(directory), certificate(directory, "other.example")


@pytest.mark.parametrize("tls", ["starttls", "implicit"])
def test_tls_is_checked_and_nothing_is_sent_without_it(serve, deliver, entry, files, tls):
    right, other = files
    server = serve(features=("STARTTLS", "SIZE"), context=server_context(right))
    server.implicit = tls == "implicit"
    options = {"tls": tls, "timeout": "10s"}
    result = deliver(server, ca_file=f"{right}.crt", **options).run(entry(ANN))
    assert result.verdict is Verdict.DONE
    for file in (None, f"{other}.crt"):
        wrong = deliver(server, **options, **({"ca_file": file} if file else {})).run(entry(BOB))
        assert wrong.verdict is Verdict.MISCONFIGURED
        assert "TLS: " in wrong.reason
    assert server.recipients == [ANN]


def test_a_certificate_of_another_name_is_refused(serve, deliver, entry, files):
    server = serve(features=("STARTTLS",), context=server_context(files[1]))
    result = deliver(server, tls="starttls", ca_file=f"{files[1]}.crt").run(entry(ANN))
    assert result.verdict is Verdict.MISCONFIGURED
    assert not any(command.startswith("MAIL") for command in server.commands)


def test_text_that_came_before_tls_is_not_read_after_it(serve, deliver, entry, files):
    server = serve(features=("STARTTLS",), context=server_context(files[0]))
    server.answers["STARTTLS"] = lambda _x: b"220 go on\r\n250-evil\r\n250 AUTH PLAIN\r\n"
    result = deliver(server, tls="starttls", ca_file=f"{files[0]}.crt").run(entry(ANN))
    assert result.verdict is Verdict.MISCONFIGURED
    assert "text came between" in result.reason


@pytest.mark.parametrize("reply", [b"454 4.7.0 not now", b"502 no"])
def test_a_server_without_tls_gets_no_message(serve, deliver, entry, reply):
    server = serve(features=("STARTTLS",))
    server.answers["STARTTLS"] = lambda _x: reply
    expected = Verdict.RETRY if reply[:1] == b"4" else Verdict.MISCONFIGURED
    assert deliver(server, tls="starttls").run(entry(ANN)).verdict is expected
    server = serve()
    assert deliver(server, tls="starttls").run(entry(ANN)).verdict is Verdict.MISCONFIGURED


@pytest.mark.parametrize(
    ("reply", "verdict"),
    [
        (b"235 ok", Verdict.DONE),
        (b"535 5.7.8 wrong", Verdict.MISCONFIGURED),
        (b"454 4.7.0 not now", Verdict.RETRY),
    ],
)
def test_a_login_that_is_refused_is_the_operators_and_shows_no_password(
    serve, deliver, entry, tmp_path, reply, verdict
):
    file = tmp_path / "password"
    file.write_text("s3cret-s3cret\n")
    file.chmod(0o600)
    server = serve(features=("AUTH PLAIN LOGIN",))
    server.answers["AUTH"] = lambda sent: reply + f" s3cret-s3cret {sent}".encode()
    result = deliver(server, user="ann", password_file=str(file)).run(entry(ANN))
    assert result.verdict is verdict
    assert "s3cret" not in repr(result)
    assert base64.b64encode(b"\0ann\0s3cret-s3cret").decode() not in repr(result)
    assert (b"5" in reply[:1]) == ("[password]" in result.reason and "535" in result.reason)
    assert any(command.startswith("AUTH PLAIN ") for command in server.commands)
