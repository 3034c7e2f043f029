"""What the engine counts, for Prometheus."""

from prometheus_client import Counter, Gauge, Histogram

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)

WAITING = Gauge("lmforge_engine_requests_waiting", "Requests in line.")
RUNNING = Gauge("lmforge_engine_requests_running", "Requests that are being answered.")
KV_CACHE_USE = Gauge("lmforge_engine_kv_cache_use_ratio", "Share of the KV cache that is reserved, 0 to 1.")
PROMPT_TOKENS = Counter("lmforge_engine_prompt_tokens_total", "Tokens of the prompts of requests that began.")
TOKENS = Counter("lmforge_engine_generated_tokens_total", "Generated tokens.")
FINISHED = Counter(
    "lmforge_engine_requests_finished_total",
    "Requests by how they ended: stop, length, cancelled (the client went), failed.",
    ["reason"],
)
FIRST_TOKEN = Histogram(
    "lmforge_engine_time_to_first_token_seconds",
    "From a request's arrival to its first token.",
    buckets=_SECONDS,
)
