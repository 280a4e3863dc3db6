"""Editors driven through a terminal (tmux): open a file, change it, save it, answer, quit.

Keys are written as tmux names them: <Enter>, <C-x>, <M-%>; all else is typed as it stands. A step
is (keys, what the screen shows afterwards); nothing waits for time to pass.
"""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import tempfile
import time

from conftest import older, pinned

SECONDS = 30  # until an editor that doesn't answer is a failure
WIDE = ("-x", "200", "-y", "40")
COLON = "" if older("kakoune", "2022") else ":"  # behind the command that failed
REASON = r"(Invalid argument|Input/output error|Stale file handle|Device or resource busy)"


@dataclasses.dataclass(frozen=True)
class Editor:
    """How a person uses one editor, and what tools-matrix.md says of it on ext4."""

    name: str
    command: str
    replace: tuple  # steps, with {old} and {new}
    save: tuple  # steps up to the one that writes
    saved: str  # the screen after a save that the editor takes for a success,
    failed: str  # and after one that failed
    quit: str  # keys
    dirty: str  # what it says to those keys when the text isn't saved
    back: str  # keys that lead from there back to the text
    leave: tuple  # steps out, throwing the text away
    loaded: str = '"AAAA"|"XXXX"'
    clear: str = ""  # keys that take old messages off the screen
    dismiss: str = ""  # keys after a failure
    patient: bool = False  # what it shows isn't the last word until it reads keys again
    questions: tuple = ()  # (it asks whether to go on although the file changed, keys that say yes)
    reread: tuple = ()  # steps that read the file again, throwing the text away
    looks: str | None = None  # keys after which it asks by itself, before anything is saved
    left: tuple = ()  # beside the file when it has gone
    left_refused: tuple = ()  # and what a refused save adds to that, random letters as X
    says: tuple = ("", "")  # stands on the screen after a refused save, and after a conflict
    refused: str = "err,dirty/old"
    why_refused: str = ""
    conflict: str = "asked,err,dirty/theirs"
    ext4_refused: str = "err,dirty/new"  # Part 1b: fsync=EIO, else close=EINVAL, renameover=EPERM
    ext4_right: str = "ok"  # the save after that, and the one in a conflict: measured with these
    file: str = "spec.json"
    ext4_conflict: str = "asked,ok/mine"  # keys and strace's fault injection


class Terminal:
    """One program in a terminal. place: its HOME, and tmux's socket."""

    def __init__(self, place, command, directory):
        configuration = place / "tmux.conf"
        configuration.write_text("set -g remain-on-exit on\nset -s escape-time 0\n"
                                 "set -g status off\nset -g default-terminal screen\n")
        socket = tempfile.mktemp(prefix="tmux.", dir=place)
        self._tmux = ["tmux", "-S", socket, "-f", str(configuration)]
        self._environment = {"HOME": str(place), "PATH": "/usr/bin:/bin", "LANG": "C.UTF-8",
                             "SHELL": "/bin/sh", "TERM": "screen", "XDG_RUNTIME_DIR": str(place)}
        self._run("new-session", "-d", *WIDE, "-c", str(directory), "exec " + command)

    def _run(self, *arguments):
        return subprocess.run([*self._tmux, *arguments], env=self._environment, cwd="/", text=True,
                              capture_output=True, check=True).stdout

    def screen(self):
        return self._run("capture-pane", "-p").rstrip()

    def ended(self):
        return self._run("display-message", "-p", "#{pane_dead}").strip() == "1"

    def wait_until_reading(self):
        """The program waits for keys: in read() of a terminal, select() or poll()."""
        process = self._run("display-message", "-p", "#{pane_pid}").strip()

        def reading(_):
            with open(f"/proc/{process}/wchan") as file:
                return re.match("wait_woken|n_tty_read|poll_schedule_timeout|do_select|do_poll",
                                file.read())

        self.wait(reading, "end of what it does")

    def type(self, keys):
        """Named keys that stand together arrive together."""
        for names, text in re.findall(r"((?:<M-<>|<[^<> ]+>)+)|([^<]+)", keys):
            named = re.findall(r"<(M-<|[^<> ]+)>", names)
            self._run("send-keys", *(named or ["-l", text]))

    def wait(self, condition, what):
        """condition: a function of the screen. What it returned."""
        end = time.monotonic() + SECONDS
        while True:
            screen = self.screen()
            result = condition(screen)
            if result:
                return result
            assert time.monotonic() < end, f"no {what} on the screen:\n{screen}"
            time.sleep(0.03)

    def close(self):
        subprocess.run([*self._tmux, "kill-server"], env=self._environment, capture_output=True,
                       check=False)


class Session:
    """An editor with the file open."""

    def __init__(self, editor, place, path):
        self.editor = editor
        self.asked = []  # its questions about a changed file, all answered with yes
        self.said = ""  # the screen after the last save
        self.terminal = Terminal(place, editor.command + " " + path.name, path.parent)
        self._wait(editor.loaded)

    def __enter__(self):
        return self

    def __exit__(self, kind, error, _):
        if hasattr(error, "add_note"):  # from Python 3.11 on
            error.add_note(f"The screen of {self.editor.name}:\n{self.screen()}\n")
        self.terminal.close()

    def screen(self):
        return self.terminal.screen()

    def _wait(self, *patterns):
        """Which of the patterns came, with questions answered on the way."""

        def seen(screen):
            for question, answer in self.editor.questions:
                found = re.search(question, screen)
                if found:
                    self.asked.append(found[0])
                    self.terminal.type(answer)
                    self.terminal.wait(lambda now: not re.search(question, now),
                                       f"end of {found[0]!r}")
                    return None
            return next((str(n) for n, one in enumerate(patterns) if re.search(one, screen)), None)

        return int(self.terminal.wait(seen, " or ".join(map(repr, patterns))))

    def _steps(self, steps, **values):
        for keys, pattern in steps:
            for name, value in values.items():
                keys = keys.replace("{" + name + "}", value)
                pattern = pattern and pattern.replace("{" + name + "}", value)
            self.terminal.type(keys)
            if pattern:
                self._wait(pattern)

    def look(self):
        """Lets it see that the file changed, if it looks before it saves."""
        if self.editor.looks is None:
            return
        self.terminal.type(self.editor.looks)
        self.terminal.wait(lambda screen: any(re.search(question, screen)
                                              for question, _ in self.editor.questions),
                           "question about the changed file")
        self._wait("")

    def edit(self, old, new):
        self._steps(self.editor.replace, old=old, new=new)

    def save(self):
        """True if the editor takes the text for saved."""
        editor = self.editor
        self.terminal.type(editor.clear)
        self.terminal.wait(lambda screen: not re.search(f"{editor.saved}|{editor.failed}", screen),
                           "end of old messages")
        self._steps(editor.save)
        saved = self._wait(editor.failed, editor.saved) == 1
        asked = None
        while editor.patient and asked != len(self.asked):
            asked = len(self.asked)
            self.terminal.wait_until_reading()
            saved = self._wait(editor.failed, editor.saved) == 1
        self.said = self.screen()
        if not saved and editor.dismiss:
            self.terminal.type(editor.dismiss)
            self.terminal.wait(lambda screen: not re.search(editor.failed, screen),
                               "end of the failure")
        return saved

    def quit(self):
        """True if it quits; False if it asks about unsaved text (and stays)."""

        def decided(screen):
            if re.search(self.editor.dirty, screen):
                return "dirty"
            return "ended" if self.terminal.ended() else None

        self.terminal.type(self.editor.quit)
        if self.terminal.wait(decided, "end, and no question") == "ended":
            return True
        if self.editor.back:
            self.terminal.type(self.editor.back)
            self.terminal.wait(lambda screen: not re.search(self.editor.dirty, screen),
                               "end of the question")
        return False

    def reread(self):
        """False if this editor would rather be started anew."""
        self._steps(self.editor.reread)
        return bool(self.editor.reread)

    def leave(self):
        """Throws the text away."""
        self._steps(self.editor.leave)
        self.terminal.wait(lambda _: self.terminal.ended(), "end")


def _vim(name, command, **more):
    return Editor(**{
        "name": name, "command": command,
        "replace": ((":%s/{old}/{new}/<Enter>", '"{new}"'),),
        "clear": "<Enter><C-l>",
        "save": ((":w<Enter>", None),), "saved": r'"spec.json" \d+L, \d+B written',
        "failed": r"E\d+: .*(failed|error)", "says": ("E512: Close failed",) * 2,
        "dismiss": "<Enter><C-l>",
        "questions": ((r"changed since reading it!!!\s+Do you really want to write to it \(y/n\)\?"
                       r"\s*\Z", "y"),),
        "quit": "<Enter><C-l>:q<Enter>", "dirty": "E37: No write since last change",
        "back": "<Enter><C-l>", "leave": (("<Enter>:q!<Enter>", None),),
        "reread": ((":e!<Enter>", '"XXXX"'),), **more})


def _nano(name, command, **more):
    return Editor(**{
        "name": name, "command": command,
        "replace": (("<C-\\>", r"Search \(to replace\)"), ("{old}<Enter>", "Replace with"),
                    ("{new}<Enter>", "Replace this instance"), ("A", r"\[ Replaced 1 ")),
        "save": (("<C-o>", "File Name to Write.*: spec.json"), ("<Enter>", None)),
        "saved": r"\[ Wrote \d+ lines?", "failed": r"\[ (Error|Cannot) .*\]",
        "says": ("[ Error writing spec.json: Input/output error ]",
                 "[ Error writing spec.json: Stale file handle ]"),
        "questions": ((r"File on disk has changed", "y"),),
        "ext4_right": "asked,ok",
        "quit": "<C-x>", "dirty": "Save modified buffer", "back": "<C-c>",
        "leave": (("<C-x>", "Save modified buffer"), ("n", None)), **more})


def _emacs(name, command, **more):
    return Editor(**{
        "name": name, "command": command, "patient": True,
        "loaded": "(?s)(AAAA|XXXX).*\n.*(For information|recover|Note)",
        "replace": (("<M-<><M-%>", "Query replace"), ("{old}<Enter>", "with"),
                    ("{new}<Enter>", "Query replacing"), ("<!>", "Replaced 1 ")),
        "save": (("<C-x><C-s>", None),), "saved": r"\nWrote /", "failed": r"\n.*: " + REASON,
        "says": ("Write error: Invalid argument, /", ""),
        "questions": ((r"changed on disk; really edit the buffer\?", "y"),
                      (r"has changed since visited or saved\. +Save anyway\?", "yes<Enter>")),
        "quit": "<C-x><C-c>", "dirty": r"Save file .*\?", "back": "<C-g>",
        "leave": (("<C-x><C-c>", r"Save file .*\?"), ("n", "exit anyway"), ("yes<Enter>", None)),
        "conflict": "asked,ok/mine",
        "reread": (("<M-x>revert-buffer<Enter>", r"\(yes or no\)"), ("yes<Enter>", '"XXXX"')),
        **more})


def _kak(name, command, **more):
    return Editor(**{
        "name": name, "command": command,
        "replace": (("%s{old}<Enter>", '"{old}"(?s:.*) 1 sel'),
                    ("c{new}<Escape>", r"\[\+\] 1 sel")),
        "save": ((":w<Enter>", None),), "saved": r"spec.json \d+:\d+  1 sel",
        "failed": rf"'w(rite)?'{COLON} ", "dismiss": ":nop<Enter>",
        "questions": ((r"was modified externally", "n"),), "looks": "",
        "quit": ":q<Enter>", "dirty": "modified buffers remaining", "back": ":nop<Enter>",
        "leave": ((":q!<Enter>", None),), "reread": ((":e!<Enter>", '"XXXX"'),),
        "conflict": "asked,ok/mine", **more})


OLD = {"ext4_refused": "err,dirty/old"}
EDITORS = [
    _vim("vim", "vim", **OLD),
    _vim("vim bkc=yes", "vim -c 'set backupcopy=yes'", left_refused=("spec.json~",),
         conflict="asked,ok/mine", ext4_right="asked,ok", **OLD),
    _vim("vim bkc=no", "vim -c 'set backupcopy=no'", **OLD),
    _vim("vim nowritebackup", "vim -c 'set nowritebackup'"),
    _vim("vim.tiny", "vim.tiny", **OLD),
    _vim("nvim", "nvim", says=("E512: Close failed: invalid argument", "E512: Close failed: "),
         **OLD),
    _nano("nano", "nano"),
    _nano("nano -B", "nano -B", left=("spec.json~",), **OLD),
    _emacs("emacs", "emacs -nw -Q", left=("spec.json~",), ext4_right="asked,ok", **OLD),
    _emacs("emacs, no backups", "emacs -nw -Q --eval '(setq make-backup-files nil)'"),
    _emacs("emacs, precious", "emacs -nw -Q --eval '(setq file-precious-flag t)'",
           left=("spec.json~",), ext4_refused="err,clean/old", refused="err,clean/old",
           left_refused=("tmpXXXXXX",), says=("Renaming: Invalid argument, /", ""),
           why_refused="takes the text for saved after a failed rename"),
    Editor("micro", "micro",
           replace=(("<C-e>", r"\n>"), ("replaceall {old} {new}<Enter>", r"\nReplaced 1 ")),
           save=(("<C-s>", None),), saved=r"\nSaved spec.json", failed=r"\n.*spec.json: \w+",
           says=("close spec.json: invalid argument", "close spec.json: stale NFS file handle"),
           questions=((r"file on disk has changed. Reload file\?", "n"),), looks="<Up>",
           quit="<C-q>", dirty="Save changes to spec.json before closing", back="<Escape>",
           leave=(("<C-q>", "Save changes"), ("n", None))),
    Editor("joe", "joe",
           replace=(("<C-k>u<C-k>f", "Find "), ("{old}<Enter>", "gnore"),
                    ("r<Enter>", "Replace with"), ("{new}<Enter>", r"\(R\)est"),
                    ("r", r"\(Modified\)(?s:.*)\"{new}\"")),
           save=(("<C-k>d", "Name of file to save"), ("<Enter>", None)),
           saved="File spec.json saved", failed="Error", says=("File spec.json saved", ""),
           questions=((r"File on disk is newer. Overwrite", "y"),),
           quit="<C-k>q", dirty="has been modified", back="<C-c>",
           leave=(("<C-k>q", "has been modified"), ("n", None)),
           left=("spec.json~",), conflict="asked,ok/mine",
           ext4_refused="SILENT", refused="SILENT", why_refused="doesn't look at close()"),
    Editor("ne", "ne",
           replace=(("<C-k>", r"\nCommand"), ("GotoLine 1<Enter>", r" L: +1 "),
                    ("<C-k>", r"\nCommand"), ("MoveSOL<Enter>", r" C: +1 "),
                    ("<C-k>", r"\nCommand"), ("Find {old}<Enter>", r" L: +([2-9]|\d\d)"),
                    ("<C-k>", r"\nCommand"),
                    ("ReplaceAll {new}<Enter>", '"{new}"(?s:.*)1 replacement')),
           clear="<Up>",
           save=(("<C-s>", None),), saved=r"\nSaved\.", failed=r"I/O error",
           says=("I/O error.", "I/O error."),
           questions=((r"modified since .*\?", "y"),),
           quit="<C-q>", dirty="This document is not saved; are you sure", back="n",
           leave=(("<C-q>", "are you sure"), ("y", None))),
    Editor("mg", "mg",
           replace=(("<M-<><M-%>", "Query replace"), ("{old}<Enter>", "with"),
                    ("{new}<Enter>", "Query replacing"), ("<!>", "Replaced 1 ")),
           save=(("<C-x><C-s>", None),), saved=r"\nWrote /",
           failed=r"\n--\*\*-Mg.*\Z", patient=True,
           questions=((r"File changed on disk; really edit", "y"),
                      (r"has changed on disk since last save. Save anyway", "yes<Enter>")),
           quit="<C-x><C-c>", dirty=r"Save file .*\?", back="<C-g>",
           leave=(("<C-x><C-c>", r"Save file .*\?"), ("n", "really exit"), ("yes<Enter>", None)),
           left=("spec.json~",), conflict="asked,ok/mine", ext4_right="asked,ok"),
    _kak("kakoune", "kak", ext4_refused="SILENT", refused="SILENT",
         why_refused="doesn't look at close()"),
    _kak("kakoune, replace", "kak -e 'set global writemethod replace'",
         left_refused=(".spec.json.kak.XXXXXX",), says=(f"'w'{COLON} replacing file failed", ""), **OLD),
    Editor("mcedit", "mcedit",
           replace=(("<C-Home><Home><F4>", "Enter search string"),
                    ("{old}<Tab>{new}<Enter>", "Confirm replace"),
                    ("<Enter>", r'\[-M--\](?s:.*)"{new}"')),
           save=(("<F2>", "Confirm save file"), ("<Enter>", None)),
           saved=r"\[----\](?![\s\S]*\[ (Cancel|Save) \])", failed="Change line breaks to",
           dismiss="<Escape><Escape>",
           questions=((r"has been modified in the meantime", "y"),),
           quit="<F10>", dirty="Save before close", back="<Escape><Escape>",
           leave=(("<F10>", "Save before close"), ("n", None)), ext4_right="asked,ok"),
    Editor("ed", "ed", loaded=r"^\d+\Z", replace=((",s/{old}/{new}/<Enter>", "{old}/{new}/"),),
           save=(("w<Enter>", None),), saved=r"\nw\n\d+\Z", failed=r"\nw\n.*\n\?\Z",
           says=("spec.json: Invalid argument", "spec.json: Stale file handle"),
           quit="q<Enter>", dirty=r"\nq\n\?\Z", back="",
           leave=(("Q<Enter>", None),),
           ext4_conflict="ok/mine", conflict="err,dirty/theirs"),
]


def _of_from(value):
    """The same for tags/TAG/from: another name, and text without quotes."""
    if isinstance(value, tuple):
        return tuple(map(_of_from, value))
    if not isinstance(value, str):
        return value
    for old, new in (("spec.json", "from"), ('"{new}"', "{new}"), (r'\"{new}\"', "{new}"),
                     ('"{old}"', "{old}"), ('"AAAA"', "AAAA"), ('"XXXX"', "XXXX"),
                     (r" L: +([2-9]|\d\d)", r" C: +([2-9]|\d\d)")):
        value = value.replace(old, new)
    return value


def of_from(editor):
    fields = {field.name: _of_from(getattr(editor, field.name))
              for field in dataclasses.fields(editor) if field.name not in ("name", "command")}
    return dataclasses.replace(editor, **{**fields, "file": "from"})


EDITORS += [of_from(editor) for editor in EDITORS]


PINNED = {"nano": "13", "micro": "13", "nvim": "11"}  # the releases that word or do it in another way


def missing(editor):
    """Why it can't be tested here, or None."""
    program = editor.command.split()[0]
    if not any(os.access(f"{place}/{program}", os.X_OK) for place in ("/usr/bin", "/bin")):
        return f"{program} isn't installed"
    return pinned(program, PINNED.get(program))
