"""Objects by the typed and by the dynamic client: made, read, listed, changed in every way, deleted."""

import datetime

from kubernetes import client, config, dynamic, utils
from kubernetes.client import ApiException

config.load_kube_config()
core, apps = client.CoreV1Api(), client.AppsV1Api()


def refused(status, reason, call, *args, **kwargs):
    """The error that a call ends with."""
    try:
        call(*args, **kwargs)
    except ApiException as error:
        assert error.status == status and f'"reason":"{reason}"' in error.body.replace(" ", ""), error
        return error
    raise AssertionError(f"{call} went well")


def typed():
    labels = {"app": "shop"}
    container = client.V1Container(
        name="shop", image="shop:1", ports=[client.V1ContainerPort(container_port=8080)],
        resources=client.V1ResourceRequirements(requests={"cpu": "100m"}),
    )
    template = client.V1PodTemplateSpec(
        metadata=client.V1ObjectMeta(labels=labels), spec=client.V1PodSpec(containers=[container]),
    )
    body = client.V1Deployment(
        metadata=client.V1ObjectMeta(name="shop", labels=labels),
        spec=client.V1DeploymentSpec(
            replicas=0, selector=client.V1LabelSelector(match_labels=labels), template=template,
        ),
    )
    tried = apps.create_namespaced_deployment("default", body, dry_run="All")
    assert tried.spec.strategy.type == "RollingUpdate"
    refused(404, "NotFound", apps.read_namespaced_deployment, "shop", "default")

    made = apps.create_namespaced_deployment("default", body)
    assert made.metadata.uid and made.spec.progress_deadline_seconds == 600
    assert isinstance(made.metadata.creation_timestamp, datetime.datetime)
    refused(409, "AlreadyExists", apps.create_namespaced_deployment, "default", body)

    patch = {"spec": {"template": {"spec": {"containers": [{"name": "shop", "image": "shop:3"}]}}}}
    changed = apps.patch_namespaced_deployment("shop", "default", patch)
    assert changed.spec.template.spec.containers[0].image == "shop:3"
    assert changed.spec.template.spec.containers[0].ports[0].container_port == 8080, "a strategic merge"
    refused(409, "Conflict", apps.replace_namespaced_deployment, "shop", "default", made)
    changed = apps.patch_namespaced_deployment("shop", "default", [{"op": "add", "path": "/metadata/labels/k", "value": "v"}])
    assert changed.metadata.labels == {"app": "shop", "k": "v"}

    scale = apps.patch_namespaced_deployment_scale("shop", "default", {"spec": {"replicas": 2}})
    assert scale.spec.replicas == 2 and apps.read_namespaced_deployment_scale("shop", "default").spec.replicas == 2

    listed = apps.list_deployment_for_all_namespaces(label_selector="app=shop,k in (v, w)", limit=1)
    assert [item.metadata.name for item in listed.items] == ["shop"]
    invalid = {"spec": {"replicas": -1}}
    error = refused(422, "Invalid", apps.patch_namespaced_deployment, "shop", "default", invalid)
    assert "spec.replicas" in error.body, error.body

    done = apps.delete_namespaced_deployment("shop", "default", propagation_policy="Background")
    assert done["status"] == "Success", done


def pages():
    for number in range(5):
        body = client.V1ConfigMap(metadata=client.V1ObjectMeta(name=f"page-{number}", labels={"page": "y"}))
        core.create_namespaced_config_map("default", body)
    first = core.read_namespaced_config_map("page-0", "default")
    first.data = {"a": "b"}
    replaced = core.replace_namespaced_config_map("page-0", "default", first)
    assert replaced.data == {"a": "b"} and replaced.metadata.resource_version != first.metadata.resource_version
    names, token = [], None
    while True:
        page = core.list_namespaced_config_map("default", label_selector="page=y", limit=2, _continue=token)
        names += [item.metadata.name for item in page.items]
        token = page.metadata._continue
        if not token:
            break
    assert names == [f"page-{number}" for number in range(5)], names
    core.delete_collection_namespaced_config_map("default", label_selector="page=y")
    assert not core.list_namespaced_config_map("default", label_selector="page=y").items


def secrets_and_tokens():
    body = client.V1Secret(metadata=client.V1ObjectMeta(generate_name="key-"), string_data={"a": "b"})
    made = core.create_namespaced_secret("default", body)
    assert made.metadata.name.startswith("key-") and made.data == {"a": "Yg=="}, made
    request = client.AuthenticationV1TokenRequest(spec=client.V1TokenRequestSpec(audiences=["a"], expiration_seconds=600))
    token = core.create_namespaced_service_account_token("default", "default", request)
    assert token.status.token.count(".") == 2
    review = client.V1SelfSubjectAccessReview(
        spec=client.V1SelfSubjectAccessReviewSpec(
            resource_attributes=client.V1ResourceAttributes(verb="create", resource="pods", namespace="default"),
        )
    )
    assert client.AuthorizationV1Api().create_self_subject_access_review(review).status.allowed


def dynamically():
    found = dynamic.DynamicClient(client.ApiClient())
    services = found.resources.get(api_version="v1", kind="Service")
    body = {
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "shop"},
        "spec": {"selector": {"app": "shop"}, "ports": [{"name": "http", "port": 80, "targetPort": "http"}]},
    }
    made = services.create(body=body, namespace="default")
    assert made.spec.clusterIP and made.spec.ports[0].targetPort == "http", made
    body["spec"]["ports"][0] = {"name": "more", "port": 81}
    applied = services.server_side_apply(body=body, namespace="default", field_manager="python", force_conflicts=True)
    owners = [(owner.manager, owner.operation) for owner in applied.metadata.managedFields]
    assert [port.port for port in applied.spec.ports] == [80, 81], applied
    assert ("python", "Apply") in owners, owners
    patch = {"metadata": {"labels": {"a": "b"}}}
    patched = services.patch(name="shop", namespace="default", body=patch, content_type="application/merge-patch+json")
    assert patched.metadata.labels.a == "b"
    assert [item.metadata.name for item in services.get(label_selector="a=b").items] == ["shop"]
    services.delete(name="shop", namespace="default")
    try:
        services.get(name="shop", namespace="default")
        raise AssertionError("it is still there")
    except dynamic.exceptions.NotFoundError:
        pass
    jobs = found.resources.get(api_version="batch/v1", kind="Job")
    assert jobs.namespaced and "status" in jobs.subresources, jobs


def from_yaml():
    objects = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "other"}},
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "other"}, "data": {"a": "b"}},
        {
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "l", "namespace": "other"},
            "spec": {"holderIdentity": "python", "leaseDurationSeconds": 15},
        },
    ]
    for body in objects:
        utils.create_from_dict(client.ApiClient(), body)
    lease = client.CoordinationV1Api().read_namespaced_lease("l", "other")
    lease.spec.renew_time = datetime.datetime.now(datetime.timezone.utc)
    renewed = client.CoordinationV1Api().replace_namespaced_lease("l", "other", lease)
    assert renewed.spec.renew_time == lease.spec.renew_time, (renewed.spec.renew_time, lease.spec.renew_time)
    core.delete_namespace("other")


typed()
pages()
secrets_and_tokens()
dynamically()
from_yaml()
print("done")
