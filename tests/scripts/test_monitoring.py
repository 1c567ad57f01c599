"""The alert rules and the dashboard in scripts/monitoring: they ask for metrics that there are."""

from __future__ import annotations

import itertools
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from watcher.web.metrics import BUILD, METRICS
from watcher.web.series import Type
from watcher.web.sweep_metrics import SWEEP_METRICS

ROOT = Path(__file__).parents[2]
MONITORING = ROOT / "scripts" / "monitoring"
ALERTS = (MONITORING / "alerts.yml").read_text()
DASHBOARD = json.loads((MONITORING / "dashboard.json").read_text())
SERIES = {
    name
    for metric in (BUILD, *METRICS, *SWEEP_METRICS)
    for name in (
        [f"{metric.name}{suffix}" for suffix in ("_bucket", "_sum", "_count")]
        if metric.type is Type.HISTOGRAM
        else [metric.exposed]
    )
}
LABELS = {metric.exposed: metric.labels for metric in (BUILD, *METRICS, *SWEEP_METRICS)}
# Each rule of the file, from its name to the next one's.
RULES = dict(
    re.findall(
        r"^      - alert: (\w+)\n(.*?)(?=^      - alert|\Z)", ALERTS, re.MULTILINE | re.DOTALL
    )
)


def expression(rule):
    """Return the query of a rule, in one line."""
    (found,) = re.findall(
        r"^        expr: (?:>-\n)?(.+?)(?=^        \w+:)", rule, re.MULTILINE | re.DOTALL
    )
    return " ".join(found.split())


def queries():
    """Return the queries of the dashboard, with the panel of each."""
    return [
        (panel["title"], target["expr"])
        for panel in DASHBOARD["panels"]
        for target in panel.get("targets", [])
    ]


EXPRESSIONS = [*((name, expression(rule)) for name, rule in RULES.items()), *queries()]


@pytest.mark.parametrize(("name", "query"), EXPRESSIONS)
def test_a_query_asks_for_a_metric_that_there_is(name, query):
    named = re.findall(r"\bwatcher_\w+", query)
    assert named or 'job="watcher"' in query, name
    assert set(named) <= SERIES
    for metric, matchers in re.findall(r"\b(watcher_\w+)\{([^}]*)\}", query):
        labels = set(re.findall(r"(\w+)(?:=|!=|=~|!~)\"", matchers))
        assert labels <= {*LABELS.get(metric, ("queue", "le"))}


def test_an_alert_says_what_is_wrong_how_bad_it_is_and_what_to_read():
    assert len(RULES) == ALERTS.count("- alert:") > 10
    for name, rule in RULES.items():
        assert re.search(r"^          severity: (warning|critical)$", rule, re.MULTILINE), name
        assert re.search(r"^          summary: .+\.\"?$", rule, re.MULTILINE), name
        (page, anchor) = re.findall(
            r"^          runbook: (docs/[\w.]+)#([\w-]+)$", rule, re.MULTILINE
        )[0]
        headings = re.findall(r"^#+ (.+)$", (ROOT / page).read_text(), re.MULTILINE)
        slugs = {re.sub(r"[^\w -]", "", each.lower()).replace(" ", "-") for each in headings}
        assert anchor in slugs, name


def test_each_alert_is_in_the_page_and_has_a_test():
    page = (ROOT / "docs" / "monitoring.md").read_text()
    tested = (MONITORING / "alerts_test.yml").read_text()
    for name, rule in RULES.items():
        severity = "critical" if "severity: critical" in rule else "warning"
        assert f"| `{name}` | {severity} |" in page
        fires = re.findall(rf"alertname: {name}\n +eval_time: \w+\n +exp_alerts:\n", tested)
        assert fires, f"alerts_test.yml never has {name} fire"


def test_the_age_of_entries_wakes_the_operator_and_their_number_does_not():
    about_ready = [expression(rule) for rule in RULES.values() if 'state="ready"' in rule]
    assert about_ready
    assert all("_age_seconds" in each for each in about_ready)


@pytest.mark.parametrize(
    "command", [("check", "rules", "alerts.yml"), ("test", "rules", "alerts_test.yml")]
)
def test_the_rules_pass_the_tool_of_prometheus(command):
    if shutil.which("promtool") is None:
        pytest.skip("no promtool here (Debian: prometheus)")
    done = subprocess.run(
        ["promtool", *command], cwd=MONITORING, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


# -- the dashboard --------------------------------------------------------------------------------


def test_the_queries_of_the_dashboard_are_correct(tmp_path):
    if shutil.which("promtool") is None:
        pytest.skip("no promtool here (Debian: prometheus)")
    rules = "groups:\n- name: all\n  rules:\n"
    for number, (_, query) in enumerate(queries()):
        shown = query.replace("$__rate_interval", "5m").replace("$__range", "1h")
        rules += f"  - record: query{number}\n    expr: {json.dumps(shown)}\n"
    (tmp_path / "queries.yml").write_text(rules)
    done = subprocess.run(
        ["promtool", "check", "rules", tmp_path / "queries.yml"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_dashboard_shows_the_chosen_queues_of_any_data_source():
    variables = {each["name"]: each for each in DASHBOARD["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    assert variables["queue"]["multi"]
    assert variables["queue"]["includeAll"]
    assert set(re.findall(r"watcher_\w+", variables["queue"]["definition"])) <= SERIES
    for title, query in queries():
        selectors = re.findall(r"\bwatcher_\w+(\{[^}]*\})?", query)
        assert all('queue=~"$queue"' in each for each in selectors), title
    uids = re.findall(r'"uid": "([^"]+)"', json.dumps(DASHBOARD["panels"]))
    assert set(uids) == {"${datasource}"}


def test_no_two_panels_of_the_dashboard_overlap():
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert len({panel["title"] for panel in panels}) == len(panels)
    for one, other in itertools.combinations([panel["gridPos"] for panel in panels], 2):
        assert (
            one["x"] + one["w"] <= other["x"]
            or other["x"] + other["w"] <= one["x"]
            or one["y"] + one["h"] <= other["y"]
            or other["y"] + other["h"] <= one["y"]
        )
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in panels)
