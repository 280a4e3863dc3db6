"""Reading request bodies: media types, JSON and YAML, kinds, unknown fields."""

import json

import yaml

import errors
import patch
import render
import schema


def media_type(request):
    return request.headers.get("content-type", "").partition(";")[0].strip()


def parse(request, kind):
    """The JSON value of a create or update body; kind is what was expected."""
    media = media_type(request) or "application/json"
    if media in ("application/yaml", "application/x-yaml"):
        try:
            value = render.parse_yaml(request.body.decode("utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError) as why:
            raise unrecognized(kind, "yaml: " + str(why).split("\n")[0], request.body)
    elif media == "application/json":
        value = parse_json(request.body, kind)
    else:
        raise errors.StatusError(415, "UnsupportedMediaType", (
            "the body of the request was in an unknown format - accepted media types include: "
            "application/json, application/yaml, application/vnd.kubernetes.protobuf"))
    if not isinstance(value, dict):
        raise unrecognized(kind, "json parse error: json: cannot unmarshal %s into Go value of "
                           "type struct { APIVersion string \"json:\\\"apiVersion,omitempty\\\"\"; "
                           "Kind string \"json:\\\"kind,omitempty\\\"\" }" % (
                               schema.go_kind(value) if value is not None else "null"),
                           request.body)
    return value


def parse_json(body, kind):
    text = body.decode("utf-8", "replace")
    try:
        return schema.parse_json(text)
    except json.JSONDecodeError as why:
        raise unrecognized(kind, "json parse error: " + patch.go_json_error(text, why), body)
    except ValueError as why:
        raise unrecognized(kind, "json parse error: " + str(why), body)


def unrecognized(kind, why, body):
    return errors.bad_request(
        "the object provided is unrecognized (must be of type %s): couldn't get version/kind; "
        "%s (%s)" % (kind, why, _summary(body)))


def _summary(body, most=30):
    if not body:
        return "<empty>"
    more = " ..." if len(body) > most else ""
    if body[:1] == b"{":
        return body[:most].decode("utf-8", "replace") + more
    return body[:most].hex() + more


def check_kind(value, kind, api_version):
    """The body's kind and apiVersion, where given, must be those of the endpoint."""
    given, version = value.get("kind") or kind, value.get("apiVersion") or api_version
    if given != kind:
        raise errors.bad_request(
            '%s in version "%s" cannot be handled as a %s: converting (v1.%s) to (image.%s): '
            'unknown conversion' % (given, version.rpartition("/")[2], kind, given, kind))
    if version != api_version:
        raise errors.bad_request(
            "the API version in the data (%s) does not match the expected API version (%s)"
            % (version, api_version))


def decoded(decode, value, kind):
    """decode(value, report) with its errors turned into 400; gives (object, report)."""
    report = schema.Report()
    try:
        return decode(value, report), report
    except schema.DecodeError as why:
        raise errors.bad_request('%s in version "v1" cannot be handled as a %s: %s' % (
            kind, kind, why))


def field_validation(request, report, options):
    """The Warning headers for unknown and duplicate fields; 400 under Strict."""
    if not options.field_validation or not report.problems:
        return []
    mode = request.param("fieldValidation") or "Warn"
    if mode == "Ignore":
        return []
    if mode == "Strict":
        raise StrictFailure("strict decoding error: " + ", ".join(report.problems))
    return [("Warning", "299 - %s" % errors.quote(text)) for text in report.problems]


def checked_fields(request, report, options, kind):
    """field_validation for the body of a POST or PUT."""
    try:
        return field_validation(request, report, options)
    except StrictFailure as why:
        raise errors.bad_request('%s in version "v1" cannot be handled as a %s: %s' % (
            kind, kind, why))


class StrictFailure(Exception):
    """Unknown or duplicate fields under fieldValidation=Strict."""
