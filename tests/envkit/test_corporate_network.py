from __future__ import annotations

import json
import socket
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from certificates import new_authority
from fake_tools import Machine
from proxies import PASSWORD, PROXY
from samples import K3D_YAML, sample_environment, write_repo
from support import refuse_to_read

from envkit import preflight, registry
from envkit.config import k3d_input, read_environment
from envkit.corporate_network import (
    CA_PATH_IN_NODES,
    as_json,
    own_addresses,
    proxy_endpoint,
    proxy_variables,
    read_own_ca_bundle,
    read_own_proxies,
    read_proxies,
    tell_programs,
    without_credentials,
)
from envkit.dotenv_file import read_dotenv
from envkit.environment import Environment, load_environment
from envkit.errors import UserError
from envkit.process import redact
from envkit.state import drift_between

pytestmark = pytest.mark.usefixtures("no_proxy_of_this_machine")


def _shop(folder: Path, dotenv: str = f"HTTPS_PROXY={PROXY}\nNO_PROXY=.example.com\n") -> Environment:
    return sample_environment(folder, dotenv=dotenv)


# -- reading ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        ("proxy.example.com:3128", "http://proxy.example.com:3128"),
        ("http://proxy.example.com:3128/", "http://proxy.example.com:3128"),
        ("https://[fd00::1]:8443", "https://[fd00::1]:8443"),
        (PROXY, PROXY),
    ],
)
def test_an_address_gets_its_scheme(value: str, wanted: str) -> None:
    assert read_proxies({"HTTP_PROXY": value}, {}).http == wanted


@pytest.mark.parametrize(
    "value",
    [
        f"http://jo:{PASSWORD}$x@proxy.example.com",
        f"http://jo:{PASSWORD}@at@proxy.example.com",
        f"socks5://jo:{PASSWORD}@proxy.example.com:1080",
        f"http://jo:{PASSWORD}@proxy.example.com:99999",
        f"http://jo:{PASSWORD}@:3128",
        f"http://jo:{PASSWORD}@proxy.example.com:3128/path",
        f"http://jo:{PASSWORD} @proxy.example.com:3128",
        f"http://jo:{PASSWORD}@[proxy.example.com:3128",
    ],
)
def test_an_address_that_some_program_would_not_understand_is_refused_without_showing_it(value: str) -> None:
    with pytest.raises(UserError) as caught:
        read_proxies({"HTTPS_PROXY": value}, {})

    assert "HTTPS_PROXY" in caught.value.what
    assert "%24" in caught.value.next_step
    assert PASSWORD not in str(caught.value)


def test_the_shells_proxies_are_taken_only_when_asked_for() -> None:
    shell = {"https_proxy": "http://shell:1", "NO_PROXY": "a.example, b.example"}

    assert not read_proxies({}, shell)
    taken = read_proxies({"PROXY_FROM_SHELL": "yes"}, shell)
    assert (taken.http, taken.https, taken.no_proxy) == ("", "http://shell:1", ("a.example", "b.example"))
    own = read_proxies({"PROXY_FROM_SHELL": "yes", "HTTPS_PROXY": "http://own:1"}, shell)
    assert own.https == "http://own:1"


def test_a_switch_that_is_neither_on_nor_off_is_refused() -> None:
    with pytest.raises(UserError, match="PROXY_FROM_SHELL"):
        read_proxies({"PROXY_FROM_SHELL": "perhaps"}, {})


def test_a_mistyped_name_is_recognised(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="https_proxy") as caught:
        _shop(tmp_path, f"https_proxy={PROXY}\n")

    assert "Did you mean HTTPS_PROXY?" in caught.value.why
    assert PASSWORD not in str(caught.value)


def test_programs_get_capital_and_small_variables_and_the_own_addresses() -> None:
    variables = read_proxies({"HTTPS_PROXY": PROXY, "NO_PROXY": "x.example,localhost"}, {}).variables(["localhost"])

    assert variables["HTTPS_PROXY"] == variables["https_proxy"] == PROXY
    assert variables["NO_PROXY"] == variables["no_proxy"] == "localhost,x.example"
    assert "HTTP_PROXY" not in variables
    assert read_proxies({"NO_PROXY": "x.example"}, {}).variables(["localhost"]) == {}


def test_an_ip_address_in_brackets_and_a_scheme_without_a_port_are_understood() -> None:
    assert proxy_endpoint("http://***@[fd00::1]:3128") == ("fd00::1", 3128)
    assert proxy_endpoint("https://proxy.example.com") == ("proxy.example.com", 443)


# -- what is reached directly -------------------------------------------------------------------------------------


def test_everything_of_the_environment_is_reached_directly(tmp_path: Path) -> None:
    no_proxy = _shop(tmp_path).corporate.no_proxy

    assert set(no_proxy) >= {
        "localhost",
        "127.0.0.0/8",
        ".svc",
        ".cluster.local",
        "10.42.0.0/16",
        "10.43.0.0/16",
        "172.16.0.0/12",
        "k3d-shop-registry",
        "k3d-shop-server-0",
        "k3d-shop-agent-1",
        "k3d-shop-serverlb",
        "host.k3d.internal",
        ".example.com",
    }
    assert "k3d-shop-agent-2" not in no_proxy


def test_ranges_that_the_team_has_chosen_take_the_place_of_the_usual_ones(tmp_path: Path) -> None:
    text = K3D_YAML.replace(
        "options:\n",
        "subnet: 10.99.0.0/24\noptions:\n  k3s:\n    extraArgs:\n"
        "      - arg: --cluster-cidr=10.1.0.0/16\n        nodeFilters: [server:*]\n"
        "      - arg: --service-cidr=10.2.0.0/16\n        nodeFilters: [server:*]\n",
    )

    no_proxy = sample_environment(tmp_path, k3d_yaml=text, dotenv=f"HTTP_PROXY={PROXY}\n").corporate.no_proxy

    assert {"10.1.0.0/16", "10.2.0.0/16", "10.99.0.0/24"} <= set(no_proxy)
    assert not {"10.42.0.0/16", "10.43.0.0/16"} & set(no_proxy)


def test_a_subnet_that_docker_chooses_is_no_address() -> None:
    assert "auto" not in own_addresses(cluster="shop", registry="r", servers=3, agents=0, subnet="auto")


# -- what a cluster is made from ----------------------------------------------------------------------------------


def test_nodes_get_proxy_and_authorities(tmp_path: Path) -> None:
    root, authority = write_repo(tmp_path, dotenv=f"HTTPS_PROXY={PROXY}\n"), new_authority()
    (root / "ca-bundle.pem").write_text(f"a comment\n{authority.pem}", encoding="ascii")

    document = yaml.safe_load(k3d_input(read_environment(root), root))

    assert document["files"] == [
        {
            "description": "authorities",
            "source": authority.pem,
            "destination": CA_PATH_IN_NODES,
            "nodeFilters": ["server:*", "agent:*"],
        }
    ]
    variables = dict(entry["envVar"].split("=", 1) for entry in document["env"])
    assert variables.keys() == {"HTTPS_PROXY", "NO_PROXY"}
    assert variables["HTTPS_PROXY"] == PROXY


def test_without_either_nothing_changes(tmp_path: Path) -> None:
    shop = sample_environment(tmp_path)

    assert shop.described == shop.effective
    assert as_json(shop.corporate) is None
    assert "files" not in yaml.safe_load(k3d_input(shop, tmp_path))


def test_a_password_changes_the_fingerprint_and_is_nowhere_in_it(tmp_path: Path) -> None:
    one = _shop(tmp_path / "one")
    two = _shop(tmp_path / "two", f"HTTPS_PROXY={PROXY.replace(PASSWORD, 'other')}\nNO_PROXY=.example.com\n")

    assert one.config_hash != two.config_hash
    (line,) = drift_between(one.described, two.described)
    assert line.startswith("corporateNetwork.proxyCredentials: ")
    assert PASSWORD not in json.dumps(one.described)
    assert PASSWORD not in repr(one)


def test_a_password_has_the_fingerprint_that_clusters_were_made_with(tmp_path: Path) -> None:
    shop = read_environment(write_repo(tmp_path, dotenv="HTTPS_PROXY=http://me:secret@proxy.example.com:3128\n"))

    assert shop.corporate.credentials == "e6b7f0758c9f3b9e"  # with another one each of them would have drifted


def test_what_is_remembered_holds_no_password_and_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENVKIT_STATE_DIR", str(tmp_path / "state"))
    shop = _shop(tmp_path / "shop")

    assert load_environment(tmp_path / "shop") == load_environment(tmp_path / "shop") == shop
    (memory,) = (tmp_path / "state").glob("config-*.json")
    assert PASSWORD not in memory.read_text(encoding="utf-8")


@pytest.mark.parametrize("value", ["../own.pem", '"../own.pem"', "../own.pem   # from IT", "'../own.pem' # from IT"])
def test_a_changed_file_of_certificates_or_shell_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("ENVKIT_STATE_DIR", str(tmp_path / "state"))
    root = write_repo(tmp_path / "shop", dotenv=f"export CA_BUNDLE={value}\nPROXY_FROM_SHELL=yes\n")
    seen = set()
    for name in ("One", "Two"):
        (tmp_path / "own.pem").write_text(new_authority(name).pem, encoding="ascii")
        seen.add(load_environment(root).config_hash)
    monkeypatch.setenv("https_proxy", PROXY)
    seen.add(load_environment(root).config_hash)

    assert len(seen) == 3


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("~nosuchuser/ca.pem", "There is no user with the home folder ~nosuchuser."),
        ("/ca\0.pem", "A zero byte is in it."),
        ("a" * 256, "It is too long."),
        ("a/" * 3000, "It is too long."),
    ],
)
def test_a_name_that_no_file_can_have_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str, why: str
) -> None:
    monkeypatch.setenv("ENVKIT_STATE_DIR", str(tmp_path / "state"))
    root = write_repo(tmp_path / "shop", dotenv=f"CA_BUNDLE={value}\n")
    variables: dict[str, str] = {}

    tell_programs(root, variables)
    with pytest.raises(UserError, match=r"CA_BUNDLE in \.env is the name of no file") as caught:
        load_environment(root)

    assert (caught.value.why, caught.value.next_step) == (why, "Correct CA_BUNDLE in .env.")
    assert variables == {}


def test_a_file_of_certificates_that_cannot_be_read_is_left_to_those_who_report_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENVKIT_STATE_DIR", str(tmp_path / "state"))
    root = write_repo(tmp_path / "shop", dotenv="CA_BUNDLE=../own.pem\n")
    (tmp_path / "own.pem").write_text(new_authority("One").pem, encoding="ascii")
    readable = load_environment(root)
    refuse_to_read(monkeypatch, tmp_path / "own.pem")

    tell_programs(root, {})
    with pytest.raises(UserError, match=r"own\.pem cannot be read"):
        load_environment(root)
    assert len(readable.corporate.ca_names) == 1


def test_a_dollar_sign_elsewhere_is_shown_without_the_password(tmp_path: Path) -> None:
    shop = _shop(tmp_path)

    with pytest.raises(UserError) as caught:
        k3d_input(replace(shop, effective=shop.effective | {"token": f"{PROXY} $x"}), tmp_path)

    assert PASSWORD not in str(caught.value)


# -- the registry -------------------------------------------------------------------------------------------------


def test_the_registry_gets_both_and_no_password_is_in_a_command(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, authority = write_repo(tmp_path / "shop", dotenv=f"HTTPS_PROXY={PROXY}\n"), new_authority()
    (root / "ca-bundle.pem").write_text(authority.pem, encoding="ascii")
    machine.add("docker", f'echo "$HTTPS_PROXY" >>{tmp_path}/seen; [ "$1" != cp ] || cat >{tmp_path}/files.tar')
    environment = read_environment(root)
    monkeypatch.setattr(registry, "proxy_variables", lambda shop: proxy_variables(shop, root))
    monkeypatch.setattr(registry, "read_own_ca_bundle", lambda: read_own_ca_bundle(root))

    registry.run_registry_container(environment)

    assert [call.split()[1] for call in machine.calls] == ["create", "cp", "start"]
    assert {"--env=HTTPS_PROXY", "--env=NO_PROXY"} <= set(machine.calls[0].split())
    assert PASSWORD not in "".join(machine.calls)
    assert PROXY in (tmp_path / "seen").read_text(encoding="utf-8")
    assert authority.pem.encode() in (tmp_path / "files.tar").read_bytes()


def test_a_pull_through_cache_stays_one(machine: Machine, tmp_path: Path) -> None:
    cache = "    proxy:\n      remoteURL: https://images.example.com\n      password: hidden\n    image: registry"
    environment = sample_environment(tmp_path, k3d_yaml=K3D_YAML.replace("    image: registry", cache))
    machine.add("docker", f'echo "$REGISTRY_PROXY_REMOTEURL $REGISTRY_PROXY_PASSWORD" >{tmp_path}/seen')

    registry.run_registry_container(environment)

    assert (tmp_path / "seen").read_text(encoding="utf-8") == "https://images.example.com hidden\n"
    assert "hidden" not in "".join(machine.calls)


# -- showing ------------------------------------------------------------------------------------------------------


def test_what_is_shown_has_no_password(tmp_path: Path) -> None:
    shown = as_json(_shop(tmp_path).corporate)

    assert shown is not None
    assert shown["https_proxy"] == "http://***@proxy.example.com:3128"
    assert shown["proxy_has_credentials"] is True
    assert PASSWORD not in json.dumps(shown)


@pytest.mark.parametrize("text", [f"proxy {PROXY} failed", f'HTTPS_PROXY="{PROXY}"', f"[HTTPS_PROXY={PROXY} A=b]"])
def test_a_tools_words_are_shown_without_the_password(text: str) -> None:
    assert PASSWORD not in redact(text)
    assert "proxy.example.com:3128" in redact(text)
    assert redact("https://example.com/a@b") == "https://example.com/a@b"
    assert without_credentials("http://a:1") == "http://a:1"


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]", "proxy.localhost"])
def test_a_proxy_that_no_container_can_reach_stops_a_creation(tmp_path: Path, host: str) -> None:
    (check,) = preflight.check_corporate_network(_shop(tmp_path, f"HTTP_PROXY=http://{host}:3128\n"), tmp_path)

    assert check.verdict is preflight.Verdict.FAIL
    assert "172.17.0.1" in check.fix


def test_doctor_says_whether_the_proxy_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "is_loopback", lambda _: False)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        shop = _shop(tmp_path, f"HTTP_PROXY=http://jo:{PASSWORD}@127.0.0.1:{port}\n")
        (tmp_path / ".env").chmod(0o600)
        (up,) = preflight.check_corporate_network(shop, tmp_path)
    (tmp_path / ".env").chmod(0o640)
    readable, down = preflight.check_corporate_network(shop, tmp_path)

    assert (up.verdict, down.verdict) == (preflight.Verdict.OK, preflight.Verdict.WARN)
    assert "HTTPS_PROXY in .env" in down.fix
    assert readable.fix == f"chmod 600 {tmp_path / '.env'}"
    assert PASSWORD not in str((up, down))


def test_doctor_says_that_the_shell_has_a_proxy_and_the_cluster_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("https_proxy", PROXY)

    (check,) = preflight.check_corporate_network(sample_environment(tmp_path), tmp_path)

    assert check.fix.startswith("PROXY_FROM_SHELL=yes")


# -- programs of this machine -------------------------------------------------------------------------------------


def test_programs_that_are_called_use_the_proxy_and_not_for_this_machine(tmp_path: Path) -> None:
    variables: dict[str, str] = {}

    tell_programs(write_repo(tmp_path, dotenv=f"HTTPS_PROXY={PROXY}\nNO_PROXY=.example.com\n"), variables)

    assert variables["HTTPS_PROXY"] == PROXY
    assert variables["NO_PROXY"].split(",") == [
        "localhost",
        "127.0.0.1",
        "127.0.0.0/8",
        "::1",
        ".localhost",
        ".example.com",
    ]


@pytest.mark.parametrize("dotenv", ["HTTPS_PROXY=ftp://x\n", "CA_BUNDLE=nowhere.pem\n", "HTTPS_PROXY\n", ""])
def test_a_wrong_line_is_left_to_those_who_report_it(tmp_path: Path, dotenv: str) -> None:
    variables: dict[str, str] = {}

    tell_programs(write_repo(tmp_path, dotenv=dotenv), variables)

    assert variables == {}


_BEFORE_A_NAME = ("", "export ", "export\t", "\ufeff", "  ", "\t", "#", "X=1\r\n", "# HTTP_PROXY=http://x:1\n")
_VALUES = ("=http://p:3", " = http://p:3 # ours", "='http://p:3'", '="http://p:3"', "=", "")


@pytest.mark.parametrize("value", _VALUES)
@pytest.mark.parametrize("before", _BEFORE_A_NAME)
@pytest.mark.parametrize("name", ["HTTPS_PROXY", "'HTTPS_PROXY'"])
def test_line_means_the_same_to_every_reader_of_the_file(name: str, before: str, value: str, tmp_path: Path) -> None:
    write_repo(tmp_path)
    (tmp_path / ".env").write_bytes(f"{before}{name}{value}\r\n".encode())

    assert read_own_proxies(tmp_path).https == read_dotenv(tmp_path / ".env").get("HTTPS_PROXY", "")
