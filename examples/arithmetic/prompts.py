#!/usr/bin/env python3
"""Writes sums to learn from, train.jsonl, and other ones to test on, test.jsonl."""
import json
import random

random.seed(0)
sums = [(a, b) for a in range(1, 31) for b in range(1, 31)]
random.shuffle(sums)
for name, part in [("train.jsonl", sums[:800]), ("test.jsonl", sums[800:])]:
    with open(name, "w") as file:
        for a, b in part:
            question = f"What is {a} + {b}? Reply with the number alone."
            record = {"messages": [{"role": "user", "content": question}], "answer": str(a + b)}
            file.write(json.dumps(record) + "\n")
