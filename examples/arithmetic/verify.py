#!/usr/bin/env python3
"""Rewards answers to sums: 1 for the right number alone, 0.5 for it among words, 0.2 for another number alone.

Reads a group a line, {"completions": [..], "answer": ..}, and writes {"rewards": [..]} for it.
"""
import json
import re
import sys

for line in sys.stdin:
    group = json.loads(line)
    rewards = []
    for text in group["completions"]:
        numbers = re.findall(r"-?\d+", text)
        is_alone = text.strip().isdigit()
        is_right = bool(numbers) and numbers[-1] == group["answer"]
        rewards.append((1.0 if is_alone else 0.5) if is_right else 0.2 * is_alone)
    print(json.dumps({"rewards": rewards}), flush=True)
