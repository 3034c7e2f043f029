"""A FineTune: what its pods are told, what it waits for, and what its status makes of what they say."""

from typing import Any

import pytest

from lmforge_api.finetune import FineTuneStatus
from lmforge_api.run import FineTuneRun
from lmforge_operator.kinds.finetune.desired import launch
from lmforge_operator.kinds.finetune.observe import Tuning, observe
from lmforge_operator.runs import launch as objects
from lmforge_operator.runs.advance import advance
from lmforge_operator.runs.launch import Launch
from lmforge_operator.settings import Settings
from tests.runs.builders import at, attempt, report, seen

Manifest = dict[str, Any]

JOB = {"metadata": {"name": "chat-ft-1", "uid": "job-uid"}}
SETTINGS = Settings.model_validate({"reports": {"serviceUrl": "https://lmforge-reports.lmforge-system.svc:8443"}})
BASE_INPUTS = [{"name": "dataset", "source": "spec", "uri": "pvc://corpus/docs", "digest": "sha256:dd"}]
BASE = {
    "status": {
        "phase": "Succeeded",
        "artifact": {"uri": "pvc://lmforge-store/base/artifact", "digest": "sha256:bb", "format": "HuggingFace"},
        "inputs": BASE_INPUTS,
    }
}
FROM_BASE = {"model": {"from": {"kind": "TrainingJob", "name": "base"}}}
EVALUATION = {"step": 40, "loss": 2.2, "perplexity": 9.03}
FIGURES = {
    "evaluationBefore": {"step": 0, "loss": 3.1, "perplexity": 22.2},
    "trainableParameters": 921600,
    "parameters": 135436608,
    "epoch": 1.5,
    "peakMemoryBytes": 812 * 2**20,
    "rows": {"read": 100, "train": 90, "evaluation": 5, "empty": 5, "examples": ["chats.csv row 17: empty"]},
}


def tuning(
    status: Manifest | None = None, *, others: dict[tuple[str, str], Manifest] | None = None, **spec: Any
) -> Tuning:
    """A FineTune named chat in namespace ml, beside TrainingJob base, half a minute after its beginning."""
    known = others if others is not None else {("TrainingJob", "base"): BASE}
    return observe(chat(status, **spec), seen(now=at(30), others=known), image="finetune:1")


def chat(status: Manifest | None = None, **spec: Any) -> Manifest:
    """The object."""
    base = {"model": {"uri": "pvc://models/base"}, "dataset": {"uri": "pvc://corpus/chats.csv"}}
    meta = {"name": "chat", "namespace": "ml", "uid": "12345678-aaaa", "generation": 1}
    return {"kind": "FineTune", "metadata": meta, "spec": base | spec, "status": status or {}}


def launched(**spec: Any) -> Launch:
    """Its first attempt."""
    found = tuning(**spec)
    return launch(found, attempt(nodes=found.spec.nodes), SETTINGS, reports_ca="PEM")


def told(**spec: Any) -> FineTuneRun:
    """What its pods read."""
    return FineTuneRun.model_validate_json(objects.config_map(launched(**spec), JOB)["data"]["run.json"])


def at_work(heard: Manifest, status: Manifest | None = None, *, done: bool = False) -> FineTuneStatus:
    """The status of a first attempt at work (or done with it) that has just said this."""
    meta = {"name": "chat-ft-1", "labels": {"lmforge.dev/attempt": "1"}, "creationTimestamp": "2026-01-02T03:04:05Z"}
    job = {"metadata": meta, "status": {"conditions": [{"type": "Complete", "status": "True"}] if done else []}}
    said = report(step=40, steps=60, evaluation=EVALUATION, fine_tune=heard)
    before = status or FineTuneStatus(phase="Running", observed_generation=1, attempts=[attempt()]).wire()
    found = observe(chat(before), seen(now=at(30), jobs=[job], report=(said, at(29))), image="finetune:1")
    after = advance(found.run).status
    assert isinstance(after, FineTuneStatus)
    return after


def test_an_attempt_runs_the_program_in_the_image_that_the_chart_names() -> None:
    job = objects.job(launched())
    assert job["metadata"]["name"] == "chat-ft-1"
    container = job["spec"]["template"]["spec"]["containers"][0]
    assert container["image"] == "lmforge-finetune:latest"
    assert container["command"] == [
        "python", "-m", "lmforge_workloads.finetune", "--config", "/etc/lmforge/run.json",
    ]  # fmt: skip


def test_pods_are_told_where_their_inputs_are_and_what_people_call_them() -> None:
    run = told(**FROM_BASE)
    assert run.model_path == "file:///mnt/store/base/artifact"
    assert run.dataset_path == "file:///mnt/pvc/corpus/chats.csv"
    assert run.store.root == "/mnt/store/finetune/ml/chat-12345678"
    assert [(each.name, each.source, each.uri, each.digest) for each in run.inputs] == [
        ("model", "TrainingJob/base", "pvc://lmforge-store/base/artifact", "sha256:bb"),
        ("dataset", "spec", "pvc://corpus/chats.csv", ""),
    ]
    assert [(each.by, each.name, each.digest) for each in run.lineage] == [("TrainingJob/base", "dataset", "sha256:dd")]
    assert run.progress is not None
    assert run.progress.url.endswith("/v1/progress/finetunes/ml/chat")


def test_a_teacher_and_evaluation_rows_are_inputs_too() -> None:
    distill = {"teacher": {"uri": "pvc://models/large"}}
    rows = {"dataset": {"uri": "s3://corpus/test.jsonl"}}
    run = told(method="distill", distill=distill, evaluation=rows)
    assert (run.teacher_path, run.evaluation_path) == ("file:///mnt/pvc/models/large", "s3://corpus/test.jsonl")
    claims = launched(method="distill", distill=distill, evaluation=rows).claims
    assert set(claims) == {"models", "corpus"}


def test_several_nodes_meet_at_the_first_one_and_run_a_rank_for_each_accelerator() -> None:
    spec: Manifest = {
        "distributed": {"nodes": 2, "strategy": "zero2"},
        "resources": {"accelerator": "nvidia.com/gpu", "count": 4, "memory": "64Gi"},
    }
    run = told(**spec)
    assert (run.nodes, run.processes_per_node, run.world_size) == (2, 4, 8)
    assert run.rendezvous.host == "chat-ft-1-0.chat-ft.ml.svc"
    job = objects.job(launched(**spec))
    assert (job["spec"]["completions"], job["spec"]["completionMode"]) == (2, "Indexed")
    assert objects.service(launched(**spec))["metadata"]["name"] == "chat-ft"


NO_WHOLE_MODEL = (
    "it has left an adapter and no whole model: serve the model that it was trained on, with adapters[].from, "
    "or name a FineTune with output.merge: true"
)
WAITS: dict[str, tuple[Manifest, str]] = {
    "no model yet": (
        {"status": {"phase": "Running", "progress": {"percent": "40%"}}},
        "Waits for FineTune tone: it is Running at 40%.",
    ),
    "an adapter alone": (
        {"status": {"phase": "Succeeded", "artifact": {"uri": "pvc://lmforge-store/tone", "format": "PEFT"}}},
        f"Waits for FineTune tone: {NO_WHOLE_MODEL}.",
    ),
}


@pytest.mark.parametrize(("tone", "message"), WAITS.values(), ids=WAITS.keys())
def test_a_model_that_is_no_whole_model_yet_is_waited_for(tone: Manifest, message: str) -> None:
    model = {"from": {"kind": "FineTune", "name": "tone"}}
    decision = advance(tuning(others={("FineTune", "tone"): tone}, model=model).run)
    assert decision.launch is None
    assert (decision.status.phase, decision.status.message) == ("Pending", message)


def waiting_for(kind: str, name: str, **status: Any) -> Manifest:
    """Another object, which goes on from this one."""
    return {"spec": {"model": {"from": {"kind": kind, "name": name}}}, "status": status}


CIRCLES: dict[str, tuple[dict[tuple[str, str], Manifest], str]] = {
    "two": (
        {("FineTune", "tone"): waiting_for("FineTune", "chat")},
        "FineTune tone: it waits for FineTune chat in turn, so that chat and tone can never start: ",
    ),
    "three, one of them of another kind": (
        {
            ("FineTune", "tone"): waiting_for("TrainingJob", "base", phase="Pending"),
            ("TrainingJob", "base"): waiting_for("FineTune", "chat", phase="Suspended"),
        },
        "FineTune tone: it waits for TrainingJob base, which waits for FineTune chat in turn, "
        "so that chat, tone and base can never start: ",
    ),
}


@pytest.mark.parametrize(("others", "says"), CIRCLES.values(), ids=CIRCLES.keys())
def test_objects_that_wait_for_each_other_are_told_so(others: dict[tuple[str, str], Manifest], says: str) -> None:
    teacher = {"from": {"kind": "FineTune", "name": "tone"}}
    status = advance(tuning(others=others, method="distill", distill={"teacher": teacher}).run).status
    remedy = "delete one of them, and create it anew from something else."
    assert (status.phase, status.reason, status.message) == ("Pending", "CircularInputs", f"Waits for {says}{remedy}")


NO_CIRCLES: dict[str, dict[tuple[str, str], Manifest]] = {
    "one that waits for a circle": {
        ("FineTune", "tone"): waiting_for("FineTune", "voice"),
        ("FineTune", "voice"): waiting_for("FineTune", "tone"),
    },
    "one that is at work on what this one has made before": {
        ("FineTune", "tone"): waiting_for("FineTune", "chat", phase="Running"),
    },
    "one that is queued, its inputs there": {
        ("FineTune", "tone"): waiting_for("FineTune", "chat", phase="Pending", attempts=[{"outcome": "Running"}]),
    },
}


@pytest.mark.parametrize("others", NO_CIRCLES.values(), ids=NO_CIRCLES.keys())
def test_who_waits_for_one_that_can_start_is_in_no_circle(others: dict[tuple[str, str], Manifest]) -> None:
    model = {"from": {"kind": "FineTune", "name": "tone"}}
    status = advance(tuning(others=others, model=model).run).status
    assert (status.phase, status.reason) == ("Pending", "InputsNotReady")


def test_status_keeps_what_its_inputs_were_made_from_when_these_are_gone() -> None:
    started = advance(tuning(**FROM_BASE).run).status
    assert [each.by for each in started.lineage] == ["TrainingJob/base"]
    assert started.derived["learningRate"] == "0.0002"
    later = advance(tuning(started.wire(), others={}, **FROM_BASE).run).status
    assert later.lineage == started.lineage


def test_status_says_what_has_been_learned_at_which_cost() -> None:
    status = at_work(FIGURES)
    assert status.evaluation.wire() == {
        "lossBefore": "3.1000", "loss": "2.2000", "perplexityBefore": "22.20", "perplexity": "9.03",
    }  # fmt: skip
    assert status.trainable is not None
    assert status.trainable.wire() == {"parameters": 921600, "of": 135436608, "share": "0.68%"}
    assert (status.epoch, status.peak_memory) == ("1.50", "812 MiB")
    assert status.rows is not None
    assert status.rows.examples == ["chats.csv row 17: empty"]
    assert (status.progress.percent, status.progress.display) == ("66%", "40/60")


def test_what_a_resumed_attempt_does_not_say_again_stays() -> None:
    first = at_work(FIGURES)
    again = at_work({"epoch": 2.0}, first.wire())
    assert again.evaluation == first.evaluation
    assert (again.trainable, again.rows, again.peak_memory) == (first.trainable, first.rows, first.peak_memory)
    assert again.epoch == "2.00"


def test_an_adapter_is_told_beside_the_artifact() -> None:
    adapter = {"uri": "pvc://store/a", "digest": "sha256:a", "format": "PEFT", "rank": 16, "targetModules": ["q_proj"]}
    status = at_work({**FIGURES, "adapter": adapter})
    assert status.adapter is not None
    assert status.adapter.wire() == adapter | {"sizeBytes": 0}


def test_a_success_says_what_it_was_worth() -> None:
    status = at_work(FIGURES, done=True)
    assert status.phase == "Succeeded"
    assert status.message == (
        "Finished 60 steps. Evaluation loss went from 3.1000 to 2.2000, perplexity from 22.20 to 9.03."
    )


def test_the_login_of_the_registry_to_publish_to_is_mounted_and_not_in_what_pods_are_told() -> None:
    to = {"uri": "oci://r.example.org/team/chat:1", "secret": "registry-login"}
    started = launched(output={"publish": to})
    pod_spec = objects.job(started)["spec"]["template"]["spec"]
    (volume,) = [each for each in pod_spec["volumes"] if each["name"] == "registry"]
    assert volume["secret"]["secretName"] == "registry-login"
    assert told(output={"publish": to}).login_path == pod_spec["containers"][0]["volumeMounts"][-1]["mountPath"]


def test_status_says_where_the_artifact_was_published() -> None:
    published = {"uri": "oci://r.example.org/team/chat:1", "digest": "sha256:ab"}
    first = at_work({**FIGURES, "published": published})
    assert first.published is not None
    assert first.published.wire() == published
    assert at_work({"epoch": 2.0}, first.wire()).published == first.published
