"""Texts that people lay over a file: lines of `from`, manifests, copies of something else (DESIGN.md 2 and 3)."""

import re

import merge

DOCKER = "DockerImage"
KINDS = (DOCKER, "ImageStreamTag", "ImageStreamImage")
SERVER_FIELDS = ("uid", "resourceVersion", "generation", "creationTimestamp", "deletionTimestamp",
                 "deletionGracePeriodSeconds", "selfLink", "managedFields")
TIES = ("ownerReferences", "finalizers")
IMPORT = "openshift.io/image.dockerRepositoryCheck"
INTERNAL = ".svc:5000"


# ---- lines of `from` ----


def line(reference):
    """The text of `from`; None where there is none."""
    if not reference:
        return None
    name, kind = reference.get("name", ""), reference.get("kind") or DOCKER
    if kind == DOCKER:
        return name.encode() + b"\n"
    namespace = reference.get("namespace")
    return f"{kind} {namespace + '/' if namespace else ''}{name}\n".encode()


def parse_line(data):
    """What a text of one line means, or None."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return None
    text = text.removesuffix("\n").removesuffix("\r")
    if re.search(r"[\0-\x08\x0a-\x1f\x7f]", text) or not text.strip(" \t"):
        return None
    kind, _, name = text.strip(" \t").replace("\t", " ").partition(" ")
    kind, name = (kind, name.strip()) if name else (DOCKER, kind)
    made = {"kind": kind, "name": name}
    found = re.match("([^/:@]+)/", name) if kind != DOCKER else None
    if found:
        made = {"kind": kind, "namespace": found[1], "name": name[found.end():]}
    return made if made["name"] and made["name"] not in KINDS else None


def is_same(a, b, namespace):
    if not a or (a.get("kind") or DOCKER, a.get("name")) != (b["kind"], b["name"]):
        return False
    return b["kind"] == DOCKER or (a.get("namespace") or namespace) == (b.get("namespace") or namespace)


def with_from(tag, reference, namespace):
    """The tag (None: none) that follows the reference; what no line can say stays while it names the same."""
    made = dict(tag or {})
    if not is_same(made.get("from"), reference, namespace):
        made["from"] = reference
    return made


def split_image(name):
    """REGISTRY/NAMESPACE/STREAM@DIGEST, or None."""
    found = re.fullmatch("([^/]+)/([^/]+)/([^/:@]+)@(.+)", name)
    return found and found.groups()


# ---- whose text it is ----


def is_void(value):
    """Says nothing: as tools write what they don't know."""
    if isinstance(value, (dict, list)):
        return all(is_void(one) for one in (value.values() if isinstance(value, dict) else value))
    return value is None or value == ""


def names_another(base, mine, key):
    return not is_void(mine.get(key)) and mine[key] != base.get(key)


def metadata_of(kind, value):
    if kind.startswith("imagestream"):
        return value.get("metadata")
    return value if kind == "metadata.json" else None


def whose(kind, tag, theirs, mine, foreign):
    """own, manifest or foreign."""
    if kind == "tag spec.json":
        return "foreign" if foreign and not is_void(mine.get("name")) and mine["name"] != tag else "own"
    if kind == "status.json":
        edited = merge.equal(*({"tags": one.get("tags")} for one in (theirs, mine)))  # the name alone
        return "foreign" if foreign and not edited and names_another(theirs, mine, "dockerImageRepository") else "own"
    fields = metadata_of(kind, mine)
    if not isinstance(fields, dict):
        return "own"
    if foreign and names_another(metadata_of(kind, theirs), fields, "uid"):
        return "foreign"
    return "manifest" if kind != "metadata.json" and is_void(fields.get("resourceVersion")) else "own"


def take_over(value, base, names):
    for name in names:
        value.pop(name, None)
        if name in base:
            value[name] = base[name]


def adopt(kind, text, base, mine):
    """The text as far as it counts: what doesn't is as the base has it."""
    if text == "own" or (kind not in ("tag spec.json", "status.json") and not metadata_of(kind, mine)):
        return mine
    if kind == "tag spec.json":
        return merge.without(mine, "name")
    if kind == "status.json":
        return base
    fields, old = dict(metadata_of(kind, mine)), metadata_of(kind, base)
    if text == "foreign":
        take_over(fields, old, ("name", "namespace"))
    if names_another(old, fields, "uid"):
        take_over(fields, old, TIES)
    take_over(fields, old, SERVER_FIELDS)
    if kind == "metadata.json":
        return fields
    return {**merge.without(mine, "status"), "metadata": fields, "status": base["status"]}


# ---- histories ----


def histories_of(kind, value):
    """Tag's name → history; of a tag's own file there is one."""
    if not isinstance(value, dict):
        return {}
    if kind == "tag status.json":
        return {None: value}
    tags = value.get("tags")
    return {one.get("tag"): one for one in tags or []} if kind == "status.json" else {}


def images_of(history):
    return [one.get("image") or one.get("dockerImageReference") for one in (history or {}).get("items") or []]


def settle(kind, theirs, mine):
    """Where a history has the same images, it is theirs: when they came no text from somewhere else tells."""
    known = histories_of(kind, theirs)

    def settled(name, one):
        same = name in known and all(images_of(one)) and images_of(one) == images_of(known[name])
        return known[name] if same else one
    if kind == "tag status.json":
        return settled(None, mine)
    if kind != "status.json" or not isinstance(mine.get("tags"), list):
        return mine
    return {**mine, "tags": [settled(one.get("tag"), one) for one in mine["tags"]]}


def rolls_back(kind, theirs, mine):
    """Whether the newest image of a tag isn't in the text."""
    key = ("image", "dockerImageReference", "created")
    written = histories_of(kind, mine)
    for name, one in histories_of(kind, theirs).items():
        items = one.get("items")
        told = [[old.get(what) for what in key] for old in (written.get(name) or {}).get("items") or []]
        if items and [items[0].get(what) for what in key] not in told:
            return True
    return False


# ---- copies ----


def copied(kind, tag, theirs, mine):
    """Theirs with what the text has besides, and instead."""
    text = adopt(kind, "foreign", theirs or {}, mine)
    fields = metadata_of(kind, text)
    if fields and isinstance(fields.get("annotations"), dict):
        fields = {**fields, "annotations": merge.without(fields["annotations"], IMPORT)}
        text = {**text, "metadata": fields} if kind.startswith("imagestream") else fields
    if kind == "tag spec.json":
        text = {**text, "name": tag}
    root = {"spec.json": "spec", "tag spec.json": "tag"}.get(kind, kind)
    return overlay(root, theirs, text)


REFUSED = {"status", "kind", "apiVersion", "name", "namespace", *SERVER_FIELDS}


def is_refused(place, key):
    """What the request can't change there."""
    if place == "metadata.json":
        return key not in ("labels", "annotations", *TIES)
    return (place.startswith("imagestream") and key in ("status", "kind", "apiVersion")) or (
        place == "metadata" and key in REFUSED)


def overlay(place, theirs, mine):
    if merge.is_empty(merge.bare(mine)) or place == "generation":
        return theirs
    if place in merge.ATOMS:
        return mine
    if place in merge.KEYS and all(isinstance(one, list) for one in (theirs or [], mine)):
        return overlay_lists(place, theirs or [], mine)
    if isinstance(mine, dict) and (theirs is None or isinstance(theirs, dict)):
        return overlay_maps(place, theirs or {}, mine)
    return mine


def overlay_lists(place, theirs, mine):
    names = [merge.key_of(place, one) if isinstance(one, dict) else None for one in [*theirs, *mine]]
    if None in names or len(set(names[len(theirs):])) != len(mine):
        return mine
    one_of = {name: one for name, one in zip(names, theirs)}
    for name, one in zip(names[len(theirs):], mine):
        one_of[name] = overlay("tag", one_of.get(name), one)
    return list(one_of.values())


def overlay_maps(place, theirs, mine):
    made = dict(theirs)
    if place == "tag" and not merge.is_empty(mine.get("from")):
        made.pop("from", None)
        made.pop("reference", None)
    for key, one in mine.items():
        if is_refused(place, key):
            continue
        got = overlay(key, made.get(key), one)
        made.pop(key, None)
        if got is not None:
            made[key] = got
    return made
