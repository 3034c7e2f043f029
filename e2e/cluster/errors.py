"""What can go wrong while a test cluster is brought up.

ClusterError
├── StartError     a process or an object isn't ready in time; the message ends with the end of its log
├── ToolMissing    a program is not on this machine; the message has the command that installs it
└── CommandFailed  a program returned an error; the message holds what it wrote
"""

from __future__ import annotations


class ClusterError(Exception):
    """The base of all of them; its message is written for the person at the terminal."""


class StartError(ClusterError):
    pass


class ToolMissing(ClusterError):
    pass


class CommandFailed(ClusterError):
    pass
