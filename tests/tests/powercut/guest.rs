//! One guest: qemu on a disk, with a `weft-control` in it whose port is on this machine's loopback, and a line on which a shell
//! in it is told what to do.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use weft_store::disk::Disk;
use weft_store::testdisk::{Plan, TestDisk, Unsynced};
use weft_tests::cluster::given;

use super::nbd;

/// Room of the disk, bytes.
pub(crate) const DISK_BYTES: u64 = 256 << 20;
/// How long the guest may take to boot, and for a command.
const BOOT_MAX: Duration = Duration::from_secs(300);
/// What the guest's shell says when it can be told what to do.
const LISTENING: &str = "powercut-listening";
/// What the guest's shell says behind the output of a command, before its status.
const DONE: &str = "powercut-done ";

/// What outlives a guest: its disk, and the port where its server is reached.
pub(crate) struct Machine {
    dir: PathBuf,
    port: u16,
    disk: TestDisk,
    boots: u32,
}

/// A running guest.
pub(crate) struct Guest {
    qemu: Child,
    shell: BufReader<UnixStream>,
}

/// At the end of power any of what was not flushed is there, in no order, and the last of it in part.
fn plan(seed: u64) -> Plan {
    Plan { unsynced: Unsynced::Scattered, seed, ..Plan::steady() }
}

impl Machine {
    /// A machine with an empty disk.
    pub(crate) fn new(seed: u64) -> Self {
        let dir = std::env::temp_dir().join(format!("weft-powercut-{}", std::process::id()));
        let _left_over = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).expect("a directory");
        let port =
            TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port").port();
        let disk = TestDisk::new(plan(seed));
        disk.set_len(DISK_BYTES).expect("a disk");
        disk.sync().expect("a disk");
        Self { dir, port, disk, boots: 0 }
    }

    /// Power comes: boots, and waits until the server is ready.
    pub(crate) fn boot(&mut self, seed: u64) -> Guest {
        self.boots += 1;
        if self.boots > 1 {
            self.disk = self.disk.restart(plan(seed));
        }
        let socket = self.dir.join(format!("disk-{}", self.boots));
        let disk = nbd::serve(self.disk.clone(), &socket).expect("the disk is served");
        let shell = self.dir.join(format!("shell-{}", self.boots));
        let mut qemu = self.qemu(&disk, &shell).spawn().expect("qemu starts");
        let lines = BufReader::new(qemu.stdout.take().expect("piped")).split(b'\n').map_while(Result::ok);
        std::thread::spawn(move || {
            for line in lines {
                let text = String::from_utf8_lossy(&line);
                let text: String = text.chars().filter(|c| !c.is_control() || *c == '\t').collect();
                eprintln!("guest: {text}");
            }
        });
        let until = Instant::now() + BOOT_MAX;
        let shell = loop {
            match UnixStream::connect(&shell) {
                Ok(stream) => break stream,
                Err(error) => assert!(Instant::now() < until, "qemu: {error}"),
            }
            std::thread::sleep(Duration::from_millis(50));
        };
        shell.set_read_timeout(Some(BOOT_MAX)).expect("a timeout");
        let mut guest = Guest { qemu, shell: BufReader::new(shell) };
        guest.said_until(LISTENING);
        guest.run("until grep -q 'weft-control is ready' /run/server.log; do sleep 0.2; done");
        guest
    }

    /// Power goes: the emulator is killed, and the disk forgets some of what it was not told to keep.
    pub(crate) fn cut(&self, mut guest: Guest) {
        guest.end();
        self.disk.cut();
    }

    /// The emulator: software, because no machine that this runs on has hardware for it; the root directory of this machine to
    /// read; a network of its own, of which one port is on loopback, and which has no way out.
    fn qemu(&self, disk: &Path, shell: &Path) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "nice", "-n", "19", "qemu-system-x86_64"]);
        command.args(["-accel", "tcg,thread=multi", "-machine", "q35", "-cpu", "max", "-smp", "2"]);
        command.args(["-m", "1536", "-nodefaults", "-no-reboot", "-display", "none", "-serial", "stdio"]);
        command.args(["-chardev", &format!("socket,id=shell,path={},server=on,wait=off", shell.display())]);
        command.args(["-serial", "chardev:shell"]);
        command.args(["-kernel", &given("WEFT_GUEST_KERNEL"), "-initrd", &given("WEFT_GUEST_INITRAMFS")]);
        command.arg("-append").arg(format!(
            "console=ttyS0 quiet no_timer_check panic=-1 mitigations=off random.trust_cpu=on sysrq_always_enabled weft.port={}",
            self.port
        ));
        command.args(["-fsdev", "local,id=host,path=/,security_model=none,readonly=on,multidevs=remap"]);
        command.args(["-device", "virtio-9p-pci,fsdev=host,mount_tag=host"]);
        // The guest sees a disk with a cache, and what it flushes reaches the test disk as a flush; what it does not flush is
        // only in the test disk's memory, whatever qemu and this machine have of it.
        let server = format!("driver=nbd,node-name=disk,server.type=unix,server.path={}", disk.display());
        command.args(["-blockdev", &server, "-device", "virtio-blk-pci,drive=disk,write-cache=on"]);
        let net = format!("user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:{}-10.0.2.15:6443", self.port);
        command.args(["-netdev", &net, "-device", "virtio-net-pci,netdev=net,romfile="]);
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        command
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _gone = std::fs::remove_dir_all(&self.dir);
    }
}

impl Guest {
    /// Has its shell run a line; what that prints.
    pub(crate) fn run(&mut self, line: &str) -> String {
        let (status, said) = self.try_run(line);
        assert_eq!(status, 0, "{line}: {said}");
        said
    }

    /// Has its shell run a line; status, and what it prints.
    pub(crate) fn try_run(&mut self, line: &str) -> (i32, String) {
        self.shell.get_mut().write_all(format!("{line}\n").as_bytes()).expect("the guest's shell");
        let (status, said) = self.said_until(DONE);
        (status.trim().parse().expect("a status"), said)
    }

    /// What its shell says until a line begins so, and the rest of that line, which comes first.
    fn said_until(&mut self, words: &str) -> (String, String) {
        let mut said = String::new();
        loop {
            let mut line = String::new();
            let bytes = self.shell.read_line(&mut line).expect("the guest's shell");
            assert!(bytes > 0, "the guest's shell has ended");
            match line.trim_end().strip_prefix(words) {
                Some(rest) => return (rest.to_owned(), said),
                None => said.push_str(&line),
            }
        }
    }

    /// SIGKILL, by its number.
    fn end(&mut self) {
        let _killed = self.qemu.kill();
        let _reaped = self.qemu.wait();
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.end();
    }
}
