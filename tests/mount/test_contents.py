"""The tree against a model of its own, made from the server's JSON (README, "The tree")."""

import copy
import json
import os
import re
import stat

import pytest
import yaml

ODD_TAGS = {"a/b": "a%2Fb", "100%": "100%25", "line\nbreak": "line%0Abreak", ".hidden": "%2Ehidden",
            ".": "%2E", "..": "%2E.", "": "%00", "nul\0": "nul%00", "ümlaut": "ümlaut",
            "with space": "with space", "a:b@c": "a:b@c", "del\x7f": "del%7F",
            "spec.json": "spec.json", "tags": "tags", "x" * 255: "x" * 255}
TOO_LONG = "y" * 256


def text(value):
    return json.dumps(value, indent=2, ensure_ascii=False, separators=(",", ": ")) + "\n"


class Dumper(yaml.CSafeDumper):
    """The same emitter as the program's, so the choice of styles is all that is modelled here."""

    def ignore_aliases(self, data):
        return True


def represent_str(dumper, value):
    plain = (re.match("[A-Za-z_/]", value) and not re.search("[\n\x85\u2028\u2029]", value)
             and not re.fullmatch("y|n|yes|no|on|off|true|false|null", value, re.I))
    block = ("\n" in value and not re.search("^[ \n]| \n|\n\n$|[\x85\u2028\u2029]", value))
    return dumper.represent_scalar("tag:yaml.org,2002:str", value,
                                   style=None if plain else "|" if block else '"')


Dumper.add_representer(str, represent_str)


def yaml_text(value):
    return yaml.dump(value, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=-1,
                     default_flow_style=False)


def without(value, *keys):
    return {key: item for key, item in value.items() if key not in keys}


def model_of_stream(item):
    """Path below the stream's directory → bytes."""
    stream = {"kind": "ImageStream", "apiVersion": "image.openshift.io/v1",
              **without(item, "kind", "apiVersion")}
    stream["metadata"] = without(stream["metadata"], "managedFields")
    spec = copy.deepcopy(stream["spec"])
    if "tags" in spec:
        spec["tags"] = [without(tag, "generation") for tag in spec["tags"]]
    files = {"imagestream.json": text(stream), "imagestream.yaml": yaml_text(stream),
             "metadata.json": text(without(stream["metadata"], "resourceVersion", "generation")),
             "spec.json": text(spec), "status.json": text(stream["status"])}
    for tag in stream["spec"].get("tags") or []:
        place = f"tags/{escape(tag['name'])}"
        files[place + "/spec.json"] = text(without(tag, "generation"))
        if tag.get("from"):
            files[place + "/from"] = line(tag["from"])
    for tag in stream["status"].get("tags") or []:
        place = f"tags/{escape(tag['tag'])}"
        files[place + "/status.json"] = text(tag)
        if tag["items"]:
            files[place + "/image"] = tag["items"][0]["dockerImageReference"] + "\n"
    return {name: content.encode() for name, content in files.items()}


def line(source):
    """What `from` shows of a reference without odd characters."""
    if source["kind"] == "DockerImage":
        return source["name"] + "\n"
    place = source["namespace"] + "/" if source.get("namespace") else ""
    return f"{source['kind']} {place}{source['name']}\n"


def escape(tag):
    if tag == "":
        return "%00"
    escaped = re.sub(r"[\0-\x1f\x7f/%]", lambda m: f"%{ord(m[0]):02X}", tag)
    return "%2E" + escaped[1:] if escaped[0] == "." else escaped


def model(server):
    items = server.request("GET", "/apis/image.openshift.io/v1/imagestreams")["items"]
    return {f"{item['metadata']['namespace']}/{item['metadata']['name']}/{name}": content
            for item in items for name, content in model_of_stream(item).items()}


def walk(root):
    """Path → bytes of every file."""
    found = {}
    for directory, _, names in os.walk(root):
        for name in names:
            path = os.path.join(directory, name)
            with open(path, "rb") as file:
                found[os.path.relpath(path, root)] = file.read()
    return found


def compare(found, expected):
    expected = {name: content for name, content in expected.items() if TOO_LONG not in name}
    assert sorted(found) == sorted(expected)
    for name, content in found.items():
        assert content.decode() == expected[name].decode(), name


@pytest.fixture
def odd_server(start_server, directory):
    def reference(name):
        return {"name": name, "annotations": None, "generation": 1,
                "from": {"kind": "DockerImage", "name": "quay.io/example/odd:1"},
                "importPolicy": {}, "referencePolicy": {"type": "Source"}}

    def history(tag, items):
        return {"tag": tag, "items": items}

    item = {"created": "2026-11-01T10:00:00Z", "dockerImageReference": "host:5000/a/b@sha256:" +
            "0" * 64, "image": "sha256:" + "0" * 64, "generation": 9007199254740993}
    streams = [
        {"metadata": {"name": "odd", "namespace": "dev"},
         "spec": {"lookupPolicy": {"local": False},
                  "tags": [reference(tag) for tag in [*ODD_TAGS, TOO_LONG]]},
         "status": {"dockerImageRepository": ""}},
        {"metadata": {"name": "spec.json", "namespace": "dev"},
         "spec": {"lookupPolicy": {"local": False}, "tags": [reference("wanted")]},
         "status": {"dockerImageRepository": "", "tags": [
             history("pushed", [item]),
             {"tag": "failed", "items": None, "conditions": [
                 {"type": "ImportSuccess", "status": "False", "reason": "NotFound",
                  "message": "<&> not found", "generation": 2,
                  "lastTransitionTime": "2026-11-01T10:00:00Z"}]},
             history("pointer", [dict(item, image="")])]}}]
    path = directory / "odd.json"
    path.write_text(json.dumps({"kind": "ImageStreamList", "apiVersion": "image.openshift.io/v1",
                                "items": streams}))
    return start_server("--load", path)


def test_every_byte(server, mount):
    found = walk(mount.path)
    assert len(found) > 300
    compare(found, model(server))


def test_odd_names(odd_server, start_mount):
    mount = start_mount(odd_server)
    compare(walk(mount.path), model(odd_server))
    assert sorted(os.listdir(mount / "dev/odd/tags")) == sorted(ODD_TAGS.values())
    assert any("can't be a file name" in error["message"] for error in mount.errors())


def test_what_is_there(odd_server, start_mount):
    tags = start_mount(odd_server) / "dev/spec.json/tags"
    assert sorted(os.listdir(tags / "wanted")) == ["from", "spec.json"]
    assert sorted(os.listdir(tags / "pushed")) == ["image", "status.json"]
    assert sorted(os.listdir(tags / "failed")) == ["status.json"]
    assert sorted(os.listdir(tags / "pointer")) == ["image", "status.json"]
    assert "9007199254740993" in (tags / "pushed/status.json").read_text()


@pytest.mark.alone  # all caches of the machine are dropped
@pytest.mark.parametrize("arguments", [(), ("--read-only",)])
def test_attributes(server, start_mount, arguments):
    mount, inodes = start_mount(server, *arguments), {}
    for directory, directories, files in os.walk(mount.path):
        st = os.lstat(directory)
        writable = not arguments and directory != str(mount.path)
        assert stat.S_IMODE(st.st_mode) == (0o755 if writable else 0o555)
        assert st.st_nlink == 2 + len(directories), directory
        inodes[directory] = st.st_ino
        kinds = {entry.name: entry.is_dir(follow_symlinks=False) for entry in os.scandir(directory)}
        assert kinds == {**dict.fromkeys(directories, True), **dict.fromkeys(files, False)}
        for name in files:
            path = os.path.join(directory, name)
            st = os.lstat(path)
            writable = not arguments and name != "image"
            assert stat.S_IMODE(st.st_mode) == (0o644 if writable else 0o444)
            assert st.st_nlink == 1
            with open(path, "rb") as file:
                assert len(file.read()) == st.st_size, path
            assert st.st_ctime_ns == st.st_mtime_ns
            inodes[path] = st.st_ino
    assert len(set(inodes.values())) == len(inodes)
    with open("/proc/sys/vm/drop_caches", "w") as file:
        file.write("2")
    assert {path: os.lstat(path).st_ino for path in inodes} == inodes


def newest_time(item):
    times = [item["metadata"]["creationTimestamp"]]
    times += [field["time"] for field in item["metadata"].get("managedFields", [])]
    times += [one["created"] for tag in item["status"].get("tags", []) for one in tag["items"] or []]
    return max(times)


def test_times_are_the_objects(server, mount):
    item = server.get("shop", "web")
    import datetime
    for name in ("spec.json", "tags", "tags/latest/image", "imagestream.json"):
        seen = datetime.datetime.fromtimestamp(os.stat(mount / "shop/web" / name).st_mtime,
                                               datetime.timezone.utc)
        assert seen.strftime("%Y-%m-%dT%H:%M:%SZ") == newest_time(item)


def test_api_is_hidden(server, mount):
    assert ".api" not in os.listdir(mount.path)
    assert "status.json" in os.listdir(mount / ".api")
    status = mount.status()
    assert status["server"] == server.url and status["user"] == "admin"
    assert {scope["state"] for scope in status["scopes"]} == {"watching"}
    assert os.stat(mount / ".api/status.json").st_size == 0


def test_large_listing_while_streams_come_and_go(start_server, start_mount):
    server = start_server("--streams", 1000, "--tags", 1, "--namespaces", 1)
    mount = start_mount(server)
    namespace = next(name for name in os.listdir(mount.path) if os.listdir(mount / name))
    stay = set(os.listdir(mount / namespace))
    assert len(stay) == 1000
    for i in range(20):
        names = []
        for entry in os.scandir(mount / namespace):  # several getdents64
            if len(names) == 10:
                server.create(namespace, f"come-{i}")
                if i:
                    server.delete(namespace, f"come-{i - 1}")
            names.append(entry.name)
        assert len(names) == len(set(names)), "a name came twice"
        assert stay <= set(names), "a name that stayed was missed"
