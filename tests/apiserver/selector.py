"""Label and field selectors."""

import re

import errors

_TOKEN = re.compile(r"\s*(?:(==|!=|=|!|,|\(|\)|<|>)|([^\s=!,()<>]+))")


class _Lexer:
    def __init__(self, text):
        self.tokens = []
        position = 0
        text = text.rstrip()
        while position < len(text):
            match = _TOKEN.match(text, position)
            self.tokens.append(match[1] or match[2])
            position = match.end()
        self.at = 0

    def peek(self):
        return self.tokens[self.at] if self.at < len(self.tokens) else ""

    def next(self):
        token = self.peek()
        self.at += 1
        return token

    def expect(self, what, *allowed):
        token = self.next()
        if token not in allowed:
            raise errors.bad_request("unable to parse requirement: found '%s', expected: %s"
                                     % (token, what))
        return token

    def identifier(self):
        token = self.next()
        if not token or token in ("==", "!=", "=", "!", ",", "(", ")", "<", ">"):
            raise errors.bad_request("unable to parse requirement: found '%s', expected: "
                                     "identifier" % token)
        return token


def parse_labels(text):
    """A predicate over a dict of labels; None for the empty selector."""
    lexer = _Lexer(text)
    if not lexer.tokens:
        return None
    requirements = [_requirement(lexer)]
    while lexer.peek():
        lexer.expect("',' or 'end of string'", ",")
        requirements.append(_requirement(lexer))
    return lambda labels: all(test(labels) for test in requirements)


def _requirement(lexer):
    if lexer.peek() == "!":
        lexer.next()
        key = lexer.identifier()
        return lambda labels: key not in labels
    key = lexer.identifier()
    if lexer.peek() in ("", ","):
        return lambda labels: key in labels
    operator = lexer.expect("in, notin, =, ==, !=, gt, lt",
                            "in", "notin", "=", "==", "!=", "<", ">")
    if operator in ("in", "notin"):
        values = _values(lexer)
        if operator == "in":
            return lambda labels: labels.get(key) in values
        return lambda labels: labels.get(key) not in values
    value = "" if lexer.peek() in ("", ",") else lexer.identifier()
    if operator in ("=", "=="):
        return lambda labels: labels.get(key) == value
    if operator == "!=":
        return lambda labels: labels.get(key) != value
    return _comparison(key, operator, value)


def _comparison(key, operator, value):
    def test(labels):
        try:
            left, right = int(labels[key]), int(value)
        except (KeyError, ValueError):
            return False
        return left > right if operator == ">" else left < right
    return test


def _values(lexer):
    lexer.expect("'('", "(")
    values = set()
    while lexer.peek() not in (")", ""):
        values.add(lexer.identifier() if lexer.peek() != "," else "")
        if lexer.peek() == ",":
            lexer.next()
    lexer.expect("',', ')' or identifier", ")")
    return values


def parse_fields(text, known):
    """[(field, operator "=" or "!=", value)]; known: the fields of the resource."""
    out = []
    for part in text.split(","):
        if not part:
            continue
        match = re.match(r"([^=!]*)(==|!=|=)(.*)\Z", part, re.S)
        if not match:
            raise errors.bad_request("invalid selector: '%s'; can't understand '%s'" % (text, part))
        field, operator, value = match.groups()
        if field not in known:
            raise errors.bad_request(
                '%s is not a known field selector: only "metadata.name", "metadata.namespace"'
                % errors.quote(field))
        out.append((field, "!=" if operator == "!=" else "=", value))
    return out


def match_fields(requirements, known):
    """A predicate over an object; None for the empty selector."""
    if not requirements:
        return None
    return lambda obj: all((known[field](obj) == value) == (operator == "=")
                           for field, operator, value in requirements)
