"""Today's prices: the price list by its recorded shape, the spot history and the machines by moto."""

import datetime
import json

import pytest

from ziggurat.errors import SpecError, ZigguratError
from ziggurat.pricing import aws, refresh
from ziggurat.pricing.table import Machine, load, read

TODAY = datetime.date(2026, 11, 22)


def product(instance, *prices, unit="Hrs"):
    """A product as the price list has it: JSON in which offers and prices have codes for names."""
    sku = f"SKU{instance}"
    dimensions = {
        f"{sku}.JRTCKXETXF.6YS6EN2CT{i}": {
            "unit": unit,
            "endRange": "Inf",
            "description": f"${price} per On Demand Linux {instance} Instance Hour",
            "appliesTo": [],
            "rateCode": f"{sku}.JRTCKXETXF.6YS6EN2CT{i}",
            "beginRange": "0",
            "pricePerUnit": {"USD": price},
        }
        for i, price in enumerate(prices)
    }
    return json.dumps(
        {
            "product": {
                "productFamily": "Compute Instance",
                "attributes": {
                    "instanceType": instance,
                    "vcpu": "4",
                    "memory": "16 GiB",
                    "operatingSystem": "Linux",
                },
                "sku": sku,
            },
            "serviceCode": "AmazonEC2",
            "terms": {
                "OnDemand": {
                    f"{sku}.JRTCKXETXF": {
                        "priceDimensions": dimensions,
                        "sku": sku,
                        "effectiveDate": "2026-11-01T00:00:00Z",
                        "offerTermCode": "JRTCKXETXF",
                        "termAttributes": {},
                    }
                },
                "Reserved": {
                    "x": {"priceDimensions": {"y": {"unit": "Hrs", "pricePerUnit": {"USD": "0.1"}}}}
                },
            },
            "version": "20261101",
            "publicationDate": "2026-11-01T00:00:00Z",
        }
    )


class PriceList:
    """The pricing client, as far as it is used: pages of products for the filters of a question."""

    def __init__(self, pages):
        self.pages, self.asked = pages, []

    def get_paginator(self, operation):
        assert operation == "get_products"
        return self

    def paginate(self, **arguments):
        self.asked.append(arguments)
        name = next(f["Value"] for f in arguments["Filters"] if f["Field"] == "instanceType")
        return [{"FormatVersion": "aws_v1", "PriceList": page} for page in self.pages.get(name, [[]])]


def cloud(listed):
    """AWS with moto's EC2 and a recorded price list."""
    return aws.Aws(lambda service, region: listed if service == "pricing" else aws._boto3(service, region))


@pytest.fixture
def ec2(monkeypatch):
    for name in ("AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    from moto import mock_aws

    with mock_aws():
        yield


def test_prices_of_today_become_a_table_with_zones(ec2, tmp_path):
    listed = PriceList(
        {
            "g5.xlarge": [[product("g5.xlarge", "1.0060000000")]],
            "c7i.xlarge": [[], [product("c7i.xlarge", "0.2")]],
        }
    )
    names = ["g5.xlarge", "c7i.xlarge", "p3.2xlarge"]
    layer = refresh.fetch(cloud(listed), ["us-west-2"], names, TODAY)
    path = tmp_path / "prices.yaml"
    refresh.write(path, layer)
    assert read(path) == layer
    table = load(path)
    assert table.lookup("g5.xlarge", "on_demand", "us-west-2").usd_per_hour == 1.006
    assert table.lookup("c7i.xlarge", "on_demand", "us-west-2").usd_per_hour == 0.2  # on the second page
    spot = [o for o in table.offers() if o.instance == "g5.xlarge" and o.market == "spot"]
    assert {(o.zone, o.date) for o in spot} == {(f"us-west-2{z}", TODAY) for z in "abc"}
    assert layer.instances == {
        "g5.xlarge": Machine(vcpus=4, memory_gb=16, gpus=1, gpu="A10G", gpu_memory_gb=22.4),
        "c7i.xlarge": Machine(vcpus=4, memory_gb=8),
    }  # AWS no longer has p3 there


def test_the_price_list_is_asked_for_linux_on_shared_machines_of_one_kind(ec2):
    listed = PriceList({"g5.xlarge": [[product("g5.xlarge", "1")]]})
    refresh.fetch(cloud(listed), ["eu-west-1"], ["g5.xlarge"], TODAY)
    assert {f["Field"]: f["Value"] for f in listed.asked[0]["Filters"]} == {
        "operatingSystem": "Linux",
        "tenancy": "Shared",
        "preInstalledSw": "NA",
        "capacitystatus": "Used",
        "regionCode": "eu-west-1",
        "instanceType": "g5.xlarge",
    }


def test_of_several_prices_the_dearest_counts_and_those_of_nothing_or_other_units_do_not():
    assert aws.hourly(product("x", "0.0000000000", "0.5")) == [0.5]
    assert aws.hourly(product("x", "0.5", unit="Quantity")) == []
    assert aws.hourly('{"product": {}}') == []


def test_the_last_spot_price_of_every_zone_counts():
    def row(zone, price, hour):
        at = datetime.datetime(2026, 11, 22, hour, tzinfo=datetime.UTC)
        return {"AvailabilityZone": zone, "InstanceType": "g5.xlarge", "SpotPrice": price, "Timestamp": at}

    rows = [row("a", "0.5", 3), row("a", "0.4", 1), row("b", "0.6", 2)]
    assert aws.latest(rows) == {"a": {"g5.xlarge": 0.5}, "b": {"g5.xlarge": 0.6}}
    assert aws.latest([]) == {}


def test_a_machine_that_nobody_has_is_told(ec2):
    with pytest.raises(ZigguratError, match=r"^no price of g5.huge in us-west-2; check the names$"):
        refresh.fetch(cloud(PriceList({})), ["us-west-2"], ["g5.huge"], TODAY)


def test_the_usual_machines_are_those_of_the_shipped_table():
    assert "g5.xlarge" in refresh.usual()


def test_an_unwritable_file_is_told_and_nothing_is_left(tmp_path):
    layer = load().layers[0]
    (tmp_path / "file").write_text("")
    with pytest.raises(SpecError, match=r"^--out .*: cannot be written"):
        refresh.write(tmp_path / "file" / "prices.yaml", layer)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_missing_credentials_are_told_in_one_line(monkeypatch, tmp_path):
    for name in (
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_PROFILE",
        "AWS_REGION",
        "AWS_DEFAULT_REGION",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    with pytest.raises(
        ZigguratError, match=r"AWS: cannot describe .* set AWS_ACCESS_KEY_ID and AWS_SECRET"
    ) as error:
        aws.Aws().machines("us-west-2", ["g5.xlarge"])
    assert "\n" not in str(error.value)
    with pytest.raises(SpecError, match="no region: give --region, or set AWS_REGION"):
        aws.own_region()


def test_no_way_to_the_network_is_told_in_one_line(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "y")

    def nowhere(service, region):
        import boto3
        from botocore.config import Config

        config = Config(retries={"total_max_attempts": 1}, connect_timeout=1)
        return boto3.session.Session(region_name=region).client(
            service, endpoint_url="http://127.0.0.1:9", config=config
        )

    with pytest.raises(ZigguratError, match=r"EndpointConnectionError.*the way out to the network"):
        aws.Aws(nowhere).spot("us-west-2", ["g5.xlarge"])


def test_a_refusal_names_the_permissions():
    from botocore.exceptions import ClientError

    with (
        pytest.raises(ZigguratError, match="allow pricing:GetProducts, ec2:Desc"),
        aws.told("read the price list"),
    ):
        raise ClientError({"Error": {"Code": "AccessDeniedException", "Message": "no\nno"}}, "GetProducts")
    with (
        pytest.raises(ZigguratError, match="an answer of another form: JSONDecodeError"),
        aws.told("read the price list"),
    ):
        aws.hourly("{}garbage")


def test_an_unknown_region_is_told_with_what_is_near():
    with pytest.raises(
        SpecError, match="--region us-west-22: AWS has no such region; did you mean us-west-2"
    ):
        aws.check_regions(["us-east-1", "us-west-22"])
