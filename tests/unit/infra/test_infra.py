"""What infra/ names exists: commands, options, ports, paths, variables, settings, versions; and it keeps its promises.

No container engine and no cluster is needed for that; what the containers run is run by tests/e2e/test_two_hosts.py.
"""

import contextlib
import importlib.util
import io
import json
import re
import runpy
import shutil
import subprocess
import sys
import tomllib
import warnings
from functools import cache
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from dfpipe.settings import load_settings
from dfpipe.testing import require_service

ROOT = Path(__file__).parents[3]
INFRA = ROOT / "infra"
BIN = Path(sys.executable).parent
COMPOSE = yaml.safe_load((INFRA / "compose.yaml").read_text())
SERVICES = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if service["image"].startswith("dfpipe:")}
MANIFESTS = [
    document
    for file in sorted((INFRA / "kubernetes").glob("*.yaml"))
    if file.name not in {"kustomization.yaml", "dfpipe.yaml"}
    for document in yaml.safe_load_all(file.read_text())
]
TEMPLATE = json.loads((INFRA / "kubernetes/job-template.json").read_text())
DOCKERFILE = (INFRA / "Dockerfile").read_text()
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCK = (ROOT / "requirements/runtime.txt").read_text()
OUR_IMAGE = f"registry.example/dfpipe:{PYPROJECT['project']['version']}"


def job_of_a_run():
    """The job that the worker makes of the template, with the defaults of its variables and Prefect's own command."""
    said = {"name": "run", "labels": {}, "command": ["prefect", "flow-run", "execute"]}
    values = {name: one.get("default") for name, one in TEMPLATE["variables"]["properties"].items()} | said
    values["env"] = [{"name": name, "value": value} for name, value in values["env"].items()]

    def fill(part):
        if isinstance(part, dict):
            return {name: fill(value) for name, value in part.items()}
        if isinstance(part, list):
            return [fill(value) for value in part]
        if isinstance(part, str) and (whole := re.fullmatch(r"\{\{ (\w+) \}\}", part)):
            return values[whole[1]]
        if isinstance(part, str):
            return re.sub(r"\{\{ (\w+) \}\}", lambda found: str(values[found[1]]), part)
        return part

    job = fill(TEMPLATE["job_configuration"]["job_manifest"])
    # Prefect insists on them here, where Kubernetes passes over them.
    pod = job["spec"]["template"]["spec"]
    assert (pod.pop("parallelism"), pod.pop("completions")) == (1, 1)
    return job


def pods():
    """Every pod that is made here, by what makes it."""
    for manifest in [*MANIFESTS, job_of_a_run()]:
        if manifest["kind"] == "DaskCluster":
            for role in ("scheduler", "worker"):
                yield role, manifest["spec"][role]["spec"]
        elif manifest["kind"] in {"Deployment", "Job"}:
            name = manifest["metadata"].get("name") or manifest["metadata"]["generateName"]
            yield name, manifest["spec"]["template"]["spec"]


PODS = dict(pods())
CONTAINERS = {name: pod["containers"][0] for name, pod in PODS.items()}


def words_of(service):
    return SERVICES[service]["command"]


COMMANDS = [
    *(pytest.param(service["command"], id=f"compose {name}") for name, service in OURS.items()),
    *(pytest.param(one["args"], id=f"kubernetes {name}") for name, one in CONTAINERS.items()),
]


@cache
def options_of(*words):
    """The options that a command's own help names; asked in this process, as imports are most of it."""
    module = {"dfpipe": "dfpipe.cli", "dask": "dask", "prefect": "prefect", "mlflow": "mlflow"}[words[0]]
    said = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(said), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        patch.setattr(sys, "argv", [*words, "--help"])
        patch.setenv("COLUMNS", "200")
        with pytest.raises(SystemExit) as ended:
            runpy.run_module(module, run_name="__main__")
    assert not ended.value.code, said.getvalue()
    return set(re.findall(r"(?<![\w-])--[\w-]+", said.getvalue()))


@pytest.mark.parametrize("words", COMMANDS)
def test_commands_and_their_options_exist(words):
    if words[0] == "python":
        compile(words[2], "command", "exec")
        return
    verbs = [words[0]]
    general = {"--no-prompt"} if words[0] == "prefect" else set()
    for word in words[1:]:
        if word.startswith("-") and word not in general:
            break
        if word not in general and re.fullmatch(r"[a-z][a-z-]*", word):
            verbs.append(word)
    options = {word.partition("=")[0] for word in words if word.startswith("--")} - general
    known = options_of(*verbs)
    assert options <= known, f"{' '.join(verbs)} has no {options - known}"


def test_compose_follows_its_schema():
    done = subprocess.run(
        [BIN / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", INFRA / "compose.yaml"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_the_dockerfile_has_no_lint():
    done = subprocess.run([BIN / "hadolint", INFRA / "Dockerfile"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda one: f"{one['kind']} {one['metadata'].get('name')}")
def test_manifests_are_valid(manifest):
    # The operator's own kinds are not Kubernetes's; their pods are looked at below.
    if not manifest["apiVersion"].startswith("kubernetes.dask.org/"):
        kubernetes_validate.validate(manifest, "1.33", strict=True)


@pytest.mark.parametrize("name", PODS)
def test_pods_are_valid_and_locked_up(name):
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": PODS[name]}
    kubernetes_validate.validate(pod, "1.33", strict=True)
    security = PODS[name]["securityContext"]
    assert security["runAsNonRoot"] is True
    assert security["runAsUser"] == 10001
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    assert PODS[name]["automountServiceAccountToken"] is (name == "prefect-worker")
    (container,) = PODS[name]["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["resources"].keys() == {"requests", "limits"}
    assert all(one.keys() == {"cpu", "memory"} for one in container["resources"].values())


def test_a_run_is_a_valid_job():
    kubernetes_validate.validate(job_of_a_run(), "1.33", strict=True)
    used = set(re.findall(r"\{\{ (\w+) \}\}", json.dumps(TEMPLATE["job_configuration"])))
    assert used == TEMPLATE["variables"]["properties"].keys()


def test_kubectl_takes_the_kustomization():
    kustomization = yaml.safe_load((INFRA / "kubernetes/kustomization.yaml").read_text())
    assert all((INFRA / "kubernetes" / name).is_file() for name in kustomization["resources"])
    if shutil.which("kubectl") is None:
        require_service("kubectl is not installed (Debian's kubernetes-client)")
    done = subprocess.run(["kubectl", "kustomize", INFRA / "kubernetes"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    made = list(yaml.safe_load_all(done.stdout))
    assert {one["metadata"].get("namespace") for one in made if one["kind"] != "Namespace"} == {"dfpipe"}


def test_versions_are_the_projects():
    python = re.search(r"python:(\d+\.\d+)", DOCKERFILE)[1]
    low, high = re.findall(r"3\.(\d+)", PYPROJECT["project"]["requires-python"])
    assert int(low) <= int(python.partition(".")[2]) < int(high)
    version = PYPROJECT["project"]["version"]
    assert {service["image"] for service in OURS.values()} == {f"dfpipe:{version}"}
    prefect = re.search(r"^prefect==(\S+)", LOCK, re.MULTILINE)[1]
    images = {name: container["image"] for name, container in CONTAINERS.items()}
    assert images.pop("prefect-worker") == f"docker.io/prefecthq/prefect:{prefect}-python{python}-kubernetes"
    assert set(images.values()) == {OUR_IMAGE}


def test_the_dockerfile_copies_what_is_there_and_may_be_sent():
    allowed = re.findall(r"^!(\S+)", (INFRA / "Dockerfile.dockerignore").read_text(), re.MULTILINE)
    copied = [
        source for line in re.findall(r"^COPY (?!--from)(.*)", DOCKERFILE, re.MULTILINE) for source in line.split()[:-1]
    ]
    for source in copied:
        assert (ROOT / source).exists(), source
        assert source in allowed, f"{source} is kept from the builder by Dockerfile.dockerignore"
    assert set(allowed) == set(copied), "nothing is sent that is not copied"
    assert {"requirements", "src", "tasks", "flows"} <= set(copied)
    for requirement in re.findall(
        r"requirements/\w+\.txt psycopg|--requirement (requirements/runtime\.txt)", DOCKERFILE
    ):
        assert not requirement or (ROOT / requirement).is_file()


def test_what_is_taken_from_the_lock_is_in_it():
    taken = re.findall(r"infra/locked (\S+) ([\w -]+?) >", DOCKERFILE)
    assert len(taken) == 2
    for lock, packages in taken:
        done = subprocess.run(
            [INFRA / "locked", lock, *packages.split()], cwd=ROOT, check=False, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        entries = done.stdout.split("\n")
        assert [
            line.partition("==")[0] for line in entries if "==" in line and "--hash" not in line
        ] == packages.split()
        assert all(line.strip().startswith("--hash=sha256:") for line in entries if line and "==" not in line)
    # What builds the wheel needs no more than that.
    assert PYPROJECT["build-system"]["build-backend"] == "hatchling.build"
    unknown = subprocess.run(
        [INFRA / "locked", "requirements/dev.txt", "no-such-package"], cwd=ROOT, check=False, capture_output=True
    )
    assert unknown.returncode == 2


def test_the_last_stage_builds_nothing_and_is_nobody_special():
    last = DOCKERFILE.rpartition("\nFROM ")[2]
    assert re.search(r"^USER 10001:10001$", last, re.MULTILINE)
    assert not re.search(r"build-essential|gcc|\bpip\b|-dev\b|curl|git", last)
    assert "HEALTHCHECK" in last
    for script in re.findall(r"infra/(\w+)", " ".join(re.findall(r"^COPY infra.*", last, re.MULTILINE))):
        assert (INFRA / script).stat().st_mode & 0o111 == 0o111, script


@pytest.mark.parametrize("name", SERVICES)
def test_services_are_bounded_and_locked_up(name):
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert {"mem_limit", "cpus"} <= service.keys()
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
    assert not re.search(
        r"(?i)(password|secret|token)\"?: \"(?!/run/secrets/)", json.dumps(service.get("environment", {}))
    )
    for other, condition in service.get("depends_on", {}).items():
        expected = "service_completed_successfully" if other == "buckets" else "service_healthy"
        assert condition == {"condition": expected}
        assert expected != "service_healthy" or "healthcheck" in SERVICES[other] or "HEALTH_URL" in str(SERVICES[other])
    for secret in service.get("secrets", []):
        assert secret in COMPOSE["secrets"]
    named = set(re.findall(r"/run/secrets/([\w-]+)", json.dumps(service)))
    assert named == set(service.get("secrets", [])), "what is named is given, and nothing else"


def test_secrets_are_files_that_git_passes_over():
    ignored = (ROOT / ".gitignore").read_text().splitlines()
    for secret in COMPOSE["secrets"].values():
        assert secret["file"].startswith("./secrets/")
        assert "/infra/secrets/" in ignored
    for container in CONTAINERS.values():
        for variable in container["env"]:
            if re.search("PASSWORD|SECRET_ACCESS_KEY|TOKEN", variable["name"]):
                assert "secretKeyRef" in variable["valueFrom"]


def listens(service):
    """The port that a service's command or image has."""
    words = " ".join(SERVICES[service].get("command", []))
    found = re.search(r"--?(?:s3\.)?port[= ](\d+)", words)
    return found[1] if found else {"postgres": "5432"}[service]


def test_addresses_lead_to_services_and_their_ports():
    text = (INFRA / "compose.yaml").read_text() + (INFRA / "compose.dfpipe.yaml").read_text()
    addresses = set(re.findall(r"(?:://|@)(?:\w+@)?([a-z][\w-]*):(\d+)", text)) - {("localhost", "5000")}
    assert {service for service, _ in addresses} == {"s3", "postgres", "prefect-server", "mlflow", "dask-scheduler"}
    for service, port in addresses:
        assert listens(service) == port
    for name, service in OURS.items():
        for own in re.findall(r"http://127\.0\.0\.1:(\d+)", str(service.get("environment", {}).get("HEALTH_URL"))):
            words = " ".join(service["command"])
            assert own in words or (own == "8080" and "--with-healthcheck" in words), name
    databases = re.findall(r"CREATE DATABASE (\w+)", (INFRA / "databases.sql").read_text())
    assert sorted(set(re.findall(r"@postgres:5432/(\w+)", text))) == sorted(databases)


def test_addresses_lead_to_kubernetes_services():
    services = {
        one["metadata"]["name"]: one["spec"]["ports"][0]["port"] for one in MANIFESTS if one["kind"] == "Service"
    }
    # The operator makes this one.
    (dask,) = (one for one in MANIFESTS if one["kind"] == "DaskCluster")
    services[f"{dask['metadata']['name']}-scheduler"] = dask["spec"]["scheduler"]["service"]["ports"][0]["port"]
    text = "".join(file.read_text() for file in (INFRA / "kubernetes").glob("*.yaml"))
    for host, port in set(re.findall(r"(?:http|tcp)://([a-z][\w-]*):(\d+)", text)):
        assert services[host] == int(port)
    (scaler,) = (one for one in MANIFESTS if one["kind"] == "DaskAutoscaler")
    assert scaler["spec"].keys() == {"cluster", "minimum", "maximum"}
    assert scaler["spec"]["cluster"] == dask["metadata"]["name"]
    for name, container in CONTAINERS.items():
        ports = {port["name"] for port in container.get("ports", [])}
        probes = {container[probe]["httpGet"]["port"] for probe in container if probe.endswith("Probe")}
        assert probes <= ports, name
        mounted = {mount["name"] for mount in container["volumeMounts"]}
        assert mounted == {volume["name"] for volume in PODS[name]["volumes"]}, name


def labels_of_pods():
    for one in [*MANIFESTS, job_of_a_run()]:
        if one["kind"] in {"Deployment", "Job"}:
            yield one["spec"]["template"]["metadata"]["labels"]
        elif one["kind"] == "DaskCluster":
            for role in ("scheduler", "worker"):
                of_the_operator = {"dask.org/cluster-name": one["metadata"]["name"], "dask.org/component": role}
                yield of_the_operator | one["spec"][role].get("metadata", {}).get("labels", {})


def test_selectors_select_somebody():
    labels = list(labels_of_pods())

    def selectors(part):
        if isinstance(part, dict):
            for name, value in part.items():
                if name in {"podSelector", "selector"}:
                    yield value.get("matchLabels", value)
                yield from selectors(value)
        elif isinstance(part, list):
            for value in part:
                yield from selectors(value)

    for one in MANIFESTS:
        for selector in selectors(one.get("spec", {})):
            wanted = {name: value for name, value in selector.items() if name != "matchExpressions"}
            assert any(wanted.items() <= have.items() for have in labels), (one["kind"], wanted)


def test_the_deployment_that_the_pages_start_is_there():
    deployments = yaml.safe_load((ROOT / "deployments/prefect.yaml").read_text())["deployments"]
    # A flow has the name of its function.
    known = {f"{one['entrypoint'].rpartition('.')[2]}/{one['name']}" for one in deployments}
    pools = {one["work_pool"]["name"] for one in deployments}
    for page in ("containers.md", "kubernetes.md"):
        started = re.findall(r"prefect deployment run (\S+)", (ROOT / "docs" / page).read_text())
        assert started
        assert set(started) <= known, page
    assert pools == {"dfpipe"}
    for words in (SERVICES["prefect-worker"]["command"], CONTAINERS["prefect-worker"]["args"]):
        assert "dfpipe" in re.findall(r"--pool[ =](\S+)", " ".join(words))


@pytest.mark.parametrize("file", ["compose.dfpipe.yaml", "kubernetes/dfpipe.yaml"])
def test_settings_are_settings(file):
    assert load_settings(INFRA / file, environ={}).dask.scheduler.endswith("-scheduler:8786")


def test_variables_are_known():
    import dask
    import distributed  # noqa: F401 - brings its part of the configuration
    from prefect.settings import Settings as PrefectSettings
    from prefect.settings.legacy import _get_settings_fields

    prefect = _get_settings_fields(PrefectSettings)
    mlflow = Path(importlib.util.find_spec("mlflow").origin).parent
    of_mlflow = (mlflow / "environment_variables.py").read_text() + (mlflow / "cli/__init__.py").read_text()
    named = {name for service in SERVICES.values() for name in service.get("environment", {})}
    named |= {variable["name"] for container in CONTAINERS.values() for variable in container["env"]}
    for name in named:
        if name.startswith("PREFECT_"):
            assert name in prefect, name
        elif name.startswith("MLFLOW_"):
            assert f'"{name}"' in of_mlflow, name
        elif name.startswith("DASK_"):
            assert dask.config.get(name.removeprefix("DASK_").lower().replace("__", "."), None) is not None, name
        elif name.startswith("DFPIPE_"):
            assert name == "DFPIPE_CONFIG", "a setting belongs into the settings file"


@pytest.mark.parametrize(
    ("variables", "code", "said"),
    [
        ({"A_KEY_FROM_FILE": "{file}"}, 0, "a b'c\n"),
        ({"A_KEY": "plain"}, 0, "plain\n"),
        ({"A_KEY_FROM_FILE": "/no/such/file"}, 2, ""),
    ],
)
def test_the_entry_point_reads_secrets_from_files(tmp_path, variables, code, said):
    file = tmp_path / "secret"
    file.write_text("a b'c\n")
    environment = {name: value.format(file=file) for name, value in variables.items()} | {"PATH": "/usr/bin:/bin"}
    command = ["sh", "-c", 'test -z "${A_KEY_FROM_FILE:-}" && echo "$A_KEY"']
    done = subprocess.run(
        [INFRA / "entrypoint", *command], env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (code, said)


def test_healthy_says_whether_somebody_answers():
    def ask(**variables):
        return subprocess.run(
            [sys.executable, INFRA / "healthy"], env=variables, capture_output=True, text=True, check=False
        )

    assert ask().returncode == 0
    # Nobody listens on the discard port.
    silent = ask(HEALTH_URL="http://127.0.0.1:9/health")
    assert silent.returncode == 1
    assert "does not answer" in silent.stderr
