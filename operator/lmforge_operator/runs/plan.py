"""From a run and the operator's settings to an attempt: what is the same for every kind of run. Pure."""

from collections.abc import Sequence

from lmforge_api.common import Attempt
from lmforge_api.run import RUN_CONFIG_PATH, AttemptRun, ProgressTarget, Rendezvous, StorePaths
from lmforge_operator.inputs.uris import claims_of, in_pod
from lmforge_operator.runs.kind import AnySpec, Observed
from lmforge_operator.runs.launch import TOKEN_DIR, Launch
from lmforge_operator.runs.names import Owner
from lmforge_operator.runs.run import Run
from lmforge_operator.settings import Settings


def launch_of(
    observed: Observed[AnySpec],
    attempt: Attempt,
    settings: Settings,
    *,
    image: str,
    program: str,
    told: AttemptRun,
    reports_ca: str,
) -> Launch:
    """Everything that the attempt's Job, Service and ConfigMap are made from. `program` runs with what it is `told`."""
    spec, run, pods, store = observed.spec, observed.run, settings.pods, settings.store
    return Launch(
        owner=observed.owner,
        attempt=attempt.number,
        nodes=attempt.nodes,
        image=image,
        command=_command(program),
        config=told.model_dump_json(by_alias=True, exclude_none=True),
        resources=spec.resources,
        scheduling=spec.scheduling,
        template=spec.template,
        store_claim=store.claim_name,
        store_mount=store.mount_path,
        claims=claims_of(run.inputs.uris, store_claim=store.claim_name),
        reports_ca=reports_ca,
        pull_policy=settings.images.pull_policy,
        pull_secrets=settings.images.pull_secrets,
        grace_seconds=pods.termination_grace_seconds,
        user=pods.run_as_user,
        node_selector=pods.node_selector,
        tolerations=pods.tolerations,
        hash=run.template_hash,
    )


def _command(program: str) -> Sequence[str]:
    return ("python", "-m", program, "--config", RUN_CONFIG_PATH)


def attempt_run(owner: Owner, attempt: Attempt, settings: Settings, *, processes_per_node: int) -> AttemptRun:
    """What the pods of any kind of run are told."""
    store = settings.store
    place = f"{store.sub_path.strip('/')}/{owner.directory}".lstrip("/")
    return AttemptRun(
        namespace=owner.namespace,
        name=owner.name,
        uid=owner.uid,
        attempt=attempt.number,
        nodes=attempt.nodes,
        processes_per_node=processes_per_node,
        rendezvous=Rendezvous(host=owner.host(attempt.number) if attempt.nodes > 1 else "localhost"),
        store=StorePaths(root=f"{store.mount_path}/{place}", uri=f"pvc://{store.claim_name}/{place}"),
        progress=_target(owner, settings),
    )


def path_of(run: Run, name: str, settings: Settings) -> str | None:
    """The URI that the workload opens for this input, if the run has it."""
    store, uri = settings.store, run.inputs.uri(name)
    return in_pod(uri, store_claim=store.claim_name, store_mount=store.mount_path) if uri else None


def _target(owner: Owner, settings: Settings) -> ProgressTarget | None:
    url = settings.reports.service_url
    if url is None:
        return None
    path = f"/v1/progress/{owner.plural}/{owner.namespace}/{owner.name}"
    return ProgressTarget(url=url + path, token_path=f"{TOKEN_DIR}/token")
