//! The guest: the script it runs, and the emulator, whose serial line is what it says.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// What the guest's script writes before the status and name of a step that has ended.
const ENDED: &str = "kernels-step-ended";
const POD: &str = include_str!("pod.sh");
const ENCRYPT: &str = include_str!("encrypt.sh");
/// How often is looked whether the guest has ended.
const LOOK: Duration = Duration::from_millis(200);
/// Longest line that is read of the guest, bytes.
const LINE_BYTES_MAX: u64 = 64 << 10;

/// What became of the steps.
#[derive(Debug, Default)]
pub(crate) struct Ended {
    /// Exit status by name, of those that ended.
    pub(crate) steps: BTreeMap<String, i32>,
    /// Why the guest ended before all was done, to be said after the failure; or nothing.
    pub(crate) why: String,
}

/// The command of a step of tests: all of a program's, or those named.
pub(crate) fn test(program: &Path, only: &[&str]) -> String {
    let mut command = format!("{} --color never --test-threads 2", quoted(&program.display().to_string()));
    if !only.is_empty() {
        command.push_str(" --exact");
    }
    for name in only {
        command.push(' ');
        command.push_str(&quoted(name));
    }
    command
}

/// The commands of the step with a Pod: a cluster of one node by `up`, whose demo Pods run and answer by their Service and at
/// a node port. What `up` writes lies beside links to the workspace in memory: the layer above the root directory carries no
/// other layers, which containers have.
pub(crate) fn pod(xtask: &Path) -> String {
    POD.replace("@XTASK@", &quoted(&xtask.display().to_string()))
}

/// The commands of the step with agents that encrypt: a cluster of two nodes by `up`, as above.
pub(crate) fn encrypt(xtask: &Path) -> String {
    ENCRYPT.replace("@XTASK@", &quoted(&xtask.display().to_string()))
}

/// The guest's script: the environment, then step by step, then off.
pub(crate) fn script(root: &Path, settings: &[(&str, PathBuf)], steps: &[(&str, String)]) -> String {
    let mut text = String::from(
        "# Runs in the guest of `cargo xtask kernels`, which wrote it.\n\
         export PATH=/root/.cargo/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root\n\
         export RUST_BACKTRACE=0\nip link set lo up\n",
    );
    for (name, value) in settings {
        text.push_str(&format!("export {name}={}\n", quoted(&value.display().to_string())));
    }
    text.push_str(&format!("cd {}\n", quoted(&root.display().to_string())));
    for (name, command) in steps {
        let began = quoted(&format!("kernels: {name}"));
        text.push_str(&format!("echo {began}\n{command} 2>&1\necho \"{ENDED} $?\" {}\n", quoted(name)));
    }
    text.push_str("sync\necho o > /proc/sysrq-trigger\nsleep 60\n");
    text
}

/// A word that the shell takes as it is.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// Boots the guest and waits until it has switched itself off, or its time is over. What it says is printed.
pub(crate) fn run(kernel: &Path, initramfs: &Path, memory_mib: u32, limit_minutes: u64) -> Result<Ended> {
    let mut child = Emulator(qemu(kernel, initramfs, memory_mib)?);
    let line = child.0.stdout.take().context("qemu has no output")?;
    let over = AtomicBool::new(false);
    let deadline = Instant::now() + Duration::from_secs(limit_minutes * 60);
    thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let ended = read(line, |line| println!("{line}"));
            over.store(true, Ordering::Release);
            ended
        });
        let mut why = String::new();
        while !over.load(Ordering::Acquire) && child.0.try_wait().context("qemu is lost")?.is_none() {
            if Instant::now() >= deadline {
                why = format!("; its {limit_minutes} minutes were over (--limit-minutes)");
                child.0.kill().context("qemu cannot be ended")?;
            }
            thread::sleep(LOOK);
        }
        let mut ended = reader.join().unwrap_or_default();
        ended.why = why;
        Ok(ended)
    })
}

/// The emulator, which ends with this program's interest in it.
struct Emulator(Child);

impl Drop for Emulator {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Starts the emulator: two processors in software, no network, this machine's root directory to read, the serial line on its
/// standard output; behind everything else that this machine does.
fn qemu(kernel: &Path, initramfs: &Path, memory_mib: u32) -> Result<Child> {
    // It ends with this program, however that ends.
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "chrt", "--idle", "0", "nice", "-n", "19", "qemu-system-x86_64"]);
    command.args(["-accel", "tcg,thread=multi", "-machine", "q35", "-cpu", "max", "-smp", "2"]);
    command.args(["-m", &memory_mib.to_string(), "-nodefaults", "-no-reboot", "-net", "none"]);
    command.args(["-display", "none", "-serial", "stdio"]);
    command.arg("-kernel").arg(kernel).arg("-initrd").arg(initramfs);
    command.args(["-append", "console=ttyS0 quiet panic=-1 mitigations=off"]);
    command.args(["-fsdev", "local,id=host,path=/,security_model=none,readonly=on,multidevs=remap"]);
    command.args(["-device", "virtio-9p-pci,fsdev=host,mount_tag=host"]);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("qemu-system-x86_64 cannot be started")
}

/// Reads what the guest says until it says no more.
fn read(said: impl Read, mut show: impl FnMut(&str)) -> Ended {
    let mut ended = Ended::default();
    let mut said = BufReader::new(said);
    let mut line = Vec::new();
    loop {
        line.clear();
        match said.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return ended,
            Ok(_) => {}
        }
        // Its firmware would clear the screen.
        let text: String =
            String::from_utf8_lossy(&line).chars().filter(|c| !c.is_control() || *c == '\t').collect();
        match text.strip_prefix(ENDED).and_then(|rest| rest.trim_start().split_once(' ')) {
            Some((status, name)) => {
                let _none = ended.steps.insert(name.to_owned(), status.parse().unwrap_or(-1));
            }
            None => show(&text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_script_runs_every_step_and_tells_how_it_ended() {
        let steps = [
            ("one", "true".to_owned()),
            ("a guest's words", "sh -c 'printf \"\\033cout\\r\\n\"; exit 3'".to_owned()),
        ];
        let text = script(Path::new("/"), &[("WEFT_NAME", "it's".into())], &steps);
        assert!(text.contains(r"export WEFT_NAME='it'\''s'"), "{text}");
        // Without what only a guest may do.
        let text: String = text
            .lines()
            .filter(|line| !["ip ", "sync", "echo o ", "sleep"].iter().any(|word| line.starts_with(word)))
            .map(|line| format!("{line}\n"))
            .collect();
        let done = Command::new("sh").args(["-c", &text]).output().unwrap();
        let mut shown = Vec::new();
        let ended = read(done.stdout.as_slice(), |line| shown.push(line.to_owned()));
        assert_eq!(ended.steps, BTreeMap::from([("one".to_owned(), 0), ("a guest's words".to_owned(), 3)]));
        assert_eq!(shown, ["kernels: one", "kernels: a guest's words", "cout"]);
    }

    #[test]
    fn tests_are_named_one_by_one() {
        assert_eq!(test(Path::new("/t/walk-1"), &[]), "'/t/walk-1' --color never --test-threads 2");
        assert_eq!(
            test(Path::new("/t/c"), &["a::b"]),
            "'/t/c' --color never --test-threads 2 --exact 'a::b'"
        );
    }
}
