//! A kubectl that forwards a port of this machine, or is a proxy there, and connections through it.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::Command;
use std::time::Duration;

use weft_tests::cluster::COMMAND_MAX;
use weft_tests::{Running, until};

/// Longest that one read may take.
const READ_MAX: Duration = Duration::from_secs(60);

pub(crate) struct Forwarded {
    kubectl: Running,
    port: u16,
}

impl Forwarded {
    /// Starts it; it listens at a port of its choice.
    pub(crate) fn start(command: &mut Command) -> Self {
        let kubectl = Running::start(command);
        let port = until("a port that is forwarded", COMMAND_MAX, || {
            let said = kubectl.said();
            let (_, port) = said.lines().find_map(|line| line.split_once(" 127.0.0.1:"))?;
            port.split(' ').next()?.parse().ok()
        });
        Self { kubectl, port }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).expect("kubectl listens");
        stream.set_read_timeout(Some(READ_MAX)).expect("set");
        stream.set_write_timeout(Some(READ_MAX)).expect("set");
        stream
    }

    /// A head and a body; empty when there is no answer.
    pub(crate) fn asks(&self, line: &str, headers: &str, body: &str) -> (String, String) {
        let mut stream = self.connect();
        let length = body.len();
        let request = format!(
            "{line} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
        );
        let mut said = Vec::new();
        // A connection that is refused behind kubectl ends in an error or in nothing.
        if stream.write_all(request.as_bytes()).is_ok() {
            let _ended = stream.read_to_end(&mut said);
        }
        let said = String::from_utf8_lossy(&said);
        said.split_once("\r\n\r\n").map(|(head, body)| (head.to_owned(), body.to_owned())).unwrap_or_default()
    }

    /// A body; empty when there is no answer.
    pub(crate) fn try_get(&self, path: &str) -> String {
        self.asks(&format!("GET {path}"), "", "").1.trim().to_owned()
    }

    pub(crate) fn get(&self, path: &str) -> String {
        let said = self.try_get(path);
        assert_ne!(said, "", "no answer to {path}");
        said
    }

    /// Sends so many bytes while it reads them back, and then ends its side: nothing is missing, and the Pod's end is told.
    pub(crate) fn echoes(&self, length: usize) {
        echo(self.connect(), "/", length, 0, Ends::Told);
    }

    /// The same behind a path, through proxies that carry an end of one side as the end of both.
    pub(crate) fn echoes_behind(&self, path: &str, length: usize) {
        echo(self.connect(), path, length, 0, Ends::Kept);
    }

    /// Many connections beside each other, each with bytes of its own.
    pub(crate) fn echoes_at_once(&self, connections: u8, length: usize) {
        let streams: Vec<_> = (0..connections).map(|_| self.connect()).collect();
        std::thread::scope(|scope| {
            for (stream, salt) in streams.into_iter().zip(1..) {
                scope.spawn(move || echo(stream, "/", length, salt, Ends::Told));
            }
        });
    }

    /// What kubectl says by the time it ends of itself.
    pub(crate) fn end(self) -> String {
        self.kubectl.end(COMMAND_MAX).refused()
    }
}

/// Whether the sender ends its side when it has sent all.
#[derive(Clone, Copy, PartialEq)]
enum Ends {
    Told,
    Kept,
}

fn echo(mut stream: TcpStream, path: &str, length: usize, salt: u8, ends: Ends) {
    let asked =
        format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n");
    stream.write_all(asked.as_bytes()).expect("asked");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("an answer");
        head.push(byte[0]);
    }
    assert!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
    let sent: Vec<u8> = (0..length).map(|n| (n * 31 / 7) as u8 ^ salt).collect();
    let mut writer = stream.try_clone().expect("cloned");
    let mut echoed = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            writer.write_all(&sent).expect("sent");
            if ends == Ends::Told {
                writer.shutdown(Shutdown::Write).expect("ended");
            }
        });
        match ends {
            Ends::Told => drop(stream.read_to_end(&mut echoed).expect("echoed")),
            Ends::Kept => {
                echoed.resize(length, 0);
                stream.read_exact(&mut echoed).expect("echoed");
            }
        }
    });
    assert!(echoed == sent, "{} of {length} bytes came back as they were", echoed.len());
}
