"""Whole namespaces at once: export.yaml, apply, failing, and the image itself (DESIGN.md 2, .api)."""

import contextlib
import errno
import json
import os
import re
import subprocess

import pytest
import yaml
from conftest import TOP, fails, opened, wait_for

SECONDS = 20  # for something to come, on a busy machine
NOISY = "refused|watch|server|rights"
SPEC = {"kind": "ImageStream", "apiVersion": "image.openshift.io/v1"}


def image(name, tag="1"):
    return {"kind": "DockerImage", "name": f"quay.io/example/{name}:{tag}"}


def manifest(namespace, name, tags=(), **metadata):
    return {**SPEC, "metadata": {"name": name, "namespace": namespace, **metadata},
            "spec": {"tags": list(tags)}}


def put_status(server, namespace, name, tags):
    """What a push or an import would make of the stream's histories."""
    stream = server.get(namespace, name)
    stream["status"]["tags"] = tags
    server.control("POST", "bulk", [{"op": "replace", "namespace": namespace, "name": name,
                                     "object": stream}])


def item(reference, created="2026-01-01T00:00:00Z", digest=None, generation=1):
    digest = digest or "sha256:" + "1" * 64
    return {"created": created, "dockerImageReference": reference, "image": digest,
            "generation": generation}


def documents(text):
    return [one for one in yaml.safe_load_all(text) if one]


def by_name(text):
    found = {(one["metadata"]["namespace"], one["metadata"]["name"]): one
             for one in documents(text)}
    assert len(found) == len(documents(text))
    return found


def outcomes(path):
    """NAMESPACE/NAME -> what became of it, of the answer to apply."""
    lines = path.read_text().splitlines()
    found = dict(line.split(": ", 1) for line in lines)
    assert len(found) == len(lines), lines
    return found


def write(path, text):
    """One open, write and close; the close's verdict as an errno, or None."""
    fd = os.open(path, os.O_WRONLY | os.O_TRUNC)
    data = text.encode() if isinstance(text, str) else text
    while data:
        data = data[os.write(fd, data):]
    try:
        os.close(fd)
    except OSError as error:
        return errno.errorcode[error.errno]
    return None


def requests(server, *methods):
    return [one for one in server.control("GET", "requests")["requests"]
            if one["headers"].get("user-agent", "").startswith("imagestreamfs")
            and one["method"] in methods and "/authorization." not in one["path"]]


def spec_of(stream):
    """What a manifest says of a stream: no field that the server fills in by itself."""
    metadata = stream["metadata"]
    annotations = {key: value for key, value in (metadata.get("annotations") or {}).items()
                   if key != "openshift.io/image.dockerRepositoryCheck"}
    tags = [{key: value for key, value in tag.items()
             if key != "generation" and value is not None}
            for tag in stream["spec"].get("tags") or ()]
    return {"labels": metadata.get("labels") or {}, "annotations": annotations,
            "lookup": stream["spec"].get("lookupPolicy"), "tags": tags}


def all_of(server):
    items = server.request("GET", "/apis/image.openshift.io/v1/imagestreams")["items"]
    return {(one["metadata"]["namespace"], one["metadata"]["name"]): one for one in items}


def without_own_images(streams):
    """The specs, less what no manifest can bring: tags whose source is the stream's own image."""
    found = {}
    for (namespace, name), stream in streams.items():
        spec = spec_of(stream)
        spec["tags"] = [tag for tag in spec["tags"]
                        if tag.get("from", {}).get("kind") != "ImageStreamImage"
                        or not tag["from"]["name"].startswith(name + "@")]
        found[namespace, name] = spec
    return found


def clear(server):
    server.control("POST", "bulk", [{"op": "clear"}])


def wait_until_empty(mount):
    wait_for(lambda: not (mount / ".api/export.yaml").read_bytes(), SECONDS, "the deletion")


# ---- export ----


def test_a_clean_manifest(server, mount):
    """Nothing that only a server sets, and nothing that moves by itself."""
    for path in (mount / "shop/.api/export.yaml", mount / ".api/export.yaml"):
        web = by_name(path.read_text())["shop", "web"]
        assert set(web) == {"kind", "apiVersion", "metadata", "spec"}
        assert web["metadata"] == {
            "name": "web", "namespace": "shop", "labels": {"app": "shop", "tier": "web"},
            "annotations": {"openshift.io/display-name": "Shop front end"}}
        assert all("generation" not in tag for tag in web["spec"]["tags"])
        assert not re.search("null|resourceVersion|managedFields|dockerRepositoryCheck",
                             path.read_text())


def test_everything_is_in_it_in_order(server, mount):
    streams = all_of(server)
    text = (mount / ".api/export.yaml").read_text()
    names = [(one["metadata"]["namespace"], one["metadata"]["name"]) for one in documents(text)]
    assert sorted(names) == sorted(streams) and len(names) > 20
    own = (mount / "shop/.api/export.yaml").read_text()
    assert [one["metadata"]["name"] for one in documents(own)] == ["api", "web", "worker"]
    assert own in text
    assert not (mount / "dev/.api/export.yaml").read_text().count("shop")
    assert (mount / ".api/export.yaml").read_text() == text


def test_each_pushed_tag_is_named(server, mount):
    text = (mount / "shop/.api/export.yaml").read_text()
    history = server.get("shop", "api")["status"]["tags"]
    assert len(history) == 3
    for tag in history:
        reference = tag["items"][0]["dockerImageReference"]
        assert f"# pushed: tag {tag['tag']} is {reference}\n" in text
    assert text.count("# pushed") == 3


def test_an_own_image_is_named_and_no_tag(server, mount):
    digest = server.get("shop", "api")["status"]["tags"][0]["items"][0]["image"]
    for name, source in (("kept", {"kind": "ImageStreamImage", "name": "api@" + digest}),
                         ("whole", {"kind": "ImageStreamImage", "namespace": "shop",
                                    "name": "api@" + digest})):
        (mount / "shop/api/tags" / name).mkdir()
        (mount / "shop/api/tags" / name / "spec.json").write_text(
            json.dumps({"name": name, "from": source}))
    text = (mount / "shop/.api/export.yaml").read_text()
    assert "# pushed: tag kept is " in text and "# pushed: tag whole is " in text
    assert not by_name(text)["shop", "api"]["spec"].get("tags")


def test_what_moves_by_itself_changes_no_byte(server, mount):
    """An import's annotation, generations and resourceVersions: git sees nothing."""
    path = mount / "shop/.api/export.yaml"
    before = path.read_bytes()
    server.control("POST", "bulk", [{"op": "touch", "match": "web", "change": "image"}])
    server.request("PATCH", server.streams("shop", "worker"), {"metadata": {"annotations": {
        "openshift.io/image.dockerRepositoryCheck": "2026-01-01T00:00:00Z"}}},
        "application/merge-patch+json")
    server.label("shop", "api", seen="yes")
    wait_for(lambda: b"seen" in path.read_bytes(), SECONDS, "the label")
    server.label("shop", "api", seen=None)
    wait_for(lambda: b"seen" not in path.read_bytes(), SECONDS, "its end")
    assert path.read_bytes() == before


def test_one_change_is_a_small_diff(server, mount, tmp_path):
    (tmp_path / "a").write_bytes((mount / ".api/export.yaml").read_bytes())
    server.label("shop", "web", canary="yes")
    wait_for(lambda: b"canary" in (mount / ".api/export.yaml").read_bytes(), SECONDS, "the label")
    (tmp_path / "b").write_bytes((mount / ".api/export.yaml").read_bytes())
    diff = subprocess.run(["git", "diff", "--no-index", "--numstat", "a", "b"], cwd=tmp_path,
                          capture_output=True, text=True, check=False).stdout
    assert diff.split("\t")[:2] == ["1", "0"]


HOSTILE = ["a\nb: c", "-", "%", "%2F", "a/b", ".hidden", "\u0085kind: x", "\u2028x: y", "\u2029z",
           "\ufeff", "---", "...", "a\tb", "\u007f", "x" * 200, "é", "\ud7ff", "# c", "\ufffe"]


def test_odd_names_stay_in_their_comment(server, mount):
    """A tag may have any name and a reference any text: neither ends its line, nor breaks the YAML."""
    server.create("dev", "odd")
    put_status(server, "dev", "odd", [
        {"tag": name, "items": [item(f"quay.io/a{name}b")]} for name in HOSTILE])
    path = mount / "dev/.api/export.yaml"
    wait_for(lambda: path.read_text().count("# pushed") == len(HOSTILE), SECONDS, "the comments")
    text = path.read_text()
    assert by_name(text)["dev", "odd"].keys() == {"kind", "apiVersion", "metadata", "spec"}
    assert len(documents(text)) == 2
    server.delete("dev", "odd")
    answer = mount / "dev/.api/apply"
    assert write(answer, text) is None, answer.read_text()
    assert set(outcomes(answer)) == {"dev/odd", "dev/scratch"}


def test_odd_values_come_back(server, mount):
    """Texts that YAML could take for something else, in every place where a user may have them."""
    odd = ["yes", "1", "1.0", "null", "~", "", " ", "a: b", "# c", "- x", "é\n\n", "{}", "0x1",
           "2026-01-01", "\u2028", "'", '"', "x\ty", "line\nline\n", "|", "!!int 3", "\\", "=", "<<"]
    notes = {f"n{i}": value for i, value in enumerate(odd)}
    tags = [{"name": value, "annotations": {"v": value}, "from": image("x")}
            for value in odd if value.strip() and "\n" not in value]
    server.request("POST", server.streams("dev"),
                   manifest("dev", "values", tags, annotations=notes))
    wait_for((mount / "dev/values").exists, SECONDS, "the stream")
    text = (mount / "dev/.api/export.yaml").read_text()
    before = spec_of(server.get("dev", "values"))
    server.delete("dev", "values")
    wait_for(lambda: not (mount / "dev/values").exists(), SECONDS, "the deletion")
    assert write(mount / "dev/.api/apply", text) is None
    assert spec_of(server.get("dev", "values")) == before


def test_reading_in_any_way(server, mount):
    """From the middle, backwards, in pieces of any size, twice at once: the same bytes."""
    path = mount / ".api/export.yaml"
    whole = path.read_bytes()
    with opened(path) as fd:
        for offset in (0, len(whole) // 2, 10, len(whole) - 1, 1, len(whole), len(whole) + 5, 0):
            assert os.pread(fd, 1000, offset) == whole[offset:offset + 1000], offset
        assert os.pread(fd, len(whole), 0) == whole
    with opened(path) as fd:
        found = b""
        while True:
            piece = os.read(fd, 777)
            found += piece
            if not piece:
                break
        assert found == whole
    assert subprocess.run(["tail", "-c", "100", str(path)], capture_output=True,
                          check=True).stdout == whole[-100:]
    assert os.stat(path).st_size == 0


def test_an_open_file_is_of_its_moment(server, mount):
    """What is read on is what was there at the open; the next open has the rest."""
    path = mount / "shop/.api/export.yaml"
    before = path.read_bytes()
    with opened(path) as fd:
        first = os.read(fd, 100)
        server.delete("shop", "worker")
        server.label("shop", "web", late="yes")
        wait_for(lambda: not (mount / "shop/worker").exists(), SECONDS, "the deletion")
        rest = first
        while piece := os.read(fd, 1 << 16):
            rest += piece
    assert rest == before
    wait_for(lambda: b"late" in path.read_bytes(), SECONDS, "the label")
    assert b"name: worker" not in path.read_bytes()


def test_a_namespace_whose_list_has_to_come(server, start_mount):
    """The first thing that is asked for: whole all the same, in the namespace and at the root."""
    for context in ("developer", "admin"):
        for place in ("prod/", ""):
            mount = start_mount(server, "--context", context)
            found = by_name((mount / (place + ".api/export.yaml")).read_text())
            wanted = {key for key in all_of(server)
                      if key[0] == "prod" or not place and (context == "admin" or key[0] == "dev")}
            assert set(found) >= wanted, (context, place)
            mount.stop()


def test_a_namespace_that_may_not_be_listed(server, start_mount):
    """No text rather than half of one."""
    server.control("POST", "grant", {"user": "nobody", "namespace": "shop", "rules": [{
        "apiGroups": ["image.openshift.io"], "resources": ["imagestreams"], "verbs": ["get"]}]})
    mount = start_mount(server, "--context", "nobody")
    assert (mount / "shop/web").is_dir()
    for name in ("export.yaml", "failing"):
        with fails(errno.EACCES):
            (mount / "shop/.api" / name).read_text()


def test_a_server_that_cannot_be_asked(server, start_mount):
    """Where the list doesn't come, the open fails; it isn't an empty text."""
    mount = start_mount(server, "--context", "developer", "--request-timeout", "2")
    mount.expect(NOISY)
    server.fault(path="namespaces/prod/imagestreams", status=503, count=9999)
    for name in ("export.yaml", "failing"):
        with pytest.raises(OSError) as error:
            (mount / ".api" / name).read_text()
        assert error.value.errno in (errno.EAGAIN, errno.ETIMEDOUT)
    server.control("DELETE", "faults")


def test_a_narrowed_mount(server, start_mount):
    mount = start_mount(server, "--namespace", "shop", "--namespace", "dev")
    found = by_name((mount / ".api/export.yaml").read_text())
    assert {key[0] for key in found} == {"shop", "dev"}
    selected = start_mount(server, "--selector", "tier=web")
    assert set(by_name((selected / ".api/export.yaml").read_text())) == {("shop", "web")}


# ---- there and back ----


def add_pushed(server):
    """A tag that a push made beside others, and one that names its own image."""
    server.control("POST", "bulk", [{"op": "touch-image", "namespace": "shop", "name": "web"}])
    digest = server.get("shop", "api")["status"]["tags"][0]["items"][0]["image"]
    server.request("PATCH", server.streams("shop", "api"), {"spec": {"tags": [
        {"name": "own", "from": {"kind": "ImageStreamImage", "name": "api@" + digest}}]}},
        "application/strategic-merge-patch+json")


@pytest.mark.parametrize("file", ["create", "apply", "apply-force"])
def test_export_delete_everything_and_back(server, start_mount, file):
    """A stream that follows one further down comes back as well."""
    add_pushed(server)
    mount = start_mount(server)
    before = all_of(server)
    text = (mount / ".api/export.yaml").read_text()
    clear(server)
    wait_until_empty(mount)
    assert write(mount / ".api" / file, text) is None, (mount / ".api" / file).read_text()[-2000:]
    assert without_own_images(all_of(server)) == without_own_images(before)
    names = re.findall("^# pushed: tag (.*) is (.*)$", text, re.M)
    lost = {(tag["tag"], tag["items"][0]["dockerImageReference"])
            for stream in before.values() for tag in stream["status"].get("tags") or ()
            if tag["items"] and not next(
                (one for one in stream["spec"].get("tags") or () if one["name"] == tag["tag"]
                 and one.get("from") and one["from"]["kind"] != "ImageStreamImage"), None)}
    assert lost and set(names) == lost
    again = (mount / ".api/export.yaml").read_text()
    assert documents(again) == documents(text)
    if file != "create":
        assert set(outcomes(mount / ".api" / file).values()) == {"created"}


@pytest.mark.parametrize("flavor", ["4", "3.11"])
def test_export_to_another_cluster(server, start_server, start_mount, flavor):
    add_pushed(server)
    other = start_server("--flavor", flavor,
                         *(word for one in server.request("GET", "/api/v1/namespaces")["items"]
                           for word in ("--namespace", one["metadata"]["name"])))
    here, there = start_mount(server), start_mount(other)
    text = (here / ".api/export.yaml").read_text()
    if flavor == "3.11":
        there.expect(NOISY)
        assert write(there / ".api/apply", text) == "EINVAL"  # 415: it knows no such thing
        assert write(there / ".api/create", text) is None
    else:
        assert write(there / ".api/apply", text) is None, (there / ".api/apply").read_text()[-999:]
    assert set(all_of(other)) == set(all_of(server))
    if flavor == "4":
        assert without_own_images(all_of(other)) == without_own_images(all_of(server))
        assert documents((there / ".api/export.yaml").read_text()) == documents(text)


def test_owners_and_finalizers_stay_behind(server, mount):
    server.request("POST", server.streams("dev"), manifest("dev", "held", finalizers=[
        "example.test/x"], ownerReferences=[{"apiVersion": "v1", "kind": "Secret", "name": "s",
                                             "uid": "u"}]))
    wait_for((mount / "dev/held").exists, SECONDS, "the stream")
    text = (mount / "dev/.api/export.yaml").read_text()
    assert by_name(text)["dev", "held"]["metadata"] == {"name": "held", "namespace": "dev"}


# ---- apply ----


def test_made_applied_unchanged(server, mount):
    apply = mount / "dev/.api/apply"
    one = manifest("dev", "one", [{"name": "a", "from": image("a")}])
    assert write(apply, json.dumps(one)) is None
    assert outcomes(apply) == {"dev/one": "created"}
    assert (mount / "dev/one/tags/a/from").read_text() == "quay.io/example/a:1\n"
    assert write(apply, json.dumps(one)) is None
    assert outcomes(apply) == {"dev/one": "unchanged"}
    one["spec"]["tags"][0]["from"] = image("b")
    assert write(apply, yaml.safe_dump(one)) is None
    assert outcomes(apply) == {"dev/one": "applied"}
    assert (mount / "dev/one/tags/a/from").read_text() == "quay.io/example/b:1\n"
    one["spec"]["tags"] = []
    assert write(apply, json.dumps(one)) is None
    assert not (mount / "dev/one/tags/a").exists()


def test_what_is_sent(server, mount):
    wait_for(lambda: (mount / "dev/scratch").is_dir(), SECONDS)
    server.reset()
    text = manifest("", "sent", uid="u", resourceVersion="5", generation=7, managedFields=[],
                    creationTimestamp="2026-01-01T00:00:00Z", selfLink="/x",
                    finalizers=["example.test/x"])
    text["status"] = {"dockerImageRepository": "x"}
    text["apiVersion"] = "v1"
    assert write(mount / "dev/.api/apply", json.dumps(text)) is None
    sent, = requests(server, "PATCH", "POST", "PUT")
    assert sent["method"] == "PATCH" and sent["path"] == server.streams("dev", "sent")
    assert sent["query"] == "fieldManager=imagestreamfs&fieldValidation=Strict"
    assert sent["headers"]["content-type"] == "application/apply-patch+yaml"
    assert json.loads(sent["body"]) == {**SPEC, "metadata": {"name": "sent", "namespace": "dev"},
                                        "spec": {"tags": []}}


def test_the_root_takes_the_text_s_namespace(server, mount):
    apply = mount / ".api/apply"
    text = yaml.safe_dump_all([manifest("dev", "a"), manifest("prod", "b"), {
        **SPEC, "metadata": {"name": "nowhere"}}, "text", {**SPEC, "metadata": {
            "namespace": "dev"}}])
    assert write(apply, text) == "EINVAL"
    lines = apply.read_text().splitlines()
    assert lines[:2] == ["dev/a: created", "prod/b: created"]
    assert [line.partition(": ")[0] for line in lines[2:]] == ["-/nowhere", "-/-", "dev/-"]
    assert all(": refused: " in line for line in lines[2:])
    assert "metadata.namespace is missing" in lines[2]
    assert server.get("dev", "a") and server.get("prod", "b")


def test_a_narrowed_mount_applies_in_it_alone(server, start_mount):
    mount = start_mount(server, "--namespace", "dev")
    text = yaml.safe_dump_all([manifest("shop", "no"), manifest("dev", "yes")])
    assert write(mount / ".api/apply", text) == "EPERM"
    found = outcomes(mount / ".api/apply")
    assert found["dev/yes"] == "created" and found["shop/no"].startswith("refused: mounted with")
    assert ("shop", "no") not in all_of(server)
    selected = start_mount(server, "--selector", "tier=web")
    assert write(selected / ".api/apply", text) == "EPERM"


def test_own_saves_are_no_conflict(server, mount):
    """Saves of files, and then the text that was there before."""
    apply, stream = mount / "dev/.api/apply", mount / "dev/mine"
    text = json.dumps(manifest("dev", "mine", [{"name": "a", "from": image("a")}],
                               labels={"l": "1"}))
    assert write(apply, text) is None
    (stream / "tags/a/from").write_text("quay.io/example/b:1\n")
    (stream / "metadata.json").write_text(json.dumps({"name": "mine", "namespace": "dev",
                                                      "labels": {"l": "2"}}))
    server.reset()
    assert write(apply, text) is None, apply.read_text()
    assert outcomes(apply) == {"dev/mine": "applied"}
    sent = requests(server, "PATCH")
    assert "force=true" not in sent[0]["query"] and "force=true" in sent[-1]["query"]
    assert (stream / "tags/a/from").read_text() == "quay.io/example/a:1\n"
    assert json.loads((stream / "metadata.json").read_text())["labels"] == {"l": "1"}
    # One that .api/create made.
    text = json.dumps(manifest("dev", "made", [{"name": "a", "from": image("old")}]))
    assert write(mount / "dev/.api/create", text) is None
    assert write(apply, text.replace("old", "new")) is None, apply.read_text()
    assert outcomes(apply) == {"dev/made": "applied"}


def edited_by(server, namespace, name, manager, patch):
    path = server.streams(namespace, name) + f"?fieldManager={manager}"
    return server.request("PATCH", path, patch, "application/merge-patch+json")


def test_another_manager_is_named(server, mount):
    apply, force = mount / "dev/.api/apply", mount / "dev/.api/apply-force"
    edited_by(server, "dev", "scratch", "argo", {"metadata": {"labels": {"l": "theirs"}}})
    text = json.dumps(manifest("dev", "scratch", labels={"l": "mine"}))
    assert write(apply, text) == "ESTALE"
    assert re.fullmatch('refused: .*conflict with "argo".*labels.l.*', outcomes(apply)["dev/scratch"])
    assert server.get("dev", "scratch")["metadata"]["labels"] == {"l": "theirs"}
    assert write(force, text) is None
    assert outcomes(force) == {"dev/scratch": "applied"}
    assert server.get("dev", "scratch")["metadata"]["labels"] == {"l": "mine"}
    assert write(apply, text) is None
    assert outcomes(apply) == {"dev/scratch": "unchanged"}
    last = [one for one in mount.errors() if one["errno"] == "ESTALE"][-1]
    assert "argo" in last["message"] and last["code"] == 409


def test_ours_and_theirs_together_are_theirs(server, mount):
    """Where one of several fields is another manager's nothing is forced."""
    apply = mount / "dev/.api/apply"
    write(mount / "dev/.api/create", json.dumps(manifest("dev", "mixed", labels={"ours": "1"})))
    edited_by(server, "dev", "mixed", "argo", {"metadata": {"labels": {"theirs": "1"}}})
    for other in ("imagestreamfs2", "xxx", 'a"b'):
        name = re.sub(r"\W", "", other)
        edited_by(server, "dev", "mixed", other.replace('"', "%22"),
                  {"metadata": {"labels": {name: "1"}}})
        text = json.dumps(manifest("dev", "mixed", labels={"ours": "2", name: "2"}))
        assert write(apply, text) == "ESTALE", other
    labels = server.get("dev", "mixed")["metadata"]["labels"]
    assert labels["ours"] == "1" and labels["theirs"] == "1"


def test_a_manager_who_comes_in_between(server, mount):
    """Between our conflict and our force somebody else takes the field: it stays his."""
    apply = mount / "dev/.api/apply"
    write(mount / "dev/.api/create", json.dumps(manifest("dev", "race", labels={"l": "1"})))
    theirs = json.loads(json.dumps(server.get("dev", "race")).replace('"imagestreamfs"', '"argo"'))
    theirs["metadata"]["labels"] = {"l": "argo"}
    server.fault(method="PATCH", path="force=true", bulk=[
        {"op": "replace", "namespace": "dev", "name": "race", "object": theirs}])
    assert write(apply, json.dumps(manifest("dev", "race", labels={"l": "2"}))) == "ESTALE"
    assert 'conflict with "argo"' in outcomes(apply)["dev/race"]
    assert server.get("dev", "race")["metadata"]["labels"] == {"l": "argo"}


def test_before_first_apply_is_explained(start_server, start_mount):
    server = start_server("--sample", "--import-controller")
    mount = start_mount(server)
    server.request("POST", "/apis/image.openshift.io/v1/namespaces/dev/imagestreamtags", {
        "kind": "ImageStreamTag", "apiVersion": "image.openshift.io/v1",
        "metadata": {"name": "tagged:a", "namespace": "dev"},
        "tag": {"name": "a", "from": image("a")}})
    wait_for((mount / "dev/tagged").exists, SECONDS, "the stream")
    text = json.dumps(manifest("dev", "tagged", [{"name": "a", "from": image("b")}]))
    assert write(mount / "dev/.api/apply", text) == "ESTALE"
    line = outcomes(mount / "dev/.api/apply")["dev/tagged"]
    assert "before-first-apply" in line and "made without apply" in line
    assert write(mount / "dev/.api/apply-force", text) is None


REFUSED = {
    "unknown field": ({"spec": {"colour": "red"}}, ".spec.colour: field not declared in schema"),
    "a tag twice": ({"spec": {"tags": [{"name": "a"}, {"name": "a"}]}},
                    ".spec.tags: duplicate entries for key [name=\"a\"]"),
    "a wrong type": ({"spec": {"tags": "x"}}, ""),
    "a bad label": ({"metadata": {"labels": {"a b": "c"}}}, ""),
    "no apiVersion": ({"apiVersion": None}, ""),
    "a foreign version": ({"apiVersion": "v9"}, ""),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_wrong_with_the_text(server, mount, what):
    change, said = REFUSED[what]
    text = manifest("dev", "scratch")
    for key, value in change.items():
        text[key] = {**text[key], **value} if isinstance(value, dict) else value
    if text["apiVersion"] is None:
        del text["apiVersion"]
    assert write(mount / "dev/.api/apply", json.dumps(text)) == "EINVAL"
    assert said in outcomes(mount / "dev/.api/apply")["dev/scratch"]
    assert mount.errors()[-1]["errno"] == "EINVAL"


def test_all_are_tried_and_the_first_refusal_counts(server, mount):
    texts = [manifest("dev", "first"),
             {**manifest("dev", "wrong"), "spec": {"colour": "red"}},
             manifest("dev", "second"),
             manifest("dev", "scratch", labels={"l": "mine"}), manifest("dev", "third")]
    edited_by(server, "dev", "scratch", "argo", {"metadata": {"labels": {"l": "theirs"}}})
    apply = mount / "dev/.api/apply"
    assert write(apply, yaml.safe_dump_all(texts)) == "EINVAL"
    assert [line.split(": ")[:2] for line in apply.read_text().splitlines()] == [
        ["dev/first", "created"], ["dev/wrong", "refused"], ["dev/second", "created"],
        ["dev/scratch", "refused"], ["dev/third", "created"]]
    assert mount.errors()[-1]["errno"] == "EINVAL"
    assert write(apply, yaml.safe_dump_all([texts[3], texts[1]])) == "ESTALE"


def test_a_line_stays_a_line(server, mount):
    """Whatever a text calls itself."""
    odd = "a\nb: created\tc\x01"
    apply = mount / ".api/apply"
    texts = [manifest(odd, odd), manifest("dev", odd), {"kind": odd}, manifest("dev", "x" * 70000)]
    assert write(apply, "\n".join(map(json.dumps, texts))) == "ENOENT"  # its namespace isn't there
    lines = apply.read_text().splitlines()
    assert len(lines) == 4 and all(": refused: " in line for line in lines), lines
    assert all(len(line) < 8192 for line in lines)


def test_nothing_is_sent_of_a_broken_text(server, mount):
    (mount / "dev").stat()
    server.reset()
    for text in ("{", "a: [", "--- \n...\n", "", json.dumps(manifest("dev", "x")) + "{"):
        expected = None if text == "" else "EINVAL"
        assert write(mount / "dev/.api/apply", text) == expected, text
    assert not requests(server, "PATCH", "POST", "PUT")


def test_without_rights(server, start_mount):
    mount = start_mount(server, "--context", "viewer")
    mount.expect(NOISY)
    with contextlib.suppress(OSError):
        assert write(mount / "dev/.api/apply", json.dumps(manifest("dev", "x"))) == "EACCES"
        assert "cannot patch" in outcomes(mount / "dev/.api/apply")["dev/x"]
    assert ("dev", "x") not in all_of(server)


def test_many_in_one_text(server, start_mount):
    """The time that one request may take is that of each, not of all."""
    mount = start_mount(server, "--request-timeout", "2")
    texts = [manifest("dev", f"many-{i:03}", [{"name": "a", "from": image("a")}])
             for i in range(12)]
    server.fault(method="PATCH", path="/many-", delay=0.5, count=12)
    assert write(mount / "dev/.api/apply", yaml.safe_dump_all(texts)) is None, (
        mount / "dev/.api/apply").read_text()
    assert set(outcomes(mount / "dev/.api/apply").values()) == {"created"}
    server.fault(method="POST", path="/imagestreams", delay=0.5, count=12)
    for one in texts:
        one["metadata"]["name"] += "-c"
    assert write(mount / "dev/.api/create", yaml.safe_dump_all(texts)) is None


def test_a_text_of_many_megabytes(server, mount):
    """What export.yaml gives of a large cluster, create and apply take."""
    texts = [manifest("dev", f"large-{i}", annotations={"a": "x" * 40000}) for i in range(250)]
    text = yaml.safe_dump_all(texts)
    assert len(text) > 8 << 20
    assert write(mount / "dev/.api/apply", text) is None, mount.errors()[-1]
    assert set(outcomes(mount / "dev/.api/apply").values()) == {"created"}
    assert write(mount / ".api/apply", (mount / "dev/.api/export.yaml").read_bytes()) is None
    with fails(errno.EFBIG):
        (mount / "dev/scratch/.api/merge-patch").write_bytes(b" " * (5 << 20))


def test_the_gitops_loop(server, mount, tmp_path):
    """Export to git, edit, apply: the next export is what git has."""
    def git(*words):
        return subprocess.run(["git", "-c", "user.name=t", "-c", "user.email=t@example.test", *words],
                              cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    path = tmp_path / "shop.yaml"

    def export():
        path.write_bytes((mount / "shop/.api/export.yaml").read_bytes())
    git("init", "-q")
    export()
    git("add", ".")
    git("commit", "-qm", "as it is")
    edited = path.read_text().replace("quay.io/example/web:2.0", "quay.io/example/web:2.1")
    edited = edited.replace("Shop front end", "Shop")
    path.write_text(edited)
    git("commit", "-qam", "an edit")
    assert write(mount / "shop/.api/apply", edited) == "ESTALE"
    assert 'conflicts with "kubectl"' in outcomes(mount / "shop/.api/apply")["shop/web"]
    assert write(mount / "shop/.api/apply-force", edited) is None
    export()
    assert git("diff") == ""
    edited = edited.replace("web:2.1", "web:2.2")
    path.write_text(edited)
    assert write(mount / "shop/.api/apply", edited) is None
    assert sorted(outcomes(mount / "shop/.api/apply").values()) == [
        "applied", "unchanged", "unchanged"]
    git("commit", "-qam", "another")
    export()
    assert git("diff") == ""


def test_the_loop_of_the_readme(server, mount, tmp_path):
    """As a reader pastes it, and a second time, with `apply` alone."""
    section = re.search(r"^## GitOps loop\n(.*?)^## ", (TOP / "README.md").read_text(),
                        re.M | re.S)[1]
    block = "\n".join(line[4:] for line in section.splitlines() if line.startswith("    "))
    script = block.replace("~/is", str(mount.path)).replace("~/gitops", str(tmp_path / "gitops"))
    environment = {**os.environ, **{f"GIT_{who}_{what}": "t@example.test" for who in (
        "AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}}
    for text in (script, script.replace("2.1", "2.2").replace("2.0", "2.1").replace(
            "apply-force", "apply").replace("&& git add", "; git add").replace(
            "git commit -qm", "git commit --allow-empty -qm")):
        done = subprocess.run(["bash", "-ec", text], capture_output=True, text=True, check=False,
                              env=environment)
        assert (done.returncode, done.stderr) == (0, ""), done
        assert "shop/web: applied" in done.stdout and "refused" not in done.stdout
    tag = next(one for one in server.get("shop", "web")["spec"]["tags"] if one["name"] == "2.0")
    assert tag["from"]["name"] == "quay.io/example/web:2.2"


# ---- failing ----


def failing_lines(path):
    return [line.split("\t") for line in path.read_text().splitlines()]


def test_failing(server, mount):
    lines = failing_lines(mount / ".api/failing")
    assert [line[0] for line in lines] == ["shop/worker:next"]
    condition = server.get("shop", "worker")["status"]["tags"][1]["conditions"][0]
    assert lines[0][1:] == [condition["lastTransitionTime"], condition["message"]]
    assert (mount / "shop/.api/failing").read_text() == (mount / ".api/failing").read_text()
    assert (mount / "prod/.api/failing").read_text() == ""


def test_failing_of_the_newest_import_alone(server, mount):
    """An item that came after the failure ends it; a failure after the item begins it."""
    def failed(generation, message="m\nn\to\x7f", status="False", kind="ImportSuccess"):
        return {"type": kind, "status": status, "generation": generation, "reason": "NotFound",
                "lastTransitionTime": "2026-01-01T00:00:00Z", "message": message}
    server.create("dev", "f")
    put_status(server, "dev", "f", [
        {"tag": "never", "items": None, "conditions": [failed(2)]},
        {"tag": "again", "items": [item("a", generation=1)], "conditions": [failed(2)]},
        {"tag": "healed", "items": [item("a", generation=3)], "conditions": [failed(2)]},
        {"tag": "well", "items": [item("a")], "conditions": [failed(2, status="True")]},
        {"tag": "other", "items": None, "conditions": [failed(2, kind="Odd")]},
        {"tag": "a/b\nc", "items": None, "conditions": [failed(2)]},
        {"tag": "mute", "items": None, "conditions": [failed(2, message="")]},
    ])
    wait_for(lambda: (mount / "dev/.api/failing").read_text(), SECONDS, "the lines")
    lines = failing_lines(mount / "dev/.api/failing")
    assert all(len(line) == 3 for line in lines)
    assert {line[0]: line[2] for line in lines} == {
        "dev/f:never": "m n o ", "dev/f:again": "m n o ", "dev/f:a%2Fb%0Ac": "m n o ",
        "dev/f:mute": next(line[2] for line in lines if line[0].endswith("mute"))}


def test_failing_with_the_import_controller(start_server, start_mount):
    server = start_server("--sample", "--import-controller", "--import-fail", "broken")
    mount = start_mount(server)
    server.create("dev", "i", tags=[{"name": "good", "from": image("good")},
                                    {"name": "bad", "from": image("broken")}])
    path = mount / "dev/.api/failing"
    wait_for(lambda: "dev/i:bad\t" in path.read_text(), SECONDS, "the failure")
    assert "good" not in path.read_text()
    (mount / "dev/i/tags/bad/from").write_text("quay.io/example/fine:1\n")
    wait_for(lambda: path.read_text() == "", SECONDS, "its end")


# ---- the image ----


def test_image_json(start_server, start_mount):
    server = start_server("--sample", "--import-controller", "--import-lists", ":multi$")
    mount = start_mount(server)
    server.create("dev", "i", tags=[
        {"name": "one", "from": image("one")}, {"name": "a/b", "from": image("slash")},
        {"name": "a:b", "from": image("colon")},
        {"name": "multi", "from": image("m", "multi"),
         "importPolicy": {"importMode": "PreserveOriginal"}},
        {"name": "legacy", "from": image("m", "multi")},
        {"name": "reference", "from": image("r"), "reference": True}])
    tags = mount / "dev/i/tags"
    for name in ("one", "a%2Fb", "a:b", "multi", "legacy"):
        wait_for((tags / name / "image").exists, SECONDS, name)
        found = json.loads((tags / name / ".api/image.json").read_text())
        digest = (tags / name / "image").read_text().strip().partition("@")[2]
        assert found["image"]["metadata"]["name"] == digest, name
        assert found["image"]["dockerImageReference"]
        if name == "multi":
            children = found["image"]["dockerImageManifests"]
            assert len(children) > 1 and {"digest", "architecture", "os"} <= set(children[0])
        else:
            data = found["image"]["dockerImageMetadata"]
            assert data["Architecture"] and data["Size"] > 0 and found["image"]["dockerImageLayers"]
    mkdir = tags / "empty"
    mkdir.mkdir()
    for name in ("reference", "empty"):
        with fails(errno.ENOENT):
            (tags / name / ".api/image.json").read_text()
    with fails(errno.EACCES):
        (tags / "one/.api/image.json").write_text("x")


def test_image_json_is_asked_for_each_time(server, mount):
    path = mount / "shop/api/tags/v1/.api/image.json"
    with contextlib.suppress(OSError):
        path.read_text()
    server.reset()
    for _ in range(2):
        with contextlib.suppress(OSError):
            path.read_text()
    assert [one["path"].rpartition("/")[2] for one in requests(server, "GET")] == ["api:v1"] * 2


def test_image_json_without_rights_and_without_sense(server, start_mount):
    mount = start_mount(server)
    path = mount / "shop/web/tags/2.0/.api/image.json"
    server.fault(path="imagestreamtags/web:2.0", text="<html>", type="text/html")
    with fails(errno.EIO):
        path.read_text()
    server.fault(path="imagestreamtags/web:2.0", status=403, message='User "admin" cannot get')
    with pytest.raises(OSError):
        path.read_text()
    assert json.loads(path.read_text())["metadata"]["name"] == "web:2.0"


# ---- how much it takes ----


def resident(pid):
    status = open(f"/proc/{pid}/status", encoding="utf-8").read()
    return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) * 1024


def test_memory_stays_bounded(start_server, start_mount):
    """20,000 streams (STREAMS=n): reading them costs what one of them costs."""
    count = int(os.environ.get("STREAMS", "20000"))
    server = start_server("--streams", count, "--tags", 3, "--namespaces", 20)
    # AddressSanitizer keeps what was freed for a while.
    mount = start_mount(server, environment={"ASAN_OPTIONS": "quarantine_size_mb=4"})
    pid = mount.process.pid
    wait_for(lambda: mount.status()["counts"]["imagestreams"] >= count, 120, "the list")
    with open(mount / ".api/export.yaml", "rb", buffering=0) as file:
        file.read(1)
        before, highest, read = resident(pid), 0, 0
        while piece := file.read(1 << 20):
            read += len(piece)
            highest = max(highest, resident(pid))
    print(f"{read >> 20} MiB read; resident {before >> 20} MiB before, {highest >> 20} MiB at most")
    assert read > count * 300
    assert highest - before < 32 << 20
