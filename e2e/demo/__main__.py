"""The demo: cluster, images, chart, real text, the main job to its end, what the model says, and a service for it; then
a model that exists is taught, and asked.

Every step may run again: a second demo starts working within seconds and trains anew.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from e2e import corpus
from e2e.cluster import binaries
from e2e.cluster.__main__ import choose
from e2e.cluster.errors import ClusterError
from e2e.cluster.interface import Cluster
from e2e.cluster.paths import Paths, default_paths
from e2e.cluster.shell import say, step
from e2e.lmforge import Kube, NotReached, ensure_namespace, install, kube_of, plugin
from e2e.serving import put_model, way_in

NAMESPACE = "demo"
JOB = Path(__file__).with_name("main-job.yaml")
SERVICE = Path(__file__).with_name("service.yaml")
FINE_TUNE = Path(__file__).with_name("finetune.yaml")
PROMPT = "The function returns"
QUESTION = "In Python, what is decorator?"


def main() -> int:
    """Runs the demo; on failure says what was reached."""
    paths = default_paths()
    cluster = choose(os.environ.get("CLUSTER", "native"), paths, nodes=int(os.environ.get("NODES", "2")))
    try:
        images = _bring_up(cluster, paths)
        kube = kube_of(paths, cluster.kubeconfig)
        with step("installing the chart"):
            install(kube, images)
        inside = ensure_namespace(kube, NAMESPACE)
        _put_text(inside)
        _train(inside)
        _show_result(inside)
        _serve(inside)
        _teach(inside, paths)
    except (ClusterError, NotReached) as error:
        print(f"\nThe demo stopped: {error}", file=sys.stderr)
        return 1
    print(f"\nLook around:  export KUBECONFIG={cluster.kubeconfig} PATH={paths.bin}:$PATH")
    print("              kubectl get lmforge -n demo -o wide;  kubectl describe tj tiny -n demo")
    print("Remove it:    make down")
    return 0


def _bring_up(cluster: Cluster, paths: Paths) -> Mapping[str, str]:
    """Cluster, its tools and images side by side: images take longest and need only the registry."""
    with ThreadPoolExecutor() as pool:
        helm = pool.submit(binaries.ensure, paths, "helm")
        parts: list[Future[Any]] = [pool.submit(cluster.up), pool.submit(cluster.images), helm]
        for part in as_completed(parts):  # the first that fails is told at once, though the others still end
            part.result()
    return cluster.images()


def _put_text(kube: Kube) -> None:
    with step("copying Python's documentation to a claim"):
        said = plugin(kube, "put", str(corpus.python_documentation()), "pvc://corpus/python-docs", "--create", "256Mi")
        say(f"  {said.strip()}")


def _train(kube: Kube) -> None:
    """Applies the main job and prints its line of `kubectl get` whenever it changes."""
    kube("delete", "trainingjob,inferenceservice", "tiny", "--ignore-not-found", "--wait=true")
    print(f"\n$ kubectl apply -f {JOB.name}\n{kube('apply', '-f', JOB).strip()}")
    with _shown(kube, "tj", "tiny"):
        kube.wait_phase("tj/tiny", "Succeeded", seconds=1500)
    print(f"\n$ kubectl get tj -o wide\n{kube('get', 'tj', '-o', 'wide')}")


def _serve(kube: Kube) -> None:
    """Serves the model by reference, and asks as any OpenAI client would."""
    print(f"\n$ kubectl apply -f {SERVICE.name}\n{kube('apply', '-f', SERVICE).strip()}")
    with _shown(kube, "isvc", "tiny"):
        kube.wait("isvc/tiny", lambda s: s.get("phase") == "Ready", what="a replica that answers", seconds=600)
    _print_message(kube, "isvc", "tiny")
    request = {"model": "tiny", "prompt": PROMPT, "max_tokens": 30, "temperature": 0}
    print(_asked(kube, "tiny", "completions", request)["text"])


def _teach(kube: Kube, paths: Paths) -> None:
    """Fine-tunes a model that exists on a table of questions and answers, and asks the result one of them."""
    kube("delete", "finetune,inferenceservice", "glossary", "--ignore-not-found", "--wait=true")
    with step("copying SmolLM2-135M and Python's glossary to claims"), tempfile.TemporaryDirectory() as folder:
        put_model(kube, paths)
        corpus.glossary(Path(folder) / "glossary.csv")
        say(f"  {plugin(kube, 'put', folder, 'pvc://glossary', '--create', '16Mi').strip()}")
    print(f"\n$ kubectl apply -f {FINE_TUNE.name}\n{kube('apply', '-f', FINE_TUNE).strip()}")
    with _shown(kube, "ft", "glossary"):
        kube.wait_phase("ft/glossary", "Succeeded", seconds=900)
    _print_message(kube, "ft", "glossary")
    with _shown(kube, "isvc", "glossary"):
        kube.wait("isvc/glossary", lambda s: s.get("phase") == "Ready", what="a replica that answers", seconds=600)
    message = {"role": "user", "content": QUESTION}
    request = {"model": "glossary", "temperature": 0, "max_tokens": 40, "messages": [message]}
    print(_asked(kube, "glossary", "chat/completions", request)["message"]["content"])


def _print_message(kube: Kube, kind: str, name: str) -> None:
    print(f"\n$ kubectl describe {kind} {name}\n  Message:  {kube.status(f'{kind}/{name}')['message']}")


def _asked(kube: Kube, name: str, what: str, request: Mapping[str, object]) -> Any:
    """The choice that a service answers with, asked as a user would."""
    print(f"\n$ kubectl port-forward service/{name} 8000:80 &")
    print(f"$ curl localhost:8000/v1/{what} --json '{json.dumps(request)}'")
    body = json.dumps(request).encode()
    with way_in(kube, name) as url:
        asked = Request(f"{url}/{what}", body, {"Content-Type": "application/json"})
        with urlopen(asked, timeout=60) as answer:
            return json.load(answer)["choices"][0]


@contextmanager
def _shown(kube: Kube, kind: str, name: str) -> Iterator[None]:
    """`kubectl get` of an object while the block runs, a line whenever something but its age changes."""
    print(f"$ kubectl get {kind} --watch")
    done = threading.Event()
    watcher = threading.Thread(target=_watch, args=(kube, kind, name, done), daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join(timeout=5)


def _watch(kube: Kube, kind: str, name: str, done: threading.Event) -> None:
    shown, over = "", False
    while not over:
        over = done.wait(2) if shown else False  # one look more: how it ended is what matters most
        head, *lines = kube("get", kind, name, check=False).splitlines() or [""]
        if lines and lines[0].rsplit(maxsplit=1)[0] != shown:
            print("\n".join(([head] if not shown else []) + lines), flush=True)
            shown = lines[0].rsplit(maxsplit=1)[0]


def _show_result(kube: Kube) -> None:
    """Loads the artifact with plain transformers, as any user could."""
    with tempfile.TemporaryDirectory() as folder:
        plugin(kube, "get", "tj/tiny", folder)
        files = sorted(path.name for path in Path(folder).iterdir())
        print(f"\nThe artifact is a Hugging Face directory: {', '.join(files)}")
        print(f"transformers goes on from {PROMPT!r}:\n")
        print(generate(Path(folder), PROMPT))


def generate(directory: Path, prompt: str, *, tokens: int = 60) -> str:
    """What the model makes of a prompt (sampled, seeded)."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(directory)
    model = AutoModelForCausalLM.from_pretrained(directory)
    inputs = tokenizer(prompt, return_tensors="pt")
    output = model.generate(inputs["input_ids"], max_new_tokens=tokens, do_sample=True, temperature=0.7)
    return str(tokenizer.decode(output[0], skip_special_tokens=True))


if __name__ == "__main__":
    sys.exit(main())
