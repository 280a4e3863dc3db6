"""The patch formats: JSON patch, JSON merge patch, strategic merge patch."""

import json

# Lists that strategic merge patch merges by key, by field name; finalizers merge as a set.
MERGE_KEYS = {("spec", "tags"): "name", ("status", "tags"): "tag",
              ("metadata", "ownerReferences"): "uid"}
MERGED_SETS = {("metadata", "finalizers")}
# Any other key is a name like all others, even if it begins with a dollar.
DIRECTIVES = ("$patch", "$retainKeys")


class PatchFailed(Exception):
    """The patch is well-formed but can't be applied."""


def go_json_error(text, why):
    """What Go's decoder says where Python's said `why`."""
    if why.pos >= len(text.rstrip()) or why.msg.startswith("Unterminated string"):
        return "unexpected end of JSON input"
    char = text[why.pos]
    shown = "'\\''" if char == "'" else "'%s'" % char
    context = {
        "Expecting value": "looking for beginning of value",
        "Expecting property name enclosed in double quotes":
            "looking for beginning of object key string",
        "Expecting ':' delimiter": "after object key",
        "Extra data": "after top-level value",
        "Expecting ',' delimiter": "after object key:value pair",
    }.get(why.msg, "in literal")
    return "invalid character %s %s" % (shown, context)


def merge(target, patch):
    """RFC 7386. Touched objects come out sorted by key, as Go's map encoding does it."""
    if not isinstance(patch, dict):
        return patch
    out = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            out.pop(key, None)
        else:
            out[key] = merge(out.get(key), value)
    return {key: out[key] for key in sorted(out)}


def strategic(target, patch, path=()):
    """Strategic merge patch of an ImageStream: tags merge by name, $patch directives apply."""
    if not isinstance(patch, dict):
        return patch
    directive = patch.get("$patch")
    if directive == "replace":
        return {key: value for key, value in patch.items() if key != "$patch"}
    if directive == "delete":
        return {}
    if directive not in (None, "merge"):
        raise PatchFailed('Unknown patch type: ' + str(directive))
    out = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        where = path + (key,)
        if key.startswith("$deleteFromPrimitiveList/"):
            name = key.partition("/")[2]
            out[name] = [one for one in out.get(name) or () if one not in value]
        elif key in DIRECTIVES or key.startswith("$setElementOrder/"):
            continue
        elif value is None:
            out.pop(key, None)
        elif where in MERGE_KEYS and isinstance(value, list):
            out[key] = _merge_list(out.get(key) or [], value, MERGE_KEYS[where], where)
        elif where in MERGED_SETS and isinstance(value, list):
            old = out.get(key) or []
            out[key] = old + [one for one in value if one not in old]
        else:
            out[key] = strategic(out.get(key), value, where)
    _retain_keys(out, patch.get("$retainKeys"))
    return {key: out[key] for key in sorted(out)}


def _retain_keys(out, keys):
    if keys is not None:
        for key in list(out):
            if key not in keys:
                del out[key]


def _merge_list(old, patch, key, path):
    # One {"$patch": "replace"} among the elements replaces the whole list by the others.
    if any(isinstance(one, dict) and one.get("$patch") == "replace" for one in patch):
        return [one for one in patch if "$patch" not in one]
    out = list(old)
    for one in patch:
        if not isinstance(one, dict) or key not in one:
            raise PatchFailed("map: %s does not contain declared merge key: %s" % (one, key))
        found = [at for at, item in enumerate(out) if item.get(key) == one[key]]
        if one.get("$patch") == "delete":
            out = [item for at, item in enumerate(out) if at not in found]
        elif found:
            out[found[0]] = strategic(out[found[0]], one, path + ("*",))
        else:
            out.append({name: value for name, value in one.items() if name != "$patch"})
    return out


def json_patch(target, operations):
    """RFC 6902; raises PatchFailed for whatever doesn't fit."""
    document = json.loads(json.dumps(target))
    for operation in operations:
        if not isinstance(operation, dict):
            raise PatchFailed("not an operation")
        document = _operate(document, operation)
    return document


def _operate(document, operation):
    op = operation.get("op")
    path = _pointer(operation.get("path"))
    if op in ("add", "replace", "test") and "value" not in operation:
        raise PatchFailed("missing value")
    if op == "add":
        return _add(document, path, operation["value"])
    if op == "remove":
        return _remove(document, path)
    if op == "replace":
        _get(document, path)
        return _set(document, path, operation["value"])
    if op == "test":
        if _get(document, path) != operation["value"]:
            raise PatchFailed("testing value failed")
        return document
    if op in ("move", "copy"):
        source = _pointer(operation.get("from"))
        value = json.loads(json.dumps(_get(document, source)))
        if op == "move":
            document = _remove(document, source)
        return _add(document, path, value)
    raise PatchFailed("unexpected kind: %s" % op)


def _pointer(text):
    if not isinstance(text, str) or (text and not text.startswith("/")):
        raise PatchFailed("bad path")
    return [part.replace("~1", "/").replace("~0", "~") for part in text.split("/")[1:]]


def _index(container, part, past_end=False):
    try:
        index = int(part)
    except ValueError:
        raise PatchFailed("bad index")
    size = len(container) + (1 if past_end else 0)
    if index < 0:
        index += size
    if not 0 <= index < size:
        raise PatchFailed("index out of bounds")
    return index


def _get(document, path):
    for part in path:
        if isinstance(document, dict) and part in document:
            document = document[part]
        elif isinstance(document, list):
            document = document[_index(document, part)]
        else:
            raise PatchFailed("missing path")
    return document


def _add(document, path, value):
    if not path:
        return value
    parent = _get(document, path[:-1])
    if isinstance(parent, list):
        parent.insert(len(parent) if path[-1] == "-" else _index(parent, path[-1], True), value)
    elif isinstance(parent, dict):
        parent[path[-1]] = value
    else:
        raise PatchFailed("missing path")
    return document


def _remove(document, path):
    _get(document, path)
    if not path:
        raise PatchFailed("can't remove the whole document")
    parent = _get(document, path[:-1])
    del parent[_index(parent, path[-1]) if isinstance(parent, list) else path[-1]]
    return document


def _set(document, path, value):
    if not path:
        return value
    parent = _get(document, path[:-1])
    parent[_index(parent, path[-1]) if isinstance(parent, list) else path[-1]] = value
    return document
