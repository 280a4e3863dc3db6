"""The state that each recorded exchange presupposes.

Most of it follows from the recordings themselves: a GET from its own answer, a write from the
newest earlier version of its object. What doesn't is written down here by name.
"""

import re

import transcript

# Exchanges that change nothing: the state before is what they answer.
NO_CHANGE = {
    "30-put-noop", "30-put-no-kind", "30-put-reordered-tags", "30-put-status-and-immutable-meta",
    "30-put-yaml", "40-patch-merge-noop", "40-patch-status-ignored", "40-patch-unknown-field",
}
# Exchanges that answer with something that was never stored.
NEVER_STORED = {"30-put-dryrun", "91-finalizer-remove"}
# (namespace, name, resourceVersion) of a stream that must be there.
STREAMS = {
    "10-post-again-409": [("dev", "app", 460)],
    "13-tagref-sched-on-istag": [("dev", "app", 460)],
    "13-tagref-isimage": [("dev", "app", 460)],
    "20-get-layers": [("dev", "app", 494)],
    "20-get-protobuf": [("dev", "app", 494)],
    "20-list-table": [("dev", "app", 494)],
    "20-get-table": [("dev", "app", 494)],
    "20-get-partialmeta": [("dev", "app", 494)],
    "20-get-yaml": [("dev", "app", 494)],
    "30-put-no-rv-422": [("dev", "app", 495)],
    "30-put-empty-rv": [("dev", "app", 495)],
    "30-put-rv0": [("dev", "app", 495)],
    "30-put-rv-bad": [("dev", "app", 495)],
    "30-put-stale-409": [("dev", "app", 495)],
    "30-put-name-mismatch-400": [("dev", "app", 495)],
    "30-put-ns-mismatch": [("dev", "app", 495)],
    "30-put-uid-mismatch-409": [("dev", "app", 495)],
    "30-put-bad-label-422": [("dev", "app", 496)],
    "30-put-invalid-422": [("dev", "app", 496)],
    "40-patch-apply-conflict": [("dev", "ssanew", 506)],
    "40-patch-apply-creates": [],
    "50-status-put-dev-user-403": [("dev", "app", 509)],
    "50-status-put-bad-time": [("dev", "app", 509)],
    "50-status-put-empty-ref": [("dev", "app", 509)],
    "50-status-put-no-rv": [("dev", "app", 508)],
    "50-status-put-stale-409": [("dev", "app", 508)],
    "91-finalizer-delete": [("dev", "fin", 554)],
    "91-finalizer-post-while-terminating": [("dev", "fin", 556)],
    "a2-DELETE-istag-both": [("dev", "app", 622)],
    "a2-DELETE-istag-again": [("dev", "app", 623)],
    "a2-DELETE-istag-speconly": [("dev", "app", 623)],
    "a2-DELETE-istag-statusonly": [("dev", "app", 624)],
    "a2-DELETE-istag-view-user": [("dev", "app", 636)],
    "a2-DELETE-istag-dev-user": [("dev", "app", 636)],
    "a2-DELETE-itag-both": [("dev", "app", 630)],
    "a4-istag-post": [("dev", "app", 643)],
    "a4-istag-post-again": [("dev", "app", 644)],
    "a4-istag-put-from-istag": [("dev", "app", 644)],
    "a4-istag-put-reference": [("dev", "app", 646)],
    "a4-istag-put-stale-rv": [("dev", "app", 647)],
    "a4-istag-patch": [("dev", "app", 647)],
    "a4-istag-put-bad-tagname": [("dev", "app", 647)],
    "a4-put-tag-self-tracking": [("dev", "app", 648)],
    "a1-istag-list": [("dev", "app", 580)],
    "a1-itag-list": [("dev", "app", 580)],
    "a1-istag-get-nosuch": [("dev", "app", 580)],
    "a1-istag-get-speconly": [("dev", "app", 580)],
    "a1-itag-get-nosuch": [("dev", "app", 580)],
    "a0-isimage-get": [("dev", "app", 580)],
    "a0-isimage-short": [("dev", "app", 580)],
    "a7-istag-delete-colon": [("dev", "odd", 650)],
    "a7-istag-delete-dotdot": [("dev", "odd", 650)],
    "a7-istag-delete-empty": [("dev", "odd", 650)],
    "a7-istag-delete-slash": [("dev", "odd", 650)],
    "a7-istag-delete-space": [("dev", "odd", 650)],
    "a7-istag-slash": [("dev", "odd", 650)],
    "a7-itag-list": [("dev", "app", 649), ("dev", "brandnew", 645), ("dev", "odd", 650)],
    "d0-istag-get-failed-import": [("dev", "imp", 967)],
    "d0-istag-list": [("dev", "imp", 967)],
    "d1-put-add-tag": [("dev", "imp", 967)],
    "d1-put-again-with-my-own-returned-rv": [("dev", "imp", 972)],
    "d3-delete-istag": [("dev", "imp", 973)],
    "d3-delete-istag-spec-2.0": [("dev", "imp", 975)],
    "d5-isimage": [("dev", "imp2", 979)],
    "d5-layers": [("dev", "imp2", 979)],
}
# Streams that no recording shows: (name, uid, resourceVersion).
RECREATED = ("re", "3bb52ecc-50b9-41e7-ac8b-be23eb535fa6", 560)
MINIMAL = {
    "90-delete": "90-delete", "90-delete-with-options": "90-delete-with-options",
    "90-delete-dryRun": "90-delete-dryRun", "90-delete-precondition-ok": "90-delete-dryRun",
    "90-delete-precondition-rv-409": "90-delete-dryRun",
    "90-delete-precondition-uid-409": "90-delete-dryRun",
    "92-put-old-incarnation": RECREATED, "92-put-old-uid-new-rv": RECREATED,
}
# Projects besides default, dev and prod: (name, the transcript that shows it).
PROJECTS = {
    "b1-project-get-mine": [("mine", "b1-project-get-mine")],
    "b1-project-list-dev": [("mine", "b1-project-get-mine")],
    "b1-projectrequest-again": [("mine", "b1-project-get-mine")],
    "b1-stream-in-mine": [("mine", "b1-project-get-mine")],
    "b2-project-delete": [("mine", "b1-project-get-mine")],
    "b2-stream-create-while-terminating": [("mine", "terminating")],
    "b2-stream-get-while-terminating": [("mine", "terminating")],
    "b2-watch-in-deleted-namespace": [("mine", "b1-project-get-mine")],
}
# Recordings that were taken over one set of streams: prefix -> the recording that lists them.
SETS = {"70": "70-list-all-namespaces", "71": "70-list-all-namespaces",
        "72": "72-list-timeoutSeconds"}
WITH_SECRET = {"60-secrets-dev-edit", "60-secrets-one"}


def stream_name(path):
    """(namespace, stream) that a path is about, or None."""
    match = re.match(r".*/namespaces/([^/]+)/imagestreams/([^/]+)", path)
    if match:
        return match[1], match[2].replace("%61", "a")
    match = re.match(r".*/namespaces/([^/]+)/image(?:stream)?tags/([^/:]+)", path)
    return (match[1], match[2]) if match else None


def minimal(spec):
    """A stream of nothing but metadata: spec, or what the answer to a DELETE tells of it."""
    if isinstance(spec, str):
        details = transcript.load_all()[spec].answer_json()["details"]
        spec = (details["name"], details["uid"], 552)
    name, uid, rv = spec
    return {"metadata": {"name": name, "namespace": "dev", "uid": uid,
                         "resourceVersion": str(rv), "generation": 1,
                         "creationTimestamp": "2026-11-23T19:48:49Z"},
            "spec": {"lookupPolicy": {"local": False}}, "status": {"dockerImageRepository": ""}}


def streams_for(one):
    """The streams to be there before an exchange."""
    observed = transcript.observed()
    if one.name in MINIMAL:
        return [minimal(MINIMAL[one.name])]
    if one.name == "a0-mapping-post":
        return [before_mapping(observed)]
    if one.name[:2] in SETS:
        # 71-list-limit-negative was recorded after the pages, when one stream more was there.
        source = SETS["72" if one.name == "71-list-limit-negative" else one.name[:2]]
        return listed(transcript.load_all()[source].answer_json())
    if one.name in STREAMS:
        return [observed.at(*spec) for spec in STREAMS[one.name]]
    answer = one.answer_json()
    kind = answer.get("kind") if isinstance(answer, dict) else None
    if kind == "ImageStreamList":
        return listed(answer)
    about = stream_name(one.path)
    if about is None or one.status == 404:
        return []
    if one.method == "GET":
        return for_get(observed, about, one, answer, kind)
    if kind == "ImageStream":
        meta = answer["metadata"]
        rv = int(meta["resourceVersion"])
        if one.name in NEVER_STORED:
            return [the_write(about, rv, one.name)]
        if one.name in NO_CHANGE:
            return [answer]
        return [observed.before(*about, rv, meta["uid"])]
    found = latest(observed, about, one)
    return [found] if found else []


def before_mapping(observed):
    """The stream that a mapping is posted to, as it was without the tag that comes of it."""
    obj = observed.at("dev", "app", 580)
    tags = [tag for tag in obj["status"]["tags"] if tag["tag"] != "viamap"]
    return {**obj, "metadata": {**obj["metadata"], "resourceVersion": "578"},
            "status": {**obj["status"], "tags": tags}}


def the_write(about, rv, besides):
    """The version as another exchange shows it."""
    for one in transcript.load_all().values():
        if one.name == besides or one.method is None:
            continue
        for value in [one.answer_json()] + [event_object(line) for line in one.events]:
            if isinstance(value, dict) and value.get("kind") == "ImageStream" and \
                    value["metadata"].get("resourceVersion") == str(rv) and \
                    (value["metadata"]["namespace"], value["metadata"]["name"]) == about:
                return value
    raise KeyError((about, rv))


def event_object(line):
    event = transcript.json_or_none(line)
    return event.get("object") if event and event.get("type") in ("ADDED", "MODIFIED") else None


def listed(answer):
    return [{"kind": "ImageStream", "apiVersion": answer["apiVersion"], **item}
            for item in answer["items"]]


def for_get(observed, about, one, answer, kind):
    if kind == "ImageStream":
        return [answer]
    if kind in ("ImageStreamTag", "ImageTag"):
        return [observed.at(*about, int(answer["metadata"]["resourceVersion"]))]
    found = latest(observed, about, one)
    return [found] if found else []


def latest(observed, about, one):
    """The last version seen before the exchange, by the clock of the recordings."""
    known = observed.versions.get(about, {})
    when = one.date.split(" ")[-2] if one.date else ""
    older = [rv for rv, obj in known.items() if written(obj) <= when
             and observed.sources[obj["metadata"]["uid"], rv][:2] <= one.name[:2]]
    return known[max(older)] if older else None


def written(obj):
    times = [entry["time"] for entry in obj["metadata"].get("managedFields", ())]
    times.append(obj["metadata"]["creationTimestamp"])
    return max(times)[11:19]
