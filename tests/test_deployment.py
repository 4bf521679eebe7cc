"""The examples of a cluster: well-formed, one version of Ray, and commands that our CLIs accept."""

from __future__ import annotations

import re
import shlex
from importlib import metadata
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from qdrant_client.common.version_check import is_compatible
from ray.serve.schema import ServeDeploySchema

import fti_ingest.cli.main
import fti_qdrant.cli.serve
import fti_training.cli.main
from fti_qdrant.gallery.server_capabilities import AVAILABLE, ServerCapabilities
from fti_qdrant.serve.ray_serve import ReplicaOptions
from fti_qdrant.serve.ray_serve import application as application_of

ROOT = Path(__file__).parents[1]
JOBS = ["ingest/rayjob.yaml", "training/rayjob-captions.yaml", "training/rayjob-fit.yaml"]
SERVICES = ["docs/deploy/serve.yaml", "docs/deploy/rayservice.yaml"]
PROGRAMS: dict[str, click.Command] = {
    "fti-serve": fti_qdrant.cli.serve.main,
    "fti-ingest": fti_ingest.cli.main.main,
    "fti-train": fti_training.cli.main.main,
}


def read(name: str) -> Any:
    return yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))


def parsed(command: str) -> click.Context:
    """The command as its program parses it, without running it."""
    program, *arguments = shlex.split(command)
    group = PROGRAMS[program]
    if not isinstance(group, click.Group):
        return group.make_context(program, list(arguments))
    with group.make_context(program, list(arguments), resilient_parsing=False) as context:
        name, chosen, rest = group.resolve_command(
            context, [*context._protected_args, *context.args]
        )
        assert chosen is not None
        return chosen.make_context(name, rest, parent=context)


def compose_commands() -> dict[str, str]:
    services = read("docker-compose.yml")["services"]
    found = {name: one.get("command", "") for name, one in services.items()}
    return {name: command for name, command in found.items() if command.startswith("fti-")}


def ray_version() -> str:
    found = re.search(r"rayproject/ray:([\d.]+)-", (ROOT / "Dockerfile").read_text())
    assert found
    return found[1]


@pytest.mark.parametrize("service", ["ingest", "captions", "fit", "serve"])
def test_the_services_commands_are_ours(service: str) -> None:
    command = compose_commands()[service]
    assert parsed(command).params
    entrypoint = read("docker-compose.yml")["services"][service]["entrypoint"]
    assert 'exec "$$@"' in entrypoint[2]


def test_the_services_of_a_cluster() -> None:
    services = read("docker-compose.yml")["services"]
    assert set(services) == {
        "qdrant",
        "ray-head",
        "ray-worker",
        "ingest",
        "captions",
        "fit",
        "serve",
    }
    for name in ("ray-head", "ray-worker"):
        assert services[name]["command"].startswith("ray start ")
        assert services[name]["environment"]["RAY_AUTH_MODE"] == "token"
    for ports in (service.get("ports", []) for service in services.values()):
        assert all(port.startswith("127.0.0.1:") for port in ports)
    assert services["ingest"]["profiles"] == ["jobs"]


def bytes_of(size: str) -> int:
    """Of what compose and Kubernetes write, such as ``4gb`` and ``8Gi``; both count by 1024."""
    found = re.fullmatch(r"(\d+)(gb|Gi|mb|Mi)", size)
    assert found, size
    return int(found[1]) * (2**30 if found[2][0] in "gG" else 2**20)


def fits_into_shared_memory(store: str, shared: str) -> bool:
    """Ray goes to the disk where its object store does not fit into what is free of it."""
    return 0.5 * bytes_of(shared) < int(store) < 0.95 * bytes_of(shared)


def test_every_node_of_the_compose_file_has_an_object_store_that_fits() -> None:
    nodes = 0
    for service in read("docker-compose.yml")["services"].values():
        started = " ".join([str(service.get("command", "")), *service.get("entrypoint", [])])
        if "ray start" in started:
            nodes += 1
            [store] = re.findall(r"--object-store-memory=(\d+)", started)
            assert fits_into_shared_memory(store, service["shm_size"])
    assert nodes == 6


@pytest.mark.parametrize("name", [*JOBS, SERVICES[1]])
def test_every_node_of_a_rayjob_has_an_object_store_that_fits(name: str) -> None:
    spec = read(name)["spec"]
    cluster = spec.get("rayClusterSpec") or spec["rayClusterConfig"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        volumes = {one["name"]: one for one in group["template"]["spec"]["volumes"]}
        shared = volumes["shm"]["emptyDir"]["sizeLimit"]
        assert fits_into_shared_memory(group["rayStartParams"]["object-store-memory"], shared)


def compose_server() -> str:
    image = read("docker-compose.yml")["services"]["qdrant"]["image"]
    found = re.fullmatch(r"qdrant/qdrant:v(\d+\.\d+\.\d+)", image)
    assert found, image
    return found[1]


def test_the_compose_files_server_is_one_that_the_client_supports() -> None:
    """By the client's own rule, and by our table of features."""
    assert is_compatible(metadata.version("qdrant-client"), compose_server())
    assert not is_compatible(metadata.version("qdrant-client"), "1.16.0")
    able = ServerCapabilities(compose_server())
    assert [feature for feature in AVAILABLE if not able.supports(feature)] == []


@pytest.mark.parametrize("name", JOBS)
def test_a_rayjob(name: str) -> None:
    job = read(name)
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    spec = job["spec"]
    asked = parsed(spec["entrypoint"]).params
    cluster = spec["rayClusterSpec"]
    assert cluster["rayVersion"] == ray_version()
    [group] = cluster["workerGroupSpecs"]
    assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    assert int(asked["workers"]) == group["replicas"]  # a model for each GPU
    [container] = group["template"]["spec"]["containers"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"
    mounts = {mount["name"] for mount in container["volumeMounts"]}
    assert mounts == {volume["name"] for volume in group["template"]["spec"]["volumes"]}


def serve_config(name: str) -> Any:
    """What Ray Serve reads, alone or inside of a RayService."""
    found = read(name)
    return found if "applications" in found else yaml.safe_load(found["spec"]["serveConfigV2"])


@pytest.mark.parametrize("name", SERVICES)
def test_a_config_file_of_ray_serve(name: str) -> None:
    config = ServeDeploySchema.model_validate(serve_config(name))
    [application] = config.applications
    assert application.import_path == "fti_qdrant.serve.ray_serve:application"
    assert application.route_prefix == "/"
    options = ReplicaOptions.model_validate(application.args)
    plan = options.plan()
    assert plan.location.url == "http://qdrant:6333"
    assert plan.batching.max_queue <= plan.settings.max_requests
    made = application_of(options)
    assert made._bound_deployment.num_replicas == options.replicas
    assert made._bound_deployment.ray_actor_options["num_gpus"] == 1


def test_a_rayservice() -> None:
    service = read(SERVICES[1])
    assert (service["apiVersion"], service["kind"]) == ("ray.io/v1", "RayService")
    cluster = service["spec"]["rayClusterConfig"]
    assert cluster["rayVersion"] == ray_version()
    [group] = cluster["workerGroupSpecs"]
    assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    options = ReplicaOptions.model_validate(serve_config(SERVICES[1])["applications"][0]["args"])
    assert options.replicas == group["replicas"]  # a model for each GPU
    [container] = group["template"]["spec"]["containers"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == str(int(options.gpus))
    assert int(container["resources"]["requests"]["cpu"]) > options.cpus
    names = {one["name"] for one in container["env"]}
    assert {"QDRANT_API_KEY", "FTI_SERVE_API_KEY"} <= names


def test_an_option_that_is_none_of_ours_would_be_noticed() -> None:
    with pytest.raises(click.UsageError):
        parsed("fti-ingest photos --gallery g --no-such-option")


def test_the_image_holds_what_the_distribution_needs() -> None:
    lines = (ROOT / ".dockerignore").read_text().split()
    copied = re.findall(r"^COPY --chown=\S+ (.+) \S+$", (ROOT / "Dockerfile").read_text(), re.M)
    names = {name for line in copied for name in line.split()}
    assert {line[1:] for line in lines if line.startswith("!")} == names
    assert all((ROOT / name).exists() for name in names)
