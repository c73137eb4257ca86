//! Pods on the real kernel, shim and runc. Needs root.

#[path = "support/bench.rs"]
mod support;

use std::time::{Duration, Instant};

use serde_json::json;
use support::{Bench, account, container, exec, log, shell};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use weft_runtime::{ExecRequest, LogRequest, SessionError, TerminalSize};

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_runs_speaks_and_leaves_nothing() {
    let mut bench = Bench::new("basic").await;
    bench.run("p", json!({ "containers": [{ "name": "c", "image": "weft.test/box:1" }], "terminationGracePeriodSeconds": 1 }));
    let status = bench.phase("p", "Running").await;
    assert_eq!(status["podIP"], "127.0.0.1");
    assert_eq!(status["hostIP"], "192.0.2.7");
    assert_eq!(status["containerStatuses"][0]["ready"], true);
    bench.event("Started", "Started container c").await;
    bench.until("log", 5, |_| Some(())).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(log(&bench, "p").await, "hello\n");
    let (code, out, err) = exec(&bench, "p", "hostname; cat /etc/resolv.conf; echo oops >&2; exit 7").await;
    assert_eq!(code, 7);
    assert!(out.starts_with("p\nnameserver 10.96.0.10\nsearch ns.svc.cluster.local"), "{out}");
    assert_eq!(err, "oops\n");
    let missing = ExecRequest {
        container: container("p"),
        command: vec!["nothing".into()],
        stdout: true,
        ..Default::default()
    };
    let error = bench.runtime().exec(missing).await.unwrap_err();
    assert!(matches!(&error, SessionError::Start(cause) if cause.contains("nothing")), "{error}");
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_has_a_size_and_an_end() {
    let mut bench = Bench::new("tty").await;
    bench.run("p", shell("sleep 1000"));
    bench.phase("p", "Running").await;
    let request = ExecRequest {
        container: container("p"),
        command: vec!["/bin/sh".into()],
        tty: true,
        stdin: true,
        stdout: true,
        stderr: false,
    };
    let session = bench.runtime().exec(request).await.unwrap();
    session.resize.send(TerminalSize { width: 91, height: 17 }).await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    let mut stdin = session.stdin.unwrap();
    stdin.write_all(b"stty size; exit 3\n").await.unwrap();
    let mut stdout = session.stdout.unwrap();
    let mut out = String::new();
    let (exit, read) = tokio::join!(session.exit, stdout.read_to_string(&mut out));
    read.unwrap();
    assert_eq!(exit.unwrap(), 3);
    assert!(out.contains("17 91"), "{out}");
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn input_ends_when_it_is_shut() {
    let mut bench = Bench::new("stdin").await;
    bench.run("p", shell("sleep 1000"));
    bench.phase("p", "Running").await;
    let request = ExecRequest {
        container: container("p"),
        command: vec!["/bin/cat".into()],
        stdin: true,
        stdout: true,
        ..Default::default()
    };
    let session = bench.runtime().exec(request).await.unwrap();
    let (mut stdin, mut stdout) = (session.stdin.unwrap(), session.stdout.unwrap());
    let sent = vec![b'x'; 300_000];
    let mut got = Vec::new();
    let write = async {
        stdin.write_all(&sent).await.unwrap();
        stdin.shutdown().await.unwrap();
    };
    let ((), read, exit) = tokio::join!(write, stdout.read_to_end(&mut got), session.exit);
    read.unwrap();
    assert_eq!(exit.unwrap(), 0);
    assert!(got == sent);
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn restarts_follow_the_policy() {
    let mut bench = Bench::new("restart").await;
    bench.run("again", shell("echo run; exit 3"));
    let mut never = shell("echo out; echo bye > /dev/termination-log; exit 4");
    never["restartPolicy"] = json!("Never");
    bench.run("never", never);
    let mut good = shell("exit 0");
    good["restartPolicy"] = json!("OnFailure");
    bench.run("good", good);
    let status = bench.phase("never", "Failed").await;
    let ended = &status["containerStatuses"][0]["state"]["terminated"];
    assert_eq!((ended["exitCode"].as_i64(), ended["message"].as_str()), (Some(4), Some("bye\n")));
    bench.phase("good", "Succeeded").await;
    // What has run for the last time keeps its log, and neither a process nor a mount.
    let shim = format!("-id {}-never ", bench.name);
    bench
        .until("the release of never", 10, |b| {
            let ps = std::process::Command::new("ps").args(["-eo", "args"]).output().unwrap();
            let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
            let held = String::from_utf8_lossy(&ps.stdout).contains(&shim)
                || mounts.contains(&format!("{}-never", b.name));
            (!held).then_some(())
        })
        .await;
    assert_eq!(bench.status("never")["phase"], "Failed");
    assert_eq!(log(&bench, "never").await, "out\n");
    bench.event("BackOff", "Back-off restarting failed container").await;
    bench
        .until("CrashLoopBackOff", 10, |b| {
            let container = &b.status("again")["containerStatuses"][0];
            let waits = container["state"]["waiting"]["reason"] == "CrashLoopBackOff";
            (waits && container["restartCount"] == 1).then_some(())
        })
        .await;
    let request = LogRequest { container: container("again"), previous: true, ..Default::default() };
    let mut text = String::new();
    bench.runtime().logs(request).await.unwrap().read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "run\n");
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_is_graceful_and_then_it_is_not() {
    let mut bench = Bench::new("stop").await;
    let mut polite = shell("trap 'echo got it; exit 0' TERM; while :; do sleep 0.1; done");
    polite["terminationGracePeriodSeconds"] = json!(20);
    bench.run("polite", polite);
    let mut deaf = shell("trap '' TERM; while :; do sleep 0.1; done");
    deaf["terminationGracePeriodSeconds"] = json!(2);
    bench.run("deaf", deaf);
    bench.phase("polite", "Running").await;
    bench.phase("deaf", "Running").await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let began = Instant::now();
    bench.remove("polite");
    bench.gone("polite", 10).await;
    assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
    assert_eq!(bench.status("polite")["containerStatuses"][0]["state"]["terminated"]["exitCode"], 0);
    let began = Instant::now();
    bench.remove("deaf");
    bench.gone("deaf", 15).await;
    assert!(began.elapsed() >= Duration::from_secs(2));
    assert_eq!(bench.status("deaf")["containerStatuses"][0]["state"]["terminated"]["exitCode"], 137);
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_become_variables_and_files() {
    let mut bench = Bench::new("objects").await;
    bench.objects.put("configmap", "m", json!({ "metadata": { "name": "m" }, "data": { "k": "v1" } }));
    bench.objects.put("secret", "s", json!({ "metadata": { "name": "s" }, "data": { "p": "cGFzcw==" } }));
    let (account, account_mount) = account();
    let spec = json!({
        "terminationGracePeriodSeconds": 1,
        "containers": [{
            "name": "c", "image": "weft.test/box:1", "command": ["/bin/sleep", "1000"],
            "env": [
                { "name": "A", "value": "a-$(KUBERNETES_SERVICE_HOST)" },
                { "name": "IP", "valueFrom": { "fieldRef": { "fieldPath": "status.podIP" } } },
                { "name": "K", "valueFrom": { "configMapKeyRef": { "name": "m", "key": "k" } } },
                { "name": "P", "valueFrom": { "secretKeyRef": { "name": "s", "key": "p" } } },
            ],
            "volumeMounts": [
                { "name": "map", "mountPath": "/map" }, { "name": "sec", "mountPath": "/sec" },
                { "name": "e", "mountPath": "/e" }, { "name": "m", "mountPath": "/m" },
                { "name": "d", "mountPath": "/d" }, account_mount,
            ],
            "securityContext": { "runAsUser": 33 },
            "resources": { "limits": { "memory": "64Mi", "cpu": "500m" } },
        }],
        "volumes": [
            { "name": "map", "configMap": { "name": "m" } }, { "name": "sec", "secret": { "secretName": "s" } },
            { "name": "e", "emptyDir": {} }, { "name": "m", "emptyDir": { "medium": "Memory", "sizeLimit": "1Mi" } },
            { "name": "d", "downwardAPI": { "items": [{ "path": "labels", "fieldRef": { "fieldPath": "metadata.labels" } }] } },
            account,
        ],
    });
    bench.run("p", spec);
    bench.phase("p", "Running").await;
    let line = "echo $A $IP $K $P $IMAGE; id -u; id -g; cat /map/k /sec/p /d/labels; echo; echo x > /e/f && echo x > /m/f && \
                cat /var/run/secrets/kubernetes.io/serviceaccount/token; echo; \
                cat /var/run/secrets/kubernetes.io/serviceaccount/namespace; echo; \
                cat /var/run/secrets/kubernetes.io/serviceaccount/ca.crt";
    let (code, out, err) = exec(&bench, "p", line).await;
    let wanted = "a-10.96.0.1 127.0.0.1 v1 pass 0\n33\n34\nv1passa=\"b\"\ntoken-of-default-p\nns\nthe ca\n";
    assert_eq!((code, out.as_str(), err.as_str()), (0, wanted, ""));
    bench.objects.put("configmap", "m", json!({ "metadata": { "name": "m" }, "data": { "k": "v2" } }));
    bench.runtime().inputs_changed();
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(exec(&bench, "p", "cat /map/k").await.1, "v2");
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_is_said_and_waited_for() {
    let mut bench = Bench::new("missing").await;
    let mut spec = shell("sleep 1000");
    spec["containers"][0]["env"] =
        json!([{ "name": "K", "valueFrom": { "configMapKeyRef": { "name": "m", "key": "k" } } }]);
    bench.run("p", spec);
    bench.event("Failed", "configmap \"m\" not found").await;
    assert_eq!(
        bench.status("p")["containerStatuses"][0]["state"]["waiting"]["reason"],
        "CreateContainerConfigError"
    );
    bench.objects.put("configmap", "m", json!({ "metadata": { "name": "m" }, "data": { "k": "v1" } }));
    bench.runtime().inputs_changed();
    bench.phase("p", "Running").await;
    assert_eq!(bench.status("p")["containerStatuses"][0]["restartCount"], 0);
    let mut mount = shell("sleep 1000");
    mount["volumes"] = json!([{ "name": "v", "secret": { "secretName": "none" } }]);
    bench.run("mount", mount);
    bench.event("FailedMount", "secret \"none\" not found").await;
    let mut bad = shell("true");
    bad["containers"][0]["command"] = json!(["/no/such/program"]);
    bad["restartPolicy"] = json!("Never");
    bench.run("bad", bad);
    bench.phase("bad", "Failed").await;
    bench.event("Failed", "/no/such/program").await;
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_runtime_keeps_its_pods() {
    let mut bench = Bench::new("takeover").await;
    let line = "echo start; while ! [ -e /tmp/go ]; do sleep 0.1; done; yes 0123456789012345678901234567890123456789012345678 | \
                head -n 200000; echo done; exec sleep 1000";
    bench.run("p", shell(line));
    bench.run("short", shell("sleep 2; exit 5"));
    let before = bench.phase("p", "Running").await;
    bench.phase("short", "Running").await;
    let boot = exec(&bench, "p", "cat /proc/1/stat").await.1;
    exec(&bench, "p", "echo > /tmp/go").await;
    bench.stop();
    tokio::time::sleep(Duration::from_secs(4)).await;
    let nobodys = bench.data().join("pods/0000-nobody");
    std::fs::create_dir_all(nobodys.join("rw")).unwrap();
    bench.start().await;
    // The set is not complete yet: nothing may go.
    bench.runtime().set_pods(Vec::new(), false);
    let after = bench.phase("p", "Running").await;
    assert_eq!(before["containerStatuses"][0]["containerID"], after["containerStatuses"][0]["containerID"]);
    assert_eq!(before["startTime"], after["startTime"]);
    let still = exec(&bench, "p", "cat /proc/1/stat").await.1;
    assert_eq!(boot.split(' ').nth(21), still.split(' ').nth(21), "same process");
    assert!(nobodys.exists());
    let text = log(&bench, "p").await;
    assert!(text.starts_with("start\n") && text.ends_with("done\n"), "{} bytes", text.len());
    assert_eq!(text.len(), 6 + 200_000 * 50 + 5);
    bench
        .until("restart of short", 20, |b| {
            (b.status("short")["containerStatuses"][0]["restartCount"] == 1).then_some(())
        })
        .await;
    bench.run("later", shell("sleep 1000"));
    bench.phase("later", "Running").await;
    bench.until("removal of what is nobody's", 10, |_| (!nobodys.exists()).then_some(())).await;
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn init_containers_probes_and_dial() {
    let mut bench = Bench::new("probes").await;
    let spec = json!({
        "terminationGracePeriodSeconds": 1,
        "volumes": [{ "name": "w", "emptyDir": {} }],
        "initContainers": [{ "name": "i", "image": "weft.test/box:1", "command": ["/bin/sh", "-c", "echo ready > /w/index.html"],
            "volumeMounts": [{ "name": "w", "mountPath": "/w" }] }],
        "containers": [{ "name": "c", "image": "weft.test/other:1", "command": ["/bin/httpd", "-f", "-p", "8080", "-h", "/w"],
            "volumeMounts": [{ "name": "w", "mountPath": "/w" }],
            "ports": [{ "name": "web", "containerPort": 8080 }],
            "readinessProbe": { "httpGet": { "port": "web", "path": "/index.html" }, "periodSeconds": 1 },
            "livenessProbe": { "exec": { "command": ["/bin/cat", "/w/index.html"] }, "periodSeconds": 1, "failureThreshold": 2 } }],
    });
    bench.run("p", spec);
    bench
        .until("readiness", 20, |b| {
            let status = b.status("p");
            let ready = status["conditions"]
                .as_array()?
                .iter()
                .any(|c| c["type"] == "Ready" && c["status"] == "True");
            ready.then_some(())
        })
        .await;
    let mut stream = bench.runtime().dial("ns", "p", 8080).await.unwrap();
    stream.write_all(b"GET /index.html HTTP/1.0\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.ends_with("ready\n"), "{answer}");
    assert!(bench.runtime().dial("ns", "p", 1).await.is_err());
    exec(&bench, "p", "rm /w/index.html || /bin/busybox rm /w/index.html").await;
    bench.event("Unhealthy", "Liveness probe failed").await;
    bench
        .until("restart", 20, |b| (b.status("p")["containerStatuses"][0]["restartCount"] == 1).then_some(()))
        .await;
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_shim_is_replaced() {
    let mut bench = Bench::new("shim").await;
    bench.run("p", shell("sleep 1000"));
    bench.phase("p", "Running").await;
    let args = std::process::Command::new("ps").args(["-eo", "pid,args"]).output().unwrap();
    let text = String::from_utf8_lossy(&args.stdout).into_owned();
    let mine = format!("-namespace weft-{} ", bench.name);
    let pid = text
        .lines()
        .find(|l| l.contains(&mine))
        .and_then(|l| l.split_whitespace().next())
        .unwrap()
        .to_owned();
    assert!(std::process::Command::new("kill").args(["-9", &pid]).status().unwrap().success());
    bench
        .until("new run", 30, |b| {
            let container = &b.status("p")["containerStatuses"][0];
            (container["restartCount"] == 1 && !container["state"]["running"].is_null()).then_some(())
        })
        .await;
    assert_eq!(exec(&bench, "p", "echo alive").await.1, "alive\n");
    bench.close().await;
}
