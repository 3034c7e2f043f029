"""Who posts a report: a projected service-account token, checked by the API server.

The token's audience is the object that it may report on, so that a token taken from one run is of no use for another;
its extra fields name the pod that it was made for. Accepted tokens are remembered, by their hash, for a short time.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from lmforge_operator.errors import ApiError, Invalid
from lmforge_operator.kube.client import Kube
from lmforge_operator.kube.resources import TOKEN_REVIEWS
from lmforge_operator.manifests import Manifest

POD_NAME = "authentication.kubernetes.io/pod-name"
POD_UID = "authentication.kubernetes.io/pod-uid"
REMEMBERED = 10_000
REFUSED_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Caller:
    """The pod that a token was made for."""

    namespace: str
    pod: str
    pod_uid: str


class Reviewer:
    """Asks the API server about tokens, once in a while for each."""

    def __init__(self, kube: Kube, *, remember_seconds: float, clock: Callable[[], float]) -> None:
        self._kube = kube
        self._remember_seconds = remember_seconds
        self._clock = clock
        self._known: OrderedDict[bytes, tuple[float, Caller | None]] = OrderedDict()

    async def identify(self, token: str, *, audience: str) -> Caller | None:
        """The caller, or None when the token isn't valid for this audience. Raises: ApiError."""
        fingerprint = hashlib.sha256(f"{audience}\n{token}".encode()).digest()
        known = self._known.get(fingerprint)
        if known is not None and self._clock() < known[0]:
            return known[1]
        caller = await self._review(token, audience)
        seconds = self._remember_seconds if caller else min(REFUSED_SECONDS, self._remember_seconds)
        self._known[fingerprint] = (self._clock() + seconds, caller)
        self._known.move_to_end(fingerprint)
        while len(self._known) > REMEMBERED:
            self._known.popitem(last=False)
        return caller

    async def _review(self, token: str, audience: str) -> Caller | None:
        review = {
            "apiVersion": TOKEN_REVIEWS.api_version,
            "kind": TOKEN_REVIEWS.kind,
            "spec": {"token": token, "audiences": [audience]},
        }
        try:
            answer = await self._kube.review(TOKEN_REVIEWS, review)
        except Invalid:
            return None
        except ApiError as error:
            raise type(error)("the token could not be checked", status=error.status) from None
        return _caller(answer.get("status") or {}, audience)


def _caller(status: Manifest, audience: str) -> Caller | None:
    user = status.get("user") or {}
    extra = user.get("extra") or {}
    kind, _, account = str(user.get("username", "")).rpartition("system:serviceaccount:")
    # An API server that knows nothing of audiences leaves them out: then the token proves nothing about this object.
    if not status.get("authenticated") or audience not in (status.get("audiences") or ()) or kind or not account:
        return None
    names, uids = extra.get(POD_NAME) or (), extra.get(POD_UID) or ()
    if not names or not uids:
        return None
    return Caller(account.partition(":")[0], names[0], uids[0])
