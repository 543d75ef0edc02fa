"""Malformed specs and command lines: one line with field, value and cure, exit code 2, nothing created."""

from pathlib import Path

import pytest

from flows import cli
from tests import bad

ROOT = Path(__file__).resolve().parents[1]
PYTHON = "space={kind: python, function: 'a:b', choices: "

# assignments to examples/digits.yaml, the path of the field, and what else the line must say: value, cure
CASES = {
    "unknown key": ("serach.trials=3", "serach:", "unknown key", "did you mean search?"),
    "unknown key in a stage": ("search.trails=3", "search.trails:", "value 3", "trials"),
    "unknown key in a space": ("space.depht=[1]", "space.depht:", "value [1]", "did you mean depth?"),
    "unknown key in a choice": ("space.depth={min: 1, max: 3, setp: 1}", "space.depth.setp:", "mean step?"),
    "unknown key in a list": ("fidelities.0.epoch=3", "fidelities[0].epoch:", "did you mean epochs?"),
    "unknown key in the data": ("data.split.tset=0.1", "data.split.tset:", "did you mean test?"),
    "unknown key in a trainer": (
        "search.trainer={kind: lightning, lr: 1}",
        "search.trainer.lr:",
        "value 1",
        "remove",
    ),
    "text for a number": ("search.trials=many", "search.trials:", "'many'", "a whole number"),
    "fraction for a whole number": ("search.trials=2.5", "search.trials:", "2.5", "a whole number"),
    "number for text": ("name=5", "name:", "given: 5", "must be text"),
    "list for a mapping": ("search=[1]", "search:", "[1]", "a mapping of keys"),
    "text for a list": ("alerts={urls: mailto}", "alerts.urls:", "'mailto'", "a list"),
    "null for a mapping": ("space=null", "space:", "null", "a mapping of keys"),
    "word for a switch": ("data.image=maybe", "data.image:", "'maybe'", "true or false"),
    "mapping among values": ("space.activation=[relu, {a: 1}]", "space.activation[1]:", "{'a': 1}", "text"),
    "unknown schema version": ("schema_version=2", "schema_version:", "given: 2", "must be 1"),
    "name that is no file name": ("name=a/b", "name:", "'a/b'", "[A-Za-z0-9]"),
    "unknown kind of space": ("space={kind: mpl}", "space.kind:", "'mpl'", "mlp, parameters, python, table"),
    "kind of space missing": ("space={depth: 3}", "space.kind:", "missing", "mlp, parameters, python, table"),
    "unknown kind of searcher": (
        "search.searcher.kind=bayes",
        "search.searcher.kind:",
        "'bayes'",
        "ax, evolution",
    ),
    "kind of stopper missing": (
        "search.stopper={}",
        "search.stopper.kind:",
        "missing",
        "asha, median, never",
    ),
    "unknown kind of data": (
        "data={kind: mnist}",
        "data.kind:",
        "'mnist'",
        "digits, external, idx, npz, python",
    ),
    "unknown kind of trainer": (
        "search.trainer={kind: keras}",
        "search.trainer.kind:",
        "'keras'",
        "lightning",
    ),
    "unknown kind of launcher": ("launcher.kind=slurm", "launcher.kind:", "'slurm'", "local"),
    "unknown type of stopper": ("search.stopper.type=halt", "search.stopper.type:", "'halt'", "'promotion'"),
    "directory missing": ("data={kind: idx}", "data.directory:", "missing"),
    "empty space": (PYTHON + "{}}", "space", "empty", "declare at least one choice"),
    "no value of a choice": ("space.width=[]", "space.width:", "[]", "1 or more items"),
    "value twice": ("space.width=[8, 8]", "space.width:", "[8, 8]", "once"),
    "bounds in the wrong order": ("space.depth={min: 3, max: 1}", "space.depth:", "min 3", "max 1"),
    "bound missing": ("space.depth={min: 1}", "space.depth.max:", "missing"),
    "logarithm of zero": (
        "space.hyperparameters.learning_rate={min: 0, max: 1, log: true}",
        "space.hyperparameters.learning_rate:",
        "min 0",
        "above 0",
    ),
    "width of nothing": ("space.width=[0]", "space", "width", "[0]", "from 1 to 65536"),
    "unknown activation": ("space.activation=[swish]", "space", "['swish']", "relu, gelu, tanh, silu"),
    "condition on nothing": (
        PYTHON + "{a: [1, 2], b: {values: [1, 2], when: {c: 1}}}}",
        "space",
        "'c'",
        "declared before: a",
    ),
    "unknown bound of a condition": (
        PYTHON + "{a: [1, 2], b: {values: [1, 2], when: {a: {mn: 1}}}}}",
        "space.choices.b.when.a.mn:",
        "did you mean min?",
    ),
    "function without a module": (
        "space={kind: python, function: nope, choices: {a: [1, 2]}}",
        "space.function:",
        "'nope'",
        "module:function",
    ),
    "unknown hyperparameter": (
        "space.hyperparameters.learnin_rate=[0.1]",
        "space.hyperparameters:",
        "'learnin_rate'",
        "did you mean learning_rate?",
    ),
    "more trials than candidates": (
        "space={kind: mlp, depth: 1, width: [8, 16], dropout: 0.0, activation: relu, norm: none, "
        "hyperparameters: {batch_size: [32]}}",
        "search.trials is 48",
        "only 2 candidates",
        "at most 2",
    ),
    "no objective": ("objectives=[]", "objectives:", "[]", "1 or more items"),
    "unknown metric": ("objectives.0.metric=accuracy", "objectives[0].metric:", "'accuracy'", "val_accuracy"),
    "wrong direction": ("objectives.0.goal=minimize", "objectives[0]", "'minimize'", "'maximize'"),
    "reference in percent": ("objectives.0.reference=95", "objectives[0]", "is 95", "0.9 for 90 %"),
    "limit that nothing can meet": (
        "objectives.1.limit=0",
        "objectives[1]",
        "limit of parameters is 0",
        "above 0",
    ),
    "infinite limit": ("objectives.1.limit=.inf", "objectives[1].limit:", "inf", "a finite number"),
    "reference missing": ("objectives.0={metric: val_loss}", "objectives[0].reference:", "missing"),
    "metric twice": (
        "objectives.1={metric: val_accuracy, reference: 0.5}",
        "objectives:",
        "'val_accuracy'",
        "once",
    ),
    "nothing to learn": (
        "objectives=[{metric: flops, reference: 9}]",
        "objectives:",
        "add one of val_accuracy",
    ),
    "no rung": ("fidelities=[]", "fidelities:", "[]", "1 or more items"),
    "rungs that do not grow": ("fidelities=[{epochs: 3}, {epochs: 3}]", "fidelities:", "[3, 3]", "grow"),
    "too much data": ("fidelities.0.data_fraction=1.5", "fidelities[0].data_fraction:", "1.5", "at most 1"),
    "parts beyond the whole": ("data.split.train=0.9", "data.split:", "1.2", "must be 1"),
    "more retrained than tried": (
        "retrain.k=50",
        "retrain.k is 50",
        "search.trials is 48",
        "lower retrain.k",
    ),
    "segment longer than training": (
        "retrain.segment_epochs=99",
        "retrain",
        "99",
        "epochs is 45",
        "at most 45",
    ),
    "probe longer than training": (
        "validate.epochs=100",
        "validate.epochs is 100",
        "27 epochs",
        "at most 27",
    ),
    "grace beyond the rungs": ("search.stopper.grace=7", "search.stopper.grace is 7", "0 to 2", "at most 2"),
    "more brackets than rungs": (
        "search.stopper.brackets=4",
        "search.stopper.brackets is 4 with grace 0",
        "3 rungs",
        "at most 3",
    ),
    "unknown method": (
        "retrain.method=best",
        "retrain.method:",
        "'best'",
        "'hypervolume', 'spread' or 'knee'",
    ),
    "zero budget": ("budget.limit_usd=0", "budget.limit_usd:", "given: 0", "above 0"),
    "negative budget": ("budget.limit_usd=-1", "budget.limit_usd:", "given: -1", "above 0"),
    "plan beyond the limit": ("budget.plan_usd=5", "budget", "plan_usd 5", "limit_usd 0.02", "at most"),
    "negative price": ("launcher.usd_per_hour=-1", "launcher.usd_per_hour:", "given: -1", "at least 0"),
    "no workers": ("search.workers=0", "search.workers:", "given: 0", "at least 1"),
    "unknown device": ("devices=[{device: tpu}]", "devices[0].device:", "'tpu'", "cpu"),
    "device twice": ("devices=[{name: a}, {name: a}]", "devices:", "['a', 'a']", "its own name"),
    "variable that is no name": (
        "launcher={kind: torchx, scheduler: slurm, environment: {'A=B': x}}",
        "launcher.environment:",
        "'A=B'",
        "letters, digits and _",
    ),
    "variable that no process can have": (
        'launcher={kind: ray, environment: {A: "x\\0y"}}',
        "launcher.environment:",
        "value of A",
        "null character",
    ),
    "setting of another scheduler": (
        "launcher={kind: torchx, scheduler: slurm, settings: {partitoin: low}}",
        "launcher.settings.partitoin",
        "unknown to slurm",
        "did you mean partition?",
    ),
    "bucket that is no name": ("store=s3://b/p", "store", "'b'", "3 to 63 letters"),
    "store of another cloud": ("store=gs://bucket/p", "store:", "'gs://'", "s3://BUCKET/PREFIX"),
    "tracking in a folder": ("tracking={uri: mlruns}", "tracking", "'mlruns'", "sqlite:///"),
}

TEXTS = {
    "nothing": ("", "NoneType", "mapping of keys"),
    "a list": ("- 1\n", "list", "mapping of keys"),
    "an open bracket": ("name: [1\n", "line 2, column 1", "not valid YAML", "correct the line"),
    "a tab": ("name: x\n\tseed: 1\n", "line 2", "not valid YAML"),
    "a key twice": ("name: x\nseed: 1\nseed: 2\n", "line 3", "'seed'", "twice", "remove one"),
    "a key that is a list": ("{[1]: 2}\n", "line 1", "a word as key"),
    "an object of Python": ("name: !!python/object:os.system {}\n", "line 1", "not valid YAML"),
    "a number that is none": ("seed: !!int x\n", "not valid YAML", "'x'"),
    "an alias of itself": ("name: &a [*a]\n", "line 1", "recursive"),
    "two documents": ("name: x\n---\nname: y\n", "line 2", "another document"),
    "a bottomless list": ("[" * 5000, "nested too deeply"),
    "a variable that is not set": (
        "name: ${ZIGGURAT_TEST_UNSET}\n",
        "name:",
        "ZIGGURAT_TEST_UNSET is not set",
        "${ZIGGURAT_TEST_UNSET:default}",
    ),
}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def refused(capsys: pytest.CaptureFixture[str], here: Path, *argv: str) -> list[str]:
    """The lines of a command that ends with exit code 2, no output and nothing created."""
    capsys.readouterr()
    code = cli.guarded(lambda: cli.app(list(argv), prog_name="ziggurat", standalone_mode=False))
    said = capsys.readouterr()
    assert code == cli.Exit.BAD_INPUT, said.err or said.out
    assert said.out == ""
    assert list(here.iterdir()) == []
    return bad.lines(said.err)


@pytest.mark.parametrize("case", CASES)
def test_malformed_setting_is_refused_in_one_line(
    case: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assignment, *words = CASES[case]
    spec = str(ROOT / "examples/digits.yaml")
    (line,) = refused(capsys, here, "validate", spec, "--set", assignment)
    bad.hold(line, spec, *words)
    # only what validate refuses is given to run, which would take its time otherwise
    assert refused(capsys, here, "run", spec, "--set", assignment, "--runs-dir", "runs") == [line]


@pytest.mark.parametrize("case", TEXTS)
def test_file_that_is_no_spec_is_refused_in_one_line(
    case: str, here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text, *words = TEXTS[case]
    path = tmp_path / "spec.yaml"
    path.write_text(text)
    (line,) = refused(capsys, here, "validate", str(path))
    bad.hold(line, str(path), *words)
    assert path.read_text() == text


def test_every_error_of_a_spec_has_its_line(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sets = [x for s in ("search.trials=x", "retrain.k=y", "sede=1") for x in ("--set", s)]
    found = refused(capsys, here, "validate", str(ROOT / "examples/digits.yaml"), *sets)
    assert len(found) == 3
    for line, word in zip(found, ("search.trials:", "retrain.k:", "sede:"), strict=True):
        assert word in line


def test_file_that_is_not_there_is_named(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("validate", "run", "preflight", "estimate", "profile"):
        (line,) = refused(capsys, here, command, "nowhere.yaml")
        bad.hold(line, "nowhere.yaml", "No such file", "ziggurat init")


def test_folder_is_no_spec(here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (line,) = refused(capsys, here, "validate", str(tmp_path))
    bad.hold(line, str(tmp_path), "directory", "name a YAML file")


def test_bytes_that_are_no_text_are_no_spec(
    here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "spec.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    (line,) = refused(capsys, here, "validate", str(path))
    bad.hold(line, str(path), "not UTF-8 text")


@pytest.mark.parametrize(
    ("assignment", "words"),
    [
        ("search.trials", ("search.trials", "KEY.KEY=VALUE")),
        ("=3", ("=3", "KEY.KEY=VALUE")),
        ("search..trials=3", ("search..trials", "KEY.KEY=VALUE")),
        ("objectives.9.limit=3", ("'9'", "from 0 to 2")),
        ("objectives.first.limit=3", ("'first'", "from 0 to 2")),
        ("search.trials.most=3", ("search.trials is 48", "no keys inside")),
        ("name=[", ("--set name", "not valid YAML")),
    ],
)
def test_assignment_that_leads_nowhere_is_refused(
    assignment: str, words: tuple[str, ...], here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = str(ROOT / "examples/digits.yaml")
    (line,) = refused(capsys, here, "validate", spec, "--set", assignment)
    bad.hold(line, "--set", *words)


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["validate"], ("SPEC", "ziggurat validate --help")),
        (["validate", "--fast", "x"], ("--fast", "ziggurat validate --help")),
        (["valdiate", "x"], ("valdiate", "ziggurat --help")),
        (["profile", "x", "--count", "0"], ("--count", "ziggurat profile --help")),
        (["profile", "x", "--count", "few"], ("--count", "integer")),
        (["resume", "x", "--limit-usd", "-1"], ("--limit-usd", "ziggurat resume --help")),
        (["status"], ("RUN", "ziggurat status --help")),
        (["status", "x", "y"], ("(y)", "ziggurat status --help")),
    ],
)
def test_unusable_command_line_is_refused_in_one_line(
    argv: list[str], words: tuple[str, ...], here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (line,) = refused(capsys, here, *argv)
    bad.hold(line, *words)


@pytest.mark.parametrize("command", ["status", "trials", "pareto", "report", "resume"])
def test_folder_that_is_no_run_is_refused(
    command: str, here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(tmp_path.rglob("*"))
    for folder in (tmp_path, tmp_path / "nowhere"):
        (line,) = refused(capsys, here, command, str(folder))
        bad.hold(line, str(folder), "no run directory", "spec.yaml is missing")
    assert sorted(tmp_path.rglob("*")) == before


def test_resuming_the_youngest_run_of_none_is_refused(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (line,) = refused(capsys, here, "resume", "--runs-dir", "runs")
    bad.hold(line, "runs", "holds no run", "name a run directory")


def test_init_overwrites_no_file(here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text("mine")
    (line,) = refused(capsys, here, "init", str(path))
    bad.hold(line, str(path), "exists already", "--force")
    assert path.read_text() == "mine"


def test_init_needs_a_folder_to_write_to(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (line,) = refused(capsys, here, "init", "no/such/spec.yaml")
    bad.hold(line, "no/such/spec.yaml", "cannot be written")


def test_runs_directory_that_cannot_be_written_is_refused(
    here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Tests may run as root, whom no permission stops: a path under a file cannot be written by anyone."""
    blocked = tmp_path / "file"
    blocked.write_text("mine")
    (line,) = refused(
        capsys, here, "run", str(ROOT / "examples/digits.yaml"), "--runs-dir", str(blocked / "runs")
    )
    bad.hold(line, f"--runs-dir {blocked}/runs", "cannot be written", "name a writable directory")
    assert blocked.read_text() == "mine"


@pytest.mark.parametrize("path", ["runs", "runs/../runs"])
def test_store_where_run_directories_are_is_refused(
    path: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = str(ROOT / "examples/digits.yaml")
    (line,) = refused(capsys, here, "run", spec, "--set", f"store={path}", "--runs-dir", "runs")
    bad.hold(line, "store.path", str(here / "runs"), "where run directories are", "another directory")


@pytest.mark.parametrize(
    "store", ["s3://me:hunter2@bucket/p", "{kind: s3, bucket: bucket, endpoint: 'http://me:hunter2@host:1'}"]
)
def test_login_in_an_address_is_in_no_message(
    store: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = str(ROOT / "examples/digits.yaml")
    (line,) = refused(capsys, here, "validate", spec, "--set", f"store={store}")
    bad.hold(line, "store", "holds credentials", "AWS_ACCESS_KEY_ID", "(hidden)@")
    assert "hunter2" not in line


def test_secret_of_a_variable_is_in_no_message(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    secret = "https://hooks.example/" + "s3cret" * 20  # longer than what a message shows of a value
    monkeypatch.setenv("ZIGGURAT_TEST_HOOK", secret)
    spec = str(ROOT / "examples/digits.yaml")
    for assignment in ("alerts={urls: '${ZIGGURAT_TEST_HOOK}'}", "tracking={uri: 'x${ZIGGURAT_TEST_HOOK}'}"):
        (line,) = refused(capsys, here, "validate", spec, "--set", assignment)
        assert "s3cret" not in line
        assert "alerts.urls" in line or "tracking" in line
    (line,) = refused(capsys, here, "validate", spec, "--set", "seed=${ZIGGURAT_TEST_HOOK}")
    bad.hold(line, "seed:", "${ZIGGURAT_TEST_HOOK}", "a whole number")
