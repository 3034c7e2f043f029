"""Real operator processes on a real API server: killed, stopped, replaced."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from apiserver import ApiServer
from real_api import Manifest, eventually, new_namespace, open_kube, training_job

from lmforge_operator.kube.client import Kube
from lmforge_operator.kube.resources import CONFIG_MAPS, JOBS, LEASES, TRAINING_JOBS
from lmforge_operator.labels import OWNER_UID

pytestmark = pytest.mark.integration


class Replicas:
    """Operator processes of one namespace."""

    def __init__(self, api_server: ApiServer, folder: Path) -> None:
        self.namespace = new_namespace(api_server, "replicas")
        self._kubeconfig = api_server.kubeconfig
        self._folder = folder
        self._settings = folder / "settings.yaml"
        self._settings.write_text(
            "httpAddress: 127.0.0.1\nhttpPort: 0\n"
            f"leaderElection: {{namespace: {self.namespace}}}\nstore: {{createClaim: false}}\n"
        )
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self) -> subprocess.Popen[bytes]:
        command = ["-m", "lmforge_operator", "--settings", self._settings, "--kubeconfig", self._kubeconfig]
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, *map(str, command), "-n", self.namespace],
                stdout=log,
                stderr=log,
                env=os.environ | {"POD_NAME": f"replica-{len(self.processes)}"},
            )
        self.processes.append(process)
        return process

    @property
    def log(self) -> Path:
        return self._folder / "operator.log"

    def end(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()

    async def leader(self, kube: Kube) -> str:
        lease = await kube.get(LEASES, self.namespace, "lmforge-operator")
        return ((lease or {}).get("spec") or {}).get("holderIdentity") or ""

    async def leading(self, kube: Kube, name: str) -> float:
        """Waits until that replica leads; gives the time at which it did."""

        async def leads() -> bool:
            return (await self.leader(kube)).startswith(name)

        await eventually(leads, seconds=60, pause=0.02)
        return time.monotonic()


@pytest.fixture
def replicas(api_server: ApiServer, tmp_path: Path) -> Iterator[Replicas]:
    replicas = Replicas(api_server, tmp_path)
    try:
        yield replicas
    finally:
        replicas.end()
        print(replicas.log.read_text() if replicas.log.exists() else "no log")  # pytest shows it when the test failed


async def run_is_there(kube: Kube, namespace: str, name: str) -> Manifest:
    """Waits for the Job and the status of a TrainingJob; gives the TrainingJob."""

    async def there() -> Manifest | None:
        job = await kube.get(JOBS, namespace, f"{name}-tj-1")
        current = await kube.get(TRAINING_JOBS, namespace, name)
        return current if job and current and (current.get("status") or {}).get("phase") else None

    found: Manifest = await eventually(there, seconds=60)
    return found


async def test_a_killed_leader_is_replaced_within_six_seconds(api_server: ApiServer, replicas: Replicas) -> None:
    async with open_kube(api_server) as kube:
        first = replicas.start()
        await replicas.leading(kube, "replica-0")
        replicas.start()
        await asyncio.sleep(4)  # the standby warms up
        first.kill()
        killed = time.monotonic()
        await kube.create(TRAINING_JOBS, training_job(replicas.namespace, "after"))
        assert await replicas.leading(kube, "replica-1") - killed < 6.5
        await run_is_there(kube, replicas.namespace, "after")
        assert time.monotonic() - killed < 8


async def test_a_stopped_leader_is_replaced_long_before_its_lease_is_over(
    api_server: ApiServer, replicas: Replicas
) -> None:
    async with open_kube(api_server) as kube:
        first = replicas.start()
        await replicas.leading(kube, "replica-0")
        replicas.start()
        await asyncio.sleep(4)
        first.send_signal(signal.SIGTERM)
        stopped = time.monotonic()
        assert await replicas.leading(kube, "replica-1") - stopped < 3  # 0.3 to 0.6 s where the cores are free
        assert await asyncio.to_thread(first.wait, 10) == 0


async def test_a_leader_killed_in_the_middle_of_a_burst_loses_and_doubles_nothing(
    api_server: ApiServer, replicas: Replicas
) -> None:
    names = [f"burst-{number:02d}" for number in range(40)]
    async with open_kube(api_server) as kube:
        replicas.start()
        await replicas.leading(kube, "replica-0")
        for number, name in enumerate(names):
            await kube.create(TRAINING_JOBS, training_job(replicas.namespace, name))
            if number in (10, 25):
                replicas.processes[-1].kill()
                replicas.start()
        for name in names:
            current = await run_is_there(kube, replicas.namespace, name)
            assert [attempt["number"] for attempt in current["status"]["attempts"]] == [1]
        jobs = [item async for page in kube.pages(JOBS, namespace=replicas.namespace) for item in page.items]
        assert sorted(job["metadata"]["name"] for job in jobs) == [f"{name}-tj-1" for name in names]


async def test_a_restart_with_nothing_to_do_writes_nothing(api_server: ApiServer, replicas: Replicas) -> None:
    async with open_kube(api_server) as kube:
        first = replicas.start()
        for number in range(5):
            await kube.create(TRAINING_JOBS, training_job(replicas.namespace, f"t{number}"))
        for number in range(5):
            await run_is_there(kube, replicas.namespace, f"t{number}")
        await asyncio.sleep(2)
        before = await versions(kube, replicas.namespace)
        first.send_signal(signal.SIGTERM)
        await asyncio.to_thread(first.wait, 10)
        replicas.start()
        await replicas.leading(kube, "replica-1")
        await asyncio.sleep(3)
        assert await versions(kube, replicas.namespace) == before


async def versions(kube: Kube, namespace: str) -> dict[str, str]:
    """Resource versions of everything that the operator could have written."""
    found = {}
    for resource, selector in ((TRAINING_JOBS, ""), (JOBS, OWNER_UID), (CONFIG_MAPS, OWNER_UID)):
        async for page in kube.pages(resource, namespace=namespace, selector=selector, metadata_only=True):
            for item in page.items:
                found[f"{resource.plural}/{item['metadata']['name']}"] = item["metadata"]["resourceVersion"]
    return found


async def test_a_deleted_child_is_noticed_although_the_operator_was_down(
    api_server: ApiServer, replicas: Replicas
) -> None:
    async with open_kube(api_server) as kube:
        first = replicas.start()
        await kube.create(TRAINING_JOBS, training_job(replicas.namespace, "tiny"))
        await run_is_there(kube, replicas.namespace, "tiny")
        first.kill()
        await kube.delete(JOBS, replicas.namespace, "tiny-tj-1")
        replicas.start()

        async def second_attempt() -> Manifest | None:
            return await kube.get(JOBS, replicas.namespace, "tiny-tj-2")

        await eventually(second_attempt, seconds=60)


async def test_a_settings_file_with_a_mistake_is_named_in_a_sentence(replicas: Replicas, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("queue: {workers: 0}\nimagez: {}\n")
    command = [sys.executable, "-m", "lmforge_operator", "--settings", str(wrong)]
    ended = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 2
    assert "queue.workers" in ended.stderr
    assert "imagez" in ended.stderr
    assert "Traceback" not in ended.stderr
