"""status.tags: what tags refer to, and how new items get into their histories."""

import errors
from store import now


def tags_of(obj):
    return {tag["name"]: tag for tag in obj["spec"].get("tags", ())}


def history_of(obj):
    return {tag["tag"]: tag for tag in obj["status"].get("tags", ())}


def split_source(source):
    """(stream or "", tag or image id) of an ImageStreamTag or ImageStreamImage reference."""
    separator = {"ImageStreamTag": ":", "ImageStreamImage": "@"}.get(source.get("kind"))
    if separator is None or not source.get("name"):
        raise ValueError
    parts = source["name"].split(separator)
    if len(parts) > 2 or not parts[-1]:
        raise ValueError
    return (parts[0], parts[1]) if len(parts) == 2 else ("", parts[0])


def source_item(kind, name, history, generation):
    """The history item that a reference to another tag or image stands for, or None."""
    if kind == "ImageStreamTag":
        items = history.get(name, {}).get("items")
        return {**items[0], "generation": generation} if items else None
    item = find_image(history, name)
    return {**item, "created": now(), "generation": generation}


def find_image(history, wanted):
    """The newest item whose image has that name or begins with it; ValueError otherwise."""
    found = matching_images(history, wanted)
    if len(found) > 1:
        raise ValueError(errors.conflict("imagestreamimage", errors.IMAGE_GROUP, wanted, (
            "multiple images match the prefix %s: %s" % (
                errors.quote(wanted), ", ".join(sorted(found))))).message)
    if not found:
        raise ValueError(errors.not_found(
            "imagestreamimage", errors.IMAGE_GROUP, wanted).message)
    return next(iter(found.values()))


def matching_images(history, wanted):
    """image -> item for the images whose name or digest begins with wanted."""
    found = {}
    for tag in history.values():
        for item in tag["items"] or ():
            if item["image"] and names_image(wanted, item["image"]):
                found.setdefault(item["image"], item)
    return found


def names_image(wanted, image):
    """Whether wanted is an image's name or what it or its digest begins with."""
    return image.startswith(wanted) or image.partition(":")[2].startswith(wanted)


def add_item(history, name, item):
    """Puts an item in front of a tag's history; drops the tag's conditions if it changes."""
    tag = history.get(name)
    items = tag["items"] if tag else None
    if not items:
        history[name] = {"tag": name, "items": [item]}
        return
    newest = items[0]
    same_reference = newest["dockerImageReference"] == item["dockerImageReference"]
    same_image = newest["image"] == item["image"]
    if same_reference and same_image and newest["generation"] == item["generation"]:
        return
    if same_image or same_reference:
        newest = {**newest, "image": item["image"],
                  "dockerImageReference": item["dockerImageReference"],
                  "generation": item["generation"]}
        history[name] = {"tag": name, "items": [newest] + items[1:]}
    else:
        history[name] = {"tag": name, "items": [item] + items}


def follow(stream, history, before):
    """Tags that follow a tag of the same stream get its newest item, as it is.

    before is the history that was there, None for a new stream; what hasn't changed since leads
    nobody.
    """
    for name in sorted(history):
        items = history[name]["items"]
        if items and (before is None or items[:1] != (before.get(name, {}).get("items")
                                                      or [])[:1]):
            _lead(stream, history, name)


def _lead(stream, history, source):
    for name, tag in tags_of(stream).items():
        if name != source and followed(stream, tag) == source:
            known = history.get(name)
            add_item(history, name, history[source]["items"][0])
            if history[name] is not known:
                _lead(stream, history, name)


def followed(stream, tag):
    """The tag of its own stream that a tag follows, or None."""
    source, meta = tag.get("from") or {}, stream["metadata"]
    if source.get("kind") != "ImageStreamTag":
        return None
    if (source.get("namespace") or meta["namespace"]) != meta["namespace"]:
        return None
    of, colon, name = source.get("name", "").rpartition(":")
    return name if not colon or of == meta["name"] else None
