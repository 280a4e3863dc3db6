"""Client certificates: those that TLS can't use, those that the server refuses, and 20 of them in a row."""

import datetime
import errno
import os
import signal
import subprocess
import threading

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

import conftest
from conftest import is_mounted, wait_for
from test_credentials import (Plugin, certificate, credentials, is_saved, place, refused_start,
                              refuses_save, requests, rotate, save, start_as, watches_again)

__all__ = ["place", "start_as"]  # fixtures


def encrypted(key):
    return serialization.load_pem_private_key(key.encode(), None).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret")).decode()


def other_key():
    return ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption()).decode()


def expired(key):
    """A certificate for that key whose time is over."""
    private = serialization.load_pem_private_key(key.encode(), None)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "admin")])
    return (x509.CertificateBuilder().subject_name(name).issuer_name(name)
            .public_key(private.public_key()).serial_number(7)
            .not_valid_before(datetime.datetime(2020, 1, 1))
            .not_valid_after(datetime.datetime(2021, 2, 3, 4, 5, 6))
            .sign(private, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode())


class Pair:
    """A certificate and its key in two files."""

    def __init__(self, place):
        self.certificate, self.key = place / "crt", place / "key"

    def write(self, certificate, key):
        """Each in one go."""
        for path, text in ((self.certificate, certificate), (self.key, key)):
            new = path.with_suffix(".new")
            new.write_text(text)
            new.rename(path)

    def user(self):
        return {"client-certificate": str(self.certificate), "client-key": str(self.key)}


@pytest.fixture
def pair(place):
    return Pair(place)


def wrong_pairs(good):
    """(certificate, key, what is said)"""
    return {
        "encrypted": (good[0], encrypted(good[1]), "is encrypted, and a mount can't ask"),
        "half a key": (good[0], good[1][:len(good[1]) // 2], "holds no whole PEM key"),
        "half a certificate": (good[0][:200], good[1], "holds no whole PEM certificate"),
        "another key": (good[0], other_key(), "doesn't belong to the certificate"),
        "expired": (expired(good[1]), good[1], "expired at 2021-02-03T04:05:06Z"),
        "empty": (good[0], "", "holds no whole PEM key")}


WRONG = ["encrypted", "half a key", "half a certificate", "another key", "expired", "empty"]


# ---- that TLS can't use ----

@pytest.mark.parametrize("what", WRONG)
def test_refused_at_the_start(server, place, pair, what):
    bad_certificate, bad_key, sentence = wrong_pairs(certificate(server, "admin"))[what]
    pair.write(bad_certificate, bad_key)
    said = refused_start(pair.user(), server, place, sentence)
    assert str(pair.certificate if "certificate /" in said else pair.key) in said


def test_nobody_is_asked_for_a_passphrase(server, place, pair):
    """Not at a terminal either."""
    good = certificate(server, "admin")
    pair.write(good[0], encrypted(good[1]))
    done = subprocess.run(["script", "-qec", f"{conftest.PROGRAM} -f --kubeconfig /dev/null "
                           f"--server {server.url} --certificate-authority {server.ca} "
                           f"--client-certificate {pair.certificate} --client-key {pair.key} "
                           f"{place}", "/dev/null"], stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 3 and "pass phrase" not in done.stdout
    assert f"client-key {pair.key} is encrypted" in done.stdout


def test_encrypted_key_of_a_plugin(server, place):
    plugin = Plugin(place)
    good = certificate(server, "admin")
    plugin.answer(clientCertificateData=good[0], clientKeyData=encrypted(good[1]))
    refused_start(plugin.user(), server, place, "its client key is encrypted")


@pytest.mark.parametrize("what", WRONG)
def test_kept_at_a_renewal(server, pair, start_as, what):
    """The old ones stay in use, and the status says why."""
    good = certificate(server, "admin")
    pair.write(*good)
    mount, _ = start_as(pair.user())
    bad_certificate, bad_key, sentence = wrong_pairs(good)[what]
    mount.expect(sentence)
    pair.write(bad_certificate, bad_key)
    server.fault(method="PATCH", status=401)  # makes it look
    refuses_save(mount / "shop/web/metadata.json", errno.EKEYEXPIRED)
    assert sentence in credentials(mount)["error"]
    save(mount / "shop/web/metadata.json", first="yes")
    assert is_saved(server, "first")
    pair.write(*certificate(server, "admin"))
    wait_for(lambda: credentials(mount)["error"] is None, 60, "the pair that is whole again")
    save(mount / "shop/web/metadata.json", second="yes")


# ---- a background process that dies ----

def test_start_says_what_signal(server, place):
    """The parent speaks for the child that can't any more."""
    (place / "mnt").mkdir()
    server.fault(path="/apis/image.openshift.io/v1$", hang=True)
    process = subprocess.Popen([conftest.PROGRAM, "--kubeconfig", server.kubeconfig,
                                place / "mnt"], stderr=subprocess.PIPE, text=True)
    children = f"/proc/{process.pid}/task/{process.pid}/children"
    wait_for(lambda: requests(server), 30, "the child at work")
    with open(children) as f:
        os.kill(int(f.read().split()[0]), signal.SIGKILL)
    said = process.communicate(timeout=30)[1]
    assert process.returncode == 1 and not is_mounted(place / "mnt")
    assert said == "imagestreamfs: the background process died of signal 9 (Killed)\n"


# ---- that the server refuses ----

class Strict:
    """A server that wants a client certificate; the tests have one."""

    def __init__(self, server, version):
        self.server = server
        self.version = version
        mine = certificate(server, "tests")
        path = server.kubeconfig.parent / "tests.pem"
        path.write_text(mine[0] + mine[1])
        server.context.load_cert_chain(path)
        self.refuse()

    def refuse(self, *certificates):
        self.server.control("POST", "tls", {"version": self.version, "revoked": certificates})
        self.server.control("POST", "drop", {})


def server_sees(server, user):
    return [one for one in requests(server) if one["certificate"] == user]


def alert_is_read(strict):
    """What libcurl does at the close of a connection on which the request couldn't be sent any more."""
    if strict.version == "1.3":
        conftest.skip_for(conftest.older("libcurl4", "7.88"))


@pytest.fixture(params=["1.2", "1.3"])
def strict(request, server):
    for user in ("first", "second"):
        server.control("POST", "grant", {"user": user, "role": "cluster-admin"})
    return Strict(server, request.param)


def test_refused_certificate_at_the_start(server, place, pair, strict):
    alert_is_read(strict)
    first = certificate(server, "first")
    strict.refuse(first[0])
    pair.write(*first)
    said = refused_start(pair.user(), server, place,
                         "the server refuses the client certificate: certificate revoked")
    assert "SSL" not in said and "errno" not in said


def test_no_certificate_at_the_start(server, place, strict):
    alert_is_read(strict)
    said = refused_start({"token": server.token}, server, place, "certificate" if
                         strict.version == "1.3" else "the TLS connection or certificate is refused",
                         status=3 if strict.version == "1.3" else 4)
    assert "getpeername" not in said


def test_refused_certificate_is_read_again(server, pair, start_as, strict):
    first, second = certificate(server, "first"), certificate(server, "second")
    pair.write(*first)
    mount, _ = start_as(pair.user())
    assert server_sees(server, "first")
    strict.refuse(first[0])
    refuses_save(mount / "shop/web/metadata.json", errno.EKEYEXPIRED)
    assert credentials(mount)["refused"]
    assert "certificate revoked" in (mount / "shop/web/metadata.json.error").read_text()
    pair.write(*second)
    wait_for(lambda: not credentials(mount)["refused"], 60, "the other certificate in use")
    save(mount / "shop/web/metadata.json", first="yes")
    assert is_saved(server, "first") and server_sees(server, "second")
    watches_again(server, mount)


def test_refused_certificate_within_a_save(server, pair, start_as, strict):
    """What is refused is read again, and the save goes on with it."""
    alert_is_read(strict)
    first, second = certificate(server, "first"), certificate(server, "second")
    pair.write(*first)
    mount, _ = start_as(pair.user())
    pair.write(*second)
    strict.refuse(first[0])
    save(mount / "shop/web/metadata.json", first="yes")
    assert is_saved(server, "first")


def test_refused_certificate_of_a_plugin(server, place, start_as, strict):
    alert_is_read(strict)
    plugin = Plugin(place)
    first, second = certificate(server, "first"), certificate(server, "second")
    plugin.answer(clientCertificateData=first[0], clientKeyData=first[1])
    mount, _ = start_as(plugin.user())
    plugin.answer(clientCertificateData=second[0], clientKeyData=second[1])
    strict.refuse(first[0])
    save(mount / "shop/web/metadata.json", first="yes")
    assert is_saved(server, "first")
    assert plugin.runs() == 2


# ---- all of it, again and again ----

class Saver(threading.Thread):
    """Saves one label all the time; what is refused is tried again with another value."""

    def __init__(self, mount):
        super().__init__(daemon=True)
        self.path = mount / "shop/web/metadata.json"
        self.accepted, self.errors, self.ended = [], [], threading.Event()
        self.start()

    def run(self):
        number = 0
        while not self.ended.is_set():
            number += 1
            try:
                save(self.path, number=str(number))
                self.accepted.append(number)
            except OSError as error:
                self.errors.append(error.errno)

    def goes_on(self):
        """What is saved from now on is accepted."""
        count = len(self.accepted)
        wait_for(lambda: len(self.accepted) >= count + 3, 60, "accepted saves")

    def stop(self):
        self.ended.set()
        self.join()


class Rotation:
    """Token, certificate and key, in files and on a server that takes only the last good ones."""

    def __init__(self, server, pair, place):
        self.server, self.pair, self.token = server, pair, place / "token"
        self.strict = Strict(server, "1.3")
        self.revoked, self.count = [], 0
        self.good()

    def user(self):
        return {**self.pair.user(), "tokenFile": str(self.token)}

    def good(self):
        if self.count:
            self.revoked.append(self.current[0])
        self.count += 1
        self.current = certificate(self.server, "admin")
        self.write(*self.current, f"sha256~good{self.count}")
        rotate(self.server, f"sha256~good{self.count}")
        self.strict.refuse(*self.revoked)

    def write(self, crt, key, token):
        self.pair.write(crt, key)
        self.token.write_text(token)

    def bad(self, key):
        """A new pair whose key isn't good. The server still takes the old one; a 401 makes the mount look."""
        self.write(certificate(self.server, "admin")[0], key, self.server.token)
        self.server.fault(method="PATCH", status=401)

    def wrong(self):
        """The server refuses all of it."""
        self.write(*certificate(self.server, "admin"), "sha256~wrong")
        self.server.fault(method="PATCH", status=401)


def test_twenty_rotations(server, pair, place, start_as):
    """While saves run. Nothing that was accepted is lost, and the mount is whole in the end."""
    rotation = Rotation(server, pair, place)
    mount, _ = start_as(rotation.user())
    mount.expect("")  # each of them is told
    saver = Saver(mount)
    try:
        for number in range(20):
            what = ("good", "encrypted", "half", "wrong", "good")[number % 5]
            if what == "good":
                rotation.good()
                wait_for(lambda: not credentials(mount)["refused"], 60, "the new ones in use")
            elif what == "wrong":
                rotation.wrong()
                wait_for(lambda: credentials(mount)["refused"], 60, "a refusal")
                continue
            else:
                rotation.bad(encrypted(other_key()) if what == "encrypted" else
                             other_key()[:100])
                sentence = "is encrypted" if what == "encrypted" else "holds no whole PEM key"
                wait_for(lambda: sentence in (credentials(mount)["error"] or ""), 60, sentence)
            saver.goes_on()
    finally:
        saver.stop()
    assert set(saver.errors) <= {errno.EKEYEXPIRED}, saver.errors
    assert server.get("shop", "web")["metadata"]["labels"]["number"] == str(saver.accepted[-1])
    assert credentials(mount)["error"] is None and not (mount / "shop/web/metadata.json.error").exists()
    watches_again(server, mount)
