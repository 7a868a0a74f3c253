from __future__ import annotations

import os
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

from pennyweight import load, open_bundle
from pennyweight.errors import SignatureError
from pennyweight.manifest import dump_manifest
from support import command, one_line

pytestmark = pytest.mark.skipif(not shutil.which("ssh-keygen"), reason="no ssh-keygen here")


def make_key(folder: Path, name: str) -> Path:
    key = folder / name
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", key], check=True)
    return key


def sign(key: Path, manifest: Path, namespace: str = "pennyweight") -> None:
    manifest.with_name("manifest.json.sig").unlink(missing_ok=True)
    subprocess.run(["ssh-keygen", "-q", "-Y", "sign", "-n", namespace, "-f", key, manifest], check=True)


def signers(folder: Path, key: Path, prefix: str = "maker@example.com") -> Path:
    path = folder / "allowed_signers"
    path.write_text(f"{prefix} {key.with_suffix('.pub').read_text()}")
    return path


@pytest.fixture
def key(tmp_path: Path) -> Path:
    return make_key(tmp_path, "key")


@pytest.fixture
def trust(tmp_path: Path, key: Path) -> Path:
    return signers(tmp_path, key)


@pytest.fixture
def signed(bundle: Path, key: Path) -> Path:
    sign(key, bundle / "manifest.json")
    return bundle


def test_a_signed_bundle_is_accepted_everywhere(signed: Path, trust: Path, tmp_path: Path) -> None:
    assert open_bundle(signed, trust=trust).signer == "maker@example.com"
    assert open_bundle(signed).signer is None
    assert open_bundle(signed).check() == []
    load(signed, trust=trust).close()
    load(open_bundle(signed), trust=trust).close()
    verified = command("verify", signed, "--trust", trust)
    assert verified.returncode == 0
    assert "signed by maker@example.com" in verified.stdout
    assert command("install", signed, "--to", tmp_path / "to", "--trust", trust).returncode == 0


def test_zip_adds_the_signature_to_an_archive(signed: Path, archive: Path, trust: Path) -> None:
    with zipfile.ZipFile(archive) as zipped:
        before = zipped.namelist()
    if shutil.which("zip"):
        subprocess.run(["zip", "-q", "-0", archive, "manifest.json.sig"], cwd=signed, check=True)
    elif "manifest.json.sig" not in before:
        with zipfile.ZipFile(archive, "a") as zipped:
            zipped.write(signed / "manifest.json.sig", "manifest.json.sig")
    bundle = open_bundle(archive, trust=trust)
    assert bundle.signer == "maker@example.com"
    assert bundle.check() == []


def test_an_installed_bundle_keeps_its_signature_without_the_evaluation_set(
    signed: Path, trust: Path, tmp_path: Path
) -> None:
    assert command("install", signed, "--to", tmp_path / "to").returncode == 0
    current = tmp_path / "to" / "current"
    assert not (current / "evaluation.npz").exists()
    load(current, trust=trust).close()
    assert command("verify", current, "--trust", trust).returncode == 0


def refused(folder: Path, trust: Path) -> str:
    with pytest.raises(SignatureError):
        load(open_bundle(folder), trust=trust)
    with pytest.raises(SignatureError) as caught:
        load(folder, trust=trust)
    return str(caught.value)


def refusals(folder: Path, trust: Path, target: Path) -> str:
    """Hold load, verify and install to refusing a bundle, and give what verify says."""
    refused(folder, trust)
    one_line(command("install", folder, "--to", target, "--trust", trust), 2)
    assert not target.exists()
    return one_line(command("verify", folder, "--trust", trust), 1)


def test_an_unsigned_bundle_is_refused(bundle: Path, trust: Path, tmp_path: Path) -> None:
    assert "not signed; sign it with" in refusals(bundle, trust, tmp_path / "to")


def test_an_edit_that_recomputes_every_hash_is_refused(signed: Path, trust: Path, tmp_path: Path) -> None:
    manifest = open_bundle(signed).manifest
    (signed / "manifest.json").write_bytes(dump_manifest(manifest._replace(name="other")))
    assert open_bundle(signed).check() == [], "the hashes must be right, or this tests nothing"
    assert "isn't one of this manifest" in refusals(signed, trust, tmp_path / "to")


def test_the_manifest_of_another_signed_bundle_is_refused(signed: Path, trust: Path, key: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(signed, other)
    (other / "manifest.json").write_bytes(dump_manifest(open_bundle(signed).manifest._replace(name="other")))
    sign(key, other / "manifest.json")
    shutil.copy(other / "manifest.json.sig", signed)
    refused(signed, trust)


def test_another_key_is_refused(signed: Path, trust: Path, tmp_path: Path) -> None:
    sign(make_key(tmp_path, "stranger"), signed / "manifest.json")
    assert "not signed by a key in" in refusals(signed, trust, tmp_path / "to")


def test_a_signature_for_another_use_is_refused(signed: Path, trust: Path, key: Path, tmp_path: Path) -> None:
    sign(key, signed / "manifest.json", namespace="git")
    assert "for pennyweight" in refusals(signed, trust, tmp_path / "to")


def test_a_key_that_is_trusted_for_another_use_is_refused(signed: Path, key: Path, tmp_path: Path) -> None:
    refused(signed, signers(tmp_path, key, 'maker namespaces="git"'))


@pytest.mark.parametrize("names", ["a@x,b@y", "*@example.com", '"two words"', "!c@z,a@x"])
def test_a_line_of_several_names_is_understood(signed: Path, key: Path, tmp_path: Path, names: str) -> None:
    assert open_bundle(signed, trust=signers(tmp_path, key, names)).signer


@pytest.mark.parametrize("content", [b"", b"not a signature", b"\0" * 100_000], ids=["empty", "text", "zeros"])
def test_a_damaged_signature_is_refused(signed: Path, trust: Path, tmp_path: Path, content: bytes) -> None:
    (signed / "manifest.json.sig").write_bytes(content)
    refused(signed, trust)


@pytest.mark.parametrize("content", [None, b"", b"nobody\n", b"\xff\0\n"])
def test_a_missing_or_senseless_list_of_signers_trusts_nobody(signed: Path, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "signers"
    if content is not None:
        path.write_bytes(content)
    refused(signed, path)


def test_without_ssh_keygen_nothing_is_trusted(
    signed: Path, trust: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "ssh-keygen can't be run" in refusals(signed, trust, tmp_path / "to")


def test_the_bytes_that_were_verified_are_the_ones_that_are_used(
    signed: Path, trust: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forged = tmp_path / "forged.json"
    forged.write_bytes(dump_manifest(open_bundle(signed).manifest._replace(name="forged")))
    fake = tmp_path / "bin" / "ssh-keygen"
    fake.parent.mkdir()
    # Swaps the manifest while its signature is being checked.
    fake.write_text(f'#!/bin/sh\ncp {forged} {signed}/manifest.json\nexec {shutil.which("ssh-keygen")} "$@"\n')
    fake.chmod(0o755)
    genuine = open_bundle(signed).manifest.name
    monkeypatch.setenv("PATH", f"{fake.parent}{os.pathsep}{os.environ['PATH']}")
    bundle = open_bundle(signed, trust=trust)
    assert bundle.manifest.name == genuine
    assert open_bundle(signed).manifest.name == "forged", "the swap must have happened, or this tests nothing"
