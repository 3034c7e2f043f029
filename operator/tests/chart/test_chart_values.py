"""The chart's values: generated, checked by helm, and understood by the operator."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from charts import generate
from charts.values import Values
from e2e.cluster.errors import CommandFailed
from lmforge_operator.settings import Settings, load

CHART = generate.CHART


def test_what_is_generated_is_up_to_date() -> None:
    assert generate.main(["--check"]) == 0, "run `make generate`"


def test_values_yaml_holds_the_defaults_of_the_model() -> None:
    assert Values.model_validate(yaml.safe_load(generate.values_yaml())) == Values()


def test_the_table_in_readme_names_every_value() -> None:
    readme = (CHART / "README.md").read_text()
    for name, _, text in generate.leaves(Values(), ""):
        assert f"| `{name}` |" in readme
        assert text.endswith((".", ")")), name


@pytest.mark.integration
def test_helm_finds_nothing_wrong_with_the_chart(helm: Any) -> None:
    assert "0 chart(s) failed" in helm("lint", "--strict", CHART)


@pytest.mark.integration
@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"replica": 3}, "replica"),
        ({"replicas": 0}, "/replicas"),
        ({"replicas": "two"}, "/replicas"),
        ({"images": {"trainer": "x"}}, "trainer"),
        ({"images": {"train": ""}}, "/images/train"),
        ({"storage": {"type": "s3"}}, "type"),
        ({"storage": {"size": "much"}}, "/storage/size"),
        ({"nodeCache": {"path": "models"}}, "/nodeCache/path"),
        ({"nodeCache": {"path": "/var/../etc"}}, "/nodeCache/path"),
        ({"settings": {"logLevel": "LOUD"}}, "/settings/logLevel"),
        ({"settings": {"queue": {"workers": 0}}}, "/settings/queue/workers"),
        ({"reports": {"tls": {"source": "secret"}}}, "reports.tls.source is secret: set reports.tls.secretName"),
        (
            {"reports": {"tls": {"source": "certManager"}}},
            "reports.tls.source is certManager: set reports.tls.issuerRef.name",
        ),
    ],
    ids=str,
)
def test_helm_refuses_values_that_make_no_sense(render: Any, values: dict[str, Any], complaint: str) -> None:
    with pytest.raises(CommandFailed) as refusal:
        render(values)
    assert complaint in str(refusal.value)


@pytest.mark.integration
@pytest.mark.parametrize(
    "values",
    [
        {},
        {"global": {"parent": "chart"}},
        {
            "watchNamespaces": ["research"],
            "images": {"train": "registry.example.org/train:1", "pullPolicy": "Always", "pullSecrets": ["registry"]},
            "storage": {"claimName": "models", "storageClass": "fast", "createClaim": False},
            "nodeCache": {"path": "/var/lib/lmforge/models"},
            "reports": {"port": 9443},
            "metrics": {"port": 9090},
            "settings": {
                "logLevel": "DEBUG",
                "pods": {"tolerations": [{"key": "gpu", "operator": "Exists"}]},
                "queue": {"workers": 8, "backoffMaxSeconds": 2_000_000},
                "leaderElection": {"enabled": False, "namespace": "leases"},
            },
        },
    ],
    ids=["defaults", "as a subchart", "everything"],
)
def test_the_operator_understands_the_settings_that_the_chart_writes(
    render: Any, values: dict[str, Any], tmp_path: Path
) -> None:
    text = render(values)["ConfigMap", "lmforge-settings"]["data"]["settings.json"]
    file = tmp_path / "settings.json"
    file.write_text(text)
    settings = load(file)
    expected = Values.model_validate({key: value for key, value in values.items() if key != "global"})
    assert settings.images.train == expected.images.train
    assert settings.store.model_dump() == expected.storage.model_dump(exclude={"namespaces"})
    assert settings.node_cache == expected.node_cache
    assert settings.watch_namespaces == expected.watch_namespaces
    assert settings.queue == expected.settings.queue
    assert settings.pods == expected.settings.pods
    assert settings.leader_election == expected.settings.leader_election
    assert settings.http_port == expected.metrics.port
    assert settings.reports.service_url == f"https://lmforge-reports.lmforge-system.svc:{expected.reports.port}"
    assert json.loads(text).keys() <= {field.alias for field in Settings.model_fields.values()}
