"""A CA made at start, and the certificates that it signs."""

import datetime
import ipaddress
import os
import ssl
import tempfile

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID


def _name(common_name):
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _pem(certificate):
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key):
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                             serialization.NoEncryption())


class Authority:
    def __init__(self):
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.certificate = self._sign(
            _name("apiserver-test-ca"), self.key.public_key(),
            (x509.BasicConstraints(ca=True, path_length=None), True),
            (x509.KeyUsage(key_cert_sign=True, crl_sign=True, **dict.fromkeys(
                ("digital_signature", "content_commitment", "key_encipherment",
                 "data_encipherment", "key_agreement", "encipher_only", "decipher_only"), False)), True))
        self.pem = _pem(self.certificate)

    def _sign(self, subject, public_key, *extensions):
        start = datetime.datetime.utcnow() - datetime.timedelta(minutes=5)
        builder = (x509.CertificateBuilder().subject_name(subject)
                   .issuer_name(_name("apiserver-test-ca")).public_key(public_key)
                   .serial_number(x509.random_serial_number()).not_valid_before(start)
                   .not_valid_after(start + datetime.timedelta(days=30)))
        # The keys' names: Python 3.13 verifies as RFC 5280 has it (VERIFY_X509_STRICT).
        names = [x509.SubjectKeyIdentifier.from_public_key(public_key),
                 x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())]
        for extension, critical in (*extensions, *((name, False) for name in names)):
            builder = builder.add_extension(extension, critical)
        return builder.sign(self.key, hashes.SHA256())

    def issue(self, common_name, usage, addresses=()):
        """(certificate PEM, key PEM)"""
        key = ec.generate_private_key(ec.SECP256R1())
        extensions = [(x509.ExtendedKeyUsage([usage]), False)]
        if addresses:
            extensions.append((x509.SubjectAlternativeName(addresses), False))
        return _pem(self._sign(_name(common_name), key.public_key(), *extensions)), _key_pem(key)

    def client(self, user):
        return self.issue(user, ExtendedKeyUsageOID.CLIENT_AUTH)

    def revocation_list(self, certificates):
        """PEM, with the certificates (PEM) that are good no more."""
        now = datetime.datetime.utcnow()
        builder = (x509.CertificateRevocationListBuilder()
                   .issuer_name(_name("apiserver-test-ca"))
                   .last_update(now - datetime.timedelta(minutes=5))
                   .next_update(now + datetime.timedelta(days=30)))
        for pem in certificates:
            serial = x509.load_pem_x509_certificate(pem.encode()).serial_number
            builder = builder.add_revoked_certificate(
                x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now)
                .build())
        return builder.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def strict_context(self, version, revoked):
        """That of a server which talks to nobody without a good client certificate."""
        context = self.server_context()
        context.minimum_version = context.maximum_version = version
        context.verify_mode = ssl.CERT_REQUIRED
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
        with tempfile.NamedTemporaryFile() as file:
            file.write(self.revocation_list(revoked))
            file.flush()
            context.load_verify_locations(file.name)
        return context

    def server_context(self):
        certificate, key = self.issue("127.0.0.1", ExtendedKeyUsageOID.SERVER_AUTH, [
            x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
            x509.IPAddress(ipaddress.ip_address("::1"))])
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.verify_mode = ssl.CERT_OPTIONAL
        context.load_verify_locations(cadata=self.pem.decode())
        context.set_alpn_protocols(["http/1.1"])
        context.sni_callback = remember_name
        # load_cert_chain takes files only.
        handle, path = tempfile.mkstemp()
        try:
            with os.fdopen(handle, "wb") as out:
                out.write(certificate + key)
            context.load_cert_chain(path)
        finally:
            os.unlink(path)
        return context


def remember_name(sock, name, context):
    """Which name the client asked for."""
    sock.sni = name


def common_name(peer):
    """CN of the subject in what ssl's getpeercert() gives; "" if there is none."""
    for relative_name in (peer or {}).get("subject", ()):
        for key, value in relative_name:
            if key == "commonName":
                return value
    return ""
