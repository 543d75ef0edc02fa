"""Where metrics are read: each source, its steps, and what does not belong to this training."""

import csv
import json
import math
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.trainers.scripts import Bench
from ziggurat.domain import FailureKind
from ziggurat.trainers import Diverged, TrainingFailed
from ziggurat.trainers.script_events import EventFiles
from ziggurat.trainers.script_files import CsvFiles, JsonLines, Result
from ziggurat.trainers.script_metrics import Found, MetricSetting
from ziggurat.trainers.script_output import LONGEST, OutputReader

FOUR = "for epoch in range(1, 5):\n    "


@pytest.fixture
def bench(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return Bench(tmp_path)


def metric(source, **changes):
    return MetricSetting.model_validate({"from": source, **changes})


def printed(text, step=None, **metrics):
    """What is told of some output, fed in pieces of three bytes."""
    told = []
    sought = {name: metric("stdout", **changes) for name, changes in metrics.items()}
    reader = OutputReader(sought, lambda *each: told.append(each))
    data = text.encode()
    for at in range(0, len(data), 3):
        reader.feed(data[at : at + 3])
    reader.finish()
    return told


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("acc=0.5", 0.5), ("acc: 0.5", 0.5), ("epoch 3 acc = 5e-1, loss=2", 0.5), ("acc=.5", 0.5),
        ("{'acc': 0.5, 'loss': 1}", 0.5), ('{"acc": 0.5}', 0.5), ("acc=tensor(0.5000)", 0.5),
        ("acc=50%", 0.5),
        ("acc=0.5.", 0.5), ("10%|##| acc=0.5\r", 0.5), ("acc=1", 1.0), ("acc: -2.5e+1", -25.0),
        ("val_acc=0.5", None), ("acc2=0.5", None), ("acc=0.5x", None), ("acc=1.2.3", None),
        ("acc=high", None),
        ("train/acc=0.5", None), ("accuracy=0.5", None), ("acc 0.5", None), ("--acc=0.5", None),
    ],
)  # fmt: skip
def test_a_name_and_a_number_are_found_in_a_line(line, value):
    assert printed(line + "\n", acc={}) == ([] if value is None else [("acc", value, None)])


def test_a_pattern_finds_the_number_and_another_one_the_epoch_on_this_line_or_before():
    text = "Epoch 1/2\n  val: loss 0.9 (best)\nEpoch 2/2 loss 0.8\nloss oops\nloss 7"
    found = printed(text, val_loss={"pattern": r"loss ([0-9.]+)", "step": r"Epoch (\d+)/"})
    assert found == [("val_loss", 0.9, 1.0), ("val_loss", 0.8, 2.0), ("val_loss", 7.0, 2.0)]


def test_a_metric_may_have_another_name_in_the_output_and_another_scale():
    assert printed("test acc: 12", val_accuracy={"key": "test acc", "scale": 0.01}) == [
        ("val_accuracy", 0.12, None)
    ]


def test_only_the_beginning_of_an_endless_line_is_looked_at():
    text = "x" * (LONGEST - 10) + " acc=0.5 " + "y" * LONGEST + " acc=0.6 \nacc=0.7\n"
    assert printed(text, acc={}) == [("acc", 0.5, None), ("acc", 0.7, None)]


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_any_bytes_can_be_printed_before_and_after_a_metric(before, after):
    told = []
    reader = OutputReader({"zq": metric("stdout")}, lambda *each: told.append(each))
    reader.feed(before + b"\nzq=0.5\n" + after)
    reader.finish()
    assert ("zq", 0.5, None) in told


def test_standard_error_is_read_where_the_spec_says_so(bench):
    code = "import sys; print('loss=1'); print('INFO:root:loss=2', file=sys.stderr)"
    setting = bench.setting(code, metrics={"val_loss": {"from": "stderr", "key": "loss"}})
    assert bench.values(setting) == {"val_loss": 2.0}


def test_rows_come_while_the_script_runs_and_hold_all_metrics_of_an_epoch(bench, monkeypatch):
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    code = """
        import os, sys, time
        end = time.monotonic() + 30
        for epoch in range(1, 5):
            print(f"train_loss={1 / epoch}")
            print(f"val_accuracy={epoch / 10}")
            while epoch < 4 and not os.path.exists(f"seen{epoch}"):
                if time.monotonic() > end: sys.exit("nobody has seen it")
                time.sleep(0.01)
    """
    keep = bench.report

    def report(row):
        keep(row)
        Path(f"seen{row[0].step}").touch()

    bench.report = report
    bench.train(bench.setting(code, metrics={"val_accuracy": "stdout", "train_loss": "stdout"}))
    assert bench.rows == [(e, {"train_loss": 1 / e, "val_accuracy": e / 10}) for e in (1, 2, 3, 4)]


def test_the_file_of_the_environment_is_always_read_in_both_forms(bench):
    code = """
        import json, os
        file = open(os.environ["ZIGGURAT_METRICS_FILE"], "w")
        for line in (
            {"epoch": 1, "val_accuracy": 0.25, "note": "x", "ok": True},
            {"metric": "val_loss", "value": 0.5, "step": 1}, {"metric": "val/loss", "value": 9}, [1], "a", 7,
            {"epoch": 4, "val_accuracy": 0.75},
        ):
            file.write(json.dumps(line) + "\\n")
        file.write("no json\\n" + "[" * 70000 + "\\n" + '{"epoch": 4, "val_loss": 0.25}')
    """
    assert bench.values(bench.setting(code)) == {"val_accuracy": 0.75, "val_loss": 0.25}
    assert bench.rows == [
        (1, {"val_accuracy": 0.25, "val_loss": 0.5}),
        (4, {"val_accuracy": 0.75, "val_loss": 0.25}),
    ]
    elsewhere = bench.setting(code + "    print('val_loss=3')", metrics={"val_loss": "stdout"})
    assert bench.values(elsewhere) == {"val_loss": 3.0, "val_accuracy": 0.75}


def test_json_lines_are_read_by_column_and_step(bench):
    code = "import json\nfor e in range(4):\n    print(json.dumps({'ep': e, 'eval': {'x': 1}, 'acc': e / 4}),"
    code += "file=open('log.jsonl', 'a'))"
    spec = {"from": "jsonl", "path": "log.jsonl", "column": "acc", "step": "ep"}
    found = bench.values(bench.setting(code, first_epoch=0, metrics={"val_accuracy": spec}))
    assert found == {"val_accuracy": 0.75}
    assert bench.rows == [(n, {"val_accuracy": (n - 1) / 4}) for n in (1, 2, 3, 4)]
    bench.rows.clear()
    bench.values(bench.setting(code, first_epoch=0, metrics={"val_accuracy": spec}))
    assert len(bench.rows) == 4  # the lines of the first training are not this one's


LIGHTNING = """
import csv, os, sys
path = sys.argv[1] + "/lightning_logs/version_0/metrics.csv"
os.makedirs(os.path.dirname(path))
rows, keys = [], ["epoch", "step", "train_loss"]
def save():
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=sorted(keys)); writer.writeheader(); writer.writerows(rows)
for epoch in range(4):
    rows.append({"epoch": epoch, "step": 10 * epoch, "train_loss": 1 / (epoch + 1)}); save()
    if "val_accuracy" not in keys: keys.append("val_accuracy")
    rows.append({"epoch": epoch, "step": 10 * epoch + 9, "val_accuracy": epoch / 4}); save()
"""


def test_lightnings_csv_is_read_with_its_empty_cells_and_rewritten_header(bench):
    metrics = {
        "val_accuracy": {"from": "csv", "step": "epoch"},
        "train_loss": {"from": "csv", "step": "epoch"},
    }
    setting = bench.setting(LIGHTNING, "${output_dir}", metrics=metrics, first_epoch=0)
    assert bench.values(setting) == {"val_accuracy": 0.75, "train_loss": 0.25}
    assert bench.rows == [(e, {"train_loss": 1 / e, "val_accuracy": (e - 1) / 4}) for e in (1, 2, 3, 4)]


class Told(list):
    """Collects what a reader tells."""

    def __call__(self, *each):
        self.append(each)


def write(path, rows):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)


def test_a_csv_that_comes_back_with_another_header_tells_no_row_twice(tmp_path):
    told, path = Told(), tmp_path / "metrics.csv"
    reader = CsvFiles(str(path), {"acc": metric("csv")}, told)
    write(path, [["epoch", "acc"], [1, 0.1], [2, 0.2]])
    reader.poll(final=False)
    write(path, [["acc", "epoch", "loss"], [0.1, 1, ""], [0.2, 2, ""], [0.3, 3, 9]])
    reader.poll(final=False)
    assert len(told) == 2  # its writer may be at work
    reader.poll(final=False)
    with path.open("a") as file:
        file.write("0.4,4,9\n0.5")
    reader.poll(final=False)
    assert [v for _, v, _ in told] == [0.1, 0.2, 0.3, 0.4]
    reader.poll(final=True)
    assert told[-1] == ("acc", 0.5, None)
    write(path, [["acc"], [0.9]])
    reader.poll(final=True)
    assert told[-1] == ("acc", 0.9, None)


def test_a_csv_of_an_earlier_training_is_passed_over_and_what_is_appended_is_not(tmp_path):
    told, path = Told(), tmp_path / "metrics.csv"
    write(path, [["epoch", "acc"], [1, 0.1]])
    reader = CsvFiles(str(path), {"acc": metric("csv", step="epoch")}, told)
    reader.poll(final=False)
    with path.open("a") as file:
        file.write("2,0.2\n")
    reader.poll(final=True)
    assert told == [("acc", 0.2, 2.0)]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_csv_may_have_another_delimiter_and_a_byte_order_mark(tmp_path, delimiter):
    told, path = Told(), tmp_path / "m.csv"
    reader = CsvFiles(str(path), {"a": metric("csv")}, told)
    path.write_text("\ufeff" + delimiter.join(["a", "b"]) + "\r\n" + delimiter.join(["0.5", "x"]) + "\r\n")
    reader.poll(final=True)
    assert told == [("a", 0.5, None)]


@given(st.lists(st.binary(max_size=60), max_size=6))
def test_files_of_any_bytes_are_borne(tmp_path_factory, parts):
    folder = tmp_path_factory.mktemp("any")
    told, path = Told(), folder / "events.out.tfevents.1"
    make = [
        JsonLines(str(path), {}, told, ()),
        CsvFiles(str(path), {"a": metric("csv")}, told),
        Result(str(path), {"a": metric("result")}, told),
        EventFiles(str(folder), {"a": metric("tensorboard")}, told),
    ]
    with path.open("wb") as file:
        for part in parts:
            file.write(part)
            file.flush()
            for reader in make:
                reader.poll(final=False)
    for reader in make:
        reader.poll(final=True)


def test_json_lines_that_are_too_long_are_passed_over(tmp_path):
    told, path = Told(), tmp_path / "m.jsonl"
    reader = JsonLines(str(path), {"a": metric("jsonl")}, told)
    with path.open("w") as file:
        file.write(json.dumps({"a": 1, "x": "y" * 9_000_000}) + "\n" + '{"a": 2}\n' + "z" * 5_000_000)
    reader.poll(final=False)
    reader.poll(final=True)
    assert told == [("a", 2.0, None)]


def test_a_result_is_read_at_the_end_unless_it_is_older_than_the_training(bench):
    code = "import json, sys; json.dump({'best': {'acc': 0.5}, 'val.loss': 2}, open(sys.argv[1], 'w'))"
    metrics = {
        "val_accuracy": {"from": "result", "key": "best.acc"},
        "val_loss": {"from": "result", "key": "val.loss"},
    }
    setting = bench.setting(code, "${output_dir}/result.json", metrics=metrics)
    assert bench.values(setting) == {"val_accuracy": 0.5, "val_loss": 2.0}
    Path("old.json").write_text('{"acc": 0.5}')
    stale = {"val_accuracy": {"from": "result", "path": "old.json", "key": "acc"}}
    with pytest.raises(TrainingFailed, match=r"told no val_accuracy: old.json has no number 'acc'") as caught:
        bench.train(bench.setting("", metrics=stale))
    assert caught.value.kind is FailureKind.NO_METRIC


def test_paths_may_hold_letters_that_mean_something_in_a_pattern(tmp_path, monkeypatch):
    folder = tmp_path / "a[1] *"
    folder.mkdir()
    monkeypatch.chdir(folder)
    bench = Bench(folder)
    code = "import sys; open(sys.argv[1] + '/sub-metrics.csv', 'w').write('val_loss\\n2\\n')"
    metrics = {"val_loss": {"from": "csv", "path": "${output_dir}/*-metrics.csv"}}
    assert bench.values(bench.setting(code, "${output_dir}", metrics=metrics)) == {"val_loss": 2.0}


def test_tensorboard_files_are_read_by_tag_while_they_grow(tmp_path):
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.event_file_writer import EventFileWriter
    from tensorboard.util import tensor_util

    def event(step, *values):
        return Event(step=step, summary=Summary(value=values))

    earlier = EventFileWriter(str(tmp_path / "runs"))
    earlier.add_event(event(9, Summary.Value(tag="val/acc", simple_value=0.9)))
    earlier.close()
    told = Told()
    metrics = {
        "val_accuracy": metric("tensorboard", tag="val/acc"), "val_loss": metric("tensorboard", step="step"),
    }  # fmt: skip
    reader = EventFiles(str(tmp_path), metrics, told)
    writer = EventFileWriter(str(tmp_path / "runs" / "x"))
    images = tensor_util.make_tensor_proto([1.0] * 300_000)
    writer.add_event(event(100, Summary.Value(tag="val/acc", tensor=images)))
    writer.add_event(event(100, Summary.Value(tag="val/acc", simple_value=0.5)))
    writer.flush()
    reader.poll(final=False)
    reader.poll(final=False)
    assert told == [("val_accuracy", 0.5, None)]
    loss = Summary.Value(tag="val_loss", tensor=tensor_util.make_tensor_proto(0.25))
    writer.add_event(event(2, loss, Summary.Value(tag="other", simple_value=1)))
    writer.close()
    reader.poll(final=False)
    assert told[1:] == [("val_loss", 0.25, 2.0)]
    (file,) = (tmp_path / "runs" / "x").iterdir()
    data = file.read_bytes()
    half, rest = data[:-7], data[-7:]
    (tmp_path / "runs" / "y").mkdir()
    copy = tmp_path / "runs" / "y" / file.name
    copy.write_bytes(half)
    reader.poll(final=False)
    assert len(told) == 3
    copy.write_bytes(half + rest)
    reader.poll(final=False)
    assert told[3:] == [("val_loss", 0.25, 2.0)]


@pytest.mark.slow  # MLflow is imported twice, and makes its database
def test_a_script_that_logs_with_mlflow_is_given_a_run_that_is_read(bench, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    code = """
        import os, sys, mlflow
        given = os.environ["MLFLOW_RUN_ID"]
        with mlflow.start_run() as run:
            assert run.info.run_id == given
            for epoch in range(1, 5):
                mlflow.log_metric("acc", epoch / 10, step=epoch)
    """
    setting = bench.setting(code, metrics={"val_accuracy": {"from": "mlflow", "key": "acc", "step": "step"}})
    setting = setting.model_copy(update={"command": [sys.executable, *setting.command[2:]]})
    assert bench.values(setting) == {"val_accuracy": 0.4}
    assert bench.rows == [(n, {"val_accuracy": n / 10}) for n in (1, 2, 3, 4)]
    assert (bench.trial / "output/00003-train-1-0/mlflow.db").exists()
    assert not Path("mlruns").exists()


def test_without_a_metric_from_mlflow_the_script_gets_no_run(bench, monkeypatch):
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
    assert bench.values(
        bench.setting("import os; print(f'val_loss={int(\"MLFLOW_RUN_ID\" in os.environ)}')")
    ) == {"val_loss": 0.0}


def found(epochs=4, begun=0, rowed=("a", "b"), **changes):
    return Found(("a", "b"), frozenset(rowed) if rowed is not None else None, begun, epochs, **changes)


def rows(story, **changes):
    return [(row[0].step, {m.metric: m.value for m in row}) for row in story.rows(**changes)]


def test_values_are_counted_from_where_the_training_goes_on():
    story = found(begun=2, rowed=("a",))
    for value in (3, 4, 5):
        story.tell("a", value)
    assert rows(story) == [(3, {"a": 3.0}), (4, {"a": 5.0})]
    story.tell("a", 6)
    assert rows(story, final=True) == []
    assert story.last == {"a": 6}


def test_a_row_waits_for_all_its_metrics_or_for_a_later_epoch():
    story = found()
    story.tell("a", 1)
    assert rows(story) == []
    story.tell("b", 1)
    assert rows(story) == [(1, {"a": 1.0, "b": 1.0})]
    story.tell("a", 2)
    story.tell("a", 3)
    assert rows(story) == [(2, {"a": 2.0})]
    assert rows(story, final=True) == [(3, {"a": 3.0})]


def test_without_named_metrics_a_row_is_complete_when_it_has_what_earlier_ones_had():
    story = found(rowed=None)
    story.tell("a", 1)
    assert rows(story) == []
    story.tell("a", 2)
    assert rows(story) == [(1, {"a": 1.0}), (2, {"a": 2.0})]


def test_told_steps_are_epochs_in_the_scripts_own_count():
    story = found(rowed=("a",), first_epoch=0)
    for step in (0, 2, 1, 99, float("nan"), -5):
        story.tell("a", 7 if math.isnan(step) else step, step)
    assert rows(story, final=True) == [(1, {"a": 0.0}), (2, {"a": 1.0}), (3, {"a": 2.0}), (4, {"a": 99.0})]


def test_only_metrics_that_the_spec_names_must_be_finite():
    story = found()
    story.tell("c", float("nan"))
    assert story.last == {}
    with pytest.raises(Diverged, match="a is inf"):
        story.tell("a", float("inf"))


def test_a_file_cannot_bring_any_number_of_metrics():
    story = found()
    for n in range(1000):
        story.tell(f"m{n}", n)
    story.tell("a", 1)
    assert len(story.last) == 65
