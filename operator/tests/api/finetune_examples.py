"""A good FineTune, changes to it that the API server takes, and changes to one that exists.

None as a value removes the field.
"""

from typing import Any

from specs import Fields

GOOD_FINETUNE: Fields = {
    "model": {"uri": "pvc://models/smollm2-135m"},
    "dataset": {"uri": "pvc://corpus/chats.csv"},
}

GPU: Fields = {"resources": {"accelerator": "nvidia.com/gpu", "count": 4}}
TEACHER: Fields = {"teacher": {"uri": "pvc://models/smollm2-1.7b"}}
DISTILL: Fields = {"method": "distill", "distill": TEACHER}


def init(**fields: Any) -> Fields:
    return {"method": "distill", "distill": {**TEACHER, "init": fields}}


TAKEN: dict[str, Fields] = {
    "the smallest": {},
    "all of lora": {
        "lora": {
            "rank": 8, "alpha": 16, "dropout": 0.05, "targetModules": ["q_proj", "v_proj"], "rslora": True, "dora": True
        },
        "output": {"merge": False},
    },
    "qlora": {"method": "qlora", "qlora": {"bits": 4, "type": "nf4", "doubleQuant": True}, "lora": {"rank": 64}},
    "qlora over two pods": {"method": "qlora", "distributed": {"strategy": "fsdp2", "nodes": 2}},
    "8 bits": {"method": "qlora", "qlora": {"bits": 8}},
    "full over two pods": {"method": "full", "distributed": {"strategy": "zero2", "nodes": 2, "processesPerNode": 2}},
    "fsdp2 on accelerators": {**GPU, "method": "full", "distributed": {"strategy": "fsdp2", "nodes": 2}},
    "a teacher": DISTILL,
    "a student without some layers": init(dropLayers=[1, 3, 5]),
    "a student with some layers": init(keepLayers=[0, 10, 29]),
    "a new student": init(shape={"layers": 6, "hiddenSize": 192, "heads": 3, "kvHeads": 3, "intermediateSize": 512}),
    "on-policy": {
        "method": "distill",
        "distill": {**TEACHER, "onPolicy": 0.5, "temperature": 1, "alpha": 0},
        "dataset": {"format": "chat"},
    },
    "preferences": {"method": "dpo", "dataset": {"format": "preference"}, "dpo": {"beta": 0.2}},
    "preferences with an adapter": {"method": "dpo", "lora": {"rank": 8}, "output": {"merge": True}},
    "published": {
        "output": {"publish": {"uri": "oci://r.example.org:5000/team/a:v1.0", "secret": "login", "insecure": True}}
    },
    "steps": {"steps": 60, "evaluation": {"everySteps": 20}, "checkpoint": {"everySteps": 20}, "earlyStopping": {}},
    "half an epoch": {"epochs": 0.5},
    "elastic": {"distributed": {"elastic": {"minNodes": 1, "maxNodes": 4}, "nodes": 2}},
    "columns": {"dataset": {"format": "prompt-completion", "columns": {"prompt": "Frage", "completion": "Antwort"}}},
    "templates": {
        "dataset": {
            "format": "chat",
            "template": {"system": "Be brief.", "prompt": "Question: {question}\n", "completion": "{answer}"},
        }
    },
    "a chat template": {"dataset": {"template": {"chat": "{% for m in messages %}{{ m.content }}{% endfor %}"}}},
    "documents": {"dataset": {"format": "text", "packing": True, "oversize": "fail", "split": {"evaluation": 0.2}}},
    "evaluation rows of one's own": {"evaluation": {"dataset": {"uri": "pvc://corpus/test.jsonl"}, "samples": 50}},
    "from other objects": {
        "model": {"uri": None, "from": {"kind": "TrainingJob", "name": "base"}},
        "dataset": {"uri": None, "from": {"kind": "Dataset", "name": "chats"}},
    },
    "code that comes with the model": {"model": {"uri": "hf://baichuan-inc/Baichuan2-7B", "trustRemoteCode": True}},
    "8-bit moments": {**GPU, "optimizer": {"kind": "adamw-8bit", "learningRate": 1e-4}, "precision": "fp16"},
    "the common fields": {
        "suspend": True,
        "activeDeadlineSeconds": 3600,
        "ttlSecondsAfterFinished": 60,
        "failurePolicy": {"maxRestarts": 1},
        "scheduling": {"queue": "research"},
        "template": {"image": "registry.example.org/tuner:2"},
    },
}  # fmt: skip

CHANGED: Fields = {
    "model": {"uri": "pvc://models/other"},
    "dataset": {"packing": True},
    "method": "full",
    "lora": {"rank": 8},
    "qlora": {"bits": 8},
    "distill": TEACHER,
    "dpo": {"beta": 1},
    "steps": 10,
    "epochs": 1,
    "batch": {"global": 16},
    "optimizer": {"learningRate": 0.1},
    "schedule": {"kind": "linear"},
    "precision": "fp32",
    "sequenceLength": 256,
    "earlyStopping": {"patience": 1},
    "evaluation": {"everySteps": 7},
    "output": {"merge": False},
    "seed": 1,
}
"""Each field that can't change, changed."""

CHANGED_DISTRIBUTED: Fields = {"strategy": "zero1", "nodes": 2, "processesPerNode": 2}

CHANGEABLE: tuple[Fields, ...] = (
    {"suspend": True},
    {"checkpoint": {"everySteps": 5}},
    {"gradientCheckpointing": True},
    {"distributed": {"elastic": {"minNodes": 1, "maxNodes": 4}}},
    {"failurePolicy": {"maxRestarts": 9}},
    {"resources": {"memory": "8Gi"}},
    {"template": {"image": "registry.example.org/tuner:2"}},
)
