//! The Python client `kubernetes`: typed and dynamic, and a watch that a restart of the server does not end.

use std::time::Duration;

use weft_tests::cluster::{COMMAND_MAX, given};
use weft_tests::{Run, Running, Server, until};

const OBJECTS: &str = include_str!("python/objects.py");
const WATCH: &str = include_str!("python/watch.py");

#[test]
fn objects_are_made_read_changed_and_deleted_typed_and_dynamically() {
    let server = Server::start("python-objects");
    let output = server.client(&given("WEFT_PYTHON"), "python").args(["-c", OBJECTS]).run(COMMAND_MAX);
    assert!(output.clone().ok().ends_with("done\n"), "{output:?}");
}

/// Ends the server in some way, starts it again, and writes before, between and after.
#[test]
fn a_watch_goes_on_over_restarts_of_the_server_without_loss_or_repetition() {
    let mut server = Server::start("python-watch");
    let create = "create configmap counter --from-literal=n=0".split(' ').collect::<Vec<_>>();
    server.kubectl(&create).ok();
    let mut python = server.client(&given("WEFT_PYTHON"), "python");
    let watch = Running::start(python.args(["-c", WATCH]));
    let until_said = |word: &str| {
        until(&format!("{word:?} of the watch"), COMMAND_MAX, || watch.said().contains(word).then_some(()));
    };
    until_said("listed 0");
    let write = |server: &Server, n: &str| {
        let patch = format!("{{\"data\":{{\"n\":\"{n}\"}}}}");
        server.kubectl(&["patch", "configmap", "counter", "-p", &patch]).ok();
    };
    write(&server, "1");
    until_said("MODIFIED 1\n");
    server.end();
    std::thread::sleep(Duration::from_millis(500));
    server.start_again();
    write(&server, "2");
    write(&server, "3");
    until_said("MODIFIED 3\n");
    server.kill();
    server.start_again();
    write(&server, "4");
    server.kubectl(&["delete", "configmap", "counter"]).ok();
    let said = watch.end(COMMAND_MAX);
    let events: Vec<String> =
        said.clone().ok().lines().filter(|line| !line.starts_with("again")).map(str::to_owned).collect();
    assert_eq!(
        events,
        ["listed 0", "MODIFIED 1", "MODIFIED 2", "MODIFIED 3", "MODIFIED 4", "DELETED 4"],
        "{said:?}"
    );
    assert!(said.stdout.lines().filter(|line| line.starts_with("again")).count() >= 2, "{said:?}");
}
