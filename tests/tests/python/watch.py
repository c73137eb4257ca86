"""Watches one ConfigMap as the client's documentation has it: list, watch from there, and again from the last version seen."""

import time

import urllib3
from kubernetes import client, config, watch

config.load_kube_config()
api = client.CoreV1Api()
only = "metadata.name=counter"
listed = api.list_namespaced_config_map("default", field_selector=only)
version = listed.metadata.resource_version
print("listed", listed.items[0].data["n"], flush=True)

deleted = False
while not deleted:
    try:
        events = watch.Watch().stream(
            api.list_namespaced_config_map,
            "default",
            field_selector=only,
            resource_version=version,
            timeout_seconds=60,
        )
        for event in events:
            found = event["object"]
            version = found.metadata.resource_version
            print(event["type"], found.data["n"], flush=True)
            deleted = event["type"] == "DELETED"
            if deleted:
                break
        else:
            print("again: ended", flush=True)
    except urllib3.exceptions.HTTPError as error:
        print("again:", type(error).__name__, flush=True)
        time.sleep(0.1)
