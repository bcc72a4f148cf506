"""The clusters that manifests/ describes are ones that Ray, Kubernetes and our own command line understand."""

import json
import shlex
from pathlib import Path

import jsonschema
import pytest
import ray
import typer
import yaml

from cluster.cli import app
from cluster.scaling import Range

ROOT = Path(__file__).parent.parent
AWS = yaml.safe_load((ROOT / "manifests/aws.yaml").read_text("utf8"))
CLUSTER, SERVICE = yaml.safe_load_all((ROOT / "manifests/kuberay.yaml").read_text("utf8"))
HEAD = CLUSTER["spec"]["headGroupSpec"]["template"]["spec"]["containers"][0]
[WORKERS] = CLUSTER["spec"]["workerGroupSpecs"]
WORKER = WORKERS["template"]["spec"]["containers"][0]


def parsed(line):
    """What `cactus up` takes from a line of a shell: it is not run."""
    words = shlex.split(line.strip().removeprefix("exec "))
    assert words[:2] == ["cactus", "up"]
    return typer.main.get_command(app).commands["up"].make_context("up", words[2:]).params


UP = {
    "aws": parsed(next(line for line in AWS["head_start_ray_commands"] if "cactus" in line)),
    "kuberay": parsed(HEAD["args"][0].strip().splitlines()[-1]),
}


def test_rays_own_schema_takes_the_cluster_of_aws():
    schema = json.loads((Path(ray.__file__).parent / "autoscaler/ray-schema.json").read_text("utf8"))
    jsonschema.validate(AWS, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**AWS, "max_wrokers": 4}, schema)  # it would notice


def test_the_head_of_aws_is_one_of_its_nodes_and_starts_ray_before_us():
    assert AWS["head_node_type"] in AWS["available_node_types"]
    starts = [line.split()[0] + line.split()[1] for line in AWS["head_start_ray_commands"]]
    assert starts == ["raystop", "raystart", "cactusup"]
    assert UP["aws"]["detach"]  # `ray up` waits for its commands to end


@pytest.mark.parametrize("where", UP)
def test_each_serves_to_other_machines_and_scales_no_further_than_its_nodes(where):
    options = UP[where]
    most = AWS["available_node_types"]["gpu"]["max_workers"] if where == "aws" else WORKERS["maxReplicas"]
    assert options["listen"].startswith("0.0.0.0:")
    assert options["address"]
    assert Range.parse(options["replicas"]).most == most


def test_the_cluster_of_kubernetes_has_what_its_kind_requires():
    assert (CLUSTER["apiVersion"], CLUSTER["kind"]) == ("ray.io/v1", "RayCluster")
    for group in (CLUSTER["spec"]["headGroupSpec"], WORKERS):
        assert group["rayStartParams"] is not None
        assert group["template"]["spec"]["containers"]
    assert WORKERS["minReplicas"] <= WORKERS["replicas"] <= WORKERS["maxReplicas"]
    assert CLUSTER["metadata"]["annotations"]["ray.io/overwrite-container-cmd"] == "true"
    assert all("$KUBERAY_GEN_RAY_START_CMD" in container["args"][0] for container in (HEAD, WORKER))
    assert HEAD["image"] == WORKER["image"]
    assert WORKER["resources"]["limits"]["nvidia.com/gpu"] == "1"


def test_the_service_of_kubernetes_reaches_every_gateway():
    port, options = int(UP["kuberay"]["listen"].rpartition(":")[2]), UP["kuberay"]
    gateways = [port + number for number in range(options["gateways"])]
    named = {each["name"]: each["containerPort"] for each in HEAD["ports"]}
    assert [each["port"] for each in SERVICE["spec"]["ports"]] == gateways
    assert [named[each["targetPort"]] for each in SERVICE["spec"]["ports"]] == gateways
    labels = CLUSTER["spec"]["headGroupSpec"]["template"]["metadata"]["labels"]
    assert SERVICE["spec"]["selector"].items() <= labels.items()


def test_both_run_the_ray_that_is_tested():
    assert CLUSTER["spec"]["rayVersion"] == ray.__version__
