from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from samples import K3D_YAML, sample_environment, write_repo

from envkit.config import k3d_input, read_environment
from envkit.dotenv_file import read_dotenv
from envkit.environment import HASH_LABEL, ROOT_LABEL, Environment, PortUse, Registry, parse_port_mapping
from envkit.errors import UserError


def _fails(folder: Path) -> str:
    with pytest.raises(UserError) as caught:
        read_environment(folder)
    assert caught.value.next_step
    return str(caught.value)


def test_the_three_files_make_one_environment(tmp_path: Path) -> None:
    environment = read_environment(write_repo(tmp_path, lens="freelens"))

    assert (environment.cluster, environment.servers, environment.agents) == ("shop", 1, 2)
    assert environment.ports == (
        PortUse("127.0.0.1", 8080, "HTTP", "HTTP_PORT"),
        PortUse("127.0.0.1", 8443, "HTTPS", "HTTPS_PORT"),
        PortUse("127.0.0.1", 6550, "Kubernetes API", "API_PORT"),
        PortUse("127.0.0.1", 5050, "image registry", "REGISTRY_PORT"),
    )
    assert environment.registry == Registry(
        "k3d-shop-registry",
        5050,
        "registry:2.8.3",
        "k3d-shop-registry",
        mounts=("k3d-shop-registry:/var/lib/registry",),
    )
    assert environment.lens == "freelens"
    assert environment.effective == yaml.safe_load(K3D_YAML)


# -- k3d.yaml, wrong ----------------------------------------------------------------------------------------------

DEFECTS = {
    "not YAML": ("agents: 2", "agents: [2", "not valid YAML"),
    "tab as indentation": ("  name: shop", "\tname: shop", "not valid YAML"),
    "number that is none": ("agents: 2", "agents: 0b_", "not valid YAML"),
    "API version of another k3d": ("v1alpha5", "v1alpha4", "apiVersion:"),
    "kind unknown": ("Simple", "Complex", "kind:"),
    "name missing": ("  name: shop\n", "  title: shop\n", "metadata.name: Field required"),
    "name in upper case": ("name: shop", "name: Shop", "metadata.name:"),
    "name too long": ("name: shop", f"name: {'s' * 33}", "metadata.name:"),
    "name as number": ("name: shop", "name: 12", "metadata.name:"),
    "no servers": ("servers: 1", "servers: 0", "servers:"),
    "agents in words": ("agents: 2", "agents: two", "agents:"),
    "agents below zero": ("agents: 2", "agents: -1", "agents:"),
    "agents empty": ("agents: 2", "agents:", "agents:"),
    "image missing": ("image: rancher/k3s:v1.36.2-k3s1\n", "", "image: Field required"),
    "API port unquoted": ('hostPort: "6550"', "hostPort: 6550", "kubeAPI.hostPort:"),
    "API port as word": ('hostPort: "6550"', "hostPort: auto", "kubeAPI.hostPort:"),
    "API port too high": ('hostPort: "6550"', 'hostPort: "65536"', "kubeAPI.hostPort:"),
    "kubeAPI missing": ('kubeAPI:\n  hostIP: 127.0.0.1\n  hostPort: "6550"\n', "", "kubeAPI: Field required"),
    "port mapping as word": ("127.0.0.1:8080:80", "http", "ports.0.port:"),
    "port mapping as number": ("127.0.0.1:8080:80", "80", "ports.0.port:"),
    "port range": ("127.0.0.1:8080:80", "127.0.0.1:8080-8090:80-90", "ports.0.port:"),
    "port too high": ("127.0.0.1:8080:80", "127.0.0.1:80800:80", "ports.0.port:"),
    "port in digits of full width": ("127.0.0.1:8080:80", "127.0.0.1:\uff18\uff10:80", "ports.0.port:"),
    "port mapping twice": (
        "  - port: 127.0.0.1:8080:80\n",
        "  - port: 1:1\n    port: 2:2\n",
        "port stands there twice",
    ),
    "setting of the load balancer as text": ("    wait: true", "    loadbalancer: x=1", "options.k3d.loadbalancer:"),
    "settings of the load balancer as text": (
        "    wait: true",
        "    loadbalancer: {configOverrides: x=1}",
        "options.k3d.loadbalancer.configOverrides:",
    ),
    "variables as a mapping": ("agents: 2", "agents: 2\nenv: {A: b}", "env: Input should be a valid list"),
    "shared registries as text": ("registries:\n", "registries:\n  use: k3d-other:5000\n", "registries.use:"),
    "port zero": ("127.0.0.1:8080:80", "127.0.0.1:0:80", "ports.0.port:"),
    "port below zero": ("127.0.0.1:8080:80", "127.0.0.1:-1:80", "ports.0.port:"),
    "port mapping with four parts": ("127.0.0.1:8080:80", "127.0.0.1:1:8080:80", "ports.0.port:"),
    "port without node filter list": ("nodeFilters: [loadbalancer]", "nodeFilters: all", "ports.0.nodeFilters:"),
    "port entry as text": ("  - port: 127.0.0.1:8080:80\n    nodeFilters: [loadbalancer]", "  - 8080:80", "ports.0:"),
    "no registry": ("registries:\n  create:", "registries:\n  make:", "registries.create: Field required"),
    "registry without name": ("name: k3d-shop-registry", 'name: ""', "registries.create.name:"),
    "registry port unquoted": ('hostPort: "5050"', "hostPort: 5050", "registries.create.hostPort:"),
    "registry port missing": ('    hostPort: "5050"\n', "", "registries.create.hostPort: Field required"),
    "registry volumes as text": ("    volumes:\n      - k3d", "    volumes: k3d", "registries.create.volumes:"),
    "options as list": ("options:\n  k3d:\n    wait: true", "options: [wait]", "options:"),
    "k3d's options as text": ("options:\n  k3d:\n    wait: true", "options:\n  k3d: wait", "options.k3d:"),
}


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_wrong_k3d_yaml_is_refused_by_file_and_key(tmp_path: Path, defect: str) -> None:
    before, after, names = DEFECTS[defect]
    assert before in K3D_YAML
    write_repo(tmp_path, k3d_yaml=K3D_YAML.replace(before, after, 1))

    message = _fails(tmp_path)

    assert str(tmp_path / "k3d.yaml") in message
    assert names in message


def test_every_problem_of_k3d_yaml_is_in_one_list(tmp_path: Path) -> None:
    text = K3D_YAML.replace('hostPort: "6550"', "hostPort: 6550").replace("agents: 2", "agents: two")

    message = _fails(write_repo(tmp_path, k3d_yaml=text))

    assert "kubeAPI.hostPort: Input should be a valid string (given: 6550)" in message
    assert "(given: 'two')" in message


def test_a_missing_k3d_yaml_is_brought_back_by_git(tmp_path: Path) -> None:
    write_repo(tmp_path)
    (tmp_path / "k3d.yaml").unlink()

    assert f"next: git -C {tmp_path} checkout -- k3d.yaml" in _fails(tmp_path)


@pytest.mark.parametrize("text", ["", "- apiVersion: k3d.io/v1alpha5\n", "k3d\n", "null\n"])
def test_a_k3d_yaml_that_is_no_mapping_is_refused(tmp_path: Path, text: str) -> None:
    assert "is not a mapping of keys to values" in _fails(write_repo(tmp_path, k3d_yaml=text))


def test_a_k3d_yaml_that_is_not_text_is_refused(tmp_path: Path) -> None:
    write_repo(tmp_path)
    (tmp_path / "k3d.yaml").write_bytes(b"name: \xff\xfe")

    assert f"{tmp_path / 'k3d.yaml'} is not valid YAML" in _fails(tmp_path)


@pytest.mark.parametrize("name", ["k3d.yaml", ".env", "environment.toml"])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str) -> None:
    write_repo(tmp_path)
    (tmp_path / name).unlink(missing_ok=True)
    (tmp_path / name).mkdir()

    assert str(tmp_path / name) in _fails(tmp_path)


def test_keys_that_only_k3d_needs_pass(tmp_path: Path) -> None:
    environment = sample_environment(tmp_path, k3d_yaml=K3D_YAML + "env:\n  - envVar: A=b\n    nodeFilters: ['*']\n")

    assert environment.effective["env"] == [{"envVar": "A=b", "nodeFilters": ["*"]}]


def test_the_registry_has_no_volume_where_it_mounts_a_folder(tmp_path: Path) -> None:
    text = K3D_YAML.replace("- k3d-shop-registry:/var", "- ./data:/var")

    assert sample_environment(tmp_path, k3d_yaml=text).registry.volume == ""


# -- environment.toml ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"[ide\n", "line 1"),
        (b'[ide]\nlens = "Lens"\n', "ide.lens: Input should be 'openlens', 'freelens' or 'none' (given: 'Lens')"),
        (b"ide = 3\n", "ide:"),
        (b"# \xff\n", "utf-8"),
    ],
)
def test_a_wrong_environment_toml_is_refused(tmp_path: Path, content: bytes, why: str) -> None:
    write_repo(tmp_path)
    (tmp_path / "environment.toml").write_bytes(content)

    message = _fails(tmp_path)

    assert f"{tmp_path / 'environment.toml'} is not right" in message
    assert why in message


def test_without_environment_toml_there_is_no_desktop_program(tmp_path: Path) -> None:
    write_repo(tmp_path)
    (tmp_path / "environment.toml").unlink()

    assert read_environment(tmp_path).lens == "none"


# -- .env ---------------------------------------------------------------------------------------------------------

OVERRIDES = "HTTP_PORT=9080\nHTTPS_PORT=9443\nAPI_PORT=7550\nREGISTRY_PORT=6050\nLENS=freelens\n"


def test_of_several_lines_of_a_name_the_last_counts(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("HTTP_PORT=8081\nHTTP_PORT=8082\nAPI_PORT=7000\nAPI_PORT=\n", encoding="utf-8")

    assert read_dotenv(tmp_path / ".env") == {"HTTP_PORT": "8082"}


def test_dotenv_changes_what_k3d_gets(tmp_path: Path) -> None:
    environment = sample_environment(tmp_path, dotenv=OVERRIDES)

    assert [use.number for use in environment.ports] == [9080, 9443, 7550, 6050]
    assert [entry["port"] for entry in environment.effective["ports"]] == ["127.0.0.1:9080:80", "127.0.0.1:9443:443"]
    assert environment.effective["kubeAPI"] == {"hostIP": "127.0.0.1", "hostPort": "7550"}
    assert environment.effective["registries"]["create"]["hostPort"] == "6050"
    assert (environment.api_port, environment.registry.port, environment.lens) == (7550, 6050, "freelens")


def test_the_registry_is_known_under_the_teams_port_and_the_own_one(tmp_path: Path) -> None:
    environment = sample_environment(tmp_path, dotenv="REGISTRY_PORT=6050\n")

    mirrors = yaml.safe_load(environment.effective["registries"]["config"])["mirrors"]
    assert mirrors == {
        f"{host}:{port}": {"endpoint": ["http://k3d-shop-registry:5000"]}
        for host in ("k3d-shop-registry.localhost", "localhost")
        for port in (5050, 6050)
    }


@pytest.mark.parametrize("config", ["", "not: [yaml", "- a", "mirrors: none", "configs: {}"])
def test_a_registry_configuration_of_another_shape_is_left_to_k3d(tmp_path: Path, config: str) -> None:
    document: dict[str, Any] = yaml.safe_load(K3D_YAML)
    document["registries"]["config"] = config

    environment = sample_environment(tmp_path, k3d_yaml=yaml.safe_dump(document), dotenv="REGISTRY_PORT=6050\n")

    assert environment.effective["registries"]["config"] == config


def test_an_override_keeps_address_and_protocol(tmp_path: Path) -> None:
    text = K3D_YAML.replace("127.0.0.1:8443:443", "0.0.0.0:8443:443/udp")

    environment = sample_environment(tmp_path, k3d_yaml=text, dotenv="HTTPS_PORT=9443\n")

    assert environment.effective["ports"][1]["port"] == "0.0.0.0:9443:443/udp"


def test_empty_values_and_comments_of_dotenv_change_nothing(tmp_path: Path) -> None:
    environment = sample_environment(
        tmp_path, dotenv="# HTTP_PORT=1\nHTTP_PORT=\nAPI_PORT='  '\nHTTPS_PORT=9443 # own\n"
    )

    assert [use.number for use in environment.ports] == [8080, 9443, 6550, 5050]


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("HTTP_PORT=0", "HTTP_PORT:"),
        ("HTTP_PORT=http", "HTTP_PORT:"),
        ("HTTPS_PORT=65536", "HTTPS_PORT:"),
        ("API_PORT=443", "API_PORT:"),
        ("REGISTRY_PORT=80", "REGISTRY_PORT:"),
        ("LENS=lens", "LENS: Input should be 'openlens', 'freelens' or 'none' (given: 'lens')"),
    ],
)
def test_a_wrong_value_in_dotenv_is_refused(tmp_path: Path, line: str, why: str) -> None:
    message = _fails(write_repo(tmp_path, dotenv=f"{line}\n"))

    assert str(tmp_path / ".env") in message
    assert why in message


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("HTP_PORT=80", "HTTP_PORT"),
        ("HTTP_PORTS=80", "HTTP_PORT"),
        ("http_port=80", "HTTP_PORT"),
        ("LENSE=none", "LENS"),
    ],
)
def test_a_mistyped_name_in_dotenv_is_refused_with_the_right_one(tmp_path: Path, line: str, meant: str) -> None:
    message = _fails(write_repo(tmp_path, dotenv=f"{line}\n"))

    assert f"Did you mean {meant}?" in message
    assert str(tmp_path / ".env") in message


def test_names_that_others_read_may_stand_in_dotenv(tmp_path: Path) -> None:
    dotenv = "GITHUB_APP_ID=1\nGITHUB_APP_INSTALLATION_ID=2\nGITHUB_APP_PRIVATE_KEY_PATH=a.pem\nDATABASE_URL=x\n"

    assert sample_environment(tmp_path, dotenv=dotenv) == sample_environment(tmp_path / "other")


def test_a_dotenv_that_is_not_text_is_refused(tmp_path: Path) -> None:
    write_repo(tmp_path)
    (tmp_path / ".env").write_bytes(b"HTTP_PORT=\xff")

    assert str(tmp_path / ".env") in _fails(tmp_path)


def test_a_line_of_dotenv_that_is_no_assignment_is_refused(tmp_path: Path) -> None:
    message = _fails(write_repo(tmp_path, dotenv="API_PORT=7000\nHTTP_PORT: 9080\n"))

    assert f"{tmp_path / '.env'}" in message
    assert "line 2" in message


def test_the_process_environment_does_not_leak_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PORT", "9080")
    monkeypatch.setenv("K3D_SERVERS", "3")
    monkeypatch.setenv("OTHER", "9443")

    environment = sample_environment(tmp_path, dotenv="DATABASE=${OTHER}\n")

    assert environment.effective == yaml.safe_load(K3D_YAML)
    assert "(given: '${OTHER}')" in _fails(write_repo(tmp_path, dotenv="HTTPS_PORT=${OTHER}\n"))


@pytest.mark.parametrize(
    ("dotenv", "first", "second"),
    [
        ("API_PORT=5050\n", "Kubernetes API", "image registry"),
        ("HTTP_PORT=9000\nHTTPS_PORT=9000\n", "HTTP", "HTTPS"),
    ],
)
def test_one_port_for_two_purposes_is_refused(tmp_path: Path, dotenv: str, first: str, second: str) -> None:
    message = _fails(write_repo(tmp_path, dotenv=dotenv))

    assert f"{first} and {second}" in message


def test_the_same_port_on_two_addresses_or_protocols_is_no_clash(tmp_path: Path) -> None:
    both = "  - port: 127.0.0.1:8443:443/udp\n  - port: 127.0.0.2:8443:443\n"
    text = K3D_YAML.replace("registries:\n", f"{both}registries:\n")

    assert len(sample_environment(tmp_path, k3d_yaml=text).ports) == 6


# -- what k3d gets ------------------------------------------------------------------------------------------------


def _labels(environment: Environment) -> Any:
    return yaml.safe_load(k3d_input(environment))["options"]["runtime"]["labels"]


def test_k3d_gets_the_effective_configuration_and_our_labels(tmp_path: Path) -> None:
    root = tmp_path / "my shop"
    environment = sample_environment(root, dotenv="API_PORT=7550\n")

    document = yaml.safe_load(k3d_input(environment, root))

    labels = document["options"].pop("runtime")["labels"]
    assert document == environment.effective
    assert labels == [
        {"label": f"{HASH_LABEL}={environment.config_hash}", "nodeFilters": ["server:0"]},
        {"label": f"{ROOT_LABEL}={tmp_path}/my%20shop", "nodeFilters": ["server:0"]},
    ]


def test_name_that_k3d_would_take_for_a_number_is_in_quotes(tmp_path: Path) -> None:
    text = K3D_YAML.replace("name: shop", 'name: "12e4"')

    assert "\n  name: '12e4'\n" in k3d_input(sample_environment(tmp_path, k3d_yaml=text))


def test_port_without_quotes_is_read_as_k3d_reads_it(tmp_path: Path) -> None:
    text = K3D_YAML.replace("registries:\n", "  - port: 2222:22\n    nodeFilters: [loadbalancer]\nregistries:\n")

    environment = sample_environment(tmp_path, k3d_yaml=text)

    assert environment.ports[2].number == 2222
    assert yaml.safe_load(k3d_input(environment))["ports"][2]["port"] == "2222:22"


@pytest.mark.parametrize("options", ["options:\n", "options:\n  runtime:\n", "options:\n  runtime:\n    labels:\n", ""])
def test_sections_that_were_emptied_are_as_good_as_none(tmp_path: Path, options: str) -> None:
    text = K3D_YAML.replace("options:\n  k3d:\n    wait: true\n", options)

    labels = yaml.safe_load(k3d_input(sample_environment(tmp_path, k3d_yaml=text), tmp_path))["options"]["runtime"][
        "labels"
    ]

    assert len(labels) == 2


def test_labels_of_the_team_stay(tmp_path: Path) -> None:
    label = {"label": "team=shop", "nodeFilters": ["all"]}
    text = K3D_YAML + f"  runtime:\n    labels:\n      - {label}\n"

    labels = yaml.safe_load(k3d_input(sample_environment(tmp_path, k3d_yaml=text), tmp_path))["options"]["runtime"][
        "labels"
    ]

    assert labels[0] == label
    assert len(labels) == 3


def test_a_dollar_sign_is_refused_with_its_line(tmp_path: Path) -> None:
    text = K3D_YAML + "env:\n  - envVar: PRICE=$5\n    nodeFilters: ['*']\n"

    with pytest.raises(UserError, match="dollar sign") as caught:
        k3d_input(sample_environment(tmp_path, k3d_yaml=text), tmp_path)

    assert "PRICE=$5" in caught.value.why


def test_a_dollar_sign_in_the_path_of_the_repository_is_no_problem(tmp_path: Path) -> None:
    root = tmp_path / "a$b"

    assert "a%24b" in k3d_input(sample_environment(root), root)


@pytest.mark.parametrize(
    ("mapping", "parts"),
    [
        ("127.0.0.1:8080:80", ("127.0.0.1", 8080, 80)),
        ("8080:80", ("0.0.0.0", 8080, 80)),
        ("127.0.0.1:53:53/udp", ("127.0.0.1", 53, 53)),
        ("[::1]:8080:80", ("::1", 8080, 80)),
    ],
)
def test_a_port_mapping_is_split(mapping: str, parts: tuple[str, int, int]) -> None:
    assert parse_port_mapping(mapping) == parts
