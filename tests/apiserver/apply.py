"""Server-side apply of image streams: PATCH with application/apply-patch+yaml."""

import errors
import fields
import render
import schema
from store import encode


class Applier:
    def __init__(self, streams):
        self.streams = streams
        self.store = streams.store

    def answer(self, context, dry):
        value = parse(context)
        check_typed(value, context)
        config = {"metadata": value.get("metadata") or {}, **{
            part: value[part] for part in ("spec", "status") if part in value}}
        with self.store.changed:
            old = self.streams.collection.get(context.namespace, context.name)
            if old is None:
                self.check_creation(context, config)
            version, warnings = self.apply(context, value, config, old, dry)
        return self.streams.answer(context, version, 200 if old else 201, warnings)

    def apply(self, context, value, config, old, dry):
        streams = self.streams
        key = ("Apply", context.request.param("fieldManager"), context.api_version,
               context.subresource)
        live = old.obj if old else {"metadata": {}, "spec": {}, "status": {}}
        managers = owners(live, context, old is not None)
        if not context.request.flag("force"):
            fields.check_conflicts(live, config, key, managers)
        merged, entries = merge(live, config, key, managers)
        obj, warnings = streams.decode_patched(context, merged, "ImageStream",
                                               streams.decode_value)
        streams.check_names(context, obj)
        if old is None:
            return streams.create_object(context, obj, value, dry, entries), warnings
        given = config["metadata"].get("resourceVersion")
        if given and given != str(old.rv):
            raise errors.conflict("imagestreams", context.group, context.name)
        return streams.update(context, obj, value, old, dry, entries), warnings

    def check_creation(self, context, config):
        """What isn't there is made, but by who may do that, and not if it was there once."""
        if context.subresource:
            raise errors.not_found("imagestreams", context.group, context.name)
        self.streams.app.auth.check(context.user, "create", context.group, "imagestreams", "",
                                    context.namespace, context.name)
        uid = config["metadata"].get("uid")
        if uid:
            raise errors.conflict("imagestreams", context.group, context.name, (
                "uid mismatch: the provided object specified uid %s, and no existing object was "
                "found" % uid))
        config["metadata"] = {name: one for name, one in config["metadata"].items()
                              if name != "resourceVersion"}


def parse(context):
    """The configuration that a request applies."""
    try:
        value = render.parse_yaml(context.request.body.decode("utf-8"))
    except Exception as why:  # whatever the parser says, it's the client's fault
        raise errors.bad_request("error decoding YAML: %s" % str(why).split("\n")[0])
    if not isinstance(value, dict):
        raise errors.bad_request(
            "error decoding YAML: error unmarshaling JSON: while decoding JSON: json: cannot "
            "unmarshal %s into Go value of type map[string]interface {}" % schema.go_kind(value))
    group, _, version = str(value.get("apiVersion") or "").rpartition("/")
    given = "%s/%s, Kind=%s" % (group, version, value.get("kind") or "")
    if given != wanted_type(context):
        raise errors.bad_request("invalid object type: " + given)
    meta = value.get("metadata")
    if isinstance(meta, dict) and meta.get("managedFields") is not None:
        raise errors.bad_request("metadata.managedFields must be nil")
    return value


def wanted_type(context):
    return "%s/%s, Kind=ImageStream" % tuple(("/" + context.api_version).split("/")[-2:])


def owners(live, context, exists):
    """Who owns what; all that was there before the first apply has an owner of its own."""
    managers = fields.Managers(live["metadata"].get("managedFields"))
    if exists and not managers.sets:
        first = ("Update", "before-first-apply", context.api_version, "")
        managers.sets[first] = fields.compare(fields.EMPTY, live)[0]
    return managers


def merge(live, config, key, managers):
    """(the object with the configuration in it, its managedFields)"""
    applied = fields.applied_set(config)
    others = set().union(*[one for owner, one in managers.sets.items() if owner != key])
    dropped = managers.sets.get(key, set()) - applied - others
    merged = fields.merge_applied(live, config, dropped)
    wanted, current = fields.paths(config), fields.paths(live)
    taken = {path for path in applied if wanted[path] is not fields.CONTAINER
             and wanted[path] != current.get(path)}
    managers.lose(key, taken, dropped)
    changed = managers.sets.get(key) != applied or taken
    managers.sets[key] = applied
    return merged, managers.rendered(key if changed else None)


# The configuration must fit the schema; other than elsewhere, what doesn't is a 500.

def check_typed(value, context):
    problems = []
    _check(value, schema.IMAGE_STREAM, "", (), problems)
    if not problems:
        return
    text = problems[0] if len(problems) == 1 else "\n  ".join(["errors:"] + problems)
    meta = value.get("metadata")
    meta = meta if isinstance(meta, dict) else {}
    raise errors.StatusError(500, None, "failed to create typed patch object (%s/%s; %s): %s" % (
        meta.get("namespace") or "", meta.get("name") or "", wanted_type(context), text))


def _check(value, kind, path, where, problems):
    """Adds what is wrong with a value; where is its path among the fields."""
    if value is None:
        return
    if isinstance(kind, schema.Struct):
        _check_struct(value, kind, path, where, problems)
    elif isinstance(kind, schema.List):
        _check_list(value, kind, path, where, problems)
    elif not isinstance(kind, schema.Raw):
        wanted, types = SCALARS[type(kind)]
        if not isinstance(value, types) or (isinstance(value, bool) and types is not bool):
            problems.append("%s: expected %s, got &{%s}" % (path, wanted, _shown(value)))


SCALARS = {schema.String: ("string", str), schema.Bool: ("boolean", bool),
           schema.Int: ("numeric", int), schema.Time: ("string", str),
           schema.StringMap: ("map", dict)}


def _shown(value):
    return value if isinstance(value, str) else encode(value).decode()


def _check_struct(value, kind, path, where, problems):
    if not isinstance(value, dict):
        problems.append("%s: expected map, got &{%s}" % (path, _shown(value)))
        return
    for name in sorted(value):
        field = kind.by_name.get(name)
        if field is None:
            problems.append("%s.%s: field not declared in schema" % (path, name))
        else:
            _check(value[name], field[1], "%s.%s" % (path, name), where + ("f:" + name,), problems)


def _check_list(value, kind, path, where, problems):
    if not isinstance(value, list):
        problems.append("%s: expected list, got &{%s}" % (path, _shown(value)))
        return
    key, seen = fields.LIST_KEYS.get(where), set()
    for index, one in enumerate(value):
        at = "%s[%d]" % (path, index)
        if key and isinstance(one, dict):
            if key not in one:
                problems.append('%s: element %d: associative list with keys has an element that '
                                'omits key field "%s" (and doesn\'t have default value)' % (
                                    path, index, key))
                continue
            at = "%s[%s=%s]" % (path, key, encode(one[key]).decode())
            if at in seen:
                problems.append("%s: duplicate entries for key %s" % (path, at[len(path):]))
            seen.add(at)
        _check(one, kind.item, at, where + ("*",), problems)
