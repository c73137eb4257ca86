//! Upgrades to a build with another layout of the tables, and back, with traffic on every path; and programs that the
//! verifier refuses.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use weft_dataplane::{PacketHooks, Xdp};
use weft_dataplane_abi::LAYOUT;

use crate::bed::{self, Bed};
use crate::direct;
use crate::object;
use crate::process::Process;
use crate::traffic::{furnished, furnished_with};

/// An agent of the other layout; killed when it is dropped.
struct Other(Child);

impl Drop for Other {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

impl Other {
    /// Starts one on the first machine and gives it at once, before it has done anything.
    fn begin(bed: &Bed, object: &Path) -> Self {
        let (machine, config) = (&bed.machines[0], &bed.machines[0].config);
        let child = Command::new(other_agent()).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = child.expect("`cargo xtask test` builds the agent of another layout");
        let settings = [
            machine.netns.display().to_string(),
            object.display().to_string(),
            machine.name.clone(),
            machine.ip.to_string(),
            config.node.pod_cidrs[0].to_string(),
            config.cluster_cidrs[0].to_string(),
            config.service_cidrs[0].to_string(),
            config.bpffs_dir.display().to_string(),
            config.state_dir.display().to_string(),
            config.cgroup_path.display().to_string(),
            config.socket_lb.to_string(),
            (config.packet_hooks == PacketHooks::Clsact).to_string(),
            (config.xdp == Xdp::On).to_string(),
        ];
        let mut input = child.stdin.take().expect("input");
        writeln!(input, "{}", settings.join("\n")).expect("settings sent");
        Self(child)
    }

    /// Starts one and waits until it is in force.
    fn start(bed: &Bed) -> Self {
        let mut other = Self::begin(bed, &other_object());
        assert_eq!(other.said(), format!("started with layout {}", LAYOUT + 1));
        other
    }

    /// How its start went.
    fn said(&mut self) -> String {
        let mut line = String::new();
        BufReader::new(self.0.stdout.take().expect("output")).read_line(&mut line).expect("a line");
        line.trim().to_owned()
    }
}

fn other_object() -> PathBuf {
    std::env::var_os("WEFT_EBPF_OBJECT_OTHER")
        .map_or_else(|| object::path().expect("an object").with_file_name("weft-bpf-other"), PathBuf::from)
}

fn other_agent() -> PathBuf {
    std::env::var_os("WEFT_AGENT_OTHER").map_or_else(
        || {
            let own = std::env::current_exe().expect("own path");
            own.parent().and_then(Path::parent).expect("a target directory").join("examples/other-layout")
        },
        PathBuf::from,
    )
}

/// What is pinned of tables, by directory.
fn pinned(bed: &Bed) -> Vec<String> {
    let entries = fs::read_dir(&bed.machines[0].config.bpffs_dir).expect("pins");
    let names = entries.map(|entry| entry.expect("a pin").file_name().to_string_lossy().into_owned());
    let mut names: Vec<String> = names.filter(|name| name != "links").collect();
    names.sort();
    names
}

/// A process with an established connection and a UDP flow, which asks on both, and anew, again and again.
struct Talker {
    process: Process,
    to: String,
    /// Who answers on the connection, and on the UDP flow.
    answers: [String; 2],
}

impl Talker {
    fn new(mut process: Process, to: &str) -> Self {
        assert_eq!(process.ask(&format!("hold {to}")), "held", "{to}");
        assert_eq!(process.ask(&format!("connect {to}")), "connected", "{to}");
        let answers = [process.ask("again"), process.ask("say")];
        assert!(answers.iter().all(|answer| !answer.starts_with("failed")), "{to}: {answers:?}");
        Self { process, to: to.to_owned(), answers }
    }

    /// One round; what was wrong, if anything.
    fn ask(&mut self) -> Result<(), String> {
        for (question, answer) in [("again", &self.answers[0]), ("say", &self.answers[1])] {
            let got = self.process.ask(question);
            if got != *answer {
                return Err(format!("{question} to {}: {got}, not {answer}", self.to));
            }
        }
        for protocol in ["tcp", "udp"] {
            let got = self.process.ask(&format!("{protocol} {} 1", self.to));
            if got.starts_with("failed") {
                return Err(format!("new by {protocol} to {}: {got}", self.to));
            }
        }
        let peer = self.process.ask("peer");
        if peer == self.to { Ok(()) } else { Err(format!("connected to {}, not {}", peer, self.to)) }
    }
}

/// Talkers on every path to the first machine, asking while `work` is done; nothing may go wrong for any of them.
fn while_they_talk(bed: &mut Bed, work: impl FnOnce(&mut Bed)) {
    let node_port = format!("{}:30080", bed.machines[0].ip);
    let cluster_ip = "10.96.0.10:80";
    let pod = bed.pods.remove("a2").expect("a Pod");
    let far = bed.pods.remove("b1").expect("a Pod");
    let client = |_| Talker::new(bed.client(), &node_port);
    // So many that every backend, here and there, has some.
    let mut talkers: Vec<Talker> = (0..4).map(client).collect();
    if bed.machines[2].config.direct_return {
        // What another machine sends on to this one.
        let node_port = format!("{}:30080", bed.machines[2].ip);
        talkers.extend((0..4).map(|_| Talker::new(bed.client(), &node_port)));
    }
    talkers.push(Talker::new(pod, cluster_ip));
    talkers.push(Talker::new(far, "10.244.1.10:8080"));
    if !bed.machines[0].config.socket_lb {
        talkers.push(Talker::new(bed.process(0, "stranger", true), cluster_ip));
    }
    let (over, rounds) = (&AtomicBool::new(false), &AtomicU32::new(0));
    let ask = |talker: &mut Talker| {
        while !over.load(Ordering::Relaxed) {
            talker.ask()?;
            rounds.fetch_add(1, Ordering::Relaxed);
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    };
    let wrong: Vec<String> = std::thread::scope(|scope| {
        let threads: Vec<_> = talkers.iter_mut().map(|talker| scope.spawn(move || ask(talker))).collect();
        let done = std::panic::catch_unwind(AssertUnwindSafe(|| work(bed)));
        over.store(true, Ordering::Relaxed);
        let results = threads.into_iter().map(|thread| thread.join().expect("a thread"));
        let wrong = results.filter_map(Result::err).collect();
        done.unwrap_or_else(|panic| {
            eprintln!("and the talkers: {wrong:?}");
            std::panic::resume_unwind(panic)
        });
        wrong
    });
    eprintln!("{} rounds of questions meanwhile", rounds.load(Ordering::Relaxed));
    assert_eq!(wrong, Vec::<String>::new());
}

fn upgraded_and_back(socket_lb: bool, furnished: impl Fn() -> Option<(Bed, Vec<IpAddr>)>) {
    let Some((mut bed, _)) = furnished() else { return };
    bed.socket_lb(socket_lb);
    for machine in &mut bed.machines {
        machine.config.socket_lb = socket_lb;
    }
    while_they_talk(&mut bed, |bed| {
        for _ in 0..3 {
            bed.kill(0);
            let other = Other::start(bed);
            assert_eq!(pinned(bed), [format!("maps-{}", LAYOUT + 1)]);
            std::thread::sleep(Duration::from_millis(200));
            drop(other);
            bed.start(0);
            assert_eq!(pinned(bed), [format!("maps-{LAYOUT}")]);
            bed.tell_one(0);
        }
    });
}

#[test]
fn an_upgrade_to_another_layout_and_back_loses_no_flow_balanced_at_connect() {
    upgraded_and_back(true, furnished);
}

#[test]
fn an_upgrade_to_another_layout_and_back_loses_no_flow_balanced_packet_by_packet() {
    upgraded_and_back(false, furnished);
}

#[test]
fn an_upgrade_to_another_layout_and_back_loses_no_flow_that_another_machine_answers() {
    upgraded_and_back(true, direct::furnished);
}

/// The driver's link stays, and each layout's program comes to it.
#[test]
fn an_upgrade_to_another_layout_and_back_loses_no_flow_that_the_driver_carries() {
    let Some((mut bed, _)) = furnished_with(|config| config.xdp = Xdp::On) else { return };
    bed.as_on_wires();
    let pins = bed.driver_pins(0);
    assert_eq!(pins.len(), 1);
    while_they_talk(&mut bed, |bed| {
        for _ in 0..3 {
            bed.kill(0);
            let other = Other::start(bed);
            assert_eq!(pinned(bed), [format!("maps-{}", LAYOUT + 1)]);
            assert_eq!(bed.driver_pins(0), pins);
            std::thread::sleep(Duration::from_millis(200));
            drop(other);
            bed.start(0);
            assert_eq!(pinned(bed), [format!("maps-{LAYOUT}")]);
            assert_eq!(bed.driver_pins(0), pins);
            bed.tell_one(0);
            let carried = || bed.counter(0, "xdp_carried");
            let before = carried();
            assert!((0..1_000).any(|_| {
                std::thread::sleep(Duration::from_millis(20));
                carried() > before
            }));
        }
    });
}

#[test]
fn agents_killed_in_the_midst_of_an_upgrade_lose_no_flow() {
    let Some((mut bed, _)) = furnished() else { return };
    while_they_talk(&mut bed, |bed| {
        bed.kill(0);
        let began = Instant::now();
        drop(Other::start(bed));
        let whole = began.elapsed();
        bed.start(0);
        // Programs are in force by turns from half of the time on, more or less; the last of them at its end.
        for percent in [20, 45, 55, 65, 75, 85, 95] {
            bed.kill(0);
            let other = Other::begin(bed, &other_object());
            std::thread::sleep(whole * percent / 100);
            drop(other);
            eprintln!("killed after {percent} of a hundred, with {:?}", pinned(bed));
            if percent % 10 == 0 {
                drop(Other::start(bed));
            }
            bed.start(0);
            assert_eq!(pinned(bed), [format!("maps-{LAYOUT}")]);
        }
    });
}

#[test]
fn a_program_that_the_verifier_refuses_leaves_the_old_one_in_force() {
    let Some((mut bed, _)) = furnished() else { return };
    let good = bed.machines[0].config.object_path.clone();
    let directory = tempfile::tempdir().expect("a directory");
    for (name, object) in [("same layout", good.clone()), ("another layout", other_object())] {
        let bad = directory.path().join(name);
        fs::write(&bad, spoilt(&fs::read(&object).expect("an object"), "from_pod")).expect("written");
        while_refused(&mut bed, &bad, name == "same layout");
    }
    bed.machines[0].config.object_path = good;
    bed.start(0);
    bed.tell();
    assert_eq!(bed.pods.get_mut("a1").expect("a Pod").reach("tcp", "10.96.0.10:80", 3).len(), 3);
}

/// A start with an object that is refused, by this build or by the other, changes nothing for anybody.
fn while_refused(bed: &mut Bed, object: &Path, own: bool) {
    bed.kill(0);
    let before = pinned(bed);
    let mut talker = Talker::new(bed.client(), &format!("{}:30080", bed.machines[0].ip));
    let error = if own {
        let config =
            weft_dataplane::Config { object_path: object.to_owned(), ..bed.machines[0].config.clone() };
        let started = weft_dataplane::netns::within(&bed.machines[0].netns, || {
            bed::block_on(async move { weft_dataplane::Dataplane::start(config).await.map(drop) })
        });
        bed::chain(&started.expect("namespace").expect_err("refused"))
    } else {
        Other::begin(bed, object).said()
    };
    assert!(error.contains("the kernel refused the program"), "{error}");
    assert!(error.contains("what was attached before stays in force"), "{error}");
    assert_eq!(pinned(bed), before);
    for _ in 0..20 {
        talker.ask().expect("as before");
    }
}

/// The object with a program that writes its frame pointer.
pub(crate) fn spoilt(object: &[u8], program: &str) -> Vec<u8> {
    const SYMBOLS: usize = 2;
    let wanted = format!("{program}\0");
    let mut spoilt = object.to_vec();
    let number = |at: usize, bytes: usize| {
        object[at..at + bytes].iter().rev().fold(0_usize, |all, byte| all << 8 | usize::from(*byte))
    };
    // ELF, 64 bits, little-endian: sections of 64 bytes each, one of them of symbols of 24 bytes, whose names are in another.
    let (sections, count) = (number(0x28, 8), number(0x3c, 2));
    let section = |index: usize| sections + index * 64;
    let place = |section: usize| number(section + 0x18, 8);
    let table = (0..count).map(section).find(|section| number(section + 4, 4) == SYMBOLS).expect("symbols");
    let names = place(section(number(table + 0x28, 4)));
    let symbol = (place(table)..place(table) + number(table + 0x20, 8))
        .step_by(24)
        .find(|symbol| object[names + number(*symbol, 4)..].starts_with(wanted.as_bytes()))
        .expect("the program");
    let at = place(section(number(symbol + 6, 2))) + number(symbol + 8, 8);
    // In the place of the first copy from register to register, or end, which nothing is to be relocated in: a copy into the
    // frame pointer, which nobody may write.
    let copy = (at..).step_by(8).find(|at| matches!(object[*at], 0xbf | 0x95)).expect("an instruction");
    spoilt[copy..copy + 8].copy_from_slice(&[0xb7, 10, 0, 0, 0, 0, 0, 0]);
    spoilt
}
