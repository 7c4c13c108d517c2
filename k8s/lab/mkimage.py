#!/usr/bin/env python3
"""Writes an OCI image archive of one layer, with the Python standard library only.

    mkimage.py OUT.tar NAME:TAG [--user 10001] [--env K=V] [--port N] [--root FOLDER | --file SOURCE=PATH ...]
               -- ENTRYPOINT [ARGUMENT...]

ctr, podman, docker, buildah and skopeo read it. The same input gives the same image.
"""

import argparse
import gzip
import hashlib
import io
import json
import os
import platform
import sys
import tarfile


def arguments():
    if "--" not in sys.argv:
        sys.exit(__doc__)
    split = sys.argv.index("--")
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("out")
    parser.add_argument("name")
    parser.add_argument("--user", default="65532:65532")
    parser.add_argument("--env", action="append", default=[])
    parser.add_argument("--port", action="append", default=[])
    parser.add_argument("--root")
    parser.add_argument("--file", action="append", default=[])
    options = parser.parse_args(sys.argv[1:split])
    options.entrypoint = sys.argv[split + 1 :]
    return options


def normalised(name):
    """The runtime looks names up in full: a/b:1 is docker.io/a/b:1, and b:1 is docker.io/library/b:1."""
    first = name.split("/")[0]
    if "/" not in name:
        return "docker.io/library/" + name
    if "." in first or ":" in first or first == "localhost":
        return name
    return "docker.io/" + name


def clean(entry):
    entry.mtime = 0
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    return entry


def layer(root, files):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as archive:
        made = set()

        def folder(path, mode=0o755):
            if path in made or root:
                return
            made.add(path)
            entry = tarfile.TarInfo(path)
            entry.type = tarfile.DIRTYPE
            entry.mode = mode
            archive.addfile(entry)

        if root:
            archive.add(root, ".", filter=clean)
        folder("tmp", 0o1777)
        folder("etc")
        for file in files:
            source, path = file.split("=", 1)
            parts = path.strip("/").split("/")
            for depth in range(1, len(parts)):
                folder("/".join(parts[:depth]))
            archive.add(os.path.realpath(source), "/".join(parts), filter=clean)
    return buffer.getvalue()


def main():
    options = arguments()
    name = normalised(options.name)
    architecture = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]
    blobs = {}

    def put(media_type, data):
        digest = hashlib.sha256(data).hexdigest()
        blobs[digest] = data
        return {"mediaType": media_type, "digest": "sha256:" + digest, "size": len(data)}

    plain = layer(options.root, options.file)
    packed = put("application/vnd.oci.image.layer.v1.tar+gzip", gzip.compress(plain, 6, mtime=0))
    config = {
        "architecture": architecture,
        "os": "linux",
        "config": {
            "User": options.user,
            "Env": ["PATH=/usr/local/bin:/usr/bin:/bin"] + options.env,
            "Entrypoint": options.entrypoint,
            "WorkingDir": "/",
            "ExposedPorts": {port + "/tcp": {} for port in options.port},
        },
        "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(plain).hexdigest()]},
        "history": [{"created_by": "mkimage.py"}],
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": put("application/vnd.oci.image.config.v1+json", json.dumps(config).encode()),
        "layers": [packed],
    }
    described = put(manifest["mediaType"], json.dumps(manifest).encode())
    described["platform"] = {"architecture": architecture, "os": "linux"}
    described["annotations"] = {
        "io.containerd.image.name": name,
        "org.opencontainers.image.ref.name": name.rsplit(":", 1)[1],
    }
    index = {"schemaVersion": 2, "manifests": [described]}

    # Written beside and renamed, so that a cut-off run leaves no archive that looks whole.
    part = options.out + ".part"
    with tarfile.open(part, "w") as archive:

        def file(path, data):
            entry = tarfile.TarInfo(path)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))

        file("oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
        file("index.json", json.dumps(index).encode())
        for digest, data in blobs.items():
            file("blobs/sha256/" + digest, data)
    os.replace(part, options.out)
    print(name, described["digest"], f"{packed['size'] / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
