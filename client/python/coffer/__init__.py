"""Client of Coffer: hands out the credentials that an action of a workflow may have.

    with coffer.Client("ipc:///run/coffer/coffer.sock", token_file="executor.token") as client:
        resolved = client.resolve("slack.SLACK_BOT_TOKEN", environment="prod")
        slack.login(resolved["slack.SLACK_BOT_TOKEN"].text())

Values are `Value` objects, which show themselves nowhere. Everything is thread-safe. Failures are `CofferError`.
`coffer.aio` has the client for programs with an event loop.
"""

from coffer.channel import Channel, Reply, Stub, tls_context, token_from_file
from coffer.client import Client, Resolved
from coffer.errors import Code, CofferError, Fault, ResolveError
from coffer.values import Value

__version__ = "0.1.0"
__all__ = ["Channel", "Client", "Code", "CofferError", "Fault", "Reply", "ResolveError", "Resolved", "Stub", "Value",
           "tls_context", "token_from_file"]
