"""What an InferenceService consists of. Pure."""

from collections.abc import Mapping

from lmforge_api.gateway_run import GatewayRun
from lmforge_operator.inputs.uris import claims_of, in_pod
from lmforge_operator.kinds.inferenceservice.observe import Service
from lmforge_operator.manifests import Manifest
from lmforge_operator.serving import engine_pods, inspection
from lmforge_operator.serving.adapters.config import config
from lmforge_operator.serving.engines import ENGINES, Engine, Task
from lmforge_operator.serving.front import common, gateway, router
from lmforge_operator.serving.names import Owner
from lmforge_operator.serving.observed import RevisionSeen
from lmforge_operator.settings import Settings


class Desired:
    """The manifests of one InferenceService's children."""

    def __init__(self, service: Service, settings: Settings, *, reports_ca: str) -> None:
        self._service = service
        self._settings = settings
        self._reports_ca = reports_ca

    @property
    def owner(self) -> Owner:
        return self._service.owner

    def revision(self, *, replicas: int) -> Manifest:
        """The revision that the spec asks for. (Older ones are only scaled.)"""
        model = self._service.serving.model.uri
        revision = engine_pods.Revision(
            owner=self.owner,
            name=self._service.serving.update,
            engine=self._engine,
            task=Task(self.owner.name, _place(model), self._service.spec),
            settings=self._settings,
            claims=(*claims_of([model], store_claim=""), *self._service.claims),
        )
        return revision.manifest(replicas=replicas)

    def inspection(self) -> Manifest:
        """The Job that looks at a model's files."""
        return inspection.job(self.owner, self._service.spec, self._settings)

    def adapters(self) -> Manifest | None:
        """The ConfigMap of its adapters, if it takes any."""
        return config(self.owner, self._service.serving.adapters) if self._service.spec.lora else None

    def service(self, role: str) -> Manifest:
        """The Service that clients talk to."""
        return common.service(self.owner, self.owner.name, role, self.owner.reference)

    def router_identity(self) -> tuple[Manifest, Manifest, Manifest]:
        """ServiceAccount, Role, RoleBinding."""
        return router.identity(self.owner)

    def router(self, revision: RevisionSeen | None = None) -> Manifest:
        """Deployment of the router for all revisions, or for that one."""
        return router.manifest(self.owner, self._service.spec, self._settings, engine=self._engine, revision=revision)

    def router_service(self, made: Mapping[str, object], revision: str) -> Manifest:
        """The Service before the router of that revision."""
        return router.revision_service(self.owner, made, revision)

    def gateway(self) -> Manifest | None:
        """The gateway's Deployment, if one is wanted."""
        told = self._told()
        if told is None:
            return None
        return gateway.manifest(self.owner, self._service.spec, told, self._settings, reports_ca=self._reports_ca)

    def beside_gateway(self, made: Mapping[str, object], *, upstream: str = "") -> tuple[Manifest, Manifest]:
        """The gateway's ConfigMap, and the Service by which it finds the router (of the revision `upstream`, if one is
        named); both go with its Deployment."""
        told = self._told()
        assert told is not None, "there is a gateway"
        config = gateway.config(self.owner, told, self._reports_ca, made)
        return config, router.service(self.owner, made, revision=upstream)

    @property
    def _engine(self) -> Engine:
        return ENGINES[self._service.spec.engine]

    def _told(self) -> GatewayRun | None:
        wanted = gateway.wanted(self._service.spec)
        return gateway.told(self.owner, self._service.spec, wanted, self._settings) if wanted else None


def _place(uri: str) -> str:
    """Where the engine finds the model: a directory of the pod, or a name of the hub."""
    return in_pod(uri, store_claim="", store_mount="").removeprefix("file://")
