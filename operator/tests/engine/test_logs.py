"""One line of JSON for each record."""

import json
import logging

from lmforge_operator.kube.resources import Key
from lmforge_operator.logs import JsonFormatter


def record(message: str, **extra: object) -> logging.LogRecord:
    made = logging.LogRecord("lmforge.test", logging.WARNING, __file__, 1, message, (), None)
    for name, value in extra.items():
        setattr(made, name, value)
    return made


def test_the_object_has_fields_of_its_own() -> None:
    line = json.loads(JsonFormatter().format(record("why", key=Key("TrainingJob", "ns", "tiny"))))
    assert (line["kind"], line["namespace"], line["name"]) == ("TrainingJob", "ns", "tiny")
    assert (line["level"], line["message"]) == ("warning", "why")


def test_a_message_of_several_lines_stays_one_line() -> None:
    assert "\n" not in JsonFormatter().format(record("one\ntwo"))


def test_a_traceback_is_part_of_the_line() -> None:
    try:
        raise ValueError("broken")
    except ValueError as error:
        made = record("failed")
        made.exc_info = (type(error), error, error.__traceback__)
    line = json.loads(JsonFormatter().format(made))
    assert line["traceback"].endswith("ValueError: broken")
