"""The CI image, built for real by Buildah and by Docker, pushed, pulled by a node, and run.

What stands in: the tools are small programs that print their version, published with their true sums by a web server on
this machine, to which the answers for mirrors point. Where the lab names a base image of its own, that takes the
place of GitHub's runner. Everything else is real: the Dockerfile, the scripts, npm, the distribution's packages.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from e2e.conftest import NewEnvironment
from e2e.generated import Generated
from e2e.machine import docker, skip_without, wait_until
from stand_in_releases import Releases, stand_in, write_pin

pytestmark = pytest.mark.e2e

OWN_TOOL = """\
[tools.our-tool]
version = "1.2.3"
checked = "none"
url = "https://example.com/our-tool-{version}-{arch}"
sums = "https://example.com/sums"
sha256.amd64 = "unknown"
sha256.arm64 = "unknown"
shows = "our-tool"
"""

HELM = "/get.helm.sh/helm-v{}-linux-{}.tar.gz"


@pytest.fixture(scope="module")
def releases() -> Iterator[Releases]:
    with Releases() as server:
        yield server


@pytest.fixture(scope="module")
def environment(new_environment: NewEnvironment, releases: Releases) -> Generated:
    """A running cluster whose image is to be made of stand-ins."""
    answers = {"download_mirror": releases.url, "npm_registry": releases.url}
    if base := os.environ.get("LAB_RUNNER_IMAGE"):
        answers["runner_base_image"] = base
    elif os.environ.get("LAB_K3S_IMAGE"):
        skip_without("the lab has no base image for runners (LAB_RUNNER_IMAGE)")
    environment = new_environment(**answers)
    (environment.root / "runner" / "tools.local.toml").write_text(OWN_TOOL, encoding="utf-8")
    releases.publish(environment.root)
    authorities = environment.root / "runner" / "ca"
    (authorities / "team").mkdir()
    for certificate in (authorities / "company.crt", authorities / "team" / "team.crt"):
        subprocess.run(
            [
                *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=A company"),
                *("-keyout", os.devnull, "-out", certificate),
            ],
            capture_output=True,
            check=True,
        )
    environment.envkit("create")
    return environment


@pytest.fixture(autouse=True)
def _first_question(releases: Releases) -> None:
    releases.asked.clear()


def build(environment: Generated, *options: str, expect: int = 0) -> str:
    return environment.envkit("build-runner", *options, expect=expect).output


def fetched(releases: Releases) -> list[str]:
    """What the build has fetched, packages of npm left out."""
    return [path for path in releases.asked if not path.startswith("/@")]


def reference(environment: Generated) -> str:
    return (environment.root / ".tools" / "runner-image").read_text(encoding="utf-8").strip()


def pins(environment: Generated) -> Path:
    return environment.root / "runner" / "tools.toml"


def tools(text: str) -> str:
    """What tools.toml says of the tools."""
    return text.partition("[tools.")[2]


def arch() -> str:
    return {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine]


def test_the_image_is_built_and_every_tool_in_it_has_the_pinned_version(
    environment: Generated, releases: Releases
) -> None:
    said = build(environment)

    assert f"Built and pushed: {environment.registry}.localhost:" in said
    assert len(fetched(releases)) == 8
    checked = environment.envkit("test-runner").stdout
    assert "Every tool runs and has the pinned version." in checked
    assert {line.split()[1] for line in checked.splitlines() if line.startswith("ok")} >= {
        "go",
        "esbuild",
        "buildah",
        "our-tool",
    }


def test_an_image_that_the_registry_has_is_not_built_again(environment: Generated, releases: Releases) -> None:
    before = reference(environment)

    said = build(environment)

    assert "The registry has it already" in said
    assert releases.asked == []
    assert reference(environment) == before


def test_nodes_run_the_image_by_the_name_that_was_remembered(environment: Generated) -> None:
    environment.kubectl("run", "image", f"--image={reference(environment)}", "--restart=Never", "--", "id", "-u")

    def phase() -> str:
        return environment.kubectl("get", "pod", "image", "--output=jsonpath={.status.phase}")

    wait_until("the pod has run", lambda: phase() == "Succeeded", seconds=90)
    assert environment.kubectl("logs", "image").strip() == "1001"


def test_jobs_trust_the_company_s_own_authority(environment: Generated) -> None:
    port = environment.answers["registry_port"]
    image = f"localhost:{port}/{reference(environment).partition('/')[2]}"
    authorities = environment.root / "runner" / "ca"

    trusted = docker("run", "--rm", "--entrypoint=/bin/sh", image, "-c", 'cat "$NODE_EXTRA_CA_CERTS"')

    for name in ("company.crt", "team/team.crt"):
        assert (authorities / name).read_text(encoding="utf-8").strip() in trusted, name


def test_the_moving_tag_names_the_same_image(environment: Generated) -> None:
    tagged, latest = reference(environment), reference(environment).rpartition(":")[0] + ":latest"
    port = environment.answers["registry_port"]

    digests = []
    for name in (tagged, latest):
        local = f"localhost:{port}/{name.partition('/')[2]}"
        docker("pull", "--quiet", local)
        digests.append(docker("image", "inspect", "--format", "{{.Id}}", local))

    assert digests[0] == digests[1]


def test_labels_say_what_the_image_is_made_of(environment: Generated) -> None:
    port = environment.answers["registry_port"]
    local = f"localhost:{port}/{reference(environment).partition('/')[2]}"
    base = environment.answers.get("runner_base_image", "")

    def label(name: str) -> str:
        return docker("image", "inspect", "--format", f'{{{{index .Config.Labels "{name}"}}}}', local)

    assert label("org.opencontainers.image.version") == local.rpartition(":")[2]
    assert label("actions-runner.version").split(".")[0] == "2"
    assert label("org.opencontainers.image.base.name").startswith(base)


def test_after_a_bump_one_tool_is_fetched_and_no_other(environment: Generated, releases: Releases) -> None:
    before = reference(environment)
    releases.bump(environment.root, "helm", "4.3.1")

    build(environment)

    assert fetched(releases) == [HELM.format("4.3.1", arch())]
    assert reference(environment) != before


def test_a_wrong_sum_fails_the_build_and_names_the_tool(environment: Generated, releases: Releases) -> None:
    before = reference(environment)
    releases.bump(environment.root, "helm", "4.3.2")
    releases.files[HELM.format("4.3.2", arch())] = stand_in("helm", "4.3.2", f"linux-{arch()}/helm", size=1)

    said = build(environment, expect=1)

    assert "could not be built: helm: " in said
    assert "expected SHA-256" in said
    assert reference(environment) == before


def test_a_version_without_known_sums_stops_before_anything_is_fetched(
    environment: Generated, releases: Releases
) -> None:
    write_pin(pins(environment), "helm", "version", "4.3.3")

    said = build(environment, expect=1)

    assert "helm 4.3.3: the sums are those of 4.3.2" in said
    assert "runner-checksums" in said
    assert releases.asked == []


def test_the_published_sums_make_it_buildable_and_docker_builds_the_same(
    environment: Generated, releases: Releases
) -> None:
    text = pins(environment).read_text(encoding="utf-8")
    releases.bump(environment.root, "helm", "4.3.3")
    sums = pins(environment).read_text(encoding="utf-8")
    pins(environment).write_text(text, encoding="utf-8")
    for word in ("amd64", "arm64"):
        value = sums.partition("[tools.helm]")[2].partition(f'sha256.{word} = "')[2][:64]
        name = HELM.format("4.3.3", word)
        releases.files[f"{name}.sha256sum"] = f"{value}  {name.rpartition('/')[2]}\n".encode()
    if base := environment.answers.get("runner_base_image"):
        tag = base.rpartition(":")[2]
        release = f"/api.github.com/repos/actions/runner/releases/tags/v{tag}"
        releases.files[release] = b'{"published_at": "2026-11-20T08:00:00Z"}'

    said = environment.envkit("runner-checksums").stdout
    assert "helm 4.3.3" in said
    assert tools(pins(environment).read_text(encoding="utf-8")) == tools(sums)

    build(environment, "--builder", "docker")
    assert "Every tool runs and has the pinned version." in environment.envkit("test-runner").stdout


def test_packages_come_from_a_mirror_without_a_trace_of_it_in_the_image(environment: Generated, tmp_path: Path) -> None:
    """The installation itself is a stand-in that prints the sources it would use."""
    for name, body in {
        "apt-get": 'folder=$(sed -n \'s/.*sourceparts "\\(.*\\)";/\\1/p\' "$APT_CONFIG"); cat "$folder"/*',
        "setcap": "exit 0",
        "chmod": 'case "$1" in u-s) exit 0;; *) exec /bin/chmod "$@";; esac',
    }.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
        (tmp_path / name).chmod(0o755)
    script = environment.root / "runner" / "install-packages"
    port = environment.answers["registry_port"]
    image = f"localhost:{port}/{reference(environment).partition('/')[2]}"

    done = subprocess.run(
        [
            *("docker", "run", "--rm", "--user=0", f"--volume={tmp_path}:/stubs:ro", f"--volume={script}:/script:ro"),
            *("--env=PATH=/stubs:/usr/sbin:/usr/bin:/sbin:/bin", "--env=RUNNER_APT_MIRROR=http://mirror.example/apt/"),
            *("--entrypoint=/bin/sh", image, "-c", "sh /script buildah && echo === && cat /etc/apt/sources.list*"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )

    used, _, kept = done.stdout.partition("===")
    assert "http://mirror.example/apt/" in used, done.stderr
    assert not [line for line in used.splitlines() if "://" in line and "http://mirror.example/apt/" not in line]
    assert "mirror.example" not in kept
