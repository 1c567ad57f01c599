"""One run of a command for several entries: what it is given, and what it may say of each."""

from __future__ import annotations

import json
import os

import pytest

from watcher.handle.command_batch import CommandBatch
from watcher.rules.results import Verdict


def shell(program, **more):
    return CommandBatch(["sh", "-c", program, "sh"], more.pop("timeout", None), 100, **more)


def show(
    tmp_path, program='cat "$@" > files; tr "\\0" "\\n" < "$WATCHER_FILES" > list; cat > lines'
):
    return shell(f"cd {tmp_path}; {program}")


def test_a_command_gets_the_files_as_arguments_as_a_list_and_as_lines(tmp_path, claimed_entry):
    entries = [claimed_entry(b"%d\n" % n, form="raw", stem=b"e%d" % n) for n in range(12)]
    result = show(tmp_path).run_batch(entries)
    assert (result.whole.verdict, dict(result.words), result.unsplit) == (Verdict.DONE, {}, False)
    assert (tmp_path / "files").read_text().split() == [str(n) for n in range(12)]
    lines = [json.loads(line) for line in (tmp_path / "lines").read_text().splitlines()]
    assert [line["file"] for line in lines] == (tmp_path / "list").read_text().split()
    assert [line["index"] for line in lines] == list(range(12))
    first = entries[0]
    assert {"index": 0, "entry": "e0", "key": first.key, "attempt": 1, "metadata": {}} == {
        key: value for key, value in lines[0].items() if key not in {"file", "path"}
    }
    assert lines[0]["path"] == first.path
    assert all(entry.lent for entry in entries)
    assert len({entry.process for entry in entries}) == 1


@pytest.mark.parametrize("form", ["pck", "pair"])
def test_the_file_of_an_entry_is_its_message(tmp_path, claimed_entry, form):
    entries = [claimed_entry(b"m%d\n" % n, {"listid": "a"}, form=form) for n in range(2)]
    assert show(tmp_path).run_batch(entries).whole.verdict is Verdict.DONE
    assert (tmp_path / "files").read_text() == "m0\nm1\n"
    (first, _) = (tmp_path / "lines").read_text().splitlines()
    assert json.loads(first)["metadata"] == {"listid": "a"}


def test_each_word_on_descriptor_3_is_the_result_of_its_entry(claimed_entry):
    entries = [claimed_entry(form="raw", stem=name) for name in (b"a", b"\xff", b"c", b"d")]
    result = shell(
        """echo '{"entry": "a", "result": "reject", "reason": "spam"}' >&3
        echo '{"index": 1, "result": "retry", "after": 60}' >&3
        printf '{"file": "%s", "result": "done"}\\n' "$3" >&3; exit 1"""
    ).run_batch(entries)
    assert {number: word.verdict for number, word in result.words.items()} == {
        0: Verdict.REJECT,
        1: Verdict.RETRY,
        2: Verdict.DONE,
    }
    assert (result.whole.verdict, result.unsplit) == (Verdict.RETRY, False)


def test_a_line_that_makes_no_sense_has_every_entry_without_a_word_tried_again(claimed_entry):
    entries = [claimed_entry(form="raw"), claimed_entry(form="raw")]
    result = shell("""echo '{"index": 0, "result": "done"}' >&3; echo rejected >&3""").run_batch(
        entries
    )
    assert result.words[0].verdict is Verdict.DONE
    assert (result.whole.verdict, result.unsplit) == (Verdict.RETRY, True)
    assert "line 2" in result.whole.reason


def test_what_is_written_to_descriptor_3_without_end_fills_no_memory(claimed_entry):
    result = shell("exec 2>/dev/null; cat /dev/zero >&3").run_batch([claimed_entry(form="raw")])
    assert result.unsplit
    assert "more than" in result.whole.reason


def test_a_name_that_is_no_text_can_be_named_as_it_came(tmp_path, claimed_entry):
    program = r"""read -r line; rest=${line#*, }
        printf '%s\n' "{${rest%%, \"file*}, \"result\": \"reject\"}" >&3"""
    result = show(tmp_path, program).run_batch([claimed_entry(form="raw", stem=b"\xff\n")])
    assert result.words[0].verdict is Verdict.REJECT


def test_an_entry_that_cannot_be_read_is_left_out_of_the_call(tmp_path, claimed_entry):
    good = [claimed_entry(b"m%d\n" % n) for n in range(2)]
    bad = claimed_entry()
    os.truncate(bad.path, 3)
    result = show(tmp_path).run_batch([good[0], bad, good[1]])
    assert result.whole.verdict is Verdict.DONE
    assert {number: word.verdict for number, word in result.words.items()} == {1: Verdict.REJECT}
    assert (tmp_path / "files").read_text() == "m0\nm1\n"
    nothing = show(tmp_path, "touch ran").run_batch([bad])
    assert nothing.words[0].verdict is Verdict.REJECT
    assert not (tmp_path / "ran").exists()


def test_a_command_that_is_not_there_is_said_once_and_not_split(claimed_entry):
    entries = [claimed_entry(form="raw"), claimed_entry(form="raw")]
    result = CommandBatch(["/no/such/command"], None, 100).run_batch(entries)
    assert (result.whole.verdict, result.unsplit) == (Verdict.MISCONFIGURED, True)
    missing = shell("exit 127").run_batch(entries)  # perhaps one entry alone named a missing tool
    assert (missing.whole.verdict, missing.unsplit) == (Verdict.MISCONFIGURED, False)


def test_too_many_arguments_for_the_kernel_are_halved(claimed_entry):
    entries = [claimed_entry(form="raw"), claimed_entry(form="raw")]
    long = CommandBatch(["true", *["x" * 100_000] * 80], None, 100).run_batch(entries)
    assert (long.whole.verdict, long.unsplit) == (Verdict.RETRY, False)


def test_a_batch_that_lasts_too_long_is_ended_and_its_words_count(claimed_entry):
    entries = [claimed_entry(form="raw"), claimed_entry(form="raw")]
    program = """echo '{"index": 0, "result": "done"}' >&3; sleep 60"""
    result = shell(program, timeout=0.3).run_batch(entries)
    assert result.words[0].verdict is Verdict.DONE
    assert result.whole.reason.startswith("timeout")


def test_one_entry_alone_gets_its_own_word(claimed_entry):
    word = shell("""echo '{"index": 0, "result": "reject"}' >&3""").run(claimed_entry(form="raw"))
    assert word.verdict is Verdict.REJECT
    assert shell("exit 65").run(claimed_entry(form="raw")).verdict is Verdict.REJECT
