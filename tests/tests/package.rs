//! The .deb files as dpkg and systemd read them: what is in them, that their programs run, and that the units are sound.

use std::path::{Path, PathBuf};
use std::process::Command;

use weft_tests::Output;
use weft_tests::cluster::{COMMAND_MAX, xtask};
use weft_tests::run::Run;

/// The packages in a directory of their own, which goes with the value.
struct Packages {
    dir: PathBuf,
}

impl Packages {
    fn build() -> Self {
        let dir = std::env::temp_dir().join(format!("weft-package-{}", std::process::id()));
        let packages = Self { dir };
        xtask(&["package", "--debug", "--no-build", "--output"]).arg(&packages.dir).run(COMMAND_MAX).ok();
        packages
    }

    fn file(&self, package: &str) -> PathBuf {
        let start = format!("{package}_");
        let files = std::fs::read_dir(&self.dir).unwrap().map(|entry| entry.unwrap().path());
        let mut found = files.filter(|path| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            name.starts_with(&start) && name.ends_with(".deb")
        });
        found.next().unwrap_or_else(|| panic!("no {package} in {}", self.dir.display()))
    }

    fn dpkg_deb(&self, flag: &str, package: &str, more: &[&str]) -> String {
        Command::new("dpkg-deb").arg(flag).arg(self.file(package)).args(more).run(COMMAND_MAX).ok()
    }

    /// Unpacks a package as dpkg would, and gives the root.
    fn unpack(&self, package: &str) -> PathBuf {
        let root = self.dir.join(package);
        let mut dpkg = Command::new("dpkg-deb");
        dpkg.arg("--extract").arg(self.file(package)).arg(&root).run(COMMAND_MAX).ok();
        root
    }
}

impl Drop for Packages {
    fn drop(&mut self) {
        // A directory that is left is not worth a panic within a panic.
        let _gone = std::fs::remove_dir_all(&self.dir);
    }
}

fn run(program: &Path, args: &[&str]) -> Output {
    Command::new(program).args(args).env_clear().run(COMMAND_MAX)
}

/// The unit with its programs at `root`, as if they were installed: then there is nothing to complain of.
fn verify(root: &Path, unit: &str) {
    let dir = root.join("lib/systemd/system");
    let text = std::fs::read_to_string(dir.join(unit)).unwrap();
    let here = ["bin", "lib/weft"].iter().fold(text, |text, at| {
        text.replace(&format!("=/usr/{at}/"), &format!("={}/usr/{at}/", root.display()))
    });
    assert!(here.contains(&format!("={}/usr/", root.display())), "{here}");
    std::fs::write(dir.join(unit), here).unwrap();
    let mut analyze = Command::new("systemd-analyze");
    // The colon at the end: after this directory the usual ones.
    analyze.args(["verify", "--man=no", unit]).env("SYSTEMD_UNIT_PATH", format!("{}:", dir.display()));
    let said = analyze.run(COMMAND_MAX);
    let about_it = said.stderr.lines().filter(|line| line.contains("weft")).collect::<Vec<_>>();
    assert!(said.code == 0 && about_it.is_empty(), "{} {}{}", said.code, said.stdout, said.stderr);
}

#[test]
fn the_packages_install_and_their_units_are_sound() {
    let packages = Packages::build();
    for (package, programs, settings) in [
        ("weft-control", &["weft-control"][..], "/etc/weft/control.env"),
        ("weft-agent", &["weft-agent", "agentctl"][..], "/etc/weft/agent.env"),
    ] {
        let contents = packages.dpkg_deb("--contents", package, &[]);
        let has = |mode: &str, path: &str| {
            let end = format!(" .{path}");
            let other = format!(" {}", path.trim_start_matches('/'));
            let line = contents.lines().find(|line| line.ends_with(&end) || line.ends_with(&other));
            let line = line.unwrap_or_else(|| panic!("no {path} in {contents}"));
            assert!(line.starts_with(mode) && line.contains("root/root") || line.contains(" 0/0 "), "{line}");
        };
        for program in programs {
            has("-rwxr-xr-x", &format!("/usr/bin/{program}"));
        }
        has("-rw-r--r--", &format!("/lib/systemd/system/{package}.service"));
        has("-rw-r--r--", &format!("/usr/share/doc/{package}/copyright"));
        has("-rw-------", settings);
        assert_eq!(packages.dpkg_deb("--info", package, &["conffiles"]).trim(), settings);
        for script in ["postinst", "prerm", "postrm"] {
            let text = packages.dpkg_deb("--info", package, &[script]);
            assert!(text.contains(&format!("{package}.service")) && !text.contains("@UNIT@"), "{text}");
            Command::new("sh").args(["-n", "-c", &text]).run(COMMAND_MAX).ok();
        }
        let root = packages.unpack(package);
        for program in programs {
            let said = run(&root.join("usr/bin").join(program), &["--version"]).ok();
            assert!(said.starts_with(program), "{said}");
        }
        verify(&root, &format!("{package}.service"));
    }
    verify(&packages.dir.join("weft-agent"), "weft-pods.service");
    let fields = packages.dpkg_deb("--field", "weft-agent", &["Depends", "Architecture", "Version"]);
    for needed in ["containerd", "runc", "libc6"] {
        assert!(fields.contains(needed), "{fields}");
    }
    let contents = packages.dpkg_deb("--contents", "weft-agent", &[]);
    for file in ["usr/lib/weft/weft-bpf", "copyright.ebpf-mit", "copyright.ebpf-gpl"] {
        assert!(contents.contains(file), "no {file} in {contents}");
    }
    let unit = packages.dir.join("weft-agent/lib/systemd/system/weft-agent.service");
    let unit = std::fs::read_to_string(unit).unwrap();
    // What lets Pods outlive their agent, and an agent outlive a control plane that is away.
    for line in ["KillMode=process", "Delegate=yes", "Restart=always", "StartLimitIntervalSec=0"] {
        assert!(unit.lines().any(|own| own == line), "no {line} in {unit}");
    }
    settings_are_known(&packages);
}

/// Settings that are not valid are refused before anything else, and the files name only settings that there are.
fn settings_are_known(packages: &Packages) {
    let agent = packages.dir.join("weft-agent/usr/bin/weft-agent");
    let refused = run(&agent, &["run"]);
    // EX_USAGE, after which systemd does not try again.
    assert_eq!(refused.code, 64, "{refused:?}");
    assert!(refused.stderr.contains("--control HOST:PORT is missing"), "{refused:?}");
    let control = packages.dir.join("weft-control/usr/bin/weft-control");
    let refused = run(&control, &["serve", "--listen", "nowhere"]);
    assert_eq!(refused.code, 64, "{refused:?}");
    // Every setting of the files is one that the program knows.
    for (program, verb, file) in [
        (&agent, "run", "weft-agent/etc/weft/agent.env"),
        (&control, "serve", "weft-control/etc/weft/control.env"),
    ] {
        let help = run(program, &[verb, "--help"]).ok();
        let text = std::fs::read_to_string(packages.dir.join(file)).unwrap();
        let names: Vec<&str> = text
            .lines()
            .filter_map(|line| line.trim_start_matches('#').split_once('='))
            .map(|(name, _)| name)
            .filter(|name| name.starts_with("WEFT_") && !name.contains(' '))
            .collect();
        assert!(!names.is_empty() && names.iter().all(|name| help.contains(name)), "{names:?} in {help}");
    }
}
