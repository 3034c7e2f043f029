"""kubectl lmforge put DIRECTORY pvc://claim/path [--create 1Gi]   copy files to a claim
kubectl lmforge get KIND/NAME DIRECTORY                          copy an object's artifact here

Files travel through a short-lived pod, so no storage has to be mounted here. kubectl's own context and namespace count.
"""

import argparse
import sys
from pathlib import Path

from lmforge_cli.kubectl import Kubectl, KubectlError
from lmforge_cli.transfer import Claim, artifact_claim, download, ensure_claim, upload


def main(arguments: list[str] | None = None) -> int:
    """Entry of the plugin; errors are one sentence on stderr."""
    options = _parser().parse_args(arguments)
    kubectl = Kubectl(namespace=options.namespace, context=options.context)
    try:
        match options.command:
            case "put":
                _put(kubectl, options)
            case "get":
                _get(kubectl, options)
    except (KubectlError, ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _put(kubectl: Kubectl, options: argparse.Namespace) -> None:
    claim = Claim.parse(options.target)
    if options.create:
        ensure_claim(kubectl, claim.name, size=options.create)
    count, size = upload(kubectl, options.source, claim, image=options.image)
    print(f"{count} files ({size / 1e6:.1f} MB) are at {claim.uri}")


def _get(kubectl: Kubectl, options: argparse.Namespace) -> None:
    claim = artifact_claim(kubectl, options.object)
    download(kubectl, claim, options.target, image=options.image)
    print(f"{claim.uri} is at {options.target}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="kubectl lmforge", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("-n", "--namespace", help="namespace (default: the context's)")
    common.add_argument("--context", help="context of the kubeconfig (default: the current one)")
    common.add_argument("--image", help="image of the pod that copies (default: the operator's own)")
    commands = parser.add_subparsers(dest="command", required=True)
    put = commands.add_parser("put", parents=[common], help="copy a file or directory to a claim")
    put.add_argument("source", type=Path)
    put.add_argument("target", help="pvc://claim/path")
    put.add_argument("--create", metavar="SIZE", help="make the claim of this size if there is none")
    get = commands.add_parser("get", parents=[common], help="copy an object's artifact here")
    get.add_argument("object", help="KIND/NAME, e.g. tj/tiny")
    get.add_argument("target", type=Path)
    return parser


if __name__ == "__main__":
    sys.exit(main())
