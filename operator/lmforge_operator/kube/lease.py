"""Leader election on a `coordination.k8s.io` Lease, as client-go does it, with seconds instead of minutes.

Two replicas never write at the same time: a leader counts its deadline from the moment *before* it sent the renewal
that succeeded, on its own monotonic clock, and stops writing then; a standby counts the (longer) lease time from the
moment *after* it saw the renewal. Clocks of different machines are never compared.

The holder's identity carries its address, so that a standby can pass progress reports on: `name_random@host:port`.
"""

import asyncio
import logging
import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from time import monotonic

from lmforge_operator import metrics
from lmforge_operator.errors import ApiError, Conflict, LeadershipLost
from lmforge_operator.kube.client import Kube
from lmforge_operator.kube.resources import LEASES
from lmforge_operator.manifests import Manifest
from lmforge_operator.settings import LeaderElection

log = logging.getLogger(__name__)

RELEASE_TIMEOUT_SECONDS = 1.0


@dataclass(frozen=True)
class Identity:
    """Who a replica is, and where it listens for reports."""

    name: str
    address: str

    def __str__(self) -> str:
        return f"{self.name}@{self.address}"

    @staticmethod
    def address_of(holder: str) -> str | None:
        """host:port of a holder, if it says so."""
        return holder.rpartition("@")[2] or None if "@" in holder else None


@dataclass(frozen=True, slots=True)
class Sighting:
    """A state of the Lease, and when it was first seen (monotonic)."""

    mark: tuple[str, str]
    since: float


class Elector:
    """Runs for office, renews, and says whether this replica leads.

    `kube` must not be fenced by this elector: it has to write before it leads.
    """

    def __init__(
        self,
        kube: Kube,
        settings: LeaderElection,
        *,
        namespace: str,
        identity: Identity,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._kube = kube
        self._settings = settings
        self._namespace = namespace
        self._identity = identity
        self._clock = clock
        self._valid_until = float("-inf")
        self._tried = clock()
        self._sighting: Sighting | None = None
        self._lease: Manifest | None = None
        self._failures = 0
        self.holder = ""
        """Identity of whoever leads, as last seen."""

    @property
    def leads(self) -> bool:
        """Whether this replica may write at this moment."""
        return self._clock() < self._valid_until

    def fence(self) -> None:
        """Raises LeadershipLost unless this replica leads."""
        if not self.leads:
            raise LeadershipLost("another replica leads, or may: not writing")

    def silence(self) -> float:
        """Seconds since it last tried to lead, or to go on with it."""
        return self._clock() - self._tried

    async def acquire(self) -> None:
        """Waits until this replica leads."""
        while not await self._try():  # noqa: ASYNC110 (the Lease is on the API server)
            await asyncio.sleep(self._until_next_look())
        log.info("leading as %s", self._identity)
        metrics.LEADER.set(1)

    async def hold(self) -> None:
        """Renews until that is no longer possible, then raises LeadershipLost."""
        try:
            while True:
                await asyncio.sleep(self._settings.renew_seconds)
                while not await self._try():
                    self.fence()
                    await asyncio.sleep(min(0.2, self._settings.renew_seconds))
        finally:
            metrics.LEADER.set(0)

    async def release(self) -> None:
        """Lets a standby take over at once."""
        if not self.leads or self._lease is None:
            return
        self._valid_until = float("-inf")
        spec = self._lease["spec"] | {"holderIdentity": "", "renewTime": _now(), "leaseDurationSeconds": 1}
        try:
            async with asyncio.timeout(RELEASE_TIMEOUT_SECONDS):
                await self._kube.replace(LEASES, self._lease | {"spec": spec})
            log.info("released the lease")
        except (ApiError, TimeoutError) as error:
            log.warning("the lease was not released, a standby takes over when it expires: %s", error)

    async def _try(self) -> bool:
        """One attempt to take or renew the lease. True: this replica leads."""
        started = self._tried = self._clock()
        try:
            async with asyncio.timeout(max(0.1, self._settings.deadline_seconds - self._settings.renew_seconds)):
                written = await self._renew() if self.leads else await self._take()
        except (ApiError, TimeoutError) as error:
            # Somebody else may have written it: read it anew before the next attempt.
            self._lease = None if isinstance(error, Conflict) else self._lease
            self._failures += 1
            level = logging.WARNING if self.leads and self._failures == 1 else logging.DEBUG
            log.log(level, "the lease could not be written: %s", error or type(error).__name__)
            return False
        self._failures = 0
        if written is None:
            return False
        self._lease = written
        self.holder = str(self._identity)
        self._valid_until = started + self._settings.deadline_seconds
        return True

    async def _renew(self) -> Manifest | None:
        if self._lease is None:
            return await self._take()
        return await self._kube.replace(LEASES, self._lease | {"spec": self._spec(self._lease["spec"])})

    async def _take(self) -> Manifest | None:
        lease = await self._kube.get(LEASES, self._namespace, self._settings.lease_name)
        if lease is None:
            return await self._kube.create(LEASES, self._new())
        spec = lease.get("spec") or {}
        self.holder = spec.get("holderIdentity") or ""
        if self.holder not in ("", str(self._identity)) and not self._expired(spec):
            return None
        return await self._kube.replace(LEASES, lease | {"spec": self._spec(spec)})

    def _expired(self, spec: Manifest) -> bool:
        mark = (self.holder, str(spec.get("renewTime")))
        if self._sighting is None or self._sighting.mark != mark:
            self._sighting = Sighting(mark, self._clock())
        seconds = spec.get("leaseDurationSeconds") or self._settings.lease_seconds
        return self._clock() - self._sighting.since > seconds

    def _until_next_look(self) -> float:
        """The usual pause, or less when the lease that was seen expires sooner."""
        pause = self._settings.poll_seconds * random.uniform(0.8, 1.2)
        if self._sighting is None:
            return pause
        left = self._settings.lease_seconds - (self._clock() - self._sighting.since)
        return max(0.05, min(pause, left + 0.01)) if left > 0 else pause

    def _spec(self, former: Manifest) -> Manifest:
        mine = former.get("holderIdentity") == str(self._identity)
        return {
            "holderIdentity": str(self._identity),
            "leaseDurationSeconds": self._settings.lease_seconds,
            "renewTime": _now(),
            "acquireTime": former.get("acquireTime") if mine else _now(),
            "leaseTransitions": int(former.get("leaseTransitions") or 0) + (not mine),
        }

    def _new(self) -> Manifest:
        return {
            "apiVersion": LEASES.api_version,
            "kind": LEASES.kind,
            "metadata": {"name": self._settings.lease_name, "namespace": self._namespace},
            "spec": self._spec({}),
        }


def _now() -> str:
    """`metav1.MicroTime`; for people, never compared."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
