//! A kubectl that forwards a port of this machine, and connections through it.

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
            let line = said.lines().find(|line| line.contains("from 127.0.0.1:"))?;
            line.split_once("127.0.0.1:")?.1.split(' ').next()?.parse().ok()
        });
        Self { kubectl, port }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).expect("kubectl listens");
        stream.set_read_timeout(Some(READ_MAX)).expect("set");
        stream.set_write_timeout(Some(READ_MAX)).expect("set");
        stream
    }

    /// A body; empty when there is no answer.
    pub(crate) fn try_get(&self, path: &str) -> String {
        let mut stream = self.connect();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        let mut said = Vec::new();
        // A connection that is refused behind kubectl ends in an error or in nothing.
        if stream.write_all(request.as_bytes()).is_ok() {
            let _ended = stream.read_to_end(&mut said);
        }
        let said = String::from_utf8_lossy(&said);
        said.split_once("\r\n\r\n").map_or_else(String::new, |(_, body)| body.trim().to_owned())
    }

    pub(crate) fn get(&self, path: &str) -> String {
        let said = self.try_get(path);
        assert_ne!(said, "", "no answer to {path}");
        said
    }

    /// Sends so many bytes while it reads them back, and then ends its side: nothing is missing, and the Pod's end is told.
    pub(crate) fn echoes(&self, length: usize) {
        echo(self.connect(), length, 0);
    }

    /// Many connections beside each other, each with bytes of its own.
    pub(crate) fn echoes_at_once(&self, connections: u8, length: usize) {
        let streams: Vec<_> = (0..connections).map(|_| self.connect()).collect();
        std::thread::scope(|scope| {
            for (stream, salt) in streams.into_iter().zip(1..) {
                scope.spawn(move || echo(stream, length, salt));
            }
        });
    }

    /// What kubectl says by the time it ends of itself.
    pub(crate) fn end(self) -> String {
        self.kubectl.end(COMMAND_MAX).refused()
    }
}

fn echo(mut stream: TcpStream, length: usize, salt: u8) {
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n")
        .expect("asked");
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
            writer.shutdown(Shutdown::Write).expect("ended");
        });
        stream.read_to_end(&mut echoed).expect("echoed");
    });
    assert!(echoed == sent, "{} of {length} bytes came back as they were", echoed.len());
}
