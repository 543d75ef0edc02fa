"""What lies in `infra/` for clusters: manifests that Kubernetes' models accept, and roles with few rights."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

INFRA = Path(__file__).resolve().parents[2] / "infra"
MANIFESTS = [m for m in yaml.safe_load_all((INFRA / "kubernetes/ziggurat.yaml").read_text()) if m]
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
}


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
