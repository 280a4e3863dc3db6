"""Command-line writers: the commands, and what each is known to do when a save is refused.

Every command runs in the directory of $F (a name without a path) and makes "$FROM" into "$TO"
there, or copies $NEW, where that was done already; $W is a directory of its own elsewhere, for
archives and the like.
"""

import dataclasses
import importlib.util
import pathlib
import re
import shutil
import subprocess

from conftest import pinned

PYTHON = "/usr/bin/python3"
MODULES = {"write-file-atomic": "7.0.1", "atomically": "2.1.1", "steno": "4.0.2",
           "prettier": "3.10.1"}


@dataclasses.dataclass
class Writer:
    """One command.

    how: where the save happens, and so which call brings the verdict: close, fsync, rename, or exit
    (a close that nobody looks at); "nothing" where the command saves nothing.
    """

    name: str
    command: str
    how: str = "close"
    refused: str = "err,new"  # what it does on ext4 when that call fails
    message: str = ""         # what it says of a refusal, where not the errno's text
    mute: bool = False        # it doesn't say anything
    needs: tuple = ()
    pinned: tuple = ()        # the Debian releases where the first of needs does it in another way than in 12
    shell: str = "sh"
    file: str = "spec.json"
    same_text: bool = True    # what it writes is $NEW to the byte
    left: str = ""            # names it leaves beside the file, as patterns
    left_failed: str = ""     # … and more of them when it failed
    hidden: bool = False      # its refused save leaves the name away for the 2 s of DESIGN.md
    tries: int = 1            # so often it tries what is refused
    code: str = ""            # $CODE
    kinds: tuple = ('"DockerImage"', '"Nope"       ')  # of one length, for what writes over
    note: str = ""

    def missing(self):
        """Why it can't run here, or None."""
        gone = [need for need in self.needs if need not in MODULES and not shutil.which(need)
                and not importlib.util.find_spec(need)]
        if gone:
            return f"{', '.join(gone)} isn't installed"
        return pinned(self.needs[0], *self.pinned) if self.pinned else None


def python(name, code, **more):
    return Writer(name, f'exec {PYTHON} -c "$CODE"', code=code, **more)


def node(name, code, **more):
    return Writer(name, 'exec node -e "$CODE"', code=code, **{"needs": ("node",), **more})


def module(name, code, **more):
    """A script beside the modules, since imports look there."""
    return Writer(f"node {name}", f'exec node "$MODULES/{name}.mjs"', code=code,
                  needs=("node", name), **more)


READ = "import os\nf, new = os.environ['F'], open(os.environ['NEW']).read()\n"
JS = "const fs = require('fs'), {F, NEW} = process.env, text = fs.readFileSync(NEW); "
MJS = "import fs from 'fs'; const {F, NEW} = process.env, text = fs.readFileSync(NEW, 'utf8');\n"
SUBSTITUTE = "s|$FROM|$TO|"

WRITERS = [
    # Editors without a screen.
    Writer("ed", 'printf "%s\\n" "g|$FROM|' + SUBSTITUTE + '" w q | ed -s "$F"', needs=("ed",),
           pinned=("11",)),
    Writer("ex (vim -es)", 'vim -es -u NONE -i NONE -c "%s#$FROM#$TO#" -c wq "$F"', how="fsync",
           refused="err,old", mute=True, left_failed="spec.json~", needs=("vim",)),
    # In place, they say, but by a rename.
    Writer("sed -i", 'sed -i "' + SUBSTITUTE + '" "$F"', how="rename", refused="err,old"),
    Writer("sed -i.bak", 'sed -i.bak "' + SUBSTITUTE + '" "$F"', how="rename",
           refused="err,MISSING", left="spec.json.bak", hidden=True),
    Writer("perl -i -pe", """perl -i -pe 's|\\Q$ENV{FROM}|$ENV{TO}|' "$F" """, how="rename",
           refused="err,old"),
    Writer("perl -i.bak", """perl -i.bak -pe 's|\\Q$ENV{FROM}|$ENV{TO}|' "$F" """, how="rename",
           refused="err,old", left="spec.json.bak", hidden=True,
           note="without hard links it renames the original away"),
    Writer("gawk -i inplace",
           """gawk -i inplace '{ i = index($0, ENVIRON["FROM"]);
        if (i) $0 = substr($0, 1, i - 1) ENVIRON["TO"] substr($0, i + length(ENVIRON["FROM"]))
        print }' "$F" """,
           how="rename", refused="err,old", needs=("gawk",)),
    Writer("jq | sponge", 'jq . "$F" | sed "' + SUBSTITUTE + '" | sponge "$F"',
           needs=("jq", "sponge")),
    Writer("jq > tmp && mv", 'jq . "$NEW" > "$F.tmp" && mv "$F.tmp" "$F"', how="rename",
           refused="err,old", needs=("jq",), same_text=False, left_failed="spec.json.tmp",
           message="subdirectory of itself|input/output error"),
    Writer("jq > elsewhere && mv", 'jq . "$NEW" > "$W/tmp" && mv "$W/tmp" "$F"', needs=("jq",),
           same_text=False),
    # Copies.
    Writer("cp", 'cp "$NEW" "$F"'),
    Writer("cp -p", 'cp -p "$NEW" "$F"'),
    Writer("cp -f", 'cp -f "$NEW" "$F"'),
    Writer("cp -b", 'cp -b "$NEW" "$F"', refused="err,old", left="spec.json~"),
    Writer("cp --remove-destination", 'cp --remove-destination "$NEW" "$F"'),
    Writer("cp --reflink=always", 'cp --reflink=always "$NEW" "$F"', how="nothing",
           refused="err,EMPTY", message="failed to clone"),
    Writer("mv from elsewhere", 'cp "$NEW" "$W/tmp" && mv "$W/tmp" "$F"'),
    Writer("install", 'install "$NEW" "$F"'),
    Writer("install -p -m644", 'install -p -m644 "$NEW" "$F"'),
    Writer("install -b", 'install -b "$NEW" "$F"', refused="err,old", left="spec.json~"),
    Writer("ln -f", 'cp "$NEW" "$F.new" && ln -f "$F.new" "$F"', how="nothing", refused="err,old",
           message="operation not permitted", left="spec.json.new",
           note="a hard link is refused with EPERM, always"),
    Writer("rsync", 'rsync --ignore-times "$NEW" "$F"', how="rename", refused="err,old",
           needs=("rsync",)),
    Writer("rsync -a", 'rsync -a --ignore-times "$NEW" "$F"', how="rename", refused="err,old",
           needs=("rsync",)),
    Writer("rsync --inplace", 'rsync --inplace --ignore-times "$NEW" "$F"', needs=("rsync",)),
    Writer("rsync -a --delay-updates --partial",
           'rsync -a --delay-updates --partial --ignore-times "$NEW" "$F"', how="rename",
           refused="err,old", needs=("rsync",), left_failed=".~tmp~"),
    # Whole and in pieces, through a descriptor.
    Writer("tee", 'tee "$F" < "$NEW" > /dev/null'),
    Writer("cat >", 'cat "$NEW" > "$F"'),
    Writer("sh >>", 'printf "\\n" >> "$F"', how="nothing", refused="SILENT,new",
           note="what is appended to a JSON document can only be space"),
    Writer("dd", 'dd if="$NEW" of="$F" bs=50 status=none'),
    Writer("dd conv=notrunc", 'dd if="$NEW" of="$F" conv=notrunc status=none'),
    Writer("dd conv=fsync", 'dd if="$NEW" of="$F" conv=fsync status=none', how="fsync"),
    Writer("dd oflag=direct", 'dd if="$NEW" of="$F" bs=512 oflag=direct status=none',
           refused="err,EMPTY"),
    Writer("truncate -s", 'truncate -s +1 "$F"', how="nothing", note="no write, so no save"),
    Writer("fallocate", 'fallocate -l 10000 "$F"', how="nothing", message="operation not supported",
           note="a document has no room to reserve"),
    Writer(": >", ': > "$F"', how="nothing", refused="SILENT,EMPTY",
           note="an empty text is no save"),
    Writer("cp /dev/null", 'cp /dev/null "$F"', how="nothing", refused="err,EMPTY",
           note="an empty text is no save"),
    Writer("touch", 'touch "$F"', how="nothing", refused="ok", note="no write, so no save"),
    Writer("sort -o", 'tr -d "\\n" < "$NEW" > "$W/line"; echo >> "$W/line"; sort -o "$F" "$W/line"',
           same_text=False),
    Writer("vipe", """script -qec 'EDITOR=true vipe < "$NEW" > "$F"' /dev/null""", how="exit",
           refused="warn,new", message="unable to close filehandle properly",
           needs=("vipe", "script")),
    Writer("curl -o", 'curl -s -S -o "$F" "file://$NEW"', needs=("curl",), pinned=("11", "13"),
           message="failed writing body", note="it doesn't say why"),
    # Python and Node.
    python("python open('w')", READ + "with open(f, 'w') as file: file.write(new)"),
    python("python r+ and truncate", """
import os
with open(os.environ["F"], "r+") as file:
    text = file.read().replace(os.environ["FROM"], os.environ["TO"])
    file.seek(0)
    file.write(text)
    file.truncate()
"""),
    python("python NamedTemporaryFile and replace", READ + """import tempfile
with tempfile.NamedTemporaryFile("w", dir=".", delete=False) as file:
    file.write(new)
    file.flush()
    os.fsync(file.fileno())
os.replace(file.name, f)
""", how="rename", refused="err,old", left_failed="tmp????????"),
    python("python fileinput inplace", """
import fileinput, os
with fileinput.input(os.environ["F"], inplace=True) as file:
    for line in file:
        print(line.replace(os.environ["FROM"], os.environ["TO"]), end="")
""", left_failed="spec.json.bak"),
    python("python shutil.copy2",
           "import os, shutil; shutil.copy2(os.environ['NEW'], os.environ['F'])"),
    node("node writeFileSync", JS + "fs.writeFileSync(F, text)"),
    node("node writeFile flush",
         JS + "fs.writeFile(F, text, {flush: true}, e => { if (e) throw e })", how="fsync"),
    module("write-file-atomic", MJS + "import write from 'write-file-atomic'; await write(F, text)",
           how="rename", refused="err,old"),
    module("atomically", MJS + "import {writeFile} from 'atomically'; await writeFile(F, text)",
           how="rename", refused="err,old"),
    module("steno", MJS + "import {Writer} from 'steno'; await new Writer(F).write(text)",
           how="rename", refused="err,old", left_failed=".spec.json.tmp", tries=10,
           note="it tries the rename 10 times"),
    Writer("prettier --write",
           'node "$MODULES/node_modules/prettier/bin/prettier.cjs" --no-config --no-editorconfig'
           ' --ignore-path /dev/null --log-level warn'
           ' --plugin "$MODULES/substitute.mjs" --write "$F"',
           needs=("node", "prettier"), same_text=False),
    # Patches and archives.
    Writer("patch", 'diff -u "$F" "$NEW" > "$W/diff"; patch -s "$F" < "$W/diff"', how="rename",
           refused="err,old", needs=("patch",)),
    Writer("patch -b", 'diff -u "$F" "$NEW" > "$W/diff"; patch -s -b "$F" < "$W/diff"',
           how="rename", refused="err,MISSING", needs=("patch",), left="spec.json.orig",
           hidden=True),
    Writer("git apply",
           'diff -u --label "a/$F" --label "b/$F" "$F" "$NEW" > "$W/diff"; git apply "$W/diff"',
           needs=("git",)),
    Writer("tar x", 'cp "$NEW" "$W/$F"; tar -C "$W" -cf "$W/tar" "$F"; tar xf "$W/tar"'),
    Writer("unzip -o",
           'cp "$NEW" "$W/$F"; rm -f "$W/zip.zip"; (cd "$W" && zip -q zip "$F"); '
           'unzip -q -o "$W/zip"',
           how="exit", refused="SILENT,new", needs=("zip", "unzip")),
    Writer("dos2unix -n", 'sed "s/\\$/\\r/" "$NEW" > "$W/crlf"; dos2unix -n "$W/crlf" "$F"',
           how="rename", refused="err,old", needs=("dos2unix",), left_failed="d2utmp??????"),
    # YAML, in place.
    Writer("yq -i",
           """yq -i -y '.spec.tags[0].from
               |= (tostring | split(env.FROM) | join(env.TO) | fromjson)' "$F" """,
           how="exit", refused="SILENT,new", needs=("yq",), pinned=("13",), file="imagestream.yaml",
           same_text=False, kinds=("DockerImage", "Nope")),
    # GNOME and KDE.
    Writer("gio save", 'gio save "$F" < "$NEW"', how="rename", refused="err,old", needs=("gio",)),
    Writer("gio copy", 'gio copy "$NEW" "$F"', how="rename", refused="err,old", needs=("gio",)),
    python("Qt QSaveFile", READ + """
from PyQt5.QtCore import QIODevice, QSaveFile
file = QSaveFile(f)
file.open(QIODevice.WriteOnly)
file.write(new.encode())
raise SystemExit(not file.commit())
""", how="rename", refused="SILENT,old", needs=("PyQt5",)),
    # The table of who tells that close failed: `command > spec.json`.
    Writer("/bin/echo >", '/bin/echo "$(cat "$NEW")" > "$F"'),
    Writer("jq >", 'jq . "$NEW" > "$F"', needs=("jq",), same_text=False),
    Writer("yq >", 'yq . "$NEW" > "$F"', needs=("yq",), same_text=False),
    Writer("sed >", 'sed -n p "$NEW" > "$F"'),
    Writer("grep >", 'grep . "$NEW" > "$F"'),
    Writer("git >", 'git stripspace < "$NEW" > "$F"', needs=("git",), same_text=False),
    Writer("sponge >", 'sponge < "$NEW" > "$F"', how="exit", refused="SILENT,new",
           needs=("sponge",)),
    Writer("cat > with <<", 'cat > "$F" <<EOF\n$(cat "$NEW")\nEOF'),
    Writer("sh echo >", 'text=$(cat "$NEW"); echo "$text" > "$F"', how="exit",
           refused="SILENT,new"),
    Writer("sh printf >", 'text=$(cat "$NEW"); printf "%s\\n" "$text" > "$F"', how="exit",
           refused="SILENT,new"),
    Writer("bash echo >", 'text=$(cat "$NEW"); echo "$text" > "$F"', how="exit",
           refused="SILENT,new", shell="bash"),
    Writer("sh exec 5>", 'text=$(cat "$NEW"); exec 5> "$F"; echo "$text" >&5; exec 5>&-',
           how="exit", refused="SILENT,new"),
    Writer("sh ( … ) >", '(head -n 3 "$NEW"; tail -n +4 "$NEW") > "$F"'),
    Writer("bash { … } >", '{ head -n 3 "$NEW"; tail -n +4 "$NEW"; } > "$F"', shell="bash"),
    Writer("sh ( builtins ) >", 'text=$(cat "$NEW"); (echo "$text"; echo) > "$F"', how="exit",
           refused="SILENT,new", same_text=False),
    Writer("python print >",
           f"""{PYTHON} -c 'import sys; print(open(sys.argv[1]).read(), end="")' "$NEW" > "$F" """,
           how="exit", refused="SILENT,new"),
    Writer("node console.log >",
           """node -e 'console.log(require("fs").readFileSync(process.argv[1], "utf8").trim())' \
           "$NEW" > "$F" """, how="exit", refused="SILENT,new", needs=("node",)),
    Writer("perl print >", """perl -pe 1 "$NEW" > "$F" """, how="exit", refused="SILENT,new"),
    Writer("gawk print >", """gawk '{ print }' "$NEW" > "$F" """, how="exit", refused="SILENT,new",
           needs=("gawk",)),
    Writer("curl >", 'curl -s -S "file://$NEW" > "$F"', how="exit", refused="SILENT,new",
           needs=("curl",)),
]
# What can't write one line, or nothing else than JSON.
NO_LINE = re.compile(r"jq|yq|prettier|sh >>|sh \( builtins \)")


def of_from(writer):
    """The same for tags/TAG/from."""
    here = {name: getattr(writer, name).replace("spec.json", "from")
            for name in ("left", "left_failed", "message")}
    return dataclasses.replace(writer, name=writer.name + OF_FROM, file="from",
                               kinds=("quay.io/example", "quay.io/EXAMPLE"), **here)


OF_FROM = ", from"
WRITERS += [of_from(writer) for writer in WRITERS if not NO_LINE.search(writer.name)]
WRITERS.append(Writer("cp tmp && mv" + OF_FROM, 'cp "$NEW" "$F.tmp" && mv "$F.tmp" "$F"',
                      how="rename", refused="err,old", left_failed="from.tmp", file="from",
                      message="subdirectory of itself|input/output error",
                      kinds=("quay.io/example", "quay.io/EXAMPLE")))
BY_NAME = {writer.name: writer for writer in WRITERS}

# Waits for the test between the opening of the file for writing and the first write, or before the
# rename onto it.
GATE = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static void gate(const char *at, const char *path)
{
	const char *file = getenv("F"), *where = getenv("GATE_AT"), *dir = getenv("GATE");
	const char *name = strrchr(path, '/') ? strrchr(path, '/') + 1 : path;
	char reached[4096], go[4096];

	if (!dir || !where || strcmp(at, where) || strcmp(name, file) || strstr(path, ".~tmp~/"))
		return;
	if (!strncmp(path, getenv("W"), strlen(getenv("W"))))
		return;
	snprintf(reached, sizeof(reached), "%s/reached", dir);
	snprintf(go, sizeof(go), "%s/go", dir);
	int fd = syscall(SYS_openat, AT_FDCWD, reached, O_CREAT | O_EXCL | O_WRONLY, 0600);
	if (fd < 0)
		return;
	syscall(SYS_close, fd);
	for (int i = 0; i < 15000 && access(go, F_OK); i++)
		usleep(2000);
}

#define REAL(name) __typeof__(&name) real = (__typeof__(&name)) dlsym(RTLD_NEXT, #name)
#define WRITES(flags) (((flags) & O_ACCMODE) != O_RDONLY && !((flags) & O_PATH))
#define OPENED(path, flags, fd) do { if ((fd) >= 0 && WRITES(flags)) gate("open", path); } while (0)
#define MODE() mode_t mode = 0; \
	if (flags & (O_CREAT | __O_TMPFILE)) { \
		va_list va; \
		va_start(va, flags); \
		mode = va_arg(va, int); \
		va_end(va); \
	}

int open(const char *path, int flags, ...)
{
	MODE() REAL(open);
	int fd = real(path, flags, mode);
	OPENED(path, flags, fd);
	return fd;
}

int open64(const char *path, int flags, ...)
{
	MODE() REAL(open64);
	int fd = real(path, flags, mode);
	OPENED(path, flags, fd);
	return fd;
}

int openat(int at, const char *path, int flags, ...)
{
	MODE() REAL(openat);
	int fd = real(at, path, flags, mode);
	OPENED(path, flags, fd);
	return fd;
}

int openat64(int at, const char *path, int flags, ...)
{
	MODE() REAL(openat64);
	int fd = real(at, path, flags, mode);
	OPENED(path, flags, fd);
	return fd;
}

#define FORTIFIED(name, parameters, arguments) \
	int name parameters; \
	int name parameters { REAL(name); int fd = real arguments; OPENED(path, flags, fd); return fd; }
FORTIFIED(__open_2, (const char *path, int flags), (path, flags))
FORTIFIED(__open64_2, (const char *path, int flags), (path, flags))
FORTIFIED(__openat_2, (int at, const char *path, int flags), (at, path, flags))
FORTIFIED(__openat64_2, (int at, const char *path, int flags), (at, path, flags))

int creat(const char *path, mode_t mode)
{
	return open(path, O_CREAT | O_WRONLY | O_TRUNC, mode);
}

int creat64(const char *path, mode_t mode)
{
	return open64(path, O_CREAT | O_WRONLY | O_TRUNC, mode);
}

#define STREAM(name) \
	FILE *name(const char *path, const char *mode) \
	{ \
		REAL(name); \
		FILE *file = real(path, mode); \
		if (file && strpbrk(mode, "wa+")) \
			gate("open", path); \
		return file; \
	}
STREAM(fopen)
STREAM(fopen64)

#define RENAME(name, parameters, arguments) \
	int name parameters { REAL(name); gate("rename", to); return real arguments; }
RENAME(rename, (const char *from, const char *to), (from, to))
RENAME(renameat, (int a, const char *from, int b, const char *to), (a, from, b, to))
RENAME(renameat2, (int a, const char *from, int b, const char *to, unsigned flags),
	(a, from, b, to, flags))
"""


def build_gate(directory):
    """The library to preload, or None where there is no compiler."""
    if not shutil.which("gcc"):
        return None
    source, library = directory / "gate.c", directory / "gate.so"
    source.write_text(GATE)
    subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-w", "-U_FORTIFY_SOURCE", "-o", library,
                    source, "-ldl"], check=True)
    library.chmod(0o755)
    return library


SUBSTITUTE_PLUGIN = """
import * as babel from 'prettier/plugins/babel';
const {FROM, TO} = process.env;
export const parsers = {json: {...babel.parsers.json, preprocess: text => text.replace(FROM, TO)}};
"""


def install_modules(directory):
    """Node's modules and the scripts that use them; why not, where that can't be had."""
    if not shutil.which("npm") or not shutil.which("node"):
        return "node or npm isn't installed"
    command = ["npm", "install", "--no-audit", "--no-fund", "--no-save", "--ignore-scripts",
               "--loglevel=error", "--fetch-retries=0", "--fetch-timeout=15000",
               "--cache", str(directory / "cache")]
    command += [f"{name}@{version}" for name, version in MODULES.items()]
    try:
        done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False,
                              timeout=60)
    except subprocess.TimeoutExpired:
        return "npm install took more than 60 s"
    if done.returncode:
        return "npm install failed: " + (done.stderr.splitlines() or ["without a word"])[0]
    for writer in WRITERS:
        if writer.name.startswith("node ") and writer.code.startswith(MJS):
            (directory / (writer.name[5:] + ".mjs")).write_text(writer.code)
    pathlib.Path(directory / "substitute.mjs").write_text(SUBSTITUTE_PLUGIN)
    for path in [directory, *directory.rglob("*")]:
        path.chmod(path.stat().st_mode | 0o444 | (0o111 if path.is_dir() else 0))
    return None
