"""Certificates are made once, whoever asks at the same time."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from e2e.cluster.pki import Authority
from e2e.cluster.shell import run


def test_several_that_ask_at_once_get_a_certificate_that_fits_its_key(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    authority.create()
    with ThreadPoolExecutor(8) as pool:
        identities = list(pool.map(lambda _: authority.sign("proxy", user="proxy"), range(8)))
    identity = identities[0]
    from_certificate = run("openssl", "x509", "-in", identity.certificate, "-noout", "-pubkey")
    assert from_certificate == run("openssl", "pkey", "-in", identity.key, "-pubout")


def test_a_certificate_is_signed_by_the_authority_for_its_hosts(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    authority.create()
    identity = authority.sign("server", user="server", hosts=["10.0.0.1", "kubernetes.default"])
    run("openssl", "verify", "-CAfile", authority.certificate, "-verify_ip", "10.0.0.1", identity.certificate)
    run(
        *("openssl", "verify", "-CAfile", authority.certificate),
        *("-verify_hostname", "kubernetes.default", identity.certificate),
    )
