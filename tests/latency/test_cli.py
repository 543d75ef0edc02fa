"""Latency tables on the command line: built, resumed, validated, drawn, and refused in one line."""

import json

import pytest
import yaml

from flows import cli

PLAIN = {
    "name": "small",
    "data": {"kind": "digits", "image": True},
    "space": {
        "kind": "cnn",
        "depth": {"min": 1, "max": 3},
        "channels": [2, 4, 8],
        "kernel": [3],
        "skip": [False],
        "pooling": ["none"],
        "activation": ["relu"],
        "dropout": [0.0],
    },
    "objectives": [{"metric": "val_accuracy", "reference": 0.1}],
    "fidelities": [{"epochs": 1}],
    "devices": [
        {"kind": "torch", "repetitions": 20, "max_seconds": 0.02},
        {"kind": "torch", "name": "other"},
    ],
}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with a spec."""
    home = tmp_path_factory.mktemp("cli")
    (home / "spec.yaml").write_text(yaml.safe_dump(PLAIN))
    (home / "mlp.yaml").write_text(yaml.safe_dump({**PLAIN, "space": {"kind": "mlp"}}))
    return home


def call(*words):
    return cli.guarded(lambda: cli.app([*map(str, words)], prog_name="ziggurat", standalone_mode=False))


@pytest.fixture(scope="module")
def table(home):
    """A built table."""
    path = home / "table.json"
    assert call("profile", home / "spec.yaml", "--table", path, "--models", 8) == 0
    return path


def test_a_table_is_built_with_progress_on_the_error_stream(home, capfd):
    assert call("profile", home / "spec.yaml", "--table", home / "b.json", "--models", 8, "--json") == 0
    out, err = capfd.readouterr()
    data = json.loads(out)
    assert (data["operations"], data["models"], data["device"]) == (15, 8, "local")
    assert "operations: 16 of 16" in err
    assert "whole models: 8 of 8" in err
    assert json.loads((home / "b.json").read_text())["format"] == 1


def test_validation_prints_errors_ranks_and_times(home, table, capsys):
    words = ("profile", home / "spec.yaml", "--validate", table, "--count", 10, "--seed", 3)
    assert call(*words, "--plot", home / "plot.png") == 0
    text = capsys.readouterr().out
    for word in (
        "10 models",
        "median error",
        "90 % within",
        "Kendall's tau",
        "Spearman's rho",
        "a prediction",
    ):
        assert word in text
    assert (home / "plot.png").read_bytes().startswith(b"\x89PNG")
    assert call(*words, "--json") == 0
    data = json.loads(capsys.readouterr().out)
    assert len(data["rows"]) == 10
    assert data["span"] >= 1
    assert data["predict_ms"] < data["measure_ms"]


def test_plain_profiling_is_as_before(home, capsys):
    assert call("profile", home / "spec.yaml", "--count", 1, "--json") == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert {"latency_p50_ms@local", "latency_p50_ms@other", "parameters"} <= set(row)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("spec.yaml", "--table", "no/folder.json"), "there is no folder no"),
        (
            ("spec.yaml", "--table", "t.json", "--device", "phone"),
            "the spec has no such device, only local, other",
        ),
        (("spec.yaml", "--table", "t.json", "--models", "3"), "--models is 3, but a fit needs at least 8"),
        (("mlp.yaml", "--table", "t.json"), "cannot be taken apart into operations"),
        (("spec.yaml", "--validate", "none.json"), "none.json: the latency table cannot be read"),
        (("spec.yaml", "--validate", "table.json", "--count", "60"), "60 are wanted"),
        (("spec.yaml", "--table", "t.json", "--validate", "t.json"), "are two steps"),
    ],
)
def test_bad_input_is_one_line_and_ends_with_two(home, table, words, text, monkeypatch, capsys):
    monkeypatch.chdir(home)
    assert call("profile", *words) == cli.Exit.BAD_INPUT
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert text in err
