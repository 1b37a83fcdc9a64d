#!/usr/bin/env python3
"""Keeps Prometheus' list of pods up to date, with the labels of its kubernetes_sd, which Debian's build lacks.

    targets.py KUBECONFIG TARGETS
"""

import http.client
import json
import os
import re
import ssl
import sys
import time
import urllib.request

KUBECONFIG, TARGETS = sys.argv[1:]


def watch_pods():
    """The events of all pods, from the beginning of the list on."""
    kubeconfig = open(KUBECONFIG).read()
    server, token = (re.search(rf"{key}: \"?([^\s\",]+)", kubeconfig).group(1) for key in ("server", "token"))
    url = f"{server}/api/v1/pods?watch=1"
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})
    return urllib.request.urlopen(request, context=ssl._create_unverified_context())


def label(text):
    return re.sub(r"[^A-Za-z0-9_]", "_", text)


def targets(pod):
    """One target for each port of each container. A sidecar is an init container in today's Istio."""
    meta, spec, address = pod["metadata"], pod["spec"], pod["status"].get("podIP")
    if not address or pod["status"]["phase"] != "Running":
        return
    common = {
        "__meta_kubernetes_namespace": meta["namespace"],
        "__meta_kubernetes_pod_name": meta["name"],
        **{f"__meta_kubernetes_pod_label_{label(key)}": value for key, value in meta.get("labels", {}).items()},
    }
    for container in spec.get("initContainers", []) + spec["containers"]:
        for port in container.get("ports", []):
            yield {
                "targets": [f"{address}:{port['containerPort']}"],
                "labels": {
                    **common,
                    "__meta_kubernetes_pod_container_name": container["name"],
                    "__meta_kubernetes_pod_container_port_name": port.get("name", ""),
                },
            }


def follow():
    pods = {}
    for line in watch_pods():
        event = json.loads(line)
        pod = event["object"]
        if event["type"] in ("ADDED", "MODIFIED"):
            pods[pod["metadata"]["uid"]] = list(targets(pod))
        elif event["type"] == "DELETED":
            pods.pop(pod["metadata"]["uid"], None)
        else:
            return
        with open(TARGETS + ".new", "w") as file:
            json.dump([target for found in pods.values() for target in found], file)
        os.rename(TARGETS + ".new", TARGETS)


while True:
    try:
        follow()
    except (OSError, http.client.HTTPException) as error:
        print(error, flush=True)
        time.sleep(1)
