from __future__ import annotations

import os
import re
import shlex
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from samples import KUBECONFIG

from envkit import kubeconfig
from envkit.errors import UserError
from envkit.kubeconfig import (
    devcontainer_kubeconfig,
    has_current_entries,
    kubeconfig_paths,
    merge,
    unmerge,
)

CONTEXT = "k3d-shop"

FOREIGN = """\
# the office's clusters
apiVersion: v1
kind: Config
preferences: {colors: on}
clusters:
- name: office
  cluster:
    server: "https://office.example.com"   # ask Jo
    certificate-authority: ~/ca.pem
    insecure-skip-tls-verify: no
- name: 2026-10-01
  cluster: {server: https://dated.example.com, tls-server-name: 0o17}
users:
- name: jo
  user:
    exec:
      apiVersion: client.authentication.k8s.io/v1
      command: aws
      args: [eks, get-token, --since, 2026-10-01, --mode, 0755, on, 1e3, ~, .inf, 1_000]
      env:
      - name: AWS_PROFILE
        value: "on"
      - {name: RATE, value: '007'}
      interactiveMode: IfAvailable
      installHint: |
        Install it:
          apt install aws

        and log in.
    token: >-
      a folded
      token

      with   spaces
contexts:
- context: {cluster: office, user: jo, namespace: "ünïcode ☃"}
  name: office
current-context: office
extensions:
- &anchor {name: one, extension: {a: 1}}
- *anchor
"""


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def _node(text: str) -> Any:
    """Tags and texts of a document without comments, layout, quotes and the cluster's own entries."""

    def plain(node: yaml.Node) -> Any:
        if isinstance(node, yaml.MappingNode):
            return [(plain(key), plain(value)) for key, value in node.value]
        if isinstance(node, yaml.SequenceNode):
            return [plain(item) for item in node.value]
        return (node.tag, node.value)

    root = yaml.compose(text, Loader=yaml.SafeLoader)
    assert root
    return plain(root)


def _values(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def _names(path: Path, section: str) -> list[str]:
    return [str(entry["name"]) for entry in _values(path)[section] or []]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    folder = tmp_path / ".kube"
    folder.mkdir()
    return folder / "config"


# -- merge --------------------------------------------------------------------------------------------------------


def test_a_missing_file_is_made_with_its_folder(tmp_path: Path) -> None:
    path = tmp_path / "new" / ".kube" / "config"

    assert merge(path, KUBECONFIG, CONTEXT)

    expected = yaml.safe_load(KUBECONFIG)
    assert {key: _values(path)[key] for key in expected if key != "preferences"} == {
        key: value for key, value in expected.items() if key != "preferences"
    }
    assert _mode(path) == 0o600
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n \n",
        "# nothing yet\n",
        "---\n",
        "{}\n",
        "apiVersion: v1\nkind: Config\nclusters: null\ncontexts:\nusers: []\ncurrent-context: ''\n",
    ],
)
def test_an_empty_file_gets_the_entries(config: Path, text: str) -> None:
    config.write_text(text, encoding="utf-8")

    assert merge(config, KUBECONFIG, CONTEXT)

    assert has_current_entries(config, KUBECONFIG)
    assert _values(config)["current-context"] == CONTEXT


def test_every_other_entry_survives_exactly(config: Path) -> None:
    config.write_text(FOREIGN, encoding="utf-8")

    assert merge(config, KUBECONFIG, CONTEXT)

    merged = dict(_node(config.read_text(encoding="utf-8")))
    for key, value in _node(FOREIGN):
        kept = merged.pop(key)
        own = 1 if key[1] in ("clusters", "contexts", "users") else 0
        assert kept[: len(kept) - own] == value if own else kept == value
    assert not merged
    assert has_current_entries(config, KUBECONFIG)


def test_text_beyond_ascii_stays_readable(config: Path) -> None:
    config.write_text(FOREIGN, encoding="utf-8")

    merge(config, KUBECONFIG, CONTEXT)

    assert "ünïcode ☃" in config.read_text(encoding="utf-8")


def test_a_second_merge_changes_nothing(config: Path) -> None:
    config.write_text(FOREIGN, encoding="utf-8")
    merge(config, KUBECONFIG, CONTEXT)
    before, files = config.read_bytes(), sorted(config.parent.iterdir())

    assert not merge(config, KUBECONFIG, CONTEXT)

    assert config.read_bytes() == before
    assert sorted(config.parent.iterdir()) == files


def test_entries_that_are_there_already_leave_the_comments_alone(config: Path) -> None:
    text = f"# mine\n{KUBECONFIG}"
    config.write_text(text, encoding="utf-8")

    assert not merge(config, KUBECONFIG, CONTEXT)
    assert config.read_text(encoding="utf-8") == text


def test_an_older_entry_of_the_same_cluster_is_replaced(config: Path) -> None:
    config.write_text(FOREIGN, encoding="utf-8")
    merge(config, KUBECONFIG, CONTEXT)
    newer = KUBECONFIG.replace("S0VZ", "TkVX").replace(":6550", ":7550")

    assert merge(config, newer, CONTEXT)

    assert _names(config, "clusters") == ["office", "2026-10-01", CONTEXT]
    assert has_current_entries(config, newer)
    assert not has_current_entries(config, KUBECONFIG)


def test_a_file_in_json_stays_a_kubeconfig(config: Path) -> None:
    config.write_text('{"apiVersion": "v1", "clusters": [{"name": "a", "cluster": {"server": "x"}}]}', encoding="utf-8")

    merge(config, KUBECONFIG, CONTEXT)

    assert _names(config, "clusters") == ["a", CONTEXT]


# -- the current context ------------------------------------------------------------------------------------------


def test_the_current_context_stays(config: Path) -> None:
    config.write_text(FOREIGN, encoding="utf-8")

    merge(config, KUBECONFIG, CONTEXT)

    assert _values(config)["current-context"] == "office"


def test_the_current_context_changes_where_that_is_wanted(config: Path) -> None:
    config.write_text(FOREIGN, encoding="utf-8")

    merge(config, KUBECONFIG, CONTEXT, switch=True)

    assert _values(config)["current-context"] == CONTEXT


def test_unmerge_leaves_another_current_context_alone(config: Path) -> None:
    config.write_text(FOREIGN, encoding="utf-8")
    merge(config, KUBECONFIG, CONTEXT)
    unmerge(config, CONTEXT)

    assert _values(config)["current-context"] == "office"


def test_unmerge_leaves_no_current_context_where_it_was_the_clusters(config: Path) -> None:
    config.write_text(FOREIGN, encoding="utf-8")
    merge(config, KUBECONFIG, CONTEXT, switch=True)
    unmerge(config, CONTEXT)

    assert _values(config)["current-context"] == ""


# -- unmerge ------------------------------------------------------------------------------------------------------


def test_unmerge_restores_the_original_entries(config: Path) -> None:
    config.write_text(FOREIGN, encoding="utf-8")
    merge(config, KUBECONFIG, CONTEXT)

    assert unmerge(config, CONTEXT)

    assert _node(config.read_text(encoding="utf-8")) == _node(FOREIGN)
    assert not unmerge(config, CONTEXT)


@pytest.mark.parametrize("text", [FOREIGN, "", "# nothing\n", "{}\n"])
def test_unmerge_does_not_touch_a_file_without_the_cluster(config: Path, text: str) -> None:
    config.write_text(text, encoding="utf-8")

    assert not unmerge(config, CONTEXT)
    assert config.read_text(encoding="utf-8") == text
    assert list(config.parent.iterdir()) == [config]


def test_unmerge_does_not_make_a_file(tmp_path: Path) -> None:
    assert not unmerge(tmp_path / "none" / "config", CONTEXT)
    assert list(tmp_path.iterdir()) == []


# -- backup, mode, symlink ----------------------------------------------------------------------------------------


def test_the_first_change_alone_makes_a_dated_private_backup(config: Path) -> None:
    config.write_text(FOREIGN, encoding="utf-8")
    config.chmod(0o644)
    merge(config, KUBECONFIG, CONTEXT)
    unmerge(config, CONTEXT)
    merge(config, KUBECONFIG, CONTEXT)

    (backup,) = (path for path in config.parent.iterdir() if path != config)
    assert re.fullmatch(r"config\.backup-\d{4}-\d\d-\d\d", backup.name)
    assert backup.read_text(encoding="utf-8") == FOREIGN
    assert _mode(backup) == _mode(config) == 0o600


def _backups(config: Path) -> set[str]:
    return {path.read_text(encoding="utf-8") for path in config.parent.glob("config.backup-*")}


def test_comments_that_came_after_the_first_backup_are_in_another(config: Path) -> None:
    config.write_text(FOREIGN, encoding="utf-8")
    merge(config, KUBECONFIG, CONTEXT)
    commented = config.read_text(encoding="utf-8") + "# staging's token expires in May\n"
    config.write_text(commented, encoding="utf-8")

    unmerge(config, CONTEXT)

    assert _backups(config) == {FOREIGN, commented}
    assert {_mode(path) for path in config.parent.iterdir()} == {0o600}


def test_a_change_that_loses_nothing_makes_no_other_backup(config: Path) -> None:
    config.write_text(FOREIGN, encoding="utf-8")
    merge(config, KUBECONFIG, CONTEXT)
    text = config.read_text(encoding="utf-8").replace("current-context: office", "current-context: 2026-10-01")
    config.write_text(text, encoding="utf-8")  # as kubectl does

    unmerge(config, CONTEXT)

    assert _backups(config) == {FOREIGN}


def test_the_same_text_is_kept_once(config: Path) -> None:
    for _ in range(3):
        config.write_text(FOREIGN, encoding="utf-8")
        merge(config, KUBECONFIG, CONTEXT)

    assert len(list(config.parent.glob("config.backup-*"))) == 1


def test_a_backup_made_by_hand_is_not_taken_for_one_of_ours(config: Path) -> None:
    by_hand = config.with_name("config.backup-2024")
    by_hand.write_text("old", encoding="utf-8")
    config.write_text(FOREIGN, encoding="utf-8")

    merge(config, KUBECONFIG, CONTEXT)

    assert _backups(config) == {"old", FOREIGN}


def test_the_first_backup_and_the_latest_stay(config: Path) -> None:
    texts = [f"# {number}\n{FOREIGN}" for number in range(14)]
    counts = []
    for text in texts:
        config.write_text(text, encoding="utf-8")
        merge(config, KUBECONFIG, CONTEXT)
        counts.append(len(_backups(config)))

    assert counts == [*range(1, 11), 10, 10, 10, 10]
    assert _backups(config) == {texts[0], *texts[-9:]}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_backup_that_cannot_be_read_keeps_nothing_from_being_merged(config: Path) -> None:
    config.write_text(FOREIGN, encoding="utf-8")
    merge(config, KUBECONFIG, CONTEXT)
    for backup in config.parent.glob("config.backup-*"):
        backup.chmod(0)
    config.write_text(f"# mine\n{FOREIGN}", encoding="utf-8")

    assert merge(config, KUBECONFIG, CONTEXT)


def test_a_symlink_stays_one(tmp_path: Path, config: Path) -> None:
    target = tmp_path / "dotfiles" / "kubeconfig"
    target.parent.mkdir()
    target.write_text(FOREIGN, encoding="utf-8")
    config.symlink_to(target)

    merge(config, KUBECONFIG, CONTEXT)

    assert config.is_symlink()
    assert _names(target, "clusters")[-1] == CONTEXT
    assert len(list(target.parent.glob("kubeconfig.backup-*"))) == 1
    assert list(config.parent.iterdir()) == [config]


def test_a_symlink_to_nothing_gets_its_target(tmp_path: Path, config: Path) -> None:
    config.symlink_to(tmp_path / "dotfiles" / "kubeconfig")

    merge(config, KUBECONFIG, CONTEXT)

    assert config.is_symlink()
    assert has_current_entries(config, KUBECONFIG)


def test_a_symlink_to_itself_is_named(config: Path) -> None:
    config.symlink_to(config)

    with pytest.raises(UserError, match=re.escape(str(config))):
        merge(config, KUBECONFIG, CONTEXT)


# -- files that cannot be used ------------------------------------------------------------------------------------

BROKEN = {
    "no YAML": b"clusters: [\n",
    "tab": b"clusters:\n\t- name: a\n",
    "list": b"- clusters\n",
    "text": b"clusters\n",
    "two documents": b"apiVersion: v1\n---\napiVersion: v1\n",
    "clusters are a mapping": b"clusters: {office: {server: x}}\n",
    "users are a text": b"users: jo\n",
    "binary": b"\x00\x01\xff\xfe",
    "another encoding": "clusters: []\nnote: ü\n".encode("latin-1"),
}


@pytest.mark.parametrize("defect", BROKEN)
def test_a_broken_file_is_left_as_it_is(config: Path, defect: str) -> None:
    config.write_bytes(BROKEN[defect])
    config.chmod(0o640)

    changes: list[Callable[[], bool]] = [
        lambda: merge(config, KUBECONFIG, CONTEXT),
        lambda: unmerge(config, CONTEXT),
    ]
    for change in changes:
        with pytest.raises(UserError) as caught:
            change()
        assert str(config) in caught.value.what
        assert caught.value.next_step

    assert config.read_bytes() == BROKEN[defect]
    assert _mode(config) == 0o640
    assert list(config.parent.iterdir()) == [config]
    assert not has_current_entries(config, KUBECONFIG)


def test_entries_that_are_no_mappings_are_passed_over(config: Path) -> None:
    config.write_text("clusters: [office, {name: [1]}, {cluster: {}}]\n", encoding="utf-8")

    merge(config, KUBECONFIG, CONTEXT)
    unmerge(config, CONTEXT)

    assert _values(config)["clusters"] == ["office", {"name": [1]}, {"cluster": {}}]


def test_a_folder_in_the_files_place_is_named(config: Path) -> None:
    config.mkdir()

    with pytest.raises(UserError, match=re.escape(str(config))):
        merge(config, KUBECONFIG, CONTEXT)


def test_a_command_that_is_suggested_can_be_copied_where_the_path_has_spaces(tmp_path: Path) -> None:
    folder = tmp_path / "my files"
    folder.mkdir()
    config = folder / "it's mine"
    config.write_text("- list\n", encoding="utf-8")

    with pytest.raises(UserError) as caught:
        merge(config, KUBECONFIG, CONTEXT)

    command = re.search(r"\((mv .*)\)", caught.value.next_step)
    assert command
    assert shlex.split(command[1]) == ["mv", str(config), f"{config}.broken"]


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(UserError, match="cannot be changed") as caught:
        merge(tmp_path / "file" / "config", KUBECONFIG, CONTEXT)

    assert caught.value.next_step == f"ls -ld {tmp_path / 'file'}"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_named(config: Path) -> None:
    config.write_text(FOREIGN, encoding="utf-8")
    config.parent.chmod(0o500)
    try:
        with pytest.raises(UserError, match="cannot be changed"):
            merge(config, KUBECONFIG, CONTEXT)
    finally:
        config.parent.chmod(0o700)

    assert config.read_text(encoding="utf-8") == FOREIGN


def test_kubectls_lock_is_respected(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kubeconfig, "_LOCK_WAIT", 0.1)
    config.write_text(FOREIGN, encoding="utf-8")
    lock = config.with_name("config.lock")
    lock.touch()

    with pytest.raises(UserError, match="is locked") as caught:
        merge(config, KUBECONFIG, CONTEXT)

    assert f"rm {lock}" in caught.value.next_step
    assert config.read_text(encoding="utf-8") == FOREIGN
    lock.unlink()
    assert merge(config, KUBECONFIG, CONTEXT)
    assert not lock.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may make devices, and replace them")
def test_a_device_is_not_replaced(config: Path) -> None:
    try:
        os.mknod(config, 0o666 | stat.S_IFCHR, Path("/dev/null").stat().st_rdev)
    except PermissionError:
        pytest.skip("this root may not make devices")

    with pytest.raises(UserError, match="cannot be written"):
        merge(config, KUBECONFIG, CONTEXT)

    assert stat.S_ISCHR(config.stat().st_mode)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_a_file_that_root_changes_stays_its_owners(config: Path) -> None:
    config.write_text(FOREIGN, encoding="utf-8")
    os.chown(config, 1234, 2345)

    merge(config, KUBECONFIG, CONTEXT)

    files = list(config.parent.iterdir())
    assert len(files) == 2
    assert {(path.stat().st_uid, path.stat().st_gid) for path in files} == {(1234, 2345)}


# -- which files --------------------------------------------------------------------------------------------------


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("KUBECONFIG", raising=False)
    return tmp_path


def test_the_files_lie_in_the_home_folder(home: Path) -> None:
    paths = kubeconfig_paths(CONTEXT)

    assert paths.host == home / ".kube" / "k3d-shop.yaml"
    assert paths.devcontainer == home / ".kube" / "k3d-shop.devcontainer.yaml"
    assert paths.merged == home / ".kube" / "config"


@pytest.mark.parametrize(
    ("variable", "existing", "expected"),
    [
        ("{}/a", [], "a"),
        ("{}/a", ["a"], "a"),
        ("{}/a:{}/b", ["b"], "b"),
        ("{}/a:{}/b", ["a", "b"], "a"),
        ("{}/a:{}/b", [], "b"),
        (":{}/a:", [], "a"),
        ("", [], ".kube/config"),
    ],
)
def test_the_developers_own_file_is_the_one_that_kubectl_takes(
    home: Path, monkeypatch: pytest.MonkeyPatch, variable: str, existing: list[str], expected: str
) -> None:
    monkeypatch.setenv("KUBECONFIG", variable.format(home, home))
    for name in existing:
        (home / name).touch()

    assert kubeconfig_paths(CONTEXT).merged == home / expected


# -- for containers -----------------------------------------------------------------------------------------------


def test_containers_reach_the_api_through_the_load_balancer() -> None:
    text = devcontainer_kubeconfig(KUBECONFIG, "k3d-shop-serverlb")

    assert text == KUBECONFIG.replace("https://127.0.0.1:6550", "https://k3d-shop-serverlb:6443")


@pytest.mark.parametrize("text", [KUBECONFIG.replace("    server:", "    host:"), KUBECONFIG + KUBECONFIG])
def test_a_kubeconfig_with_no_or_two_servers_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="names no server, or several"):
        devcontainer_kubeconfig(text, "k3d-shop-serverlb")


# -- properties ---------------------------------------------------------------------------------------------------

_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.sampled_from(
    [
        "on",
        "~",
        "2026-10-01",
        "0755",
        "1e3",
        "- a",
        "a: b",
        "#",
        "<<",
        "=",
        " lead",
        "trail ",
        "a\n\n b\n",
        "\ttab",
        "{",
        "%",
    ]
)
_VALUES = st.recursive(
    _TEXT | st.integers() | st.booleans() | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXT, inner, max_size=3),
    max_leaves=6,
)
_ENTRIES = st.lists(st.fixed_dictionaries({"name": _TEXT, "value": _VALUES}), max_size=3)
_KUBECONFIGS = st.fixed_dictionaries(
    {},
    optional={
        "clusters": _ENTRIES | st.none(),
        "users": _ENTRIES,
        "contexts": _ENTRIES,
        "current-context": _TEXT,
        "preferences": _VALUES,
        "x": _VALUES,
    },
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=60)
@given(document=_KUBECONFIGS, style=st.sampled_from([None, "|", ">", "'", '"']), flow=st.booleans())
def test_merging_and_unmerging_keeps_every_foreign_entry(
    tmp_path: Path, document: dict[str, Any], style: str | None, flow: bool
) -> None:
    path = tmp_path / "config"
    text = yaml.safe_dump(document, default_style=style, default_flow_style=flow, sort_keys=False)
    path.write_text(text, encoding="utf-8")

    merge(path, KUBECONFIG, CONTEXT)
    assert has_current_entries(path, KUBECONFIG)
    unmerge(path, CONTEXT)

    after, before = _values(path), yaml.safe_load(text)
    for section in ("clusters", "users", "contexts"):
        assert (after.pop(section) or []) == (before.pop(section, None) or [])
    if not before.get("current-context"):
        before["current-context"] = ""
    assert {key: value for key, value in after.items() if key not in ("apiVersion", "kind")} == before
