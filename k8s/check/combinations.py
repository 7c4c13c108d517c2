#!/usr/bin/env python3
"""Writes a kustomization for every combination of components, and the lists of those that matter.

    combinations.py K8S OUT

OUT/all/<name>/kustomization.yaml is one combination. OUT/everything and OUT/pairs name some of them, one a line:
`everything` has every component that can be switched on, and of entry, broker and database each pair of choices;
`pairs` has, of all that can be chosen, each pair of choices at least once.

A component that is in no group is an error, so that a new one is never forgotten.
"""

import itertools
import os
import re
import sys

# Exactly one of each group; None is an entry that the base has already.
ONE_OF = {
    "entry": [None, "own-gateway", "gateway-api"],
    "broker": ["kafka", "strimzi", "kafka-external"],
    "database": ["postgres", "cloudnative-pg", "postgres-external"],
}
# Each of these is on or off.
ANY_OF = ["prometheus", "prometheus-operator", "keda", "network-policies", "cert-manager", "otel"]
# In every combination, after all others.
LAST = ["release"]
# Fit one overlay only, and are checked there.
OF_AN_OVERLAY = ["open-entry", "gateway-api/nodeports"]


def groups_match_the_folders(k8s):
    known = {name for choices in ONE_OF.values() for name in choices if name}
    known |= set(ANY_OF) | set(LAST) | set(OF_AN_OVERLAY)
    folder = os.path.join(k8s, "components")
    # A folder without a kustomization holds files of the component above it.
    there = {
        os.path.relpath(path, folder) for path, _, files in os.walk(folder) if "kustomization.yaml" in files
    } | {entry.name for entry in os.scandir(folder) if entry.is_dir()}
    problems = [f"components/{name} is in no group of combinations.py" for name in sorted(there - known)]
    problems += [f"components/{name} is missing" for name in sorted(known - there)]
    overlays = ""
    for overlay in os.scandir(os.path.join(k8s, "overlays")):
        with open(os.path.join(overlay.path, "kustomization.yaml"), encoding="utf-8") as file:
            overlays += file.read()
    for name in OF_AN_OVERLAY:
        if not re.search(rf"components/{name}\s*$", overlays, re.MULTILINE):
            problems.append(f"components/{name} is in no overlay")
    if problems:
        sys.exit("\n".join(problems))


def pairs_of(combination):
    return set(itertools.combinations(enumerate(combination), 2))


def cover(chosen, candidates, wanted):
    """Adds to `chosen`, greedily, the candidates that hold the most pairs of `wanted` not yet held."""
    missing = set(wanted)
    for combination in chosen:
        missing -= pairs_of(combination)
    while missing:
        best = max(candidates, key=lambda one: len(pairs_of(one) & missing))
        chosen.append(best)
        missing -= pairs_of(best)
    return chosen


def main():
    k8s, out = os.path.realpath(sys.argv[1]), sys.argv[2]
    groups_match_the_folders(k8s)
    one_of = list(itertools.product(*ONE_OF.values()))
    switches = list(itertools.product([True, False], repeat=len(ANY_OF)))
    everything_on = (True,) * len(ANY_OF)
    combinations = [choices + on for choices in one_of for on in switches]

    first = list(range(len(ONE_OF)))
    of_choices = {
        pair for one in combinations for pair in pairs_of(one) if pair[0][0] in first and pair[1][0] in first
    }
    everything = cover([], [choices + everything_on for choices in one_of], of_choices)
    every_pair = {pair for one in combinations for pair in pairs_of(one)}
    pairs = cover(list(everything), combinations, every_pair)

    def components(combination):
        names = [name for name in combination[: len(ONE_OF)] if name]
        names += [name for name, on in zip(ANY_OF, combination[len(ONE_OF) :]) if on]
        return names + LAST

    def name_of(combination):
        return "_".join(name for name in components(combination) if name not in LAST)

    for combination in combinations:
        # The real path: kustomize follows links before it resolves `..`.
        folder = os.path.join(os.path.realpath(out), "all", name_of(combination))
        os.makedirs(folder)
        relative = os.path.relpath(k8s, folder)
        lines = [
            "apiVersion: kustomize.config.k8s.io/v1beta1",
            "kind: Kustomization",
            "namespace: flightbell",
            f"resources: [{relative}/base]",
            "components:",
        ]
        lines += [f"  - {relative}/components/{name}" for name in components(combination)]
        with open(os.path.join(folder, "kustomization.yaml"), "w", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")
    for name, chosen in (("everything", everything), ("pairs", pairs)):
        with open(os.path.join(out, name), "w", encoding="utf-8") as file:
            file.writelines(name_of(one) + "\n" for one in chosen)


if __name__ == "__main__":
    main()
