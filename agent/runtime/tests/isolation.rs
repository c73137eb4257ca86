//! What Pods share and what keeps them apart, on the real kernel, shim and runc. Needs root.

#[path = "support/bench.rs"]
mod support;

use std::time::Duration;

use serde_json::{Value, json};
use support::{Bench, Entry, account, container, exec, image_archive_with, shell};
use weft_runtime::{ContainerRef, ExecRequest, Subject};

/// A Pod of two containers, `a` and `b`, that sleep.
fn two() -> Value {
    let one =
        |name: &str| json!({ "name": name, "image": "weft.test/box:1", "command": ["/bin/sleep", "1000"] });
    json!({ "containers": [one("a"), one("b")], "terminationGracePeriodSeconds": 0 })
}

async fn exec_in(bench: &Bench, pod: &str, name: &str, line: &str) -> String {
    let request = ExecRequest {
        container: ContainerRef { container: name.into(), ..container(pod) },
        command: vec!["/bin/sh".into(), "-c".into(), line.into()],
        stdout: true,
        ..ExecRequest::default()
    };
    let session = bench.runtime().exec(request).await.unwrap();
    let mut text = String::new();
    let mut stdout = session.stdout.unwrap();
    let read = tokio::io::AsyncReadExt::read_to_string(&mut stdout, &mut text);
    let (exit, read) = tokio::join!(session.exit, read);
    read.unwrap();
    assert_eq!(exit.unwrap(), 0, "{line}: {text}");
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_finds_its_token_whatever_its_image_looks_like() {
    let mut bench = Bench::new("account").await;
    let images = [
        ("bare", vec![]),
        ("linked", vec![Entry::Dir("run"), Entry::Dir("var"), Entry::Link("var/run", "/run")]),
        ("relative", vec![Entry::Dir("run"), Entry::Dir("var"), Entry::Link("var/run", "../run")]),
        ("dangling", vec![Entry::Dir("var"), Entry::Link("var/run", "/run")]),
    ];
    let line = "cd /var/run/secrets/kubernetes.io/serviceaccount && cat token && echo && cat namespace && echo && cat ca.crt";
    for (name, further) in images {
        let image = format!("weft.test/{name}:1");
        let archive = image_archive_with(&[&image], &further);
        bench.runtime().load_image(&archive[..]).await.unwrap();
        let (volume, mount) = account();
        let mut spec = shell("sleep 1000");
        spec["containers"][0]["image"] = json!(image);
        spec["containers"][0]["volumeMounts"] = json!([mount]);
        spec["volumes"] = json!([volume]);
        bench.run(name, spec);
        bench.phase(name, "Running").await;
        let (code, out, err) = exec(&bench, name, line).await;
        assert_eq!(
            (code, out, err),
            (0, format!("token-of-default-{name}\nns\nthe ca\n"), String::new()),
            "{name}"
        );
    }
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_of_a_pod_share_memory_and_if_asked_processes() {
    let mut bench = Bench::new("share").await;
    bench.run("apart", two());
    let mut shared = two();
    shared["shareProcessNamespace"] = json!(true);
    bench.run("shared", shared);
    bench.phase("apart", "Running").await;
    bench.phase("shared", "Running").await;
    exec_in(&bench, "apart", "a", "echo hello > /dev/shm/file").await;
    assert_eq!(exec_in(&bench, "apart", "b", "cat /dev/shm/file").await, "hello\n");
    let namespace = "ls -l /proc/self/ns/pid | /bin/busybox sed 's/.*-> //'";
    let of = async |pod: &str, name: &str| exec_in(&bench, pod, name, namespace).await;
    assert_ne!(of("apart", "a").await, of("apart", "b").await);
    assert_eq!(of("shared", "a").await, of("shared", "b").await);
    let sleeps = "cat /proc/[0-9]*/comm | /bin/busybox grep -c '^sleep$'";
    assert_eq!(exec_in(&bench, "apart", "a", sleeps).await.trim(), "1");
    assert_eq!(exec_in(&bench, "shared", "a", sleeps).await.trim(), "2");
    // Nothing of the node is in reach through the first process, and orphans are reaped.
    assert_eq!(exec_in(&bench, "shared", "a", "ls /proc/1/root 2>/dev/null | head -n 5 || true").await, "");
    let line = "(sleep 0.1 &) ; sleep 0.5; cat /proc/[0-9]*/stat | /bin/busybox awk '$3 == \"Z\"' | /bin/busybox wc -l";
    assert_eq!(exec_in(&bench, "shared", "a", line).await.trim(), "0");
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn shared_processes_survive_the_agent_and_a_dead_namespace_is_made_anew() {
    let mut bench = Bench::new("pause").await;
    let mut shared = two();
    shared["shareProcessNamespace"] = json!(true);
    bench.run("p", shared);
    bench.phase("p", "Running").await;
    let namespace = "ls -l /proc/self/ns/pid | /bin/busybox sed 's/.*-> //'";
    let before = exec_in(&bench, "p", "a", namespace).await;
    bench.stop();
    bench.start().await;
    bench.again();
    bench.phase("p", "Running").await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(exec_in(&bench, "p", "b", namespace).await, before);
    let status = bench.status("p");
    assert_eq!(status["containerStatuses"][0]["restartCount"], 0);
    let pause = bench.pids("/pause").pop().expect("a pause process");
    assert!(std::process::Command::new("kill").args(["-9", &pause]).status().unwrap().success());
    bench.event("SandboxChanged", "shared process namespace").await;
    bench
        .until("both run again", 40, |b| {
            let all = b.status("p")["containerStatuses"].as_array()?.clone();
            all.iter().all(|c| c["restartCount"] == 1 && !c["state"]["running"].is_null()).then_some(())
        })
        .await;
    let after = exec_in(&bench, "p", "a", namespace).await;
    assert_eq!(exec_in(&bench, "p", "b", namespace).await, after);
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn namespaces_of_the_node_are_joined_only_when_asked() {
    let mut bench = Bench::new("host").await;
    let mut host = shell("sleep 1000");
    for field in ["hostPID", "hostIPC", "hostNetwork"] {
        host[field] = json!(true);
    }
    bench.run("host", host);
    bench.run("own", shell("sleep 1000"));
    bench.phase("host", "Running").await;
    bench.phase("own", "Running").await;
    for kind in ["pid", "ipc", "net", "uts"] {
        let node = std::fs::read_link(format!("/proc/self/ns/{kind}")).unwrap();
        let line = format!("ls -l /proc/self/ns/{kind} | /bin/busybox sed 's/.*-> //'");
        assert_eq!(exec_in(&bench, "host", "c", &line).await.trim(), node.to_str().unwrap());
        assert_ne!(exec_in(&bench, "own", "c", &line).await.trim(), node.to_str().unwrap());
    }
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_default_seccomp_profile_is_applied_where_it_is_asked_for() {
    let mut bench = Bench::new("seccomp").await;
    let with = |profile: Value| {
        let mut spec = shell("sleep 1000");
        spec["securityContext"] = json!({ "seccompProfile": profile });
        spec
    };
    bench.run("confined", with(json!({ "type": "RuntimeDefault" })));
    bench.run("free", with(json!({ "type": "Unconfined" })));
    bench.phase("confined", "Running").await;
    bench.phase("free", "Running").await;
    let mode = "/bin/busybox awk '/^Seccomp:/ { print $2 }' /proc/self/status";
    assert_eq!(exec(&bench, "confined", mode).await.1, "2\n");
    assert_eq!(exec(&bench, "free", mode).await.1, "0\n");
    let users = "/bin/busybox unshare -U true";
    let (code, _, err) = exec(&bench, "confined", users).await;
    assert!(code != 0 && err.contains("Operation not permitted"), "{code}: {err}");
    assert_eq!(exec(&bench, "free", users).await.0, 0);
    // What programs do all day still works.
    let (code, out, err) =
        exec(&bench, "confined", "echo a | cat; (sleep 0 & wait); ls /proc/self/fd > /dev/null; id -u").await;
    assert_eq!((code, out.as_str(), err.as_str()), (0, "a\n0\n", ""));
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_enforced_is_refused_and_said() {
    let mut bench = Bench::new("refuse").await;
    let before = std::fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap();
    let mut spec = shell("sleep 1000");
    spec["securityContext"] = json!({ "sysctls": [{ "name": "kernel.core_pattern", "value": "evil" }] });
    bench.run("sysctl", spec);
    let event = bench.event("FailedCreatePodSandBox", "sysctl kernel.core_pattern").await;
    assert!(matches!(&event.subject, Subject::Pod(pod) if pod.name == "sysctl"));
    let mut spec = shell("sleep 1000");
    spec["containers"][0]["securityContext"] = json!({ "appArmorProfile": { "type": "RuntimeDefault" } });
    bench.run("armor", spec);
    bench.event("FailedCreatePodSandBox", "AppArmor").await;
    assert_eq!(bench.status("sysctl")["phase"], "Pending");
    assert_eq!(std::fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap(), before);
    let mut spec = shell("sleep 1000");
    spec["securityContext"] =
        json!({ "sysctls": [{ "name": "net.ipv4.ip_unprivileged_port_start", "value": "77" }] });
    spec["containers"][0]["resources"] = json!({ "limits": { "ephemeral-storage": "1Gi" } });
    bench.run("good", spec);
    bench.phase("good", "Running").await;
    bench.event("WithoutEffect", "ephemeral-storage").await;
    assert_eq!(exec(&bench, "good", "cat /proc/sys/net/ipv4/ip_unprivileged_port_start").await.1, "77\n");
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_of_a_volume_never_leads_out_of_it() {
    let mut bench = Bench::new("subpath").await;
    bench.objects.put("configmap", "m", json!({ "metadata": { "name": "m" }, "data": { "k": "v1" } }));
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("secret"), "x").unwrap();
    let spec = |part: &str| {
        let mut spec = shell(&format!(
            "rm -rf /e/out; ln -s {} /e/out; touch /e/done; sleep 1000",
            outside.path().display()
        ));
        spec["volumes"] =
            json!([{ "name": "e", "emptyDir": {} }, { "name": "m", "configMap": { "name": "m" } }]);
        spec["containers"][0]["env"] = json!([{ "name": "WHO", "value": "me" }]);
        spec["containers"][0]["volumeMounts"] = json!([
            { "name": "e", "mountPath": "/e" }, { "name": "e", "mountPath": "/part", "subPath": "made/deep" },
            { "name": "e", "mountPath": "/mine", "subPathExpr": "of/$(WHO)" },
            { "name": "m", "mountPath": "/etc/one.conf", "subPath": "k" },
        ]);
        let mut second = spec["containers"][0].clone();
        second["name"] = json!("second");
        second["command"] = json!(["/bin/sh", "-c", "while ! [ -e /e/done ]; do sleep 0.1; done; exit 1"]);
        second["volumeMounts"] =
            json!([{ "name": "e", "mountPath": "/e" }, { "name": "e", "mountPath": "/x", "subPath": part }]);
        spec["containers"].as_array_mut().unwrap().push(second);
        spec
    };
    bench.run("good", spec("made"));
    bench
        .until("its first container", 20, |b| {
            (!b.status("good")["containerStatuses"][0]["state"]["running"].is_null()).then_some(())
        })
        .await;
    let line = "echo x > /part/f && cat /e/made/deep/f && touch /mine/f && ls /e/of/me && cat /etc/one.conf";
    assert_eq!(exec(&bench, "good", line).await.1, "x\nf\nv1");
    // The second container's part was a directory at its first start and is a way out at the next.
    bench.run("bad", spec("out"));
    bench.event("Failed", "\"e\": out is no path below the volume").await;
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_stay_in_memory() {
    let mut bench = Bench::new("memory").await;
    bench.objects.put(
        "secret",
        "s",
        json!({ "metadata": { "name": "s" }, "data": { "p": "c2VjcmV0LW9mLXRoZS10ZXN0" } }),
    );
    let mut spec = shell("sleep 1000");
    spec["containers"][0]["env"] =
        json!([{ "name": "P", "valueFrom": { "secretKeyRef": { "name": "s", "key": "p" } } }]);
    spec["containers"][0]["volumeMounts"] = json!([{ "name": "v", "mountPath": "/v" }]);
    spec["volumes"] = json!([{ "name": "v", "secret": { "secretName": "s" } }]);
    bench.run("p", spec);
    bench.phase("p", "Running").await;
    assert_eq!(exec(&bench, "p", "echo $P; cat /v/p").await.1, "secret-of-the-test\nsecret-of-the-test");
    // `-xdev`: only what lies on the disk itself.
    let line = format!(
        "find {} -xdev -type f -size -1000k -exec grep -l secret-of-the-test {{}} +",
        bench.dir().display()
    );
    let found = std::process::Command::new("sh").args(["-c", &line]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&found.stdout), "");
    bench.close().await;
}
