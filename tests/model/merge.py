"""What a save of a file means (DESIGN.md 3 "Conflicts"): values of an object, their comparison and merge."""

import copy
import json

ATOMS = {"from", "items", "conditions"}  # of a tag: one value each
KEYS = {"tags": ("name", "tag"), "ownerReferences": ("uid",)}


class Conflict(Exception):
    pass


def text(value):
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()


def without(value, *keys):
    return {key: one for key, one in value.items() if key not in keys}


def value_of(kind, tag, obj):
    """What the file of that kind shows of the object; None where there is no such file."""
    meta, spec, status = without(obj["metadata"], "managedFields"), obj["spec"], obj["status"]
    tags = [without(one, "generation") for one in spec.get("tags") or []]
    if kind in ("imagestream.json", "imagestream.yaml"):
        return {**obj, "metadata": meta}
    if kind == "metadata.json":
        return without(meta, "resourceVersion", "generation")
    if kind == "spec.json":
        return {**spec, "tags": tags} if "tags" in spec else spec
    if kind == "status.json":
        return status
    found = [one for one in tags if one["name"] == tag] if kind == "tag spec.json" else [
        one for one in status.get("tags") or [] if one["tag"] == tag]
    return found[0] if found else None


def line(source):
    """What `from` shows."""
    kind, place = source.get("kind", "DockerImage"), source.get("namespace")
    words = "" if kind == "DockerImage" else f"{kind} {place}/" if place else f"{kind} "
    return f"{words}{source.get('name', '')}\n".encode()


def is_empty(value):
    return value is None or value == {} or value == []


def bare(value, kind=""):
    """Without what is never compared, and what is nothing; lists with keys as maps."""
    if isinstance(value, dict):
        skipped = {"resourceVersion", "generation", "managedFields"} if kind != "atom" else set()
        made = {key: bare(one, "atom" if key in ATOMS or kind == "atom" else key)
                for key, one in value.items() if key not in skipped}
        return {key: one for key, one in made.items() if not is_empty(one)}
    if isinstance(value, list) and kind in KEYS and all(isinstance(one, dict) for one in value):
        return {("key", key_of(kind, one)): bare(one) for one in value}
    return value


def key_of(kind, element):
    return next((element[key] for key in KEYS[kind] if key in element), None)


def equal(a, b):
    a, b = bare(a), bare(b)
    return a == b or (is_empty(a) and is_empty(b))


def merge(base, theirs, mine):
    """Bare values: theirs with mine's edits from base."""
    base, theirs, mine = (({} if one is None else one) for one in (base, theirs, mine))
    if mine == base or mine == theirs:
        return theirs
    if theirs == base:
        return mine
    if not all(isinstance(one, dict) for one in (base, theirs, mine)):
        raise Conflict
    merged = {}
    for key in {**base, **theirs, **mine}:
        sides = [one.get(key) for one in (base, theirs, mine)]
        is_element = isinstance(key, tuple)
        if is_element or key in ATOMS:
            got = merge_element(*sides) if is_element else merge_atom(*sides)
        else:
            got = merge(*sides)
        if not is_empty(got) or (is_element and got is not None):
            merged[key] = got
    return merged


def merge_atom(base, theirs, mine):
    if mine in (base, theirs):
        return theirs
    if theirs == base:
        return mine
    raise Conflict


def merge_element(base, theirs, mine):
    """What one side deleted or both added isn't merged by key."""
    if None in (base, theirs, mine):
        return merge_atom(base, theirs, mine)
    return merge(base, theirs, mine)


def merge_tag(base, theirs, mine):
    """Of a tag's own file: None is a tag that isn't there."""
    sides = [None if one is None else bare(one) for one in (base, theirs, mine)]
    return merge_element(*sides)


# Edits: what is done to a value, as data that a script can hold.


def edit(value, change):
    """The changed value, or bytes that are no such text at all."""
    kind, arguments = change[0], change[1:]
    if kind == "raw":
        return arguments[0]
    value = copy.deepcopy(value)
    return text(EDITS[kind](value, *arguments))


def meta_of(value):
    return value["metadata"] if "metadata" in value else value


def set_in(name):
    def change(value, key, to):
        target = meta_of(value)
        entries = dict(target.get(name) or {})
        entries.pop(key, None)
        if to is not None:
            entries[key] = to
        target[name] = entries
        return value
    return change


def spec_of(value):
    return value["spec"] if "spec" in value else value


def set_local(value, to):
    spec_of(value)["lookupPolicy"] = {"local": to}
    return value


def new_tag(name, image):
    return {"name": name, "annotations": None, "from": {"kind": "DockerImage", "name": image},
            "importPolicy": {"importMode": "Legacy"}, "referencePolicy": {"type": "Source"}}


def set_tag(value, name, image):
    """In spec.json and imagestream.json; image None removes it."""
    spec = spec_of(value)
    tags = [one for one in spec.get("tags") or []]
    there = [one for one in tags if one["name"] == name]
    if image is None:
        spec["tags"] = [one for one in tags if one["name"] != name]
    elif there:
        there[0]["from"] = {"kind": "DockerImage", "name": image}
    else:
        spec["tags"] = [*tags, new_tag(name, image)]
    return value


def set_from(value, image):
    value["from"] = {"kind": "DockerImage", "name": image}
    return value


def set_field(value, key, to):
    target = meta_of(value)
    target[key] = to
    return value


def pop_item(value, _):
    """A status without the newest item of its first tag that has two."""
    for one in value.get("tags") or [value]:
        if len(one.get("items") or []) > 1:
            one["items"] = one["items"][1:]
            break
    return value


EDITS = {"labels": set_in("labels"), "annotations": set_in("annotations"), "local": set_local,
         "tag": set_tag, "from": set_from, "field": set_field, "pop": pop_item,
         "same": lambda value, _: value}
