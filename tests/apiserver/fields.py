"""metadata.managedFields: who set which field.

A field set is a Python set of paths; a path is a tuple of the elements that fieldsV1 uses
("f:spec", 'k:{"name":"1.0"}', 'v:"x"').
"""

import json

import errors
from store import encode, now

CONTAINER = object()
ATOMIC = {("f:from",), ("f:items",), ("f:conditions",), ("f:ownerReferences",), ("f:images",)}
LIST_KEYS = {("f:spec", "f:tags"): "name", ("f:status", "f:tags"): "tag"}
EMPTY = {"metadata": {}, "spec": {"lookupPolicy": {"local": False}},
         "status": {"dockerImageRepository": ""}}
# Metadata that the server owns is nobody's field.
UNTRACKED = {"name", "namespace", "uid", "resourceVersion", "generation", "creationTimestamp",
             "deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "managedFields"}


def paths(obj):
    """Every field of an object: path -> value, or CONTAINER for maps, structs and keyed lists."""
    out = {}
    metadata = {key: value for key, value in obj["metadata"].items() if key not in UNTRACKED}
    _walk(metadata, ("f:metadata",), out)
    for part in ("spec", "status"):
        if part in obj:
            _walk(obj[part], ("f:" + part,), out)
    return out


def _walk(value, path, out):
    if path[-1:] in ATOMIC:
        out[path] = value
    elif isinstance(value, dict):
        out[path] = CONTAINER
        for key, one in value.items():
            _walk(one, path + ("f:" + key,), out)
    elif isinstance(value, list) and path in LIST_KEYS:
        out[path] = CONTAINER
        key = LIST_KEYS[path]
        for one in value:
            _walk(one, path + (_keyed(key, one[key]),), out)
    elif isinstance(value, list):
        out[path] = CONTAINER
        for one in value:
            out[path + ("v:" + encode(one).decode(),)] = one
    else:
        out[path] = value


def _keyed(key, value):
    return "k:" + encode({key: value}).decode()


def compare(old, new):
    """(added or modified, removed) fields between two objects."""
    before, after = paths(old), paths(new)
    changed = {path for path, value in after.items()
               if path not in before or before[path] is not value and before[path] != value}
    return changed, before.keys() - after.keys()


def to_set(fields_v1):
    out = set()

    def walk(node, path):
        for key, sub in node.items():
            if key == ".":
                out.add(path)
            elif not sub:
                out.add(path + (key,))
            else:
                walk(sub, path + (key,))
    walk(fields_v1 or {}, ())
    return out


def _order(element):
    """Fields by name, list items by the value of their key."""
    if element.startswith("k:"):
        return "k", str(next(iter(json.loads(element[2:]).values())))
    return element[:1], element[2:]


def from_set(field_set):
    root = {}
    for path in field_set:
        node = root
        for element in path:
            node = node.setdefault(element, {})
    prefixes = {path[:length] for path in field_set for length in range(1, len(path))}

    def dotted(node, path):
        out = {".": {}} if path in field_set and path in prefixes else {}
        for key in sorted(node, key=_order):
            out[key] = dotted(node[key], path + (key,))
        return out
    return dotted(root, ())


class Managers:
    """The entries of one object's managedFields."""

    def __init__(self, entries):
        self.sets = {}
        self.entries = {}
        for entry in entries or ():
            key = (entry.get("operation", ""), entry.get("manager", ""),
                   entry.get("apiVersion", ""), entry.get("subresource", ""))
            self.entries[key] = entry
            self.sets[key] = to_set(entry.get("fieldsV1"))

    def rendered(self, touched=None):
        """managedFields again; the entry of the manager `touched` gets the time of now."""
        out = []
        for key, field_set in self.sets.items():
            if not field_set:
                continue
            old = self.entries.get(key, {})
            operation, manager, version, subresource = key
            entry = {"manager": manager, "operation": operation, "apiVersion": version,
                     "time": now() if key == touched else old.get("time") or now(),
                     "fieldsType": "FieldsV1", "fieldsV1": from_set(field_set)}
            if subresource:
                entry["subresource"] = subresource
            out.append(entry)
        out.sort(key=lambda e: (e["operation"], e["time"], e["manager"], e["apiVersion"],
                                e.get("subresource", "")))
        return out

    def lose(self, mine, changed, removed):
        for key in self.sets:
            if key != mine:
                self.sets[key] = self.sets[key] - changed - removed


def track_create(new, key, empty=EMPTY):
    """managedFields of a new object; empty is what an object of its type always has."""
    return _track(empty, new, key, [])


def track_update(live, new, key, entries):
    """managedFields after a write of `new` over `live` by the manager `key`; entries are those that
    the write starts from. An object that nobody tracked stays so until the first apply."""
    return _track(live, new, key, entries) if entries else []


def _track(live, new, key, entries):
    managers = Managers(entries)
    changed, removed = compare(live, new)
    managers.lose(key, changed, removed)
    managers.sets[key] = (managers.sets.get(key, set()) - removed) | changed
    return managers.rendered(key if changed else None)


def same_but_times(obj, other):
    """Whether two objects differ in nothing but the times in managedFields."""
    def timeless(one):
        entries = one["metadata"].get("managedFields") or ()
        bare = [{**entry, "time": None} for entry in entries]
        return {**one, "metadata": {**one["metadata"], "managedFields": bare}}
    return obj == other or timeless(obj) == timeless(other)


def applied_set(config):
    """The fields that an applied configuration names: leaves, list items, empty containers."""
    found = paths(config)
    parents = {path[:-1] for path in found}
    return {path for path, value in found.items()
            if value is not CONTAINER or path not in parents or path[-1].startswith("k:")} - {
                ("f:metadata",)}


def check_conflicts(live, config, key, managers):
    """409 if another manager owns a field that the configuration would change."""
    wanted, current = paths(config), paths(live)
    found = []
    for other, field_set in managers.sets.items():
        if other == key:
            continue
        for path in sorted(applied_set(config) & field_set):
            if wanted[path] is not CONTAINER and wanted[path] != current.get(path):
                found.append((other, path))
    if not found:
        return
    causes = [{"reason": "FieldManagerConflict", "message": _conflict_with(other),
               "field": _readable(path)} for other, path in found]
    if len(found) == 1:
        text = "%s: %s" % (causes[0]["message"], causes[0]["field"])
        message = "Apply failed with 1 conflict: " + text
    else:
        lines = []
        for other in sorted({other for other, _ in found}):
            lines.append(_conflict_with(other).replace("conflict ", "conflicts ", 1) + ":")
            lines += ["- " + _readable(path) for owner, path in found if owner == other]
        message = "Apply failed with %d conflicts: %s" % (len(found), "\n".join(lines))
    raise errors.StatusError(409, "Conflict", message, {"causes": causes})


def _conflict_with(key):
    operation, manager, version, _ = key
    using = " using " + version if operation == "Update" else ""
    return "conflict with %s%s" % (errors.quote(manager), using)


def _readable(path):
    out = ""
    for element in path:
        if element.startswith("f:"):
            out += "." + element[2:]
        elif element.startswith("k:"):
            key, _, value = element[3:-1].partition(":")
            out += "[%s=%s]" % (key.strip('"'), value)
        else:
            out += "[=%s]" % element[2:]
    return out


def merge_applied(live, config, dropped):
    """The live object with the configuration laid over it and dropped fields taken out."""
    return _merge(live, config, (), dropped)


def _merge(live, config, path, dropped):
    if isinstance(live, dict) and (config is None or isinstance(config, dict)) and \
            path[-1:] not in ATOMIC:
        out = {}
        for key in list(live) + [key for key in config or () if key not in live]:
            where = path + ("f:" + key,)
            given = (config or {}).get(key)
            if where in dropped and given is None:
                continue
            out[key] = _merge(live[key], given, where, dropped) if key in live else given
        return out
    if path in LIST_KEYS and isinstance(live, list):
        key = LIST_KEYS[path]
        given = {one[key]: one for one in config or ()}
        out = []
        for one in live:
            where = path + (_keyed(key, one[key]),)
            if where in dropped and one[key] not in given:
                continue
            out.append(_merge(one, given.pop(one[key], None), where, dropped))
        return out + list(given.values())
    if isinstance(live, list) and path == ("f:metadata", "f:finalizers"):
        gone = {one for one in live
                if path + ("v:" + encode(one).decode(),) in dropped and one not in (config or ())}
        return [one for one in live if one not in gone] + [
            one for one in config or () if one not in live]
    return live if config is None else config
