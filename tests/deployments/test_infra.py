"""What lies in `infra/`: manifests that Kubernetes' models accept, services with few rights, images."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.specifiers import SpecifierSet

INFRA = Path(__file__).resolve().parents[2] / "infra"
ROOT = INFRA.parent
FILES = sorted((INFRA / "kubernetes").glob("*.yaml"))
MANIFESTS = [m for path in FILES for m in yaml.safe_load_all(path.read_text()) if m]
COMPOSE = yaml.safe_load((INFRA / "compose.yaml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if service["image"].startswith("ziggurat:")}
DOCKERFILE = (INFRA / "Dockerfile").read_text()
MODELS = {
    "Namespace": "V1Namespace",
    "ServiceAccount": "V1ServiceAccount",
    "Role": "V1Role",
    "RoleBinding": "V1RoleBinding",
    "ClusterRole": "V1ClusterRole",
    "ClusterRoleBinding": "V1ClusterRoleBinding",
    "PriorityClass": "V1PriorityClass",
    "PersistentVolumeClaim": "V1PersistentVolumeClaim",
    "Job": "V1Job",
    "Deployment": "V1Deployment",
    "NetworkPolicy": "V1NetworkPolicy",
}
PODS = {m["metadata"]["name"]: m["spec"]["template"] for m in MANIFESTS if m["kind"] in {"Job", "Deployment"}}


def named(kind: str, name: str) -> dict[str, Any]:
    (found,) = (m for m in MANIFESTS if (m["kind"], m["metadata"]["name"]) == (kind, name))
    return found


@pytest.mark.parametrize(
    "manifest", MANIFESTS, ids=[f"{m['kind']}-{m['metadata']['name']}" for m in MANIFESTS]
)
def test_manifest_has_no_key_that_kubernetes_does_not_know(manifest):
    if manifest["kind"] == "Queue":  # of Volcano
        assert manifest["apiVersion"] == "scheduling.volcano.sh/v1beta1"
        assert set(manifest["spec"]) <= {"reclaimable", "weight", "capability"}
        return
    client = pytest.importorskip("kubernetes").client.ApiClient()
    model = client._ApiClient__deserialize(manifest, MODELS[manifest["kind"]])
    assert client.sanitize_for_serialization(model) == manifest


def test_workers_ask_the_cluster_for_nothing_and_the_controller_for_little():
    worker = named("ServiceAccount", "ziggurat-worker")
    assert worker["automountServiceAccountToken"] is False
    bound = [s["name"] for m in MANIFESTS if m["kind"].endswith("Binding") for s in m["subjects"]]
    assert set(bound) == {"ziggurat-controller"}
    rules = [r for m in MANIFESTS if m["kind"].endswith("Role") for r in m["rules"]]
    words = {word for rule in rules for part in ("verbs", "resources", "apiGroups") for word in rule[part]}
    assert words & {"*", "secrets", "delete", "escalate", "pods/exec"} == set()


def test_the_controller_has_longer_to_stop_than_the_workers_it_stops():
    pod = named("Job", "ziggurat")["spec"]["template"]["spec"]
    text = (INFRA / "kubernetes/ziggurat.yaml").read_text()
    (grace,) = re.findall(r"grace_s: (\d+)", text)
    assert pod["terminationGracePeriodSeconds"] > int(grace)
    assert pod["securityContext"]["runAsNonRoot"]


def test_a_search_gives_way_to_a_retraining():
    search, retrain = (named("PriorityClass", f"ziggurat-{name}")["value"] for name in ("search", "retrain"))
    assert search < retrain


def test_the_image_runs_whatever_command_a_scheduler_appends():
    text = (INFRA / "Dockerfile").read_text()
    assert re.findall(r"^ENTRYPOINT", text, re.MULTILINE) == []
    assert 'CMD ["ziggurat", "--help"]' in text


def test_machines_on_aws_stop_containers_within_the_two_minutes_of_a_notice():
    text = (INFRA / "aws-batch/template.yaml").read_text()
    (stop,) = re.findall(r"ECS_CONTAINER_STOP_TIMEOUT=(\d+)s", text)
    assert 30 < int(stop) < 120
    assert "HttpPutResponseHopLimit: 2" in text, "containers are one hop further from the metadata service"
    assert "HttpTokens: required" in text


@pytest.mark.parametrize("name", sorted(PODS))
def test_a_pod_keeps_the_restricted_profile_and_has_bounds(name):
    spec = PODS[name]["spec"]
    assert spec["securityContext"]["runAsNonRoot"]
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert f"USER {spec['securityContext']['runAsUser']}:" in DOCKERFILE
    for container in spec["containers"]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert set(container["resources"]["requests"]) >= {"cpu", "memory"}
        assert "memory" in container["resources"]["limits"]
        # what programs leave at home goes to the scratch space
        assert {"name": "HOME", "value": "/tmp"} in container["env"]
        assert "/tmp" in [m["mountPath"] for m in container["volumeMounts"]]
        assert {m["name"] for m in container["volumeMounts"]} == {v["name"] for v in spec["volumes"]}


def test_the_worker_of_prefect_is_probed_where_it_listens():
    (container,) = PODS["prefect-worker"]["spec"]["containers"]
    assert "--with-healthcheck" in container["command"]
    (port,) = container["ports"]
    assert {"name": "PREFECT_WORKER_WEBSERVER_PORT", "value": str(port["containerPort"])} in container["env"]
    for probe in ("startupProbe", "livenessProbe"):
        assert container[probe]["httpGet"] == {"path": "/health", "port": port["name"]}


@pytest.mark.parametrize(
    "name", sorted(m["metadata"]["name"] for m in MANIFESTS if m["kind"] == "Deployment")
)
def test_a_deployment_selects_its_own_pods_alone(name):
    chosen = named("Deployment", name)["spec"]["selector"]["matchLabels"]
    assert [
        n for n, pod in PODS.items() if chosen.items() <= pod.get("metadata", {}).get("labels", {}).items()
    ] == [name]


def test_nobody_connects_to_pods_and_jobs_reach_nothing_inside_the_cluster():
    assert named("NetworkPolicy", "no-ingress")["spec"] == {"podSelector": {}, "policyTypes": ["Ingress"]}
    jobs = named("NetworkPolicy", "jobs")["spec"]
    (chosen,) = jobs["podSelector"]["matchExpressions"]
    assert f'"{chosen["key"]}"' in (ROOT / "ziggurat/launchers/torchx_kubernetes.py").read_text()
    names, outside = jobs["egress"]
    assert {p["port"] for p in names["ports"]} == {53}
    assert [p["port"] for p in outside["ports"]] == [443]
    assert set(outside["to"][0]["ipBlock"]["except"]) >= {"10.0.0.0/8", "169.254.0.0/16"}


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_a_service_can_write_to_its_volumes_alone_and_gains_no_rights(name):
    service = SERVICES[name]
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "cap_add" not in service or name not in OURS
    assert "/tmp" in service["tmpfs"]
    assert service["logging"]["options"]["max-size"], "logs would fill the disk"
    if name in OURS:
        assert service["environment"]["HOME"] == "/tmp"
        assert service["init"]


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_a_service_waits_for_what_it_talks_to_and_shares_a_network_with_it(name):
    service = SERVICES[name]
    words = str(service["environment"]) + str(service.get("command"))
    others = {n for n in SERVICES if n != name and re.search(rf"(//|@){n}:\d", words)}
    for other in others:
        assert set(service["networks"]) & set(SERVICES[other]["networks"]), other
    for other, wanted in service.get("depends_on", {}).items():
        kind = "service_completed_successfully" if SERVICES[other]["restart"] == "no" else "service_healthy"
        assert wanted == {"condition": kind}, other
        assert kind != "service_healthy" or "healthcheck" in SERVICES[other]
    seen, waiting = set(), list(service.get("depends_on", {}))
    while waiting:
        other = waiting.pop()
        if other not in seen:
            seen.add(other)
            waiting += SERVICES[other].get("depends_on", {})
    assert name not in seen, "it would wait for itself"
    assert others <= seen


def test_data_has_no_way_out_and_pages_are_the_only_ports():
    assert COMPOSE["networks"]["data"] == {"internal": True}
    assert [n for n in ("postgres", "store", "buckets") if SERVICES[n]["networks"] != ["data"]] == []
    assert {n for n, s in SERVICES.items() if "ports" in s} == {"mlflow", "prefect"}


def test_volumes_and_networks_of_services_are_declared_and_used():
    mounted = {v.split(":")[0] for s in SERVICES.values() for v in s.get("volumes", []) if v[0] not in "./$"}
    assert mounted | {"data"} == set(COMPOSE["volumes"])
    assert {n for s in SERVICES.values() for n in s["networks"]} == set(COMPOSE["networks"])


def test_the_environment_file_names_every_variable_of_the_services():
    text = (INFRA / "compose.yaml").read_text()
    asked = set(re.findall(r"\$\{(\w+)[:}]", text)) | {"ALERT_URL"}
    known = (INFRA / "example.env").read_text()
    assert [n for n in sorted(asked) if not re.search(rf"^(# )?{n}=", known, re.MULTILINE)] == []
    for name in re.findall(r"\$\{(\w+):\?", text):
        assert re.search(rf"^{name}=$", known, re.MULTILINE), f"{name} is a secret, and has no value there"


def test_the_compose_file_is_one_by_the_schema_of_the_specification():
    checker = pytest.importorskip("check_jsonschema.builtin_schemas", reason="needs check-jsonschema")
    jsonschema = pytest.importorskip("jsonschema")
    for name in ("compose.yaml", "compose.gpu.yaml"):
        schema = checker.get_builtin_schema("vendor.compose-spec")
        jsonschema.validate(yaml.safe_load((INFRA / name).read_text()), schema)


def test_services_start_what_the_image_has():
    scripts = {"python", "mlflow", "prefect", "ziggurat"}
    assert {service["entrypoint"][0] for service in OURS.values()} <= scripts
    pinned = (ROOT / "requirements.lock").read_text() + "\n".join(
        word
        for line in DOCKERFILE.splitlines()
        if "pip install" in line
        for word in shlex.split(line.rstrip("\\"))
    )
    for package in (
        "prefect==",
        "mlflow==",
        "boto3==",
        "asyncpg==",
        "apprise==",
        "psycopg2-binary==",
        "kubernetes==",
    ):
        assert package in pinned, package


def test_what_the_image_adds_to_the_lock_has_the_versions_that_are_tested():
    develop = (ROOT / "requirements-dev.lock").read_text()
    for argument, package in {"PSYCOPG2": "psycopg2-binary", "KUBERNETES": "kubernetes"}.items():
        (version,) = re.findall(rf"^ARG {argument}=(\S+)$", DOCKERFILE, re.MULTILINE)
        assert f"{package}=={version}\n" in develop


def test_a_build_of_torch_for_processors_is_one_by_the_lock():
    (pinned,) = re.findall(r"^torch(==\S+)$", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    assert f"{pinned.removeprefix('==')}+cpu" in SpecifierSet(pinned)
    assert "${TORCH_INDEX:+--extra-index-url" in DOCKERFILE, "without one pip would be given an empty address"


def test_infra_names_no_package_index():
    files = [*INFRA.rglob("*"), ROOT / "docs/deploying.md"]
    texts = {
        p: p.read_text() for p in files if p.is_file() and p.suffix in {".yaml", ".md", ".env", ".sbatch", ""}
    }
    found = [
        p.name for p, text in texts.items() if re.search(r"pypi\.org|pythonhosted|download\.pytorch", text)
    ]
    assert found == []
