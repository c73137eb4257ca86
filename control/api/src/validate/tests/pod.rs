//! Pods: where they want to be, what they wait for, what they have.

mod changes;

use super::*;

/// What is wrong with a Pod whose spec has this beside its one container.
fn with_spec(spec: &Value) -> Vec<String> {
    let mut whole = json!({"containers": [{"name": "c", "image": "i"}]});
    whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    created(&kind::POD, json!({"spec": whole}))
}

/// Each with its one refusal, and the same in a template, below another path.
fn refused_with(cases: Vec<(Value, &str)>) {
    for (spec, message) in cases {
        assert_eq!(with_spec(&spec), [message], "{spec}");
        let mut template = json!({"containers": [{"name": "c", "image": "i"}]});
        template.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        let of_template =
            deployment(&json!({"template": {"metadata": {"labels": {"a": "b"}}, "spec": template}}));
        assert_eq!(
            created(&kind::DEPLOYMENT, of_template),
            [message.replacen("spec.", "spec.template.spec.", 1)],
            "{spec}"
        );
    }
}

#[test]
fn where_a_pod_wants_to_be() {
    let node = |term: Value| json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}}});
    let preferred = |weight: i64, expression: Value| {
        json!({"affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
            {"weight": weight, "preference": {"matchExpressions": [expression]}}]}}})
    };
    let pods = |kind: &str, term: Value| json!({"affinity": {kind: {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}});
    let weighted = |weight: i64, term: Value| {
        json!({"affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
            {"weight": weight, "podAffinityTerm": term}]}}})
    };
    let host = "kubernetes.io/hostname";
    let selector = json!({"matchLabels": {"app": "x"}});
    for right in [
        node(json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]})),
        preferred(100, json!({"key": "disk", "operator": "In", "values": ["a b"]})),
        pods("podAffinity", json!({"topologyKey": host, "labelSelector": selector, "namespaces": ["a"]})),
        pods(
            "podAntiAffinity",
            json!({"topologyKey": host, "labelSelector": selector, "matchLabelKeys": ["v"]}),
        ),
        weighted(1, json!({"topologyKey": host})),
    ] {
        assert_eq!(with_spec(&right), Vec::<String>::new());
    }
    let required = "requiredDuringSchedulingIgnoredDuringExecution";
    let node_path = format!("spec.affinity.nodeAffinity.{required}.nodeSelectorTerms[0]");
    let preferred_path = "spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0]";
    let (beside, apart) = (
        format!("spec.affinity.podAffinity.{required}[0]"),
        format!("spec.affinity.podAntiAffinity.{required}[0]"),
    );
    let weighted_path = "spec.affinity.podAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution[0]";
    let in_words = "must be specified when `operator` is 'In' or 'NotIn'";
    let owned: Vec<(Value, String)> = vec![
        (
            node(json!({"matchExpressions": [{"key": "a", "operator": "In"}]})),
            format!("{node_path}.matchExpressions[0].values: Required value: {in_words}"),
        ),
        (
            node(json!({"matchExpressions": [{"key": "a", "operator": "Exists", "values": ["b"]}]})),
            format!(
                "{node_path}.matchExpressions[0].values: Forbidden: may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
            ),
        ),
        (
            node(json!({"matchExpressions": [{"key": "a", "operator": "Gt", "values": ["1", "2"]}]})),
            format!(
                "{node_path}.matchExpressions[0].values: Required value: must be specified single value when `operator` is 'Lt' or 'Gt'"
            ),
        ),
        (
            node(json!({"matchFields": [{"key": "metadata.uid", "operator": "In", "values": ["u"]}]})),
            format!(
                "{node_path}.matchFields[0].key: Invalid value: \"metadata.uid\": not a valid field selector key"
            ),
        ),
        (
            node(json!({"matchFields": [{"key": "metadata.name", "operator": "Exists"}]})),
            format!(
                "{node_path}.matchFields[0].operator: Invalid value: \"Exists\": not a valid selector operator"
            ),
        ),
        (
            preferred(0, json!({"key": "a", "operator": "Exists"})),
            format!("{preferred_path}.weight: Invalid value: 0: must be in the range 1-100"),
        ),
        (
            preferred(5, json!({"key": "a", "operator": "Near"})),
            format!(
                "{preferred_path}.preference.matchExpressions[0].operator: Invalid value: \"Near\": not a valid selector operator"
            ),
        ),
        (
            weighted(101, json!({"topologyKey": host})),
            format!("{weighted_path}.weight: Invalid value: 101: must be in the range 1-100"),
        ),
        (
            pods(
                "podAffinity",
                json!({"topologyKey": host, "labelSelector": {"matchExpressions": [{"key": "a", "operator": "In"}]}}),
            ),
            format!("{beside}.labelSelector.matchExpressions[0].values: Required value: {in_words}"),
        ),
        (
            pods(
                "podAntiAffinity",
                json!({"topologyKey": host, "namespaceSelector": {"matchExpressions": [{"key": "a", "operator": "In"}]}}),
            ),
            format!("{apart}.namespaceSelector.matchExpressions[0].values: Required value: {in_words}"),
        ),
        (
            pods("podAffinity", json!({"topologyKey": host, "matchLabelKeys": ["v"]})),
            format!(
                "{beside}.matchLabelKeys: Forbidden: must not be specified when labelSelector is not set"
            ),
        ),
        (
            pods(
                "podAffinity",
                json!({"topologyKey": host, "labelSelector": selector, "matchLabelKeys": ["v"], "mismatchLabelKeys": ["v"]}),
            ),
            format!(
                "{beside}.matchLabelKeys[0]: Invalid value: \"v\": exists in both matchLabelKeys and mismatchLabelKeys"
            ),
        ),
    ];
    refused_with(owned.iter().map(|(spec, message)| (spec.clone(), message.as_str())).collect());
    let said = with_spec(&pods("podAffinity", json!({"labelSelector": selector})));
    assert_eq!(said[0], format!("{beside}.topologyKey: Required value: can not be empty"));
    let said = with_spec(&pods("podAffinity", json!({"topologyKey": host, "namespaces": ["A"]})));
    assert!(said[0].starts_with(&format!("{beside}.namespace: Invalid value: \"A\": a lowercase RFC 1123")));
}

#[test]
fn a_pods_own_labels_become_selectors() {
    let mut pod = json!({"metadata": {"labels": {"v": "1", "app": "x"}}, "spec": {"containers": [{"name": "c", "image": "i"}],
        "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule",
            "labelSelector": {"matchLabels": {"app": "x"}}, "matchLabelKeys": ["v", "none"]}],
        "affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
            {"topologyKey": "zone", "labelSelector": {}, "mismatchLabelKeys": ["app"]}]}}}});
    crate::default::prepare(&kind::POD, &mut pod, None);
    assert_eq!(
        pod["spec"]["topologySpreadConstraints"][0]["labelSelector"],
        json!({"matchLabels": {"app": "x"}, "matchExpressions": [{"key": "v", "operator": "In", "values": ["1"]}]})
    );
    assert_eq!(
        pod["spec"]["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"][0]["labelSelector"],
        json!({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["x"]}]})
    );
    let once = pod.clone();
    crate::default::prepare(&kind::POD, &mut pod, Some(&once));
    assert_eq!(pod, once, "a change brings nothing more");
    // What stands in the selector too was meant twice.
    let twice = json!({"metadata": {"labels": {"v": "1"}}, "spec": {"containers": [{"name": "c", "image": "i"}],
        "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule",
            "labelSelector": {"matchLabels": {"v": "1"}}, "matchLabelKeys": ["v"]}]}});
    assert_eq!(
        created(&kind::POD, twice),
        [
            "spec.topologySpreadConstraints[0][0]: Invalid value: \"v\": exists in both matchLabelKeys and labelSelector"
        ]
    );
}

#[test]
fn how_pods_are_spread() {
    let spread = |more: Value| {
        let mut constraint =
            json!({"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"});
        constraint.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"topologySpreadConstraints": [constraint]})
    };
    assert!(with_spec(&spread(json!({"whenUnsatisfiable": "DoNotSchedule", "minDomains": 2}))).is_empty());
    let path = "spec.topologySpreadConstraints[0]";
    let cases: Vec<(Value, String)> = vec![
        (
            spread(json!({"maxSkew": 0})),
            format!("{path}.maxSkew: Invalid value: 0: must be greater than zero"),
        ),
        (spread(json!({"topologyKey": ""})), format!("{path}.topologyKey: Required value: can not be empty")),
        (
            spread(json!({"whenUnsatisfiable": "Wait"})),
            format!(
                "{path}.whenUnsatisfiable: Unsupported value: \"Wait\": supported values: \"DoNotSchedule\", \"ScheduleAnyway\""
            ),
        ),
        (
            spread(json!({"minDomains": 2})),
            format!(
                "{path}.minDomains: Invalid value: 2: can only use minDomains if whenUnsatisfiable=DoNotSchedule, not ScheduleAnyway"
            ),
        ),
        (
            spread(json!({"nodeTaintsPolicy": "Maybe"})),
            format!(
                "{path}.nodeTaintsPolicy: Unsupported value: \"Maybe\": supported values: \"Honor\", \"Ignore\""
            ),
        ),
        (
            json!({"topologySpreadConstraints": [
                {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"},
                {"maxSkew": 2, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"}]}),
            format!(
                "{path}.{{topologyKey, whenUnsatisfiable}}: Duplicate value: \"{{zone, ScheduleAnyway}}\""
            ),
        ),
    ];
    refused_with(cases.iter().map(|(spec, message)| (spec.clone(), message.as_str())).collect());
}

#[test]
fn what_a_pod_waits_for_and_is_run_with() {
    refused_with(vec![
        (
            json!({"schedulingGates": [{"name": "a.b/c"}, {"name": "a.b/c"}]}),
            "spec.schedulingGates[1]: Duplicate value: \"a.b/c\"",
        ),
        (
            json!({"overhead": {"cpu": "-1"}}),
            "spec.overhead.limits[cpu]: Invalid value: \"-1\": must be greater than or equal to 0",
        ),
        (
            json!({"preemptionPolicy": "Sometimes"}),
            "spec.preemptionPolicy: Unsupported value: \"Sometimes\": supported values: \"Never\", \"PreemptLowerPriority\"",
        ),
        (
            json!({"os": {"name": "plan9"}}),
            "spec.os: Unsupported value: \"plan9\": supported values: \"linux\", \"windows\"",
        ),
        (json!({"hostUsers": false, "hostPID": true}), "spec.HostPID: Forbidden: when `hostUsers` is false"),
        (
            json!({"hostnameOverride": "a", "setHostnameAsFQDN": true}),
            "spec.hostnameOverride: Forbidden: may not be specified when setHostnameAsFQDN is true",
        ),
        (
            json!({"shareProcessNamespace": true, "hostPID": true}),
            "spec.securityContext.shareProcessNamespace: Invalid value: true: ShareProcessNamespace and HostPID cannot both be enabled",
        ),
        (
            json!({"securityContext": {"seccompProfile": {"type": "Localhost"}}}),
            "spec.securityContext.seccompProfile.localhostProfile: Required value: must be set when seccomp type is Localhost",
        ),
        (
            json!({"securityContext": {"appArmorProfile": {"type": "RuntimeDefault", "localhostProfile": "x"}}}),
            "spec.securityContext.appArmorProfile.localhostProfile: Invalid value: \"x\": can only be set when AppArmor type is Localhost",
        ),
        (
            json!({"securityContext": {"fsGroupChangePolicy": "Never"}}),
            "spec.securityContext.fsGroupChangePolicy: Unsupported value: \"Never\": supported values: \"Always\", \"OnRootMismatch\"",
        ),
    ]);
    for (spec, path) in [
        (
            json!({"schedulingGates": [{"name": "a b"}]}),
            "spec.schedulingGates[0]: Invalid value: \"a b\": name part must",
        ),
        (
            json!({"readinessGates": [{"conditionType": "a b"}]}),
            "spec.readinessGates[0].conditionType: Invalid value: \"a b\": name part must",
        ),
        (
            json!({"runtimeClassName": "A"}),
            "spec.runtimeClassName: Invalid value: \"A\": a lowercase RFC 1123",
        ),
        (
            json!({"securityContext": {"sysctls": [{"name": "net..x", "value": "1"}]}}),
            "spec.securityContext.sysctls[0].name: Invalid value: \"net..x\": must have at most 253",
        ),
        (
            json!({"tolerations": [{"key": "a", "value": "b c"}]}),
            "spec.tolerations[0].operator: Invalid value: \"b c\": a valid label must",
        ),
    ] {
        let said = with_spec(&spec);
        assert!(said.len() == 1 && said[0].starts_with(path), "{said:?}");
    }
    assert_eq!(
        with_spec(&json!({"nodeName": "n", "schedulingGates": [{"name": "a.b/c"}]})),
        ["spec.nodeName: Forbidden: cannot be set until all schedulingGates have been cleared"]
    );
    let annotated = |key: &str, value: &str| {
        created(
            &kind::POD,
            json!({"metadata": {"annotations": {key: value}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}),
        )
    };
    assert!(annotated("controller.kubernetes.io/pod-deletion-cost", "-7").is_empty());
    assert_eq!(
        annotated("controller.kubernetes.io/pod-deletion-cost", "+7"),
        [
            "metadata.annotations[controller.kubernetes.io/pod-deletion-cost]: Invalid value: \"+7\": must be a 32bit integer"
        ]
    );
}

#[test]
fn what_a_pod_and_its_containers_have() {
    let claims = |of_pod: Value, of_container: Value| json!({"resourceClaims": of_pod, "containers": [{"name": "c", "image": "i", "resources": {"claims": of_container}}]});
    let gpu = json!([{"name": "gpu", "resourceClaimName": "g"}]);
    assert!(
        with_spec(&claims(
            gpu.clone(),
            json!([{"name": "gpu", "request": "one"}, {"name": "gpu", "request": "two"}])
        ))
        .is_empty()
    );
    let path = "spec.containers[0].resources";
    let with =
        |resources: Value| json!({"containers": [{"name": "c", "image": "i", "resources": resources}]});
    let cases: Vec<(Value, String)> = vec![
        (
            claims(gpu.clone(), json!([{"name": "fpga"}])),
            format!("{path}.claims[0]: Not found: \"fpga\": must be one of the names in pod.spec.resourceClaims: gpu"),
        ),
        (
            claims(json!([]), json!([{"name": "fpga"}])),
            format!("{path}.claims[0]: Not found: \"fpga\": must be one of the names in pod.spec.resourceClaims which is empty"),
        ),
        (
            claims(gpu.clone(), json!([{"name": "gpu", "request": "one"}, {"name": "gpu"}])),
            format!("{path}.claims[1]: Duplicate value: \"gpu\""),
        ),
        (
            claims(gpu, json!([{"name": "gpu"}, {"name": "gpu", "request": "one"}])),
            format!("{path}.claims[1]: Duplicate value: \"gpu\""),
        ),
        (
            claims(json!([{"name": "gpu"}]), json!([])),
            "spec.resourceClaims[0]: Invalid value: {\"name\":\"gpu\"}: must specify one of: `resourceClaimName`, `resourceClaimTemplateName`".to_owned(),
        ),
        (
            claims(json!([{"name": "a", "resourceClaimName": "g"}, {"name": "a", "resourceClaimTemplateName": "g"}]), json!([])),
            "spec.resourceClaims[1].name: Duplicate value: \"a\"".to_owned(),
        ),
        (
            with(json!({"limits": {"cpu": "1", "hugepages-2Mi": "3Mi"}, "requests": {"hugepages-2Mi": "3Mi"}})),
            String::new(),
        ),
        (
            with(json!({"requests": {"example.com/gpu": "1"}})),
            format!("{path}.limits: Required value: Limit must be set for non overcommitable resources"),
        ),
        (
            with(json!({"limits": {"example.com/gpu": "2"}, "requests": {"example.com/gpu": "1"}})),
            format!("{path}.requests: Invalid value: \"1\": must be equal to example.com/gpu limit of 2"),
        ),
        (
            with(json!({"limits": {"hugepages-2Mi": "2Mi"}, "requests": {"hugepages-2Mi": "2Mi"}})),
            format!("{path}: Forbidden: HugePages require cpu or memory"),
        ),
        (
            json!({"resources": {"requests": {"cpu": "1"}}, "containers": [{"name": "c", "image": "i", "resources": {"requests": {"cpu": "2"}}}]}),
            "spec.resources.requests[cpu]: Invalid value: \"1\": must be greater than or equal to aggregate container requests of 2".to_owned(),
        ),
        (
            json!({"resources": {"limits": {"cpu": "1"}}, "containers": [{"name": "c", "image": "i", "resources": {"limits": {"cpu": "2"}, "requests": {"cpu": "1"}}}]}),
            "spec.resources.containers[0][cpu].limits: Invalid value: \"2\": must be less than or equal to pod limits of 1".to_owned(),
        ),
        (
            json!({"resources": {"requests": {"ephemeral-storage": "1"}}}),
            "spec.resources.requests[ephemeral-storage]: Unsupported value: \"ephemeral-storage\": supported values: \"cpu\", \"memory\"".to_owned(),
        ),
    ];
    // One that stays, and another beside it for a while.
    let sidecars = json!({"resources": {"requests": {"cpu": "1"}}, "initContainers": [
        {"name": "s", "image": "i", "restartPolicy": "Always", "resources": {"requests": {"cpu": "1"}}},
        {"name": "t", "image": "i", "resources": {"requests": {"cpu": "1"}}}]});
    assert_eq!(
        with_spec(&sidecars),
        [
            "spec.resources.requests[cpu]: Invalid value: \"1\": must be greater than or equal to aggregate container requests of 2"
        ]
    );
    let one =
        |(spec, message): &(Value, String)| (!message.is_empty()).then(|| (spec.clone(), message.clone()));
    let cases: Vec<(Value, String)> = cases.iter().filter_map(one).collect();
    refused_with(cases.iter().map(|(spec, message)| (spec.clone(), message.as_str())).collect());
    let uneven = with_spec(&with(json!({"limits": {"cpu": "1", "hugepages-2Mi": "3Mi"}})));
    let word = "Invalid value: \"3Mi\": 3Mi is not positive integer multiple of hugepages-2Mi";
    assert_eq!(
        uneven,
        [format!("{path}.limits[hugepages-2Mi]: {word}"), format!("{path}.requests[hugepages-2Mi]: {word}")]
    );
}

#[test]
fn containers_in_their_details() {
    let path = "spec.containers[0]";
    let in_pod = |container: Value, more: Value| {
        let mut spec = json!({"containers": [{"name": "c", "image": "i"}]});
        spec["containers"][0].as_object_mut().unwrap().extend(container.as_object().unwrap().clone());
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        spec
    };
    let none = json!({});
    let volume =
        json!({"volumes": [{"name": "v"}, {"name": "d", "persistentVolumeClaim": {"claimName": "x"}}]});
    assert!(
        with_spec(&in_pod(json!({"volumeDevices": [{"name": "d", "devicePath": "/dev/x"}]}), volume.clone()))
            .is_empty()
    );
    let cases: Vec<(Value, String)> = vec![
        (
            in_pod(
                json!({"volumeMounts": [{"name": "v", "mountPath": "/v", "subPath": "a", "subPathExpr": "b"}]}),
                volume.clone(),
            ),
            format!(
                "{path}.volumeMounts[0].subPathExpr: Invalid value: \"b\": subPathExpr and subPath are mutually exclusive"
            ),
        ),
        (
            in_pod(
                json!({"volumeMounts": [{"name": "v", "mountPath": "/v", "mountPropagation": "Bidirectional"}]}),
                volume.clone(),
            ),
            format!(
                "{path}.volumeMounts.mountPropagation: Forbidden: Bidirectional mount propagation is available only to privileged containers"
            ),
        ),
        (
            in_pod(
                json!({"volumeMounts": [{"name": "v", "mountPath": "/v", "recursiveReadOnly": "Enabled"}]}),
                volume.clone(),
            ),
            format!(
                "{path}.volumeMounts.recursiveReadOnly: Forbidden: may only be specified when readOnly is true"
            ),
        ),
        (
            in_pod(json!({"volumeDevices": [{"name": "v", "devicePath": "/dev/x"}]}), volume.clone()),
            format!(
                "{path}.volumeDevices[0].name: Invalid value: \"v\": can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode"
            ),
        ),
        (
            in_pod(
                json!({"env": [{"name": "A", "valueFrom": {"fileKeyRef": {"key": "A", "path": "p", "volumeName": "d"}}}]}),
                volume,
            ),
            format!(
                "{path}.env[0].valueFrom.fileKeyRef.volumeName: Invalid value: \"d\": referenced volume must be of type emptyDir"
            ),
        ),
        (
            in_pod(
                json!({"resizePolicy": [{"resourceName": "disk", "restartPolicy": "NotRequired"}]}),
                none.clone(),
            ),
            format!(
                "{path}.resizePolicy: Unsupported value: \"disk\": supported values: \"cpu\", \"memory\""
            ),
        ),
        (
            in_pod(json!({"lifecycle": {"preStop": {"sleep": {"seconds": 40}}}}), none.clone()),
            format!(
                "{path}.lifecycle.preStop.sleep: Invalid value: 40: must be non-negative and less than terminationGracePeriodSeconds (30)"
            ),
        ),
        (
            in_pod(json!({"lifecycle": {"stopSignal": "SIGTERM"}}), none.clone()),
            format!(
                "{path}.lifecycle.stopSignal: Forbidden: may not be set for containers with empty `spec.os.name`"
            ),
        ),
        (
            in_pod(json!({"lifecycle": {"stopSignal": "SIGRTMIN+16"}}), json!({"os": {"name": "linux"}})),
            format!(
                "{path}.lifecycle.stopSignal: Invalid value: \"SIGRTMIN+16\": must be a signal of Linux, such as SIGTERM"
            ),
        ),
        (
            in_pod(
                json!({"restartPolicyRules": [{"action": "Restart", "exitCodes": {"operator": "In", "values": [1]}}]}),
                none.clone(),
            ),
            format!(
                "{path}.restartPolicy: Required value: must specify restartPolicy when restart rules are used"
            ),
        ),
        (
            in_pod(
                json!({"restartPolicy": "Never", "restartPolicyRules": [{"action": "Restart"}]}),
                none.clone(),
            ),
            format!("{path}.restartPolicyRules[0].exitCodes: Required value: must be specified"),
        ),
        (
            in_pod(
                json!({"readinessProbe": {"tcpSocket": {"port": 1}, "terminationGracePeriodSeconds": 3}}),
                none.clone(),
            ),
            format!(
                "{path}.readinessProbe.terminationGracePeriodSeconds: Invalid value: 3: must not be set for readinessProbes"
            ),
        ),
        (
            in_pod(json!({"securityContext": {"procMount": "Unmasked"}}), none.clone()),
            format!(
                "{path}.securityContext.procMount: Invalid value: \"Unmasked\": `hostUsers` must be false to use `Unmasked`"
            ),
        ),
        (
            in_pod(
                json!({"securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"add": ["CAP_SYS_ADMIN"]}}}),
                none,
            ),
            format!(
                "{path}.securityContext: Invalid value: {{\"allowPrivilegeEscalation\":false,\"capabilities\":{{\"add\":[\"CAP_SYS_ADMIN\"]}}}}: \
                     cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN"
            ),
        ),
    ];
    refused_with(cases.iter().map(|(spec, message)| (spec.clone(), message.as_str())).collect());
    let both = json!({"initContainers": [{"name": "i", "image": "i", "restartPolicy": "Always",
        "restartPolicyRules": [{"action": "Restart", "exitCodes": {"operator": "In", "values": [1]}}]}]});
    assert_eq!(
        with_spec(&both),
        [
            "spec.initContainers[0].restartPolicyRules: Forbidden: restartPolicyRules are not allowed for init containers with restart policy Always"
        ]
    );
}
