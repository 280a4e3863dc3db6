"""Reading tags and images: parameters, manifest lists, prefixes, texts of refusals."""

from urllib.parse import quote

import pytest

import copying

pytestmark = pytest.mark.xdist_group("reads")  # one server, which each test leaves in some state

GROUP = "/apis/image.openshift.io/v1/namespaces/team/"
ONE, TWO = copying.DIGESTS["1.0"], copying.DIGESTS["2.0"]
UNKNOWN = "converting (url.Values) to (v1.ListOptions): unknown conversion"


@pytest.fixture(scope="module")
def server(start_server):
    server = start_server("--project-delay", "0.1")
    with copying.spaces(server):
        server.control("bulk", [{"op": "create", "object": obj} for obj in (
            copying.web("team", annotations={"k": "v"}), copying.stream("team", "alpha", 1, [
                copying.tag("spec-only")], {"a": [copying.item("2.0")], "b": [
                    copying.item("2.0"), copying.item("1.0")]}))])
        yield server


def get(server, path, user="admin"):
    return server.call("GET", GROUP + path, user=user)


# B: parameters.

@pytest.mark.parametrize("query", [
    "pretty=true", "pretty=", "pretty", "pretty=false", "limit=1", "limit=x", "resourceVersion=0",
    "timeout=5s", "timeoutSeconds=5", "watch=true", "watch=false", "labelSelector=a%3Db",
    "fieldManager=x", "dryRun=All", "continue=abc", "foo=1", "foo", "export=true"])
def test_secrets_have_no_parameters(server, query):
    status, answer = get(server, "imagestreams/web/secrets?" + query)
    assert (status, answer["reason"], answer["message"]) == (400, "BadRequest", UNKNOWN)


def test_secrets_without_parameters(server):
    status, answer = get(server, "imagestreams/web/secrets")
    assert (status, answer["kind"], answer["apiVersion"]) == (
        200, "SecretList", "image.openshift.io/v1")


ONES = ["imagestreams/web", "imagestreams/web/status", "imagestreams/web/layers",
        "imagestreamtags/web:1.0", "imagetags/web:1.0"]
ONE_IMAGE = "imagestreamimages/web@" + ONE


@pytest.mark.parametrize("path", ONES + [ONE_IMAGE])
@pytest.mark.parametrize("query", [
    "pretty=true", "limit=1", "limit=x", "timeout=5s", "timeoutSeconds=5", "watch=false",
    "labelSelector=a%3Db", "foo=1", "dryRun=All", "exact=true", "resourceVersion=0",
    "resourceVersion=1", "resourceVersionMatch=Exact", "continue=abc"])
def test_a_get_ignores_parameters(server, path, query):
    assert get(server, path + "?" + query)[0] == 200


@pytest.mark.parametrize("path", ONES + [ONE_IMAGE])
def test_export_is_refused(server, path):
    status, answer = get(server, path + "?export=true")
    assert (status, answer["message"]) == (
        400, "the export parameter, deprecated since v1.14, is no longer supported")


@pytest.mark.parametrize("path", ONES)
def test_a_version_that_is_none(server, path):
    status, answer = get(server, path + "?resourceVersion=abc")
    assert status == 500 and "reason" not in answer
    assert answer["message"].startswith('resourceVersion: Invalid value: "abc": ')
    assert get(server, ONE_IMAGE + "?resourceVersion=abc")[0] == 200


@pytest.mark.parametrize("path", ["imagestreams/web/layers", "imagestreamtags/web:1.0",
                                  "imagestreamtags"])
def test_a_version_of_the_future(server, path):
    status, answer = get(server, path + "?resourceVersion=99999999")
    assert status == 504 and "Too large resource version: 99999999" in answer["message"]


@pytest.mark.parametrize("query, status, text", [
    ("limit=x", 400, 'strconv.ParseInt: parsing "x": invalid syntax'),
    ("resourceVersion=abc", 400, None), ("resourceVersionMatch=Exact", 422, None),
    ("continue=abc", 400, None), ("export=true", 200, None), ("foo=1", 200, None),
    ("resourceVersion=0", 200, None),
    ("watch=true", 405,
     'watch is not supported on resources of kind "imagestreamtags.image.openshift.io"')])
def test_parameters_of_a_list_of_tags(server, query, status, text):
    got, answer = get(server, "imagestreamtags?" + query)
    assert got == status
    assert text is None or answer["message"] == text


# F: lists.

def names(answer):
    return sorted(item["metadata"]["name"] for item in answer["items"])


@pytest.mark.parametrize("resource, first", [
    ("imagestreamtags", ["alpha:a", "alpha:b"]),
    ("imagetags", ["alpha:a", "alpha:b", "alpha:spec-only"])])
def test_a_limit_is_one_of_streams(server, resource, first):
    web = ["web:1.0", "web:2.0"]
    for query, expected in (("?limit=1", first), ("?limit=2", first + web), ("", first + web)):
        status, answer = get(server, resource + query)
        assert status == 200 and names(answer) == expected and answer["metadata"] == {}
    assert all("kind" not in item for item in answer["items"])


def test_listed_tags_have_no_layers(server):
    for item in get(server, "imagestreamtags")[1]["items"]:
        assert item["image"]["dockerImageMetadata"]["Id"] == ""
        assert not {"dockerImageLayers", "dockerImageManifestMediaType"} & item["image"].keys()


def test_images_of_streams_are_not_listed(server):
    status, answer = get(server, "imagestreamimages")
    assert (status, answer["message"]) == (
        404, "the server could not find the requested resource")


# F: one image.

@pytest.mark.parametrize("wanted", [TWO, TWO[:20], TWO[7:], TWO[7:15], "sha256:8"])
@pytest.mark.parametrize("encode", [lambda text: text, lambda text: quote(text, safe="")])
def test_images_by_prefix(server, wanted, encode):
    name = "web@" + wanted
    status, answer = get(server, "imagestreamimages/" + encode(name))
    assert status == 200, answer
    meta = answer["metadata"]
    assert meta.pop("creationTimestamp") == answer["image"]["metadata"]["creationTimestamp"]
    assert meta == {"name": name, "namespace": "team", "annotations": {"k": "v"}}
    assert answer["image"]["metadata"]["name"] == TWO


def test_an_image_of_the_past(server):
    assert get(server, "imagestreamimages/alpha@" + ONE)[0] == 200
    image = get(server, "imagestreamtags/web:1.0")[1]["image"]
    assert image["dockerImageMetadata"]["kind"] == "DockerImage"
    assert {"Id", "Created", "Config", "ContainerConfig", "Architecture", "Size"} <= \
        image["dockerImageMetadata"].keys()
    assert image["dockerImageMetadata"]["Size"] >= sum(
        layer["size"] for layer in image["dockerImageLayers"])


ZERO = "sha256:" + "0" * 64


@pytest.mark.parametrize("path, status, message", [
    ("imagestreamtags/web:none", 404, 'imagestreamtags.image.openshift.io "web:none" not found'),
    ("imagestreamtags/alpha:spec-only", 404,
     'imagestreamtags.image.openshift.io "alpha:spec-only" not found'),
    ("imagestreamtags/none:1", 404, 'imagestreamtags.image.openshift.io "none" not found'),
    ("imagestreamimages/web@" + ZERO, 404,
     'imagestreamimage.image.openshift.io "web@%s" not found' % ZERO),
    ("imagestreamimages/none@" + ZERO, 404,
     'imagestreamimages.image.openshift.io "none" not found'),
    ("imagestreamtags/web", 400, "ImageStreamTags must be retrieved with <name>:<tag>"),
    ("imagestreamtags/web:a:b", 400, "ImageStreamTags must be retrieved with <name>:<tag>"),
    ("imagestreamimages/web", 400, "ImageStreamImages must be retrieved with <name>@<id>")])
def test_what_is_not_there(server, path, status, message):
    got, answer = get(server, path)
    assert (got, answer["message"]) == (status, message)


def test_rights(server):
    for path in ("imagestreamtags", "imagestreamtags/web:1.0", ONE_IMAGE,
                 "imagestreams/web/layers"):
        assert get(server, path, "developer")[0] == 200
        assert get(server, path, "nobody")[0] == 403
    assert get(server, "imagestreamtags/none:none", "nobody")[0] == 403
    server.control("bulk", [{"op": "create", "object": copying.web("base")}])
    other = "/apis/image.openshift.io/v1/namespaces/base/"
    for path in ("imagestreamtags/web:1.0", ONE_IMAGE, "imagestreams/web/layers"):
        assert server.call("GET", other + path, user="developer")[0] == 200
    cluster = "/apis/image.openshift.io/v1/images/" + ONE
    assert server.call("GET", cluster, user="developer")[0] == 403


# F: manifest lists.

LIST_TYPE = "application/vnd.docker.distribution.manifest.list.v2+json"


def import_list(server, mode):
    policy = {"importMode": mode} if mode else {}
    status, answer = server.call("POST", GROUP + "imagestreamimports", {
        "metadata": {"name": "lists"}, "spec": {"import": True, "images": [{
            "from": {"kind": "DockerImage", "name": "a.test/%s:multi" % (mode or "b").lower()},
            "to": {"name": "x"}, "importPolicy": policy}]}})
    assert status == 201, answer
    return get(server, "imagestreamtags/lists:x")[1]["image"]


@pytest.mark.parametrize("mode", ["", "Legacy"])
def test_of_a_list_one_image_is_chosen(server, mode):
    image = import_list(server, mode)
    assert image["dockerImageMetadata"]["Architecture"] == "amd64"
    assert image["dockerImageLayers"] and "dockerImageManifests" not in image


def test_a_list_is_preserved(server):
    image = import_list(server, "PreserveOriginal")
    name = image["metadata"]["name"]
    assert image["dockerImageManifestMediaType"] == LIST_TYPE
    assert image["dockerImageMetadata"]["Id"] == name
    assert not {"Config", "Architecture", "Size"} & image["dockerImageMetadata"].keys()
    assert "dockerImageLayers" not in image
    manifests = image["dockerImageManifests"]
    assert [list(one) for one in manifests] == [
        ["digest", "mediaType", "manifestSize", "architecture", "os"]] * 2
    layers = get(server, "imagestreams/lists/layers")[1]["images"]
    assert layers[name]["layers"] is layers[name]["config"] is None
    assert layers[name]["manifests"] == [one["digest"] for one in manifests]
    for one in manifests:
        status, child = get(server, "imagestreamimages/lists@" + one["digest"])
        assert status == 200 and child["image"]["dockerImageMetadata"]["Size"] > 0
        assert child["image"]["dockerImageMetadata"]["Architecture"] == one["architecture"]
        assert layers[one["digest"]]["layers"]
