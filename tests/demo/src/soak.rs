//! The patient client: many long connections and UDP flows, and new ones all the time, until it is told to stop. What goes
//! wrong for any of them is counted and told.

use std::fmt::Display;
use std::io::{BufReader, Error, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, Scope};
use std::time::{Duration, Instant};

use crate::http::{self, Url, read_headers, read_line};
use crate::options::Soak;
use crate::resolve;

/// Threads that open new connections, and as many that send from new UDP sockets.
const OPENERS: u32 = 10;
/// Failures told in words; the others are counted.
const TOLD_MAX: usize = 20;
const STACK_BYTES: usize = 128 << 10;
/// How long is waited for an answer that is too late already: one that comes tells of a slow machine, none of a lost packet.
const LATE: Duration = Duration::from_secs(5);
/// Between two looks whether it is time to stop.
const LOOK: Duration = Duration::from_millis(50);

/// What all threads count together.
#[derive(Default)]
struct Counts {
    over: AtomicBool,
    bytes: AtomicU64,
    datagrams: AtomicU64,
    late: AtomicU64,
    slowest_ms: AtomicU64,
    connections: AtomicU64,
    questions: AtomicU64,
    slowest_new_ms: AtomicU64,
    failed: AtomicU64,
    told: Mutex<Vec<String>>,
}

impl Counts {
    fn fail(&self, what: &str, why: impl Display) {
        self.failed.fetch_add(1, Ordering::Relaxed);
        if let Ok(mut told) = self.told.lock()
            && told.len() < TOLD_MAX
        {
            told.push(format!("{what}: {why}"));
        }
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }
}

fn add(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

fn note(slowest: &AtomicU64, began: Instant) {
    slowest.fetch_max(u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
}

/// Asks on all of them until the file is there.
pub(crate) fn run(options: &Soak) -> Result<(), String> {
    let address = resolve::lookup(&options.host, options.gap).map_err(|error| error.to_string())?;
    let (tcp, udp) = (SocketAddr::new(address, options.tcp_port), SocketAddr::new(address, options.udp_port));
    let (counts, began) = (Counts::default(), Instant::now());
    thread::scope(|scope| {
        let counts = &counts;
        for number in 0..options.long {
            let spread = options.interval * number / options.long.max(1);
            start(scope, counts, move || hold(options, tcp, spread, counts));
            start(scope, counts, move || keep(options, udp, number.is_multiple_of(2), spread, counts));
        }
        for number in 0..OPENERS {
            let every = Duration::from_secs(1) * OPENERS / options.per_second.max(1);
            let spread = every * number / OPENERS;
            start(scope, counts, move || paced(every, spread, counts, || open(options, counts)));
            start(scope, counts, move || paced(every, spread, counts, || ask(options, udp, counts)));
        }
        println!("begun");
        while !Path::new(&options.until).exists() {
            thread::sleep(LOOK);
        }
        counts.over.store(true, Ordering::Relaxed);
    });
    report(&counts, began, options)
}

fn start<'scope>(scope: &'scope Scope<'scope, '_>, counts: &Counts, work: impl FnOnce() + Send + 'scope) {
    if let Err(error) = thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, work) {
        counts.fail("a thread", error);
    }
}

fn report(counts: &Counts, began: Instant, options: &Soak) -> Result<(), String> {
    let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    println!(
        "{} connections and {} UDP flows for {} s: {} bytes and {} datagrams came back, slowest {} ms, {} datagrams late or lost; \
         {} new connections and {} new UDP flows, slowest {} ms; {} failures",
        options.long,
        options.long,
        began.elapsed().as_secs(),
        of(&counts.bytes),
        of(&counts.datagrams),
        of(&counts.slowest_ms),
        of(&counts.late),
        of(&counts.connections),
        of(&counts.questions),
        of(&counts.slowest_new_ms),
        of(&counts.failed),
    );
    let told = counts.told.lock().map(|told| told.join("\n")).unwrap_or_default();
    if of(&counts.failed) == 0 { Ok(()) } else { Err(format!("failed:\n{told}")) }
}

/// Does something again and again, each time when it is due.
fn paced(every: Duration, first: Duration, counts: &Counts, once: impl Fn()) {
    let mut due = Instant::now() + first;
    while !counts.is_over() {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        once();
        // What took long is not made good for: that would be a burst.
        due = Instant::now().max(due + every);
    }
}

/// One long connection: a byte each interval, which must come back before the gap is over.
fn hold(options: &Soak, to: SocketAddr, spread: Duration, counts: &Counts) {
    if let Err(error) = hold_on(options, to, spread, counts) {
        counts.fail("a long connection", error);
    }
}

fn hold_on(options: &Soak, to: SocketAddr, spread: Duration, counts: &Counts) -> std::io::Result<()> {
    thread::sleep(spread);
    let stream = TcpStream::connect_timeout(&to, options.gap)?;
    stream.set_read_timeout(Some(options.gap))?;
    stream.set_nodelay(true)?;
    let mut out = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    write!(out, "GET /echo HTTP/1.1\r\nHost: soak\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n")?;
    read_line(&mut reader)?;
    read_headers(&mut reader)?;
    while !counts.is_over() {
        let asked = Instant::now();
        out.write_all(b"a")?;
        reader.read_exact(&mut [0])?;
        add(&counts.bytes);
        note(&counts.slowest_ms, asked);
        thread::sleep(options.interval.saturating_sub(asked.elapsed()));
    }
    Ok(())
}

/// One UDP flow, from a socket that is connected or not. It fails with an error, or when nothing comes back for the gap.
fn keep(options: &Soak, to: SocketAddr, connected: bool, spread: Duration, counts: &Counts) {
    let what = if connected { "a connected UDP socket" } else { "a UDP socket" };
    if let Err(error) = keep_on(options, to, connected, spread, counts) {
        counts.fail(what, error);
    }
}

fn keep_on(
    options: &Soak,
    to: SocketAddr,
    connected: bool,
    spread: Duration,
    counts: &Counts,
) -> std::io::Result<()> {
    thread::sleep(spread);
    let socket = bound(to, options.interval)?;
    if connected {
        socket.connect(to)?;
    }
    let mut answer = [0; 1024];
    // Since when answers are missing.
    let mut since = None;
    while !counts.is_over() {
        let asked = Instant::now();
        let waiting = *since.get_or_insert(asked);
        if connected {
            socket.send(b"ping")?
        } else {
            socket.send_to(b"ping", to)?
        };
        match socket.recv_from(&mut answer) {
            Ok(_) => {
                add(&counts.datagrams);
                note(&counts.slowest_ms, waiting);
                since = None;
            }
            Err(error) if is_silence(&error) && waiting.elapsed() < options.gap => add(&counts.late),
            Err(error) if is_silence(&error) => {
                return Err(Error::new(ErrorKind::TimedOut, format!("silent for {:?}", waiting.elapsed())));
            }
            Err(error) => return Err(error),
        }
        thread::sleep(options.interval.saturating_sub(asked.elapsed()));
    }
    Ok(())
}

fn is_silence(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

fn bound(to: SocketAddr, timeout: Duration) -> std::io::Result<UdpSocket> {
    let any: SocketAddr = if to.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
    let socket = UdpSocket::bind(any)?;
    socket.set_read_timeout(Some(timeout))?;
    Ok(socket)
}

/// One new connection with one request.
fn open(options: &Soak, counts: &Counts) {
    let url = Url { host: options.host.clone(), port: options.tcp_port, path: "/hostname".to_owned() };
    let began = Instant::now();
    match http::get(&url, options.gap, |_| {}) {
        Ok(200) => add(&counts.connections),
        Ok(status) => counts.fail("a new connection", format!("status {status}")),
        Err(error) => counts.fail("a new connection", error),
    }
    note(&counts.slowest_new_ms, began);
}

/// One question from a new UDP socket.
fn ask(options: &Soak, to: SocketAddr, counts: &Counts) {
    let began = Instant::now();
    let answer = bound(to, LATE).and_then(|socket| {
        socket.send_to(b"ping", to)?;
        socket.recv(&mut [0; 1024])
    });
    match answer {
        Ok(_) if began.elapsed() < options.gap => add(&counts.questions),
        Ok(_) => counts.fail("a new UDP flow", format!("its answer came after {:?}", began.elapsed())),
        Err(error) => counts.fail("a new UDP flow", error),
    }
    note(&counts.slowest_new_ms, began);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn options(tcp_port: u16, udp_port: u16, until: &Path) -> Soak {
        Soak {
            host: "127.0.0.1".to_owned(),
            tcp_port,
            udp_port,
            long: 4,
            per_second: 5,
            interval: Duration::from_millis(20),
            gap: Duration::from_millis(300),
            until: until.to_string_lossy().into_owned(),
        }
    }

    #[test]
    fn silence_and_refusals_are_failures() {
        let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let closed = listener.local_addr().unwrap().port();
        drop(listener);
        let end = std::env::temp_dir().join(format!("weft-soak-{}", std::process::id()));
        let told = thread::scope(|scope| {
            let port = silent.local_addr().unwrap().port();
            let options = options(closed, port, &end);
            let soak = scope.spawn(move || run(&options));
            thread::sleep(Duration::from_millis(700));
            std::fs::write(&end, "").unwrap();
            soak.join().unwrap().unwrap_err()
        });
        std::fs::remove_file(&end).unwrap();
        assert!(told.contains("a long connection: Connection refused"), "{told}");
        assert!(told.contains("UDP socket: silent for"), "{told}");
    }
}
