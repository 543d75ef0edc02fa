"""Images of tabular results: what is read, what is refused, and that labels keep apart."""

import json
from itertools import pairwise

import plot_tabular
import pytest
from hypothesis import given
from hypothesis import strategies as st

UNITS = [1.0, 5.0, 50.0, 200.0]


def written(folder, strategy, cost="nb201_latency_ms.npz:pixel3", **curve):
    rising = {"units": UNITS, "median": [0.5, 0.8, 0.9, 0.95], "q1": [0.4, 0.7, 0.85, 0.94]}
    rising |= {"q3": [0.6, 0.85, 0.93, 1.0]}
    plain = {"strategy": strategy, "cost": cost, "units": [10], "curve": rising | curve, "decision_s": 0.01}
    path = folder / f"{strategy}-{len(list(folder.iterdir()))}.json"
    path.write_text(json.dumps(plain))
    return path


def test_one_image_is_written_for_each_cost_column(tmp_path, capsys):
    paths = [written(tmp_path, s, c) for s in ("random", "frontier") for c in ("a.npz:raspi4", "params_m")]
    assert plot_tabular.main([str(tmp_path / "out"), *map(str, paths)]) == 0
    names = {p.name for p in (tmp_path / "out").iterdir()}
    assert names == {"hypervolume-raspi4.png", "hypervolume-params-m.png"}
    assert all((tmp_path / "out" / n).read_bytes()[:4] == b"\x89PNG" for n in names)
    assert capsys.readouterr().out.count("\n") == 2


def test_result_without_a_cost_column_is_drawn_too(tmp_path):
    results = [plot_tabular.read(written(tmp_path, "random", cost=""))]
    assert list(plot_tabular.plots(results)) == ["hypervolume-none-error-alone.png"]


def test_search_that_ended_early_and_one_at_the_ceiling_are_drawn(tmp_path):
    paths = [
        written(tmp_path, "short", units=[1.0, 2.0, 3.0, 4.0]),
        written(tmp_path, "perfect", median=[0.9, 1.0, 1.0, 1.0], q3=[1.0] * 4),
        written(tmp_path, "late", units=[0.0, 5.0, 50.0, 200.0], median=[0.0, 0.2, 0.3, 0.4], q1=[0.0] * 4),
    ]
    (image,) = plot_tabular.plots([plot_tabular.read(p) for p in paths]).values()
    assert image[:4] == b"\x89PNG"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "no result of tabular.py"),
        ('{"strategy": "random"}', "it has no 'curve'"),
        ("[]", "no result of tabular.py"),
    ],
)
def test_file_that_is_no_result_is_named_in_one_line(tmp_path, capsys, text, words):
    path = tmp_path / "x.json"
    path.write_text(text)
    assert plot_tabular.main([str(tmp_path / "out"), str(path)]) == 2
    told = capsys.readouterr().err
    assert str(path) in told
    assert words in told
    assert told.count("\n") == 1


@pytest.mark.parametrize("curve", [{"median": [0.5]}, {"units": [0.0] * 4}, {"units": []}])
def test_curve_without_cost_or_of_uneven_length_is_refused(tmp_path, curve):
    with pytest.raises(ValueError, match="its curve has lists of different lengths or no cost"):
        plot_tabular.read(written(tmp_path, "random", **curve))


def test_names_keep_their_look_whatever_else_is_drawn_and_ours_stands_out():
    names = [f"s{i:02d}" for i in range(12)]
    styles = plot_tabular.looks([*names, "frontier"])
    looks = {(str(s["color"]), str(s["linestyle"])) for s in styles.values()}
    assert len(looks) == 13
    assert styles == plot_tabular.looks(["frontier", *reversed(names)])
    assert max(styles, key=lambda n: styles[n]["linewidth"]) == "frontier"


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_labels_keep_apart_in_the_order_of_their_lines(wanted):
    found = plot_tabular.apart(wanted, 0.05)
    order = sorted(range(len(wanted)), key=lambda i: (wanted[i], found[i]))
    placed = [found[i] for i in order]
    assert all(b - a >= 0.05 - 1e-9 for a, b in pairwise(placed))
    assert sum(found) == pytest.approx(sum(wanted), abs=1e-6)


def test_labels_that_do_not_touch_stay_where_they_are():
    assert plot_tabular.apart([0.9, 0.1, 0.5], 0.05) == [0.9, 0.1, 0.5]
