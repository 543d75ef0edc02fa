"""What Slurm's words mean, without a Slurm."""

import os

import pytest

from ziggurat.launchers import slurm
from ziggurat.launchers.scheduler import State


@pytest.mark.parametrize(
    ("word", "state"),
    [
        ("PENDING", State.PENDING),
        ("CONFIGURING", State.PENDING),
        ("SUSPENDED", State.PENDING),
        ("REQUEUED", State.PENDING),
        ("RUNNING", State.RUNNING),
        ("COMPLETING", State.RUNNING),
        ("COMPLETED", State.SUCCEEDED),
        ("FAILED", State.FAILED),
        ("CANCELLED", State.CANCELLED),
        ("PREEMPTED", State.PREEMPTED),
        ("TIMEOUT", State.TIMEOUT),
        ("DEADLINE", State.TIMEOUT),
        ("OUT_OF_MEMORY", State.OUT_OF_MEMORY),
        ("NODE_FAIL", State.NODE_LOST),
        ("BOOT_FAIL", State.NODE_LOST),
    ],
)
def test_each_cause_of_an_end_keeps_its_name(word: str, state: State) -> None:
    condition = slurm.condition_of(slurm.Row("7", word))
    assert condition.state is state
    assert word in condition.text


def test_a_requeued_job_waits_again_and_its_text_says_so() -> None:
    row = slurm.parsed("12|PENDING|BeginTime|1|0||zig-a|")
    assert row is not None
    condition = slurm.condition_of(row)
    assert condition.state is State.PENDING
    assert condition.text == "PENDING (BeginTime), queued again 1 time"


def test_a_job_that_slurm_cannot_start_and_holds_does_not_wait_for_ever() -> None:
    row = slurm.parsed("12|PENDING|launch failed requeued held|3|0||zig-a|")
    assert row is not None
    assert slurm.condition_of(row).state is State.NODE_LOST


def test_exit_codes_and_signals_are_told_apart() -> None:
    failed = slurm.parsed("12|FAILED|NonZeroExitCode|0|768|node7|zig-a|")
    assert failed is not None
    assert slurm.condition_of(failed).text == "FAILED (NonZeroExitCode) on node7, exit code 3"
    assert not slurm.ended_by_force(failed)
    assert slurm.exit_words(9) == "ended by SIGKILL"
    assert slurm.ended_by_force(slurm.Row("1", "FAILED", status=9))
    assert slurm.ended_by_force(slurm.Row("1", "FAILED", status=137 << 8))


@pytest.mark.parametrize(
    "line", ["", "JOBID|STATE|REASON|RESTARTS|EXIT|NODE|NAME|", "12|RUNNING|", "garbage"]
)
def test_a_line_that_is_no_job_is_left_out(line: str) -> None:
    assert slurm.parsed(line) is None


def test_only_the_daemon_itself_is_believed_about_memory() -> None:
    said = "slurmstepd-node7: error: StepId=1.0 exceeded memory limit (408 > 104), being killed"
    assert slurm.memory_words(["x", said]) == said.partition("error: ")[2]
    handler = "slurmstepd: error: Detected 1 oom-kill event(s) in StepId=5.0. Some of your processes..."
    assert slurm.memory_words([handler])
    assert slurm.memory_words(["my error: exceeded memory limit", "an error: oom-kill"]) == ""


def test_an_allocation_of_the_controller_is_not_handed_on() -> None:
    mine = {"SLURM_JOB_ID": "1", "SLURM_CPU_BIND": "x", "SQUEUE_PARTITION": "p", "PMI_RANK": "0"}
    kept = {"SLURM_CONF": "/c", "SBATCH_RESERVATION": "r", "PATH": "/bin"}
    assert slurm.own_environment(mine | kept) == kept


def test_a_missing_program_is_told_with_its_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(slurm.SlurmError, match="`squeue` is not on the PATH; start the controller where"):
        slurm.listed()


def test_accounting_is_read_where_there_is_some(
    tmp_path: os.PathLike[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = ["5|CANCELLED by 1000|0:15|n1", "6|OUT_OF_MEMORY|0:125|n1", "7|FAILED|3:0|n2", "8|TIMEOUT|0:0|n2"]
    program = f"{tmp_path}/sacct"
    with open(program, "w") as file:  # noqa: PTH123
        file.write("#!/bin/sh\ncat <<'END'\n" + "\n".join(rows) + "\nEND\n")
    os.chmod(program, 0o755)  # noqa: PTH101
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    found = slurm.accounted(["5", "6", "7"])
    assert {n: c.state for n, c in found.items()} == {
        "5": State.CANCELLED,
        "6": State.OUT_OF_MEMORY,
        "7": State.FAILED,
    }
    assert "exit code 3" in found["7"].text


@pytest.mark.parametrize(
    ("said", "cure"),
    [
        ("slurm_load_partitions: Unable to contact slurm controller (connect failure)", "see with `sinfo`"),
        ("invalid partition specified: lwo", "correct launcher.settings.partition"),
        ("Unable to process configuration file", "correct the file that SLURM_CONF names"),
        ("allocation failure: Invalid feature specification", "correct launcher.settings.constraint"),
        ("Invalid --time specification", "correct launcher.settings.time"),
        ("Requested node configuration is not available", "ask for less under launcher.resources"),
        ("something new", "correct launcher.settings"),
    ],
)
def test_what_slurm_refuses_is_told_with_a_cure(said: str, cure: str) -> None:
    from ziggurat.launchers.torchx_slurm import _cured

    assert _cured(slurm.SlurmError(f"`sbatch` says: {said}")).startswith(f"`sbatch` says: {said}; {cure}")
