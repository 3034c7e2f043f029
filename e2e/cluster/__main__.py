"""python -m e2e.cluster up | down | clean | status | images | env | tools | constraints | lock
python -m e2e.cluster stop-node NAME | start-node NAME

CLUSTER chooses the kind of cluster: native (the default), kind, or current (the kubeconfig's context).
"""

from __future__ import annotations

import argparse
import os
import sys

from e2e.cluster import binaries, constraints, mounts
from e2e.cluster.current import CurrentCluster
from e2e.cluster.errors import ClusterError
from e2e.cluster.interface import Cluster
from e2e.cluster.kind import KindCluster
from e2e.cluster.native import NativeCluster
from e2e.cluster.paths import Paths, default_paths
from e2e.cluster.shell import step


def choose(kind: str, paths: Paths, *, nodes: int) -> Cluster:
    match kind:
        case "native":
            return NativeCluster(paths, nodes)
        case "kind":
            return KindCluster(paths, nodes)
        case "current":
            return CurrentCluster(paths, os.environ.get("REGISTRY", ""))
        case _:
            raise ClusterError(f"CLUSTER={kind}: choose native, kind or current")


def main(arguments: list[str]) -> int:
    options = _parse(arguments)
    paths = default_paths()
    try:
        cluster = choose(options.cluster, paths, nodes=options.nodes)
        match options.command:
            case "up":
                cluster.up()
            case "down":
                cluster.down()
            case "clean":
                cluster.down()
                clean(paths)
            case "status":
                print(cluster.status())
            case "images":
                for name, reference in cluster.images(*options.names).items():
                    print(f"{name}={reference}")
            case "env":
                print(f"export KUBECONFIG={cluster.kubeconfig}\nexport PATH={paths.bin}:$PATH")
            case "tools":
                binaries.ensure(paths, *options.names)
            case "constraints":
                constraints.write(paths)
            case "lock":
                constraints.lock(paths)
            case "stop-node":
                cluster.stop_node(*options.names)
            case "start-node":
                cluster.start_node(*options.names)
    except ClusterError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def clean(paths: Paths) -> None:
    """Removes what `down` keeps for the next time: images and Kubernetes' programs."""
    for folder in (paths.cache / "buildah", paths.cache / "registry", paths.bin):
        with step(f"removing {folder}"):
            mounts.remove(folder)


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m e2e.cluster", description=__doc__)
    commands = ("up", "down", "clean", "status", "images", "env", "tools", "constraints", "lock")
    nodes = ("stop-node", "start-node")
    parser.add_argument("command", choices=(*commands, *nodes))
    parser.add_argument(
        "names", nargs="*", help="programs for `tools`, more `images`, a node for `stop-node` and `start-node`"
    )
    parser.add_argument("--cluster", default=os.environ.get("CLUSTER", "native"))
    parser.add_argument("--nodes", type=int, default=int(os.environ.get("NODES", "2")))
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
