#!/usr/bin/env python3
"""Takes rendered manifests apart: every object that occurs, once, whichever and however many renders hold it.

    objects.py OUT FILE...

OUT/<hash>.yaml is one object. OUT/origins says, one a line, the hash, one render that holds it, kind and name.
OUT/namespaces.yaml has the namespaces, which must be there before the others. Prints the number of objects.
"""

import hashlib
import os
import re
import sys


def field(pattern, text):
    found = re.search(pattern, text, re.MULTILINE)
    return found.group(1) if found else "?"


def main():
    out, files = sys.argv[1], sys.argv[2:]
    seen = {}
    for path in files:
        with open(path, encoding="utf-8") as file:
            # kustomize writes no comments, and indents every text: such a line is always the end of an object.
            documents = re.split(r"^---\n", file.read(), flags=re.MULTILINE)
        if not any(document.strip() for document in documents):
            sys.exit(f"{path} holds no object")
        for document in documents:
            if document.strip():
                seen.setdefault(document.strip() + "\n", path)
    os.makedirs(out)
    namespaces = []
    with open(os.path.join(out, "origins"), "w", encoding="utf-8") as origins:
        for document, path in seen.items():
            digest = hashlib.sha256(document.encode()).hexdigest()[:16]
            kind, name = field(r"^kind: (\S+)", document), field(r"^  name: (\S+)", document)
            render = os.path.basename(path).removesuffix(".yaml")
            origins.write(f"{digest} {render} {kind}/{name}\n")
            with open(os.path.join(out, digest + ".yaml"), "w", encoding="utf-8") as file:
                file.write(document)
            if kind == "Namespace":
                namespaces.append(document)
    if not namespaces:
        sys.exit("no namespace is among the objects")
    with open(os.path.join(out, "namespaces.yaml"), "w", encoding="utf-8") as file:
        file.write("---\n".join(namespaces))
    print(len(seen))


if __name__ == "__main__":
    main()
