//! Attaching to containers that run, through the real shim. Needs root.

#[path = "support/bench.rs"]
mod support;

use std::time::Duration;

use serde_json::json;
use support::{Bench, container, shell};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use weft_runtime::{AttachRequest, ExecSession, SessionError, TerminalSize};

async fn attach(bench: &Bench, stdin: bool) -> Result<ExecSession, SessionError> {
    bench.runtime().attach(AttachRequest { container: container("p"), stdin }).await
}

/// Reads until the text has come.
async fn wait_for(stream: &mut (impl AsyncRead + Unpin), text: &str) -> String {
    let mut seen = Vec::new();
    let read = async {
        while !String::from_utf8_lossy(&seen).contains(text) {
            assert_ne!(stream.read_buf(&mut seen).await.unwrap(), 0, "{}", String::from_utf8_lossy(&seen));
        }
    };
    let timely = tokio::time::timeout(Duration::from_secs(10), read).await.is_ok();
    assert!(timely, "no {text:?} in {:?}", String::from_utf8_lossy(&seen));
    String::from_utf8_lossy(&seen).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_is_attached_left_and_attached_again() {
    let mut bench = Bench::new("attach-tty").await;
    let mut spec = shell("exec /bin/sh");
    spec["containers"][0]["tty"] = json!(true);
    spec["containers"][0]["stdin"] = json!(true);
    spec["restartPolicy"] = json!("Never");
    bench.run("p", spec);
    bench.phase("p", "Running").await;
    let session = attach(&bench, true).await.unwrap();
    session.resize.send(TerminalSize { width: 101, height: 23 }).await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    let (mut stdin, mut stdout) = (session.stdin.unwrap(), session.stdout.unwrap());
    stdin.write_all(b"stty size; X=kept; echo one-$((1 + 1))\n").await.unwrap();
    let seen = wait_for(&mut stdout, "one-2").await;
    assert!(seen.contains("23 101"), "{seen}");
    // Leaving ends neither the shell nor its input.
    stdin.shutdown().await.unwrap();
    drop((stdin, stdout, session.exit));
    let session = attach(&bench, true).await.unwrap();
    let (mut stdin, mut stdout) = (session.stdin.unwrap(), session.stdout.unwrap());
    stdin.write_all(b"echo two-$X; exit 7\n").await.unwrap();
    let mut rest = String::new();
    let (read, exit) = tokio::join!(stdout.read_to_string(&mut rest), session.exit);
    read.unwrap();
    assert!(rest.contains("two-kept"), "{rest}");
    assert_eq!(exit.unwrap(), 7);
    bench.phase("p", "Failed").await;
    assert!(matches!(attach(&bench, false).await, Err(SessionError::NotRunning { .. })));
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_is_attached_across_the_agents_restart() {
    let mut bench = Bench::new("attach-kill").await;
    let mut spec = shell("exec /bin/sh");
    spec["containers"][0]["tty"] = json!(true);
    spec["containers"][0]["stdin"] = json!(true);
    bench.run("p", spec);
    bench.phase("p", "Running").await;
    bench.stop();
    bench.start().await;
    bench.again();
    bench.phase("p", "Running").await;
    let session = attach(&bench, true).await.unwrap();
    let (mut stdin, mut stdout) = (session.stdin.unwrap(), session.stdout.unwrap());
    stdin.write_all(b"echo still-$((40 + 2))\n").await.unwrap();
    wait_for(&mut stdout, "still-42").await;
    drop((stdin, stdout, session.exit));
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn output_is_followed_from_now_on_and_who_takes_no_input_gets_none() {
    let mut bench = Bench::new("attach-out").await;
    bench.run("p", shell("echo before; i=0; while sleep 0.1; do i=$((i + 1)); echo tick-$i; done"));
    bench.phase("p", "Running").await;
    tokio::time::sleep(Duration::from_millis(400)).await;
    let session = attach(&bench, true).await.unwrap();
    assert!(session.stdin.is_none());
    let mut stdout = session.stdout.unwrap();
    let seen = wait_for(&mut stdout, "tick-").await;
    assert!(!seen.contains("before"), "{seen}");
    bench.remove("p");
    let mut rest = String::new();
    let (read, exit) = tokio::join!(stdout.read_to_string(&mut rest), session.exit);
    read.unwrap();
    assert_eq!(exit.unwrap(), 137);
    bench.gone("p", 20).await;
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_reads_without_a_terminal_until_its_input_ends() {
    let mut bench = Bench::new("attach-in").await;
    let mut spec = shell("echo begin; /bin/cat; echo end >&2; exit 4");
    spec["containers"][0]["stdin"] = json!(true);
    spec["containers"][0]["stdinOnce"] = json!(true);
    spec["restartPolicy"] = json!("Never");
    bench.run("p", spec);
    bench.phase("p", "Running").await;
    // The agent's death is none of the container's business.
    bench.stop();
    bench.start().await;
    bench.again();
    bench.phase("p", "Running").await;
    let session = attach(&bench, true).await.unwrap();
    let (mut stdin, mut stdout) = (session.stdin.unwrap(), session.stdout.unwrap());
    let line = "0123456789".repeat(10) + "\n";
    let write = async {
        for _ in 0..2000 {
            stdin.write_all(line.as_bytes()).await.unwrap();
        }
        stdin.shutdown().await.unwrap();
    };
    let mut seen = String::new();
    let ((), read, exit) = tokio::join!(write, stdout.read_to_string(&mut seen), session.exit);
    read.unwrap();
    assert_eq!(exit.unwrap(), 4);
    // The two streams come by two pipes: which is read first at the end is chance.
    let (before, after) = seen.split_once("end\n").expect("what was said on the error stream");
    // What it said first may have been before the attach, or after it.
    let seen = format!("{before}{after}");
    assert_eq!(seen.trim_start_matches("begin\n"), line.repeat(2000));
    assert!(support::log(&bench, "p").await.starts_with("begin\n0123"));
    bench.close().await;
}
