"""What a job has written is read with suspicion: broken or made up, it harms its own trial at most."""

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ziggurat.domain import FailureKind, Job, JobKind
from ziggurat.events import to_plain
from ziggurat.launchers.results import from_plain, heard, parsed, read_result, result_path

JOB = Job("00003-train-1-0", JobKind.TRAIN, "search", 3, seed=7)
OUTSIDE = [
    "../../etc/passwd",
    "/etc/passwd",
    "trials/00003/../00004/rung-1.ckpt",
    "trials/00004/rung-1.ckpt",
    "trials/000031/rung-1.ckpt",
    "spec.yaml",
    "trials/00003/a\x00b",
    "trials/00003\\rung-1.ckpt",
    "",
    7,
    ["trials/00003/rung-1.ckpt"],
]
RESULT = {"job": to_plain(JOB), "seconds": 5.0, "checkpoint": "trials/00003/rung-1.ckpt", "measurements": []}
BEAT = {**RESULT, "lost_s": 1.0, "starts": 1, "utc": 12.0, "rows": [[1, [{"metric": "a", "value": 1.0}]]]}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=6,
)


def broken(plain, changes):
    return json.loads(json.dumps({**plain, **changes}))


def test_what_is_sound_is_taken():
    found = from_plain(broken(RESULT, {}), JOB)
    assert (found.failure, found.seconds, found.checkpoint) == (None, 5.0, "trials/00003/rung-1.ckpt")
    beat = heard(broken(BEAT, {}), JOB)
    assert (beat["seconds"], beat["checkpoint"], beat["rows"][0][0]) == (5.0, "trials/00003/rung-1.ckpt", 1)
    assert from_plain({**RESULT, "job": {}}, JOB) is None
    assert heard({**BEAT, "job": {}}, JOB) is None


@pytest.mark.parametrize("path", OUTSIDE)
def test_a_checkpoint_outside_of_its_trial_is_refused(path):
    found = from_plain({**RESULT, "checkpoint": path}, JOB)
    assert (found.failure.kind, found.checkpoint) == (FailureKind.LOST, None)
    assert "is not in trials/00003" in found.failure.text
    assert found.seconds == 5.0  # they are paid all the same
    assert heard({**BEAT, "checkpoint": path}, JOB) is None


@pytest.mark.parametrize("seconds", [-1, math.nan, math.inf, 10**400, "many", None])
def test_seconds_that_no_machine_can_have_worked_cost_nothing(seconds):
    found = from_plain({**RESULT, "seconds": seconds}, JOB)
    assert (found.failure.kind, found.seconds) == (FailureKind.LOST, 0.0)
    assert heard({**BEAT, "seconds": seconds}, JOB) is None
    assert heard({**BEAT, "starts": math.inf}, JOB) is None


@settings(max_examples=150, deadline=None)
@given(key=st.sampled_from(sorted({*RESULT, *BEAT, "failure", "retry"} - {"job"})), value=JSON)
def test_nothing_that_a_job_writes_breaks_its_controller(key, value):
    found = from_plain(broken(RESULT, {key: value}), JOB)
    assert found is not None
    assert found.done
    assert 0 <= found.seconds < math.inf
    beat = heard(broken(BEAT, {key: value}), JOB)
    assert beat is None or beat["seconds"] >= 0


@settings(max_examples=60, deadline=None)
@given(end=st.integers(0, 400), noise=st.binary(max_size=4))
def test_a_file_that_is_cut_off_is_not_there_yet(end, noise):
    raw = json.dumps(RESULT).encode()
    found = parsed(raw[:end] + noise)
    assert found is None or isinstance(found, dict)
    assert parsed(raw[: len(raw) // 2]) is None
    assert parsed(b"[1, 2]") is None


def test_a_broken_file_is_no_result(tmp_path):
    path = result_path(tmp_path, JOB.key)
    path.parent.mkdir(parents=True)
    path.write_bytes(b'{"job": {"key"')
    assert read_result(tmp_path, JOB) is None
    path.write_bytes(b"\xff\xfe\x00")
    assert read_result(tmp_path, JOB) is None
