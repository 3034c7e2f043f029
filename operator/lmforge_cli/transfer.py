"""Copy files between here and a claim, as a tar stream through a pod that mounts it."""

import json
import subprocess
import tarfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any
from urllib.parse import urlsplit

from lmforge_cli.kubectl import Kubectl, KubectlError, finish

MOUNT = "/claim"
START_SECONDS = 180
LIFETIME_SECONDS = 3600
OPERATOR_SELECTOR = "app.kubernetes.io/name=lmforge"


@dataclass(frozen=True)
class Claim:
    """A place on a PersistentVolumeClaim."""

    name: str
    path: str

    @staticmethod
    def parse(uri: str) -> "Claim":
        """Raises ValueError when it isn't `pvc://claim/path` or leaves the claim."""
        parts = urlsplit(uri)
        path = PurePosixPath(parts.path.strip("/"))
        if parts.scheme != "pvc" or not parts.netloc or ".." in path.parts:
            raise ValueError(f"{uri} is no place on a claim: write pvc://claim/path")
        return Claim(parts.netloc, str(path) if path.parts else "")

    @property
    def uri(self) -> str:
        """As in a spec."""
        return f"pvc://{self.name}/{self.path}"

    @property
    def directory(self) -> str:
        """Where the copying pod sees it."""
        return f"{MOUNT}/{self.path}".rstrip("/")


def ensure_claim(kubectl: Kubectl, name: str, *, size: str) -> None:
    """Makes the claim if there is none. ReadWriteMany: the pods that read it may be on any node."""
    with suppress(KubectlError):
        kubectl.run("get", "pvc", name)
        return
    manifest = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name},
        "spec": {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": size}}},
    }
    kubectl.run("apply", "-f", "-", stdin=json.dumps(manifest))


def artifact_claim(kubectl: Kubectl, reference: str) -> Claim:
    """Where an object's artifact is. Raises ValueError when it has none yet."""
    status = kubectl.json("get", reference).get("status") or {}
    uri = (status.get("artifact") or {}).get("uri")
    if not uri:
        raise ValueError(
            f"{reference} has no artifact: it is {status.get('phase', 'new')}. {status.get('message', '')}"
        )
    return Claim.parse(uri)


def upload(kubectl: Kubectl, source: Path, claim: Claim, *, image: str | None) -> tuple[int, int]:
    """Copies a file or a directory's contents; gives the number of files and their bytes."""
    files = [source] if source.is_file() else sorted(path for path in source.rglob("*") if path.is_file())
    if not files:
        raise ValueError(f"{source} holds no files")
    root = source.parent if source.is_file() else source
    with _pod(kubectl, claim, image=image) as pod:
        script = f'mkdir -p "{claim.directory}" && tar -x -C "{claim.directory}"'
        process = kubectl.stream("exec", "-i", pod, "--", "sh", "-c", script, stdin=subprocess.PIPE)
        assert process.stdin
        with process.stdin as pipe:
            _pack(pipe, root, files)
        finish(process)
    return len(files), sum(path.stat().st_size for path in files)


def download(kubectl: Kubectl, claim: Claim, target: Path, *, image: str | None) -> None:
    """Copies what is there to a directory."""
    target.mkdir(parents=True, exist_ok=True)
    with _pod(kubectl, claim, image=image) as pod:
        process = kubectl.stream("exec", pod, "--", "tar", "-c", "-C", claim.directory, ".", stdout=subprocess.PIPE)
        unpack = subprocess.run(["tar", "-x", "-C", str(target)], stdin=process.stdout, check=False)
        finish(process)
    if unpack.returncode:
        raise KubectlError(f"the files could not be written to {target}")


def _pack(pipe: IO[bytes], root: Path, files: list[Path]) -> None:
    with suppress(BrokenPipeError), tarfile.open(fileobj=pipe, mode="w|") as archive:
        for path in files:
            info = archive.gettarinfo(path, arcname=str(path.relative_to(root)))
            info.uid = info.gid = 65532
            info.mode |= 0o444
            with path.open("rb") as content:
                archive.addfile(info, content)


@contextmanager
def _pod(kubectl: Kubectl, claim: Claim, *, image: str | None) -> Iterator[str]:
    """A pod that mounts the claim and sleeps, gone afterwards in any case."""
    name = f"lmforge-copy-{uuid.uuid4().hex[:8]}"
    kubectl.run("apply", "-f", "-", stdin=json.dumps(_manifest(name, claim, image or _operator_image(kubectl))))
    try:
        kubectl.run("wait", f"pod/{name}", "--for=condition=Ready", f"--timeout={START_SECONDS}s")
        yield name
    finally:
        kubectl.run("delete", "pod", name, "--wait=false", "--grace-period=0", "--ignore-not-found")


def _operator_image(kubectl: Kubectl) -> str:
    found = kubectl.json("get", "deployments", "--all-namespaces", "-l", OPERATOR_SELECTOR)["items"]
    if not found:
        raise ValueError("LMForge's operator isn't installed here; name an image that has sh and tar with --image")
    return str(found[0]["spec"]["template"]["spec"]["containers"][0]["image"])


def _manifest(name: str, claim: Claim, image: str) -> dict[str, Any]:
    user = 65532
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app.kubernetes.io/part-of": "lmforge"}},
        "spec": {
            "restartPolicy": "Never",
            "activeDeadlineSeconds": LIFETIME_SECONDS,
            "automountServiceAccountToken": False,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": user,
                "runAsGroup": user,
                "fsGroup": user,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [
                {
                    "name": "copy",
                    "image": image,
                    "command": ["sleep", str(LIFETIME_SECONDS)],
                    "securityContext": {
                        "allowPrivilegeEscalation": False,
                        "readOnlyRootFilesystem": True,
                        "capabilities": {"drop": ["ALL"]},
                    },
                    "volumeMounts": [{"name": "claim", "mountPath": MOUNT}],
                }
            ],
            "volumes": [{"name": "claim", "persistentVolumeClaim": {"claimName": claim.name}}],
        },
    }
