//! A reader that leaves early (`agentctl … | head -1`) ends agentctl without a word, whichever subcommand it is.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Stdio};

/// Answers every request with the same body, and closes.
fn agent(socket: &Path, body: &'static str) {
    let listener = UnixListener::bind(socket).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let mut line = String::new();
            while reader.read_line(&mut line).unwrap() > 2 {
                line.clear();
            }
            write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).unwrap();
        }
    });
}

fn run_without_reader(body: &'static str, arguments: &[&str]) {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("agent.sock");
    agent(&socket, body);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut child = Command::new(env!("CARGO_BIN_EXE_agentctl"))
        .arg("--socket")
        .arg(&socket)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(writer)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    let status = child.wait().unwrap();
    assert!(status.success() && said.is_empty(), "{arguments:?}: {status}, {said}");
}

#[test]
fn status_ends_quietly() {
    run_without_reader(r#"{"node":"n","link":{"connected":true}}"#, &["status"]);
    run_without_reader("{}", &["status", "-o", "json"]);
}

#[test]
fn tables_end_quietly() {
    for table in [&["service", "list"][..], &["conntrack"], &["nat"], &["map", "flows"]] {
        run_without_reader("{\"leftOff\":3}\n", table);
    }
    run_without_reader("[]", &["map"]);
    run_without_reader("[]", &["pod", "list"]);
    run_without_reader("[]", &["image", "list"]);
}

#[test]
fn a_trace_ends_quietly() {
    run_without_reader("{}\n{}\n", &["trace", "-o", "json"]);
}

#[test]
fn a_changed_setting_ends_quietly() {
    run_without_reader("{}", &["set", "socket-lb", "on"]);
}
