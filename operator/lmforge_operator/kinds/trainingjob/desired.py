"""What an attempt of a TrainingJob consists of. Pure."""

from lmforge_api import derive
from lmforge_api.common import Attempt
from lmforge_api.run import ProgressTarget, Rendezvous, StorePaths, TrainingRun
from lmforge_operator.inputs.uris import claims_of, in_pod
from lmforge_operator.kinds.trainingjob.observe import Training
from lmforge_operator.runs.launch import TOKEN_DIR, Launch
from lmforge_operator.settings import Settings

COMMAND = ("python", "-m", "lmforge_workloads.train", "--config", "/etc/lmforge/run.json")


def launch(training: Training, attempt: Attempt, settings: Settings, *, reports_ca: str) -> Launch:
    """Everything that the attempt's Job, Service and ConfigMap are made from."""
    spec, store = training.spec, settings.store
    sources = training.sources
    uris = [uri for uri in (sources.dataset, sources.evaluation, sources.tokenizer, sources.model) if uri]
    return Launch(
        owner=training.owner,
        attempt=attempt.number,
        nodes=attempt.nodes,
        image=settings.images.train,
        command=COMMAND,
        config=_config(training, attempt, settings),
        resources=spec.resources,
        scheduling=spec.scheduling,
        template=spec.template,
        store_claim=store.claim_name,
        store_mount=store.mount_path,
        claims=claims_of(uris, store_claim=store.claim_name),
        reports_ca=reports_ca,
        pull_policy=settings.images.pull_policy,
        pull_secrets=settings.images.pull_secrets,
        grace_seconds=settings.pods.termination_grace_seconds,
        user=settings.pods.run_as_user,
        node_selector=settings.pods.node_selector,
        tolerations=settings.pods.tolerations,
        hash=training.run.template_hash,
    )


def _config(training: Training, attempt: Attempt, settings: Settings) -> str:
    """run.json: what the pods are told."""
    owner, spec, sources, store = training.owner, training.spec, training.sources, settings.store

    def where(uri: str | None) -> str | None:
        return in_pod(uri, store_claim=store.claim_name, store_mount=store.mount_path) if uri else None

    place = f"{store.sub_path.strip('/')}/{owner.directory}".lstrip("/")
    run = TrainingRun(
        namespace=owner.namespace,
        name=owner.name,
        uid=owner.uid,
        attempt=attempt.number,
        nodes=attempt.nodes,
        processes_per_node=derive.processes_per_node(spec),
        data_parallel=derive.data_parallel_size(spec, nodes=attempt.nodes),
        rendezvous=Rendezvous(host=owner.host(attempt.number) if attempt.nodes > 1 else "localhost"),
        store=StorePaths(root=f"{store.mount_path}/{place}", uri=f"pvc://{store.claim_name}/{place}"),
        dataset_path=where(sources.dataset) or "",
        evaluation_path=where(sources.evaluation),
        tokenizer_path=where(sources.tokenizer),
        model_path=where(sources.model),
        progress=_target(training, settings),
        spec=spec,
    )
    return run.model_dump_json(by_alias=True, exclude_none=True)


def _target(training: Training, settings: Settings) -> ProgressTarget | None:
    url = settings.reports.service_url
    if url is None:
        return None
    owner = training.owner
    path = f"/v1/progress/{owner.plural}/{owner.namespace}/{owner.name}"
    return ProgressTarget(url=url + path, token_path=f"{TOKEN_DIR}/token")
