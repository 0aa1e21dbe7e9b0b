"""What a dev container needs of a company's network: beside its kubeconfig, in the folder that is mounted there.

Docker reads the file with variables when it makes the container (`--env-file`), and fails where there is none: so the
`initializeCommand` of a dev container makes an empty one. The other file holds certificates.
"""

from __future__ import annotations

from pathlib import Path

from envkit.corporate_network import proxy_variables, trusted_certificates
from envkit.environment import Environment
from envkit.files import write_private
from envkit.paths import ROOT

_MOUNTED = "/home/vscode/.kube"
"""Where the folder is in the container."""

_CA_VARIABLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO", "NODE_EXTRA_CA_CERTS")
"""What OpenSSL and Go, Requests and pip, curl, Git and Node.js read; each in place of a list of its own."""


def write_devcontainer_files(environment: Environment, root: Path = ROOT) -> list[str]:
    """Writes the files, or empties and removes what is needed no more; returns those that changed.

    Raises UserError where one cannot be written.
    """
    changed = []
    for path, text in _wanted(environment, root).items():
        if text or (path.exists() and path == env_file(environment)):
            if write_private(path, text):
                changed.append(str(path))
        elif path.exists():
            path.unlink()
            changed.append(str(path))
    return changed


def devcontainer_files_are_current(environment: Environment, root: Path = ROOT) -> bool:
    """Whether the files hold what they should."""
    try:
        return all(
            (path.read_text(encoding="utf-8") if path.exists() else "") == text
            for path, text in _wanted(environment, root).items()
        )
    except (OSError, UnicodeDecodeError):
        return False


def remove_devcontainer_files(environment: Environment) -> list[str]:
    """Removes the files; returns what was removed. An empty file of variables is nobody's loss, and not spoken of."""
    removed = []
    for path in (env_file(environment), _ca_file(environment)):
        if path.exists():
            removed += [str(path)] if path.stat().st_size else []
            path.unlink()
    return removed


def env_file(environment: Environment) -> Path:
    """The file with variables, as `devcontainer.json` names it."""
    return Path.home() / ".kube" / f"{environment.context}.devcontainer.env"


def _ca_file(environment: Environment) -> Path:
    return Path.home() / ".kube" / f"{environment.context}.ca-bundle.pem"


def _wanted(environment: Environment, root: Path) -> dict[Path, str]:
    """The content of each file; empty for one that is not needed."""
    network = environment.corporate
    certificates = trusted_certificates(root) if network.ca_sha256 else ""
    variables = proxy_variables(environment, root)
    if certificates:
        variables |= dict.fromkeys(_CA_VARIABLES, f"{_MOUNTED}/{_ca_file(environment).name}")
    return {
        _ca_file(environment): certificates,
        env_file(environment): "".join(f"{name}={value}\n" for name, value in variables.items()),
    }
