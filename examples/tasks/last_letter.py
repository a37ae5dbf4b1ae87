#!/usr/bin/env python3
"""A task as a program: say the last letter of a word. Needs Python 3.8 or newer and nothing else.

    tickets task check python3 examples/tasks/last_letter.py

docs/protocol.md explains every message.
"""
import json
import random
import sys


def hello(request):
    return {"protocol": 1, "name": "last-letter", "version": "1", "episodes": None, "range": [0, 1], "turns": 1}


def episodes(request):
    return {"episodes": [episode(request["seed"], request["stream"], index) for index in request["indices"]]}


def episode(seed, stream, index):
    # A function of these three alone, so that any worker makes the same episode at any time.
    draw = random.Random(f"{seed} {stream} {index}")
    word = "".join(draw.choice("abcdefgh") for _ in range(draw.randint(2, 5)))
    messages = [{"role": "user", "content": f"Last letter of {word}?"}]
    return {"messages": messages, "expected": [word[-1]], "info": {"letter": word[-1]}}


def score(request):
    return {"rewards": [reward(conversation) for conversation in request["conversations"]]}


def reward(conversation):
    answer = conversation["messages"][-1]["content"].strip()
    right = answer == conversation["info"]["letter"]
    one = len(answer) == 1 and answer in "abcdefgh"
    # Parts are for the log. A little for the form helps a model that knows nothing.
    return {"reward": 1.0 if right else 0.1 if one else 0.0, "parts": {"right": float(right), "one_letter": float(one)}}


def main():
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = {"hello": hello, "episodes": episodes, "score": score}[request["type"]](request)
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps({"id": request.get("id"), **answer}), flush=True)


if __name__ == "__main__":
    main()
