"""Routes: from a request to the function that answers it."""

import threading
import traceback

import bodies
import discovery
import errors
import imagestream
import lists
import openapi
import render
import reviews
import writeoptions
from control import Control
from imports import ImportController, Imports
from images import Images
from projects import Projects
from restarts import Restarts
from server import FLOW, Response
from store import encode, new_uid, now
from streams import APPLY, Streams
from tags import ImageTags, StreamTags

# Groups that the aggregated server answers for; the rest is the core server itself.
AGGREGATED = ("image.openshift.io", "project.openshift.io", "user.openshift.io",
              "authorization.openshift.io")
ITEM_VERBS = {"get", "update", "patch", "delete", "watch"}
COLLECTION_VERBS = {"list", "create", "deletecollection", "watch"}
# Of these the real server reads the parameters of a GET, such as they are.
ONE_BY_ONE = ("imagestreams", "imagestreamtags", "imagetags", "imagestreamimages")
GET_VERBS = {"GET": "get", "PUT": "update", "PATCH": "patch", "DELETE": "delete", "POST": "create",
             "HEAD": "get"}


class Context:
    """A request to a resource, taken apart."""

    def __init__(self, request, user, group, api_version, view):
        self.request = request
        self.user = user
        self.group = group
        self.api_version = api_version
        self.view = view
        self.namespace = ""
        self.resource = ""
        self.name = ""
        self.subresource = ""
        self.watch = False
        self.legacy_watch = False
        self.verb = ""

    def manager(self):
        """The field manager: the parameter, or the first word of the User-Agent."""
        given = self.request.param("fieldManager")
        agent = self.request.headers.get("user-agent", "").split("/")[0]
        return given or agent or "unknown"


class App:
    def __init__(self, store, auth, options, deletion_delay=0.5, importer=None):
        self.store = store
        self.auth = auth
        self.options = options
        self.lister = lists.Lister(store, options)
        self.images = Images(store)
        self.kinds = {
            "imagestreams": lists.Kind(
                "imagestreams", imagestream.GROUP, "ImageStream", render.STREAM_COLUMNS,
                render.stream_cells, {
                    "spec.dockerImageRepository":
                        lambda obj: obj["spec"].get("dockerImageRepository", ""),
                    "status.dockerImageRepository":
                        lambda obj: obj["status"]["dockerImageRepository"]},
                {"spec": {"lookupPolicy": {"local": False}},
                 "status": {"dockerImageRepository": ""}}),
            "images": lists.Kind("images", imagestream.GROUP, "Image", render.IMAGE_COLUMNS,
                                 render.image_cells),
            "namespaces": lists.Kind("namespaces", "", "Namespace", render.NAMESPACE_COLUMNS,
                                     render.namespace_cells,
                                     {"status.phase": lambda obj: obj["status"]["phase"]}),
            "projects": lists.Kind("projects", "project.openshift.io", "Project",
                                   render.PROJECT_COLUMNS, render.project_cells),
            "secrets": lists.Kind("secrets", "", "Secret", [render.NAME_COLUMN],
                                  lambda obj: [obj["metadata"]["name"]]),
        }
        self.views = {}
        self.discovery = discovery.Discovery(options)
        self.openapi = openapi.OpenApi(self.discovery, options)
        self.streams = Streams(self)
        self.stream_tags = StreamTags(self)
        self.image_tags = ImageTags(self)
        self.imports = Imports(self, importer)
        self.import_controller = ImportController(self)
        self.projects = Projects(self, deletion_delay)
        self.control = Control(self)
        self.restarts = Restarts(self)
        options.cut_in_event = self.control.take_cut

    def later(self, seconds, function, *args):
        timer = threading.Timer(seconds, function, args)
        timer.daemon = True
        timer.start()

    # From a request to an answer.

    def answer(self, request, connection, within_limit):
        if request.path.startswith("/_control/"):
            return self.control.answer(request)
        request.path = request.path.removeprefix(self.control.prefix)
        entry = self.control.record(request)
        fault = self.control.fault_for(request)
        response = None
        if fault is not None and not fault.after:
            response = self.faulty(request, connection, fault)
        if response is None:
            response = (self.restarts.answer(request, connection)
                        or self.real_answer(request, within_limit))
        if fault is not None and fault.after:
            # What the request asked for is done by now; only its answer suffers.
            response = self.faulty(request, connection, fault) or response
        entry["status"] = response.status
        return response

    def faulty(self, request, connection, fault):
        response = self.control.apply_fault(fault, connection)
        if response is not None:
            response.aggregated = (self.is_aggregated(request.path)
                                   and response.content_type == "application/json")
            response.flow = fault.spec.get("flow", FLOW)
        return response

    def real_answer(self, request, within_limit):
        aggregated = self.is_aggregated(request.path)
        try:
            user = self.auth.authenticate(request, request.certificate_user)
        except errors.StatusError as why:
            return self.error(request, why)
        try:
            if not within_limit:
                raise errors.StatusError(413, "RequestEntityTooLarge",
                                         "Request entity too large: limit is 3145728")
            response = self.route(request, user)
        except errors.StatusError as why:
            # What RBAC refuses never reaches the aggregated server.
            response = self.error(request, why)
            aggregated = aggregated and ("X-Content-Type-Options", "nosniff") not in why.headers
        except errors.TextError as why:
            return Response(why.code, why.text.encode(), "text/plain; charset=utf-8",
                            why.headers + [("X-Content-Type-Options", "nosniff")])
        except Exception:
            traceback.print_exc()
            return self.error(request, errors.StatusError(500, "InternalError",
                                                          "Internal error occurred"))
        response.aggregated = aggregated
        response.flow = FLOW
        response.close = not within_limit
        return response

    @staticmethod
    def is_aggregated(path):
        parts = path.split("/")
        return len(parts) > 3 and parts[1] == "apis" and parts[2] in AGGREGATED

    @staticmethod
    def error(request, why):
        accept = request.headers.get("accept", "")
        media = "yaml" if accept.startswith("application/yaml") else "json"
        return Response(why.code, render.document(encode(why.body()), request, media),
                        "application/" + media, why.headers)

    def document(self, context, data, status=200, headers=()):
        """A document that is neither listed nor watched."""
        accept = render.negotiate(context.request.headers.get("accept"), ())
        return Response(status, render.document(data, context.request, accept.media),
                        accept.content_type, headers)

    def route(self, request, user):
        context, legacy = self.addressed(request, user)
        if context is None:
            self.auth.check_path(user, GET_VERBS.get(request.method, request.method.lower()),
                                 request.path)
            return self.plain_path(request, user)
        self.auth.check(*self.asked_of(context))
        return self.dispatch(context, legacy)

    def addressed(self, request, user):
        """(the Context of a request to a resource, whether below /oapi); None: another path."""
        parts = request.path.split("/")[1:]
        clean = parts[:-1] if parts[-1] == "" else parts
        if "" in clean or "." in clean or ".." in clean:
            raise errors.no_such_path()
        if clean[:1] == ["apis"] and len(clean) > 3 and clean[2] == "v1":
            return self.resource(request, user, clean[1], clean[1] + "/v1", clean[3:]), False
        if clean[:2] == ["api", "v1"] and len(clean) > 2:
            return self.resource(request, user, "", "v1", clean[2:]), False
        if clean[:2] == ["oapi", "v1"] and len(clean) > 2 and self.options.oapi:
            return self.resource(request, user, "", "v1", clean[2:]), True
        return None, False

    def refusal(self, request, user):
        """What somebody gets who may do nothing at all."""
        context, _ = self.addressed(request, user)
        if context is not None:
            return self.auth.forbidden(*self.asked_of(context))
        return self.auth.forbidden_path(
            user, GET_VERBS.get(request.method, request.method.lower()), request.path)

    def plain_path(self, request, user):
        path = request.path
        if path in ("/healthz", "/livez", "/readyz"):
            text = discovery.health(path, "verbose" in request.query)
            return Response(200, text.encode(), "text/plain; charset=utf-8",
                            [("X-Content-Type-Options", "nosniff")])
        accept = request.headers.get("accept", "")
        if path.startswith("/openapi/"):
            data, content_type = self.openapi.answer(path, accept)
            if content_type != "application/json":
                return Response(200, data, content_type)
        elif path.startswith("/version"):
            data, content_type = discovery.version(path, self.options.flavor), "application/json"
        else:
            found = self.discovery.answer(path, accept, not self.options.oapi)
            if found is None:
                raise errors.no_such_path()
            data, content_type = encode(found), "application/json"
            if found["kind"] == "APIGroupDiscoveryList":
                version = found["apiVersion"].partition("/")[2]
                content_type += ";g=apidiscovery.k8s.io;v=%s;as=APIGroupDiscoveryList" % version
                return Response(200, data, content_type, [("Vary", "Accept"),
                                                          ("Cache-Control", "public")])
        return Response(200, render.document(data, request, "json"), content_type)

    def resource(self, request, user, group, api_version, parts):
        context = Context(request, user, group, api_version, None)
        if parts[0] == "watch":
            context.watch = context.legacy_watch = True
            parts = parts[1:]
        if len(parts) > 2 and parts[0] == "namespaces" and not (
                len(parts) == 3 and parts[2] in ("status", "finalize")):
            context.namespace = parts[1]
            parts = parts[2:]
        if not parts:
            raise errors.no_such_path()
        context.resource = parts[0]
        context.name = parts[1] if len(parts) > 1 else ""
        context.subresource = "/".join(parts[2:])
        context.watch = context.watch or (
            request.method == "GET" and not context.name and request.flag("watch"))
        context.verb = self.verb_of(context)
        return context

    @staticmethod
    def verb_of(context):
        method = context.request.method
        if method in ("GET", "HEAD"):
            if context.watch:
                return "watch"
            return "get" if context.name else "list"
        if method == "DELETE" and not context.name:
            return "deletecollection"
        return GET_VERBS.get(method, method.lower())

    @staticmethod
    def asked_of(context):
        """What Auth.check wants to know."""
        namespace = context.namespace
        if context.resource in ("projects", "namespaces") and context.name:
            namespace = context.name
        name = context.name
        if not name and context.verb in ("list", "watch"):
            name = lists.only_name(context.request)
        return (context.user, context.verb, context.group, context.resource,
                context.subresource, namespace, name)

    def view(self, kind, context):
        key = (kind, context.api_version)
        if key not in self.views:
            if self.options.self_links:
                self.views[key] = render.self_linked(kind, context.api_version, context.resource)
            else:
                self.views[key] = render.View(kind, context.api_version)
        return self.views[key]

    def dispatch(self, context, legacy):
        """Looks the resource up in discovery's table and calls the method for the verb."""
        full = context.resource + ("/" + context.subresource if context.subresource else "")
        known = self.discovery.find(context.group, full)
        if legacy:
            known = next((one for one in self.discovery.legacy if one["name"] == full), None)
        if known is None or (known["namespaced"] is False and context.namespace):
            raise errors.no_such_path()
        context.view = self.view(known["kind"], context)
        if not context.subresource:
            context.view = self.view(self.object_kind(context.resource, known["kind"]), context)
        if not set(known["verbs"]) & (ITEM_VERBS if context.name else COLLECTION_VERBS):
            raise errors.no_such_path()
        method = context.request.method
        if known["namespaced"] and not context.namespace and not self.anywhere(context):
            raise errors.no_such_path() if context.name else errors.method_not_allowed()
        collection_method = not context.name
        if method in ("HEAD", "OPTIONS") or (collection_method and method in ("PUT", "PATCH")) or (
                not collection_method and method == "POST"):
            raise errors.method_not_allowed()
        if context.verb == "watch" and "watch" not in known["verbs"]:
            raise errors.StatusError(405, "MethodNotAllowed", (
                'watch is not supported on resources of kind "%s"' % errors.qualified(
                    context.resource, context.group)),
                errors.details(context.resource, context.group))
        if context.verb not in known["verbs"]:
            raise errors.method_not_allowed()
        writeoptions.check(context.request, context.verb, self.options, (
            bodies.media_type(context.request) == APPLY and self.options.apply))
        if context.verb == "get":
            self.check_read(context)
        return getattr(self, "on_" + context.resource)(context)

    def check_read(self, context):
        """The parameters of a GET of one object of the image group."""
        request = context.request
        if context.resource not in ONE_BY_ONE or context.subresource == "secrets":
            return
        if not self.options.export and request.flag("export"):
            raise errors.bad_request("the export parameter, deprecated since v1.14, is no longer "
                                     "supported")
        given = request.param("resourceVersion")
        if given and given != "0" and context.resource != "imagestreamimages":
            self.lister.wait_for(lists.parse_version(given), 0)

    @staticmethod
    def object_kind(resource, kind):
        return {"projectrequests": "Project"}.get(resource, kind)

    def anywhere(self, context):
        """Whether a namespaced resource may be addressed without a namespace."""
        if context.verb in ("list", "watch") and not context.name:
            return True
        if context.watch:
            return False
        return context.verb == "create" and self.options.post_anywhere

    # One method a resource.

    def on_imagestreams(self, context):
        streams = self.streams
        if context.subresource == "secrets":
            return streams.secrets(context)
        if context.subresource == "layers":
            return streams.layers(context)
        if context.verb in ("list", "watch"):
            return self.read_collection(context, "imagestreams")
        return {"get": streams.get, "create": streams.create, "update": streams.replace,
                "patch": streams.patch, "delete": streams.delete,
                "deletecollection": streams.delete_collection}[context.verb](context)

    def read_collection(self, context, resource):
        kind, collection = self.kinds[resource], self.store[resource]
        namespace = context.namespace
        if context.verb == "watch":
            return self.lister.watch(context.request, collection, namespace, kind, context.view,
                                     context.name)
        return self.lister.list(context.request, collection, namespace, kind, context.view)

    def on_imagestreamtags(self, context):
        return self.stream_tags.answer(context)

    def on_imagetags(self, context):
        return self.image_tags.answer(context)

    def on_imagestreamimages(self, context):
        return self.stream_tags.stream_image(context)

    def on_imagestreammappings(self, context):
        return self.imports.mapping(context)

    def on_imagestreamimports(self, context):
        return self.imports.create(context)

    def on_images(self, context):
        if context.verb in ("list", "watch"):
            return self.read_collection(context, "images")
        if context.verb == "create":
            value = bodies.parse(context.request, "Image")
            image = {key: one for key, one in value.items() if key not in ("kind", "apiVersion")}
            self.images.keep(image)
            context.name = image["metadata"]["name"]
            return self.stored(context, "images", 201)
        if context.verb == "get":
            return self.stored(context, "images")
        if context.verb == "delete":
            return self.delete_stored(context, "images")
        raise errors.method_not_allowed()

    def stored(self, context, resource, status=200):
        namespace = "" if resource == "images" else context.namespace
        version = self.store[resource].get(namespace, context.name)
        if version is None:
            raise errors.not_found(context.resource, context.group, context.name)
        return self.document(context, version.document(context.view), status)

    def delete_stored(self, context, resource):
        namespace = "" if resource == "images" else context.namespace
        with self.store.changed:
            version = self.store[resource].get(namespace, context.name)
            if version is None:
                raise errors.not_found(context.resource, context.group, context.name)
            self.store.delete(resource, namespace, context.name)
        details = errors.details(context.resource, context.group, context.name)
        details["uid"] = version.uid
        return self.document(context, encode({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
            "details": details}))

    def on_secrets(self, context):
        """Just enough for the secrets subresource to have something to show."""
        if context.verb in ("list", "watch"):
            return self.read_collection(context, "secrets")
        if context.verb == "get":
            return self.stored(context, "secrets")
        if context.verb == "delete":
            return self.delete_stored(context, "secrets")
        if context.verb != "create":
            raise errors.method_not_allowed()
        value = bodies.parse(context.request, "Secret")
        given = value.get("metadata") or {}
        meta = {"name": given.get("name", ""), "namespace": context.namespace, "uid": new_uid(),
                "resourceVersion": "0", "creationTimestamp": now()}
        for key in ("labels", "annotations"):
            if given.get(key):
                meta[key] = given[key]
        data = value.get("data") or {}
        kind = value.get("type", "Opaque")
        if self.options.managed_fields:
            owned = {"f:type": {}}
            if data:
                owned = {"f:data": {".": {}, **{"f:" + key: {} for key in sorted(data)}}, **owned}
            meta["managedFields"] = [{
                "manager": context.manager(), "operation": "Update", "apiVersion": "v1",
                "time": now(), "fieldsType": "FieldsV1", "fieldsV1": owned}]
        with self.store.changed:
            if self.store["secrets"].get(context.namespace, meta["name"]) is not None:
                raise errors.already_exists("secrets", "", meta["name"])
            self.store.put("secrets", {"metadata": meta, "data": data, "type": kind})
        context.name = meta["name"]
        return self.stored(context, "secrets", 201)

    def on_namespaces(self, context):
        if context.verb in ("list", "watch"):
            return self.read_collection(context, "namespaces")
        return {"get": self.projects.get, "create": self.projects.create_namespace,
                "delete": self.projects.delete}.get(context.verb, self.unsupported)(context)

    def on_projects(self, context):
        return {"list": self.projects.list, "watch": self.projects.watch,
                "get": self.projects.get, "create": self.projects.create_namespace,
                "delete": self.projects.delete}.get(context.verb, self.unsupported)(context)

    @staticmethod
    def unsupported(context):
        raise errors.method_not_allowed()

    def on_projectrequests(self, context):
        if context.verb == "list":
            return self.document(context, encode({
                "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}))
        return self.projects.request(context)

    def on_users(self, context):
        if context.name != "~":
            raise errors.not_found("users", context.group, context.name)
        return self.document(context, encode(reviews.whoami(context.user, context.api_version)))

    def on_selfsubjectreviews(self, context):
        return self.document(context, encode(reviews.self_subject(context.user)), 201)

    def on_selfsubjectaccessreviews(self, context):
        value = bodies.parse(context.request, "SelfSubjectAccessReview")
        manager = context.manager() if self.options.managed_fields else ""
        return self.document(context, encode(
            reviews.self_access(self.auth, context.user, value, manager)), 201)

    def on_selfsubjectrulesreviews(self, context):
        value = bodies.parse(context.request, "SelfSubjectRulesReview")
        if context.group == "authorization.k8s.io":
            found = reviews.self_rules(self.auth, context.user, value)
        else:
            found = reviews.openshift_rules(self.auth, context.user, context.namespace, value,
                                            context.api_version)
        return self.document(context, encode(found), 201)
