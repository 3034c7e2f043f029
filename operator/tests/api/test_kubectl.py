"""What kubectl shows of LMForge's kinds."""

import json

import pytest
from apiserver import ApiServer
from specs import GOOD

from lmforge_api.base import API_VERSION
from lmforge_api.common import ArtifactStatus, Attempt, CheckpointStatus, Condition, Progress
from lmforge_api.kinds import KINDS
from lmforge_api.trainingjob import TrainingJobStatus

pytestmark = pytest.mark.integration

STATUS = TrainingJobStatus(
    observed_generation=1,
    phase="Running",
    reason="Resumed",
    message="Resumed at step 200 on attempt 2.",
    conditions=[Condition(type="InputsReady", status="True", last_transition_time="2026-01-01T00:00:00Z")],
    progress=Progress(
        step=248, steps=400, percent="62%", display="248/400", loss="3.41", tokens_per_second="18.2k", eta="1m40s"
    ),
    attempts=[Attempt(number=1, outcome="Failed", exit_code=137), Attempt(number=2)],
    restarts=1,
    nodes=2,
    checkpoint=CheckpointStatus(step=200),
    artifact=ArtifactStatus(uri="pvc://store/tiny", digest="sha256:0"),
    derived={"worldSize": "8"},
)


@pytest.fixture(scope="module", autouse=True)
def running(api_server: ApiServer) -> None:
    """A TrainingJob in a namespace of its own, with the status that an operator would write."""
    api_server.kubectl("create", "namespace", "shown")
    manifest = {"apiVersion": API_VERSION, "kind": "TrainingJob", "metadata": {"name": "tiny"}, "spec": GOOD}
    api_server.kubectl("apply", "-n", "shown", "-f", "-", stdin=json.dumps(manifest))
    patch = json.dumps({"status": STATUS.wire()})
    api_server.kubectl("patch", "tj", "tiny", "-n", "shown", "--subresource=status", "--type=merge", "-p", patch)


def table(text: str) -> list[list[str]]:
    header, *rows = text.splitlines()
    starts = [i for i, letter in enumerate(header) if letter != " " and (i == 0 or header[i - 2 : i] == "  ")]
    ends = [*starts[1:], None]
    return [[line[a:b].strip() for a, b in zip(starts, ends, strict=True)] for line in (header, *rows)]


def test_get_shows_how_far_it_is(api_server: ApiServer) -> None:
    header, row = table(api_server.kubectl("get", "lmforge", "-n", "shown"))
    assert header == ["NAME", "PHASE", "PROGRESS", "STEP", "LOSS", "TOKENS/S", "ETA", "RESTARTS", "AGE"]
    assert row[:-1] == ["trainingjob.lmforge.dev/tiny", "Running", "62%", "248/400", "3.41", "18.2k", "1m40s", "1"]


def test_wide_shows_why_and_where(api_server: ApiServer) -> None:
    header, row = table(api_server.kubectl("get", "tj", "-n", "shown", "-o", "wide"))
    assert header[9:] == ["REASON", "NODES", "LAST CHECKPOINT", "ARTIFACT"]
    assert row[9:] == ["Resumed", "2", "200", "pvc://store/tiny"]


def test_the_server_stores_status_as_it_was_written(api_server: ApiServer) -> None:
    seen = json.loads(api_server.kubectl("get", "tj", "tiny", "-n", "shown", "-o", "json"))["status"]
    assert seen == STATUS.wire()
    assert TrainingJobStatus.model_validate(seen) == STATUS


def test_explain_teaches(api_server: ApiServer) -> None:
    explained = " ".join(api_server.kubectl("explain", "tj.spec.parallelism").split())
    assert "data × tensor × pipeline is the number of ranks" in explained
    assert "tensor <integer> Ranks that share each layer's matrices" in explained


def test_every_kind_is_found_by_its_short_name_and_category(api_server: ApiServer) -> None:
    rows = api_server.kubectl("api-resources", "--categories=lmforge", "--no-headers").splitlines()
    found = {row.split()[-1]: row.split()[1] for row in rows}
    assert found == {kind.kind: ",".join(kind.short_names) for kind in KINDS}
