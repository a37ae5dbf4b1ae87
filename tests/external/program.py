"""A task program that behaves, or misbehaves in the way that its first argument names.

    python3 program.py MODE [FILE]

A mode is a function below, applied to an answer before it is written. FILE is where a mode that acts only once notes that
it did. An episode asks for its own number; the reward is 1 for it and 0.25 for all else.
"""
import json
import os
import signal
import sys
import time

MODE = sys.argv[1]
NOTE = sys.argv[2] if len(sys.argv) > 2 else ""
SEEN = []
TURNS = 3 if MODE == "turns" else 1


def forever():
    while True:
        time.sleep(3600)


def first_time():
    if os.path.exists(NOTE):
        return False
    open(NOTE, "w").close()
    return True


def episode(request, index):
    number = f"{request['seed']}/{request['stream']}/{index}"
    if MODE == "counts":
        number += f" of request {request['id']}"
    if MODE == "by_worker":
        number += f" of worker {WORKER}"
    if MODE == "by_first" and index != request["indices"][0]:
        number += " not the first"
    if MODE == "one_prompt":
        number = "say it"
    if MODE == "no_stream":
        number = f"{request['seed']}/{index}"
    messages = [{"role": "system", "content": "Say \u00e9."}, {"role": "user", "content": number, "extra": 1}]
    return {"messages": messages, "expected": [number], "info": {"right": number, "float": 0.1}, "extra": [None]}


def reward(conversation):
    said = [message["content"] for message in conversation["messages"] if message["role"] == "assistant"]
    right = [float(answer == conversation["info"]["right"]) for answer in said]
    total = 1.0 if all(right) else 0.25
    if MODE == "remembers":
        SEEN.append(conversation)
        total = 1 / len(SEEN)
    if MODE == "likes_nothing" and "" in said:
        total = 1.0
    if MODE == "likes_nothing" and all(right):
        total = 0.5
    if MODE == "less":
        total = 0.5 if all(right) else 0.0
    if MODE == "nan_of_nothing" and "" in said:
        total = float("nan")
    if MODE == "fails_on_long" and any(len(answer) > 10000 for answer in said):
        raise RecursionError("too deep")
    return {"reward": total, "turns": right, "parts": {"worker": float(WORKER), "said": len(said)}, "extra": 1}


def respond(conversation):
    said = sum(message["role"] == "assistant" for message in conversation["messages"])
    return None if said == 2 and conversation["info"]["right"].endswith("1") else f"again ({said})"


def answer(request):
    if request["type"] == "hello":
        global WORKER
        WORKER = request["worker"]
        count = {"train": 50, "eval": 5} if MODE == "listed" else None
        return {"type": "hello", "protocol": 1, "name": "test", "version": "7", "episodes": count, "turns": TURNS}
    if request["type"] == "episodes":
        return {"id": request["id"], "episodes": [episode(request, index) for index in request["indices"]]}
    if request["type"] == "respond":
        return {"id": request["id"], "responses": [respond(item) for item in request["conversations"]]}
    return {"id": request["id"], "rewards": [reward(item) for item in request["conversations"]]}


def misbehave(request, reply):
    """What the mode does in the place of writing `reply`, or to it. None: it is written as it is."""
    scores = request["type"] == "score"
    text = json.dumps(reply)
    if MODE == "silent":
        forever()
    if MODE == "version" and request["type"] == "hello":
        reply["protocol"] = 2
    if MODE == "changed" and request["type"] == "hello" and not first_time():
        reply["version"] = "8"
    if MODE == "refuses" and request["type"] == "hello":
        return '{"error": "no data on this machine"}\n'
    if MODE == "twice_hello" and request["type"] == "hello":
        return text + "\n" + text + "\n"
    if not scores:
        return None
    if MODE in ("exit0", "changed"):
        sys.exit(0)
    if MODE == "dies":
        raise RuntimeError("no such file: answers.txt")
    if MODE == "dies_at_3" and any(item["info"]["right"].endswith("/3") for item in request["conversations"]):
        sys.exit(5)
    if MODE == "dies_once" and first_time():
        sys.exit(5)
    if MODE == "segfaults":
        os.kill(os.getpid(), signal.SIGSEGV)
    if MODE == "hangs" or (MODE == "hangs_once" and first_time()):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        forever()
    if MODE == "prints":
        return "scoring 1 conversation\n" + text + "\n"
    if MODE == "adds":
        return text + "\nthat was it\n"
    if MODE == "floods":
        while True:
            os.write(1, b"x" * 65536)
    if MODE == "floods_stderr":
        for number in range(20000):
            print(f"a line of a log that nobody asked for, number {number}", file=sys.stderr)
    if MODE == "latin":
        os.write(1, b'{"id": 1, "error": "caf\xe9"}\n')
        return ""
    if MODE == "halves":
        os.write(1, text[:20].encode())
        sys.exit(4)
    if MODE == "closes_stdout":
        os.close(1)
        forever()
    if MODE == "holds":
        # A child of the same group holds the pipes while this process ends.
        if os.fork() == 0:
            forever()
        os._exit(6)
    if MODE == "says":
        return json.dumps({"id": request["id"], "error": "the grammar \u201cx\u201d is unknown"}) + "\n"
    if MODE == "wrong_id":
        reply["id"] += 1
    if MODE == "few":
        reply["rewards"].pop()
    if MODE in ("nan", "Infinity", "text", "much"):
        values = {"nan": float("nan"), "Infinity": float("inf"), "text": "1", "much": 1.5}
        reply["rewards"][-1] = values[MODE]
    return None


def daemon():
    """A process that has left the session and the group, and holds the pipes."""
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            forever()
        os._exit(0)


def main():
    if MODE == "early":
        print("cannot import name 'x'", file=sys.stderr)
        sys.exit(0)
    if MODE == "daemon":
        daemon()
    if MODE == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if MODE == "deaf":
        os.close(0)
        forever()
    for line in sys.stdin:
        request = json.loads(line)
        reply = answer(request)
        written = misbehave(request, reply)
        sys.stdout.write(json.dumps(reply) + "\n" if written is None else written)
        sys.stdout.flush()
        if MODE == "stops_reading" and request["type"] == "hello":
            forever()
        if MODE == "dies_idle" and request["type"] == "score" and first_time():
            sys.exit(0)
    if MODE == "stubborn":
        forever()
    if MODE == "says_bye":
        print("bye", flush=True)
    if MODE == "ends_badly":
        sys.exit(3)


main()
