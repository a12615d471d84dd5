#!/usr/bin/env python3
"""Rewards answers to sums: 1 for the right number alone, less for the right number among words.

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
        right = bool(numbers) and numbers[-1] == group["answer"]
        rewards.append((0.5 + 0.5 * (text.strip() == group["answer"])) if right else 0.0)
    print(json.dumps({"rewards": rewards}), flush=True)
