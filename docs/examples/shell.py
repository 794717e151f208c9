#!/usr/bin/env python3
"""Commands in a container's shell, from Python: shell.py CONTAINER [adl-runtime [--root DIR]]"""
import base64
import json
import subprocess
import sys
import threading


class Sandbox:
    """Sessions of a container. Its methods may be called from several threads."""

    def __init__(self, container, runtime=("adl-runtime",)):
        self.process = subprocess.Popen([*runtime, "shell", "--json", container], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.lock, self.number, self.waiting = threading.Lock(), 0, {}
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for line in self.process.stdout:
            event = json.loads(line)
            self.waiting.pop(event["id"])(event)
        for answer in list(self.waiting.values()):
            answer({"event": "error", "error": "the co-process has ended"})

    def ask(self, **request):
        done, answer = threading.Event(), {}
        with self.lock:
            self.number = request["id"] = self.number + 1
            self.waiting[self.number] = lambda event: (answer.update(event), done.set())
            self.process.stdin.write(json.dumps(request).encode() + b"\n")
            self.process.stdin.flush()
        done.wait()
        if answer["event"] == "error":
            raise RuntimeError(answer["error"])
        return answer

    def run(self, command, **options):
        """Returns exit status, stdout and stderr, the last two as bytes."""
        r = self.ask(op="run", command=command, **options)
        out = [base64.b64decode(r[k + "_base64"]) if k + "_base64" in r else r[k].encode() for k in ("stdout", "stderr")]
        return r["status"], *out

    def close(self):
        self.process.stdin.close()
        self.process.wait()


if __name__ == "__main__":
    box = Sandbox(sys.argv[1], sys.argv[2:] or ("adl-runtime",))
    print(box.run("cd /dev; x=kept; echo to stderr >&2; exit_status() { return 3; }; exit_status"))
    print(box.run("pwd; echo $x; cat; printf '\\377'", stdin="input\n"))
    print(box.run("echo part; sleep 100", timeout=0.2)[1])
    job = box.ask(op="start", command="echo from the background; exit 4")["job"]
    print(box.ask(op="wait", job=job)["status"], box.ask(op="output", job=job)["data"].strip())
    threads = [threading.Thread(target=box.run, args=("sleep 0.1",), kwargs={"session": str(i)}) for i in range(4)]
    [t.start() for t in threads], [t.join() for t in threads]
    print(len(box.ask(op="sessions")["sessions"]), "sessions")
    box.close()
