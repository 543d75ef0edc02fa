"""Reading a spec: YAML, variables, overrides, what is written back, and the JSON Schema."""

import json
import logging
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from pydantic import BaseModel

from ziggurat import runs
from ziggurat import spec as specs
from ziggurat.errors import SpecError
from ziggurat.session import Session

ROOT = Path(__file__).resolve().parents[1]
DIGITS = ROOT / "examples/digits.yaml"
EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))
SECRET = "s3cret-value-of-a-variable"


class Channel(BaseHTTPRequestHandler):
    """Takes every message and notes where it went."""

    asked: list[str]

    def do_POST(self) -> None:
        self.asked.append(self.path)
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def channel() -> Iterator[tuple[int, list[str]]]:
    """Port of a channel for alerts, and the paths it was asked for."""
    asked: list[str] = []
    handler = type("Handler", (Channel,), {"asked": asked})
    with HTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port, asked
        server.shutdown()
        thread.join()


def read(folder: Path, text: str, *sets: str) -> tuple[specs.Spec, dict[str, Any]]:
    """A spec made of the example's and some further lines, given as a YAML mapping."""
    plain = {**yaml.safe_load(DIGITS.read_text()), **yaml.safe_load(text)}
    path = folder / "spec.yaml"
    path.write_text(yaml.safe_dump(plain))
    return specs.read(path, sets)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("1E+3", 1000.0),
        ("-2.5e-3", -0.0025),
        (".5", 0.5),
        ("3.", 3.0),
        ("12", 12),
        ("-7", -7),
        ("1_000", 1000),
        ("true", True),
        ("False", False),
        ("~", None),
        ("null", None),
        ("", None),
        # text in YAML 1.2, though YAML 1.1 had other ideas
        ("no", "no"),
        ("on", "on"),
        ("2026-01-31", "2026-01-31"),
        ("1:30", "1:30"),
        ("e4", "e4"),
        ("1e", "1e"),
        ("'1e-4'", "1e-4"),
        ("v1.2", "v1.2"),
    ],
)
def test_scalars_are_those_of_yaml_1_2(text: str, value: object) -> None:
    found = specs.parse_yaml(f"x: {text}", "test")["x"]
    assert found == value
    assert type(found) is type(value)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_as_python_or_json_prints_it_is_that_number(number: float) -> None:
    assert specs.parse_yaml(repr(number), "test") == number


def test_merge_keys_still_work() -> None:
    text = "a: &base {epochs: 3, seed: 0}\nb: {<<: *base, seed: 1}\n"
    assert specs.parse_yaml(text, "test")["b"] == {"epochs": 3, "seed": 1}


def test_key_given_twice_is_refused_at_any_depth() -> None:
    with pytest.raises(SpecError, match=r"^test: line 4: key 'b' is given twice"):
        specs.parse_yaml("a:\n  - b: 1\n    c: 2\n    b: 3\n", "test")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("${N}", 12),
        ("${X}", 0.0001),
        ("${T}", "plain text"),
        ("${L}", [1, 2]),
        ("${B}", True),
        ("${COLON}", "key: value # not a comment"),
        ("${NOTHING}", ""),
        ("n is ${N}", "n is 12"),
        ("${T}/${N}", "plain text/12"),
        ("${UNSET:7}", 7),
        ("${UNSET:}", ""),
        ("${UNSET:sqlite:///a.db}", "sqlite:///a.db"),
        ("${N:7}", 12),
        ("$N", "$N"),
        ("${not a name}", "${not a name}"),
    ],
)
def test_variable_takes_its_value_and_the_type_yaml_gives_it(text: str, value: object) -> None:
    environment = {
        "N": "12",
        "X": "1e-4",
        "T": "plain text",
        "L": "[1, 2]",
        "B": "true",
        "COLON": "key: value # not a comment",
        "NOTHING": "",
    }
    found = specs.expand({"a": [text]}, environment)["a"][0]
    assert found == value
    assert type(found) is type(value)


def test_value_of_a_variable_is_not_expanded_again() -> None:
    assert specs.expand("${A}", {"A": "${B}", "B": "no"}) == "${B}"


def test_variable_without_default_must_be_set() -> None:
    with pytest.raises(SpecError, match=r"^a\.b\[1\]: environment variable NOWHERE is not set") as error:
        specs.expand({"a": {"b": ["x", "${NOWHERE}"]}}, {})
    assert "${NOWHERE:default}" in str(error.value)


def test_override_sets_keys_of_mappings_and_items_of_lists() -> None:
    plain = {"search": {"trials": 3}, "fidelities": [{"epochs": 1}, {"epochs": 3}], "space": None}
    assignments = [
        "search.trials=20",
        "fidelities.1.epochs=9",
        "space.kind=mlp",
        "retrain.k=1",
        "fidelities.0={epochs: 2}",
    ]
    assert specs.override(plain, assignments) == {
        "search": {"trials": 20},
        "fidelities": [{"epochs": 2}, {"epochs": 9}],
        "space": {"kind": "mlp"},
        "retrain": {"k": 1},
    }
    assert plain["search"] == {"trials": 3}, "the given values are left alone"


def test_value_of_an_override_is_yaml_and_may_hold_an_equals_sign() -> None:
    found = specs.override({}, ["a=1e-4", "b=[x, 2]", "c=x=y", "d=", "e='5'"])
    assert found == {"a": 1e-4, "b": ["x", 2], "c": "x=y", "d": None, "e": "5"}


def test_later_override_wins() -> None:
    assert specs.override({}, ["a.b=1", "a.b=2", "a.c=3"]) == {"a": {"b": 2, "c": 3}}


def models() -> list[type[BaseModel]]:
    """All models that a spec can contain."""
    found: list[type[BaseModel]] = []

    def visit(kind: object) -> None:
        if isinstance(kind, type) and issubclass(kind, BaseModel) and kind not in found:
            found.append(kind)
            for field in kind.model_fields.values():
                visit(field.annotation)
        for part in (*getattr(kind, "__args__", ()), getattr(kind, "__value__", None)):
            if part is not None:
                visit(part)

    visit(specs.Spec)
    return found


def test_no_part_of_a_spec_takes_an_unknown_key() -> None:
    found = models()
    assert len(found) > 20, "the walk has missed most of them"
    assert [m.__name__ for m in found if m.model_config.get("extra") != "forbid"] == []


def test_written_spec_reads_as_the_same_spec(tmp_path: Path) -> None:
    spec, raw = specs.read(DIGITS)
    runs.write_spec(tmp_path / "spec.yaml", spec, raw)
    again, _ = specs.read(tmp_path / "spec.yaml")
    assert again == spec
    assert again.sha256() == spec.sha256()


def test_variables_stay_names_in_the_written_spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZIGGURAT_TEST_TRIALS", "7")
    monkeypatch.setenv("ZIGGURAT_TEST_HOST", SECRET)
    text = "{tracking: {uri: 'http://me:${ZIGGURAT_TEST_HOST}@host'}, name: '${ZIGGURAT_TEST_NAME:given}'}"
    spec, raw = read(
        tmp_path, text, "search.trials=${ZIGGURAT_TEST_TRIALS}", "space.width=['${ZIGGURAT_TEST_TRIALS}']"
    )
    assert (spec.search.trials, spec.name) == (7, "given")
    assert spec.tracking.uri == f"http://me:{SECRET}@host"
    runs.write_spec(tmp_path / "out.yaml", spec, raw)
    written = yaml.safe_load((tmp_path / "out.yaml").read_text())
    assert written["search"]["trials"] == "${ZIGGURAT_TEST_TRIALS}"
    assert written["tracking"]["uri"] == "http://me:${ZIGGURAT_TEST_HOST}@host"
    assert written["name"] == "${ZIGGURAT_TEST_NAME:given}"
    assert written["search"]["retries"] == 2, "defaults are filled in"
    assert SECRET not in (tmp_path / "out.yaml").read_text()
    assert specs.read(tmp_path / "out.yaml")[0] == spec


@pytest.mark.slow
def test_secret_is_in_no_file_of_a_run(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    channel: tuple[int, list[str]],
) -> None:
    monkeypatch.setenv("ZIGGURAT_TEST_SECRET", SECRET)
    port, asked = channel
    text = (
        "{alerts: {urls: ['json://127.0.0.1:PORT/${ZIGGURAT_TEST_SECRET}']}, "
        "tracking: {enabled: false, uri: 'postgresql://me:${ZIGGURAT_TEST_SECRET}@host/db'}}"
    )
    spec, raw = read(tmp_path, text.replace("PORT", str(port)), "search.workers=1")
    run = runs.create(spec, raw, tmp_path / "runs")
    with caplog.at_level(logging.DEBUG, logger="ziggurat"):
        session = Session(run)
        try:
            session.write_report(session.status(), "stopped early")
            run.finish(session.status(), "stopped early")
            session.raise_alerts()
        finally:
            session.close()
    files = [p for p in run.folder.rglob("*") if p.is_file()]
    assert {"spec.yaml", "journal.jsonl", "index.html"} <= {p.name for p in files}
    assert [str(p) for p in files if SECRET.encode() in p.read_bytes()] == []
    assert [r.getMessage() for r in caplog.records if SECRET in r.getMessage()] == []
    assert asked == [f"/{SECRET}"], "the alert has reached its channel, so the secret was in use"


def test_schema_is_a_valid_json_schema() -> None:
    Draft202012Validator.check_schema(json.loads(json.dumps(specs.schema())))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.name)
def test_schema_accepts_the_examples_and_what_is_made_of_them(path: Path) -> None:
    validator = Draft202012Validator(specs.schema())
    written = specs.parse_yaml(path.read_text(), str(path))
    assert [f"{e.json_path}: {e.message[:200]}" for e in validator.iter_errors(written)] == []
    assert [e.json_path for e in validator.iter_errors(specs.read(path)[0].plain())] == []


@pytest.mark.parametrize(
    "assignment",
    ["serach.trials=3", "search.trials=0", "space.kind=mpl", "space.depth=[{a: 1}]", "objectives=[]"],
)
def test_schema_refuses_what_the_spec_refuses(assignment: str) -> None:
    plain = specs.override(specs.parse_yaml(DIGITS.read_text(), "test"), [assignment])
    assert not Draft202012Validator(specs.schema()).is_valid(plain)
    with pytest.raises(SpecError):
        specs.parse(plain, "test")


def test_space_of_many_conditional_values_is_counted_without_listing_them(tmp_path: Path) -> None:
    spec, _ = read(tmp_path, "{}", "space.width={min: 1, max: 65536}", "search.trials=1000")
    assert spec.search.trials == 1000
