"""One of several processes that train a segment together: `python -m ziggurat.rank FOLDER`.

It is started by torch's elastic launcher, which tells it by its environment which one it is; `ziggurat.ddp`
tells the rest. The first process reports and writes the checkpoint.
"""

from __future__ import annotations

import json
import os
import queue
import socket
import sys
import threading
import traceback
from collections.abc import Sequence
from pathlib import Path

from ziggurat import ddp
from ziggurat.domain import Failure, FailureKind, Measurement
from ziggurat.events import to_plain
from ziggurat.jobs import Desk
from ziggurat.performing import classify

_GONE = ("onnection closed by peer", "onnection reset by peer", "Broken pipe", "remote process exited")
"""What torch says in a process when another one is gone."""


class Line:
    """The line to the process that has asked for the training; this one ends with it."""

    def __init__(self, path: Path) -> None:
        """Connect, and listen in the background."""
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(path))
        self.answers: queue.Queue[dict[str, bool]] = queue.Queue()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        with self._socket.makefile("rb") as answers:
            for answer in answers:
                self.answers.put(json.loads(answer))
        os._exit(1)

    def say(self, **message: object) -> None:
        """Send a message."""
        self._socket.sendall(json.dumps(message).encode() + b"\n")


def join() -> int:
    """Join the others; the number of this process is returned."""
    import torch
    from torch import distributed

    gpus = torch.cuda.device_count()
    if gpus:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]) % gpus)
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # all are on this machine
    distributed.init_process_group("nccl" if gpus >= int(os.environ["WORLD_SIZE"]) else "gloo")
    return distributed.get_rank()


def train(folder: Path, line: Line) -> None:
    """Train with the others, and say how it ends."""
    from ziggurat.trainers import StopTraining

    order = ddp.Order.read(folder)
    rank = join()

    def report(measurements: Sequence[Measurement]) -> None:
        if measurements and not rank:
            line.say(**{"is": "row", "measurements": to_plain(tuple(measurements))})
            if line.answers.get()["stop"]:
                raise StopTraining

    desk = Desk(order.run, f"rank-{rank}")
    desk.lenient = order.lenient
    desk.warm(fit=False)
    try:
        trained = desk.training(order.job, report, order.place, order.resume)()
    except StopTraining as error:
        line.say(**{"is": "stopped", "checkpoint": error.checkpoint})
        return
    if not rank:
        found = to_plain(trained.measurements)
        line.say(**{"is": "done", "measurements": found, "checkpoint": str(trained.checkpoint)})


def main() -> None:
    """Train; whatever goes wrong is said before this process ends."""
    folder = Path(sys.argv[1])
    line, code = Line(folder / ddp.LINE), 0
    try:
        train(folder, line)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - it is classified and told
        traceback.print_exc()
        failure = classify(error)
        if any(words in str(error) for words in _GONE):
            failure = Failure(FailureKind.LOST, "another process of the training has died")
        line.say(**{"is": "failed", "kind": failure.kind.value, "text": failure.text})
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # torch's threads are not waited for


if __name__ == "__main__":
    main()
