"""What a person sees of the page, in a real browser: with a pointer, with the keyboard, by ear."""

from __future__ import annotations

import itertools
import json
import urllib.parse

import pytest

from tests.page import made_up

pytestmark = pytest.mark.slow

REFRESH = "document.dispatchEvent(new Event('visibilitychange'))"  # as a page that is seen again
FOCUS = "document.activeElement"
UNKNOWN = "\u2013"
PARTS = ({}, {"queue": "mail"}, {"queue": "mail", "entry": "a"})


def go(page, **named):
    """Go to a part of the page by its fragment."""
    fragment = urllib.parse.urlencode(named)
    page.evaluate(f"location.hash = {json.dumps(fragment)}")
    wanted = ".steps" if "entry" in named else "figure" if named else "table.queues"
    page.wait(f"document.querySelector({json.dumps(wanted)})")


def test_all_queues_with_their_states_and_what_to_type(page):
    assert page.text("h1 span:last-child") == "1 of 3 queues is critical."
    rows = page.evaluate(
        "[...document.querySelectorAll('table.queues tbody tr')].map(row =>"
        " [...row.children].map(cell => cell.textContent))"
    )
    mail = rows[0]
    assert mail[:2] == ["mail", "✕criticalwatching by inotify, 1 entry held"]
    assert mail[2:9] == ["1\u202f284", "2", "37", "1", "5", "0", "15m12s"]
    assert mail[9:] == ["61", "290", "3\u202f512", "1", "5", "43"]
    assert [row[0] for row in rows] == ["mail", "in", "out"]
    findings = page.text(".findings").split("\n")
    assert findings[0].startswith("critical mail: ")  # the worst is the first
    assert "watcher abort /var/spool/mail 1795826+0af3" in findings
    assert page.evaluate("document.title") == "1 ✕ watcher"


def test_one_queue_with_the_slowest_the_oldest_and_the_failing(page):
    go(page, queue="mail")
    slowest = page.text("[aria-labelledby=slowest] tbody").split("\n")
    assert [line.split("\t")[1:] for line in slowest] == [
        ["22m", "3", "5123"],
        ["4s", "1", "5124"],
        [UNKNOWN, UNKNOWN, "4711"],
    ]
    oldest = page.text("[aria-labelledby=oldest] tbody").split("\n")
    assert [line.split("\t")[1:] for line in oldest] == [["deferred", "1h30m"], ["ready", "15m12s"]]
    failing = page.text("[aria-labelledby=failing]")
    assert "connection to …:25 refused\tdeferred\t37" in failing
    assert "watcher requeue /var/spool/mail ALL --state dead" in failing
    assert (
        page.text("[aria-labelledby=times] tbody").split("\n")[1]
        == "in the handler\t810ms\t4.2s\t3\u202f555"
    )


def test_values_change_without_a_reload_and_the_focus_stays(page, server):
    page.evaluate("window.here = true; document.querySelector('tbody a').focus()")
    server.status["queues"][0]["states"]["ready"]["count"] = 7
    page.wait("document.querySelector('td[data-label=ready]').textContent === '7'")
    assert page.evaluate(f"window.here && {FOCUS}.textContent") == "mail"


def test_the_life_of_an_entry_is_found_by_its_name(page):
    go(page, queue="mail")
    page.evaluate("document.getElementById('find').focus()")
    page.send("Input.insertText", text="1795826399.5+77c1")
    page.press("Enter")
    page.wait("document.querySelector('.steps')")
    assert page.evaluate("location.hash") == "#queue=mail&entry=1795826399.5%2B77c1"
    steps = page.text(".steps")
    assert "attempt 1: failed waited 500ms, took 2.5s" in steps
    assert "next attempt in 5m" in steps
    assert "+5m10s\nrequeued, out of deferred/ by ann (uid 1000)" in steps
    assert steps.count("by ann") == 1
    assert "attempt 3: handled" in steps
    assert page.text(".result").endswith("at the 3rd attempt, 7m later")
    page.evaluate("history.back()")
    page.wait("document.querySelector('figure')")


def test_hostile_names_are_text(page, server):
    server.status["queues"][0]["queue"] = made_up.HOSTILE
    page.evaluate("window.alert = () => { throw new Error('a name became a program') }")
    page.evaluate(REFRESH)
    page.wait("document.querySelector('table.queues').textContent.includes('<img')")
    go(page, queue=made_up.HOSTILE)
    go(page, queue=made_up.HOSTILE, entry="\u202e</bdi><script>alert(1)</script>")
    assert page.evaluate("document.querySelectorAll('img, main script').length") == 0
    assert page.text("h1") == "\\u{202e}</bdi><script>alert(1)</script>"
    go(page, queue=made_up.HOSTILE)
    text = page.text("main")
    assert "invoice\\u{202e}fdp.exe" in text
    assert "bell\\x07tab\\x09here\\u{2028}line" in text
    assert "\u202e" not in page.evaluate("document.documentElement.outerHTML")


def test_the_keyboard_reaches_everything_and_its_focus_is_seen(page):
    for part in PARTS:
        go(page, **part)
        walk(page)


def test_the_skip_link_leads_to_what_is_shown_and_keeps_it(page):
    go(page, queue="mail")
    page.evaluate("document.querySelector('.skip').focus()")
    page.press("Enter")
    assert page.evaluate(f"[{FOCUS}.id, location.hash]") == ["main", "#queue=mail"]
    page.press("Tab")
    assert page.evaluate(f"{FOCUS}.textContent") == "← All queues"


def walk(page):
    """Go from the first to the last of what takes the focus, and out of the page."""
    wanted = page.evaluate(
        "[...document.querySelectorAll('a, button, input, select, summary, [tabindex=\"0\"]')]"
        ".filter(each => each.type !== 'radio' || each.checked)"
        ".map((each, index) => each.watcherNumber = index)"
    )
    page.evaluate("document.querySelector('.skip').focus()")
    reached = [0]
    for _ in range(len(wanted) + 1):
        page.press("Tab")
        number, outline = page.evaluate(
            f"[{FOCUS}.watcherNumber ?? null, getComputedStyle({FOCUS}).outlineStyle]"
        )
        if number is None:
            break  # out of the page: no trap
        assert outline != "none"
        reached.append(number)
    assert reached == wanted
    assert page.evaluate("document.querySelector('.skip').watcherNumber") == 0


LONG = "n" * 251


def test_no_part_is_wider_than_the_screen(page, server):
    mail = server.status["queues"][0]
    mail["in_hand"][0]["entry"] = mail["findings"][0]["what"] = mail["path"] = LONG
    server.status["queues"][1]["queue"] = LONG
    page.evaluate(REFRESH)
    for width, scheme in itertools.product((320, 700, 1280), ("light", "dark")):
        page.resize(width, 900)
        page.prefer(scheme)
        for part in ({}, {"queue": "mail"}, {"queue": "mail", "entry": LONG}, {"queue": LONG}):
            go(page, **part)
            assert page.evaluate("document.scrollingElement.scrollWidth") == width


def test_the_colours_follow_the_system_until_one_is_chosen(page, server):
    ground = "getComputedStyle(document.documentElement).backgroundColor"
    light = page.evaluate(ground)
    page.prefer("dark")
    dark = page.evaluate(ground)
    assert light != dark
    choose = "colours.value = 'light'; colours.dispatchEvent(new Event('change'))"
    page.evaluate(f"const colours = document.getElementById('colours'); {choose}")
    assert page.evaluate(ground) == light
    page.open(server.address + "?again")
    assert page.evaluate(ground) == light
    page.evaluate("localStorage.clear()")


def test_a_daemon_that_is_gone_is_said_and_shown_in_grey(page, server):
    assert page.evaluate("document.getElementById('silence').hidden")
    answer, server.answer = server.answer, lambda _path, _query: 1 / 0  # the connection ends
    page.wait("!document.getElementById('silence').hidden")
    assert page.text("#silence").startswith("No answer since ")
    assert "what is below is as old" in page.text("#silence")
    assert "watcher status /var/spool/mail" in page.text("#silence")
    assert (
        page.evaluate("getComputedStyle(document.querySelector('main')).filter") == "grayscale(1)"
    )
    assert page.text("#announcement") == "The daemon does not answer."
    server.answer = answer
    page.wait("document.getElementById('silence').hidden")
    page.forgive("Failed to load resource")


def test_nothing_is_asked_while_the_page_is_hidden(page, server, eventually):
    page.evaluate(
        f"Object.defineProperty(document, 'hidden', {{value: true, configurable: true}}); {REFRESH}"
    )
    page.evaluate("new Promise(done => setTimeout(done, 100))")  # an open question is answered
    server.asked.clear()
    page.evaluate("new Promise(done => setTimeout(done, 2200))")  # more than a question's interval
    assert server.asked == []
    page.evaluate(f"delete document.hidden; {REFRESH}")
    eventually(lambda: "/status.json" in server.asked)


def test_a_token_is_asked_for_once_a_tab(page, server):
    server.token = "of many letters"
    page.evaluate(REFRESH)
    page.wait("document.getElementById('token')")
    page.evaluate("document.getElementById('token').focus()")
    page.send("Input.insertText", text=server.token)
    page.press("Enter")
    page.wait("document.querySelector('table.queues')")
    page.evaluate("location.reload()")
    page.wait("document.querySelector('table.queues')")
    page.evaluate("sessionStorage.clear()")
    page.forgive("401")


def test_the_plots_tell_their_values_to_the_keyboard_and_as_a_table(page):
    go(page, queue="mail")
    value = "document.querySelector('.canvas').getAttribute('aria-valuetext')"
    last = page.evaluate(value)
    assert "ready 1\u202f300, deferred 37, held 1, dead 5" in last
    page.evaluate("document.querySelector('.canvas').focus()")
    page.press("ArrowLeft")
    page.press("Home")
    first = page.evaluate(value)
    assert first.endswith("ready 3, deferred 0, held 0, dead 0")
    assert page.text(".legend .at").startswith("at ")
    page.press("Escape")
    assert page.evaluate(value) == last
    assert page.evaluate("document.querySelectorAll('figure table tbody tr').length") >= 24
    assert page.text(".plot .unit") == "entries by state"


def test_a_screen_reader_hears_a_change_of_the_condition_and_no_numbers(page, server):
    page.evaluate(
        "window.said = []; new MutationObserver(() => said.push(announcement.textContent))"
        ".observe(document.getElementById('announcement'), {childList: true, subtree: true})"
    )
    server.status["queues"][0]["states"]["ready"]["count"] = 9
    page.evaluate(REFRESH)
    page.wait("document.querySelector('td[data-label=ready]').textContent === '9'")
    server.status["queues"][1]["condition"] = "critical"
    page.evaluate(REFRESH)
    page.wait("said.length")
    assert page.evaluate("said") == ["2 of 3 queues are critical."]
    assert (
        page.evaluate(
            "document.querySelectorAll('[aria-live], [role=status], [role=alert]').length"
        )
        == 1
    )


def test_landmarks_headings_and_names_are_there(page):
    for part in PARTS:
        go(page, **part)
        listen(page)


def listen(page):
    """Look at what a screen reader gets of the page."""
    nodes = page.send("Accessibility.getFullAXTree")["nodes"]
    found = [
        (node["role"]["value"], node.get("name", {}).get("value", ""))
        for node in nodes
        if not node["ignored"]
    ]
    roles = {role for role, _ in found}
    assert {"banner", "main", "contentinfo"} <= roles
    controls = {"button", "link", "textbox", "combobox", "radio", "slider", "table"} & roles
    assert controls
    assert not [role for role, name in found if role in controls - {"table"} and not name]
    levels = page.evaluate(
        "[...document.querySelectorAll('h1, h2, h3')].map(each => Number(each.localName[1]))"
    )
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert page.evaluate("[...document.querySelectorAll('main th')].every(each => each.scope)")


def test_a_command_is_copied_or_selected(page):
    page.evaluate("document.querySelector('.command button').click()")
    page.wait("getSelection().toString() || document.querySelector('[data-copied]')")
    copied = page.evaluate("document.querySelector('.command code').textContent")
    assert copied == "watcher abort /var/spool/mail 1795826+0af3"


def test_a_queue_that_is_not_there_or_cannot_be_read_is_said(page, server):
    page.evaluate("location.hash = 'queue=other'")
    page.wait(
        "document.querySelector('main').textContent.includes('No queue other is served here')"
    )
    server.status["queues"] = [{"queue": "in", "path": "/in", "sampled": None, "error": None}]
    page.evaluate(f"location.hash = ''; {REFRESH}")
    page.wait(
        "document.querySelector('h1').textContent.includes('is being looked at for the first time')"
    )
    server.status["queues"][0] |= {
        "sampled": made_up.NOW,
        "error": "/in: cannot be read: Permission denied",
    }
    page.evaluate(REFRESH)
    page.wait("document.querySelector('.findings')?.textContent.includes('Permission denied')")
    server.status["queues"] = []
    page.evaluate(REFRESH)
    page.wait("document.querySelector('h1').textContent.includes('No queue is served')")


def test_of_many_queues_in_trouble_the_worst_are_shown_first(page, server):
    queues = [made_up.busy() | {"queue": f"q{number}"} for number in range(60)]
    server.status["queues"] = queues
    page.evaluate(REFRESH)
    page.wait("document.querySelectorAll('table.queues tbody tr').length === 60")
    assert page.evaluate("document.querySelectorAll('.findings li.critical').length") == 12
    assert page.text(".findings + .note") == "and 108 things more: see each queue"


def test_only_its_own_server_is_asked(page, server):
    go(page, queue="mail", entry="a")
    go(page, queue="mail")
    asked = page.requests()
    assert any(address.endswith("history.json?queue=mail") for address in asked)
    assert [address for address in asked if not address.startswith(server.address)] == []
