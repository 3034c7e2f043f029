"""The contract between the operator and a gateway's pods: what they are told, what they report, what they hear."""

from pydantic import Field

from lmforge_api.base import ApiModel, StatusModel
from lmforge_api.gateway import Gateway, ModelName

GATEWAY_CONFIG_PATH = "/etc/lmforge/gateway.json"


class Listen(ApiModel):
    """Where the gateway listens."""

    host: str = Field("0.0.0.0", description="Address to bind.")
    port: int = Field(8080, ge=0, le=65535, description="The API, /healthz and /readyz; 0 takes a free one.")
    metrics_port: int = Field(
        9090, ge=0, le=65535, description="/metrics, apart since it names keys and what they use; 0 takes a free one."
    )


class Upstream(ApiModel):
    """The router or the engines' Service."""

    url: str = Field(
        pattern=r"^https?://[^\s/]+(/[^\s]*[^\s/])?$", description="Base URL without /v1: http://helpdesk-router:80."
    )
    ready_path: str = Field(
        "/v1/models",
        description="GET gives 200 when a replica can answer: /v1/models behind vllm-router, else /health.",
    )
    connect_timeout_seconds: float = Field(5, gt=0, description="Longest wait for a connection.")
    read_timeout_seconds: float = Field(600, gt=0, description="Longest silence, before an answer and within a stream.")


class Hold(ApiModel):
    """What happens to requests while no replica is ready."""

    seconds: float = Field(600, ge=0, description="Longest wait of a request; 0 answers 503 at once.")
    max_requests: int = Field(1000, ge=0, description="Most requests that wait at a time; further ones get 503.")


class DemandTarget(ApiModel):
    """Where the gateway posts its `DemandReport`, and with what identity."""

    url: str = Field(description="Full URL of this object's endpoint.")
    token_path: str = Field("/var/run/lmforge/token", description="Projected service-account token.")
    ca_path: str = Field("/etc/lmforge/ca.crt", description="Certificate of the endpoint's authority.")
    every_seconds: float = Field(1, gt=0, description="Between two reports under demand; ten times that without any.")


class GatewayRun(ApiModel):
    """The whole configuration of a gateway pod."""

    namespace: str = Field(description="Namespace of the InferenceService.")
    name: str = Field(description="Its name.")
    uid: str = Field("", description="Its UID.")
    listen: Listen = Field(default_factory=Listen, description="Where to listen.")
    upstream: Upstream = Field(description="Where requests go.")
    model: ModelName = Field(description="Name under which the engines serve the model.")
    adapters: list[ModelName] = Field(
        [], description="Names of its adapters at the gateway's start, which requests may use as a model."
    )
    keys_path: str = Field("/etc/lmforge/keys", description="Directory where gateway.auth.secretName is mounted.")
    redis_url_path: str = Field(
        "/etc/lmforge/redis/url", description="File with the URL when sessions.redis names a Secret."
    )
    hold: Hold = Field(default_factory=Hold, description="What to do while no replica is ready.")
    demand: DemandTarget | None = Field(None, description="Where to report demand; nothing is posted without it.")
    max_body_bytes: int = Field(32 * 2**20, ge=1, description="Longest request body.")
    drain_seconds: float = Field(300, ge=0, description="Longest time that running requests have after SIGTERM.")
    unready_seconds: float = Field(
        5, ge=0, description="After SIGTERM: go on taking requests so long, until everyone has seen /readyz fail."
    )
    gateway: Gateway = Field(default_factory=Gateway, description="spec.gateway.")


class Route(StatusModel):
    """A revision's router, and its share."""

    revision: str = Field(description="Name of the revision.")
    url: str = Field(description="Base URL of its router.")
    percent: int = Field(ge=0, le=100, description="Percent of the requests that go there.")


class Traffic(StatusModel):
    """Where requests go."""

    id: str = Field(description="Another one for each change: what is counted is counted for it.")
    routes: list[Route] = Field(description="The current revision's first; a canary's may follow.")


class RevisionCounts(StatusModel):
    """What clients got from a revision, of requests that came since `Traffic.id` was told."""

    revision: str = Field(description="Name of the revision.")
    requests: int = Field(0, ge=0, description="Requests that it has answered, or failed to.")
    errors: int = Field(0, ge=0, description="Those among them that it answered by 5xx, or not to the end.")
    first_tokens: int = Field(0, ge=0, description="Streamed answers that began.")
    first_token_seconds: float = Field(0, ge=0, description="Sum of their times to the first token.")


class DemandReport(StatusModel):
    """What a gateway pod posts: at once when a request has to wait, about each second under demand, each ten without any."""

    pod: str = Field(description="Who says this: demand is the sum over the gateway's pods.")
    waiting: int = Field(0, ge=0, description="Requests held because no replica is ready.")
    running: int = Field(0, ge=0, description="Requests sent on and not yet answered in full.")
    total: int = Field(0, ge=0, description="Requests that came since this pod started.")
    idle_seconds: float = Field(0, ge=0, description="Since the last request ended; 0 while there is one.")
    traffic_id: str = Field("", description="The traffic that this pod knows of.")
    revisions: list[RevisionCounts] = Field([], description="What clients got from each of its revisions.")


class DemandReply(StatusModel):
    """What the operator answers."""

    ready: int | None = Field(None, ge=0, description="Replicas that are ready, as far as the operator knows.")
    traffic: Traffic | None = Field(None, description="Where requests go; without it to the configured upstream.")
    adapters: list[ModelName] | None = Field(None, description="Names of the adapters that there are by now.")

    def wire(self) -> dict[str, object]:
        """With empty lists: that there are no adapters any more is said too."""
        return ApiModel.wire(self)
