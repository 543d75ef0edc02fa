"""From a launcher's `price` in a spec to a number in the run's own spec that nothing changes any more."""

import json

import pytest
import yaml

from tests.pricing import tables
from tests.real import create, plain
from ziggurat import spec
from ziggurat.errors import SpecError
from ziggurat.runs import look

BATCH = {
    "kind": "aws_batch",
    "queue": "q",
    "image": "i:1",
    "region": "us-east-1",
    "resources": {"cpus": 4, "memory_mb": 15000, "gpus": 1},
}
STORE = {"kind": "s3", "bucket": "bucket-name"}


def parsed(launcher, **changes):
    return spec.parse(plain(launcher=launcher, **changes), "test")


def local(**price):
    return {"kind": "local", "price": {"region": "us-east-1", **price}}


def test_a_machine_of_the_table_gives_the_price_of_a_worker_and_where_it_is_from():
    found = parsed(local(instance="c7i.4xlarge"), search={"trials": 6, "workers": 4}).launcher
    assert found.usd_per_hour == pytest.approx(0.714 / 4)
    assert found.price.origin.startswith(
        "c7i.4xlarge on demand in us-east-1 on 2026-01-19: 0.714 USD/h, 4 workers"
    )
    assert str(found.price.date) == "2026-01-19"


def test_the_users_own_number_comes_first_even_where_it_is_nothing():
    for own in (0.3, 0):
        found = parsed({**local(instance="g5.xlarge"), "usd_per_hour": own}).launcher
        assert found.usd_per_hour == own
        assert found.price.origin is None


def test_a_batch_launcher_shares_whole_machines_and_lends_its_region():
    four = {**BATCH, "price": {"instance": "g4dn.12xlarge"}}
    for workers, usd in ((4, 3.912 / 4), (1, 3.912), (5, 2 * 3.912 / 5)):
        found = parsed(four, store=STORE, search={"trials": 6, "workers": workers})
        assert found.launcher.usd_per_hour == pytest.approx(usd)


def test_retraining_and_devices_have_prices_of_their_own():
    found = parsed(
        local(instance="c7i.4xlarge"),
        search={"trials": 6, "workers": 2},
        retrain={"k": 2, "epochs": 2, "launcher": local(instance="c6i.4xlarge"), "workers": 4},
        devices=[{"kind": "torch", "name": "there", "launcher": local(instance="c6i.large")}],
    )
    assert found.launcher.usd_per_hour == pytest.approx(0.714 / 2)
    assert found.retrain.launcher.usd_per_hour == pytest.approx(0.68 / 4)
    assert found.devices[0].launcher.usd_per_hour == pytest.approx(
        0.085
    )  # measuring has the machine for itself


def test_a_table_of_the_users_comes_first(tmp_path):
    path = tables.write(tmp_path)
    found = parsed(
        {"kind": "local", "price": {"instance": "lab"}}, prices=str(path), search={"trials": 6, "workers": 2}
    )
    assert found.launcher.usd_per_hour == 0.5
    assert found.launcher.price.origin == "lab: 1 USD/h, 2 workers on a machine; your own price"
    assert found.launcher.price.date is None


def test_a_later_table_changes_nothing_of_a_run_that_is_there(tmp_path):
    path = tables.write(tmp_path)
    settings = plain(
        launcher={"kind": "local", "price": {"instance": "plain", "region": "here"}}, prices=str(path)
    )
    with_run = create(tmp_path / "runs", settings)
    with_run.close()
    written = yaml.safe_load((with_run.folder / "spec.yaml").read_text())["launcher"]
    assert written["usd_per_hour"] == 0.2
    assert written["price"]["date"] == "2026-08-01"
    assert "a book" in written["price"]["origin"]
    tables.write(tmp_path, offers=[])
    assert look(with_run.folder)[0].launcher.usd_per_hour == 0.2
    path.unlink()
    again, _ = look(with_run.folder)
    assert again.launcher.usd_per_hour == 0.2
    assert again.launcher.price.origin == written["price"]["origin"]


def test_a_parsed_spec_parses_to_itself():
    once = parsed(local(instance="c7i.4xlarge", market="on_demand"))
    assert spec.parse(json.loads(json.dumps(once.plain())), "test") == once


BAD = {
    "near name": (
        local(instance="g5.xlrge"),
        "launcher.price.instance: no price for 'g5.xlrge'; did you mean g5.xlarge",
    ),
    "region": (
        local(instance="g5.xlarge", region="us-east-9"),
        "launcher.price.region: no price for g5.xlarge in region 'us-e",
    ),
    "no region": (
        {"kind": "local", "price": {"instance": "g5.xlarge"}},
        "launcher.price.region: not given; known:",
    ),
    "market": (
        local(instance="g5.xlarge", market="spot"),
        "launcher.price.market: no price of g5.xlarge on the spot",
    ),
    "not a market": (
        local(instance="g5.xlarge", market="sopt"),
        "launcher.price.market: must be 'on_demand' or 'spot'",
    ),
    "zone on demand": (
        local(instance="g5.xlarge", zone="us-east-1a"),
        "launcher.price: zone is 'us-east-1a', but on d",
    ),
    "no instance": ({"kind": "local", "price": {"region": "us-east-1"}}, "launcher.price.instance: missing"),
    "negative": (
        {"kind": "local", "usd_per_hour": -0.1},
        "launcher.usd_per_hour: must be at least 0 (given: -0.1)",
    ),
    "unknown key": (local(instance="g5.xlarge", instace="x"), "launcher.price.instace: unknown key"),
    "text": ({"kind": "local", "price": "g5.xlarge"}, "launcher.price: must be"),
    "strange name": (local(instance="g5 xlarge"), "launcher.price.instance: must be text of the form"),
}


@pytest.mark.parametrize(("launcher", "said"), BAD.values(), ids=BAD)
def test_a_bad_price_is_told_in_one_line_with_its_key(launcher, said):
    with pytest.raises(SpecError) as error:
        parsed(launcher)
    text = str(error.value)
    assert text.startswith(f"test: {said}"), text
    assert "\n" not in text


def test_a_worker_that_does_not_fit_is_told():
    with pytest.raises(SpecError, match=r"launcher.price.instance: g4dn.xlarge has 4 cpus, .* takes 16 cpus"):
        parsed({**BATCH, "resources": {"cpus": 16}, "price": {"instance": "g4dn.xlarge"}}, store=STORE)


def test_a_missing_table_is_told_only_where_it_is_needed(tmp_path):
    lacking = str(tmp_path / "none.yaml")
    assert parsed({"kind": "local", "usd_per_hour": 1}, prices=lacking).launcher.usd_per_hour == 1
    with pytest.raises(SpecError, match=r"^test: prices: .*none.yaml cannot be read"):
        parsed(local(instance="g5.xlarge"), prices=lacking)
