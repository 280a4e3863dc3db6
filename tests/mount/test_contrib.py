"""What scripts/contrib gives to editors: why a save was refused is shown."""

import json
import os
import pty
import select
import shutil
import subprocess

import pytest

from conftest import TOP

CONTRIB = TOP / "scripts/contrib"
SENTENCE = "duplicate object key"  # labels are there already
SECONDS = 60


@pytest.fixture
def refusing(mount):
    return mount / "shop/web/metadata.json"


def on_a_terminal(command, **environment):
    """Until it ends."""
    pid, fd = pty.fork()
    if pid == 0:
        os.environ.update(TERM="xterm", **environment)
        os.execvp(command[0], list(map(str, command)))
    text = b""
    try:
        while select.select([fd], [], [], SECONDS)[0]:
            text += os.read(fd, 65536)
    except OSError:
        pass
    os.close(fd)
    os.waitpid(pid, 0)
    return text.decode(errors="replace")


@pytest.mark.parametrize("editor", ["vim", "nvim"])
def test_vim(refusing, tmp_path, editor):
    """The preview window holds NAME.error; the text stays in the other."""
    if not shutil.which(editor):
        pytest.skip(f"no {editor}")
    script, seen = tmp_path / "script.vim", tmp_path / "seen"
    script.write_text(f"""
        function! Look(timer)
            let l:windows = map(range(1, winnr('$')), {{_, n -> [getwinvar(n, '&previewwindow'),
                \\ bufname(winbufnr(n)), getbufline(winbufnr(n), 1, '$')]}})
            call writefile([json_encode(l:windows)], '{seen}')
            qall!
        endfunction
        set nomore shortmess=atIF
        call setline(1, substitute(getline(1), '{{', '{{"labels": {{"ugly": "yes"}},', ''))
        silent! write
        call timer_start(1000, 'Look')
    """)
    text = on_a_terminal([editor, "-u", "NONE", "-i", "NONE", "-N", "-n", "-S",
                          CONTRIB / "imagestreamfs.vim", "-S", script, refusing],
                         HOME=str(tmp_path))
    assert seen.exists(), text
    windows = json.loads(seen.read_text())
    shown = [(name, lines) for preview, name, lines in windows if preview]
    assert len(shown) == 1 and shown[0][0].endswith("metadata.json.error"), windows
    assert SENTENCE in "\n".join(shown[0][1])
    assert any('"ugly"' in lines[0] for preview, _, lines in windows if not preview)


@pytest.mark.skipif(not shutil.which("emacs"), reason="no emacs")
def test_emacs(refusing, tmp_path):
    script = """(progn
        (setq create-lockfiles nil)
        (find-file (getenv "FILE"))
        (goto-char (point-min)) (forward-char 1) (insert "\\"labels\\": {\\"ugly\\": \\"yes\\"},")
        (condition-case failure (save-buffer) (file-error (message "failed")))
        (with-current-buffer "*imagestreamfs*" (message "shown: %s" (buffer-string)))
        (message "modified: %s" (buffer-modified-p)))"""
    done = subprocess.run(["emacs", "--batch", "-Q", "-l", CONTRIB / "imagestreamfs.el", "--eval",
                           script], capture_output=True, text=True, check=False, timeout=SECONDS,
                          env=dict(os.environ, FILE=str(refusing), HOME=str(tmp_path)))
    assert SENTENCE in done.stderr.partition("shown: ")[2], done
    assert "failed" in done.stderr and "modified: t" in done.stderr
