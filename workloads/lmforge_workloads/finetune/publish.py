"""Push the artifact to the registry that output.publish names: looked at before the first step, done after the last."""

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path

from lmforge_api.finetune_results import Published
from lmforge_api.oci import parse
from lmforge_api.run import FineTuneRun
from lmforge_workloads.common import artifact, modelpack
from lmforge_workloads.common.exits import RegistryUnavailable, WorkloadError
from lmforge_workloads.common.exported import directory_of
from lmforge_workloads.common.registry import Registry, opened
from lmforge_workloads.common.registry_login import read_login

log = logging.getLogger(__name__)


def check(run: FineTuneRun) -> None:
    """Before hours of training: raise UserError for a login that is missing or refused. An outage may pass by then."""
    if run.spec.output.publish is None:
        return
    try:
        with _registry(run) as registry:
            registry.may_push()
    except RegistryUnavailable as error:
        log.warning("the artifact couldn't be published now: %s", error)


def publish(run: FineTuneRun) -> Published | None:
    """Push the artifact, which is complete in the store and stays there whatever happens here."""
    if run.spec.output.publish is None:
        return None
    directory = directory_of(run)
    manifest = artifact.read_manifest(directory)
    assert manifest is not None
    try:
        with _registry(run) as registry:
            digest = modelpack.push(registry, directory, manifest)
            log.info("published %s as %s", registry.reference.uri, digest)
            return Published(uri=registry.reference.uri, digest=digest)
    except WorkloadError as error:
        place = f"{run.store.uri}/artifact" if run.store.uri else str(directory)
        raise type(error)(f"the artifact is complete at {place}, but can't be published: {error}") from error


@contextlib.contextmanager
def _registry(run: FineTuneRun) -> Iterator[Registry]:
    to = run.spec.output.publish
    assert to is not None
    reference = parse(to.uri)
    login = read_login(reference.registry, to, mounted=Path(run.login_path))
    with opened(reference, to, login=login) as registry:
        yield registry
