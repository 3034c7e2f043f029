"""The story of one request: who calls and may they, what is sent on, how the answer comes back, what it took."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from lmforge_api.gateway_run import GatewayRun
from lmforge_workloads.serve.errors import ApiError, BadRequest, Unavailable
from lmforge_workloads.serve.gateway import account, limits, metrics, templates
from lmforge_workloads.serve.gateway.body import Prepared, continued, prepare
from lmforge_workloads.serve.gateway.conversation import turn
from lmforge_workloads.serve.gateway.demand import Demand
from lmforge_workloads.serve.gateway.endpoints import Endpoint, Fields
from lmforge_workloads.serve.gateway.exchange import ClientGone, Exchange, Receive, Scope, Send
from lmforge_workloads.serve.gateway.keys import Caller, Keys
from lmforge_workloads.serve.gateway.limits import Limiter
from lmforge_workloads.serve.gateway.models import Models
from lmforge_workloads.serve.gateway.relay import Keep, relay
from lmforge_workloads.serve.gateway.sessions import SessionStore, session_key
from lmforge_workloads.serve.gateway.traffic import Answer, Traffic

log = logging.getLogger(__name__)

_PAUSES = (0.05, 0.2, 0.5, 1.0)


@dataclass(frozen=True)
class Parts:
    """What requests need; made once."""

    run: GatewayRun
    models: Models
    keys: Keys
    limiter: Limiter
    sessions: SessionStore | None
    traffic: Traffic
    demand: Demand


class Proxy:
    """An ASGI application for one endpoint."""

    def __init__(self, endpoint: Endpoint, parts: Parts) -> None:
        self._endpoint = endpoint
        self._parts = parts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange(scope, receive, send)
        record = account.Record(self._endpoint, models=frozenset(self._parts.models.names))
        try:
            await self._answer(exchange, record)
        except ClientGone:
            exchange.status = account.CLIENT_GONE
        except ApiError as error:
            await exchange.fail(error)
        except asyncio.CancelledError:  # the drain's time is over
            await exchange.fail(Unavailable("The gateway was stopped before the answer's end: ask again"))
            raise
        except Exception:
            log.exception("a request failed by a fault of the gateway")
            await exchange.fail(ApiError("The gateway failed: its log says why"))
        finally:
            record.close(exchange, access_log=self._parts.run.gateway.access_log)

    async def _answer(self, exchange: Exchange, record: account.Record) -> None:
        caller = self._parts.keys.identify(exchange.header(b"authorization"))
        record.key_id = caller.id
        caller.check_scope(self._endpoint.scope)
        session = self._session(exchange, caller)
        body = await exchange.body(limit=self._parts.run.max_body_bytes)
        template = templates.choose(
            self._parts.run.gateway, caller, exchange.header(b"x-prompt-template"), endpoint=self._endpoint
        )
        prepared = prepare(
            body,
            endpoint=self._endpoint,
            caller=caller,
            gateway=self._parts.run.gateway,
            template=template,
            in_session=session is not None,
        )
        async with exchange.while_client_stays(), self._within_limits(exchange, caller, prepared, record):
            with self._parts.demand.counted():
                if session is None:
                    user = exchange.header(b"x-user-id")
                    conversation = None if user is None else session_key(caller.id, user)
                    await self._forward(exchange, prepared, record, conversation)
                else:
                    await self._take_turn(exchange, prepared, session, record)

    def _session(self, exchange: Exchange, caller: Caller) -> str | None:
        name = exchange.header(b"x-session-id")
        if name is None or (not self._endpoint.is_chat and self._parts.sessions is None):
            return None
        if self._parts.sessions is None:
            raise BadRequest("X-Session-Id: this service remembers no conversations, spec.gateway.sessions is not set")
        if not self._endpoint.is_chat:
            raise BadRequest("X-Session-Id is for chats: leave it out")
        return session_key(caller.id, name)

    @asynccontextmanager
    async def _within_limits(
        self, exchange: Exchange, caller: Caller, prepared: Prepared, record: account.Record
    ) -> AsyncIterator[None]:
        """Reserves tokens before, and settles them by what was used after."""
        if not limits.is_limited(caller.limits):
            yield
            return
        limiter, reserved = self._parts.limiter, prepared.reserve
        verdict = await limiter.take(caller.id, caller.limits, tokens=reserved)
        if not verdict.admitted:
            metrics.LIMITED.labels(caller.id).inc()
            raise limits.refusal(verdict, caller.limits, key_id=caller.id)
        exchange.answer_headers += limits.headers(verdict, caller.limits)
        try:
            yield
        except ApiError:
            record.outcome.is_refused = not record.outcome.is_answered
            raise
        finally:
            if caller.limits.tokens_per_minute is not None:
                used = record.outcome.tokens(reserved=reserved, prompt_estimate=prepared.prompt_estimate)
                await limiter.settle(caller.id, caller.limits, back=reserved - used)

    async def _take_turn(self, exchange: Exchange, prepared: Prepared, session: str, record: account.Record) -> None:
        """A session's request, with what was said before; its own turn is kept when it came to its end."""
        sessions = self._parts.sessions
        assert sessions is not None
        assert prepared.fields is not None
        asked = prepared.fields["messages"]

        async def keep(message: Fields) -> None:
            await sessions.append(session, turn(asked, message))

        async with sessions.locked(session):
            told = continued(prepared, await sessions.turns(session))
            await self._forward(exchange, told, record, session, keep=keep)

    async def _forward(
        self,
        exchange: Exchange,
        prepared: Prepared,
        record: account.Record,
        conversation: str | None,
        *,
        keep: Keep | None = None,
    ) -> None:
        until = asyncio.get_running_loop().time() + self._parts.run.hold.seconds
        answer = await self._open(exchange, prepared.body, conversation, until=until)
        with answer.counted(exchange, record.outcome):
            await relay(exchange, answer.response, prepared, record.outcome, keep=keep)

    async def _open(self, exchange: Exchange, body: bytes, conversation: str | None, *, until: float) -> Answer:
        """The answer's head. A replica that lacks an adapter is about to be given it, or other weights of it."""
        path, headers, traffic = self._endpoint.path, exchange.headers, self._parts.traffic
        for pause in _PAUSES:
            answer = await traffic.open(path, body, headers, until=until, conversation=conversation)
            if answer.response.status != 404 or not self._parts.models.is_adapter(body):
                return answer
            answer.response.close()
            await asyncio.sleep(pause)
        return await traffic.open(path, body, headers, until=until, conversation=conversation)
