"""An engine's stand-in that takes adapters as vLLM does, on an address of its own: real HTTP, no model."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

PORT = 8000


@dataclass
class LoraEngine:
    """`loaded`: paths by name. Paths with `broken` in them can't be loaded."""

    address: str
    loaded: dict[str, str] = field(default_factory=dict)
    calls: list[tuple[str, str]] = field(default_factory=list)

    async def health(self, _: web.Request) -> web.Response:
        return web.Response()

    async def complete(self, request: web.Request) -> web.Response:
        self.calls.append(("complete", (await request.json())["model"]))
        return web.json_response({"choices": []})

    async def models(self, _: web.Request) -> web.Response:
        adapters = [{"id": name, "root": path, "parent": "chat"} for name, path in self.loaded.items()]
        return web.json_response({"data": [{"id": "chat", "root": "/models/tiny", "parent": None}, *adapters]})

    async def load(self, request: web.Request) -> web.Response:
        asked: dict[str, Any] = await request.json()
        name, path = asked["lora_name"], asked["lora_path"]
        self.calls.append(("load", name))
        if name in self.loaded:
            return _error(400, f"The lora adapter '{name}' has already been loaded.")
        if "broken" in path:
            return _error(404, f"Loading lora {name} failed: No adapter found for {path}")
        self.loaded[name] = path
        return web.Response(text="Success")

    async def unload(self, request: web.Request) -> web.Response:
        name = (await request.json())["lora_name"]
        self.calls.append(("unload", name))
        if self.loaded.pop(name, None) is None:
            return _error(404, f"The lora adapter '{name}' cannot be found.")
        return web.Response(text="Success")


def _error(status: int, message: str) -> web.Response:
    return web.json_response({"error": {"message": message, "code": status}}, status=status)


@asynccontextmanager
async def lora_engine(address: str) -> AsyncIterator[LoraEngine]:
    """A running one."""
    engine = LoraEngine(address)
    app = web.Application()
    app.router.add_get("/health", engine.health)
    app.router.add_get("/v1/models", engine.models)
    app.router.add_post("/v1/completions", engine.complete)
    app.router.add_post("/v1/load_lora_adapter", engine.load)
    app.router.add_post("/v1/unload_lora_adapter", engine.unload)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, address, PORT).start()
    try:
        yield engine
    finally:
        await runner.cleanup()
