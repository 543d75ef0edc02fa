"""A real Slurm on this machine: munged, slurmctld and one slurmd, in a folder of their own.

Two partitions share the one node: jobs in `urgent` pre-empt jobs in `low`, which get SIGTERM, five seconds,
and a place in the queue again. There is no accounting and there are no cgroups, as in a container; memory is
watched by polling. The daemons listen on loopback and are ended by their process ids.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

PATIENCE_S = 60.0
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scontrol", "scancel")

CONFIGURATION = """
ClusterName=ziggurat
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort={ctld_port}
SlurmdPort={slurmd_port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CryptoType=crypto/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
PluginDir={plugins}
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU={memory_of_a_cpu}
SchedulerParameters=batch_sched_delay=0,sched_interval=2,sched_min_interval=0
JobRequeue=1
KillWait=2
ReturnToService=2
MinJobAge={keep_s}
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
NodeName=localhost NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={memory} State=UNKNOWN
PartitionName=low Nodes=localhost Default=YES MaxTime=INFINITE State=UP PriorityTier=1 GraceTime=5
PartitionName=urgent Nodes=localhost MaxTime=INFINITE State=UP PriorityTier=10
"""


def why_not() -> str | None:
    """Why Slurm cannot run here; None if it can."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    missing = [p for p in PROGRAMS if shutil.which(p, path=path) is None]
    if missing:
        return f"needs {', '.join(missing)} (Debian: apt-get install slurm-wlm munge)"
    return None if os.geteuid() == 0 else "needs root, who Slurm's daemons run as"


def _ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(p.getsockname()[1]) for p in probes]
    finally:
        for probe in probes:
            probe.close()


def _plugins() -> Path:
    found = sorted(Path("/usr/lib").glob("*/slurm*/select_cons_tres.so"))
    return found[0].parent if found else Path("/usr/lib/slurm")


class SlurmServer:
    """A running Slurm; `environment` lets Slurm's programs find it."""

    def __init__(self, folder: Path, cpus: int = 2, keep_s: int = 300) -> None:
        """Start it, and wait until its node takes jobs."""
        self.folder = folder
        self.path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
        self.configuration = folder / "slurm.conf"
        self.environment = {"SLURM_CONF": str(self.configuration)}
        self._processes: list[subprocess.Popen[bytes]] = []
        ctld_port, slurmd_port = _ports(2)
        # a node with less than it is said to have takes no jobs
        memory = int(psutil.virtual_memory().total / 2**20 * 0.9)
        for name in ("state", "spool", "munge"):
            (folder / name).mkdir()
        self.configuration.write_text(
            CONFIGURATION.format(
                folder=folder,
                plugins=_plugins(),
                cpus=cpus,
                memory=memory,
                memory_of_a_cpu=memory // cpus,
                keep_s=keep_s,
                ctld_port=ctld_port,
                slurmd_port=slurmd_port,
            )
        )
        try:
            self._start_munge()
            self._daemon("slurmctld", "-D", "-c", "-i")
            self._daemon("slurmd", "-D", "-N", "localhost")
            self._wait_for_node()
        except BaseException:
            self.close()
            raise

    def _start_munge(self) -> None:
        key = self.folder / "munge" / "key"
        key.write_bytes(os.urandom(64))
        key.chmod(0o400)
        (self.folder / "munge").chmod(0o700)
        self._daemon(
            "munged",
            "--foreground",
            "--force",
            "--num-threads=2",
            f"--key-file={key}",
            f"--socket={self.folder}/munge.socket",
            f"--pid-file={self.folder}/munge/pid",
            f"--log-file={self.folder}/munge/log",
            f"--seed-file={self.folder}/munge/seed",
        )
        self._until((self.folder / "munge.socket").exists, "munged does not answer")

    def _daemon(self, program: str, *arguments: str) -> None:
        executable = shutil.which(program, path=self.path)
        assert executable is not None, program
        with (self.folder / f"{program}.out").open("ab") as out:
            self._processes.append(
                subprocess.Popen(
                    [executable, *arguments],
                    env={**os.environ, **self.environment},
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=out,
                    cwd=self.folder,
                    start_new_session=True,
                )
            )

    def resume(self) -> None:
        """Bring the node back, as soon as Slurm has let go of what ran there."""

        def idle() -> bool:
            self.run("scontrol", "update", "NodeName=localhost", "State=RESUME", check=False)
            return set(self.run("sinfo", "-h", "-o", "%T").split()) == {"idle"}

        self._until(idle, "the node does not come back")

    def _wait_for_node(self) -> None:
        self._until(
            lambda: set(self.run("sinfo", "-h", "-o", "%T", check=False).split()) == {"idle"},
            "the node does not come up",
        )

    def _until(self, condition: Callable[[], object], otherwise: str) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            dead = [p.args for p in self._processes if p.poll() is not None]
            assert not dead, f"{dead} ended; {self.logs()}"
            assert time.monotonic() < deadline, f"{otherwise}; {self.logs()}"
            time.sleep(0.05)

    def logs(self) -> str:
        """The ends of all logs, for a message."""
        paths = sorted([*self.folder.glob("*.log"), *self.folder.glob("*.out")])
        return "\n".join(f"{p.name}: {p.read_text(errors='replace')[-1500:]}" for p in paths)

    def run(self, *command: str, check: bool = True) -> str:
        """What one of Slurm's programs prints."""
        done = subprocess.run(
            command,
            env={**os.environ, **self.environment, "PATH": self.path},
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert done.returncode == 0 or not check, f"{command}: {done.stderr}"
        return done.stdout

    def close(self) -> None:
        """End all jobs, then the daemons, the controller first."""
        with contextlib.suppress(AssertionError, subprocess.TimeoutExpired):
            self.run("scancel", "--state=PENDING", "--user=root", check=False)
            self.run("scancel", "--signal=KILL", "--full", "--user=root", check=False)
            self.run("scancel", "--user=root", check=False)
        for process in reversed(self._processes):
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
        for process in self._processes:
            try:
                process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(timeout=5)


@contextlib.contextmanager
def started(keep_s: int = 300) -> Iterator[SlurmServer]:
    """A Slurm of one's own, that this process and its children find."""
    # Slurm's sockets have paths of at most 108 characters, which pytest's folders may exceed
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))
    server = None
    before = {name: os.environ.get(name) for name in ("SLURM_CONF", "PATH")}
    try:
        server = SlurmServer(folder, keep_s=keep_s)
        os.environ.update(server.environment, PATH=server.path)
        yield server
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        if server is not None:
            server.close()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def slurm_server() -> Iterator[SlurmServer]:
    """A running Slurm; tests that use it are marked `slurm`."""
    reason = why_not()
    if reason is not None:
        pytest.skip(reason)
    with started() as server:
        yield server
