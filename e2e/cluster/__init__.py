"""Clusters to test and show LMForge on: `python -m e2e.cluster up`.

interface.py       what every kind of cluster offers
native.py          a real Kubernetes of plain processes: the default, and all that the modules below are for
  binaries.py        Kubernetes' programs, compiled from tools/*/go.mod
  control_plane.py   etcd, kube-apiserver and friends; also the throw-away API servers of integration tests
  node.py            a node: network namespace, containerd, kubelet, kube-proxy; can be lost and come back
  addons.py          DNS and dynamic volumes
  registry.py        the local image registry
  image_builder.py   builds images.py's images when they have changed; layers.py gives them to nodes without copying
kind.py            the same on kind and docker
current.py         whatever cluster the kubeconfig points to
"""
