"""The page in a browser: charts are drawn without a network, on paper too, and no text of a run is run."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest

from ziggurat.domain import FailureKind
from ziggurat.report import ReportFacts, write_report

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.soak,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium (Debian: apt-get install chromium)"),
]
QUIET = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run",
    "--disable-component-update", "--disable-sync", "--virtual-time-budget=30000",
    "--host-resolver-rules=MAP * ~NOTFOUND", "--enable-logging=stderr",
)  # fmt: skip
EVIL = "<img src=x onerror=\"document.title='run'\"><script>document.title='run'</script>"


def browse(folder, *wanted):
    """What Chromium prints and complains about, and the page as it stands after its scripts."""
    argv = [CHROMIUM, *QUIET, f"--user-data-dir={folder / 'profile'}", *wanted, f"file://{folder}/index.html"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)
    said = re.findall(r'CONSOLE[^"]*"(.*?)", source', done.stderr)
    return done.stdout, said


def test_all_charts_are_drawn_without_a_network_or_a_complaint(tmp_path, told, make_spec):
    write_report(tmp_path, make_spec(4), told, utc=told.last_utc, facts=ReportFacts())
    page, said = browse(tmp_path, "--dump-dom")
    assert said == []
    assert 'data-drawn="yes"' in page
    places = re.findall(r'<div class="chart[^"]*" id="([^"]+)"', page)
    drawn = re.findall(r'<div class="chart js-plotly-plot" id="([^"]+)"', page)
    assert len(places) > 15
    assert drawn == places


def test_page_can_be_printed(tmp_path, told, make_spec):
    write_report(tmp_path, make_spec(2), told, utc=told.last_utc, facts=ReportFacts())
    browse(tmp_path, f"--print-to-pdf={tmp_path / 'page.pdf'}")
    # vectors: a page of pixels would be larger, one without charts smaller
    assert 100_000 < (tmp_path / "page.pdf").stat().st_size < 3_000_000


def test_no_text_of_a_run_is_run(tmp_path, make_story, make_spec):
    story = make_story()
    for i in range(4):
        number = story.propose({"depth": 1, "width_1": 8 * 2**i, EVIL: EVIL}, {"parameters": 9.0 + i})
        story.segment(number, 2, val_accuracy=0.9 + i / 100)
    story.fail(story.propose({"depth": 1}), FailureKind.USER_ERROR, EVIL)
    write_report(
        tmp_path, make_spec(2), story.history, utc=story.now, facts=ReportFacts(data=EVIL, reason=EVIL)
    )
    page, said = browse(tmp_path, "--dump-dom")
    assert said == []
    assert "<title>digits · Running · Ziggurat</title>" in page
    assert "<img" not in page
