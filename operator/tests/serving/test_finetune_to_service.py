"""From a FineTune to a service: the real operator on a real API server, the test playing pods and engines."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from cluster_player import ClusterPlayer, Manifest
from lora_engine import LoraEngine, lora_engine
from operator_process import serve
from real_api import eventually, fine_tune

from lmforge_api.common import ArtifactStatus, InputStatus
from lmforge_api.finetune_results import Rows, TrainedAdapter
from lmforge_api.run import EvaluationResult, ExitReport, FineTuneFigures, ProgressReport
from lmforge_operator.kube.resources import FINE_TUNES

pytestmark = pytest.mark.integration

STORE = "pvc://lmforge-store/finetune/helpdesk"
ADAPTER = TrainedAdapter(uri=f"{STORE}/adapter", digest="sha256:aa", format="PEFT", rank=16)
MERGED = ArtifactStatus(uri=f"{STORE}/artifact", digest="sha256:bb", size_bytes=2**20, format="HuggingFace")
UNMERGED = ArtifactStatus(uri=ADAPTER.uri, digest=ADAPTER.digest, format="PEFT")


@pytest.fixture
async def engine() -> AsyncIterator[LoraEngine]:
    async with lora_engine("127.78.1.1") as engine:
        yield engine


def last_words(artifact: ArtifactStatus) -> Manifest:
    """Of a pod that has taught the model."""
    figures = FineTuneFigures(
        evaluation_before=EvaluationResult(step=0, loss=3.1, perplexity=22.2),
        trainable_parameters=921600,
        parameters=135436608,
        rows=Rows(read=100, train=95, evaluation=5),
        adapter=ADAPTER,
    )
    progress = ProgressReport(
        attempt=1,
        stage="Finished",
        step=60,
        steps=60,
        evaluation=EvaluationResult(step=60, loss=2.2, perplexity=9.03),
        inputs=[InputStatus(name="model", uri="hf://org/base", digest="sha256:cc")],
        artifact=artifact,
        fine_tune=figures,
    )
    return ExitReport(reason="Completed", step=60, progress=progress).wire()


async def status_of(player: ClusterPlayer, name: str, *phases: str) -> Manifest:
    """Waits until the FineTune is in one of these phases."""

    async def reached() -> Manifest | None:
        found = await player.kube.get(FINE_TUNES, player.namespace, name)
        status: Manifest = (found or {}).get("status") or {}
        return status if status.get("phase") in phases else None

    reply: Manifest = await eventually(reached, seconds=30)
    return reply


async def begin(player: ClusterPlayer, name: str, **spec: Any) -> None:
    """A FineTune whose first attempt is under way."""
    await player.kube.create(FINE_TUNES, fine_tune(player.namespace, name, **spec))
    await status_of(player, name, "Starting", "Pending", "Running")


async def test_the_adapter_of_a_finetune_comes_into_a_running_service_without_new_pods(
    player: ClusterPlayer, engine: LoraEngine
) -> None:
    await begin(player, "helpdesk", output={"merge": False})
    revision = await serve(player, "hot", engineArgs={"lora": {}})
    (pod,) = await player.engines(revision)
    await player.ready(pod["metadata"]["name"], address=engine.address)
    await player.change("hot", adapters=[{"name": "helpdesk", "from": {"kind": "FineTune", "name": "helpdesk"}}])

    async def adapter(**fields: str) -> Manifest:
        async def reached() -> Manifest | None:
            (found,) = (await player.service("hot"))["status"].get("adapters") or [{}]
            return found if fields.items() <= found.items() else None

        reply: Manifest = await eventually(reached, seconds=30)
        return reply

    assert (await adapter(loaded="0/1"))["message"].startswith("Waits for FineTune helpdesk: it is ")
    await player.finish("helpdesk-ft-1", last_words(UNMERGED))
    done = await status_of(player, "helpdesk", "Succeeded")
    assert done["message"] == (
        "Finished 60 steps. Evaluation loss went from 3.1000 to 2.2000, perplexity from 22.20 to 9.03. "
        f"The artifact is at {ADAPTER.uri}."
    )
    assert done["inputs"] == [{"name": "model", "source": "spec", "uri": "hf://org/base", "digest": "sha256:cc"}]
    loaded = await adapter(loaded="1/1")
    assert (loaded["source"], loaded["uri"], loaded["digest"]) == ("finetune/helpdesk", ADAPTER.uri, "sha256:aa")
    assert engine.loaded == {"helpdesk": "/mnt/pvc/lmforge-store/finetune/helpdesk/adapter"}
    assert [each["metadata"]["uid"] for each in await player.engines(revision)] == [pod["metadata"]["uid"]]


async def test_a_merged_finetune_is_served_by_reference_and_an_unmerged_one_says_what_to_do(
    player: ClusterPlayer,
) -> None:
    await begin(player, "merged")
    await player.finish("merged-ft-1", last_words(MERGED))
    await status_of(player, "merged", "Succeeded")
    await serve(player, "whole", model={"from": {"kind": "FineTune", "name": "merged"}})
    served = (await player.service("whole"))["status"]["model"]
    assert (served["source"], served["uri"], served["digest"]) == ("finetune/merged", MERGED.uri, "sha256:bb")
    assert [each["by"] for each in served["lineage"]] == ["FineTune/merged"]

    await begin(player, "unmerged", output={"merge": False})
    await player.finish("unmerged-ft-1", last_words(UNMERGED))
    await status_of(player, "unmerged", "Succeeded")
    await player.change("whole", model={"from": {"kind": "FineTune", "name": "unmerged"}})
    told = await player.until("whole", phase="Updating", reason="InputsNotReady")
    assert "FineTune unmerged: it has left an adapter and no whole model: serve the model" in told["message"]


async def test_two_finetunes_that_name_each_other_both_say_so_until_one_is_made_anew(player: ClusterPlayer) -> None:
    def after(other: str) -> Manifest:
        return {"model": {"from": {"kind": "FineTune", "name": other}}}

    async def message(name: str, reason: str) -> str:
        async def told() -> str | None:
            status = ((await player.kube.get(FINE_TUNES, player.namespace, name)) or {}).get("status") or {}
            return status["message"] if status.get("reason") == reason else None

        reply: str = await eventually(told, seconds=30)
        return reply

    await player.kube.create(FINE_TUNES, fine_tune(player.namespace, "egg", **after("hen")))
    assert "FineTune hen: it does not exist" in await message("egg", "InputsNotReady")
    await player.kube.create(FINE_TUNES, fine_tune(player.namespace, "hen", **after("egg")))
    assert await message("hen", "CircularInputs") == (
        "Waits for FineTune egg: it waits for FineTune hen in turn, so that hen and egg can never start: "
        "delete one of them, and create it anew from something else."
    )
    assert "egg and hen can never start" in await message("egg", "CircularInputs")
    await player.kube.delete(FINE_TUNES, player.namespace, "egg")
    assert "FineTune egg: it does not exist" in await message("hen", "InputsNotReady")
    await begin(player, "egg")
    await player.finish("egg-ft-1", last_words(MERGED))
    await status_of(player, "hen", "Starting", "Running")
