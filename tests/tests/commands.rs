//! Every command of a recording of kubectl 1.37 whose effect ends at the API, by the oldest kubectl that is promised to work,
//! the newest, the one before and the machine's own, each against a control plane of its own: what its user sees, and what is
//! then true.

#[path = "commands/api.rs"]
mod api;
#[path = "commands/change.rs"]
mod change;
#[path = "commands/create.rs"]
mod create;
#[path = "commands/files.rs"]
mod files;
#[path = "commands/live.rs"]
mod live;
#[path = "commands/read.rs"]
mod read;
#[path = "commands/remove.rs"]
mod remove;
#[path = "commands/row.rs"]
mod row;

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;
use weft_tests::cluster::{COMMAND_MAX, given};
use weft_tests::{Output, Run, Server};

use api::Api;
use row::{Row, words};

/// How many commands the recording has.
const RECORDED: usize = 125;

/// The table, in the order in which it is run: a command meets what those before it left.
const TABLE: &[&[Row]] = &[read::ROWS, create::ROWS, change::ROWS, remove::ROWS];

/// Commands of the recording that want more than the API, and what.
const LEFT_OUT: &[(&str, &[&str])] = &[
    (
        "containers that run: tests/kubectl.rs",
        &[
            "logs",
            "logs-f",
            "logs-deploy",
            "logs-sel",
            "exec",
            "exec-stdin",
            "exec-tty",
            "cp-to",
            "cp-from",
            "attach",
            "attach-i",
            "run-it",
            "run-i-rm",
            "port-forward",
            "port-forward-svc",
        ],
    ),
    ("nodes that measure what runs on them: tests/top.rs", &["top-node", "top-pod"]),
];

/// One kubectl and its server.
struct Kubectl {
    program: String,
    /// The second number of its version.
    minor: u32,
    server: Server,
}

impl Kubectl {
    fn new(program: &str, name: &str) -> Self {
        let server = Server::start(&format!("commands-{name}"));
        for (path, content) in files::FILES {
            server.write("kubectl", path, content);
        }
        let mut kubectl = Self { program: program.to_owned(), minor: 0, server };
        let version: Value =
            serde_json::from_str(&kubectl.run("version --client -o json").ok()).expect("JSON");
        let minor = version["clientVersion"]["minor"].as_str().expect("a version");
        kubectl.minor = minor.trim_end_matches('+').parse().expect("a number");
        kubectl
    }

    fn command(&self, line: &str) -> Command {
        let mut command = self.server.client(&self.program, "kubectl");
        // What `edit` starts.
        command.env("KUBE_EDITOR", "sed -i s/first/second/").args(words(line));
        command
    }

    fn run(&self, line: &str) -> Output {
        self.command(line).run(COMMAND_MAX)
    }

    /// One row: the command, what it says, and what is then true.
    fn walk(&self, row: &Row, api: &Api) -> Result<(), String> {
        let output = self.run(row.line);
        let said = format!("{}{}", output.stdout, output.stderr);
        let told =
            |what: String| format!("{} ({}): {what}\n$ kubectl {}\n{said}", row.name, self.minor, row.line);
        if output.code != row.code {
            return Err(told(format!("ended with {}", output.code)));
        }
        for word in row.says {
            let (wanted, word) = word.strip_prefix('!').map_or((true, *word), |word| (false, word));
            if said.contains(word) != wanted {
                return Err(told(format!("{word:?} is {}", if wanted { "missing" } else { "there" })));
            }
        }
        row.then.iter().try_for_each(|fact| api.holds(fact).map_err(told))
    }
}

/// Everything by one kubectl; the rows that are not as they should be.
fn run_all(program: &str, name: &str) -> Vec<String> {
    let kubectl = Kubectl::new(program, name);
    let api = Api::by_proxy(&kubectl);
    files::prepare(&kubectl, &api);
    let rows = TABLE.iter().copied().flatten().filter(|row| row.since <= kubectl.minor);
    let mut wrong: Vec<String> = Vec::new();
    for row in rows {
        if row.name == remove::FIRST {
            // While all that was made is there.
            live::all(&kubectl);
        }
        wrong.extend(kubectl.walk(row, &api).err());
    }
    wrong
}

#[test]
fn every_recorded_command_has_a_row_or_a_reason() {
    let mut names = BTreeSet::new();
    let rows = TABLE.iter().copied().flatten().map(|row| row.name);
    let left_out = LEFT_OUT.iter().flat_map(|(_, names)| names.iter().copied());
    for name in rows.chain(live::NAMES.iter().copied()).chain(left_out) {
        assert!(names.insert(name), "{name} is there twice");
    }
    assert_eq!(names.len(), RECORDED);
}

#[test]
fn commands_do_what_their_users_expect() {
    let own = weft_tests::cluster::machine_kubectl();
    let mut programs = vec![
        ("oldest", given("WEFT_KUBECTL_OLDEST")),
        ("before", given("WEFT_KUBECTL_BEFORE")),
        ("newest", given("WEFT_KUBECTL_NEWEST")),
    ];
    if programs.iter().all(|(_, program)| *program != own) {
        programs.push(("own", own));
    }
    let wrong: Vec<String> = std::thread::scope(|scope| {
        let threads: Vec<_> =
            programs.iter().map(|(name, program)| scope.spawn(move || run_all(program, name))).collect();
        let ended = threads.into_iter().map(|thread| thread.join());
        ended.flat_map(|rows| rows.unwrap_or_else(|_| vec!["a panic, see above".to_owned()])).collect()
    });
    assert!(wrong.is_empty(), "{} rows are not as they should be:\n{}", wrong.len(), wrong.join("\n"));
}
