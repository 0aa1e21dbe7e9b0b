"""Building the image: what its tag stands for, what the builder is told, when it is not built at all."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import replace
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from certificates import new_authority
from fake_tools import Machine
from stand_in_releases import Releases, write_pin

from envkit.environment import Environment, PortUse, Registry
from envkit.errors import CommandFailedError, UserError
from envkit.mirrors import Mirrors
from envkit.progress import Steps
from envkit.runner import image as runner_image
from envkit.runner import npm_package
from envkit.runner.image import RunnerImage, build_and_push, build_command, describe, failure, read_built_image


class ImageRegistry:
    """A registry that holds manifests and nothing else.

    Attributes:
        manifests: `name:tag` to content type and content.
        pushed: Whether the builder has pushed; what is asked for is there from then on.
        refuses: It takes no manifest.
    """

    def __init__(self) -> None:
        self.manifests: dict[str, tuple[str, bytes]] = {}
        self.pushed: Callable[[], bool] = lambda: False
        self.refuses = False
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), lambda *arguments: _Handler(self, *arguments))

    def add(self, name: str, tag: str) -> None:
        self.manifests[f"{name}:{tag}"] = ("application/vnd.oci.image.manifest.v1+json", f"image {tag}".encode())


class _Handler(BaseHTTPRequestHandler):
    def __init__(self, held: ImageRegistry, *arguments: Any) -> None:
        self.held = held
        super().__init__(*arguments)

    @property
    def key(self) -> str:
        return self.path.removeprefix("/v2/").replace("/manifests/", ":")

    def answer(self, status: HTTPStatus, kind: str = "text/plain", content: bytes = b"") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def do_GET(self) -> None:
        if self.path.startswith("/v2/shop-runners/") and self.held.pushed():
            self.held.add(*self.key.split(":"))
        if self.path == "/v2/":
            self.answer(HTTPStatus.OK)
        elif self.key in self.held.manifests and "oci.image.manifest" in self.headers["Accept"]:
            self.answer(HTTPStatus.OK, *self.held.manifests[self.key])
        else:
            self.answer(HTTPStatus.NOT_FOUND)

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_PUT(self) -> None:
        content = self.rfile.read(int(self.headers["Content-Length"]))
        if self.held.refuses:
            self.answer(HTTPStatus.FORBIDDEN)
            return
        self.held.manifests[self.key] = (self.headers["Content-Type"], content)
        self.answer(HTTPStatus.CREATED)

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@pytest.fixture
def served() -> Iterator[ImageRegistry]:
    registry = ImageRegistry()
    Thread(target=registry.server.serve_forever, args=[0.01], daemon=True).start()
    yield registry
    registry.server.shutdown()
    registry.server.server_close()


@pytest.fixture
def environment(served: ImageRegistry) -> Environment:
    port = served.server.server_port
    return Environment(
        cluster="shop",
        servers=1,
        agents=0,
        image="rancher/k3s:v1.36.4-k3s1",
        api_port=6550,
        ports=(PortUse("127.0.0.1", port, "the registry", "REGISTRY_PORT"),),
        registry=Registry("k3d-shop-registry", port, "registry:2", "k3d-shop-registry"),
        lens="none",
        effective={},
    )


@pytest.fixture(autouse=True)
def _no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RUNNER_MIRROR", "RUNNER_APT_MIRROR", "ENVKIT_DOWNLOAD_MIRROR"):
        monkeypatch.delenv(name, raising=False)
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


Build = Callable[..., tuple[str, bool]]


@pytest.fixture
def build(
    machine: Machine,
    repository: Path,
    environment: Environment,
    served: ImageRegistry,
    releases: Releases,
    tmp_path: Path,
) -> Build:
    """Builds from stand-ins on a machine whose Docker, Buildah and npm are stand-ins too."""
    releases.publish(repository)
    machine.add("npm", f"for a; do case $a in --pack-destination=*) cp {tmp_path}/package ${{a#*=}}/x.tgz;; esac; done")
    path = next(path for path in releases.files if path.endswith(".tgz") and "linux-x64" in path)
    (tmp_path / "package").write_bytes(releases.files[path])
    for name in ("buildah", "docker"):
        machine.add(name, "echo STEP 1")
    served.pushed = lambda: any(line.split()[1] == "push" for line in machine.calls)

    def run(**options: object) -> tuple[str, bool]:
        built = tmp_path / "repo" / ".tools" / "runner-image"
        with Steps(io.StringIO()) as steps:
            return build_and_push(environment, steps, root=repository, built_image=built, **options)  # type: ignore[arg-type]

    return run


# -- the tag ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: (folder / "Dockerfile").write_text("FROM scratch\nARG BASE_IMAGE=x:1\n"),
        lambda folder: write_pin(folder / "tools.toml", "go", "version", "1.99.0"),
        lambda folder: (folder / "ca" / "company.crt").write_text("certificate"),
        lambda folder: (folder / "fetch-tool").write_text("exit 1"),
        lambda folder: (folder / "own-script").write_text("a file that the Dockerfile may copy"),
        lambda folder: (folder.parent / "environment.toml").write_text(
            '[runner]\nimage = "shop-runners"\nbase_image = "mirror/actions-runner:2.338.0"\n'
        ),
    ],
    ids=["Dockerfile", "tools.toml", "certificate", "script", "own file", "other base"],
)
def test_whatever_goes_into_the_image_changes_its_tag(repository: Path, change: Callable[[Path], object]) -> None:
    before = describe(repository).tag

    change(repository / "runner")

    assert describe(repository).tag != before


@pytest.mark.parametrize("name", ["README.md", ".gitignore", "npm/esbuild-amd64.tgz", ".DS_Store", "ca/.DS_Store"])
def test_what_does_not_go_into_the_image_leaves_its_tag(repository: Path, name: str) -> None:
    before = describe(repository).tag

    (repository / "runner" / name).write_text("changed", encoding="utf-8")

    assert describe(repository).tag == before


def test_each_architecture_has_a_tag_of_its_own(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tags = []
    for machine in ("x86_64", "aarch64"):
        monkeypatch.setattr("platform.machine", lambda machine=machine: machine)
        tags.append(describe(repository).tag)

    assert tags[0] != tags[1]


def test_a_mirror_changes_no_tag_because_it_brings_the_same(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = describe(repository).tag

    monkeypatch.setenv("RUNNER_MIRROR", "https://mirror.example")

    assert describe(repository).tag == before


def test_nodes_pull_by_the_name_that_their_mirrors_have(repository: Path, environment: Environment) -> None:
    image = describe(repository)

    expected = f"k3d-shop-registry.localhost:{environment.registry.port}/shop-runners:{image.tag}"
    assert environment.images.reference(image.tagged) == expected


# -- building -----------------------------------------------------------------------------------------------------


def test_a_companys_authorities_change_the_tag_and_are_in_the_image(build: Build, repository: Path) -> None:
    one, two = new_authority(), new_authority()
    before, bundle = describe(repository).tag, repository / "ca-bundle.pem"
    bundle.write_text(f"a comment\n{one.pem}{two.pem}", encoding="ascii")
    tag = describe(repository).tag

    build()

    files = sorted((repository / "runner" / "ca").glob("*.crt"))
    assert [path.read_text(encoding="ascii") for path in files] == [one.pem, two.pem]
    # The files are made of the bundle, so they count no second time.
    assert before != tag == describe(repository).tag
    bundle.unlink()
    assert describe(repository).tag == before


def test_an_image_is_built_pushed_and_remembered(
    build: Build, served: ImageRegistry, repository: Path, machine: Machine, environment: Environment
) -> None:
    tag = describe(repository).tag

    reference, built = build()

    assert built
    assert [line.split()[1] for line in machine.calls if line.startswith("buildah")] == ["build", "push"]
    assert f"--tag=localhost:{environment.registry.port}/shop-runners:{tag}" in "\n".join(machine.calls)
    assert read_built_image(repository / ".tools" / "runner-image") == reference
    assert served.manifests["shop-runners:latest"] == served.manifests[f"shop-runners:{tag}"]


def test_a_registry_that_takes_no_tag_is_named_and_nothing_is_remembered(
    build: Build, served: ImageRegistry, repository: Path
) -> None:
    served.refuses = True

    with pytest.raises(UserError, match="did not take the tag shop-runners:latest") as error:
        build()

    assert "403" in error.value.why
    assert not (repository / ".tools" / "runner-image").exists()


def test_an_image_that_the_registry_has_is_not_built(
    build: Build, served: ImageRegistry, repository: Path, machine: Machine
) -> None:
    served.add("shop-runners", describe(repository).tag)

    _, built = build()

    assert not built
    assert machine.calls == []


def test_latest_comes_back_to_an_earlier_image(build: Build, served: ImageRegistry, repository: Path) -> None:
    tag = describe(repository).tag
    served.add("shop-runners", tag)
    served.add("shop-runners", "latest")

    build()

    assert served.manifests["shop-runners:latest"][1] == f"image {tag}".encode()


def test_without_buildah_docker_builds(build: Build, machine: Machine) -> None:
    (machine.bin / "buildah").unlink()

    build()

    assert [line.split()[1] for line in machine.calls if line.startswith("docker")] == ["build", "push"]


def test_a_person_may_choose_docker(build: Build, machine: Machine) -> None:
    build(builder="docker")

    assert not any(line.startswith("buildah") for line in machine.calls)


def test_an_unknown_sum_stops_before_anything_is_built(build: Build, repository: Path, machine: Machine) -> None:
    write_pin(repository / "runner" / "tools.toml", "skaffold", "sha256.amd64", "unknown")
    write_pin(repository / "runner" / "tools.toml", "skaffold", "sha256.arm64", "unknown")

    with pytest.raises(UserError, match="sums of some downloads are not known"):
        build()

    assert machine.calls == []


def test_a_registry_that_does_not_answer_is_named_before_anything_is_built(
    environment: Environment, repository: Path, machine: Machine, tmp_path: Path
) -> None:
    dead = replace(environment, registry=replace(environment.registry, port=1))

    with Steps(io.StringIO()) as steps, pytest.raises(UserError, match="does not answer") as error:
        build_and_push(dead, steps, root=repository, built_image=tmp_path / "built")

    assert "create" in error.value.next_step
    assert machine.calls == []


def test_a_package_of_npm_that_is_another_file_is_refused(build: Build, tmp_path: Path, machine: Machine) -> None:
    (tmp_path / "package").write_bytes(b"something else")

    with pytest.raises(UserError, match=r"What npm brought for @esbuild/linux-x64@0\.28\.2 is not the file"):
        build()

    assert not any(line.startswith("buildah") for line in machine.calls)


def test_a_package_of_npm_is_fetched_once(
    build: Build, served: ImageRegistry, machine: Machine, repository: Path
) -> None:
    build()
    served.pushed = lambda: False
    (repository / "runner" / "ca" / "company.crt").write_text("certificate", encoding="utf-8")
    machine.add("buildah", "exit 1")
    with pytest.raises(CommandFailedError):
        build()

    assert sum(line.startswith("npm pack") for line in machine.calls) == 1


def test_npm_is_led_to_the_environment_s_registry(
    tmp_path: Path, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("NPM_CONFIG_REGISTRY", "npm_config_registry"):
        monkeypatch.delenv(name, raising=False)
    machine.add("npm", 'echo "${npm_config_registry:-its own} does not answer" >&2; exit 1')
    with pytest.raises(CommandFailedError, match="its own does not answer") as error:
        npm_package.fetch_package("esbuild@1", tmp_path)
    assert "npm config get registry" in error.value.next_step

    mirrors = Mirrors(npm_registry="https://mirror.example/npm")
    monkeypatch.setattr(npm_package, "read_mirrors", lambda: mirrors)
    with pytest.raises(CommandFailedError, match=r"https://mirror\.example/npm does not answer") as error:
        npm_package.fetch_package("esbuild@1", tmp_path)
    assert "grep npm_registry" in error.value.next_step


def test_a_build_that_fails_says_what_its_script_said(build: Build, machine: Machine) -> None:
    machine.add(
        "buildah", "echo STEP 5/9; echo 'error: helm: x is not the file that is pinned.'; echo '  expected 1'; exit 1"
    )

    with pytest.raises(CommandFailedError, match="could not be built: helm: x is not the file") as error:
        build()

    assert error.value.output == "expected 1"
    assert "--builder docker" in error.value.next_step


@pytest.mark.parametrize(
    "lines",
    [
        ["STEP 4/4: RUN", "error: helm: it is wrong.", "  expected 1", "  received 2", "Error: exit status 1"],
        [
            "#12 [helm 3/3] RUN",
            "#12 0.523 error: helm: it is wrong.",
            "#12 0.523   expected 1",
            "#12 0.523   received 2",
            "#12 E",
        ],
        [
            "Step 24/66",
            "\x1b[91merror: helm: it is wrong.",
            "  expected 1",
            "  received 2",
            "\x1b[0mThe command failed",
        ],
    ],
    ids=["Buildah", "BuildKit", "Docker without BuildKit"],
)
def test_the_words_of_a_script_are_found_among_those_of_each_builder(lines: list[str]) -> None:
    assert failure(lines) == ("helm: it is wrong.", "expected 1\nreceived 2")


def test_a_failure_without_such_words_has_no_cause() -> None:
    assert failure(["E: Unable to locate package buildah", "Error: exit status 100"]) == ("", "")


# -- removing it --------------------------------------------------------------------------------------------------


def test_clean_removes_what_buildah_has_built_for_this_registry_and_no_more(
    machine: Machine, environment: Environment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = tmp_path / "runner-image"
    built.write_text("name\n", encoding="utf-8")
    monkeypatch.setattr(runner_image, "_BUILT_IMAGE", built)
    own = f"localhost:{environment.registry.port}/shop-runners:1"
    names = f"{own} localhost:1/other:1 docker.io/library/debian:12 localhost/mine:1"
    machine.add("buildah", f'[ "$1" != images ] || printf "%s\\n" {names}')

    assert runner_image.remove_built_images(environment) == [f"image {own} (Buildah)"]
    assert machine.calls[-1] == f"buildah rmi {own}"
    assert not built.exists()


def test_clean_is_content_without_buildah(
    machine: Machine, environment: Environment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner_image, "_BUILT_IMAGE", tmp_path / "runner-image")
    assert runner_image.remove_built_images(environment) == []

    machine.add("buildah", "echo 'cannot clone: Operation not permitted' >&2; exit 1")
    assert runner_image.remove_built_images(environment) == []


# -- what the builder is told -------------------------------------------------------------------------------------


def command(repository: Path, builder: runner_image.Builder = "buildah") -> list[str]:
    image: RunnerImage = describe(repository)
    return build_command(builder, image, "localhost:5050/shop-runners:1", repository / "runner")


def test_the_version_of_the_runner_is_a_label(repository: Path) -> None:
    assert "--label=actions-runner.version=2.338.0" in command(repository)


def test_the_base_of_the_dockerfile_is_not_said_again(repository: Path) -> None:
    assert not any("BASE_IMAGE" in word for word in command(repository))


def test_another_base_is_handed_on(repository: Path) -> None:
    (repository / "environment.toml").write_text('[runner]\nimage = "x"\nbase_image = "mirror/runner:2.340.0"\n')

    assert "--build-arg=BASE_IMAGE=mirror/runner:2.340.0" in command(repository)
    assert "--label=actions-runner.version=2.340.0" in command(repository)


def test_buildah_builds_stages_beside_each_other(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for cores, jobs in ((None, 1), (2, 2), (32, 4)):
        monkeypatch.setattr("os.cpu_count", lambda cores=cores: cores)
        assert f"--jobs={jobs}" in command(repository)
    assert not any(word.startswith("--jobs") for word in command(repository, "docker"))


def test_mirrors_are_handed_on(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNNER_MIRROR", "https://mirror.example/files")
    monkeypatch.setenv("RUNNER_APT_MIRROR", "https://mirror.example/apt")

    assert "--build-arg=RUNNER_MIRROR=https://mirror.example/files" in command(repository)
    assert "--build-arg=RUNNER_APT_MIRROR=https://mirror.example/apt" in command(repository)


def test_the_environment_s_mirrors_serve_the_image_unless_this_machine_names_others(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirrors = Mirrors(downloads="https://mirror.example/files", apt="https://mirror.example/apt")
    monkeypatch.setattr(runner_image, "read_mirrors", lambda: mirrors)
    monkeypatch.setenv("RUNNER_MIRROR", "https://own.example")

    assert "--build-arg=RUNNER_MIRROR=https://own.example" in command(repository)
    assert "--build-arg=RUNNER_APT_MIRROR=https://mirror.example/apt" in command(repository)


def test_the_mirror_of_this_machine_s_own_downloads_serves_the_image_too(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENVKIT_DOWNLOAD_MIRROR", "https://mirror.example")
    assert "--build-arg=RUNNER_MIRROR=https://mirror.example" in command(repository)

    monkeypatch.setenv("ENVKIT_DOWNLOAD_MIRROR", "file:///srv/mirror")
    assert not any("MIRROR" in word for word in command(repository))


@pytest.mark.parametrize(
    "address", ["https://me:hunter2@mirror.example/x", "http://hunter2@mirror.example", "me:hunter2@mirror"]
)
@pytest.mark.parametrize("variable", ["RUNNER_MIRROR", "RUNNER_APT_MIRROR", "ENVKIT_DOWNLOAD_MIRROR"])
def test_mirror_with_a_password_is_refused_before_anything_is_fetched(
    variable: str, address: str, build: Build, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, address)

    with pytest.raises(UserError, match=variable) as error:
        build()

    assert "HTTPS_PROXY of .env" in error.value.why
    assert "build-runner" in error.value.next_step
    assert "hunter2" not in str(error.value)
    assert machine.calls == []


def test_mirror_of_the_environment_with_a_password_is_refused_by_its_key(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner_image, "read_mirrors", lambda: Mirrors(apt="https://me:hunter2@mirror.example/apt"))
    with pytest.raises(UserError, match=r"apt in the table \[mirrors\] of environment.toml"):
        command(repository)
    monkeypatch.setenv("RUNNER_APT_MIRROR", "https://mirror.example/a@b")
    assert "--build-arg=RUNNER_APT_MIRROR=https://mirror.example/a@b" in command(repository)


def test_a_proxy_s_password_is_not_in_the_command(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://me:hunter2@proxy.example:3128")

    words = command(repository)

    assert {"--build-arg=HTTPS_PROXY", "--build-arg=https_proxy"} <= set(words)
    assert "hunter2" not in " ".join(words)
    assert "--network=host" not in words


@pytest.mark.parametrize(
    ("variable", "address"),
    [
        ("RUNNER_MIRROR", "http://127.0.0.1:8081"),
        ("RUNNER_APT_MIRROR", "http://localhost:3142"),
        ("HTTPS_PROXY", "http://[::1]:3128"),
        ("HTTP_PROXY", "proxy.localhost:3128"),
    ],
)
def test_what_only_this_machine_can_reach_is_reached_from_its_network(
    repository: Path, monkeypatch: pytest.MonkeyPatch, variable: str, address: str
) -> None:
    assert "--network=host" not in command(repository)

    monkeypatch.setenv(variable, address)

    assert "--network=host" in command(repository)
    assert "--network=host" in command(repository, "docker")


def test_before_the_first_build_there_is_no_image(tmp_path: Path) -> None:
    assert read_built_image(tmp_path / "runner-image") is None
