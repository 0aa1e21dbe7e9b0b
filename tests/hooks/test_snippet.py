"""The three-way merge of the dev container snippet: into files of many kinds, again, and out of them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonc import parse
from questions import render
from snippet import COMPOSE_FILE, UnmergeableError, merge
from support import ROOT

SNIPPET = (ROOT / "template/.devcontainer/devcontainer.json.jinja").read_text(encoding="utf-8")
FEATURE = "ghcr.io/devcontainers/features/kubectl-helm-minikube"


ENV_FILE = ["--env-file=${localEnv:HOME}/.kube/k3d-shop-dev.devcontainer.env"]


def snippet(cluster: str = "shop-dev") -> str:
    return str(render(SNIPPET, {"cluster_name": cluster}))


def merged(text: str, *, base: str | None = None, new: str | None = None, compose: bool = False) -> Any:
    result = merge(text, base=base, new=snippet() if new is None else new, compose=compose)
    assert result.kept == []
    return parse(result.text).value


def with_settings(**settings: Any) -> str:
    return json.dumps({"image": "debian", **settings}, indent=2)


FILE = """\
// Our service
{
    "image": "debian", // as in production
    /* no tools yet */
    "runArgs": ["--init"],
    "initializeCommand": ["make", "prepare"],
    "postCreateCommand": "make",
}
"""


def test_everything_that_is_needed_is_added_and_the_rest_keeps_its_spelling() -> None:
    new = parse(snippet()).value
    text = merge(FILE, base=None, new=snippet(), compose=False).text
    document = parse(text).value
    assert document["runArgs"] == ["--init", *new["runArgs"]]
    assert document["initializeCommand"] == {"own": ["make", "prepare"], **new["initializeCommand"]}
    for key in ("features", "mounts", "containerEnv", "customizations"):
        assert document[key] == new[key]
    assert list(document)[:4] == ["image", "runArgs", "initializeCommand", "postCreateCommand"]
    assert (document["image"], "remoteUser" in document, "name" in document) == ("debian", False, False)
    for line in ("// Our service", '    "image": "debian", // as in production', "    /* no tools yet */"):
        assert line in text.splitlines()
    # The snippet says why it wants what it adds.
    comment = "    // The folder and not the file, because a kubeconfig is replaced rather than changed."
    assert text.splitlines().count(comment) == 1


def test_a_comment_above_an_entry_comes_with_it() -> None:
    new = '{"mounts": [\n    "source=/a,target=/a",\n    // why\n    "source=/b,target=/b"\n]}'
    text = merge(with_settings(mounts=["source=/c,target=/c"]), base=None, new=new, compose=False).text
    lines = [line.strip(" ,") for line in text.splitlines()]
    assert lines[lines.index('"source=/b,target=/b"') - 1] == "// why"
    assert lines.count("// why") == 1


def test_a_command_that_comes_takes_no_other_entrys_place() -> None:
    mount, command = {"mounts": ["source=/a,target=/a"]}, {"initializeCommand": {"k3d": "make"}}
    document = merged(with_settings(**mount), base=json.dumps(mount), new=json.dumps(command))
    assert document == {"image": "debian", **command}


@pytest.mark.parametrize("text", ["{}", FILE, snippet(), '{"runArgs": ["--network", "k3d-shop-dev"]}', "{ // x\n}"])
@pytest.mark.parametrize("compose", [False, True])
def test_a_second_merge_changes_nothing(text: str, compose: bool) -> None:
    once = merge(text, base=None, new=snippet(), compose=compose).text
    assert merge(once, base=None, new=snippet(), compose=compose).text == once
    # Only an update knows that the network is the snippet's own, and takes it from a container of Compose.
    updated = merge(once, base=snippet(), new=snippet(), compose=compose).text
    assert updated == once or (compose and ("--network" in text or "mounts" in text))
    assert merge(updated, base=snippet(), new=snippet(), compose=compose).text == updated


@pytest.mark.parametrize("text", ["{}", FILE, with_settings(features={"a/b": {}}, dockerComposeFile="c.yml")])
@pytest.mark.parametrize("compose", [False, True])
def test_what_was_merged_can_be_taken_out_again(text: str, compose: bool) -> None:
    once = merge(text, base=None, new=snippet(), compose=compose).text
    again = parse(merge(once, base=snippet(), new="{}", compose=False).text).value
    own = parse(text).value
    if "initializeCommand" in own:
        # That a command got a name is no harm, and nothing tells that the team would not have given it one.
        own["initializeCommand"] = {"own": own["initializeCommand"]}
    if "dockerComposeFile" in own and compose:
        own["dockerComposeFile"] = ["c.yml"]
    assert again == own


def test_a_file_that_is_the_snippet_alone_is_empty_without_it() -> None:
    left = parse(merge(snippet(), base=snippet(), new="{}", compose=False).text).value
    assert left == {}


def test_compose_chooses_network_and_mounts_so_its_file_is_listed_instead() -> None:
    document = merged(with_settings(dockerComposeFile="../compose.yml", service="app"), compose=True)
    assert document["dockerComposeFile"] == ["../compose.yml", COMPOSE_FILE]
    assert {"runArgs", "mounts"} & {*document} == set()
    document = merged(with_settings(dockerComposeFile=["a.yml", "b.yml"]), compose=True)
    assert document["dockerComposeFile"] == ["a.yml", "b.yml", COMPOSE_FILE]


def test_a_container_that_moves_to_compose_and_back_stays_in_the_network() -> None:
    before = json.loads(json.dumps(parse(merge(FILE, base=None, new=snippet(), compose=False).text).value))
    moved = merged(json.dumps({**before, "dockerComposeFile": "c.yml"}), base=snippet(), compose=True)
    assert (moved["runArgs"], moved["dockerComposeFile"]) == (["--init"], ["c.yml", COMPOSE_FILE])
    del moved["dockerComposeFile"]
    back = merged(json.dumps(moved), base=snippet())
    assert back["runArgs"] == ["--init", "--network=k3d-shop-dev", *ENV_FILE]
    assert back["mounts"] == parse(snippet()).value["mounts"]


# -- what the team has already --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"runArgs": ["--network=host"]}, 'runArgs has "--network=host"; the cluster needs "--network=k3d-shop-dev".'),
        ({"runArgs": ["--net", "other"]}, 'runArgs has "--net"; the cluster needs'),
        ({"containerEnv": {"KUBECONFIG": "/x"}}, 'containerEnv.KUBECONFIG has "/x"; the cluster needs "/home/'),
        ({"remoteEnv": {"KUBECONFIG": "/x"}}, 'remoteEnv.KUBECONFIG has "/x"; the cluster needs "/home/'),
        ({"mounts": ["src=kube,dst=/home/vscode/.kube,type=volume"]}, 'mounts has "src=kube'),
        ({"mounts": [{"source": "k", "target": "/home/vscode/.kube/", "type": "volume"}]}, "mounts has {"),
        ({"mounts": "x"}, 'mounts is "x"; it has to be a list.'),
        ({"features": []}, "features is []; it has to be an object."),
        ({"containerEnv": None}, "containerEnv is null; it has to be an object."),
        ({"customizations": {"vscode": 1}}, "customizations.vscode is 1; it has to be an object."),
    ],
)
def test_a_setting_that_contradicts_the_snippet_is_refused(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UnmergeableError) as raised:
        merge(with_settings(**settings), base=None, new=snippet(), compose=False)
    assert sentence in str(raised.value)


def test_all_contradictions_are_named_at_once() -> None:
    text = with_settings(runArgs=["--network=host"], containerEnv={"KUBECONFIG": "/x"})
    with pytest.raises(UnmergeableError, match=r"(?s)KUBECONFIG.*\n.*network|network.*\n.*KUBECONFIG"):
        merge(text, base=None, new=snippet(), compose=False)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", "line 1, column 2"),
        ("[]", "It holds no object"),
        ("", "line 1, column 1"),
        ('{"a": 1 "b": 2}', "column 9"),
    ],
)
def test_a_file_that_is_no_configuration_is_refused(text: str, sentence: str) -> None:
    with pytest.raises(UnmergeableError, match=sentence):
        merge(text, base=None, new=snippet(), compose=False)


@pytest.mark.parametrize(
    "settings",
    [
        {"features": {f"{FEATURE}:1": {"version": "latest"}}},
        {"features": {f"{FEATURE}@sha256:{'0' * 64}": {}}},
        {"runArgs": ["--network", "k3d-shop-dev", *ENV_FILE]},
        {"runArgs": ["--env-file", ENV_FILE[0].removeprefix("--env-file="), "--net=k3d-shop-dev", "--init"]},
        {"mounts": ["type=bind,src=${localEnv:HOME}/.kube,dst=/home/vscode/.kube/"]},
        {"mounts": [{"type": "bind", "source": "${localEnv:HOME}/.kube", "target": "/home/vscode/.kube"}]},
        {"containerEnv": {"KUBECACHEDIR": "/cache"}},
        {"customizations": {"vscode": {"extensions": ["-MS-kubernetes-tools.vscode-kubernetes-tools"]}}},
        {"remoteUser": "node", "updateRemoteUserUID": False, "name": "orders"},
        {"initializeCommand": {"k3d-shop-dev": "true", "other": ["a", "b"]}},
    ],
)
def test_a_setting_of_the_teams_own_that_serves_as_well_stays(settings: dict[str, Any]) -> None:
    document = merged(with_settings(**settings))
    for key, value in settings.items():
        if key != "containerEnv":
            assert document[key] == value
        else:
            assert document[key]["KUBECACHEDIR"] == "/cache"


def test_an_update_from_a_release_without_the_variables_adds_them_and_keeps_files_of_the_teams_own() -> None:
    earlier = snippet().replace(f', "{ENV_FILE[0]}"', "")
    assert ENV_FILE[0] not in earlier
    before = merge(with_settings(runArgs=["--env-file", ".env"]), base=None, new=earlier, compose=False).text
    document = merged(before, base=earlier)
    assert document["runArgs"] == ["--env-file", ".env", "--network=k3d-shop-dev", *ENV_FILE]


# -- updates --------------------------------------------------------------------------------------------------------


def test_another_cluster_replaces_the_entries_in_their_places() -> None:
    before = merge(FILE, base=None, new=snippet("shop-dev"), compose=False).text
    after = merge(before, base=snippet("shop-dev"), new=snippet("cart-dev"), compose=False)
    assert after == merge(before, base=snippet("shop-dev"), new=snippet("cart-dev"), compose=False)
    assert after.text == before.replace("shop-dev", "cart-dev")


def test_a_newer_feature_replaces_the_old_one_where_the_team_left_it_alone() -> None:
    newer = snippet().replace(":1.3.1", ":1.4.0").replace('"4.3.0"', '"4.4.0"')
    before = merge(FILE, base=None, new=snippet(), compose=False).text
    assert newer != snippet()
    assert (
        parse(merge(before, base=snippet(), new=newer, compose=False).text).value
        == parse(merge(FILE, base=None, new=newer, compose=False).text).value
    )
    pinned = before.replace('"4.3.0"', '"4.0.0"')
    assert merge(pinned, base=snippet(), new=newer, compose=False).text == pinned


def test_what_the_team_took_out_stays_out_but_for_network_and_mount() -> None:
    document = parse(merge(FILE, base=None, new=snippet(), compose=False).text).value
    del document["customizations"], document["features"], document["runArgs"]
    del document["mounts"]
    after = merged(json.dumps(document), base=snippet())
    mounts = parse(snippet()).value["mounts"]
    assert after == {**document, "runArgs": ["--network=k3d-shop-dev", *ENV_FILE], "mounts": mounts}


def test_what_both_changed_stays_and_is_reported() -> None:
    before = merge(FILE, base=None, new=snippet(), compose=False).text
    edited = before.replace("/home/vscode/.kube/k3d", "/home/me/.kube/k3d")
    result = merge(edited, base=snippet(), new=snippet("cart-dev"), compose=False)
    (sentence,) = result.kept
    assert sentence.startswith('containerEnv.KUBECONFIG has "/home/me/.kube/k3d-shop-dev.devcontainer.yaml"; the clust')
    assert '"/home/me/.kube/k3d-shop-dev.devcontainer.yaml"' in result.text
    assert "--network=k3d-cart-dev" in result.text


def test_a_file_that_was_the_snippet_follows_it_as_a_whole() -> None:
    newer = snippet().replace("ubuntu-24.04", "ubuntu-26.04").replace('"vscode",', '"dev",')
    assert merged(snippet(), base=snippet(), new=newer) == parse(newer).value


def test_the_command_of_earlier_versions_gets_its_name_in_its_place() -> None:
    command = parse(snippet()).value["initializeCommand"]["k3d-shop-dev"]
    document = parse(snippet()).value | {"initializeCommand": command}
    earlier = json.dumps(document, indent=2)
    after = merge(earlier, base=earlier, new=snippet(), compose=False).text
    assert parse(after).value == parse(snippet()).value
    assert list(parse(after).value) == list(document)
    copied_by_hand = merge(earlier, base=None, new=snippet(), compose=False).text
    assert parse(copied_by_hand).value == parse(snippet()).value
    own = json.dumps(document | {"initializeCommand": "make"})
    assert merged(own, base=earlier)["initializeCommand"] == {"own": "make", "k3d-shop-dev": command}


names = st.sampled_from(["a", "b/c:1", "KUBECONFIG2", "k3d-x", "own"])
team_files = st.fixed_dictionaries(
    {},
    optional={
        "image": st.just("debian"),
        "features": st.dictionaries(names, st.dictionaries(names, st.booleans(), max_size=1), max_size=2),
        "runArgs": st.lists(
            st.sampled_from(
                ["--init", "--cap-add", "NET_ADMIN", "--network=k3d-shop-dev", "--env-file=own", *ENV_FILE]
            ),
            max_size=4,
            unique=True,
        ),
        "mounts": st.lists(st.sampled_from(["source=a,target=/a", "source=b,target=/b,type=volume"]), max_size=2),
        "containerEnv": st.dictionaries(names, names, max_size=2),
        "initializeCommand": names | st.lists(names, max_size=2) | st.dictionaries(names, names, max_size=2),
        "customizations": st.just({"vscode": {"extensions": ["x.y"]}}) | st.just({"jetbrains": {}}),
        "other": st.none() | names,
    },
)


@settings(max_examples=60)
@given(team_files, st.sampled_from([None, 2, "\t"]), st.sampled_from(["shop-dev", "cart-dev"]))
def test_whatever_the_team_has_is_there_after_merge_update_and_removal(
    team: dict[str, Any], indent: int | str | None, cluster: str
) -> None:
    text = json.dumps(team, indent=indent)
    once = merge(text, base=None, new=snippet(), compose=False).text
    updated = merge(once, base=snippet(), new=snippet(cluster), compose=False).text
    gone = parse(merge(updated, base=snippet(cluster), new="{}", compose=False).text).value
    own = {key: value for key, value in team.items() if value not in ({}, []) or key == "initializeCommand"}
    if own.get("runArgs"):
        snippets = ["--network=k3d-shop-dev", *ENV_FILE]
        own["runArgs"] = [argument for argument in own["runArgs"] if argument not in snippets]
    if isinstance(own.get("initializeCommand"), str | list):
        own["initializeCommand"] = {"own": own["initializeCommand"]}
    assert {key: value for key, value in gone.items() if value} == {key: value for key, value in own.items() if value}
    wanted = parse(snippet(cluster)).value
    document = parse(updated).value
    assert wanted["initializeCommand"].items() <= document["initializeCommand"].items()
    assert wanted["containerEnv"].items() <= document["containerEnv"].items()
    assert wanted["features"].items() <= document["features"].items()
    assert {*wanted["mounts"]} <= {*document["mounts"]}
    assert {*wanted["runArgs"]} <= {*document["runArgs"]}


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_comments_of_the_snippet_follow_the_template_where_nobody_has_changed_them(newline: str) -> None:
    text = merge(FILE, base=None, new=snippet(), compose=False).text
    old, second = "// The versions are those of the environment's mise.toml.", "// The folder and not the file"
    assert text.count(old) == text.count(second) == 1
    new = (
        snippet()
        .replace(old, f"// One line.\n    {old} Newer.")
        .replace(second, "// Newer: the folder and not the file")
    )
    ours = text.replace(second, "// Ours: the folder").replace("\n", newline)
    found = merge(ours, base=snippet(), new=new, compose=False)
    assert found.kept == []
    assert found.text == ours.replace(old, f"// One line.{newline}        {old} Newer.")
    assert merge(found.text, base=new, new=snippet(), compose=False).text == ours
