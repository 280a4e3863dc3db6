"""Status errors, in the words of the API machinery."""

import json

IMAGE_GROUP = "image.openshift.io"


class StatusError(Exception):
    """An answer that isn't the object asked for: an HTTP code and a Status body."""

    def __init__(self, code, reason, message, details=None, headers=()):
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.details = details
        self.headers = list(headers)

    def body(self, continue_token=None):
        status = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {"continue": continue_token} if continue_token else {},
            "status": "Failure",
            "message": self.message,
        }
        if self.reason:
            status["reason"] = self.reason
        if self.details is not None:
            status["details"] = self.details
        status["code"] = self.code
        return status


class ContinueExpired(StatusError):
    """410 for a continue token, holding a fresh one for an inconsistent list."""

    def __init__(self, token):
        super().__init__(410, "Expired", (
            "The provided continue parameter is too old to display a consistent list result. "
            "You can start a new list without the continue parameter, or use the continue token "
            "in this response to retrieve the remainder of the results. Continuing with the "
            "provided token results in an inconsistent list - objects that were created, "
            "modified, or deleted between the time the first chunk was returned and now may "
            "show up in the list."))
        self.token = token

    def body(self, continue_token=None):
        return super().body(self.token)


class TextError(Exception):
    """An answer in plain text, as load balancers and the aggregation layer send it."""

    def __init__(self, code, text, headers=()):
        super().__init__(text)
        self.code = code
        self.text = text
        self.headers = list(headers)


def qualified(resource, group):
    return resource + "." + group if group else resource


def details(resource, group, name=None, causes=None):
    out = {}
    if name:
        out["name"] = name
    if group:
        out["group"] = group
    out["kind"] = resource
    if causes:
        out["causes"] = causes
    return out


def quote(text):
    """A string as Go's %q prints it (for the characters that occur in names and values)."""
    out = ['"']
    for char in text:
        code = ord(char)
        if char in '"\\':
            out.append("\\" + char)
        elif char in "\n\t\r\a\b\f\v":
            out.append({"\n": "\\n", "\t": "\\t", "\r": "\\r", "\a": "\\a",
                        "\b": "\\b", "\f": "\\f", "\v": "\\v"}[char])
        elif code < 0x20 or code == 0x7F:
            out.append("\\x%02x" % code)
        else:
            out.append(char)
    out.append('"')
    return "".join(out)


def bad_request(message):
    return StatusError(400, "BadRequest", message)


def unauthorized():
    return StatusError(401, "Unauthorized", "Unauthorized")


def no_such_path():
    return StatusError(404, "NotFound", "the server could not find the requested resource", {})


def not_found(resource, group, name):
    return StatusError(404, "NotFound", "%s %s not found" % (
        qualified(resource, group), quote(name)), details(resource, group, name))


def method_not_allowed():
    return StatusError(405, "MethodNotAllowed",
                       "the server does not allow this method on the requested resource", {})


def not_acceptable():
    return StatusError(406, "NotAcceptable", (
        "406: Not Acceptable\n\nAvailable representations: application/json, application/yaml, "
        "application/vnd.kubernetes.protobuf"), {})


def already_exists(resource, group, name, deleting=False):
    message = "%s %s already exists" % (qualified(resource, group), quote(name))
    if deleting:
        message = "object is being deleted: " + message
    return StatusError(409, "AlreadyExists", message, details(resource, group, name))


def conflict(resource, group, name, text=None):
    return StatusError(409, "Conflict", "Operation cannot be fulfilled on %s %s: %s" % (
        qualified(resource, group), quote(name), text or (
            "the object has been modified; please apply your changes to the latest version "
            "and try again")), details(resource, group, name))


def expired(message="The resourceVersion for the provided list is too old."):
    return StatusError(410, "Expired", message)


def version_too_large(wanted, current):
    return StatusError(
        504, "Timeout", "Timeout: Too large resource version: %d, current: %d" % (wanted, current),
        {"causes": [{"reason": "ResourceVersionTooLarge",
                     "message": "Too large resource version"}],
         "retryAfterSeconds": 1},
        [("Retry-After", "1")])


def bad_version(text):
    return StatusError(500, None, "resourceVersion: Invalid value: %s: strconv.ParseUint: "
                       "parsing %s: invalid syntax" % (quote(text), quote(text)))


def cause(reason, field, message):
    """One entry of details.causes; reason without the FieldValue prefix is a short form."""
    return {"reason": reason, "message": message, "field": field}


def value_invalid(field, value, text):
    if isinstance(value, bool):
        shown = "true" if value else "false"
    elif isinstance(value, str):
        shown = quote(value)
    else:
        shown = str(value)
    return cause("FieldValueInvalid", field, "Invalid value: %s: %s" % (shown, text))


def value_not_supported(field, value, supported):
    shown = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return cause("FieldValueNotSupported", field, "Unsupported value: %s: supported values: %s" % (
        shown, ", ".join(map(quote, supported))))


def value_required(field, text=""):
    return cause("FieldValueRequired", field, "Required value" + (": " + text if text else ""))


def value_forbidden(field, text):
    return cause("FieldValueForbidden", field, "Forbidden: " + text)


def value_too_long(field, limit):
    return cause("FieldValueTooLong", field, "Too long: may not be more than %d bytes" % limit)


def value_not_found(field, value):
    return cause("FieldValueNotFound", field, "Not found: " + quote(value))


def internal(text, field="[]"):
    return cause("InternalError", field, "Internal error: " + text)


def aggregate(causes):
    """The text of a list of causes, duplicates named once, as an aggregate of errors prints it."""
    texts = []
    for one in causes:
        text = "%s: %s" % (one["field"], one["message"])
        if text not in texts:
            texts.append(text)
    return texts[0] if len(texts) == 1 else "[" + ", ".join(texts) + "]"


def invalid(kind, group, name, causes):
    """422. kind is the Kind, except where the API machinery itself puts the resource there."""
    return StatusError(422, "Invalid", "%s %s is invalid: %s" % (
        qualified(kind, group), quote(name), aggregate(causes)),
        details(kind, group, name, causes))
