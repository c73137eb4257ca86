//! A client that asks over UDP from one source port again and again, as resolvers and telemetry do, and notes who answers and
//! how long nobody does.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How long an answer is waited for before the next question.
const WAIT: Duration = Duration::from_millis(100);
/// Between an answer and the next question.
const PAUSE: Duration = Duration::from_millis(10);

/// A client; it asks until its process ends.
pub(crate) struct Chat(Arc<Mutex<Heard>>);

struct Heard {
    /// Who answered last.
    name: String,
    at: Instant,
    /// The longest time without an answer.
    silent: Duration,
    answers: u32,
}

impl Chat {
    /// Begins one that connects its socket, or sends from one that is not connected.
    pub(crate) fn begin(connected: bool, port: u16, to: &str) -> Self {
        let heard = Heard { name: String::new(), at: Instant::now(), silent: Duration::ZERO, answers: 0 };
        let heard = Arc::new(Mutex::new(heard));
        let (shared, to) = (Arc::clone(&heard), to.parse().expect("an address"));
        std::thread::spawn(move || ask_on(connected, port, to, &shared));
        Self(heard)
    }

    /// `NAME:SILENT_MS:ANSWERS`, a silence that lasts included.
    pub(crate) fn heard(&self) -> String {
        let heard = self.0.lock().expect("not poisoned");
        let silent = heard.silent.max(heard.at.elapsed());
        format!("{}:{}:{}", heard.name, silent.as_millis(), heard.answers)
    }
}

fn ask_on(connected: bool, port: u16, to: SocketAddr, heard: &Mutex<Heard>) {
    let mut socket: Option<UdpSocket> = None;
    loop {
        let answer = match &socket {
            Some(socket) => ask(socket, connected, to).map(|name| note(heard, name)),
            None => open(connected, port, to).map(|opened| socket = Some(opened)),
        };
        match answer {
            Ok(()) => {}
            // Silence: the socket stays, that is what is measured.
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
            // What any client does with an error: it begins anew.
            Err(_) => socket = None,
        }
        std::thread::sleep(PAUSE);
    }
}

fn note(heard: &Mutex<Heard>, name: String) {
    let mut heard = heard.lock().expect("not poisoned");
    heard.silent = heard.silent.max(heard.at.elapsed());
    heard.at = Instant::now();
    heard.name = name;
    heard.answers += 1;
}

fn open(connected: bool, port: u16, to: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(("0.0.0.0", port))?;
    socket.set_read_timeout(Some(WAIT))?;
    if connected {
        socket.connect(to)?;
    }
    Ok(socket)
}

fn ask(socket: &UdpSocket, connected: bool, to: SocketAddr) -> io::Result<String> {
    let mut buffer = [0; 1_000];
    let (bytes, from) = if connected {
        socket.send(b"hello")?;
        (socket.recv(&mut buffer)?, to)
    } else {
        socket.send_to(b"hello", to)?;
        socket.recv_from(&mut buffer)?
    };
    if from != to {
        return Err(io::Error::other(format!("the answer came from {from}")));
    }
    let text = String::from_utf8_lossy(&buffer[..bytes]);
    Ok(text.split('=').next().unwrap_or_default().to_owned())
}
