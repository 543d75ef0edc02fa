"""The way into a Ray cluster: one connection for the whole process, and what can go wrong with it.

How the cluster authenticates is left to Ray and its environment (RAY_AUTH_MODE, RAY_AUTH_TOKEN_PATH).
"""

from __future__ import annotations

import importlib.util
import os
import signal
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import psutil

from ziggurat.errors import SpecError
from ziggurat.launchers import gpus

if TYPE_CHECKING:
    from ziggurat.launchers.ray_launcher import Ray

KNOCK_S = 3.0
OTHER_GPUS = ("/dev/kfd", "/dev/dri")
"""Where there are GPUs of AMD and Intel."""
MB = 2**20
QUIET = {
    "RAY_DEDUP_LOGS_SKIP_REGEX": "^",  # all of them: how jobs end is told by their trials
    "RAY_USAGE_STATS_ENABLED": "0",
}


class _Connection:
    """Who uses the connection of this process."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.users = 0
        self.address: str | None = None
        self.foreign = False


_connection = _Connection()


def installed() -> None:
    """Whether Ray is there.

    Raises:
        SpecError: It is not.
    """
    if importlib.util.find_spec("ray") is None:
        raise SpecError(
            "launcher.kind 'ray' needs Ray, not installed here; "
            'install the extra with pip install -e ".[ray]", or choose another launcher'
        )


def check(setting: Ray) -> None:
    """Whether Ray is installed and answers, and has a node that is large enough for a worker.

    Raises:
        SpecError: It does not.
    """
    installed()
    if setting.address is None:
        if not setting.wait_for_nodes and not setting.custom_resources:
            fits(setting, [this_machine()])
        return
    ray = enter(setting)
    try:
        if not setting.wait_for_nodes:
            fits(setting, [node["Resources"] for node in ray.nodes() if node["Alive"]])
    finally:
        leave()


def enter(setting: Ray) -> Any:  # noqa: ANN401 - the module
    """Connect this process, or share its connection; to be followed by one `leave`.

    Raises:
        SpecError: Ray is not installed or cannot be reached, or this process is in another cluster.
    """
    installed()
    with _connection.lock:
        for name, value in QUIET.items():
            os.environ.setdefault(name, value)
        import ray

        if _connection.users:
            if _connection.address != setting.address:
                raise SpecError(
                    f"launcher.address is {setting.address or 'left out'}, but another launcher of this run "
                    f"uses {_connection.address or 'a Ray of its own'}; give both the same address"
                )
        elif ray.is_initialized():
            _connection.foreign = True  # by the program that uses us: it stays as it is
        else:
            _knock(setting.address)
            _init(ray, setting)
            _connection.foreign = False
        _connection.users += 1
        _connection.address = setting.address
        return ray


def leave() -> None:
    """Give up a share of the connection; the last one disconnects."""
    with _connection.lock:
        _connection.users -= 1
        if _connection.users == 0 and not _connection.foreign:
            import ray

            with _own_signals():
                ray.shutdown()


def _knock(address: str | None) -> None:
    """Whether anything listens at an address; Ray itself takes minutes to give up."""
    if address in {None, "auto"}:
        return
    assert address is not None
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=KNOCK_S).close()
    except (OSError, OverflowError) as error:
        raise SpecError(
            f"launcher.address is {address}, but nothing answers there ({error}); "
            "start Ray on that machine (ray start --head), or correct host and port"
        ) from None


def _init(ray: Any, setting: Ray) -> None:
    local: dict[str, Any] = {"include_dashboard": False} if setting.address is None else {}
    try:
        with _own_signals():
            ray.init(
                address=setting.address or "local",
                namespace=setting.namespace,
                log_to_driver=False,
                logging_level="ERROR",
                **local,
            )
    except Exception as error:  # Ray raises many types, and only their texts differ
        raise SpecError(explain(setting.address, error)) from error


def explain(address: str | None, error: Exception) -> str:
    """Why Ray cannot be entered, and what to do, in one line."""
    where = f"launcher.address is {address}" if address else "launcher.kind is ray without an address"
    text = one_line(error)
    if "Version mismatch" in text:
        return f"{where}, where versions differ: {text}; use the same Ray and Python here and there"
    if type(error).__name__ == "AuthenticationError" or "nauthenticated" in text:
        return f"{where}, which wants a token: {text}"
    if address == "auto":
        return (
            f"{where}, but this machine belongs to no Ray cluster ({text}); start one (ray start), "
            "or give HOST:PORT"
        )
    return f"{where}, but Ray cannot be entered: {text}"


def one_line(error: BaseException | str, longest: int = 400) -> str:
    """A message of Ray without its line breaks, at a bearable length."""
    text = " ".join(str(error).split())
    return text if len(text) <= longest else f"{text[: longest - 3]}..."


@contextmanager
def _own_signals() -> Iterator[None]:
    """Keep this process's reaction to SIGTERM, which Ray would replace."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def demand(setting: Ray) -> dict[str, float]:
    """What a worker takes of its node, in Ray's words and units."""
    plain = {"CPU": float(setting.resources.cpus), "GPU": float(setting.resources.gpus)}
    if setting.resources.memory_mb is not None:
        plain["memory"] = float(setting.resources.memory_mb * MB)
    return {name: amount for name, amount in (plain | setting.custom_resources).items() if amount}


def this_machine() -> Mapping[str, float]:
    """What a Ray that is started here would have at most; only Ray itself counts GPUs of other makers."""
    return {
        "CPU": float(os.cpu_count() or 1),
        "memory": float(psutil.virtual_memory().total),
        "GPU": float("inf") if any(map(os.path.exists, OTHER_GPUS)) else float(len(gpus.visible())),
    }


def fits(setting: Ray, nodes: Sequence[Mapping[str, float]]) -> None:
    """Whether any node is large enough for a worker.

    Raises:
        SpecError: None is.
    """
    wanted = demand(setting)
    if any(all(node.get(name, 0.0) >= amount for name, amount in wanted.items()) for node in nodes):
        return
    where = f"the {len(nodes)} nodes of Ray" if len(nodes) != 1 else "the one node of Ray"
    scarce = [
        f"{_amount(name, amount)} (the most is {_amount(name, most)})"
        for name, amount in wanted.items()
        if (most := max((n.get(name, 0.0) for n in nodes), default=0.0)) < amount
    ]
    cure = (
        "lower launcher.resources and custom_resources, or set launcher.wait_for_nodes: true "
        "if larger nodes are still to join"
    )
    if scarce:
        raise SpecError(f"launcher.resources: a worker needs {', '.join(scarce)} of {where}; {cure}")
    all_of_it = ", ".join(_amount(name, amount) for name, amount in wanted.items())
    raise SpecError(
        f"launcher.resources: a worker needs {all_of_it}, but none of {where} has all of it; {cure}"
    )


def _amount(name: str, amount: float) -> str:
    words = {"CPU": "cpus", "GPU": "gpus", "memory": "MB of memory"}
    return f"{amount / MB if name == 'memory' else amount:g} {words.get(name, name)}"
