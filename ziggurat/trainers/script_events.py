"""Metrics in TensorBoard event files, read by tag while they grow.

The file's framing is read here, so that images and histograms are passed over without being taken into
memory; the records themselves are TensorBoard's protocol buffers.

Source: TensorFlow's TFRecord format: length (8 bytes), its checksum (4), the record, its checksum (4).
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ziggurat.trainers.script_files import found
from ziggurat.trainers.script_metrics import MetricSetting
from ziggurat.trainers.script_output import Tell

NAME = "events.out.tfevents"
LARGEST = 1 << 20
"""Bytes of a record that is looked at; scalars take some dozens."""
HEADER, FOOTER = 12, 4
MOST_FILES = 200


class EventFiles:
    """Reads all event files below a folder."""

    def __init__(self, pattern: str, metrics: Mapping[str, MetricSetting], tell: Tell) -> None:
        """Look for metrics by tag; TensorBoard's protocol buffers are imported (0.3 s)."""
        from tensorboard.compat.proto import event_pb2

        self._event: Any = event_pb2.Event
        self._pattern, self._tell = pattern, tell
        self._tags: dict[str, list[tuple[str, MetricSetting]]] = {}
        for name, metric in metrics.items():
            self._tags.setdefault(metric.called(name), []).append((name, metric))
        self._offsets = {path: path.stat().st_size for path in self._files()}

    def _files(self) -> list[Path]:
        files = [
            f for top in found(self._pattern) for f in ([top] if top.is_file() else top.rglob(f"*{NAME}*"))
        ]
        return sorted(f for f in files if NAME in f.name and f.is_file())[:MOST_FILES]

    def poll(self, *, final: bool) -> None:
        """Tell what is new."""
        del final
        for path in self._files():
            for record in self._records(path):
                self._record(record)

    def _records(self, path: Path) -> Iterator[bytes]:
        """Records that are there whole since the last look; a file that is something else gives none."""
        offset = self._offsets.get(path, 0)
        try:
            with path.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                while True:
                    file.seek(offset)
                    header = file.read(HEADER)
                    length = struct.unpack("<Q", header[:8])[0] if len(header) == HEADER else size
                    if offset + HEADER + length + FOOTER > size:
                        return
                    offset += HEADER + length + FOOTER
                    self._offsets[path] = offset
                    if length <= LARGEST:
                        yield file.read(length)
        except OSError:
            return

    def _record(self, record: bytes) -> None:
        from google.protobuf.message import DecodeError

        try:
            event = self._event.FromString(record)
        except DecodeError:
            return
        for value in event.summary.value:
            for name, metric in self._tags.get(value.tag, ()):
                number = _scalar(value)
                if number is not None:
                    step = float(event.step) if metric.step is not None else None
                    self._tell(name, number * metric.scale, step)


def _scalar(value: Any) -> float | None:  # noqa: ANN401 - a protocol buffer
    """The number of a summary, in its old form and in that of tensors."""
    if value.WhichOneof("value") == "simple_value":
        return float(value.simple_value)
    if value.WhichOneof("value") != "tensor":
        return None
    from tensorboard.util import tensor_util

    try:
        array = tensor_util.make_ndarray(value.tensor)
        return float(array.reshape(-1)[0]) if array.size == 1 else None
    except (TypeError, ValueError):
        return None
