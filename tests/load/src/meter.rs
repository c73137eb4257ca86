//! How long a measurement took, and how much CPU the server and this load had meanwhile.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use nix::unistd::{SysconfVar, sysconf};

/// A running measurement.
pub(crate) struct Meter {
    began: Instant,
    own: Duration,
    server_pid: Option<u32>,
    server: Duration,
}

/// What one cost.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    pub(crate) seconds: f64,
    pub(crate) load_cpu_seconds: f64,
    /// 0 of a server that is not known.
    pub(crate) server_cpu_seconds: f64,
}

impl Meter {
    pub(crate) fn start(server_pid: Option<u32>) -> Result<Self> {
        Ok(Self { began: Instant::now(), own: own()?, server_pid, server: server(server_pid)? })
    }

    pub(crate) fn stop(&self) -> Result<Cost> {
        Ok(Cost {
            seconds: self.began.elapsed().as_secs_f64(),
            load_cpu_seconds: own()?.saturating_sub(self.own).as_secs_f64(),
            server_cpu_seconds: server(self.server_pid)?.saturating_sub(self.server).as_secs_f64(),
        })
    }
}

fn own() -> Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    let microseconds = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Ok(Duration::from_micros(u64::try_from(microseconds)?))
}

fn server(pid: Option<u32>) -> Result<Duration> {
    let Some(pid) = pid else { return Ok(Duration::ZERO) };
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).context("the server does not run")?;
    let ticks = ticks(&text).context("the server's stat is not understood")?;
    let per_second = sysconf(SysconfVar::CLK_TCK)?.context("the kernel's clock has no ticks")?;
    Ok(Duration::from_secs_f64(ticks as f64 / per_second as f64))
}

/// User and system time, fields 14 and 15 of proc(5)'s `stat`; the name before them may hold anything.
fn ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_stand_behind_the_name() {
        let text = "7 (a) 9 b) S 1 7 7 0 -1 4194560 100 0 3 0 250 31 4 5 20 0 8 0 1234 0 0";
        assert_eq!(ticks(text), Some(281));
        assert_eq!(ticks("7 (a"), None);
    }

    #[test]
    fn work_is_seen() {
        let meter = Meter::start(Some(std::process::id())).unwrap();
        let mut random = crate::random::Random::new(1);
        // By CPU time: a busy machine gives less of it than the clock says.
        while own().unwrap() - meter.own < Duration::from_millis(100) {
            std::hint::black_box(random.below(9));
        }
        let cost = meter.stop().unwrap();
        assert!(cost.load_cpu_seconds >= 0.1 && cost.server_cpu_seconds > 0.05, "{cost:?}");
        assert!(cost.seconds > 0.0, "{cost:?}");
    }
}
