"""Changes to a good FineTune that the API server refuses, each with its sentence: which rows it learns from."""

from specs import Refused

_NEEDLESS = "leave it out with format text"
COLUMNS = (
    Refused("no rows", {"dataset": {"uri": None}}, "a dataset needs exactly one of uri (files) or from", "dataset"),
    Refused(
        "rows from a TrainingJob",
        {"dataset": {"uri": None, "from": {"kind": "TrainingJob", "name": "tiny"}}},
        "text comes from a Dataset, not from a TrainingJob: write kind: Dataset, or a uri",
        "dataset.from.kind",
    ),
    Refused(
        "evaluation rows from nowhere",
        {"evaluation": {"dataset": {}}},
        "a dataset needs exactly one of uri (files) or from",
        "evaluation.dataset",
    ),
    *(
        Refused(
            f"a column {name} for text",
            {"dataset": {"format": "text", "columns": {name: "x"}}},
            f"dataset.columns.{name} is for format {formats}: {_NEEDLESS}",
            f"dataset.columns.{name}",
        )
        for name, formats in (
            ("prompt", "prompt-completion, chat and preference"),
            ("completion", "prompt-completion and chat"),
            ("messages", "chat"),
            ("system", "chat and preference"),
            ("chosen", "preference"),
            ("rejected", "preference"),
        )
    ),
    Refused(
        "a column text for chat",
        {"dataset": {"format": "chat", "columns": {"text": "x"}}},
        "dataset.columns.text is for format text: leave it out with format chat",
        "dataset.columns.text",
    ),
    *(
        Refused(
            f"a template {name} for text",
            {"dataset": {"format": "text", "template": {name: "{x}"}}},
            f"dataset.template.{name} is for format {formats}: {_NEEDLESS}",
            f"dataset.template.{name}",
        )
        for name, formats in (
            ("prompt", "prompt-completion, chat and preference"),
            ("completion", "prompt-completion and chat"),
            ("system", "chat and preference"),
            ("chat", "chat and preference"),
        )
    ),
    Refused(
        "a template text for chat",
        {"dataset": {"format": "chat", "template": {"text": "{x}"}}},
        "dataset.template.text is for format text: leave it out with format chat",
        "dataset.template.text",
    ),
    *(
        Refused(
            f"the {name} said twice",
            {"dataset": {"columns": {name: "x"}, "template": {name: "{x}"}}},
            f"dataset.columns.{name} and dataset.template.{name} both say what the {name} is: leave one out",
            f"dataset.columns.{name}",
        )
        for name in ("text", "system", "prompt", "completion")
    ),
    *(
        Refused(
            f"a template {name} without a column",
            {"dataset": {"template": {name: "Answer in one word."}}},
            f"dataset.template.{name} names no column, so that it is the same for every row: put a column's name in "
            "braces",
            f"dataset.template.{name}",
        )
        for name in ("text", "prompt", "completion")
    ),
    Refused(
        "conversations and prompts",
        {"dataset": {"format": "chat", "columns": {"messages": "talk", "prompt": "question"}}},
        "dataset.columns.messages holds whole conversations: leave columns.system, prompt and completion out",
        "dataset.columns.messages",
    ),
)

DATA = (
    Refused(
        "preferences in text",
        {"method": "dpo", "dataset": {"format": "text"}},
        "method dpo learns from chosen and rejected answers, not from dataset.format text: write format: preference",
        "dataset.format",
    ),
    Refused(
        "preferences for an adapter",
        {"dataset": {"format": "preference"}},
        "dataset.format preference is for method dpo: write that, or for method lora another format",
        "dataset.format",
    ),
    Refused(
        "packed pairs",
        {"method": "dpo", "dataset": {"packing": True}},
        "dataset.packing would mix the pairs of method dpo: leave it out",
        "dataset.packing",
    ),
    Refused(
        "rows held out beside others",
        {"dataset": {"split": {"evaluation": 0.1}}, "evaluation": {"dataset": {"uri": "pvc://corpus/test.csv"}}},
        "dataset.split holds rows out for evaluation, and evaluation.dataset names others: leave one out",
        "dataset.split",
    ),
)

REFUSED_ROWS = (*COLUMNS, *DATA)
