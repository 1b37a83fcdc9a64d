#!/usr/bin/env python3
"""Writes the mesh's container images as archives for `ctr images import`: programs of this machine, and the
libraries that they are linked to.

    images.py BIN DEBIAN ENVOY FILES OUT PLANE

BIN: what was built; DEBIAN: Debian's packages, unpacked; ENVOY: its binary; FILES: what Istio's module has
beside its source; PLANE: whose images, istio or gateway.
An image that is newer than all that goes into it is left as it is.
"""

import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

BIN, DEBIAN, ENVOY, FILES, OUT = map(Path, sys.argv[1:6])
PLANE = sys.argv[6]
ISTIO_PROXY = "1337:1337"
NOBODY = "65532:65532"
LIBRARIES = "usr/lib/x86_64-linux-gnu"


def libraries(programs):
    """What the dynamic linker loads for these programs, by the path at which it looks."""
    environment = {**os.environ, "LD_LIBRARY_PATH": str(DEBIAN / LIBRARIES)}
    found = {}
    for program in programs:
        listed = subprocess.run(["ldd", program], capture_output=True, text=True, env=environment)
        for word in listed.stdout.split():
            if word.startswith("/"):
                inside = word.removeprefix(str(DEBIAN))
                found[inside] = Path(word)
    return found


class Image:
    def __init__(self, name, entrypoint, user="0", env=()):
        self.name, self.entrypoint, self.user, self.env = name, entrypoint, user, env
        self.files, self.folders, self.links = {}, [], {}
        self.add_text("/etc/passwd", "root:x:0:0::/:/bin/sh\nistio-proxy:x:1337:1337::/:/bin/sh\n")
        self.add_text("/etc/group", "root:x:0:\nistio-proxy:x:1337:\n")
        self.add_text("/etc/nsswitch.conf", "hosts: files dns\n")

    def add_text(self, path, text):
        self.files[path] = text.encode()

    def add(self, path, source):
        self.files[path] = Path(source).resolve()

    def add_programs(self, programs):
        for path, source in programs.items():
            self.add(path, source)
        for path, source in libraries(programs.values()).items():
            self.add(path, source)

    def layer(self):
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            for folder, mode, owner in [("tmp", 0o1777, 0), *self.folders]:
                entry = tarfile.TarInfo(folder)
                entry.type, entry.mode, entry.uid, entry.gid = tarfile.DIRTYPE, mode, owner, owner
                tar.addfile(entry)
            for path, content in self.files.items():
                data = content if isinstance(content, bytes) else content.read_bytes()
                entry = tarfile.TarInfo(path.lstrip("/"))
                entry.size, entry.mode = len(data), 0o755
                tar.addfile(entry, io.BytesIO(data))
            for path, target in self.links.items():
                entry = tarfile.TarInfo(path.lstrip("/"))
                entry.type, entry.linkname = tarfile.SYMTYPE, target
                tar.addfile(entry)
        return buffer.getvalue()

    def is_written(self, archive):
        """No need to build it again: neither this script nor what goes in has changed since."""
        sources = [path for path in self.files.values() if isinstance(path, Path)]
        newest = max(path.stat().st_mtime for path in [*sources, Path(__file__)])
        return archive.exists() and archive.stat().st_mtime > newest

    def write(self):
        archive = OUT / (self.name.split(":")[0] + ".tar")
        if self.is_written(archive):
            return
        layer = self.layer()
        config = {
            "architecture": "amd64",
            "os": "linux",
            "config": {
                "Entrypoint": self.entrypoint,
                "User": self.user,
                "Env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/bin", *self.env],
            },
            "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(layer).hexdigest()]},
        }
        config = json.dumps(config).encode()
        config_name = hashlib.sha256(config).hexdigest() + ".json"
        manifest = [{"Config": config_name, "RepoTags": ["mesh.local/" + self.name], "Layers": ["layer.tar"]}]
        files = {config_name: config, "layer.tar": layer, "manifest.json": json.dumps(manifest).encode()}
        partial = archive.with_suffix(".partial")
        with tarfile.open(partial, "w") as tar:
            for name, data in files.items():
                entry = tarfile.TarInfo(name)
                entry.size = len(data)
                tar.addfile(entry, io.BytesIO(data))
        partial.rename(archive)
        print(f"  image {self.name}: {len(layer) >> 20} MiB")


def pause():
    image = Image("pause:1", ["/pause"])
    image.add("/pause", BIN / "pause")
    return image


def app():
    image = Image("app:1", ["/app"])
    image.add_programs({"/app": BIN / "app"})
    return image


def pilot():
    image = Image("pilot:1", ["/usr/local/bin/pilot-discovery"], ISTIO_PROXY)
    image.add_programs({"/usr/local/bin/pilot-discovery": BIN / "pilot-discovery"})
    return image


def proxy():
    """Istio's image of the sidecar and of istio-init, with a stock Envoy."""
    env = ["ISTIO_META_ISTIO_PROXY_SHA=stock", "ISTIO_META_ISTIO_VERSION=1.31.0"]
    image = Image("proxyv2:1", ["/usr/local/bin/pilot-agent"], ISTIO_PROXY, env)
    image.add_programs({
        "/usr/local/bin/pilot-agent": BIN / "pilot-agent",
        "/usr/local/bin/envoy": ENVOY,
        "/usr/sbin/xtables-nft-multi": DEBIAN / "usr/sbin/xtables-nft-multi",
        "/usr/sbin/xtables-legacy-multi": DEBIAN / "usr/sbin/xtables-legacy-multi",
        "/bin/sh": "/bin/dash",
        "/sbin/ip": "/sbin/ip",
    })
    for version in ("iptables", "ip6tables"):
        for command in ("", "-save", "-restore"):
            image.links[f"/usr/sbin/{version}{command}"] = "xtables-nft-multi"
            for kind in ("nft", "legacy"):
                image.links[f"/usr/sbin/{version}-{kind}{command}"] = f"xtables-{kind}-multi"
    for extension in (DEBIAN / LIBRARIES / "xtables").iterdir():
        image.add(f"/{LIBRARIES}/xtables/{extension.name}", extension)
    image.folders = [(folder, 0o777, 1337) for folder in (
        "etc/istio", "etc/istio/proxy", "etc/istio/config", "var/lib/istio", "var/lib/istio/envoy", "var/lib/istio/data")]
    image.add("/var/lib/istio/envoy/envoy_bootstrap_tmpl.json", FILES / "envoy_bootstrap.json")
    image.add("/etc/ssl/certs/ca-certificates.crt", "/etc/ssl/certs/ca-certificates.crt")
    return image


def envoy_gateway():
    """The controller, its job of certificates and the shutdown manager beside each proxy."""
    image = Image("envoy-gateway:1", ["/usr/local/bin/envoy-gateway"], NOBODY)
    image.add_programs({"/usr/local/bin/envoy-gateway": BIN / "envoy-gateway"})
    image.folders = [(folder, 0o777, 65532) for folder in ("var/lib/eg", "var/lib/eg/wasm")]
    image.add("/etc/ssl/certs/ca-certificates.crt", "/etc/ssl/certs/ca-certificates.crt")
    return image


def envoy():
    image = Image("envoy:1", ["/usr/local/bin/envoy"], NOBODY)
    image.add_programs({"/usr/local/bin/envoy": ENVOY})
    return image


def cert_manager():
    image = Image("cert-manager:1", ["/cert-manager"], NOBODY)
    image.add_programs({"/cert-manager": BIN / "cert-manager"})
    return image


IMAGES = {"istio": (pause, app, pilot, proxy), "gateway": (pause, app, envoy_gateway, envoy, cert_manager)}
OUT.mkdir(exist_ok=True)
for build in IMAGES[PLANE]:
    build().write()
