"""What a worker's hour costs, and where it is the cheapest: by hand, and as properties."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.pricing import tables
from ziggurat.errors import SpecError
from ziggurat.pricing import Price
from ziggurat.pricing.arbitrage import Loss, dedicated, rank
from ziggurat.pricing.resolve import Crew, Need, carries, per_worker, worker_price, worker_usd
from ziggurat.pricing.table import Layer, Machine, Table

TABLE = Table([Layer.model_validate(tables.PLAIN)])
GPU = Need(cpus=4, memory_gb=8, gpus=1)


def price(instance, **given):
    return Price(instance=instance, region="here", **given)


def test_a_machine_carries_what_its_scarcest_part_allows():
    four = TABLE.machines["four"]
    assert carries(four, Need(4, 16, 1)) == 4  # GPUs; 12 by processors and by memory
    assert carries(four, Need(16, 16, 1)) == 3  # processors
    assert carries(four, Need(4, 96, 1)) == 2  # memory
    assert carries(four, Need(4, 16, 8)) == 0
    assert carries(four, Need(4, 16, 1, "T4")) == 0
    assert carries(four, Need(4, 16, 1, "a10g")) == 4
    assert carries(Machine(vcpus=8, memory_gb=1.1), Need(1, 1.1)) == 1  # no rounding below what fits exactly


def test_whole_machines_are_paid_by_the_workers_on_them():
    assert per_worker(3.6, 4, 4) == 0.9
    assert per_worker(3.6, 4, 1) == 3.6  # three GPUs idle, and paid
    assert per_worker(3.6, 4, 5) == pytest.approx(1.44)  # two machines for five


def test_the_price_of_a_worker_is_its_share_of_the_machine():
    assert worker_usd(TABLE, price("four"), Crew(GPU, 4)) == 0.9
    assert worker_usd(TABLE, price("one", market="spot", zone="here-a"), Crew(GPU, 8)) == 0.5
    assert worker_usd(TABLE, price("plain"), Crew(Need(), 3, one_machine=True)) == pytest.approx(0.4 / 3)
    assert worker_usd(TABLE, Price(instance="lab"), Crew(GPU, 2)) == 0.5


def test_the_price_remembers_where_it_comes_from_and_its_day():
    found = worker_price(TABLE, price("four"), Crew(GPU, 5))
    assert found.origin == "four on demand in here on 2026-08-01: 3.6 USD/h, 5 workers on 2 machines; a book"
    assert str(found.date) == "2026-08-01"


def test_a_machine_that_is_too_small_is_refused_with_what_both_have():
    with pytest.raises(SpecError) as error:
        worker_usd(TABLE, price("one"), Crew(Need(4, 16, 2)))
    assert (
        "one has 4 cpus, 16 GB of memory, 1 GPU A10G, but a worker takes 4 cpus, 16 GB of memory, 2 GPUs"
        in str(error.value)
    )


def test_a_useful_hour_costs_the_price_and_the_time_that_interruptions_cost():
    choices = rank(TABLE, Crew(GPU, 1), Loss(checkpoint_s=1800, start_s=1800), ["here"])
    spot = next(c for c in choices if c.offer.zone == "here-a")
    rate = -math.log(0.95) / 10
    assert spot.rate == pytest.approx(rate)
    assert spot.useful_usd == pytest.approx(0.5 * (1 + rate * 1.0))
    assert "0.5 USD/h on the spot market, room for 1, lost every 195 h at 60.0 min: +0.5%" in spot.reason


def test_the_ranking_by_hand():
    choices = rank(TABLE, Crew(GPU, 4), Loss(0, 0))
    assert [(c.offer.instance, c.offer.place, c.useful_usd) for c in choices] == [
        ("one", "there", 0.4),
        ("lab", "own", 0.5),  # two machines of two GPUs for four workers
        ("other", "here", 0.5),
        ("one", "here-a", 0.5),
        ("one", "here-b", 0.6),
        ("four", "there", 0.875),
        ("four", "here", 0.9),
        ("one", "here", 1.0),
    ]


def test_on_demand_wins_where_interruptions_cost_more_than_spot_saves():
    # 30 % within 10 h is a loss every 28 h; three hours lost each time make 3.5 USD worth 3.87
    four = [c for c in rank(TABLE, Crew(GPU, 4), Loss(2.5 * 3600, 1800)) if c.offer.instance == "four"]
    assert [c.offer.market for c in four] == ["on_demand", "spot"]
    assert four[1].useful_usd == pytest.approx(3.5 / 4 * (1 - 3 * math.log(0.7) / 10))


def test_only_suitable_machines_are_offered():
    assert {c.offer.instance for c in rank(TABLE, Crew(Need(2, 2)), Loss(0, 0))} == {
        "plain"
    }  # no GPU, no burst
    assert {c.offer.instance for c in rank(TABLE, Crew(Need(1, 1, 1, "T4")), Loss(0, 0))} == {"other"}
    assert rank(TABLE, Crew(Need(1, 1, 9)), Loss(0, 0)) == []
    there = rank(TABLE, Crew(GPU), Loss(0, 0), ["there"])
    assert {c.offer.region for c in there} == {"there", None}  # machines of the user's own are always there


def test_the_cheapest_that_is_never_taken_back_is_known():
    choices = rank(TABLE, Crew(GPU), Loss(0, 0))
    assert dedicated(choices).offer.instance == "other"
    assert dedicated([]) is None


@given(
    need=st.builds(Need, st.integers(1, 64), st.floats(0, 512), st.integers(0, 8)),
    workers=st.integers(1, 200),
    lost=st.floats(0, 1e6),
)
def test_any_ranking_is_finite_and_in_order_and_holds_all_workers(need, workers, lost):
    choices = rank(TABLE, Crew(need, workers), Loss(lost, lost))
    costs = [c.useful_usd for c in choices]
    assert costs == sorted(costs)
    assert all(math.isfinite(c) and c > 0 for c in costs)
    for c in choices:
        assert c.useful_usd >= c.usd_per_hour
        assert c.usd_per_hour * workers >= c.offer.usd_per_hour * (1 - 1e-9)  # a whole machine at least
        assert c.carried * need.cpus <= c.offer.machine.vcpus
        assert c.offer.market == "spot" or c.useful_usd == c.usd_per_hour
    assert choices == rank(TABLE, Crew(need, workers), Loss(lost, lost))


@given(st.floats(0, 1e5), st.floats(0, 1e5))
def test_a_longer_loss_never_makes_a_machine_cheaper(one, two):
    short, long = sorted((one, two))
    before = {
        (c.offer.instance, c.offer.place, c.offer.market): c.useful_usd
        for c in rank(TABLE, Crew(GPU), Loss(short, 0))
    }
    after = {
        (c.offer.instance, c.offer.place, c.offer.market): c.useful_usd
        for c in rank(TABLE, Crew(GPU), Loss(long, 0))
    }
    assert all(after[k] >= before[k] for k in before)
