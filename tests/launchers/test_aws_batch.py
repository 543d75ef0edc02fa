"""AWS Batch: the exact requests, and what is made of its answers, by moto and by stubs where moto cannot."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from ziggurat.domain import Job, JobKind
from ziggurat.errors import SpecError, ZigguratError
from ziggurat.launchers import AnyLauncher, AwsBatch
from ziggurat.launchers.aws_batch import definition
from ziggurat.launchers.batch_scheduler import BatchScheduler
from ziggurat.launchers.batch_words import condition, shown
from ziggurat.launchers.scheduler import Request, Resources, State
from ziggurat.protocols import Site

TEMPLATE = Path(__file__).parents[2] / "infra/aws-batch/template.yaml"
ACCOUNT = "123456789012"
IMAGE = f"{ACCOUNT}.dkr.ecr.eu-central-1.amazonaws.com/ziggurat:0.1.0"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/ziggurat-job"
SECRET = f"arn:aws:secretsmanager:eu-central-1:{ACCOUNT}:secret:wandb-AbCdEf"


def setting(**changes: Any) -> AwsBatch:
    plain = {"queue": "spot", "image": IMAGE, "region": "eu-central-1", **changes}
    return AwsBatch(**{k: v for k, v in plain.items() if v is not None})


def request(name: str = "small-00003-train-0-0", **changes: Any) -> Request:
    run = "s3://bucket/runs/small-20261122-120000-0a1b2c3d"
    plain = {
        "name": name,
        "command": ("python", "-m", "ziggurat.once", run, "00003-train-0-0"),
        "resources": Resources(),
        "time_limit_s": 3600.2,
        "grace_s": 25.0,
        "environment": {"OMP_NUM_THREADS": "1"},
    }
    return Request(**{**plain, **changes})


@pytest.fixture(autouse=True)
def no_settings_of_this_machine(monkeypatch, tmp_path):
    for name in ("AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


class Account:
    """An imagined AWS account with a queue `spot` on 16 processors."""

    def __init__(self) -> None:
        import boto3

        self.batch = boto3.client("batch", "eu-central-1")
        self.ecr = boto3.client("ecr", "eu-central-1")
        self.logs = boto3.client("logs", "eu-central-1")
        ec2, iam = boto3.client("ec2", "eu-central-1"), boto3.client("iam", "eu-central-1")
        role = iam.create_role(RoleName="batch", AssumeRolePolicyDocument="{}")["Role"]["Arn"]
        profile = iam.create_instance_profile(InstanceProfileName="machine")["InstanceProfile"]["Arn"]
        self.batch.create_compute_environment(
            computeEnvironmentName="machines",
            type="MANAGED",
            state="ENABLED",
            serviceRole=role,
            computeResources={
                "type": "SPOT",
                "minvCpus": 0,
                "maxvCpus": 16,
                "instanceTypes": ["t2.small"],
                "subnets": [ec2.describe_subnets()["Subnets"][0]["SubnetId"]],
                "securityGroupIds": [ec2.describe_security_groups()["SecurityGroups"][0]["GroupId"]],
                "instanceRole": profile,
                "spotIamFleetRole": role,
            },
        )
        order = [{"order": 1, "computeEnvironment": "machines"}]
        self.batch.create_job_queue(
            jobQueueName="spot", state="ENABLED", priority=1, computeEnvironmentOrder=order
        )
        self.ecr.create_repository(repositoryName="ziggurat")
        media = "application/vnd.docker.distribution.manifest.v2+json"
        manifest = {
            "schemaVersion": 2,
            "mediaType": media,
            "config": {"digest": "sha256:" + "0" * 64},
            "layers": [],
        }
        self.ecr.put_image(repositoryName="ziggurat", imageManifest=json.dumps(manifest), imageTag="0.1.0")

    def definitions(self, name: str) -> list[dict[str, Any]]:
        return self.batch.describe_job_definitions(jobDefinitionName=name)["jobDefinitions"]

    def job(self, handle: str) -> dict[str, Any]:
        return self.batch.describe_jobs(jobs=[handle])["jobs"][0]


@pytest.fixture(scope="module")
def account() -> Iterator[Account]:
    """One for all tests, since building it takes long; each test has jobs and definitions of its own."""
    from moto import mock_aws

    with mock_aws(config={"batch": {"use_docker": False}}):
        yield Account()


@pytest.fixture
def scheduler(account: Account) -> Iterator[BatchScheduler]:
    made = BatchScheduler(setting())
    yield made
    made.close()


GOLDEN = """{
  "aws_batch": {
    "region": "eu-central-1",
    "register_job_definition": {
      "jobDefinitionName": "ziggurat-HASH",
      "type": "container",
      "platformCapabilities": [
        "EC2"
      ],
      "containerProperties": {
        "image": "123456789012.dkr.ecr.eu-central-1.amazonaws.com/ziggurat:0.1.0",
        "resourceRequirements": [
          {
            "type": "VCPU",
            "value": "4"
          },
          {
            "type": "MEMORY",
            "value": "8192"
          },
          {
            "type": "GPU",
            "value": "1"
          }
        ],
        "linuxParameters": {
          "initProcessEnabled": true,
          "sharedMemorySize": 1024
        },
        "jobRoleArn": "arn:aws:iam::123456789012:role/ziggurat-job",
        "executionRoleArn": "arn:aws:iam::123456789012:role/ziggurat-job",
        "secrets": [
          {
            "name": "WANDB_API_KEY",
            "valueFrom": "arn:aws:secretsmanager:eu-central-1:123456789012:secret:wandb-AbCdEf"
          }
        ],
        "logConfiguration": {
          "logDriver": "awslogs",
          "options": {
            "awslogs-group": "/ziggurat",
            "awslogs-stream-prefix": "ziggurat"
          }
        }
      },
      "propagateTags": true,
      "tags": {
        "team": "vision"
      }
    },
    "submit_job": {
      "jobName": "small-00003-train-0-0",
      "jobQueue": "spot",
      "jobDefinition": "ziggurat-HASH",
      "containerOverrides": {
        "command": [
          "python",
          "-m",
          "ziggurat.once",
          "s3://bucket/runs/small-20261122-120000-0a1b2c3d",
          "00003-train-0-0"
        ],
        "environment": [
          {
            "name": "DATABASE",
            "value": "postgresql://(hidden)@db/x"
          },
          {
            "name": "HF_TOKEN",
            "value": "(hidden)"
          },
          {
            "name": "OMP_NUM_THREADS",
            "value": "4"
          }
        ],
        "resourceRequirements": [
          {
            "type": "VCPU",
            "value": "4"
          },
          {
            "type": "MEMORY",
            "value": "8192"
          },
          {
            "type": "GPU",
            "value": "1"
          }
        ]
      },
      "timeout": {
        "attemptDurationSeconds": 3601
      },
      "retryStrategy": {
        "attempts": 3,
        "evaluateOnExit": [
          {
            "onStatusReason": "Host EC2*",
            "action": "RETRY"
          },
          {
            "onReason": "*",
            "action": "EXIT"
          }
        ]
      },
      "propagateTags": true,
      "shareIdentifier": "research",
      "schedulingPriorityOverride": 7,
      "tags": {
        "team": "vision"
      }
    }
  }
}"""


def test_plan_is_the_exact_requests_without_secrets_and_reaches_for_nothing():
    resources = Resources(cpus=4, memory_mb=8192, gpus=1)
    made = setting(
        resources=resources,
        job_role_arn=ROLE,
        execution_role_arn=ROLE,
        secrets={"WANDB_API_KEY": SECRET},
        shared_memory_mb=1024,
        log_group="/ziggurat",
        attempts=3,
        share="research",
        priority=7,
        tags={"team": "vision"},
    )
    environment = {"OMP_NUM_THREADS": "4", "HF_TOKEN": "hf_x1", "DATABASE": "postgresql://u:pw@db/x"}
    told = made.scheduler(Path()).plan(request(resources=resources, environment=environment))
    name = definition(made, resources)["jobDefinitionName"]
    assert told.replace(name, "ziggurat-HASH") == GOLDEN
    assert "hf_x1" not in told
    assert "pw@" not in told


def test_settings_and_a_dry_run_import_no_boto3():
    code = (
        "import sys; from ziggurat.launchers import AwsBatch; from ziggurat.launchers.scheduler import *;"
        "s = AwsBatch(queue='q', image='i').scheduler(None);"
        "s.plan(Request('n', ('a',), Resources(), 60, 1)); s.close();"
        "print([m for m in ('boto3', 'botocore', 'torch') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "[]\n", done.stderr


def test_jobs_of_an_image_run_the_python_in_it_and_read_the_store(monkeypatch, tmp_path):
    monkeypatch.setenv("PYTHONPATH", "/home/somebody")
    job = Job("00003-train-0-0", JobKind.TRAIN, "search", trial=3)
    made = setting(environment={"NAME": "x"})
    site = Site(tmp_path / "small-1", 1)
    own = setting(image=None, job_definition="mine:1").request(site, job)
    assert own.command[0] == "python"
    assert "PYTHONPATH" not in own.environment
    asked = made.request(site, job)
    assert asked.command[:3] == ("python", "-m", "ziggurat.once")
    assert "PYTHONPATH" not in asked.environment
    assert asked.environment["NAME"] == "x"
    assert made.needs_store


def test_a_definition_is_registered_once_whoever_asks_for_it(account, scheduler):
    own = {"resources": Resources(cpus=3)}
    first = scheduler.submit(request("first", **own))
    second = scheduler.submit(request("second", **own))
    third = BatchScheduler(setting()).submit(request("third", **own))
    assert len({first, second, third}) == 3
    (only,) = account.definitions(definition(setting(), Resources(cpus=3))["jobDefinitionName"])
    assert only["revision"] == 1
    assert {account.job(h)["jobDefinition"] for h in (first, second, third)} == {only["jobDefinitionArn"]}


@pytest.mark.parametrize("change", [{"image": "other:1"}, {"tags": {"a": "b"}}, {"shared_memory_mb": 128}])
def test_other_content_is_another_definition(change):
    names = {definition(s, Resources())["jobDefinitionName"] for s in (setting(), setting(**change))}
    assert len(names) == 2


def test_what_concerns_one_job_alone_does_not_make_another_definition():
    same = [setting(), setting(attempts=3), setting(environment={"A": "b"}), setting(time_limit_s=5)]
    assert len({definition(s, Resources())["jobDefinitionName"] for s in same}) == 1


def test_a_job_gets_its_command_variables_resources_and_timeout(account, scheduler):
    handle = scheduler.submit(request(resources=Resources(cpus=2, gpus=1), time_limit_s=7))
    job = account.job(handle)
    assert job["container"]["command"] == list(request().command)
    assert {"name": "OMP_NUM_THREADS", "value": "1"} in job["container"]["environment"]
    assert (job["container"]["vcpus"], job["container"]["memory"]) == (2, 4096)
    assert job["timeout"] == {"attemptDurationSeconds": 60}, "Batch takes no less"


def test_a_definition_of_ones_own_is_used_as_it_is(account):
    account.batch.register_job_definition(
        jobDefinitionName="mine",
        type="container",
        containerProperties={
            "image": "busybox",
            "resourceRequirements": [{"type": "VCPU", "value": "1"}, {"type": "MEMORY", "value": "512"}],
        },
    )
    made = BatchScheduler(setting(image=None, job_definition="mine:1"))
    made.check()
    assert account.job(made.submit(request()))["jobDefinition"].endswith("job-definition/mine:1")
    assert len(account.definitions("mine")) == 1
    plan = json.loads(made.plan(request()))["aws_batch"]
    assert list(plan) == ["region", "submit_job"]
    assert [r["type"] for r in plan["submit_job"]["containerOverrides"]["resourceRequirements"]] == ["VCPU"]


def test_jobs_are_found_by_their_exact_name(account, scheduler):
    handles = [scheduler.submit(request(name)) for name in ("small-1", "small-11", "small-2")]
    assert scheduler.look_up("small-1") == handles[0]
    assert scheduler.look_up("small-2") == handles[2]
    assert scheduler.look_up("small") is None
    assert BatchScheduler(setting()).look_up("small-11") == handles[1]


def test_conditions_are_asked_for_a_hundred_jobs_at_a_time(account, scheduler):
    handles = [scheduler.submit(request(f"job-{i}")) for i in range(101)]
    asked: list[int] = []
    scheduler._batch.meta.events.register(
        "provide-client-params.batch.DescribeJobs", lambda params, **_: asked.append(len(params["jobs"]))
    )
    found = scheduler.conditions([*handles, "nobody"])
    assert asked == [100, 2]
    assert set(found) == {*handles, "nobody"}
    assert found["nobody"].state is State.GONE
    assert {found[h].state for h in handles} <= {State.PENDING, State.RUNNING, State.SUCCEEDED}


def test_a_cancelled_job_says_so_and_cancelling_again_is_no_error(account, scheduler):
    handle = scheduler.submit(request())
    scheduler.cancel(handle)
    scheduler.cancel(handle)
    scheduler.cancel("00000000-0000-0000-0000-000000000000")


def described(reason: str = "", inner: str = "", code: int | None = None, **more: Any) -> dict[str, Any]:
    container = {"reason": inner, "exitCode": code}
    return {
        "status": "FAILED",
        "statusReason": reason,
        "container": {k: v for k, v in container.items() if v},
        **more,
    }


ENDS = [
    (
        described("Host EC2 (instance i-0123456789abcdef0) terminated."),
        State.PREEMPTED,
        "i-0123456789abcdef0",
    ),
    (described("Your Spot Task was interrupted."), State.PREEMPTED, "Spot Task"),
    (
        described("Essential container in task exited", "OutOfMemoryError: Container killed", 137),
        State.OUT_OF_MEMORY,
        "memory_mb",
    ),
    (described("Job attempt duration exceeded timeout", code=137), State.TIMEOUT, "exceeded timeout"),
    (
        described("Job attempt duration exceeded timeout", code=137, isTerminated=True),
        State.TIMEOUT,
        "exit code 137",
    ),
    (
        described("Task failed to start", "CannotPullContainerError: manifest for x:y not found"),
        State.FAILED,
        "check launcher.image",
    ),
    (described("Task failed to start", "DockerTimeoutError: late"), State.FAILED, "DockerTimeoutError"),
    (
        # a job that the queue itself has cancelled: it would wait again if it were taken for pre-empted
        described("MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT", isCancelled=True),
        State.FAILED,
        "launcher.resources",
    ),
    (
        described("ResourceInitializationError: unable to pull secrets"),
        State.FAILED,
        "launcher.execution_role_arn",
    ),
    (described("Essential container in task exited", code=1), State.FAILED, "exit code 1"),
    (described("cancelled by Ziggurat", code=143), State.CANCELLED, "cancelled"),
    (described("somebody's own words", isTerminated=True), State.CANCELLED, "somebody's own words"),
    (described(), State.FAILED, "without a reason"),
]


@pytest.mark.parametrize(("job", "state", "words"), ENDS, ids=[words for *_, words in ENDS])
def test_the_cause_of_an_end_is_read_from_what_batch_says(job, state, words):
    found = condition(job)
    assert found.state is state
    assert words in found.text
    assert "\n" not in found.text


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ("SUBMITTED", State.PENDING),
        ("PENDING", State.PENDING),
        ("RUNNABLE", State.PENDING),
        ("STARTING", State.PENDING),
        ("RUNNING", State.RUNNING),
        ("SUCCEEDED", State.SUCCEEDED),
    ],
)
def test_every_state_of_batch_is_one_of_ours(status, state):
    assert condition({"status": status}).state is state


def test_why_a_job_waits_is_told():
    why = "MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT - The job resource requirement cannot be met"
    assert condition({"status": "RUNNABLE", "statusReason": why}).text == why


@pytest.mark.parametrize(
    ("name", "value", "printed"),
    [
        ("WANDB_API_KEY", "x", "(hidden)"),
        ("AWS_SECRET_ACCESS_KEY", "x", "(hidden)"),
        ("DB_PASSWORD", "x", "(hidden)"),
        ("MLFLOW_TRACKING_URI", "http://me:pw@host/", "http://(hidden)@host/"),
        ("MONKEYS", "12", "12"),
        ("ZIGGURAT_KEY", "00003-train-0-0", "00003-train-0-0"),
    ],
)
def test_a_variable_is_shown_unless_its_name_says_that_it_is_secret(name, value, printed):
    assert shown(name, value) == printed


def test_everything_is_there(scheduler):
    scheduler.check()


def test_a_queue_that_is_not_there_is_named_with_those_that_are(account):
    with pytest.raises(
        SpecError, match=r"launcher.queue: no queue 'spott' in eu-central-1; did you mean spot\?"
    ):
        BatchScheduler(setting(queue="spott")).check()


def test_a_queue_or_its_machines_that_are_switched_off_are_found(account, scheduler):
    account.batch.update_job_queue(jobQueue="spot", state="DISABLED")
    with pytest.raises(SpecError, match="queue 'spot' is disabled; enable it"):
        scheduler.check()
    account.batch.update_job_queue(jobQueue="spot", state="ENABLED")
    account.batch.update_compute_environment(computeEnvironment="machines", state="DISABLED")
    with pytest.raises(SpecError, match=r"no machines behind queue 'spot' \(machines is disabled\)"):
        scheduler.check()
    account.batch.update_compute_environment(computeEnvironment="machines", state="ENABLED")
    scheduler.check()


def test_a_job_that_is_larger_than_the_queue_is_found(account):
    with pytest.raises(SpecError, match=r"launcher.resources.cpus is 17, but queue 'spot' has at most 16"):
        BatchScheduler(setting(resources=Resources(cpus=17))).check()


def test_a_share_for_a_queue_without_shares_is_found(account):
    with pytest.raises(SpecError, match=r"launcher.share is 'a', but queue 'spot' has no fair-share policy"):
        BatchScheduler(setting(share="a")).check()


def test_a_queue_with_shares_asks_for_one(account):
    policy = account.batch.create_scheduling_policy(name="fair")["arn"]
    order = [{"order": 1, "computeEnvironment": "machines"}]
    account.batch.create_job_queue(
        jobQueueName="fair",
        state="ENABLED",
        priority=1,
        schedulingPolicyArn=policy,
        computeEnvironmentOrder=order,
    )
    with pytest.raises(SpecError, match=r"launcher.share: queue 'fair' has a fair-share policy"):
        BatchScheduler(setting(queue="fair")).check()
    BatchScheduler(setting(queue="fair", share="a")).check()


@pytest.mark.parametrize(
    "image",
    [IMAGE.replace("0.1.0", "9.9.9"), IMAGE.replace("ziggurat", "zigurat"), IMAGE + "@sha256:" + "1" * 64],
)
def test_an_image_that_is_not_in_the_registry_is_found(account, image):
    with pytest.raises(SpecError, match=r"launcher\.image: '.*' is not in the registry; push it"):
        BatchScheduler(setting(image=image)).check()


def test_an_image_of_another_registry_is_not_asked_for(account):
    BatchScheduler(setting(image="ghcr.io/somebody/ziggurat:1")).check()


def test_a_definition_that_is_not_there_is_found(account):
    with pytest.raises(SpecError, match=r"launcher.job_definition: no active 'none:2'; known: none"):
        BatchScheduler(setting(image=None, job_definition="none:2")).check()


def test_without_a_region_the_cure_is_told(account):
    with pytest.raises(SpecError, match=r"NoRegionError.*set launcher\.region, or AWS_REGION"):
        BatchScheduler(setting(region=None)).check()


def test_without_credentials_the_cure_is_told(monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(
        SpecError, match=r"NoCredentialsError.*set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    ):
        BatchScheduler(setting()).check()


def test_an_address_that_nobody_answers_at_is_told_once_in_one_line(free_port, monkeypatch):
    monkeypatch.setattr("ziggurat.launchers.batch_scheduler.TRIES", 1)
    with pytest.raises(
        SpecError, match=r"EndpointConnectionError.*check launcher\.region, launcher\.endpoint"
    ) as found:
        BatchScheduler(setting(endpoint=f"http://127.0.0.1:{free_port}")).check()
    assert "\n" not in str(found.value)


class Stubbed:
    """A scheduler whose client of Batch answers what it was given."""

    def __init__(self) -> None:
        from botocore.stub import Stubber

        self.scheduler = BatchScheduler(setting())
        self.stub = Stubber(self.scheduler._batch)
        self.stub.activate()

    def fail(self, method: str, code: str, message: str) -> None:
        self.stub.add_client_error(method, code, message)


@pytest.fixture
def stubbed() -> Stubbed:
    return Stubbed()


@pytest.mark.parametrize(
    ("code", "cure"),
    [
        ("UnrecognizedClientException", "check AWS_ACCESS_KEY_ID, AWS_SESSION_TOKEN"),
        ("AccessDeniedException", "give these credentials the permissions"),
        ("ExpiredTokenException", "sign in again"),
        ("InvalidSignatureException", "check AWS_SECRET_ACCESS_KEY"),
    ],
)
def test_credentials_that_are_refused_are_told_with_the_cure(stubbed, code, cure):
    stubbed.fail("describe_job_queues", code, "The security token is not valid.\nReally.")
    with pytest.raises(SpecError) as found:
        stubbed.scheduler.check()
    assert cure in str(found.value)
    assert code in str(found.value)
    assert "\n" not in str(found.value)


@pytest.mark.parametrize(
    ("message", "cure"),
    [
        ("Job queue spot does not exist", "check launcher.queue"),
        ("Job definition spot does not exist", "check launcher.job_definition"),
        ("shareIdentifier is required", "check launcher.share"),
        ("Container Overrides length must be at most 8192", "shorten launcher.environment"),
        ("something new", "check the settings under launcher"),
    ],
)
def test_a_submission_that_is_refused_names_the_job_and_the_cure(stubbed, message, cure):
    stubbed.stub.add_response("describe_job_definitions", {"jobDefinitions": []})
    arn = "arn:aws:batch:eu-central-1:123456789012:job-definition/a:1"
    registered = {"jobDefinitionName": "a", "jobDefinitionArn": arn, "revision": 1}
    stubbed.stub.add_response("register_job_definition", registered)
    stubbed.fail("submit_job", "ClientException", message)
    with pytest.raises(ZigguratError, match="cannot submit small-00003-train-0-0") as found:
        stubbed.scheduler.submit(request())
    assert str(found.value).endswith(cure) or cure in str(found.value)


def test_conditions_that_cannot_be_asked_for_are_an_error_and_not_an_end(stubbed):
    stubbed.fail("describe_jobs", "TooManyRequestsException", "Rate exceeded")
    with pytest.raises(ZigguratError, match="TooManyRequests"):
        stubbed.scheduler.conditions(["a"])


def test_the_youngest_living_job_of_a_name_is_the_one_that_counts(stubbed):
    jobs = [("old", "x", 1, "FAILED"), ("alive", "x", 2, "RUNNING"), ("ended", "x", 3, "FAILED")]
    jobs.insert(1, ("other", "X", 4, "RUNNING"))  # AWS does not tell large letters from small ones
    keys = ("jobId", "jobName", "createdAt", "status")
    summaries = [dict(zip(keys, job, strict=True)) for job in jobs]
    # the answer comes in two pages
    stubbed.stub.add_response("list_jobs", {"jobSummaryList": summaries[:2], "nextToken": "more"})
    stubbed.stub.add_response("list_jobs", {"jobSummaryList": summaries[2:]})
    assert stubbed.scheduler.look_up("x") == "alive"
    stubbed.stub.add_response("list_jobs", {"jobSummaryList": [*summaries[:2], summaries[3]]})
    assert stubbed.scheduler.look_up("x") == "ended"


def test_throttling_is_waited_out_by_botocore(stubbed):
    config = stubbed.scheduler._batch.meta.config
    assert config.retries["mode"] == "standard"
    assert config.retries["total_max_attempts"] >= 5


def test_the_last_line_that_says_something_is_read_from_the_log(account, scheduler):
    handle = scheduler.submit(request())
    stream = account.job(handle)["container"]["logStreamName"]
    account.logs.create_log_group(logGroupName="/aws/batch/job")
    account.logs.create_log_stream(logGroupName="/aws/batch/job", logStreamName=stream)
    lines = ["Traceback", "ValueError: the user's own words", "   "]
    now = account.job(handle)["createdAt"]
    events = [{"timestamp": now + i, "message": line} for i, line in enumerate(lines)]
    account.logs.put_log_events(logGroupName="/aws/batch/job", logStreamName=stream, logEvents=events)
    assert scheduler.last_words(handle) == "ValueError: the user's own words"


def test_a_log_that_cannot_be_read_says_nothing(account, scheduler):
    assert scheduler.last_words(scheduler.submit(request())) == ""
    assert scheduler.last_words("nobody") == ""


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"image": None}, "give either image or job_definition"),
        ({"job_definition": "mine:1"}, "give either image or job_definition"),
        (
            {"image": None, "job_definition": "mine:1", "log_group": "/x"},
            "log_group belongs to the job definition",
        ),
        ({"secrets": {"A": "hunter2"}, "execution_role_arn": ROLE}, "A is no ARN"),
        ({"secrets": {"A": SECRET}}, "secrets are read by execution_role_arn; set it"),
        (
            {"secrets": {"A": SECRET}, "environment": {"A": "b"}, "execution_role_arn": ROLE},
            "A is in environment and in secrets",
        ),
        ({"environment": {"AWS_BATCH_X": "1"}}, "'AWS_BATCH_X' cannot be set"),
        ({"environment": {"a-b": "1"}}, "'a-b' cannot be set"),
        ({"platform": "fargate"}, "Fargate pulls images as execution_role_arn"),
        (
            {"platform": "fargate", "execution_role_arn": ROLE, "resources": {"cpus": 3}},
            "Fargate has no 3 cpus; set resources.cpus to 1, 2, 4, 8 or 16",
        ),
        (
            {"platform": "fargate", "execution_role_arn": ROLE, "resources": {"memory_mb": 2500}},
            "Fargate has no 2500 MB for 1 cpus; set resources.memory_mb to 2048 to 8192 in steps of 1024",
        ),
        (
            {"platform": "fargate", "execution_role_arn": ROLE, "resources": {"gpus": 1}},
            "Fargate has neither GPUs nor shared_memory_mb",
        ),
        ({"region": "Frankfurt"}, "region"),
        ({"job_role_arn": "admin"}, "job_role_arn"),
    ],
)
def test_settings_that_do_not_fit_together_are_refused(changes, words):
    plain = {"kind": "aws_batch", "queue": "spot", "image": IMAGE, **changes}
    with pytest.raises(ValidationError) as found:
        TypeAdapter(AnyLauncher).validate_python({k: v for k, v in plain.items() if v is not None})
    assert words in str(found.value)
    assert all("hunter2" not in error["msg"] for error in found.value.errors())


@pytest.mark.parametrize("cpus", [1, 2, 4, 8, 16])
def test_fargate_takes_its_sizes_with_the_memory_that_follows(cpus):
    made = setting(platform="fargate", execution_role_arn=ROLE, resources=Resources(cpus=cpus))
    assert definition(made, made.resources)["platformCapabilities"] == ["FARGATE"]


def test_the_template_makes_a_queue_and_roles_that_the_launcher_can_use(account):
    import boto3

    ec2 = boto3.client("ec2", "eu-central-1")
    subnets = ec2.describe_subnets()["Subnets"]
    given = {"VpcId": subnets[0]["VpcId"], "Subnets": subnets[0]["SubnetId"], "Bucket": "bucket"}
    given["InstanceTypes"] = "c5.large,m5.large"  # moto knows no families
    # moto knows no service-linked role
    template = TEMPLATE.read_text(encoding="utf-8").replace(
        "Type: MANAGED", "Type: MANAGED\n      ServiceRole: !GetAtt MachineRole.Arn"
    )
    stacks = boto3.client("cloudformation", "eu-central-1")
    stacks.create_stack(
        StackName="ziggurat",
        TemplateBody=template,
        Parameters=[{"ParameterKey": k, "ParameterValue": v} for k, v in given.items()],
        Capabilities=["CAPABILITY_IAM"],
    )
    (stack,) = stacks.describe_stacks(StackName="ziggurat")["Stacks"]
    assert stack["StackStatus"] == "CREATE_COMPLETE"
    made = {o["OutputKey"]: o["OutputValue"] for o in stack["Outputs"]}
    scheduler = BatchScheduler(
        setting(
            queue=made["Queue"],
            job_role_arn=made["JobRoleArn"],
            execution_role_arn=made["ExecutionRoleArn"],
            log_group=made["LogGroup"],
        )
    )
    scheduler.check()
    assert account.job(scheduler.submit(request()))["jobQueue"] == made["Queue"]
    iam = boto3.client("iam")
    version = iam.get_policy(PolicyArn=made["StorePolicyArn"])["Policy"]["DefaultVersionId"]
    found = iam.get_policy_version(PolicyArn=made["StorePolicyArn"], VersionId=version)
    objects, listing = found["PolicyVersion"]["Document"]["Statement"]
    assert objects["Resource"] == "arn:aws:s3:::bucket/ziggurat/*"
    assert listing["Condition"] == {"StringLikeIfExists": {"s3:prefix": ["ziggurat", "ziggurat/*"]}}
