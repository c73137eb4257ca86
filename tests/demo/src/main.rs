//! The demo workload that `up` applies and the tests drive: a server, and clients that count and measure.

mod client;
mod digest;
mod http;
mod options;
mod resolve;
mod serve;
mod soak;

use std::process::ExitCode;

use options::Command;

const USAGE: &str = "\
weft-demo serve [--http PORT] [--udp PORT]
    HTTP on 8080: / (who answers, as JSON), /hostname, /healthz, /echo, /bytes/N; UDP echo on 8081
weft-demo get URL [--count N] [--summary] [--timeout-ms MS]
    asks N times, a connection each; with --summary the distinct answers and how often each came
weft-demo udp HOST:PORT [--count N] [--summary] [--source-port P] [--payload TEXT] [--timeout-ms MS]
    sends N datagrams and prints the answers
weft-demo hold HOST:PORT [--seconds S] [--interval-ms MS] [--gap-ms MS]
    keeps one connection to /echo's stream open, a byte each interval, and reports gaps and resets
weft-demo soak HOST --until FILE [--tcp PORT] [--udp PORT] [--long N] [--per-second N] [--interval-ms MS] [--gap-ms MS]
    keeps N connections and N UDP flows, and opens N new ones of each a second, until FILE is there; nothing may fail
weft-demo sha256 URL [--timeout-ms MS]
    downloads, and prints digest and length
weft-demo resolve NAME [--family IPv4|IPv6] [--timeout-ms MS]
    asks the name server of /etc/resolv.conf for the first address, or for all of one family
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let done = match options::parse(&args) {
        Ok(Command::Serve(options)) => serve::run(&options),
        Ok(Command::Get(options)) => client::get(&options),
        Ok(Command::Udp(options)) => client::udp(&options),
        Ok(Command::Hold(options)) => client::hold(&options),
        Ok(Command::Soak(options)) => soak::run(&options),
        Ok(Command::Sha256(options)) => client::sha256(&options),
        Ok(Command::Resolve(options)) => client::resolve(&options),
        Err(error) => {
            eprintln!("weft-demo: {error}\n\n{USAGE}");
            return ExitCode::from(64);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("weft-demo: {error}");
            ExitCode::FAILURE
        }
    }
}
