"""Model cards and the table of devices, from histories."""

import json

import pytest

from ziggurat.domain import FailureKind, JobKind
from ziggurat.events import Decided
from ziggurat.report import ReportFacts, cards, summarize, write_cards
from ziggurat.report.card_text import markdown
from ziggurat.report.case import Case
from ziggurat.report.devices import noise, table

FACTS = ReportFacts(
    test_looks=2,
    chance={"val_accuracy": 0.1},
    devices={"laptop": "torch on cpu", "edge": "command (ssh)"},
    version="1.2.3",
)
FILES = {
    "onnx_file": "trials/00071/model.onnx", "onnx_bytes": 12345, "onnx_sha256": "ab" * 32,
    "onnx_difference": 1e-7, "onnx_agreement": 0.9975, "pt2_file": "trials/00071/model.pt2",
    "pt2_bytes": 99, "pt2_sha256": "cd" * 32, "examples": 400, "onnxruntime": "1.31", "python": "3.11.7",
}  # fmt: skip
DEVICES = [
    {"kind": "torch", "name": "laptop", "noise_limit": 0.05},
    {"kind": "command", "name": "edge", "commands": [["ssh"]]},
]


@pytest.fixture
def settings(make_spec):
    return make_spec(3, devices=DEVICES, seed=4)


def models(story):
    return [t.number for t in story.history.of_stage("retrain")]


def exported(story, number, **facts):
    plain = {k: v.replace("00071", f"{number:05d}") if isinstance(v, str) else v for k, v in FILES.items()}
    story.tell(Decided("exported", "onnx and pt2", number, reason="", facts={**plain, **facts}))


def case(settings, history):
    return Case(settings, history, summarize(settings.goals(), history), FACTS)


def test_a_card_holds_choices_numbers_with_spread_devices_files_and_cost(make_whole, settings):
    story = make_whole(30, retrained=2)
    number = models(story)[0]
    exported(story, number)
    card = cards(settings, story.history, FACTS)[number]
    trial = story.history.trials[number]
    assert card["architecture"] | card["hyperparameters"] == dict(trial.candidate.choices)
    others = [t for t in story.history.of_stage("retrain") if t.candidate == trial.candidate]
    accuracies = [t.value("val_accuracy") for t in others]
    found = card["metrics"]["val_accuracy"]
    assert (found["value"], found["seeds"]) == (trial.value("val_accuracy"), 2)
    assert found["mean"] == pytest.approx(sum(accuracies) / 2)
    assert found["spread"] == pytest.approx(abs(accuracies[0] - accuracies[1]) / 2**0.5)
    assert not any("latency" in name for name in card["metrics"])
    edge = card["devices"]["edge"]
    assert edge["metrics"]["latency_p50_ms"]["value"] == trial.static["latency_p50_ms@edge"].value
    assert (edge["steady"], edge["description"]) == (False, "command (ssh)")
    assert [f["kind"] for f in card["files"]] == ["onnx", "pt2"]
    before = [t for t in story.history.trials.values() if t.stage in {"search", "validate"}]
    assert card["cost"]["search_usd"] == pytest.approx(sum(t.cost_usd for t in before))
    assert card["cost"]["search_share_usd"] == pytest.approx(card["cost"]["search_usd"] / 2)
    assert card["cost"]["model_usd"] == trial.cost_usd
    assert card["versions"] == {"ziggurat": "1.2.3", "python": "3.11.7", "onnxruntime": "1.31"}


def test_a_card_in_words_says_the_same(make_whole, settings):
    story = make_whole(30, retrained=1)
    number = models(story)[0]
    exported(story, number)
    card = cards(settings, story.history, FACTS)[number]
    text = markdown(card)
    assert text.startswith(f"# digits-{number:05d}\n")
    assert f"{100 * card['metrics']['test_accuracy']['value']:.2f}" in text
    assert f"`{'ab' * 32}`" in text
    assert "99.75 % of 400" in text
    assert "noisy (17 %, allowed 5 %)" in text
    assert "It was look 2 at this part" in text
    assert "10.0 % validation accuracy" in text
    assert 'onnxruntime.InferenceSession("model.onnx")' in text
    rows = [line for line in text.splitlines() if line.startswith("| edge | Latency p99")]
    assert len(rows) == 1
    assert "±" not in rows[0]


def test_a_recipe_has_the_values_that_the_candidate_chose(make_whole, settings):
    space = {"kind": "mlp", "hyperparameters": {"learning_rate": {"min": 0.001, "max": 0.1}}}
    chosen = settings.model_validate({**settings.plain(), "space": space})
    story = make_whole(30, retrained=1)
    number = models(story)[0]
    card = cards(chosen, story.history, FACTS)[number]
    rate = story.history.trials[number].candidate.choices.get("learning_rate")
    wanted = rate if rate is not None else chosen.search.trainer.learning_rate
    assert card["recipe"]["learning_rate"] == wanted
    assert card["recipe"]["epochs"] == story.history.trials[number].ladder[-1].epochs


def test_what_is_missing_is_said(make_whole, settings):
    story = make_whole(30, retrained=1)
    first, second = models(story)[:2]
    story.tell(Decided("exported", "nothing", first, reason="operation aten::odd cannot be exported"))
    found = cards(settings, story.history, FACTS)
    assert "Not written: operation aten::odd cannot be exported." in markdown(found[first])
    assert "InferenceSession" not in markdown(found[first])
    assert "Not written: the model has not been exported." in markdown(found[second])


def test_cards_are_written_beside_the_models(tmp_path, make_whole, settings):
    story = make_whole(30, retrained=1)
    number = models(story)[0]
    exported(story, number, onnx_difference=float("inf"))
    paths = write_cards(tmp_path, cards(settings, story.history, FACTS))
    assert paths[number] == f"trials/{number:05d}/model_card.md"
    assert set(paths) == set(models(story))
    home = tmp_path / "trials" / f"{number:05d}"
    assert {p.name for p in home.iterdir()} == {"model_card.md", "model_card.json"}
    plain = json.loads((home / "model_card.json").read_text())
    assert plain["files"][0]["difference"] is None
    assert "ab" * 32 in (home / "model_card.md").read_text()


def test_text_of_others_cannot_break_a_table(make_whole, settings):
    story = make_whole(30, retrained=1)
    card = cards(settings, story.history, FACTS)[models(story)[0]]
    card["devices"]["edge"] = {"description": "x", "not_measured": "a | b\nc"}
    line = next(x for x in markdown(card).splitlines() if x.startswith("| edge"))
    assert line == "| edge | not measured | a \\| b c | – | – |"


def test_without_retrained_models_there_is_no_card(make_whole, settings):
    assert cards(settings, make_whole(10, retrained=0).history, FACTS) == {}


def test_every_finalist_has_a_row_for_every_device(told, settings):
    found = table(case(settings, told))
    heads = [c.text for c in found.head]
    assert heads == ["Trial", "Device", "p50 (ms)", "p90 (ms)", "p99 (ms)", "Noise"]
    rows = summarize(settings.goals(), told).retrained
    assert [(r[0].text, r[1].text) for r in found.rows] == [
        (str(row.trial), device) for row in rows for device in ("laptop", "edge")
    ]
    assert "±" in found.rows[0][2].text
    assert "±" not in found.rows[0][4].text
    assert [r[-1].style for r in found.rows[:2]] == ["good", "bad"]


def test_memory_size_and_energy_have_columns_where_a_device_gives_them(make_whole, settings):
    story = make_whole(30, retrained=1)
    number = models(story)[0]
    given = {"energy_mj@edge": 7.5, "dram_mb@edge": 3.0, "peak_memory_mb@edge": 21.0}
    story.segment(number, 2, 1.0, kind=JobKind.PROFILE, stage="measure", **given)
    found = table(case(settings, story.history))
    heads = [c.text for c in found.head]
    assert heads[5:] == ["Peak memory (MB)", "Energy (mJ)", "Dram (MB)", "Noise"]
    edge = next(r for r in found.rows if r[1].text == "edge")
    laptop = next(r for r in found.rows if r[1].text == "laptop")
    assert [c.text for c in edge[5:8]] == ["21.0", "7.50", "3.00"]
    assert {c.text for c in laptop[5:8]} == {"–"}


def test_a_device_that_failed_has_a_row_with_its_reason(make_story, make_whole, settings):
    story = make_whole(30, retrained=1)
    number = models(story)[0]
    three = settings.model_validate({**settings.plain(), "devices": [*DEVICES, {"name": "board"}]})
    from ziggurat.domain import Failure, Job
    from ziggurat.events import SegmentFinished, SegmentPlanned

    job = Job(f"{number}-profile-board-0", JobKind.PROFILE, "retrain", number, device="board")
    story.tell(SegmentPlanned(job, 1.0, 0.0))
    reason = Failure(FailureKind.USER_ERROR, "device 'board': command 1 (adb) printed nothing")
    story.tell(SegmentFinished(job.key, number, 1.0, 0.0, failure=reason))
    row = next(r for r in table(case(three, story.history)).rows if r[1].text == "board")
    assert (row[-1].text, row[-1].title) == ("not measured", reason.text)
    card = cards(three, story.history, FACTS)[number]
    assert card["devices"]["board"]["not_measured"] == reason.text


def test_noise_without_samples_is_unknown():
    assert [noise(w, 0.05).text for w in (None, 0.012, 0.17)] == ["unknown", "steady (1.2 %)", "noisy (17 %)"]
