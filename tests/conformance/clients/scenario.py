"""The scenario of the client in Python, or with --asyncio of that for event loops; clients_test.py gives the steps."""

import asyncio
import base64
import json
import sys
import threading

import coffer
from coffer import aio
from coffer.v1 import secret_pb2


def text(value):
    return None if value is None else base64.b64encode(value.bytes).decode()


class Program:
    def __init__(self):
        self.client = self.resolved = None

    def open(self, addresses, token, timeout, ca=None):
        self.client = coffer.Client(addresses, token=token, timeout=timeout, tls=coffer.tls_context(ca) if ca else None)
        return {}

    def resolve(self, texts, environment, timeout=None, pending="wait"):
        self.resolved = self.client.resolve(*texts, environment=environment, timeout=timeout, pending=pending)
        return {"values": {name: text(value) for name, value in self.resolved.items()}}

    def mask(self, text):
        return {"text": self.resolved.mask(text)}

    def shown(self):
        values = list(self.resolved.values())
        return {"text": f"{self.resolved} {self.resolved!r} {values} {values[0]} {values[0]:>9} {vars(self.resolved)} "
                        f"{vars(self.client)} {self.client.channel}"}

    def create(self, name, environment, values):
        pairs = [secret_pb2.KeyValue(key=key, value=base64.b64decode(value)) for key, value in values.items()]
        request = secret_pb2.CreateSecretRequest(name=name, environment=environment, values=pairs)
        return {"version": self.client.service("SecretService").CreateSecret(request).secret.version}

    def get(self, name, environment):
        request = secret_pb2.GetSecretRequest(name=name, environment=environment)
        return {"keys": [key.name for key in self.client.service("SecretService").GetSecret(request).secret.keys]}

    def together(self, count, text, environment):
        found = []
        threads = [threading.Thread(target=lambda: found.append(self.client.resolve(text, environment=environment)[text]))
                   for _ in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return {"values": [base64.b64encode(value.bytes).decode() for value in found]}

    def answer(self, do, **fields):
        try:
            return getattr(self, do)(**fields)
        except coffer.CofferError as error:
            faults = [[fault.reference, fault.outcome] for fault in getattr(error, "faults", ())]
            return {"error": {"code": error.code.name, "reason": error.reason, "message": str(error), "faults": faults,
                              "fields": [field for field, _ in error.fields], "attempts": error.attempts}}


class AsyncProgram(Program):
    """The same steps, awaited."""

    def __init__(self):
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.held = None

    def open(self, addresses, token, timeout, ca=None):
        if self.held:
            self.wait(self.held.close())
        self.held = aio.AsyncClient(addresses, token=token, timeout=timeout, tls=coffer.tls_context(ca) if ca else None)
        self.client = self
        return {}

    def wait(self, what):
        return self.loop.run_until_complete(what)

    @property
    def channel(self):
        return self.held.client.channel

    def resolve(self, texts, environment, **more):
        self.resolved = self.wait(self.held.resolve(*texts, environment=environment, **more))
        return {"values": {name: text(value) for name, value in self.resolved.items()}}

    def service(self, name):
        return Awaited(self, self.held.service(name))

    def together(self, count, text, environment):
        async def all_of_them():
            return await asyncio.gather(*(self.held.resolve(text, environment=environment) for _ in range(count)))
        return {"values": [base64.b64encode(one[text].bytes).decode() for one in self.wait(all_of_them())]}


class Awaited:
    """The methods of an asynchronous stub, waited for."""

    def __init__(self, program, stub):
        self.program, self.stub = program, stub

    def __getattr__(self, name):
        return lambda request: self.program.wait(getattr(self.stub, name)(request))


program = AsyncProgram() if sys.argv[1:] == ["--asyncio"] else Program()
for line in sys.stdin:
    print(json.dumps(program.answer(**json.loads(line))), flush=True)
