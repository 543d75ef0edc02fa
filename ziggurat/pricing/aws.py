"""Amazon's prices through boto3: the price list, the spot price history and what instances have.

Credentials are AWS's own (variables, profile or role); they need `pricing:GetProducts`,
`ec2:DescribeSpotPriceHistory` and `ec2:DescribeInstanceTypes`.
"""

from __future__ import annotations

import contextlib
import datetime
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from ziggurat.errors import SpecError, ZigguratError, near
from ziggurat.pricing.table import Machine

PRICE_LIST = "us-east-1"
"""Where the price list is asked for; it knows the prices of all regions."""
FILTERS = {"operatingSystem": "Linux", "tenancy": "Shared", "preInstalledSw": "NA", "capacitystatus": "Used"}
TRIES = 4
_CURES = {
    "NoRegion": "give --region, or set AWS_REGION",
    "NoCredentials": "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or use a role",
    "PartialCredentials": "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, both",
    "CredentialRetrieval": "sign in again, or check AWS_PROFILE",
    "ProfileNotFound": "set AWS_PROFILE to a profile of ~/.aws/config",
    "EndpointConnection": "check --region and the way out to the network",
    "ConnectTimeout": "check the way out to the network",
    "ReadTimeout": "try again",
    "ConnectionClosed": "check the way out to the network",
    "SSL": "check the proxy and its certificates (HTTPS_PROXY, AWS_CA_BUNDLE)",
    "ProxyConnection": "check HTTPS_PROXY",
    "AccessDenied": "allow pricing:GetProducts, ec2:DescribeSpotPriceHistory and ec2:DescribeInstanceTypes",
    "UnauthorizedOperation": (
        "allow pricing:GetProducts, ec2:DescribeSpotPriceHistory and ec2:DescribeInstanceTypes"
    ),
    "AuthFailure": "check the credentials, and that the account uses the region",
    "ExpiredToken": "sign in again",
    "UnrecognizedClient": "check AWS_ACCESS_KEY_ID and AWS_SESSION_TOKEN",
    "InvalidClientTokenId": "check AWS_ACCESS_KEY_ID",
    "SignatureDoesNotMatch": "check AWS_SECRET_ACCESS_KEY, and that the clock is right",
    "Throttling": "try again in a minute",
}


class Aws:
    """Prices of EC2."""

    def __init__(self, client: Callable[[str, str], Any] | None = None) -> None:
        """Reach for nothing yet.

        Args:
            client: Gives a client of a service in a region; by default boto3's.
        """
        self._client = client or _boto3

    def machines(self, region: str, names: Sequence[str]) -> Mapping[str, Machine]:
        """What instances have, of those that a region has."""
        with told(f"describe the instances of {region}"):
            pages = (
                self._client("ec2", region)
                .get_paginator("describe_instance_types")
                .paginate(Filters=[{"Name": "instance-type", "Values": list(names)}])
            )
            found = [item for page in pages for item in page["InstanceTypes"]]
        return {
            str(item["InstanceType"]): machine(item) for item in found if item["InstanceType"] in set(names)
        }

    def on_demand(self, region: str, names: Sequence[str]) -> Mapping[str, float]:
        """Prices on demand, one question for each instance: the list cannot be asked for several."""
        found: dict[str, float] = {}
        with told("read the price list"):
            pages = self._client("pricing", PRICE_LIST).get_paginator("get_products")
            for name in names:
                wanted = {**FILTERS, "regionCode": region, "instanceType": name}
                filters = [{"Type": "TERM_MATCH", "Field": k, "Value": v} for k, v in wanted.items()]
                listed = pages.paginate(ServiceCode="AmazonEC2", FormatVersion="aws_v1", Filters=filters)
                prices = [p for page in listed for text in page["PriceList"] for p in hourly(text)]
                if prices:
                    found[name] = max(prices)
        return found

    def spot(self, region: str, names: Sequence[str]) -> Mapping[str, Mapping[str, float]]:
        """Present prices on the spot market, by zone."""
        if not names:
            return {}
        with told(f"read the spot prices of {region}"):
            pages = (
                self._client("ec2", region)
                .get_paginator("describe_spot_price_history")
                .paginate(
                    InstanceTypes=list(names),
                    ProductDescriptions=["Linux/UNIX"],
                    StartTime=datetime.datetime.now(tz=datetime.UTC),
                )
            )
            rows = [row for page in pages for row in page["SpotPriceHistory"]]
        return latest(rows)


def latest(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """The last price of every zone and instance in a spot price history."""
    found: dict[str, dict[str, float]] = {}
    for row in sorted(rows, key=lambda r: r["Timestamp"]):
        found.setdefault(str(row["AvailabilityZone"]), {})[str(row["InstanceType"])] = float(row["SpotPrice"])
    return found


def hourly(text: str) -> list[float]:
    """Prices of an hour on demand in a product of the price list, which is JSON; prices of 0 left out."""
    product = json.loads(text)
    dimensions = [
        dimension
        for term in product.get("terms", {}).get("OnDemand", {}).values()
        for dimension in term.get("priceDimensions", {}).values()
    ]
    prices = [
        float(d["pricePerUnit"]["USD"])
        for d in dimensions
        if d["unit"] == "Hrs" and "USD" in d["pricePerUnit"]
    ]
    return [p for p in prices if p > 0]


def machine(item: Mapping[str, Any]) -> Machine:
    """What an instance has, from its description."""
    gpus = item.get("GpuInfo", {}).get("Gpus", [])
    count = sum(int(g["Count"]) for g in gpus)
    memory = float(gpus[0]["MemoryInfo"]["SizeInMiB"]) / 1024 if gpus else 0.0
    return Machine(
        vcpus=int(item["VCpuInfo"]["DefaultVCpus"]),
        memory_gb=float(item["MemoryInfo"]["SizeInMiB"]) / 1024,
        gpus=count,
        gpu=str(gpus[0]["Name"]) if count else None,
        gpu_memory_gb=round(memory, 1) or None,
        burstable=bool(item.get("BurstablePerformanceSupported", False)),
    )


def own_region() -> str:
    """The region of AWS's own configuration.

    Raises:
        SpecError: There is none.
    """
    import boto3

    with told("read AWS's configuration"):
        region = boto3.session.Session().region_name
    if region is None:
        raise SpecError("no region: give --region, or set AWS_REGION")
    return str(region)


def check_regions(regions: Sequence[str]) -> None:
    """Hold names of regions against those that AWS has.

    Raises:
        SpecError: One is unknown.
    """
    import boto3

    known = boto3.session.Session(region_name=PRICE_LIST).get_available_regions("ec2")
    for region in regions:
        if region not in known:
            raise SpecError(f"--region {region}: AWS has no such region; {near(region, known)}")


def _boto3(service: str, region: str) -> Any:  # noqa: ANN401 - boto3's clients have no types
    import boto3
    from botocore.config import Config

    config = Config(
        retries={"mode": "standard", "total_max_attempts": TRIES}, connect_timeout=5, read_timeout=30
    )
    return boto3.session.Session(region_name=region).client(service, config=config)


@contextlib.contextmanager
def told(doing: str) -> Iterator[None]:
    """Turn botocore's errors into one line with the cure.

    Raises:
        ZigguratError: AWS has refused, or cannot be reached.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except (BotoCoreError, ClientError) as error:
        response: Mapping[str, Any] = getattr(error, "response", {}).get("Error", {})
        code = str(response.get("Code", "")) or type(error).__name__
        said = " ".join(str(response.get("Message") or error).split()).rstrip(".")[:300]
        cure = next(
            (c for start, c in _CURES.items() if code.startswith(start)), "try again, or see the message"
        )
        raise ZigguratError(f"AWS: cannot {doing} ({code}: {said}); {cure}") from None
    except (KeyError, ValueError, TypeError, IndexError) as error:
        text = f"{type(error).__name__}: {error}"
        raise ZigguratError(
            f"AWS: cannot {doing} (an answer of another form: {text}); update boto3"
        ) from None
