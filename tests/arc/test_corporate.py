"""A company's authorities and proxy in the values that the charts get, and in the Secrets beside them."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from arc.conftest import Settings, write_dotenv
from certificates import new_authority
from proxies import PASSWORD, PROXY
from support import refuse_to_read

from envkit.arc.corporate import secret_manifests
from envkit.config import read_environment
from envkit.corporate_network import CA_PATH_IN_NODES, read_own_proxies
from envkit.errors import UserError

pytestmark = pytest.mark.usefixtures("no_proxy_of_this_machine")


def _containers(values: Any) -> list[dict[str, Any]]:
    spec = values["template"]["spec"]
    return [*spec["initContainers"], *spec["containers"]]


def _mark(settings: Settings) -> str:
    return str(settings().runner_values["template"]["metadata"]["annotations"]["envkit.registries"])


def _secrets(root: Path) -> dict[str, dict[str, str]]:
    manifests = secret_manifests(read_own_proxies(root), read_environment(root).corporate, "arc-runners")
    return {
        secret["metadata"]["name"]: {key: base64.b64decode(text).decode() for key, text in secret["data"].items()}
        for secret in manifests
    }


def test_without_either_the_values_are_those_of_the_files(root: Path, settings: Settings) -> None:
    values = settings().runner_values

    assert not {"proxy", "githubServerTLS"} & values.keys()
    assert not any("envFrom" in container for container in _containers(values))
    assert "authorities" not in {volume["name"] for volume in values["template"]["spec"]["volumes"]}
    assert _secrets(root) == {}
    assert [manifest["metadata"]["name"] for manifest in settings().manifests] == ["arc-registries"]


def test_runner_and_buildkit_get_the_authorities_and_so_does_arc(root: Path, settings: Settings) -> None:
    before, authority = _mark(settings), new_authority()
    (root / "ca-bundle.pem").write_text(authority.pem, encoding="ascii")

    values = settings().runner_values

    volume = next(v for v in values["template"]["spec"]["volumes"] if v["name"] == "authorities")
    assert values["githubServerTLS"]["certificateFrom"]["configMapKeyRef"] == volume["configMap"] | {"key": "ca.crt"}
    assert [container["name"] for container in _containers(values)] == ["buildkitd", "runner"]
    for container in _containers(values):
        (mount,) = (mount for mount in container["volumeMounts"] if mount["name"] == "authorities")
        assert (mount["mountPath"], mount["subPath"], mount["readOnly"]) == (CA_PATH_IN_NODES, "ca.crt", True)
    assert settings().manifests[-1]["data"] == {"ca.crt": authority.pem}
    # New files in a mounted config map do not reach a program that runs; new pods have them.
    assert _mark(settings) != before


def test_a_githubs_own_authority_stands_beside_the_companys(root: Path, settings: Settings) -> None:
    own, company = new_authority("GitHub"), new_authority()
    (root / "github.crt").write_text(own.pem, encoding="ascii")
    (root / "ca-bundle.pem").write_text(company.pem, encoding="ascii")

    write_dotenv(root, GITHUB_CA_FILE="github.crt")

    assert settings().manifests[-1]["data"] == {"ca.crt": own.pem + company.pem}


def test_a_githubs_own_authority_that_is_no_text_is_told_with_what_makes_it_one(root: Path, settings: Settings) -> None:
    (root / "ghes.cer").write_bytes(b"\x30\x82\xff")
    write_dotenv(root, GITHUB_CA_FILE="ghes.cer")

    with pytest.raises(UserError, match=r"ghes\.cer holds no certificate in the PEM format") as caught:
        settings()

    assert caught.value.next_step.startswith(f"openssl x509 -inform der -in {root}/ghes.cer")


def test_a_githubs_own_authority_that_may_not_be_read_is_told(
    root: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "ghes.pem").touch()
    write_dotenv(root, GITHUB_CA_FILE="ghes.pem")
    refuse_to_read(monkeypatch, root / "ghes.pem")

    with pytest.raises(UserError, match=r"ghes\.pem cannot be read"):
        settings()


def test_a_proxy_holds_for_arc_runner_and_buildkit_and_its_password_for_secrets_alone(
    root: Path, settings: Settings
) -> None:
    write_dotenv(root, HTTPS_PROXY=PROXY, HTTP_PROXY="http://plain.example.com:3128", NO_PROXY=".example.com")

    values = settings().runner_values

    assert values["proxy"]["https"] == {
        "url": "http://proxy.example.com:3128",
        "credentialSecretRef": "arc-proxy-https",
    }
    assert values["proxy"]["http"] == {"url": "http://plain.example.com:3128"}
    # The listener asks the Kubernetes API by the address of a service.
    assert {"10.43.0.0/16", ".svc", "k3d-mathtrail-registry", ".example.com"} <= set(values["proxy"]["noProxy"])
    for container in _containers(values):
        assert container["envFrom"] == [{"secretRef": {"name": "arc-proxy"}}]
    secrets = _secrets(root)
    assert secrets["arc-proxy"]["HTTPS_PROXY"] == secrets["arc-proxy"]["https_proxy"] == PROXY
    assert "k3d-mathtrail-registry" in secrets["arc-proxy"]["NO_PROXY"].split(",")
    assert secrets["arc-proxy-https"] == {"username": "jo", "password": "secret/of@jo"}
    assert secrets.keys() == {"arc-proxy", "arc-proxy-https"}
    for part in (values, settings().manifests, repr(settings())):
        assert PASSWORD not in json.dumps(part, default=str)
        assert "secret/of@jo" not in json.dumps(part, default=str)


def test_the_teams_own_proxy_stays(root: Path, settings: Settings) -> None:
    write_dotenv(root, HTTPS_PROXY=PROXY)
    own = {"proxy": {"https": {"url": "http://other.example.com:1"}}}
    (root / "helm" / "arc-runners.local.yaml").write_text(yaml.safe_dump(own), encoding="utf-8")

    assert settings().runner_values["proxy"]["https"] == {"url": "http://other.example.com:1"}
