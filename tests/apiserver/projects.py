"""Namespaces and projects: two views of one thing, with the oddities of the project watch."""

import random
import time

import bodies
import errors
import imagestream
import lists
import render
import selector
from server import Disconnected, Response
from store import encode, event_line, new_uid, now

NAME_RULE = ("a lowercase RFC 1123 label must consist of lower case alphanumeric characters or "
             "'-', and must start and end with an alphanumeric character (e.g. 'my-name',  or "
             "'123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')")
_FIELDS = {"f:metadata": {"f:labels": {".": {}, "f:kubernetes.io/metadata.name": {}}}}
_REQUEST_FIELDS = {
    "f:metadata": {"f:annotations": {
        ".": {}, "f:openshift.io/description": {}, "f:openshift.io/display-name": {},
        "f:openshift.io/requester": {}}, "f:labels": _FIELDS["f:metadata"]["f:labels"]},
    "f:spec": {"f:finalizers": {}}}


def namespace_object(name, annotations=None, manager="kubectl-create", managed=True):
    meta = {"name": name, "uid": new_uid(), "resourceVersion": "0", "creationTimestamp": now(),
            "labels": {"kubernetes.io/metadata.name": name}}
    if annotations:
        meta["annotations"] = annotations
    if managed:
        meta["managedFields"] = [{
            "manager": manager, "operation": "Update", "apiVersion": "v1", "time": now(),
            "fieldsType": "FieldsV1", "fieldsV1": _REQUEST_FIELDS if annotations else _FIELDS}]
    finalizers = ["openshift.io/origin", "kubernetes"] if annotations else ["kubernetes"]
    return {"metadata": meta, "spec": {"finalizers": finalizers}, "status": {"phase": "Active"}}


class Projects:
    def __init__(self, app, deletion_delay):
        self.app = app
        self.store = app.store
        self.collection = app.store["namespaces"]
        self.deletion_delay = deletion_delay
        self.blind = False  # just started: it knows of nobody's projects yet

    def ensure(self, name):
        with self.store.changed:
            if self.collection.get("", name) is None:
                self.store.put("namespaces", namespace_object(
                    name, managed=self.app.options.managed_fields))

    def find(self, name):
        version = self.collection.get("", name)
        if version is None:
            # A project is a namespace, so it's the namespace that isn't found.
            raise errors.not_found("namespaces", "", name)
        return version

    def get(self, context):
        return self.answer(context, self.find(context.name))

    def answer(self, context, version, status=200):
        accept = render.negotiate(context.request.headers.get("accept"), self.app.options.forms)
        kind = self.app.kinds["namespaces" if context.resource == "namespaces" else "projects"]
        if accept.form == "table":
            data = render.encode_table(kind.columns, kind.cells, [version.obj],
                                       {"resourceVersion": str(version.rv)}, "Metadata",
                                       accept.version)
        else:
            data = version.document(render.PARTIAL if accept.form == "partial" else context.view)
        return Response(status, render.document(data, context.request, accept.media),
                        accept.content_type)

    def visible(self, user):
        """The projects that a user may get, by name."""
        with self.store.changed:
            versions = [] if self.blind else self.collection.select()
        return {v.name: v for v in versions if self.app.auth.sees(user, v.name)}

    def list(self, context):
        """The projects that the user may see; without a resourceVersion."""
        test = selector.parse_labels(context.request.param("labelSelector"))
        wanted = lists.only_name(context.request)
        chosen = [v for name, v in sorted(self.visible(context.user).items())
                  if (test is None or test(v.labels)) and wanted in ("", name)]
        return self.app.lister.render_list(context.request, chosen, {},
                                           self.app.kinds["projects"], context.view)

    def watch(self, context):
        """Nothing is replayed; the initial state is sent only at resourceVersion 0."""
        render.negotiate(context.request.headers.get("accept"), self.app.options.forms)
        return Response(200, stream=ProjectWatch(self, context).run)

    def request(self, context):
        """POST of a ProjectRequest: the requester becomes the project's admin."""
        value = bodies.parse(context.request, "ProjectRequest")
        bodies.check_kind(value, "ProjectRequest", context.api_version)
        name = (value.get("metadata") or {}).get("name", "")
        group = context.group
        if not name:
            raise errors.invalid("ProjectRequest", group, "", [errors.value_required(
                "metadata.name", "name or generateName is required")])
        if not render.resource_name_ok(name):
            raise errors.invalid("ProjectRequest", group, name, [
                errors.value_invalid("metadata.name", name, NAME_RULE)])
        with self.store.changed:
            if self.collection.get("", name) is not None:
                raise errors.already_exists("project", group, name)
            obj = namespace_object(name, {
                "openshift.io/description": value.get("description", ""),
                "openshift.io/display-name": value.get("displayName", ""),
                "openshift.io/requester": context.user.name}, "openshift-apiserver",
                self.app.options.managed_fields)
            version = self.store.put("namespaces", obj)
            self.app.auth.grant(context.user.name, "admin", name)
            self.app.auth.show()
        self.store.notify()
        return self.answer(context, version, 201)

    def create_namespace(self, context):
        value = bodies.parse(context.request, "Namespace")
        bodies.check_kind(value, "Namespace" if context.resource == "namespaces" else "Project",
                          context.api_version)
        name = (value.get("metadata") or {}).get("name", "")
        if not render.resource_name_ok(name):
            raise errors.invalid("Namespace", "", name, [
                errors.value_invalid("metadata.name", name, NAME_RULE)])
        with self.store.changed:
            if self.collection.get("", name) is not None:
                raise errors.already_exists(context.resource, context.group, name)
            version = self.store.put("namespaces", namespace_object(
                name, managed=self.app.options.managed_fields))
        return self.answer(context, version, 201)

    def delete(self, context):
        """Marks the namespace; its streams and itself go a moment later."""
        with self.store.changed:
            version = self.find(context.name)
            if not version.obj["metadata"].get("deletionTimestamp"):
                version = self.terminate(version)
        if context.resource == "namespaces":
            return self.answer(context, version)
        return self.app.document(context, encode(
            {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}))

    def terminate(self, version):
        obj = imagestream.with_meta(version.obj, deletionTimestamp=now())
        obj["status"] = {"phase": "Terminating"}
        marked = self.store.put("namespaces", obj)
        self.app.later(self.deletion_delay, self.finish, version.name, marked.obj["metadata"]["uid"])
        return marked

    def finish(self, name, uid=None):
        """What the namespace controller does: empty the namespace, then remove it; none of that name but it."""
        with self.store.changed:
            there = self.collection.get("", name)
            meta = there.obj["metadata"] if there else {}
            if uid and (meta.get("uid") != uid or "deletionTimestamp" not in meta):
                return
            for version in self.store["secrets"].select(name):
                self.store.delete("secrets", name, version.name)
            for version in self.store["imagestreams"].select(name):
                self.app.streams.remove(version)
            if self.store["imagestreams"].select(name):
                self.app.later(self.deletion_delay, self.finish, name, uid)
                return
            if there is not None:
                self.store.delete("namespaces", "", name)
            self.app.auth.drop_namespace(name)
        self.store.notify()


class ProjectWatch:
    """A watch of the projects that one user may see."""

    def __init__(self, projects, context):
        self.projects = projects
        self.store = projects.store
        self.collection = projects.collection
        self.user = context.user
        self.view = context.view
        self.path = context.request.path
        self.query = context.request.raw_query
        seconds = lists.parse_int(context.request, "timeoutSeconds")
        self.deadline = time.monotonic() + (seconds or random.uniform(1800, 3600))
        self.initial = context.request.param("resourceVersion") == "0"
        self.silent = False
        self.connection = None

    def run(self, connection):
        self.connection = connection
        watches = self.projects.app.lister.watches
        with self.store.changed:
            watches.add(self)
        try:
            self.follow()
        finally:
            with self.store.changed:
                watches.discard(self)

    def drop(self, clean=False):
        if clean:
            self.deadline = 0
        else:
            self.connection.hang_up()
        self.store.notify()

    def follow(self):
        with self.store.changed:
            index = self.collection.next_index()
            sent = {} if self.initial else self.projects.visible(self.user)
        while True:
            index = self.send_changes(index, sent)
            with self.store.changed:
                if self.collection.next_index() == index:
                    self.store.changed.wait(min(lists.HEARTBEAT,
                                                max(0, self.deadline - time.monotonic())))
            if time.monotonic() >= self.deadline:
                return
            if self.connection.client_gone():
                raise Disconnected

    def send_changes(self, index, sent):
        """Sends what changed in the namespaces, then what changed in the user's rights."""
        with self.store.changed:
            events = self.collection.since(index) or ()
            index = self.collection.next_index()
            seen = self.projects.visible(self.user)
        for event in events:
            if event.type != "DELETED" and event.version.name in seen:
                self.show(event.version, sent)
        for name in sorted(seen):
            self.show(seen[name], sent)
        for name in sorted(sent.keys() - seen.keys()):
            del sent[name]
            gone = {"metadata": {"name": name}, "spec": {}, "status": {}}
            self.send("DELETED", self.view.head + encode(gone)[1:])
        return index

    def show(self, version, sent):
        old = sent.get(version.name)
        if old is not None and old.rv >= version.rv:
            return
        sent[version.name] = version
        new = old is None or old.uid != version.uid
        self.send("ADDED" if new else "MODIFIED", version.document(self.view))

    def send(self, kind, document):
        if self.silent:
            return
        line = event_line(kind, document)
        if self.projects.app.options.cut_in_event(self.path, self.query):
            self.connection.send_chunk(line[:len(line) // 2])
            raise Disconnected
        self.connection.send_chunk(line)
