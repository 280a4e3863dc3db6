"""Streams to start with: a set like that of OpenShift 4, and generated ones of realistic size."""

import hashlib
import random
import uuid

import fields
import imagestream

START = "2026-11-02T08:00:00Z"
EXTERNAL = "registry.redhat.io"


class _Well:
    """A well-known stream of the samples operator."""

    def __init__(self, name, title, icon, kind, repository, versions, repo, about):
        self.name = name
        self.title = title
        self.icon = icon
        self.kind = kind
        self.repository = repository
        self.versions = versions
        self.repo = repo
        self.about = about


WELL_KNOWN = [
    _Well("nodejs", "Node.js", "icon-nodejs", "builder,nodejs", "ubi%s/nodejs-%s",
          ("16-ubi8", "18-minimal-ubi8", "18-ubi8", "18-ubi9", "20-minimal-ubi9", "20-ubi8",
           "20-ubi9", "22-ubi9"), "https://github.com/sclorg/nodejs-ex.git",
          "Build and run Node.js %s applications on %s."),
    _Well("python", "Python", "icon-python", "builder,python", "ubi%s/python-%s",
          ("2.7-ubi8", "3.6-ubi8", "3.8-ubi8", "3.9-ubi8", "3.9-ubi9", "3.11-ubi9", "3.12-ubi9"),
          "https://github.com/sclorg/django-ex.git",
          "Build and run Python %s applications on %s."),
    _Well("ruby", "Ruby", "icon-ruby", "builder,ruby", "ubi%s/ruby-%s",
          ("2.5-ubi8", "3.0-ubi9", "3.1-ubi9", "3.3-ubi8", "3.3-ubi9"),
          "https://github.com/sclorg/ruby-ex.git", "Build and run Ruby %s applications on %s."),
    _Well("perl", "Perl", "icon-perl", "builder,perl", "ubi%s/perl-%s",
          ("5.26-ubi8", "5.32-ubi8", "5.32-ubi9"), "https://github.com/sclorg/dancer-ex.git",
          "Build and run Perl %s applications on %s."),
    _Well("php", "PHP", "icon-php", "builder,php", "ubi%s/php-%s",
          ("7.4-ubi8", "8.0-ubi9", "8.2-ubi9", "8.3-ubi9"),
          "https://github.com/sclorg/cakephp-ex.git", "Build and run PHP %s applications on %s."),
    _Well("golang", "Go", "icon-go-gopher", "builder,golang,go", "ubi%s/go-toolset",
          ("1.18-ubi8", "1.20-ubi9", "1.22-ubi9"), "https://github.com/sclorg/golang-ex.git",
          "Build and run Go %s applications on %s."),
    _Well("httpd", "Apache HTTP Server (httpd)", "icon-apache", "builder,httpd",
          "ubi%s/httpd-24", ("2.4-el8", "2.4-ubi8", "2.4-ubi9"),
          "https://github.com/sclorg/httpd-ex.git",
          "Build and serve static content via Apache HTTP Server (httpd) %s on %s."),
    _Well("nginx", "Nginx HTTP server and a reverse proxy (nginx)", "icon-nginx",
          "builder,nginx", "ubi%s/nginx-%s", ("1.20-ubi8", "1.20-ubi9", "1.22-ubi9", "1.24-ubi9"),
          "https://github.com/sclorg/nginx-ex.git",
          "Build and serve static content via Nginx HTTP server %s on %s."),
    _Well("dotnet", ".NET", "icon-dotnet", "builder,.net,dotnet,dotnetcore", "ubi%s/dotnet-%s",
          ("6.0-ubi8", "7.0-ubi8", "8.0-ubi8", "8.0-ubi9"),
          "https://github.com/redhat-developer/s2i-dotnetcore-ex",
          "Build and run .NET %s applications on %s."),
    _Well("dotnet-runtime", ".NET Runtime", "icon-dotnet", "runtime,.net-runtime,dotnet-runtime",
          "ubi%s/dotnet-%s-runtime", ("6.0-ubi8", "8.0-ubi8"),
          "https://github.com/redhat-developer/s2i-dotnetcore-ex",
          "Run .NET %s applications on %s."),
    _Well("java", "Red Hat OpenJDK", "icon-rh-openjdk", "builder,java,openjdk",
          "ubi%s/openjdk-%s", ("openjdk-8-ubi8", "openjdk-11-ubi8", "openjdk-17-ubi8",
                               "openjdk-17-ubi9", "openjdk-21-ubi9"),
          "https://github.com/jboss-openshift/openshift-quickstarts",
          "Build and run Java applications using Maven and %s on %s."),
    _Well("postgresql", "PostgreSQL", "icon-postgresql", "database,postgresql",
          "rhel%s/postgresql-%s", ("10-el8", "12-el8", "13-el8", "13-el9", "15-el9", "16-el9"),
          "", "Provides a PostgreSQL %s database on %s."),
    _Well("mysql", "MySQL", "icon-mysql-database", "database,mysql", "rhel%s/mysql-80",
          ("8.0-el8", "8.0-el9", "8.4-el9"), "", "Provides a MySQL %s database on %s."),
    _Well("mariadb", "MariaDB", "icon-mariadb", "database,mariadb", "rhel%s/mariadb-%s",
          ("10.3-el8", "10.5-el8", "10.5-el9", "10.11-el9"), "",
          "Provides a MariaDB %s database on %s."),
    _Well("redis", "Redis", "icon-redis", "redis", "rhel%s/redis-6", ("6-el8", "6-el9", "7-el9"),
          "", "Provides a Redis %s database on %s."),
    _Well("jenkins", "Jenkins", "icon-jenkins", "jenkins", "ocp-tools-4/jenkins-rhel%s",
          ("2-el8", "scheduled-upgrade-redeploy", "user-maintained-upgrade-redeploy"), "",
          "Provides a Jenkins %s server on %s."),
    _Well("jenkins-agent-base", "Jenkins Agent", "icon-jenkins", "jenkins",
          "ocp-tools-4/jenkins-agent-base-rhel%s", ("scheduled-upgrade-redeploy",
                                                    "user-maintained-upgrade-redeploy"), "",
          "Provides a Jenkins agent %s on %s."),
    _Well("cli", "OpenShift CLI", "icon-openshift", "cli", "openshift4/ose-cli-rhel%s",
          ("4.18-el9",), "", "The OpenShift command line %s on %s."),
    _Well("must-gather", "Must-gather", "icon-openshift", "support",
          "openshift4/ose-must-gather-rhel%s", ("4.18-el9",), "", "Collects data %s on %s."),
    _Well("ubi8-openjdk-17-runtime", "Red Hat OpenJDK 17 runtime", "icon-rh-openjdk",
          "runtime,java,openjdk", "ubi%s/openjdk-17-runtime", ("1.18-ubi8", "1.20-ubi8"), "",
          "Run Java applications %s on %s."),
]
# A tag only kept for old references, as the real samples have it.
HIDDEN = ("2.7-ubi8", "3.6-ubi8", "2.5-ubi8", "16-ubi8", "5.26-ubi8", "10-el8")


def uid_of(*names):
    return str(uuid.uuid5(uuid.NAMESPACE_URL, "/".join(names)))


def digest(*names):
    return "sha256:" + hashlib.sha256("/".join(names).encode()).hexdigest()


def _later(minutes):
    return "2026-11-%02dT%02d:%02d:00Z" % (2 + minutes // 1440, minutes // 60 % 24, minutes % 60)


def stream(namespace, name, tags, history, generation=2, annotations=None, labels=None,
           managed=True, local=False, owned=None):
    """A stored stream; the store numbers it. owned: its fields, where the caller knows them."""
    meta = {"name": name, "namespace": namespace, "uid": uid_of(namespace, name),
            "resourceVersion": "0", "generation": generation, "creationTimestamp": START}
    if labels:
        meta["labels"] = dict(sorted(labels.items()))
    if annotations:
        meta["annotations"] = dict(sorted(annotations.items()))
    spec = {"lookupPolicy": {"local": local}}
    if tags:
        spec["tags"] = sorted(tags, key=lambda tag: tag["name"])
    status = {"dockerImageRepository": "%s/%s/%s" % (imagestream.REGISTRY, namespace, name)}
    if history:
        status["tags"] = sorted(history, key=lambda tag: tag["tag"])
    obj = {"metadata": meta, "spec": spec, "status": status}
    if managed:
        meta["managedFields"] = [{
            "manager": "cluster-samples-operator" if namespace == "openshift" else "kubectl",
            "operation": "Update", "apiVersion": imagestream.API_VERSION, "time": START,
            "fieldsType": "FieldsV1",
            "fieldsV1": owned or owned_fields(obj)}]
    return obj


def owned_fields(obj):
    written = {**obj, "status": {"dockerImageRepository": ""}}
    return fields.from_set(fields.compare(fields.EMPTY, written)[0])


def spec_tag(name, source=None, generation=2, annotations=None, policy="Local", **extra):
    tag = {"name": name, "annotations": annotations}
    if source:
        tag["from"] = source
    if extra.pop("reference", False):
        tag["reference"] = True
    tag["generation"] = generation
    tag["importPolicy"] = {**extra, "importMode": "Legacy"}
    tag["referencePolicy"] = {"type": policy}
    return tag


def image(name):
    return {"kind": "DockerImage", "name": name}


def alias(name):
    return {"kind": "ImageStreamTag", "name": name}


def items(repository, *names, count=1, generation=2, spread=90):
    """History of one tag, newest first."""
    out = []
    for index in range(count):
        found = digest(repository, *names, str(index))
        out.append({"created": _later(spread * (count - index)),
                    "dockerImageReference": "%s@%s" % (repository, found), "image": found,
                    "generation": generation})
    return out


def _well_known(one):
    tags, history = [], []
    for position, tag in enumerate(one.versions):
        base = tag[-1] if tag[-1].isdigit() else "8"
        version = tag.split("-")[0]
        if version == "openjdk":
            version = tag.split("-")[1]
        compact = version.replace(".", "")
        repository = one.repository % ((base, compact) if one.repository.count("%s") == 2
                                       else (base,))
        source = "%s/%s:latest" % (EXTERNAL, repository)
        platform = "RHEL %s" % base if "el" in tag else "UBI %s" % base
        shown = {
            "description": one.about % (version, platform) + (
                " For more information about using this image, including OpenShift "
                "considerations, see %s." % (one.repo or "https://catalog.redhat.com")),
            "iconClass": one.icon,
            "openshift.io/display-name": "%s %s (%s)" % (one.title, version, platform),
            "openshift.io/provider-display-name": "Red Hat, Inc.",
            "tags": one.kind + (",hidden" if tag in HIDDEN else ""),
            "version": version,
        }
        if one.repo:
            shown["sampleRepo"] = one.repo
            shown["supports"] = "%s:%s,%s" % (one.name, version, one.name)
        extra = {"scheduled": True} if tag.startswith("scheduled") else {}
        tags.append(spec_tag(tag, image(source), annotations=dict(sorted(shown.items())), **extra))
        history.append({"tag": tag, "items": items(
            "%s/%s" % (EXTERNAL, repository), one.name, tag, count=1 + position % 3)})
    newest = one.versions[-1]
    tags.append(spec_tag("latest", alias(newest), annotations={
        "iconClass": one.icon, "openshift.io/display-name": "%s (Latest)" % one.title,
        "openshift.io/provider-display-name": "Red Hat, Inc.",
        "tags": one.kind}, generation=1))
    history.append({"tag": "latest", "items": history[-1]["items"][:1]})
    return stream("openshift", one.name, tags, history, annotations={
        "openshift.io/display-name": one.title,
        "openshift.io/image.dockerRepositoryCheck": START,
        "samples.operator.openshift.io/version": "4.18.3"},
        labels={"samples.operator.openshift.io/managed": "true"})


def _pushed(namespace, name, tags, count, labels=None):
    """A stream that builds push to: its tags have no source."""
    repository = "%s/%s/%s" % (imagestream.REGISTRY, namespace, name)
    history = [{"tag": tag, "items": items(repository, tag, count=count, generation=1)}
               for tag in tags]
    return stream(namespace, name, [], history, 1, labels=labels, local=True)


def _applications():
    web = "%s/shop/web" % imagestream.REGISTRY
    out = [
        stream("shop", "web", [
            spec_tag("1.0", image("quay.io/example/web:1.0")),
            spec_tag("1.1", image("quay.io/example/web:1.1")),
            spec_tag("2.0", image("quay.io/example/web:2.0")),
            spec_tag("latest", alias("2.0"), 3),
            spec_tag("stable", alias("1.1"), 4),
        ], [{"tag": tag, "items": items("quay.io/example/web", tag, count=2)}
            for tag in ("1.0", "1.1", "2.0", "latest", "stable")], 4,
            {"openshift.io/display-name": "Shop front end"}, {"app": "shop", "tier": "web"}),
        _pushed("shop", "api", ("latest", "v1", "v2"), 3, {"app": "shop", "tier": "api"}),
        stream("shop", "worker", [
            spec_tag("latest", image("quay.io/example/worker:latest"), scheduled=True),
            spec_tag("next", image("quay.io/example/worker:next"), policy="Source"),
        ], [{"tag": "latest", "items": items("quay.io/example/worker", "latest", count=4)},
            {"tag": "next", "items": None, "conditions": [{
                "type": "ImportSuccess", "status": "False", "lastTransitionTime": _later(300),
                "reason": "NotFound", "message": "dockerimage.image.openshift.io "
                "\"quay.io/example/worker:next\" not found", "generation": 2}]}],
            2, None, {"app": "shop", "tier": "worker"}),
        stream("shop-staging", "web", [
            spec_tag("latest", {"kind": "ImageStreamTag", "namespace": "shop",
                                "name": "web:latest"})],
            [{"tag": "latest", "items": items(web, "latest")}], 2, None, {"app": "shop"}),
        _pushed("shop-staging", "api", ("latest",), 1, {"app": "shop"}),
        stream("monitoring", "grafana", [
            spec_tag("11.2.0", image("docker.io/grafana/grafana:11.2.0"), reference=True),
            spec_tag("latest", image("docker.io/grafana/grafana:latest"), insecure=True)],
            [{"tag": "11.2.0", "items": [{
                "created": _later(60), "dockerImageReference": "docker.io/grafana/grafana:11.2.0",
                "image": "", "generation": 2}]},
             {"tag": "latest", "items": items("docker.io/grafana/grafana", "latest")}]),
        stream("dev", "scratch", [], [], 1),
        _pushed("prod", "web", ("1.1",), 1, {"app": "shop"}),
    ]
    return out


def sample():
    return [_well_known(one) for one in WELL_KNOWN] + _applications()


def generated(streams, tags, namespaces, managed=False):
    """Many streams of realistic size, always the same ones."""
    dice = random.Random(7)
    words = ("api", "auth", "batch", "cart", "catalog", "front", "gateway", "mail", "orders",
             "search", "stock", "users", "web", "worker")
    out = []
    owned = None
    for number in range(streams):
        namespace = "ns-%04d" % (number % namespaces)
        name = "%s-%05d" % (words[number % len(words)], number)
        repository = "quay.example.com/team/%s" % name
        spec, history = [], []
        for index in range(tags):
            tag = "1.%d" % index if index < tags - 1 or tags == 1 else "latest"
            spec.append(spec_tag(tag, image("%s:%s" % (repository, tag)), annotations={
                "description": "Build %d of %s, made from the main branch. " % (index, name)
                + "x" * dice.randrange(40, 160),
                "iconClass": "icon-" + words[number % len(words)],
                "openshift.io/display-name": "%s %s" % (name.capitalize(), tag),
                "tags": "builder,%s" % words[number % len(words)], "version": tag}))
            found = "sha256:%064x" % dice.getrandbits(256)
            history.append({"tag": tag, "items": [{
                "created": START, "dockerImageReference": "%s@%s" % (repository, found),
                "image": found, "generation": 2}]})
        out.append(stream(namespace, name, spec, history, labels={
            "app": words[number % len(words)], "number": str(number % 10)}, managed=managed,
            owned=owned))
        if managed and owned is None:
            # All have the same fields, and working them out takes most of the time.
            owned = owned_fields(out[0])
    return out


def many_tags(count, namespace="big", name="many-tags"):
    """One stream of that many tags."""
    repository = "quay.example.com/big/" + name
    spec = [spec_tag("t%05d" % index, image("%s:t%05d" % (repository, index)))
            for index in range(count)]
    history = [{"tag": tag["name"], "items": items(repository, tag["name"])} for tag in spec]
    return stream(namespace, name, spec, history, managed=False)


def many_items(count, namespace="big", name="many-items"):
    """One tag with that many history items."""
    repository = "quay.example.com/big/" + name
    history = [{"tag": "latest", "items": items(repository, "latest", count=count, spread=1)}]
    return stream(namespace, name, [spec_tag("latest", image(repository + ":latest"))], history,
                  managed=False)


def big(size, namespace="big", name="big-stream"):
    """One stream of about that many bytes of JSON."""
    repository = "quay.example.com/big/" + name
    pad = "x" * 1000
    spec = [spec_tag("t%05d" % index, image("%s:t%05d" % (repository, index)),
                     annotations={"description": pad})
            for index in range(max(1, (size - 400) // 1235))]
    return stream(namespace, name, spec, [], managed=False)
