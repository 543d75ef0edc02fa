"""Price tables: what a file says, what comes first, and what is wrong with one."""

import datetime

import pytest
import yaml

from tests.pricing import tables
from ziggurat.errors import SpecError
from ziggurat.pricing.table import SHARES, SHIPPED, Layer, Table, age_days, load, read


@pytest.fixture
def table(tmp_path):
    return Table([read(tables.write(tmp_path))])


def test_the_shipped_table_says_of_every_price_where_it_is_from_and_of_which_day():
    layer = read(SHIPPED)
    assert len(layer.instances) >= 40
    assert {b.source for b in layer.offers} <= set(layer.sources)
    assert {b.market for b in layer.offers} == {"on_demand", "spot"}
    assert all(name in layer.instances for block in layer.offers for name in block.usd_per_hour)
    assert all(s.date.year == 2026 and len(s.origin) > 20 for s in layer.sources.values())
    told = [n for r in layer.interruptions.reported for names in r.bands.values() for n in names]
    assert len(told) == len(set(told)), "a machine in two bands"
    assert set(told) <= set(layer.instances)


@pytest.mark.parametrize(
    ("instance", "market", "region", "usd"),
    [
        ("g5.xlarge", "on_demand", "us-east-1", 1.006),
        ("g4dn.xlarge", "on_demand", "eu-central-1", 0.658),
        ("p4d.24xlarge", "on_demand", "us-east-1", 21.957642),
        ("p5.48xlarge", "spot", "us-west-2", 19.9678),
        ("m6i.4xlarge", "spot", "us-east-2", 0.1517),
    ],
)
def test_the_shipped_table_has_the_prices_of_its_sources(instance, market, region, usd):
    assert load().lookup(instance, market, region).usd_per_hour == usd


def test_a_spot_price_in_the_shipped_table_is_below_the_one_on_demand():
    found = load().offers()
    dear = {(o.instance, o.region): o.usd_per_hour for o in found if o.market == "on_demand"}
    pairs = [
        (o, dear[o.instance, o.region])
        for o in found
        if o.market == "spot" and (o.instance, o.region) in dear
    ]
    assert len(pairs) > 15
    assert [o.instance for o, price in pairs if o.usd_per_hour >= price] == []


def test_without_a_zone_a_spot_machine_costs_what_it_does_in_the_dearest(table):
    assert table.lookup("one", "spot", "here").usd_per_hour == 0.6
    assert table.lookup("one", "spot", "here", "here-a").usd_per_hour == 0.5
    assert table.lookup("one", "spot", "there").zone is None


def test_a_machine_of_the_users_own_has_neither_region_nor_date(table):
    offer = table.lookup("lab", "on_demand", None)
    assert (offer.market, offer.region, offer.date, offer.usd_per_hour) == ("own", None, None, 1.0)


def test_what_the_first_file_says_of_a_region_is_believed_alone(tmp_path):
    block = {"source": "book", "region": "us-west-2", "zone": "us-west-2b", "market": "spot"}
    path = tables.write(tmp_path, offers=[{**block, "usd_per_hour": {"g5.xlarge": 0.9}}])
    both = load(path)
    assert [
        (o.zone, o.usd_per_hour) for o in both.offers() if o.instance == "g5.xlarge" and o.market == "spot"
    ] == [("us-west-2b", 0.9)]
    assert both.lookup("g5.xlarge", "on_demand", "us-east-1").usd_per_hour == 1.006


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (("onee", "on_demand", "here"), "did you mean one"),
        (("nothing-like-it", "spot", "here"), "instance: no price for 'nothing-like-it'"),
        (("one", "on_demand", "hare"), "did you mean here or there?"),
        (("one", "on_demand", None), "region: not given; known: here, there"),
        (("other", "spot", "here"), "market: no price of other on the spot market in here; known: on_demand"),
        (("one", "spot", "here", "here-x"), "zone: no price of one in 'here-x'"),
    ],
)
def test_what_the_table_lacks_is_told_with_what_is_near(table, asked, said):
    with pytest.raises(SpecError, match=r"^(instance|region|market|zone): ") as error:
        table.lookup(*asked)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_the_share_of_lost_machines_is_the_regions_own_or_the_worst_of_others_or_that_of_all(table):
    assert table.share("one", "here") == (0.05, "<5%")
    assert table.share("four", "there") == (0.30, ">20%")
    assert table.share("plain", "here") == (0.10, "5-10%")
    assert table.rate("one", "here") == pytest.approx(0.0051293, rel=1e-4)  # -ln(0.95) / 10
    assert sorted(SHARES.values()) == list(SHARES.values())


BAD = {
    "negative price": (
        {"offers": [{"source": "book", "region": "r", "market": "spot", "usd_per_hour": {"one": -1}}]},
        "usd_per_hour.one is -1; a price is above 0",
    ),
    "a price of nothing": (
        {"offers": [{"source": "book", "region": "r", "market": "spot", "usd_per_hour": {"one": 0}}]},
        "a price is above 0",
    ),
    "not a number": (
        {
            "offers": [
                {"source": "book", "region": "r", "market": "spot", "usd_per_hour": {"one": float("nan")}}
            ]
        },
        "finite",
    ),
    "text for a price": (
        {"offers": [{"source": "book", "region": "r", "market": "spot", "usd_per_hour": {"one": "dear"}}]},
        "offers.0.usd_per_hour.one",
    ),
    "no source": (
        {"offers": [{"source": "bok", "region": "r", "market": "spot", "usd_per_hour": {"one": 1}}]},
        "source 'bok' is not under sources; did you mean book?",
    ),
    "unknown market": (
        {"offers": [{"source": "book", "region": "r", "market": "sport", "usd_per_hour": {"one": 1}}]},
        "'on_demand' or 'spot'",
    ),
    "unknown machine": (
        {"offers": [{"source": "book", "region": "r", "market": "spot", "usd_per_hour": {"ninth": 1}}]},
        "ninth has a price, but is not under instances",
    ),
    "two prices": ({"offers": [tables.PLAIN["offers"][0]] * 2}, "on demand has two prices in here; keep one"),
    "GPUs without a kind": (
        {"instances": {"one": {"vcpus": 4, "memory_gb": 16, "gpus": 1}}},
        "give gpus and gpu",
    ),
    "no processors": ({"instances": {"one": {"vcpus": 0, "memory_gb": 16}}}, "instances.one.vcpus"),
    "unknown key": ({"ofers": []}, "ofers"),
    "a date that is none": ({"sources": {"book": {"date": "2026-02-30", "from": "x"}}}, "sources.book.date"),
    "another version": ({"version": 2}, "version"),
    "a band that is none": (
        {"interruptions": {"reported": [{"source": "book", "region": "r", "bands": {"30%": ["one"]}}]}},
        "interruptions.reported",
    ),
}


@pytest.mark.parametrize(("changes", "said"), BAD.values(), ids=BAD)
def test_a_bad_table_is_told_in_one_line_with_its_file(tmp_path, changes, said):
    path = tables.write(tmp_path, **changes)
    with pytest.raises(SpecError) as error:
        load(path)
    text = str(error.value)
    assert text.startswith(f"prices: {path}")
    assert said in text
    assert "\n" not in text


@pytest.mark.parametrize("content", [b"a: [1", b"- 1\n- 2", b"\xff\xfe\x00", b"", b"a: 2026-13-45"])
def test_a_file_that_is_no_table_is_told_in_one_line(tmp_path, content):
    path = tmp_path / "t.yaml"
    path.write_bytes(content)
    for place in (path, tmp_path, tmp_path / "missing.yaml"):
        with pytest.raises(SpecError, match=r"^prices: ") as error:
            read(place)
        assert "\n" not in str(error.value)


def test_the_age_of_a_price_is_in_days_and_never_below_zero():
    day = datetime.date(2026, 8, 1)
    assert age_days(day, datetime.date(2026, 8, 31)) == 30
    assert age_days(day, datetime.date(2026, 7, 1)) == 0
    assert age_days(None, day) == 0


def test_offers_come_in_the_same_order_whatever_the_order_in_the_file(tmp_path):
    mixed = {**tables.PLAIN, "offers": tables.PLAIN["offers"][::-1]}
    layers = [Layer.model_validate(yaml.safe_load(yaml.safe_dump(t))) for t in (tables.PLAIN, mixed)]
    first, second = (Table([layer]).offers() for layer in layers)
    assert first == second
