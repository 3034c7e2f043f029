"""One row for each rule inside a part of a spec: what is changed in a good one, and the sentence that refuses it.

None as a value removes the field.
"""

from specs import ALONE, Refused, init
from uri_examples import BAD

MODEL = (
    Refused(
        "no model",
        {"model": {"init": None}},
        "model needs exactly one of init (a new model), from (another object's artifact) or uri "
        "(a Hugging Face directory)",
        "model",
    ),
    Refused(
        "two models",
        {"model": {"uri": "pvc://models/tiny"}},
        "model needs exactly one of init (a new model), from (another object's artifact) or uri "
        "(a Hugging Face directory)",
        "model",
    ),
    Refused(
        "a model from a Dataset",
        {"model": {"init": None, "from": {"kind": "Dataset", "name": "corpus"}}},
        "a model can't come from a Dataset, which holds text: name a TrainingJob, FineTune or QuantizeJob",
        "model.from.kind",
    ),
    Refused(
        "a width that heads can't share",
        init(hiddenSize=100),
        "hiddenSize 100 is not a multiple of heads 8: write 104, or a number of heads that divides it",
        "model.init.hiddenSize",
    ),
    Refused(
        "an odd head size",
        init(hiddenSize=24),
        "hiddenSize / heads is 3, but llama's rotary positions turn pairs: write sizes that make it even",
        "model.init.hiddenSize",
    ),
    Refused(
        "heads that key/value heads can't share",
        init(kvHeads=6),
        "heads 8 is not a multiple of kvHeads 6: each key/value head serves as many query heads; "
        "write a kvHeads that divides heads",
        "model.init.kvHeads",
    ),
    Refused(
        "sinusoids without pairs",
        {**init(architecture="gpt2", positionEncoding="sinusoidal", hiddenSize=25, heads=5, layers=2), **ALONE},
        "sinusoidal positions are pairs of a sine and a cosine: write an even hiddenSize, not 25",
        "model.init.hiddenSize",
    ),
    Refused(
        "positions for llama",
        init(positionEncoding="learned"),
        "positionEncoding is for gpt2: leave it out with architecture llama",
        "model.init.positionEncoding",
    ),
    Refused(
        "an order for llama",
        init(order=3),
        "order is for ngram: leave it out with architecture llama",
        "model.init.order",
    ),
    Refused(
        "dropout for llama",
        init(dropout=0.1),
        "dropout is for gpt2 and lstm: leave it out with architecture llama",
        "model.init.dropout",
    ),
    Refused(
        "key/value heads for gpt2",
        init(architecture="gpt2", kvHeads=4),
        "kvHeads is for llama: leave it out with architecture gpt2",
        "model.init.kvHeads",
    ),
    Refused(
        "a rotary base for gpt2",
        init(architecture="gpt2", ropeTheta=500000),
        "ropeTheta is for llama: leave it out with architecture gpt2",
        "model.init.ropeTheta",
    ),
    Refused(
        "a feed-forward width for an LSTM",
        {**init(architecture="lstm", intermediateSize=64), **ALONE},
        "intermediateSize is for llama and gpt2: leave it out with architecture lstm",
        "model.init.intermediateSize",
    ),
)

DATASET = (
    Refused(
        "no text",
        {"dataset": {"uri": None}},
        "a dataset needs exactly one of uri (files) or from (a Dataset)",
        "dataset",
    ),
    Refused(
        "text from a TrainingJob",
        {"dataset": {"uri": None, "from": {"kind": "TrainingJob", "name": "tiny"}}},
        "text comes from a Dataset, not from a TrainingJob: write kind: Dataset, or a uri",
        "dataset.from.kind",
    ),
    Refused(
        "evaluation text from a FineTune",
        {"evaluation": {"dataset": {"from": {"kind": "FineTune", "name": "chat"}}}},
        "text comes from a Dataset, not from a FineTune: write kind: Dataset, or a uri",
        "evaluation.dataset.from.kind",
    ),
    Refused(
        "a tokenizer trained and taken",
        {"dataset": {"tokenizer": {"train": {}, "uri": "pvc://models/tiny"}}},
        "dataset.tokenizer needs exactly one of train (train one on this text) or uri (an existing one)",
        "dataset.tokenizer",
    ),
    Refused(
        "a new tokenizer for a model that has one",
        {"model": {"init": None, "uri": "pvc://models/tiny"}, "dataset": {"tokenizer": {"train": {}}}},
        "dataset.tokenizer.train makes a vocabulary that the model to go on from does not know: leave tokenizer out, "
        "and the model's own is used",
        "dataset.tokenizer",
    ),
)

PODS = (
    Refused(
        "an accelerator without a count",
        {"resources": {"accelerator": "nvidia.com/gpu"}},
        "resources.accelerator and resources.count go together: name the device (nvidia.com/gpu) and how many "
        "each pod gets, or leave both out to run on CPU",
        "resources",
    ),
    Refused(
        "shared memory larger than memory",
        {"resources": {"memory": "1Gi", "sharedMemory": "2Gi"}},
        "resources.sharedMemory 2Gi counts towards resources.memory 1Gi, which must be larger: raise memory",
        "resources.memory",
    ),
    Refused(
        "a rank of one's own",
        {"template": {"env": [{"name": "RANK", "value": "1"}]}},
        "template.env can't set RANK: ranks and their meeting place come from parallelism and nodes; leave it out",
        "template.env[0].name",
    ),
    Refused(
        "a label key with a blank",
        {"template": {"labels": {"my team": "nlp"}}},
        "template.labels has a key that Kubernetes does not take: write <name> or <domain>/<name>",
        "template.labels",
    ),
    Refused(
        "an annotation key without a name",
        {"template": {"annotations": {"example.org/": "x"}}},
        "template.annotations has a key that Kubernetes does not take: write <name> or <domain>/<name>",
        "template.annotations",
    ),
    Refused(
        "a label of the operator's",
        {"template": {"labels": {"lmforge.dev/attempt": "7"}}},
        "template.labels can't use keys of lmforge.dev or batch.kubernetes.io, by which a run finds its pods: "
        "use your own domain",
        "template.labels",
    ),
    Refused(
        "an annotation of a Job's",
        {"template": {"annotations": {"batch.kubernetes.io/job-completion-index": "7"}}},
        "template.annotations can't use keys of lmforge.dev or batch.kubernetes.io, by which a run finds its pods: "
        "use your own domain",
        "template.annotations",
    ),
    Refused(
        "a failure rule for nothing",
        {"failurePolicy": {"rules": [{"action": "Fail"}]}},
        "a failure rule needs onExitCodes or onReasons: say which ends it is for",
        "failurePolicy.rules[0]",
    ),
)

URIS = tuple(
    Refused(f"uri {uri!r}", {"dataset": {"uri": uri}}, sentence, "dataset.uri")
    for uri, sentence in BAD
)  # fmt: skip

BOUNDS = (
    Refused("no nodes", {"nodes": 0}, "should be greater than or equal to 1", "nodes"),
    Refused("no learning", {"optimizer": {"learningRate": 0}}, "should be greater than 0", "optimizer.learningRate"),
    Refused("an unknown engine", {"engine": "jax"}, 'Unsupported value: "jax"', "engine"),
    Refused("memory in words", {"resources": {"memory": "lots"}}, "should match", "resources.memory"),
    Refused("a number in quotes", {"steps": "400"}, 'must be of type integer: "string"', "steps"),
)  # fmt: skip

INSIDE = (*MODEL, *DATASET, *PODS, *URIS, *BOUNDS)
