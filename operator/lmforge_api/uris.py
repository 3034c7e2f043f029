"""URIs of inputs: which ones may stand in a spec. The API server and Python check the same table.

A name can still resolve to an address inside the cluster: who fetches must look at the address that it connects to.
"""

import re
from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator, Field
from pydantic.config import JsonDict

from lmforge_api.base import Rule
from lmforge_api.oci import DIGEST, REGISTRY, REPOSITORY, TAG

MAX_LENGTH = 1024
PATTERN = r"^(hf|s3|pvc|oci|https|file)://[^\x00-\x20\x7f\\]+$"
_LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_API_SERVER = "kubernetes([.]default([.]svc([.][a-z0-9.-]*)?)?)?"
_METADATA = (
    "169[.]254[.][0-9.]*|instance-data([.][a-z0-9.-]*)?|metadata([.](google|azure|ec2)[.]internal|[.]tencentyun[.]com)?"
)


@dataclass(frozen=True)
class _Check:
    """`wrong` is a regular expression that no URI may match, or with `must` the one that it has to match.

    The syntax is what RE2 (the API server) and Python's re have in common.
    """

    sentence: str
    wrong: str = ""
    scheme: str = ""
    must: str = ""

    def finds(self, uri: str) -> bool:
        if not self.must:
            return re.search(self.wrong, uri) is not None
        return uri.startswith(f"{self.scheme}://") and re.search(self.must, uri) is None

    def rule(self) -> Rule:
        if not self.must:
            return Rule(f"!self.matches(r'{self.wrong}')", self.sentence)
        return Rule(f"!self.startsWith('{self.scheme}://') || self.matches(r'{self.must}')", self.sentence)


_CHECKS = (
    _Check(
        "a URI must not have a '.', '..' or empty segment in its path: write the whole path, without detours",
        wrong="/([.]|%2[eE]){1,2}(/|$)|[^:/]//",
    ),
    _Check(
        "a URI must not hold a user name or password: put credentials into a Secret and name it in template.envFrom",
        wrong="^(https|s3|oci)://[^/]*@",
    ),
    _Check(
        "write pvc://<claim>/<path>, where <claim> is a PersistentVolumeClaim of this namespace",
        scheme="pvc",
        must=rf"^pvc://{_LABEL}([.]{_LABEL})*(/|$)",
    ),
    _Check(
        "write hf://<organisation>/<name>, or hf://<organisation>/<name>@<revision>",
        scheme="hf",
        must=r"^hf://(datasets/)?[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*(@[A-Za-z0-9][A-Za-z0-9._-]*)?(/|$)",
    ),
    _Check(
        "write s3://<bucket>/<path>",
        scheme="s3",
        must="^s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/|$)",
    ),
    _Check(
        "write oci://<registry>/<repository>:<tag> or oci://<registry>/<repository>@sha256:<digest>, the repository in "
        "lowercase",
        scheme="oci",
        must=f"^oci://{REGISTRY}/{REPOSITORY}(:{TAG}|@{DIGEST})$",
    ),
    _Check(
        "name the host of an https:// URI by its full DNS name: bare names and addresses can lead into the cluster",
        scheme="https",
        must=r"^https://([A-Za-z0-9_-]+[.])+[A-Za-z][A-Za-z0-9-]*[.]?(:[0-9]+)?(/|[?]|$)",
    ),
    _Check(
        "the Kubernetes API and a cloud's metadata service are no place to read data from: name another host",
        wrong=rf"^(https|oci)://(?i:({_API_SERVER}|{_METADATA}|([a-z0-9_-]+[.])*localhost)[.]?([:/?]|$))",
    ),
    _Check(
        "write file:///<path>, a place inside the image",
        scheme="file",
        must="^file:///[^/]",
    ),
    _Check(
        "file:// is for what is inside the image: for a volume write pvc://<claim>/<path>",
        wrong="^file:///(proc|sys|dev|run|var/run|mnt|etc/lmforge)(/|$)",
    ),
)

RULES = tuple(check.rule() for check in _CHECKS)


def problem(uri: str) -> str | None:
    """The sentence that the API server would refuse this URI with, if any."""
    return next((check.sentence for check in _CHECKS if check.finds(uri)), None)


def _checked(uri: str) -> str:
    sentence = problem(uri)
    if sentence:
        raise ValueError(sentence)
    return uri


_VALIDATIONS: JsonDict = {"x-kubernetes-validations": [rule.wire() for rule in RULES]}

Uri = Annotated[
    str,
    Field(
        pattern=PATTERN,
        max_length=MAX_LENGTH,
        examples=["pvc://corpus/python-docs", "hf://org/name@revision", "s3://bucket/path"],
        json_schema_extra=_VALIDATIONS,
    ),
    AfterValidator(_checked),
]
