"""The roles of `infra/aws-batch/template.yaml` may do what the code asks of AWS, and nothing else."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
TEMPLATE = ROOT / "infra/aws-batch/template.yaml"
AT = "eu-central-1:123456789012"
KEY = f"arn:aws:kms:{AT}:key/1"
GIVEN = {
    "AWS::Partition": "aws", "AWS::Region": AT.partition(":")[0], "AWS::AccountId": AT.partition(":")[2],
    "Bucket": "runs", "Prefix": "ziggurat", "Repository": "ziggurat", "KmsKey": KEY,
    "Queue": f"arn:aws:batch:{AT}:job-queue/ours", "Log.Arn": f"arn:aws:logs:{AT}:log-group:ours:*",
    "JobRole.Arn": "arn:aws:iam::123456789012:role/job",
    "ExecutionRole.Arn": "arn:aws:iam::123456789012:role/start",
}  # fmt: skip
"""Parameters, and the names of what the template makes."""

OBJECT, BUCKET = "arn:aws:s3:::runs/ziggurat/RUN/trials/1", "arn:aws:s3:::runs"
LISTED = {"s3:prefix": "ziggurat/RUN/"}
QUEUE, JOB = GIVEN["Queue"], f"arn:aws:batch:{AT}:job/0a1b"
DEFINITION = f"arn:aws:batch:{AT}:job-definition/ziggurat-0a1b"
REPOSITORY = f"arn:aws:ecr:{AT}:repository/ziggurat"
STREAM = f"arn:aws:logs:{AT}:log-group:ours:log-stream:ziggurat/default/1"
EVERYTHING = "*"

Row = tuple[str, str, str, Mapping[str, str]]
"""Policy, action, resource, context of the request."""
CALLS: dict[str, list[Row]] = {
    "s3.put_object": [("Store", "s3:PutObject", OBJECT, {})],
    "s3.head_object": [("Store", "s3:GetObject", OBJECT, {}), ("Store", "s3:ListBucket", BUCKET, {})],
    "s3.get_object": [("Store", "s3:GetObject", OBJECT, {}), ("Store", "s3:ListBucket", BUCKET, {})],
    "s3.delete_objects": [("Store", "s3:DeleteObject", OBJECT, {})],
    "s3.list_objects_v2": [
        ("Store", "s3:ListBucket", BUCKET, LISTED),
        ("Store", "s3:ListBucket", BUCKET, {"s3:prefix": "ziggurat/"}),  # which runs there are
    ],
    "s3.create_multipart_upload": [("Store", "s3:PutObject", OBJECT, {})],
    "s3.upload_part": [("Store", "s3:PutObject", OBJECT, {})],
    "s3.complete_multipart_upload": [("Store", "s3:PutObject", OBJECT, {})],
    "s3.abort_multipart_upload": [("Store", "s3:AbortMultipartUpload", OBJECT, {})],
    "s3.list_multipart_uploads": [
        ("Store", "s3:ListBucketMultipartUploads", BUCKET, LISTED),
        ("Store", "s3:ListBucketMultipartUploads", BUCKET, {}),  # S3 does not say the prefix of these
    ],
    "batch.describe_job_queues": [("Controller", "batch:DescribeJobQueues", EVERYTHING, {})],
    "batch.describe_compute_environments": [
        ("Controller", "batch:DescribeComputeEnvironments", EVERYTHING, {})
    ],
    "batch.describe_job_definitions": [("Controller", "batch:DescribeJobDefinitions", EVERYTHING, {})],
    "batch.describe_jobs": [("Controller", "batch:DescribeJobs", EVERYTHING, {})],
    "batch.list_jobs": [("Controller", "batch:ListJobs", EVERYTHING, {})],
    "batch.register_job_definition": [
        ("Controller", "batch:RegisterJobDefinition", DEFINITION, {}),
        ("Controller", "batch:TagResource", DEFINITION, {}),
        *(
            ("Controller", "iam:PassRole", GIVEN[role], {"iam:PassedToService": "ecs-tasks.amazonaws.com"})
            for role in ("JobRole.Arn", "ExecutionRole.Arn")
        ),
    ],
    "batch.submit_job": [
        ("Controller", "batch:SubmitJob", QUEUE, {}),
        ("Controller", "batch:SubmitJob", f"{DEFINITION}:3", {}),
        ("Controller", "batch:TagResource", JOB, {}),
    ],
    "batch.terminate_job": [("Controller", "batch:TerminateJob", JOB, {})],
    "logs.get_log_events": [("Controller", "logs:GetLogEvents", STREAM, {})],
    "ecr.describe_images": [("Controller", "ecr:DescribeImages", REPOSITORY, {})],
    "ec2.describe_instance_types": [("Prices", "ec2:DescribeInstanceTypes", EVERYTHING, {})],
    "ec2.describe_spot_price_history": [("Prices", "ec2:DescribeSpotPriceHistory", EVERYTHING, {})],
    "pricing.get_products": [("Prices", "pricing:GetProducts", EVERYTHING, {})],
}
"""What each call of the code needs. An object that is absent is "not found" for those only who may list."""

REFUSED: list[Row] = [
    ("Store", "s3:GetObject", "arn:aws:s3:::runs/other/RUN/1", {}),
    ("Store", "s3:GetObject", "arn:aws:s3:::runs/ziggurat-private/1", {}),
    ("Store", "s3:PutObject", "arn:aws:s3:::elsewhere/ziggurat/1", {}),
    ("Store", "s3:ListBucket", BUCKET, {"s3:prefix": "other/"}),
    ("Store", "s3:ListBucket", BUCKET, {"s3:prefix": ""}),
    ("Store", "s3:ListBucket", "arn:aws:s3:::elsewhere", LISTED),
    ("Store", "s3:DeleteBucket", BUCKET, {}),
    ("Store", "s3:PutBucketPolicy", BUCKET, {}),
    ("Store", "kms:Decrypt", KEY, {}),
    ("StoreKey", "kms:Decrypt", f"arn:aws:kms:{AT}:key/2", {}),
    ("StoreKey", "kms:CreateGrant", KEY, {}),
    ("Controller", "batch:SubmitJob", f"arn:aws:batch:{AT}:job-queue/theirs", {}),
    ("Controller", "batch:SubmitJob", f"arn:aws:batch:{AT}:job-definition/theirs:1", {}),
    ("Controller", "batch:RegisterJobDefinition", f"arn:aws:batch:{AT}:job-definition/theirs", {}),
    ("Controller", "batch:TagResource", QUEUE, {}),
    ("Controller", "batch:DeleteJobQueue", QUEUE, {}),
    ("Controller", "iam:PassRole", "arn:aws:iam::123456789012:role/admin",
     {"iam:PassedToService": "ecs-tasks.amazonaws.com"}),
    ("Controller", "iam:PassRole", GIVEN["JobRole.Arn"], {"iam:PassedToService": "ec2.amazonaws.com"}),
    ("Controller", "iam:PassRole", GIVEN["JobRole.Arn"], {}),
    ("Controller", "logs:GetLogEvents", f"arn:aws:logs:{AT}:log-group:theirs:log-stream:1", {}),
    ("Controller", "ecr:DescribeImages", f"arn:aws:ecr:{AT}:repository/theirs", {}),
    ("Controller", "s3:GetObject", OBJECT, {}),
    ("Prices", "ec2:RunInstances", EVERYTHING, {}),
]  # fmt: skip


class _Loader(yaml.SafeLoader):
    """YAML of CloudFormation with its functions worked out for the names above."""


def _work_out(loader: _Loader, suffix: str, node: yaml.Node) -> Any:
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node, deep=True)
    assert isinstance(node, yaml.ScalarNode)
    text = str(loader.construct_scalar(node))
    if suffix == "Sub":
        return re.sub(r"\$\{([\w:]+)\}", lambda m: GIVEN.get(m[1], m[0]), text)
    return GIVEN.get(text, f"{{{text}}}")


_Loader.add_multi_constructor("!", _work_out)


@cache
def resources() -> dict[str, Any]:
    found: dict[str, Any] = yaml.load(TEMPLATE.read_text(encoding="utf-8"), Loader=_Loader)["Resources"]
    return found


def statements(policy: str) -> list[dict[str, Any]]:
    """The statements of one of the template's managed policies."""
    found: list[dict[str, Any]] = resources()[policy]["Properties"]["PolicyDocument"]["Statement"]
    return found


def many(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def met(condition: Mapping[str, Mapping[str, Any]], context: Mapping[str, str]) -> bool:
    """Whether a request has what a condition asks for, as IAM decides it."""
    for operator, wanted in condition.items():
        assert operator in {"StringEquals", "StringLike", "StringLikeIfExists"}
        for key, patterns in wanted.items():
            if key not in context:
                if operator.endswith("IfExists"):
                    continue
                return False
            if not any(fnmatchcase(context[key], pattern) for pattern in many(patterns)):
                return False
    return True


def allowed(policy: str, action: str, resource: str, context: Mapping[str, str]) -> bool:
    return any(
        statement["Effect"] == "Allow"
        and any(fnmatchcase(action, pattern) for pattern in many(statement["Action"]))
        and any(resource == "*" == p or fnmatchcase(resource, p) for p in many(statement["Resource"]))
        and met(statement.get("Condition", {}), context)
        for statement in statements(policy)
    )


MODULES = {
    "ziggurat/stores/bucket.py": ("s3",),
    "ziggurat/stores/s3_transfer.py": ("s3",),
    "ziggurat/launchers/batch_scheduler.py": ("batch", "logs"),
    "ziggurat/launchers/batch_checks.py": ("batch", "ecr"),
    "ziggurat/pricing/aws.py": ("pricing", "ec2"),
}


@cache
def operations(service: str) -> frozenset[str]:
    """The calls that a client of a service has."""
    if service in {"pricing", "ec2"}:  # EC2's own description takes a second to read
        return frozenset(name.partition(".")[2] for name in CALLS if name.startswith(f"{service}."))
    from botocore import xform_name
    from botocore.loaders import Loader

    return frozenset(xform_name(o) for o in Loader().load_service_model(service, "service-2")["operations"])


def called(path: str) -> Iterator[str]:
    """What a module calls on anything, and what it pages through."""
    for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            paged = node.func.attr == "get_paginator" and isinstance(node.args[0], ast.Constant)
            yield str(node.args[0].value) if paged else node.func.attr  # type: ignore[attr-defined]


def test_every_call_of_the_code_is_in_the_table_and_no_other():
    found = {
        f"{service}.{name}"
        for path, services in MODULES.items()
        for service in services
        for name in set(called(path)) & operations(service)
    }
    assert found == set(CALLS)


def test_only_these_modules_reach_for_aws():
    sources = [p for folder in ("ziggurat", "flows", "tasks") for p in (ROOT / folder).rglob("*.py")]
    found = {str(p.relative_to(ROOT)) for p in sources if re.search(r"\bimport boto3", p.read_text())}
    assert found <= {*MODULES, "ziggurat/launchers/aws_batch.py"}


@pytest.mark.parametrize("row", [r for rows in CALLS.values() for r in rows], ids=lambda r: f"{r[0]}-{r[1]}")
def test_what_a_call_needs_is_allowed(row: Row):
    assert allowed(*row)


@pytest.mark.parametrize("row", REFUSED, ids=lambda r: f"{r[1]}-{r[2].rpartition(':')[2]}")
def test_what_is_not_ours_is_refused(row: Row):
    assert not allowed(*row)


@pytest.mark.parametrize("policy", ["Store", "Controller", "Prices"])
def test_a_policy_allows_no_action_that_no_call_needs(policy: str):
    needed = {row[1] for rows in CALLS.values() for row in rows if row[0] == policy}
    granted = {a for s in statements(policy) for a in many(s["Action"])}
    assert granted == needed
    assert not any("*" in action for action in granted)


def test_a_key_of_ones_own_is_for_what_s3_does_with_it_alone():
    assert resources()["StoreKey"]["Condition"] == "HasKmsKey"
    for action in ("kms:Decrypt", "kms:GenerateDataKey"):  # to read, and to write in parts as well
        assert allowed("StoreKey", action, KEY, {})


def test_containers_have_the_store_and_nothing_else():
    role = resources()["JobRole"]["Properties"]
    assert role["ManagedPolicyArns"] == ["{Store}"]
    assert "Policies" not in role
