"""The operations: what each does to the model, and what it must answer.

A step is (operation, argument, …), all plain data. `effect` functions are generators that yield once, what the call is and
what it answers; what comes after the yield happens when the call is over and `after(...)` has the server's objects.
"""

import copy
import errno
import json
import os
import urllib.parse

import merge
from model import FAULTS, Draft, Handle, Pending, Place, Save, Scratch, Skip, Stream, fits_url
from test_contents import yaml_text

E = errno
ANY = object()
NOREPLACE, EXCHANGE = 1, 2


class Call:
    """What the driver does: `where` is a worker's number or "server"."""

    def __init__(self, where, name, *arguments, result=("ok", None), other=None):
        self.where, self.name, self.arguments, self.result, self.other = where, name, arguments, result, other


def failed(number):
    return "errno", number


def done(number=0, value=None):
    return ("errno", number) if number else ("ok", value)


def parent_of(path):
    return path.rpartition("/")[0]


def reach(m, path, worker):
    """An errno where the path's directory isn't one, for the process."""
    parent = parent_of(path)
    if m.kind_of_directory(parent, worker):
        return 0
    one = m.at(parent, worker) if m.reachable(parent, worker) else None
    return E.ENOTDIR if one and one.kind != "directory" else E.ENOENT


def standing(m, path, worker):
    return None if reach(m, path, worker) else m.at(path, worker)


def is_real(m, path):
    """Whether the name can only be a real thing's."""
    return m.kind_of_directory(parent_of(path)) in ("root", "tags") or (
        m.kind_of_directory(parent_of(path)) in ("stream", "tag") and m.real_name(path) is not None)


def is_real_directory(m, path):
    return m.kind_of_directory(parent_of(path)) in ("root", "tags") or (
        path.count("/") == 1 and path.endswith("/tags") and is_real(m, path))


def may_take_real(m, path, worker):
    """Whether a file can be made, or put, at the name of a real one: 0 or an errno."""
    if is_real_directory(m, path):
        return E.EPERM
    return 0


def is_directory(one):
    return one is not None and one.kind == "directory"


def touched(m, target):
    """MODIFY of what has a name."""
    path = path_of(m, target)
    if path is not None:
        m.modify(path)


def path_of(m, target):
    if isinstance(target, Scratch):
        return next((path for path, one in m.scratch.items() if one is target), None)
    return target.path if m.at(target.path) is target else None


# ---- reading ----


def slurp(m, worker, path):
    one = standing(m, path, worker)
    if one is None:
        yield Call(worker, "slurp", path, result=failed(reach(m, path, worker) or E.ENOENT))
        return
    if one.kind == "symlink":
        raise Skip
    if is_directory(one):
        yield Call(worker, "slurp", path, result=failed(E.EISDIR))
        return
    data = one.data if isinstance(one, Scratch) else one.bytes
    if isinstance(one, (Place, Pending)):
        m.note_base(worker, one)
    yield Call(worker, "slurp", path, result=("ok", ANY if data is None else data))


def open_file(m, worker, name, path, flags):
    if name in m.handles:
        raise Skip
    number = reach(m, path, worker) or open_errno(m, worker, path, flags)
    if number:
        yield Call(worker, "open", name, path, flags, result=failed(number))
        return
    one = m.at(path, worker)
    made = one is None
    if made:
        one = make_file(m, worker, path)
        m.event(path, "CREATE")
    access = flags & os.O_ACCMODE
    handle = Handle(name, worker, one.ino, access, bool(flags & os.O_APPEND))
    attach(m, handle, one, access != os.O_WRONLY)
    if handle.draft and (made or flags & os.O_TRUNC):
        handle.draft.load(b"")
    if flags & os.O_TRUNC and not made:
        if handle.scratch:
            write_scratch(handle.scratch, b"")
        touched(m, one)
    m.handles[name] = handle
    yield Call(worker, "open", name, path, flags)


def open_errno(m, worker, path, flags):
    one = m.at(path, worker)
    if one is None:
        if not flags & os.O_CREAT:
            return E.ENOENT
        return may_take_real(m, path, worker) if is_real(m, path) else 0
    if one.kind == "symlink":
        raise Skip
    if flags & os.O_CREAT and flags & os.O_EXCL:
        return E.EEXIST
    if is_directory(one):
        raise Skip
    return 0


def make_file(m, worker, path):
    """A new file at a name that nothing has; where that is so for its maker alone, what is there."""
    if not is_real(m, path):
        stream = m.stream_at(path)
        one = m.scratch[path] = Scratch("file", version=stream.obj if stream else None)
        served(m, path)
        return one
    m.note_act(worker, path, "made")
    place = m.places.get(path)
    if place:
        if place.hidden is not None:
            m.show_again(place)
        return place
    if path in m.pending:
        return m.pending[path]
    kind, tag = m.real_name(path)
    one = m.pending[path] = Pending(path, kind, m.stream_at(path), tag)
    return one


def served(m, path):
    if path.count("/") == 1 and m.stream_at(path):
        m.stream_at(path).served = True


def attach(m, handle, one, reads):
    if isinstance(one, Scratch):
        handle.scratch = one
        return
    handle.opened = one.stream.obj
    handle.last = one.bytes
    if isinstance(one, Place):
        handle.place = one
        if one.kind.startswith("imagestream"):
            one.stream.served = True
    else:
        handle.pending = one
        one.open += 1
        one.until = None
    if handle.writable:
        handle.draft = Draft()
    if reads:
        m.note_base(handle.worker, one)


def handle_of(m, name):
    if name not in m.handles:
        raise Skip
    return m.handles[name]


def read(m, name, size, offset):
    handle = handle_of(m, name)
    if not handle.reads:
        raise Skip
    data = m.content(handle)
    value = ANY if data is None else data[offset:offset + size]
    yield Call(handle.worker, "read", name, size, offset, result=("ok", value))


def seek_end(m, name):
    handle = handle_of(m, name)
    written = handle.draft and handle.draft.loaded and not handle.scratch
    size = len(handle.draft.data) if written else size_of(m, handle)
    yield Call(handle.worker, "seek_end", name, result=("ok", size))


def map_file(m, name):
    handle = handle_of(m, name)
    data = m.content(handle)
    if handle.writable or not data:
        raise Skip
    yield Call(handle.worker, "map", name, len(data), result=("ok", data))


def map_shared(m, name):
    """A handle that writes has no shared mapping."""
    handle = handle_of(m, name)
    if not handle.writable or not handle.reads or size_of(m, handle) in (0, ANY) or (
            handle.draft and handle.draft.state() != "clean"):
        raise Skip  # Python maps a copy of the descriptor: closing that is a flush
    yield Call(handle.worker, "map_shared", name, 1, result=failed(E.ENODEV))


def fstat(m, name):
    handle = handle_of(m, name)
    yield Call(handle.worker, "fstat", name, result=("ok", {
        "ino": handle.ino, "nlink": links_of(m, handle), "size": size_of(m, handle)}))


def links_of(m, handle):
    if handle.scratch:
        return 1 if handle.scratch.named else 0
    if handle.pending:
        return 0 if m.is_gone(handle) else 1
    return 0 if handle.gone or handle.place.ino is not handle.ino else 1


def size_of(m, handle):
    if handle.scratch:
        return ANY if handle.scratch.data is None else len(handle.scratch.data)
    if handle.pending:
        return 0
    if handle.gone:
        return ANY if handle.writable else len(handle.last)
    return len(handle.place.bytes)


# ---- writing ----


def write_scratch(node, data):
    node.data, node.moved_from = data, None


def bytes_of(m, handle, change):
    """What is written: raw bytes, or a change of what the file shows."""
    if change[0] in TEXTS:
        return text_of(m, change)
    target = handle.target()
    place = target if isinstance(target, Place) else None
    if not place or handle.gone:
        raise Skip
    base = m.bases.get((handle.worker, place.slot()))
    version = base.version if base else place.stream.obj
    return edited(place, version, change)


def edited(place, version, change):
    value = merge.value_of(place.kind, place.tag, version)
    if value is None or place.kind in ("image", "tag from"):
        raise Skip
    try:
        made = merge.edit(value, change)
    except (KeyError, TypeError, AttributeError):
        raise Skip from None
    if place.kind == "imagestream.yaml":
        made = yaml_text(json.loads(made)).encode()
    return made


TEXTS = ("raw", "text", "older", "manifest")


def text_of(m, change):
    """What is written, whatever it is written to: bytes, the text of a file, an older one, or a manifest."""
    if change[0] == "raw":
        return change[1].replace(b"@NAMESPACE@", m.namespace.encode())
    place = m.places.get(change[1])
    if not place or place.kind == "directory":
        raise Skip
    if change[0] == "text":
        return place.bytes
    versions = place.stream.versions
    version = versions[max(0, len(versions) - change[2])][0] if change[0] == "older" else place.stream.obj
    data = m.shown_files(Stream(place.stream.name, version)).get(place.path, (None, None, None))[2]
    if data is None:
        raise Skip
    if change[0] == "manifest" and place.kind in ("imagestream.json", "metadata.json"):
        value = json.loads(data)
        merge.meta_of(value).pop("resourceVersion", None)
        data = merge.text(value)
    return data


def write_text(m, name, path, change):
    """Into a scratch file: the text of a real one, changed."""
    handle, place = handle_of(m, name), m.places.get(path)
    if not place:
        raise Skip
    base = m.bases.get((handle.worker, place.slot()))
    if change[0] in TEXTS:
        data = text_of(m, change)
    else:
        data = edited(place, base.version if base else place.stream.obj, change)
    yield from write(m, name, ("raw", data), 0)


def write(m, name, change, offset):
    handle = handle_of(m, name)
    if not handle.writable:
        raise Skip
    data = bytes_of(m, handle, change)
    target = handle.scratch or handle.target()
    if data and not handle.scratch and m.is_gone(handle):  # nothing is written without a request
        yield Call(handle.worker, "write", name, data, offset, result=failed(E.ESTALE))
        return
    put(m, handle, data, offset)
    if data:
        touched(m, target)
    yield Call(handle.worker, "write", name, data, offset, result=("ok", len(data)))


def put(m, handle, data, offset):
    if handle.scratch:
        held = handle.scratch.data
        if held is None:
            raise Skip
        offset = len(held) if handle.append else offset
        held = held.ljust(offset, b"\0")
        if data:
            write_scratch(handle.scratch, held[:offset] + data + held[offset + len(data):])
        return
    handle.draft.load(m.published(handle))
    handle.draft.write(data, len(handle.draft.data) if handle.append else offset)


def ftruncate(m, name, size):
    handle = handle_of(m, name)
    if not handle.writable:
        raise Skip
    if handle.scratch:
        if handle.scratch.data is None:
            raise Skip
        write_scratch(handle.scratch, handle.scratch.data[:size].ljust(size, b"\0"))
    else:
        handle.draft.load(b"" if size == 0 else m.published(handle))
        handle.draft.truncate(size)
    target = handle.scratch or handle.target()
    if not (handle.gone and not handle.scratch):
        touched(m, target)
    m.loose |= path_of(m, target) is None or (not handle.scratch and m.is_gone(handle))
    yield Call(handle.worker, "ftruncate", name, size)


def truncate(m, worker, path, size):
    one = standing(m, path, worker)
    if one is None or one.kind in ("symlink", "directory") or (isinstance(one, Scratch) and one.data is None):
        raise Skip
    number = 0
    if isinstance(one, Scratch):
        write_scratch(one, one.data[:size].ljust(size, b"\0"))
    elif size not in (0, len(one.bytes)):
        number = E.EINVAL
    elif size == 0:
        truncate_opened(m, worker, one)
    if not number:
        touched(m, one)
    yield Call(worker, "truncate", path, size, result=done(number))


def truncate_opened(m, worker, one):
    """The kernel asks the same for open(O_TRUNC): it is for the newest writing handle of the thread."""
    mine = [handle for handle in m.handles.values()
            if handle.ino is one.ino and handle.worker == worker and handle.draft and not handle.scratch]
    if mine and not mine[-1].draft.loaded:
        mine[-1].draft.load(b"")


def begin_save(m, path, kind, tag, worker, data):
    save = Save(path, kind, tag, path.split("/")[0], data)
    save.worker = worker
    stream = m.streams.get(save.stream)
    save.slot = (stream.uid if stream else None, kind, tag)
    return save


def save_of_handle(m, handle, caller):
    target = handle.target()
    save = begin_save(m, target.path, target.kind, target.tag, caller, handle.draft.data)
    save.opener, save.opened, save.saved = handle.worker, handle.opened, handle.saved
    save.uid = handle.opened["metadata"]["uid"]
    save.slot = target.slot()
    save.stale = is_stale(m, handle)
    return save


def is_stale(m, handle):
    """Whether another inode has taken the place, or the place is another one by now."""
    if handle.pending:
        return m.pending.get(handle.pending.path) is not handle.pending
    now = m.places.get(handle.place.path)
    if now is None:  # the merge says it, but where the inode wasn't the place's first
        return handle.ino is not handle.place.first
    return handle.place.ino is not handle.ino or now is not handle.place


def flush(m, handle, caller):
    """What close() of a descriptor does: (errno, what to do when the call is over)."""
    if handle.scratch or not handle.draft or handle.draft.state() == "clean":
        return 0, None
    if handle.draft.state() == "decided":
        return handle.draft.verdict, None
    if caller != handle.worker and not is_whole(m, handle):
        return 0, None
    return save_now(m, handle, caller)


def is_whole(m, handle):
    if handle.target().kind == "imagestream.yaml":
        return False
    if handle.target().kind in ("tag from", "image"):
        return handle.draft.data.find(b"\n") == len(handle.draft.data) - 1
    try:
        return isinstance(json.loads(handle.draft.data.decode()), (dict, list))
    except ValueError:
        return False


def save_now(m, handle, caller):
    save = save_of_handle(m, handle, caller)
    number = m.judge(save)
    handle.draft.decide(number)
    if number:
        m.refuse(save)
        return number, None

    def after(server):
        result = adopt_saved(m, server, save)
        if handle.pending and m.places.get(save.path):
            settle_pending(m, handle)
        handle.saved = m.accept(save, result)
    return 0, after


def settle_pending(m, handle):
    place = m.places[handle.pending.path]
    m.pending.pop(handle.pending.path, None)
    place.ino = handle.ino
    for one in m.handles.values():
        if one.ino is handle.ino:
            one.place, one.pending = place, None


def adopt_saved(m, server, save):
    """As adopt. Where the file goes by its own save (a history without items), it goes as by somebody else."""
    obj = server(save.stream)
    stays = obj is not None and m.selected(obj) and save.path in m.shown_files(Stream(save.stream, obj))
    m.lags = not stays
    return adopt(m, server, save.stream, {save.path} if stays else ())


def adopt(m, server, stream, quiet, own=True):
    """What the server has of the stream now is shown. `own`: a save of this mount made it."""
    obj = server(stream)
    old = m.streams.get(stream)
    m.take(stream, obj, old.obj if old and own else None, quiet)
    return obj


def close(m, name):
    handle = handle_of(m, name)
    number, after = flush(m, handle, handle.worker)
    del m.handles[name]
    path = path_of(m, handle.scratch or handle.target())
    if handle.writable and path:
        m.closed(path)
    elif handle.writable:
        m.loose = True
    pending = handle.pending
    if pending:
        pending.open -= 1
        pending.until = m.moment
    server = yield Call(handle.worker, "close", name, result=done(number))
    if after:
        after(server)


def dup_close(m, name):
    handle = handle_of(m, name)
    number, after = flush(m, handle, handle.worker)
    server = yield Call(handle.worker, "dup_close", name, result=done(number))
    if after:
        after(server)


def fork_exit(m, worker):
    mine = [handle for handle in m.handles.values() if handle.worker == worker and handle.draft
            and not handle.scratch and handle.draft.state() == "written"]
    if len(mine) > 1:
        raise Skip
    number, after = flush(m, mine[0], "child") if mine else (0, None)
    server = yield Call(worker, "fork_exit")
    if after:
        after(server)


def fsync(m, name):
    handle = handle_of(m, name)
    number, after = flush(m, handle, handle.worker)
    server = yield Call(handle.worker, "fsync", name,
                        result=done(E.EIO if number == E.EINVAL else number))
    if after:
        after(server)


# ---- names ----


def unlink(m, worker, path):
    one = standing(m, path, worker)
    if one is None:
        yield Call(worker, "unlink", path, result=failed(reach(m, path, worker) or E.ENOENT))
        return
    if is_directory(one):
        yield Call(worker, "unlink", path, result=failed(E.EISDIR))
        return
    if not isinstance(one, Scratch):
        m.note_act(worker, path, "removed")
    take_away(m, path, one)
    m.event(path, "DELETE")
    yield Call(worker, "unlink", path)


def take_away(m, path, one):
    if isinstance(one, Scratch):
        m.remove_scratch(path)
    elif m.is_open(one.ino):
        m.leave_place(one, False)
    elif isinstance(one, Place):
        m.hide(one)
    else:
        m.pending.pop(path)


def rename(m, worker, old, new, flags):
    number, effect = rename_verdict(m, worker, old, new, flags)
    server = yield Call(worker, "rename", old, new, flags, result=done(number))
    if effect and not number:
        m.event(old, "MOVED_FROM")
        m.event(new, "MOVED_TO")
        effect(server)


def rename_verdict(m, worker, old, new, flags):
    """The kernel's own rules first."""
    number = reach(m, old, worker) or reach(m, new, worker)
    if number:
        return number, None
    source, target = m.at(old, worker), m.at(new, worker)
    if source is None:
        return E.ENOENT, None
    if flags == EXCHANGE:
        if target is None:
            return E.ENOENT, None
        if new.startswith(old + "/"):
            return E.EINVAL, None
        if old.startswith(new + "/"):
            return E.EINVAL, None
        return (0 if old == new else E.EINVAL), None
    if flags == NOREPLACE and target is not None:
        return E.EEXIST, None
    if new.startswith(old + "/"):
        return E.EINVAL, None
    if old.startswith(new + "/"):
        return E.ENOTEMPTY, None
    if old == new:
        return 0, None
    if target is not None and is_directory(source) != is_directory(target):
        return (E.ENOTDIR if is_directory(source) else E.EISDIR), None
    return rename_asked(m, worker, old, new, source, target)


def rename_asked(m, worker, old, new, source, target):
    """What the program says."""
    if isinstance(source, Scratch):
        if not is_real(m, new):
            return rename_scratch(m, old, new, source, target)
        if is_real_directory(m, new):
            return E.EPERM, None
        if source.kind != "file":
            return (E.ENOTDIR if is_directory(source) else E.EPERM), None
        return rename_over(m, worker, old, new, source)
    if is_directory(source):
        return E.EPERM, None
    if is_real(m, new):
        return rename_real(m, worker, old, new, source)
    if is_directory(target):
        return E.EISDIR, None
    m.note_act(worker, old, "removed")

    def away(server):
        node = m.leave_place(source, True)
        m.remove_scratch(new)
        m.scratch[new] = node
    return 0, away


def rename_scratch(m, old, new, source, target):
    if is_directory(target) and any(one.startswith(new + "/") for one in m.scratch):
        return E.ENOTEMPTY, None

    def move(server):
        m.remove_scratch(new)
        for path in [path for path in m.scratch if path == old or path.startswith(old + "/")]:
            m.scratch[new + path[len(old):]] = m.scratch.pop(path)
    return 0, move


def rename_over(m, worker, old, new, source):
    place = m.places.get(new)
    if place and source.moved_from is place:
        def restore(server):
            m.scratch.pop(old)
            m.take_place(source, new)
            m.note_act(worker, new, "made")
        return 0, restore
    if source.data is None:
        raise Skip
    return put_over(m, worker, new, source.data, source.version, lambda: m.scratch.pop(old, source))


def rename_real(m, worker, old, new, source):
    """A real file's bytes are saved at the other name; then the inode moves there and here it is hidden."""
    if isinstance(source, Pending):
        return E.ENOENT, None

    def leave():
        m.note_act(worker, old, "removed")
        return m.leave_place(source, False)
    return put_over(m, worker, new, source.bytes, None, leave)


def put_over(m, worker, new, data, version, leave):
    number = may_take_real(m, new, worker)
    if number:
        return number, None
    kind, tag = m.real_name(new)
    save = begin_save(m, new, kind, tag, worker, data)
    save.opened, save.renamed = version, True
    number = m.judge(save)
    if number:
        m.refuse(save)
        return (E.EBUSY if number == E.ESTALE else number), None

    def over(server):
        old_handles = [(handle, m.published(handle)) for handle in m.handles.values()
                       if handle.place is not None and handle.place is m.places.get(new)
                       and handle.ino is handle.place.ino]
        before = m.names().keys()
        result = adopt_saved(m, server, save)
        if new.count("/") > 1:  # the rename holds the tag's directory: names wait for its end
            m.lags |= bool((m.names().keys() ^ before) - {new})
        m.accept(save, result)
        m.note_act(worker, new, "made")
        node = leave()
        node.named = new in m.places
        if not node.named:
            return
        m.take_place(node, new)
        for handle, data_before in old_handles:
            handle.last = data_before
    return 0, over


def mkdir(m, worker, path):
    number, effect = mkdir_verdict(m, worker, path)
    server = yield Call(worker, "mkdir", path, result=done(number))
    if not number:
        effect(server)
        m.event(path, "CREATE")


def mkdir_verdict(m, worker, path):
    number = reach(m, path, worker)
    parent = m.kind_of_directory(parent_of(path), worker)
    if number or m.at(path, worker):
        return number or E.EEXIST, None
    if is_directory(m.at(path)):  # absent for its maker alone
        return 0, lambda server: m.note_act(worker, path, "maker")
    if parent == "root":
        if m.selector:
            return E.EPERM, None
        m.sends += 1
        m.expected[path] = "spec.json", None, {"lookupPolicy": {"local": False}}
        return 0, lambda server: made_directory(m, worker, server, path)
    if parent == "tags":
        return make_tag(m, worker, path)
    if path.count("/") == 1 and path.endswith("/tags"):
        m.note_act(worker, path, "made")
        return 0, lambda server: m.show_again(m.places[path])
    if is_real(m, path):
        return E.EPERM, None

    def make(server):
        m.scratch[path] = Scratch("directory", mode=0o755)
        served(m, path)
    return 0, make


def made_directory(m, worker, server, path):
    adopt(m, server, path.split("/")[0], {path})
    m.note_act(worker, path, "maker")


def make_tag(m, worker, path):
    name = path.split("/")[0]
    tag = unescape(path.rpartition("/")[2])
    m.sends += 1
    status = m.fault(name, {"PATCH"})
    if status and FAULTS[status]:
        return FAULTS[status], None
    m.expected[name] = "tag spec.json", tag, {
        "name": tag, "importPolicy": {"importMode": "Legacy"}, "referencePolicy": {"type": "Source"}}
    return 0, lambda server: made_directory(m, worker, server, path)


def unescape(name):
    return "" if name == "%00" else urllib.parse.unquote(name)


def rmdir(m, worker, path):
    number, effect = rmdir_verdict(m, worker, path)
    server = yield Call(worker, "rmdir", path, result=done(number))
    if effect and not number:
        effect(server)
        m.event(path, "DELETE")


def rmdir_verdict(m, worker, path):
    one = standing(m, path, worker)
    if one is None:
        return reach(m, path, worker) or E.ENOENT, None
    if not is_directory(one):
        return E.ENOTDIR, None
    if isinstance(one, Scratch):
        full = any(name.startswith(path + "/") for name in m.scratch)
        return (E.ENOTEMPTY if full else 0), lambda server: m.remove_scratch(path)
    kind = m.kind_of_directory(path, worker)
    if is_left(m, worker, path, one, kind):
        return E.ENOTEMPTY, None
    if kind == "tags":
        m.note_act(worker, path, "removed")
        return 0, lambda server: m.hide(one)
    name = path.split("/")[0]
    m.sends += 1
    if kind == "stream":
        status = m.fault(name, {"DELETE"})
        if status and status != 503:
            return FAULTS[status] or E.EBUSY, None
        m.expected[name] = None
    else:
        number = untag_verdict(m, name, one.tag)
        if number:
            return number, None
        m.expected[name] = "tag spec.json", one.tag, None
    # The server removes a tag by itself: for imagestream.json that is somebody else's change.
    def gone(server):
        adopt(m, server, name, {path}, kind == "tag" and not fits_url(one.tag))
        m.note_act(worker, path, "removed")
    return 0, gone


def is_left(m, worker, path, one, kind):
    """Whether the process sees anything in the directory of the server's that it didn't remove."""
    obj, there = m.streams[path.split("/")[0]].obj, names_in(m, path)
    beside = any(isinstance(what, (Scratch, Pending)) for what in there.values())
    if is_bare(obj, kind, one.tag):
        return beside
    acts, below = m.acts_of(worker, path)
    if acts and acts.seen and has_push(acts.seen, obj, kind, one.tag):
        return True
    before = m.shown_files(Stream(path.split("/")[0], acts.seen)) if acts and acts.seen else None
    return any(counts(acts, below, path, name, what, before) for name, what in there.items())


def counts(acts, below, path, name, what, before):
    done = acts.names.get(f"{below}/{name}".strip("/")) if acts else None
    if isinstance(what, Scratch) or done in ("made", "maker"):
        return True
    if done == "removed" or (acts and acts.names.get(below) == "maker"):  # which is absent for its maker
        return False
    return before is None or f"{path}/{name}" in before or isinstance(what, Pending)


def is_bare(obj, kind, tag):
    """Nothing would be lost with it."""
    if kind == "stream":
        meta = obj["metadata"]
        return not any((obj["spec"].get("tags"), obj["status"].get("tags"), meta.get("labels"), meta.get("annotations")))
    spec = merge.value_of("tag from", tag, obj) or {}
    return kind == "tag" and not spec.get("from") and merge.value_of("image", tag, obj) is None


def has_push(before, now, kind, tag):
    """An image that came since, and that no import would bring again."""
    names = [tag] if kind == "tag" else [one["tag"] for one in now["status"].get("tags") or []]
    return any(is_pushed(before, now, one) for one in names)


def is_pushed(before, now, tag):
    def newest(obj):
        history = merge.value_of("tag status.json", tag, obj)
        return (history.get("items") or [None])[0] if history else None
    spec = merge.value_of("tag from", tag, now) or {}
    return newest(now) is not None and not is_imported(before, now, spec) and newest(now) != newest(before)


def is_imported(before, now, spec):
    """Whether its images come from a registry: its own, or by the tags that it follows."""
    for _ in range(16):
        source = spec.get("from") or {}
        stream, _, tag = source.get("name", "").rpartition(":")
        if source.get("kind") != "ImageStreamTag" or stream not in ("", now["metadata"]["name"]) or (
                source.get("namespace") or now["metadata"]["namespace"]) != now["metadata"]["namespace"]:
            return source.get("kind") == "DockerImage"
        spec = merge.value_of("tag from", tag, now) or merge.value_of("tag from", tag, before) or {}
    return False


def untag_verdict(m, name, tag):
    """A name that has no place in a URL is removed by patches, of the history first."""
    if fits_url(tag):
        return 0
    status = m.fault(name, {"PATCH"})
    history = merge.value_of("tag status.json", tag, m.streams[name].obj)
    return E.ENOTEMPTY if status == 403 and history else FAULTS[status] if status else 0


def symlink(m, worker, target, path):
    number = reach(m, path, worker)
    if not number and m.at(path, worker):
        number = E.EEXIST
    if not number and is_real(m, path):
        number = E.EPERM
    if not number:
        m.scratch[path] = Scratch("symlink", data=target.encode(), mode=0o777)
        served(m, path)
        m.event(path, "CREATE")
    yield Call(worker, "symlink", target, path, result=done(number))


def link(m, worker, old, new):
    source = standing(m, old, worker)
    if source is None:
        number = reach(m, old, worker) or E.ENOENT
    elif reach(m, new, worker):
        number = reach(m, new, worker)
    else:
        number = E.EEXIST if m.at(new, worker) else E.EPERM
    yield Call(worker, "link", old, new, result=failed(number))


def access(m, worker, path, mask):
    one = standing(m, path, worker)
    if one is not None and one.kind == "symlink":
        raise Skip
    answer = one is not None
    if answer and mask & os.W_OK:
        answer = not (one.kind == "image" and isinstance(one, Place))
    if answer and mask & os.X_OK:
        answer = is_directory(one) or bool(one.mode & 0o111)
    yield Call(worker, "access", path, mask, result=("ok", answer))


def chmod(m, worker, path, mode):
    one = standing(m, path, worker)
    if one is None or one.kind == "symlink":
        raise Skip
    if isinstance(one, Scratch):
        one.mode = mode
    yield Call(worker, "chmod", path, mode)


def utime(m, worker, path):
    one = standing(m, path, worker)
    if one is None or one.kind == "symlink":
        raise Skip
    yield Call(worker, "utime", path)


# ---- listings that are held ----


def names_in(m, path, worker=None):
    """Name → what stands there. What is absent for the process may be listed for it, or not."""
    prefix = path + "/" if path else ""
    return {one[len(prefix):]: what for one, what in m.names().items()
            if one.startswith(prefix) and "/" not in one[len(prefix):] and m.at(one, worker)}


def scan_begin(m, worker, listing, path):
    if not m.kind_of_directory(path, worker) or listing in m.listings:
        raise Skip
    there, own = names_in(m, path), names_in(m, path, worker)
    m.listings[listing] = {"worker": worker, "path": path, "one": m.at(path) if path else m.root,
                           "stay": own, "may": set(there), "gone": False}
    yield Call(worker, "scan_begin", listing, path)


def scan_more(m, listing):
    if listing not in m.listings:
        raise Skip
    held = m.listings[listing]
    yield Call(held["worker"], "scan_more", listing, result=("ok", ANY), other=is_gone(held))


def is_gone(held):
    """The kernel says so of a directory that was removed."""
    return failed(E.ENOENT) if held["gone"] else None


def scan_end(m, listing):
    if listing not in m.listings:
        raise Skip
    held = m.listings.pop(listing)

    def fits(names):
        names = [name for name in names if name not in (".", "..")]
        twice = {name for name in names if names.count(name) > 1}
        return not twice & held["stay"].keys() and held["stay"].keys() <= set(names) <= held["may"]
    yield Call(held["worker"], "scan_end", listing, result=("ok", fits), other=is_gone(held))


# ---- the server ----


def fault(m, stream, method, status):
    if stream not in m.streams or any(one[0] == stream for one in m.faults):
        raise Skip
    m.faults.append((stream, method, status))
    yield Call("server", "fault", stream, method, status)


def remote(m, stream, change):
    """Somebody else's change of one stream."""
    server = yield Call("server", "change", stream, change)
    m.take(stream, server(stream))


def settle(m):
    yield Call("server", "settle")


def cut(m, clean, compacted):
    """Every watch ends, and perhaps can't go on from where it was: what comes then comes by a list."""
    yield Call("server", "cut", clean, compacted)


def wait(m):
    """Till all that was hidden is back: drive.py waits before."""
    yield Call("server", "nothing")


def view(m, worker, path):
    """What the process finds by name in a directory, whatever others see."""
    if not m.kind_of_directory(path, worker) or path == "":
        raise Skip
    names = sorted({one.rpartition("/")[2] for one in (*m.places, *m.pending, *m.scratch)
                    if parent_of(one) == path})
    there = [m.at(f"{path}/{name}", worker) is not None for name in names]
    yield Call(worker, "find", path, names, result=("ok", there))


OPERATIONS = {
    "slurp": slurp, "open": open_file, "read": read, "seek_end": seek_end, "map": map_file,
    "map_shared": map_shared, "fstat": fstat, "write": write, "write_text": write_text, "ftruncate": ftruncate,
    "truncate": truncate, "close": close, "dup_close": dup_close, "fork_exit": fork_exit, "fsync": fsync,
    "unlink": unlink, "rename": rename, "mkdir": mkdir, "rmdir": rmdir, "symlink": symlink, "link": link,
    "access": access, "chmod": chmod, "utime": utime, "scan_begin": scan_begin, "scan_more": scan_more,
    "scan_end": scan_end, "fault": fault, "remote": remote, "settle": settle, "wait": wait, "cut": cut, "view": view,
}


# ---- what others do to a stream on the server ----


def digest(number):
    return f"sha256:{number:064x}"


def item(number, repository="quay.io/example/web"):
    return {"created": "2026-11-01T10:00:00Z", "image": digest(number), "generation": 1,
            "dockerImageReference": repository + "@" + digest(number)}


def new_stream(labels, tags, pushed=()):
    return {"metadata": {"labels": labels, "annotations": {"owner": "alice"}},
            "spec": {"lookupPolicy": {"local": False},
                     "tags": [merge.new_tag(tag, "quay.io/example/web:" + tag.strip("/")) for tag in tags]},
            "status": {"dockerImageRepository": "", "tags": [
                {"tag": tag, "items": [item(number + 2), item(number + 1)]}
                for number, tag in enumerate(pushed)]}}


def history_of(obj, tag, make):
    tags = obj["status"].setdefault("tags", [])
    found = [one for one in tags if one["tag"] == tag]
    if not found and make:
        found = [{"tag": tag, "items": []}]
        tags.append(found[0])
    return found[0] if found else None


def change_object(obj, change):
    """The changed object; None: it is deleted. `obj` None: there is none."""
    kind, arguments = change[0], change[1:]
    if kind == "make":
        return new_stream(*arguments) if obj is None else obj
    if obj is None or kind == "delete":
        return None
    if kind == "anew":
        return new_stream(*arguments)
    obj = copy.deepcopy(obj)
    if kind == "push":
        one = history_of(obj, arguments[0], True)
        own = [obj["status"]["dockerImageRepository"]] if arguments[1] % 2 else []
        one["items"] = [item(arguments[1], *own), *(one.get("items") or [])]
    elif kind == "forget":
        obj["status"]["tags"] = [one for one in obj["status"].get("tags") or [] if one["tag"] != arguments[0]]
    elif kind == "untag":
        for part, key in (("spec", "name"), ("status", "tag")):
            obj[part]["tags"] = [one for one in obj[part].get("tags") or [] if one[key] != arguments[0]]
    else:
        merge.EDITS[kind](obj, *arguments)
    return obj
