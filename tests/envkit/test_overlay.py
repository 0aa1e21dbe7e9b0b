"""A team's own files over those of the template."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from samples import write_repo

from envkit.config import k3d_input, read_environment
from envkit.environment import Environment
from envkit.errors import UserError
from envkit.overlay import is_set_in, local_file, merged, read_overlay


def with_local(folder: Path, text: str, dotenv: str = "") -> Environment:
    repo = write_repo(folder, dotenv=dotenv)
    (repo / "k3d.local.yaml").write_text(text, encoding="utf-8")
    return read_environment(repo)


@pytest.mark.parametrize(
    ("below", "above", "expected"),
    [
        ({"a": 1, "b": 2}, {"b": 3, "c": 4}, {"a": 1, "b": 3, "c": 4}),
        ({"a": {"b": 1, "c": {"d": 2}}}, {"a": {"c": {"e": 3}}}, {"a": {"b": 1, "c": {"d": 2, "e": 3}}}),
        ({"a": [1, 2]}, {"a": [3]}, {"a": [3]}),
        ({"a": None}, {"a": {"b": 1}}, {"a": {"b": 1}}),
        ({"a": {"b": 1}}, {"a": None}, {"a": None}),
    ],
)
def test_mappings_are_merged_and_all_else_is_replaced(
    below: dict[str, Any], above: dict[str, Any], expected: dict[str, Any]
) -> None:
    assert merged(below, above, Path("x.local.yaml")) == expected


@pytest.mark.parametrize(
    ("below", "above", "place", "kinds"),
    [
        ({"a": {"b": [1]}}, {"a": {"b": {}}}, "a.b", ("a mapping", "a list")),
        ({"a": {"b": 1}}, {"a": 1}, "a", ("a single value", "a mapping")),
        ({"a": 1}, {"a": [1]}, "a", ("a list", "a single value")),
    ],
)
def test_value_of_another_kind_is_refused_with_its_place(
    below: dict[str, Any], above: dict[str, Any], place: str, kinds: tuple[str, str]
) -> None:
    with pytest.raises(UserError, match=r"x\.local\.yaml cannot be laid over") as error:
        merged(below, above, Path("x.local.yaml"))
    assert error.value.why == f"{place} is {kinds[0]} in it, and {kinds[1]} in the template's file."
    assert error.value.next_step == f"Correct {place} in x.local.yaml."


def test_file_that_is_missing_or_empty_changes_nothing(tmp_path: Path) -> None:
    path = local_file(tmp_path / "k3d.yaml")
    assert path.name == "k3d.local.yaml"
    assert read_overlay(path) == {}
    path.write_text("# nothing yet\n", encoding="utf-8")
    assert read_overlay(path) == {}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("agents: 2\n  servers: 1\n", "line 2"),
        ("- agents\n", "only the keys that differ"),
        ("port: 0b_\n", "invalid literal"),
    ],
)
def test_file_that_cannot_be_used_is_named(tmp_path: Path, text: str, why: str) -> None:
    path = tmp_path / "k3d.local.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=r"k3d\.local\.yaml") as error:
        read_overlay(path)
    assert why in error.value.why
    assert error.value.next_step == f"Correct {path}."


def test_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    path = tmp_path / "k3d.local.yaml"
    path.mkdir()
    with pytest.raises(UserError, match=r"k3d\.local\.yaml cannot be read") as error:
        read_overlay(path)
    assert error.value.why == "Is a directory"
    assert error.value.next_step == f"ls -l {path}"


def test_where_a_value_comes_from() -> None:
    own = {"a": {"b": [1]}}
    assert is_set_in(own, ("a", "b", 0, "x"))
    assert not is_set_in(own, ("a", "c"))
    assert not is_set_in(own, ("d",))
    assert not is_set_in({"a": "b", "c": 1}, ("a", "b"))
    assert not is_set_in({"a": "b", "c": 1}, ("c", "b"))


def test_own_configuration_is_laid_over_the_clusters(tmp_path: Path) -> None:
    environment = with_local(tmp_path, "agents: 0\nsubnet: 172.28.0.0/16\noptions:\n  k3d:\n    timeout: 400s\n")
    assert (environment.agents, environment.cluster) == (0, "shop")
    text = k3d_input(environment)
    assert "subnet: 172.28.0.0/16" in text
    assert "wait: true" in text
    assert environment.config_hash != read_environment(write_repo(tmp_path / "plain")).config_hash


def test_own_ports_are_those_of_the_machine_where_dotenv_names_others(tmp_path: Path) -> None:
    environment = with_local(tmp_path, "kubeAPI:\n  hostPort: '7000'\n", dotenv="HTTP_PORT=9080\n")
    assert (environment.api_port, environment.port("HTTP_PORT")) == (7000, 9080)
    assert with_local(tmp_path, "kubeAPI:\n  hostPort: '7000'\n", dotenv="API_PORT=7001\n").api_port == 7001


OWN_MIRROR = "mirrors:\n  images.example.com:\n    endpoint: [https://mirror.example.com]\n"


def registries_config(environment: Environment) -> Any:
    """What the nodes get to know of registries."""
    return yaml.safe_load(environment.effective["registries"]["config"])


def test_own_mirrors_come_beside_those_of_the_environments_registry(tmp_path: Path) -> None:
    plain = registries_config(read_environment(write_repo(tmp_path / "plain")))
    local = yaml.safe_dump({"registries": {"config": OWN_MIRROR}})
    made = registries_config(with_local(tmp_path, local, dotenv="REGISTRY_PORT=5051\n"))
    assert made["mirrors"]["images.example.com"] == {"endpoint": ["https://mirror.example.com"]}
    names = {"k3d-shop-registry.localhost:5050", "localhost:5050"}
    assert plain["mirrors"].keys() == names
    # Those of a developer's own port as well.
    assert made["mirrors"].keys() == names | {name.replace("5050", "5051") for name in names} | {"images.example.com"}


def test_own_registries_that_have_it_all_stay_as_they_are_written(tmp_path: Path) -> None:
    below = yaml.safe_load(write_repo(tmp_path / "plain").joinpath("k3d.yaml").read_text(encoding="utf-8"))
    text = f"# ours\n{below['registries']['config']}"
    environment = with_local(tmp_path, yaml.safe_dump({"registries": {"config": text}}))
    assert environment.effective["registries"]["config"] == text


@pytest.mark.parametrize(
    ("text", "what", "why"),
    [
        ("registries:\n  config: 'mirrors: [a'\n", "k3d.local.yaml is not", "registries.config is not valid"),
        ("registries:\n  config: 'port: 0b_'\n", "k3d.local.yaml is not", "registries.config is not valid"),
        (
            "registries:\n  config: 'mirrors: []'\n",
            "k3d.local.yaml cannot be laid over",
            "registries.config.mirrors is a list in it",
        ),
        ("agent: 3\n", "k3d.local.yaml sets agent", "Did you mean agents?"),
        ("agents: many\n", "k3d.local.yaml is not a configuration", "k3d.local.yaml: agents: "),
        ("kubeAPI:\n  hostPort: x\n", "k3d.local.yaml is not a configuration", "k3d.local.yaml: kubeAPI.hostPort: "),
        ("ports: none\n", "k3d.local.yaml cannot be laid over", "ports is a single value in it"),
    ],
)
def test_mistake_in_the_teams_own_file_is_named(tmp_path: Path, text: str, what: str, why: str) -> None:
    with pytest.raises(UserError) as error:
        with_local(tmp_path, text)
    assert what in error.value.what
    assert why in error.value.why


def test_dollar_sign_is_looked_for_in_both_files(tmp_path: Path) -> None:
    environment = with_local(tmp_path, "env:\n  - envVar: A=$B\n")
    with pytest.raises(UserError, match=r"error: k3d\.yaml or k3d\.local\.yaml contains a dollar sign"):
        k3d_input(environment, tmp_path)
