"""A private authority, and the certificates that it signs."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

CERTIFICATE, KEY = "authority.pem", "authority-key.pem"
_LIFETIME = timedelta(days=1)


def new_authority() -> dict[str, str]:
    """Returns the certificate and the key of a new authority, in PEM, by the names of their files."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a company's authority")])
    certificate = (
        _certificate(name, name, key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    return {CERTIFICATE: _pem(certificate), KEY: _pem(key)}


def server_context(authority: Path, addresses: Sequence[str], folder: Path) -> ssl.SSLContext:
    """Returns the TLS context of a server with a certificate of its own.

    Args:
        authority: folder with the files of :func:`new_authority`.
        addresses: IP addresses of the server.
        folder: where it keeps certificate and key.
    """
    signed_by = x509.load_pem_x509_certificate((authority / CERTIFICATE).read_bytes())
    key_of_authority = serialization.load_pem_private_key((authority / KEY).read_bytes(), password=None)
    assert isinstance(key_of_authority, ec.EllipticCurvePrivateKey)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "s3")])
    names = x509.SubjectAlternativeName([x509.IPAddress(ip_address(address)) for address in addresses])
    certificate = _certificate(name, signed_by.subject, key).add_extension(names, critical=False)
    (folder / "server.pem").write_text(_pem(certificate.sign(key_of_authority, hashes.SHA256())) + _pem(key))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem")
    return context


def _certificate(name: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    before, after = now - timedelta(hours=1), now + _LIFETIME
    return x509.CertificateBuilder(issuer, name, key.public_key(), x509.random_serial_number(), before, after)


def _pem(item: x509.Certificate | ec.EllipticCurvePrivateKey) -> str:
    encoding = serialization.Encoding.PEM
    if isinstance(item, x509.Certificate):
        return item.public_bytes(encoding).decode()
    return item.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()).decode()
