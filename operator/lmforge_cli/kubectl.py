"""kubectl, called as a program: the plugin's user has it, with all of its ways to log in."""

import json
import subprocess
from dataclasses import dataclass
from typing import IO, Any


class KubectlError(Exception):
    """kubectl failed; the text is what it said."""


@dataclass(frozen=True)
class Kubectl:
    """kubectl with a namespace and a context, each the kubeconfig's own when None."""

    namespace: str | None = None
    context: str | None = None

    def command(self, *arguments: str) -> list[str]:
        """The full command line."""
        scope = ["--context", self.context] if self.context else []
        return ["kubectl", *scope, *(["--namespace", self.namespace] if self.namespace else []), *arguments]

    def run(self, *arguments: str, stdin: str | None = None) -> str:
        """What it prints. Raises KubectlError."""
        done = subprocess.run(self.command(*arguments), input=stdin, capture_output=True, text=True, check=False)
        if done.returncode:
            raise KubectlError(done.stderr.strip() or f"kubectl {' '.join(arguments)} failed")
        return done.stdout

    def json(self, *arguments: str) -> dict[str, Any]:
        """What it prints with `-o json`."""
        found = json.loads(self.run(*arguments, "-o", "json"))
        assert isinstance(found, dict)
        return found

    def stream(self, *arguments: str, stdin: int | None = None, stdout: int | None = None) -> "subprocess.Popen[bytes]":
        """Starts it with pipes; end it with `finish`."""
        return subprocess.Popen(self.command(*arguments), stdin=stdin, stdout=stdout, stderr=subprocess.PIPE)


def finish(process: "subprocess.Popen[bytes]") -> None:
    """Waits for the end of a stream. Raises KubectlError."""
    errors: IO[bytes] | None = process.stderr
    said = errors.read().decode(errors="replace").strip() if errors else ""
    if process.wait():
        raise KubectlError(said or "kubectl exec failed")
