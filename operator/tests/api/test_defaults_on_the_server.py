"""The API server and pydantic see the same object: what one accepts and fills in, so does the other."""

from typing import Any

import pytest
from apiserver import ApiServer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from specs import ALONE, GOOD, patched

from lmforge_api.base import API_VERSION
from lmforge_api.derive import derived, is_feasible, sizes_that_fit
from lmforge_api.trainingjob import TrainingJobSpec

PATH = f"/apis/{API_VERSION}/namespaces/default/trainingjobs"
MINIMAL = patched(GOOD, {**ALONE, "steps": None, "model": {"init": None}, "dataset": {"uri": None}})

on_the_server = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)


def stored(server: ApiServer, spec: dict[str, Any]) -> dict[str, Any] | None:
    """The spec as the server would store it, or None if it refuses."""
    body = {"apiVersion": API_VERSION, "kind": "TrainingJob", "metadata": {"name": "tiny"}, "spec": spec}
    reply = server.request("POST", f"{PATH}?dryRun=All&fieldValidation=Strict", body)
    return reply.body["spec"] if reply.ok else None


@pytest.mark.integration
def test_the_server_fills_in_what_pydantic_fills_in(api_server: ApiServer) -> None:
    least = patched(MINIMAL, {"model": {"init": {}}, "dataset": {"uri": "pvc://corpus/text"}})
    seen = stored(api_server, least)
    assert seen == TrainingJobSpec.model_validate(least).wire()
    assert {"zero", "template", "failurePolicy", "parallelism", "batch"} <= seen.keys()


_QUANTITIES = st.sampled_from(["1", "500m", "2.5", "3Gi", "64Gi", "1T"])
_NAMES = st.from_regex(r"[a-z]([a-z0-9-]{0,8}[a-z0-9])?", fullmatch=True)
_URIS = st.sampled_from(["pvc://corpus/a", "hf://org/name@main", "s3://bucket/x/*.jsonl", "file:///data/文本.txt"])


def _some(required: dict[str, st.SearchStrategy[Any]], **optional: st.SearchStrategy[Any]) -> Any:
    return st.fixed_dictionaries(required, optional=optional)


@st.composite
def layouts(draw: st.DrawFn) -> dict[str, Any]:
    """Ranks, nodes, batch, model and elastic bounds, most of which fit together."""
    data, tensor, pipeline = (draw(st.sampled_from(sizes)) for sizes in ([1, 2, 3, 4], [1, 1, 2, 4], [1, 1, 2]))
    nodes = draw(st.sampled_from([1, 1, 2, data]))
    micro = draw(st.integers(1, 3))
    layout: dict[str, Any] = {
        "parallelism": {"data": data, "tensor": tensor, "pipeline": pipeline},
        "nodes": nodes,
        "batch": {"micro": micro, "global": micro * data * draw(st.integers(1, 12))},
        "model": {"init": {"heads": 4, "hiddenSize": draw(st.sampled_from([64, 96, 128]))}},
    }
    if draw(st.booleans()):
        layout["processesPerNode"] = draw(st.sampled_from([1, 2, data * tensor * pipeline // nodes or 1]))
    if draw(st.booleans()):
        low = draw(st.integers(1, nodes))
        layout["elastic"] = {"minNodes": low, "maxNodes": draw(st.integers(nodes, 2 * nodes))}
    return layout


@pytest.mark.integration
@on_the_server
@given(layout=layouts())
def test_what_the_server_takes_can_be_derived_at_every_size_that_it_promises(
    api_server: ApiServer, layout: dict[str, Any]
) -> None:
    given_spec = patched(patched(MINIMAL, {"dataset": {"uri": "pvc://corpus/text"}}), layout)
    seen = stored(api_server, given_spec)
    if seen is None:
        return
    spec = TrainingJobSpec.model_validate(seen)
    assert derived(spec)["dataParallel"] == str(spec.parallelism.data)
    assert is_feasible(spec, nodes=spec.nodes)
    if spec.elastic:
        sizes = sizes_that_fit(spec)
        assert (sizes[0], sizes[-1]) == (spec.elastic.min_nodes, spec.elastic.max_nodes)


@pytest.mark.integration
@on_the_server
@given(
    spec=_some(
        {
            "model": _some({"uri": _URIS}),
            "dataset": _some({"uri": _URIS}, format=st.sampled_from(["auto", "csv"]), column=_NAMES),
        },
        sequenceLength=st.integers(8, 4096),
        zero=_some({}, stage=st.integers(0, 3), overlapComm=st.booleans(), reduceBucketSize=st.integers(1000, 10**10)),
        precision=st.sampled_from(["fp32", "bf16"]),
        optimizer=_some(
            {},
            learningRate=st.floats(1e-8, 10),
            beta1=st.floats(0, 0.999),
            weightDecay=st.floats(0, 10),
            gradientClipping=st.floats(0, 1e9),
        ),
        schedule=_some({}, kind=st.sampled_from(["cosine", "linear", "constant"]), minimumRatio=st.floats(0, 1)),
        steps=st.integers(1, 10**8),
        seed=st.integers(0, 2**31 - 1),
        checkpoint=_some({"async": st.booleans()}, everySteps=st.integers(1, 10**6)),
        evaluation=_some({}, holdout=st.floats(1e-6, 0.5), dataset=_some({"uri": _URIS})),
        resources=_some({"memory": st.sampled_from(["8Gi", "1T"])}, cpu=_QUANTITIES),
        suspend=st.booleans(),
        activeDeadlineSeconds=st.integers(1, 10**9),
        scheduling=_some({}, queue=_NAMES, gang=st.sampled_from(["none", "volcano"])),
        failurePolicy=_some(
            {},
            rules=st.lists(
                _some({"action": st.sampled_from(["Fail", "Restart"]), "onExitCodes": st.just([1, 255])}), max_size=3
            ),
        ),
        template=_some(
            {},
            image=st.just("registry.example.org/trainer:1"),
            labels=st.dictionaries(_NAMES, _NAMES, max_size=3),
            nodeSelector=st.dictionaries(_NAMES, _NAMES, max_size=3),
            tolerations=st.lists(st.fixed_dictionaries({"key": _NAMES, "nested": st.just({"a": [1]})}), max_size=2),
            env=st.lists(
                _some(
                    {"name": st.from_regex(r"[B-L][A-Z]{0,5}", fullmatch=True)}, value=st.text("abc \n'{é", max_size=9)
                ),
                max_size=3,
                unique_by=lambda entry: entry["name"],
            ),
        ),
    )
)
def test_what_pydantic_takes_the_server_takes_and_both_fill_in_the_same(
    api_server: ApiServer, spec: dict[str, Any]
) -> None:
    expected = TrainingJobSpec.model_validate(spec)
    seen = stored(api_server, spec)
    assert seen == expected.wire()
    assert TrainingJobSpec.model_validate(seen) == expected
