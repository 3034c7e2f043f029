"""One row for each rule of an InferenceService: what is changed in a good one, and the sentence that refuses it.

None as a value removes the field.
"""

from service_engine_examples import ENGINES, MODEL
from service_size_examples import SCALE, SIZE
from service_specs import LEGAL, TEMPLATE, canary
from specs import Fields, Refused


def _prompts(**fields: object) -> Fields:
    return {"gateway": {"promptTemplates": [{"name": "bank", **fields}]}}


GATEWAY = (
    Refused(
        "a prompt template that does nothing",
        _prompts(),
        "promptTemplates bank changes nothing: give it a system, style, prefix, maxTokens, temperature, topP or stop",
        "gateway.promptTemplates[0]",
    ),
    Refused(
        "a permission without a prohibition",
        _prompts(maxTokens=9, allowSystem=True),
        "promptTemplates bank has no system or style of its own, so callers' system messages are always let through: "
        "leave allowSystem out",
        "gateway.promptTemplates[0].allowSystem",
    ),
    Refused(
        "no Redis",
        {"gateway": {"sessions": {"redis": {}}}},
        "redis needs either url (redis://host:6379/0) or secretName (a Secret whose entry secretKey holds the URL)",
        "gateway.sessions.redis",
    ),
    Refused(
        "a password in the open",
        {"gateway": {"sessions": {"redis": {"url": "redis://:secret@host:6379/0"}}}},
        "redis.url must not hold a password: put the URL into a Secret and name it by secretName",
        "gateway.sessions.redis.url",
    ),
    Refused(
        "every origin with credentials",
        {"gateway": {"cors": {"origins": ["*"], "credentials": True}}},
        "cors.credentials with the origin * would let every web page act for its visitors: name the origins",
        "gateway.cors.credentials",
    ),
    Refused(
        "a template that isn't there",
        {"gateway": {"promptTemplates": [TEMPLATE], "defaultPromptTemplate": "shop"}},
        "gateway.defaultPromptTemplate shop is not among promptTemplates: write the name of one of them",
        "gateway.defaultPromptTemplate",
    ),
    Refused(
        "several memories",
        {"gateway": {"sessions": {}, "replicas": 2}},
        "gateway.replicas is 2, but without sessions.redis each pod would remember other turns: name a Redis, or "
        "write replicas: 1",
        "gateway.replicas",
    ),
)


def _adapter(**fields: object) -> Fields:
    return {"adapters": [{"name": "legal", **fields}]}


ADAPTERS = (
    Refused(
        "an adapter from nowhere",
        _adapter(),
        "adapter legal needs exactly one of from (a FineTune) or uri (a directory with adapter_config.json)",
        "adapters[0]",
    ),
    Refused(
        "an adapter from a kind that makes whole models",
        _adapter(**{"from": {"kind": "TrainingJob", "name": "tiny"}}),
        "adapter legal can't come from a TrainingJob, which makes whole models: name a FineTune, or write a uri",
        "adapters[0].from.kind",
    ),
    Refused(
        "an adapter of the hub",
        _adapter(uri="hf://org/name"),
        "adapter legal is loaded from pvc:// or file:// (inside the image): copy it to a claim, and write "
        "pvc://<claim>/<path>",
        "adapters[0].uri",
    ),
    Refused("an adapter with a bad name", {"adapters": [{**LEGAL, "name": "a b"}]}, "should match", "adapters[0].name"),
    Refused(
        "two adapters of one name", {"adapters": [LEGAL, LEGAL]}, 'Duplicate value: {"name":"legal"}', "adapters[1]"
    ),
    Refused(
        "less room than is used at once",
        {"engineArgs": {"lora": {"maxActive": 8, "maxLoaded": 4}}},
        "engineArgs.lora.maxLoaded 4 is less than maxActive 8: write at least that",
        "engineArgs.lora.maxLoaded",
    ),
    Refused(
        "an odd rank", {"engineArgs": {"lora": {"maxRank": 17}}}, "Unsupported value: 17", "engineArgs.lora.maxRank"
    ),
    Refused(
        "adapters by the engine's own argument",
        {"engineArgs": {"extra": {"lora-modules": "a=b"}}},
        "engineArgs.extra can't set what the operator sets itself",
        "engineArgs.extra",
    ),
    Refused(
        "an adapter with the model's name",
        {"adapters": [{**LEGAL, "name": "chat"}]},
        "spec.adapters has an adapter chat, which is the name of the service and its model: give it another",
        "adapters",
    ),
)

_RISING = "canary.steps must rise: write each percent larger than the one before, as in 5, 25, 50"


CANARY = (
    Refused("shares that fall", canary(5, 50, 25), _RISING, "rollout.canary.steps"),
    Refused("the same share twice", canary(5, 25, 25), _RISING, "rollout.canary.steps"),
    Refused("no steps", canary(), "should have at least 1 items", "rollout.canary.steps"),
    Refused(
        "a share of nothing", canary(0, 5), "should be greater than or equal to 1", "rollout.canary.steps[0].percent"
    ),
    Refused("all as a share", canary(100), "should be less than or equal to 99", "rollout.canary.steps[0].percent"),
    Refused(
        "more errors than requests",
        canary(5, maxErrorPercent=101),
        "should be less than or equal to 100",
        "rollout.canary.gates.maxErrorPercent",
    ),
    Refused(
        "quicker than what serves",
        canary(5, maxTtftPercent=90),
        "should be greater than or equal to 100",
        "rollout.canary.gates.maxTtftPercent",
    ),
    Refused(
        "no time at all",
        canary(5, maxTtftMs=0),
        "should be greater than or equal to 1",
        "rollout.canary.gates.maxTtftMs",
    ),
)

BOUNDS = (
    Refused("an unknown engine", {"engine": "triton"}, 'Unsupported value: "triton"', "engine"),
    Refused("no drain", {"drainSeconds": 0}, "should be greater than or equal to 1", "drainSeconds"),
    Refused("no surge", {"rollout": {"surge": 0}}, "should be greater than or equal to 1", "rollout.surge"),
)

REFUSED = (*MODEL, *ENGINES, *SIZE, *SCALE, *GATEWAY, *ADAPTERS, *CANARY, *BOUNDS)
