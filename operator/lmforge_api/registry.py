"""How one gets into an OCI registry."""

from pydantic import Field

from lmforge_api.base import ApiModel
from lmforge_api.common import Name

LOGIN_PATH = "/var/run/lmforge-registry"
"""Where pods find the Secret."""


class RegistryAccess(ApiModel):
    """How a registry is spoken to."""

    secret: Name | None = Field(
        None,
        description="Secret of type kubernetes.io/dockerconfigjson with a user name and password for the registry (kubectl create secret docker-registry). Default: no credentials.",
    )
    insecure: bool = Field(
        False, description="Speak plain http, so that credentials and files can be read and changed on their way."
    )
