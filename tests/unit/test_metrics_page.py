"""What is said of the metrics is true: the page, the alerts and the dashboard."""

import json
import re
import runpy
import shutil
import subprocess
from pathlib import Path

import pytest

from arena_core.adapters.codec import CATALOGUE
from arena_core.entrypoints.http.agent_metrics import RARE
from arena_core.entrypoints.http.exposition import Kind
from arena_core.entrypoints.http.metrics import FAMILIES

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples" / "prometheus"
SAMPLE = re.compile(r"\b(?:arena|http_server|process)_[a-z_]+")
EVENT = re.compile(r"\bdeployment\\*\.([a-z_]+)")
OURS_BUT_NO_METRIC = {"http_route", "http_request_method"}
needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not there"
)


def samples() -> set[str]:
    """Return the names of all series that there can be."""
    names = set()
    for family in FAMILIES:
        if family.kind is Kind.HISTOGRAM:
            names |= {f"{family.name}_{part}" for part in ("bucket", "sum", "count")}
        else:
            names.add(family.name)
    return names


def dashboard() -> list[str]:
    """Return every expression of the dashboard."""
    panels = json.loads((EXAMPLES / "dashboard.json").read_text())["panels"]
    return [target["expr"] for panel in panels for target in panel["targets"]]


def text_of(name: str) -> str:
    return (EXAMPLES / name).read_text()


@pytest.mark.parametrize("name", ["dashboard.json", "alerts.yml"])
def test_every_metric_that_is_asked_for_exists(name):
    asked = set(SAMPLE.findall(text_of(name))) - OURS_BUT_NO_METRIC
    assert len(asked) > 5
    assert not asked - samples()


def test_every_metric_is_on_the_dashboard_or_known_to_be_left_out():
    shown = set(SAMPLE.findall(" ".join(dashboard())))
    left_out = {
        family.name
        for family in FAMILIES
        if not any(name.startswith(family.name) for name in shown)
    }
    assert left_out == {
        "arena_build_info",
        "arena_deployment_transitions_total",
        "arena_log_position",
        "arena_projection_lag_events",
        "arena_set_aside",
        "process_max_fds",
        "process_open_fds",
        "process_start_time_seconds",
        "process_virtual_memory_bytes",
    }


def test_every_event_that_is_asked_for_exists_and_is_told_from_0_on():
    stored = {kind.name for kind in CATALOGUE.types}
    assert set(RARE) <= stored
    alerted = {f"deployment.{name}" for name in EVENT.findall(text_of("alerts.yml"))}
    assert alerted
    assert alerted <= set(RARE), "of others Prometheus would not see the first"


def test_the_page_is_what_the_families_give():
    script = runpy.run_path(str(ROOT / "docs" / "generate_metrics.py"))
    page = script["PAGE"].read_text(encoding="utf-8")
    assert script["page"]() == page, "run: python docs/generate_metrics.py"
    assert set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)) == {
        family.name for family in FAMILIES
    }


def test_names_end_in_their_unit_or_in_what_they_are():
    for family in FAMILIES:
        assert family.name.endswith("_total") == (family.kind is Kind.COUNTER)
        assert family.name.endswith("_info") == (family.kind is Kind.INFO)
        if family.kind is Kind.HISTOGRAM:
            assert family.name.endswith(("_seconds", "_size"))


@needs_promtool
@pytest.mark.parametrize(
    "check", [["rules", "alerts.yml"], ["config", "--syntax-only", "prometheus.yml"]]
)
def test_promtool_takes_the_alerts_and_the_scrape(check):
    checked = subprocess.run(
        ["promtool", "check", *check], cwd=EXAMPLES, capture_output=True, check=False
    )
    assert checked.returncode == 0, checked.stderr


@needs_promtool
def test_promtool_takes_every_expression_of_the_dashboard(tmp_path):
    rules = [
        {
            "record": f"dashboard:{number}",
            "expr": expr.replace("$__rate_interval", "5m").replace("$agent", ".*"),
        }
        for number, expr in enumerate(dashboard())
    ]
    file = tmp_path / "rules.json"
    file.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    checked = subprocess.run(
        ["promtool", "check", "rules", file], capture_output=True, check=False
    )
    assert checked.returncode == 0, checked.stderr
