"""Servers that go away and come back: what a real cluster answers meanwhile, phase by phase.

The texts, the order and the durations (in seconds) are those that were recorded; `factor` makes a
whole timeline longer or shorter. README.md has the styles.
"""

import itertools
import threading
import time

import errors
from auth import ANONYMOUS, User
from server import FLOW, Disconnected, Response
from store import encode

# The groups behind the aggregation layer that openshift-apiserver itself serves.
AGGREGATED = ("image.openshift.io", "project.openshift.io", "authorization.openshift.io")
REVIEWS = ("authorization.k8s.io", "authentication.k8s.io")
BACKEND = "10.0.0.5:8443"
REFUSED, WRITE, CLOSED, READ = ("error trying to reach service: %s\n" % why for why in (
    "dial tcp %s: connect: connection refused" % BACKEND,
    "write tcp 10.0.0.1:40000->%s: write: connection reset by peer" % BACKEND,
    "http2: client connection force closed via ClientConn.Close",
    "read tcp 10.0.0.1:40000->%s: read: connection reset by peer" % BACKEND))
KILLED = (REFUSED, WRITE, CLOSED, REFUSED, REFUSED, READ)  # one after the other
UNAVAILABLE = "service unavailable\n"
ROLES = """
    system:openshift:public-info-viewer system:discovery system:build-strategy-source
    system:build-strategy-jenkinspipeline system:build-strategy-docker system:openshift:discovery
    basic-user system:public-info-viewer system:webhook system:basic-user self-access-reviewer
    system:scope-impersonation self-provisioner cluster-status system:oauth-token-deleter edit
""".split()
NO_ROLES = ": RBAC: [%s]" % ", ".join(
    'clusterrole.rbac.authorization.k8s.io "%s" not found' % name for name in ROLES)
# The checks of /readyz while kube-apiserver starts; ! marks those that fail.
CHECKS = """
    ping log api-openshift-apiserver-available api-openshift-oauth-apiserver-available
    informer-sync poststarthook/openshift.io-startkubeinformers
    poststarthook/openshift.io-openshift-apiserver-reachable
    poststarthook/openshift.io-oauth-apiserver-reachable
    poststarthook/start-apiserver-admission-initializer
    poststarthook/generic-apiserver-start-informers
    poststarthook/priority-and-fairness-config-consumer poststarthook/priority-and-fairness-filter
    poststarthook/storage-object-count-tracker-hook poststarthook/start-apiextensions-informers
    poststarthook/start-apiextensions-controllers! poststarthook/crd-informer-synced!
    poststarthook/start-system-namespaces-controller
    poststarthook/peer-endpoint-reconciler-controller
    poststarthook/start-cluster-authentication-info-controller
    poststarthook/start-kube-apiserver-identity-lease-controller!
    poststarthook/start-kube-apiserver-identity-lease-garbage-collector
    poststarthook/storage-readiness poststarthook/start-legacy-token-tracking-controller
    poststarthook/start-service-ip-repair-controllers! poststarthook/rbac/bootstrap-roles!
    poststarthook/scheduling/bootstrap-system-priority-classes!
    poststarthook/priority-and-fairness-config-producer! poststarthook/bootstrap-controller!
    poststarthook/start-kubernetes-service-cidr-controller!
    poststarthook/aggregator-reload-proxy-client-cert
    poststarthook/start-kube-aggregator-informers
    poststarthook/apiservice-status-local-available-controller
    poststarthook/apiservice-status-remote-available-controller
    poststarthook/apiservice-registration-controller! poststarthook/apiservice-wait-for-first-sync
    poststarthook/apiservice-discovery-controller! poststarthook/kube-apiserver-autoregistration
    autoregister-completion poststarthook/apiservice-openapi-controller
    poststarthook/apiservice-openapiv3-controller shutdown
""".split()
READYZ = "".join(
    "[-]%s failed: reason withheld\n" % name[:-1] if name.endswith("!") else "[+]%s ok\n" % name
    for name in CHECKS) + "readyz check failed\n"
HOLD = object()  # as an answer: the request hangs until the next phase says more


class Phase:
    """answer(request, user) gives a Response, HOLD, or None: as if nothing were wrong."""

    def __init__(self, name, until, answer, enter=None, leave=None):
        self.name = name
        self.until = until
        self.answer = answer
        self.enter = enter or (lambda: None)
        self.leave = leave or (lambda: None)
        self.following = None


class Restarts:
    """One disaster at a time. Its lock is a leaf."""

    def __init__(self, app):
        self.app = app
        self.changed = threading.Condition()
        self.style = None
        self.phase = None
        self.stop = None  # the name of the phase that lasts until the control call to go on
        self.going = threading.Event()
        self.done = 0

    # What the control calls want.

    def begin(self, style, value):
        styles = {"aggregated": self.aggregated, "main": self.main, "etcd": self.etcd,
                  "rollback": self.rollback}
        if style not in styles:
            raise ValueError("no such style")
        phases = styles[style](value)
        for phase, following in zip(phases, phases[1:]):
            phase.following = following
        factor = value.get("factor", 1)
        with self.changed:
            if self.style is not None:
                raise ValueError("a restart is going on: " + self.style)
            self.style, self.stop = style, value.get("stop")
        self.going.clear()
        threading.Thread(target=self.run, args=(phases, factor), daemon=True).start()
        return {"seconds": phases[-1].until * factor}

    def go_on(self):
        """Ends the phase that a restart stopped in."""
        self.going.set()
        return {}

    def state(self):
        with self.changed:
            return {"over": self.style is None, "style": self.style or "", "done": self.done,
                    "phase": self.phase.name if self.phase else ""}

    def run(self, phases, factor):
        # A moment later, so that the answer to the control call still gets out.
        time.sleep(0.05)
        begin = time.monotonic()
        for phase in phases:
            self.show(phase)
            phase.enter()
            time.sleep(max(0, begin + phase.until * factor - time.monotonic()))
            if phase.name == self.stop:
                self.going.wait()
                begin = time.monotonic() - phase.until * factor
            phase.leave()
        with self.changed:
            self.style = None
            self.done += 1
        self.show(None)
        self.app.store.notify()

    def show(self, phase):
        with self.changed:
            self.phase = phase
            self.changed.notify_all()

    # What every request goes through.

    def answer(self, request, connection):
        """The answer of a server that isn't whole; None: the usual one."""
        begin = time.monotonic()
        with self.changed:
            phase = self.phase
        while phase is not None:
            try:
                user = self.app.auth.authenticate(request, request.certificate_user)
                found = phase.answer(request, user)
            except errors.StatusError:
                # A wrong token or path is told by whoever answers when all is well.
                return None
            if found is not HOLD:
                return found
            if not self.hold(phase, connection, begin + self.patience(request)):
                return self.too_late(request)
            # However short it is, and however late this thread wakes.
            phase = phase.following
        return None

    def hold(self, phase, connection, deadline):
        """Waits for the end of the phase; False when the deadline is over before."""
        while True:
            with self.changed:
                if self.phase is phase:
                    self.changed.wait(0.2)
                if self.phase is not phase:
                    return True
            if connection.client_gone():
                raise Disconnected
            if time.monotonic() > deadline:
                return False

    @staticmethod
    def patience(request):
        """How long a server waits for etcd."""
        return 60 if request.method == "GET" else 34

    def too_late(self, request):
        if request.method == "GET":
            return Response(504, encode(errors.StatusError(504, "Timeout", (
                "Timeout: request did not complete within the allotted timeout"), {}).body()),
                "text/plain; charset=utf-8")
        return self.status(request, errors.StatusError(504, "Timeout", (
            "Timeout: request did not complete within requested timeout - context deadline "
            "exceeded"), {}), True)

    # Kinds of requests.

    @staticmethod
    def group(request):
        """"image.openshift.io" of /apis/image.openshift.io/v1…; "" where the core answers."""
        parts = request.path.split("/")
        if parts[1:2] == ["oapi"]:
            return AGGREGATED[0]
        return parts[2] if len(parts) > 2 and parts[1] == "apis" else ""

    def is_aggregated(self, request):
        """Whether openshift-apiserver answers; /apis/GROUP is the core server's."""
        return self.group(request) in AGGREGATED and len(request.path.strip("/").split("/")) > 2

    def is_consistent(self, request, user):
        """Whether etcd must be asked, which discovery, reviews and watch caches needn't."""
        context, _ = self.app.addressed(request, user)
        if context is None or context.verb == "watch" or context.group in REVIEWS:
            return False
        if context.resource == "users" or context.resource.startswith("selfsubject"):
            return False
        if context.verb != "list":
            return True
        if context.resource == "projects":
            return False
        return not request.param("resourceVersion") or \
            request.param("resourceVersionMatch") == "Exact"

    # Answers.

    def status(self, request, why, aggregated=False, flow=None):
        response = self.app.error(request, why)
        response.aggregated = aggregated
        response.flow = flow
        return response

    def text(self, text):
        response = Response(503, text.encode(), "text/plain; charset=utf-8",
                            [("X-Content-Type-Options", "nosniff")])
        response.flow = FLOW
        return response

    def anonymous(self, request):
        """openshift-apiserver doesn't know yet who vouches for users."""
        return self.status(request, self.app.refusal(request, User(ANONYMOUS, ())), True,
                           FLOW)

    def refused(self, request, user, suffix=""):
        """The text of a true refusal; only the empty X-Kubernetes-Pf-Flowschema-Uid tells."""
        why = self.app.refusal(request, user)
        why.message += suffix
        return self.status(request, why, False, "")

    def no_paths(self, request):
        return self.status(request, errors.StatusError(503, "ServiceUnavailable", (
            "the request has been made before all known HTTP paths have been installed, please "
            "try again"), {"retryAfterSeconds": 5}, [("Retry-After", "5")]), False, "")

    def not_ready(self):
        response = Response(500, READYZ.encode(), "text/plain; charset=utf-8",
                            [("X-Content-Type-Options", "nosniff")])
        response.flow = ""
        return response

    # What happens to connections and data.

    def end_watches(self, aggregated):
        """Open watches end as they should, with the last chunk of an answer of that length."""
        lister, store = self.app.lister, self.app.store
        with store.changed:
            ending = [watch for watch in lister.watches
                      if not aggregated or not watch.path.startswith("/api/")]
        for watch in ending:
            watch.drop(True)
        deadline = time.monotonic() + 1
        with store.changed:
            while lister.watches.intersection(ending) and time.monotonic() < deadline:
                store.changed.wait(0.05)

    def lose_cache(self):
        """openshift-apiserver's watch cache begins anew, at etcd's present version."""
        self.end_watches(True)
        self.app.store.compact()

    def vanish(self, seconds):
        self.end_watches(False)
        self.app.control.server.go_away(seconds)

    def see_no_projects(self):
        self.app.projects.blind = True

    def see_projects(self):
        self.app.projects.blind = False
        self.app.store.notify()

    # The styles.

    def aggregated(self, value):
        """openshift-apiserver is killed, and started at once or (noticed) after some seconds."""
        texts = itertools.cycle(KILLED)

        def broken(request, user):
            return self.text(next(texts))

        def only(answer):
            return lambda request, user: answer(request, user) if self.is_aggregated(request) \
                else None

        def images_missing(request, user):
            return None if self.group(request) == "project.openshift.io" else \
                self.text(UNAVAILABLE)

        killed = Phase("killed", 0.05, only(broken), self.lose_cache)
        if value.get("noticed"):
            return [killed,
                    Phase("unreachable", 0.65, only(lambda *_: self.text(REFUSED))),
                    Phase("unavailable", 6.85, only(lambda *_: self.text(UNAVAILABLE))),
                    Phase("projects first", 7.1, only(images_missing), self.see_no_projects),
                    Phase("no projects", 7.6, lambda *_: None, None, self.see_projects)]
        return [killed,
                Phase("unreachable", 0.25, only(lambda *_: self.text(REFUSED))),
                Phase("starting", 1.4, only(lambda *_: HOLD)),
                Phase("anonymous", 1.45, only(lambda request, _: self.anonymous(request))),
                Phase("no projects", 2.4, lambda *_: None, self.see_no_projects,
                      self.see_projects)]

    def main(self, value):
        """kube-apiserver is killed and started at once; openshift-apiserver keeps its cache."""
        def master(request, user):
            path = request.path.rstrip("/")
            if self.group(request) in AGGREGATED:
                return self.no_paths(request)
            if path == "/apis" and request.method == "GET":
                return Response(200, encode(one_group()))
            if path == "/readyz":
                return self.not_ready()
            return HOLD if self.group(request) in REVIEWS else None

        def no_rights(suffix):
            def answer(request, user):
                if self.app.auth.is_master(user):
                    return master(request, user)
                return self.refused(request, user, suffix)
            return answer

        def no_paths(request, user):
            if self.group(request) in AGGREGATED:
                return self.no_paths(request)
            return not_ready(request, user)

        def not_ready(request, user):
            return self.not_ready() if request.path.rstrip("/") == "/readyz" else None

        away = 0.3 * value.get("factor", 1)
        return [Phase("away", 0.3, lambda *_: HOLD, lambda: self.vanish(away)),
                Phase("starting", 1.15, lambda *_: HOLD),
                Phase("no rights", 1.35, no_rights("")),
                Phase("no roles", 1.42, no_rights(NO_ROLES)),
                Phase("no paths", 1.55, no_paths),
                Phase("not ready", 2.6, not_ready)]

    def etcd(self, value):
        """etcd is frozen for a while, or killed and started."""
        seconds = {"frozen": 15.2, "killed": 5.5}[value.get("kind", "frozen")]

        def frozen(request, user):
            return HOLD if self.is_consistent(request, user) else None

        return [Phase(value.get("kind", "frozen"), seconds, frozen,
                      lambda: self.freeze(True), lambda: self.freeze(False))]

    def freeze(self, on):
        self.app.lister.frozen = on
        self.app.store.notify()

    def rollback(self, value):
        """All is restored from a backup, or another cluster takes over under the same name."""
        store = self.app.store
        new_uids = {"new": True, "kept": False}[value.get("uids", "new")]
        away = 0.5 * value.get("factor", 1)

        def restore():
            self.vanish(away)
            store.restore(store.saved, new_uids)

        return [Phase("away", 0.5, lambda *_: HOLD, restore),
                Phase("starting", 1, lambda *_: HOLD)]


def one_group():
    """GET /apis before the aggregation layer has come up."""
    version = {"groupVersion": "apiregistration.k8s.io/v1", "version": "v1"}
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": [{
        "name": "apiregistration.k8s.io", "versions": [version], "preferredVersion": version}]}
