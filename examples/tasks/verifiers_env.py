#!/usr/bin/env python3
"""Runs an environment of the library `verifiers` as a task, unchanged.

    python3 verifiers_env.py ENV_ID [--args JSON] [--eval-args JSON] [--range LOW HIGH] [--max-turns N] [--episodes N]

ENV_ID is an installed package, as `load_environment` takes it; --args are its arguments. Evaluations use its evaluation
dataset, or, with --eval-args, a second instance with those arguments. docs/protocol.md says what is supported.

An environment is driven by its own loop: every request plays the conversation again, with the answers that the model gave,
and sees what the environment asks next or what it is worth. So no request needs the memory of another.
"""
import argparse
import asyncio
import contextlib
import contextvars
import copy
import importlib
import inspect
import itertools
import json
import os
import sys
import time


class Unsupported(Exception):
    """What this adapter cannot do."""


class OutOfAnswers(BaseException):
    """The environment wants an answer that the model has not given yet. Not an Exception: environments catch those."""


def plain(message):
    """A message as role and text, whatever the library made of it."""
    if not isinstance(message, dict):
        message = message.model_dump()
    role, content = message["role"], message.get("content")
    if message.get("tool_calls"):
        raise Unsupported("the environment calls tools")
    if isinstance(content, list):
        if any(part.get("type") != "text" for part in content):
            raise Unsupported("a message has parts that are not text")
        content = "\n".join(part["text"] for part in content)
    return {"role": role, "content": content or ""}


def opening(prompt):
    """The messages before the first answer."""
    if isinstance(prompt, str):
        return [{"role": "user", "content": prompt}]
    messages = [plain(message) for message in prompt]
    if not messages or messages[-1]["role"] != "user":
        raise Unsupported("a conversation that does not begin with a question")
    return messages


class Replay:
    """One conversation, played again."""

    current = contextvars.ContextVar("replay")

    def __init__(self, messages, start):
        self.messages = messages
        self.used = start
        self.asked = None
        self.state = None

    def answer(self, state, prompt):
        """The answer that the model gave to this prompt."""
        prompt = [plain(message) for message in prompt]
        self.state = state
        asked = len(prompt)
        if prompt[: len(self.messages)] != self.messages[:asked]:
            raise Unsupported("the environment does not ask the same when it is asked again, or rewrites the conversation")
        if asked >= len(self.messages):
            self.asked = prompt[len(self.messages) :]
            raise OutOfAnswers
        self.used = asked + 1
        return self.messages[asked]["content"]


class Classic:
    """Environments with a dataset, a loop and a rubric: the API up to verifiers 0.3."""

    def __init__(self, env_id, arguments, options):
        import verifiers

        self.env = env = verifiers.load_environment(env_id, **arguments)
        self.version = f"{env_id} {arguments}" if arguments else env_id
        if not isinstance(env, verifiers.MultiTurnEnv):
            raise Unsupported(f"{type(env).__name__} is not a MultiTurnEnv")
        if getattr(env, "message_type", "chat") != "chat":
            raise Unsupported("completions without messages")
        if getattr(env, "tool_defs", None) or getattr(env, "oai_tools", None):
            raise Unsupported("tools")
        rubrics = [env.rubric, *getattr(env.rubric, "rubrics", [])]
        if any(rubric._get_group_reward_funcs() for rubric in rubrics if hasattr(rubric, "_get_group_reward_funcs")):
            raise Unsupported("rewards of a whole group")
        self.turns = env.max_turns if env.max_turns > 0 else options.max_turns
        env.get_model_response = self.model_response
        self.client = self.no_client()
        self.sets = {}

    @staticmethod
    def no_client():
        """A client that nothing asks."""
        try:
            from verifiers.clients import Client
        except ImportError:
            return None
        return type("NoClient", (Client,), {name: None for name in Client.__abstractmethods__})(None)

    async def model_response(self, state, prompt, *_, **__):
        text = Replay.current.get().answer(state, prompt)
        try:
            from verifiers.types import Response, ResponseMessage
        except ImportError:
            from openai.types.chat import ChatCompletion

            message = {"role": "assistant", "content": text}
            choice = {"index": 0, "finish_reason": "stop", "message": message}
            return ChatCompletion(id="0", created=0, model="replay", object="chat.completion", choices=[choice])
        message = ResponseMessage(content=text, finish_reason="stop", is_truncated=False)
        return Response(id="0", created=0, model="replay", message=message)

    def rows(self, stream):
        kind = "eval" if stream == "eval" else "train"
        if kind not in self.sets:
            env = self.env
            try:
                self.sets[kind] = env.get_eval_dataset() if kind == "eval" else env.get_dataset()
            except ValueError:
                self.sets[kind] = env.get_eval_dataset()
        return self.sets[kind]

    def count(self, stream):
        return len(self.rows(stream))

    def opening(self, stream, index):
        return opening(self.rows(stream)[index]["prompt"])

    async def play(self, stream, index, messages):
        row = copy.deepcopy(self.rows(stream)[index])
        replay = Replay(messages, len(opening(row["prompt"])))
        Replay.current.set(replay)
        try:
            replay.state = await self.env.rollout(row, self.client, "replay", {})
        except OutOfAnswers:
            return replay
        if replay.state.get("error") is not None:
            raise RuntimeError(f"the environment failed: {replay.state['error']!r}")
        if replay.used < len(messages):
            raise Unsupported("the environment ends a conversation earlier when it is asked again")
        return replay

    async def respond(self, stream, index, messages):
        replay = await self.play(stream, index, messages)
        if replay.asked is None:
            return None
        if len(replay.asked) != 1 or replay.asked[0]["role"] != "user":
            raise Unsupported(f"the environment goes on with {[message['role'] for message in replay.asked]}")
        return replay.asked[0]["content"]

    async def score(self, stream, index, messages):
        state = (await self.play(stream, index, messages)).state
        if state.get("completion") is None:
            await self.env.render_completion(state)
        rubric = self.env.rubric
        # Versions before 0.1.10 want a semaphore.
        wants = "score_sem" in inspect.signature(rubric.score_rollout).parameters
        await rubric.score_rollout(state, *([contextlib.nullcontext()] if wants else []))
        if hasattr(rubric, "cleanup"):
            await rubric.cleanup(state)
        return state["reward"], state["metrics"] or {}


class Tasksets:
    """Tasksets of the API since verifiers 0.4, with one turn and rewards of the conversation alone."""

    turns = 1

    def __init__(self, env_id, arguments, options):
        import verifiers.v1 as vf

        self.vf = vf
        self.version = f"{env_id} {arguments}" if arguments else env_id
        if not issubclass(vf.environment_class(env_id), vf.SingleAgentEnv):
            raise Unsupported("environments of several agents")
        config = vf.taskset_config_type(env_id).model_validate({"id": env_id, **arguments})
        taskset = vf.load_taskset(config)
        self.tasks = list(itertools.islice(taskset, options.episodes))
        kind = taskset.task_type()
        if taskset.toolsets(config) or kind.toolsets(config.task):
            raise Unsupported("tools")
        if kind.NEEDS_CONTAINER or kind.setup is not vf.Task.setup or kind.finalize is not vf.Task.finalize:
            raise Unsupported("tasks that need a runtime")
        if self.tasks:
            self.opening("train", 0)
        for signal in [*self.tasks[0].hooks("reward"), *self.tasks[0].hooks("metric")] if self.tasks else []:
            runtime = inspect.signature(signal).parameters.get("runtime")
            if runtime is not None and runtime.default is inspect.Parameter.empty:
                raise Unsupported(f"`{signal.__name__}`, which needs a runtime")

    def count(self, stream):
        return len(self.tasks)

    def opening(self, stream, index):
        data = self.tasks[index].data
        system = [{"role": "system", "content": data.system_prompt}] if data.system_prompt else []
        return system + opening(data.prompt or [])

    async def respond(self, stream, index, messages):
        return None

    async def score(self, stream, index, messages):
        from verifiers.v1.state import state_cls

        vf, task = self.vf, self.tasks[index]
        kinds = {"system": vf.SystemMessage, "user": vf.UserMessage, "assistant": vf.AssistantMessage}
        nodes = [
            vf.MessageNode(
                parent=at - 1 if at else None,
                message=kinds[message["role"]](content=message["content"]),
                sampled=at == len(messages) - 1,
            )
            for at, message in enumerate(messages)
        ]
        trace = vf.Trace(
            task=vf.TraceTask(type=type(task).__name__, data=task.data),
            agent=vf.AgentInfo(config=vf.AgentConfig()),
            nodes=nodes,
            state=state_cls(type(task))(),
            is_completed=True,
            ok=True,
        )
        await task.score(trace)
        parts = {name: reward.value for name, reward in trace.rewards.items() if reward is not None}
        parts.update({name: value for name, value in trace.metrics.items() if value is not None})
        return trace.reward, parts


def load(env_id, arguments, options):
    module = importlib.import_module(env_id.split("/")[-1].split("@")[0].replace("-", "_"))
    kind = Classic if hasattr(module, "load_environment") else Tasksets
    return kind(env_id, arguments, options)


class Task:
    """Answers to the messages of the protocol."""

    def __init__(self, options):
        self.options = options
        self.train = load(options.env_id, options.args, options)
        self.eval = self.train if options.eval_args is None else load(options.env_id, options.eval_args, options)

    def of(self, stream):
        return self.eval if stream == "eval" else self.train

    async def hello(self, request):
        import importlib.metadata

        counts = {stream: self.of(stream).count(stream) for stream in ("train", "eval")}
        version = f"verifiers {importlib.metadata.version('verifiers')}, {self.train.version}"
        turns = max(self.train.turns, self.eval.turns)
        known = {"protocol": 1, "name": self.options.env_id, "version": version}
        return {**known, "episodes": counts, "range": self.options.range, "turns": turns}

    async def episodes(self, request):
        stream = request["stream"]

        def episode(index):
            messages = self.of(stream).opening(stream, index)
            return {"messages": messages, "info": {"stream": stream, "index": index}}

        return {"episodes": [episode(index) for index in request["indices"]]}

    async def each(self, request, method):
        """Asks about all conversations at the same time: rewards may wait for a judge."""

        async def one(conversation):
            stream, index = conversation["info"]["stream"], conversation["info"]["index"]
            return await getattr(self.of(stream), method)(stream, index, conversation["messages"])

        return await asyncio.gather(*map(one, request["conversations"]))

    async def respond(self, request):
        return {"responses": await self.each(request, "respond")}

    async def score(self, request):
        scored = await self.each(request, "score")
        rewards = [
            {"reward": float(reward), "parts": {name: float(value) for name, value in parts.items()}}
            for reward, parts in scored
        ]
        return {"rewards": rewards}


def options():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("env_id", metavar="ENV_ID")
    parser.add_argument("--args", type=json.loads, default={}, metavar="JSON")
    parser.add_argument("--eval-args", type=json.loads, metavar="JSON")
    parser.add_argument("--range", type=float, nargs=2, default=[0.0, 1.0], metavar=("LOW", "HIGH"))
    parser.add_argument("--max-turns", type=int, default=10, help="of an environment that has no limit (10)")
    parser.add_argument("--episodes", type=int, default=10000, help="the most of a taskset without end (10000)")
    return parser.parse_args()


async def main():
    # Environments print. What they print goes to standard error, and answers alone to standard output.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    task, start = None, time.monotonic()
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if task is None:
                task = Task(options())
                print(f"loaded in {time.monotonic() - start:.1f} s", file=sys.stderr)
            answer = await getattr(task, request["type"])(request)
        except Unsupported as error:
            answer = {"error": f"not supported by this adapter: {error}"}
        except Exception as error:
            import traceback

            traceback.print_exc()
            answer = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps({"id": request.get("id"), **answer}) + "\n")
        answers.flush()


if __name__ == "__main__":
    asyncio.run(main())
