"""A controller in Python, built as a component by componentize-py. It uses only the WIT world, without an SDK.

It counts the reconciles of each Probe in memory and writes the counts to its status. All imports must be at the top: the
component contains only modules that were loaded during the build.
"""

import json
import os
import time

from wit_world import exports
from wit_world.imports import runtime
from wit_world.imports.runtime import EventKind, Request

READ = "accept: application/json\n"
WRITE = "content-type: application/merge-patch+json\n" + READ


class Panic(BaseException):
    """Leaves `step` uncaught: an uncaught exception of a component is a trap."""


class Call:
    def __init__(self, task: int, path: str, writes: bool):
        self.task, self.path, self.writes = task, path, writes
        self.status, self.body = 0, b""


class Controller:
    def __init__(self):
        self.total, self.seen = 0, {}
        self.calls, self.next_call = {}, 0

    def on(self, event: runtime.Event, payload: bytes) -> None:
        kind, id = event.kind, event.id
        if kind == EventKind.START:
            register(json.loads(payload)["name"])
        elif kind == EventKind.RECONCILE:
            namespace, name = payload.decode().split("/")
            self.call(id, f"/apis/e2e.wasmop.dev/v1/namespaces/{namespace}/probes/{name}", None)
        elif kind == EventKind.CANCEL:
            self.calls = {call: it for call, it in self.calls.items() if it.task != id}
        elif id not in self.calls:
            pass
        elif kind == EventKind.HEAD:
            self.calls[id].status = event.aux
        elif kind == EventKind.BODY:
            self.calls[id].body += payload
        elif kind == EventKind.END:
            self.answered(self.calls.pop(id))
        elif kind == EventKind.FAILED:
            runtime.done(self.calls.pop(id).task, None, payload.decode())

    def call(self, task: int, path: str, patch: dict | None) -> None:
        """Reads the Probe, or patches its status."""
        self.next_call += 1
        if patch is None:
            request = Request("", "GET", path, READ, b"")
        else:
            request = Request("", "PATCH", f"{path}/status", WRITE, json.dumps(patch).encode())
        self.calls[self.next_call] = Call(task, path, patch is not None)
        runtime.call(self.next_call, task, request)

    def answered(self, call: Call) -> None:
        # 404: the Probe was deleted.
        if call.status == 404 or call.writes and call.status < 300:
            runtime.done(call.task, None, None)
        elif call.status < 300:
            runtime.enter(call.task)
            try:
                status = self.reconcile(json.loads(call.body))
            except Exception as error:
                # An exception that leaves `step` would end the whole instance.
                runtime.done(call.task, None, repr(error))
            else:
                self.call(call.task, call.path, {"status": status})
        else:
            runtime.done(call.task, None, f"{call.status}: {call.body.decode()}")

    def reconcile(self, probe: dict) -> dict:
        uid = probe["metadata"]["uid"]
        self.total += 1
        self.seen[uid] = self.seen.get(uid, 0) + 1
        echo = ""
        match probe["spec"].get("action"):
            case "reach out":
                echo = reach_out()
            case "sleep":
                millis = probe["spec"].get("delayMs", 0)
                begun = time.monotonic()
                time.sleep(millis / 1000)
                echo = f"slept={int((time.monotonic() - begun) * 1000)}"
            case "panic":
                raise Panic("as asked")
        return {
            "observedGeneration": probe["metadata"]["generation"],
            "total": self.total,
            "seen": self.seen[uid],
            "value": probe["spec"].get("value", ""),
            "echo": echo,
        }


def reach_out() -> str:
    """Tries to reach the machine."""
    attempts = {
        "file": lambda: open("/etc/passwd").close(),
        "directory": lambda: os.listdir("/etc"),
        "writing": lambda: open("/wasmop", "w").close(),
    }
    reached = [name for name in ("HOME", "PATH") if name in os.environ]
    for name, attempt in attempts.items():
        try:
            attempt()
            reached.append(name)
        except OSError:
            pass
    return "reached=" + ",".join(reached)


def register(name: str) -> None:
    print(f"started as {name}")
    primary = {"group": "e2e.wasmop.dev", "version": "v1", "kind": "Probe", "plural": "probes"}
    # Several guests share a cluster. Each reconciles the Probes with its label.
    primary |= {"labelSelector": f"guest={name}", "generationChanged": True}
    runtime.register(json.dumps({"name": "probe", "primary": primary}))


CONTROLLER = Controller()


class Guest(exports.Guest):
    def step(self) -> None:
        while (event := runtime.next()).kind != EventKind.NOTHING:
            CONTROLLER.on(event, runtime.read() if event.len else b"")
