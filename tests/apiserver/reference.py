"""Docker image references: host/namespace/name:tag@digest."""

import re

_COMPONENT = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
_HOST = r"%s(?:\.%s)*" % (_LABEL, _LABEL)
_REFERENCE = re.compile(
    r"(?P<name>(?:%s(?::[0-9]+)?/)?%s(?:/%s)*)"
    r"(?::(?P<tag>[\w][\w.-]{0,127}))?"
    r"(?:@(?P<digest>[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}))?\Z"
    % (_HOST, _COMPONENT, _COMPONENT), re.ASCII)


class Reference:
    def __init__(self, name, tag, digest):
        self.name = name
        self.tag = tag
        self.digest = digest

    def by_digest(self, digest):
        return "%s@%s" % (self.name, digest)


def parse(text):
    """Raises ValueError with the server's words."""
    if not text:
        raise ValueError("repository name must have at least one component")
    match = _REFERENCE.match(text)
    if not match:
        if _REFERENCE.match(text.lower()):
            raise ValueError("repository name must be lowercase")
        raise ValueError("invalid reference format")
    if len(match["name"]) > 255:
        raise ValueError("repository name must not be more than 255 characters")
    return Reference(match["name"], match["tag"] or "", match["digest"] or "")
