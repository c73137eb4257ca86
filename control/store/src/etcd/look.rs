//! Looks at etcd from time to time: whether it is there, takes writes, and is still the history it was; and whether the watch
//! has come to where etcd is. One that is alive and tells nothing is begun again, at the next member.

use std::sync::Arc;
use std::time::Duration;

use super::link::{LOOK_WAIT, Link, LookError, Trouble};
use super::message::{StatusRequest, StatusResponse};
use super::wire::{self, WireError};
use crate::store::Revision;

/// How often it is looked.
const EVERY: Duration = Duration::from_secs(2);
/// First wait between two looks at an etcd in trouble, doubled with each.
const AGAIN: Duration = Duration::from_millis(100);
/// How soon a doubt is looked into at the earliest.
const DOUBT: Duration = Duration::from_millis(20);
/// How many looks the watch may be behind before something is done about it.
const LOOKS_BEHIND_MAX: u32 = 5;

/// How far the watch has come, look by look.
#[derive(Default)]
struct Lag {
    /// etcd's newest revision at the last look.
    seen: Revision,
    /// How many looks it has been behind that.
    looks: u32,
    /// Where it was when the mark was written that it has not come to yet.
    marked_at: Option<Revision>,
}

/// What is done about a watch that is behind.
#[derive(Debug, PartialEq, Eq)]
enum Remedy {
    Nothing,
    /// Write something that it must tell: at an etcd that others write, too, it would stay behind for as long as nothing is
    /// written here, and what it is at would be compacted.
    Mark,
    /// Begin it again: what it must tell it does not.
    Begin,
}

impl Lag {
    fn looked(&mut self, told: Revision, newest: Revision) -> Remedy {
        let is_behind = told < self.seen;
        self.seen = newest;
        if !is_behind {
            (self.looks, self.marked_at) = (0, None);
            return Remedy::Nothing;
        }
        self.looks += 1;
        if self.looks < LOOKS_BEHIND_MAX {
            return Remedy::Nothing;
        }
        self.looks = 0;
        // One that comes nearer is slow, and would not be faster from the beginning.
        match self.marked_at.take() {
            Some(at) if at == told => Remedy::Begin,
            _ => Remedy::Mark,
        }
    }
}

/// Looks until the store closes.
pub(super) async fn run(link: Arc<Link>) {
    let mut wait = AGAIN;
    let mut lag = Lag::default();
    loop {
        // What comes back may be a restored etcd: its last commits are looked for before the next is let in.
        let mut trouble = look(&link, link.trouble().is_some()).await;
        if trouble.is_some() && link.trouble().is_none() {
            // A connection that broke, or an answer that was late once, is none yet.
            tokio::time::sleep(AGAIN).await;
            trouble = look(&link, true).await;
        }
        let pause = match &trouble {
            None => EVERY,
            Some(_) => wait,
        };
        wait = if trouble.is_none() { AGAIN } else { (wait * 2).min(EVERY) };
        let is_well = trouble.is_none();
        link.set_trouble(trouble);
        if is_well {
            let told = link.hub.newest();
            match lag.looked(told, link.etcd_newest()) {
                Remedy::Nothing => {}
                Remedy::Mark => match link.mark(&link.known()).await {
                    Ok(_) => lag.marked_at = Some(told),
                    Err(error) => tracing::debug!(%error, "the watch's revision could not be raised"),
                },
                Remedy::Begin => {
                    tracing::warn!("etcd's watch is alive and tells nothing: it is begun again");
                    link.silence().await;
                }
            }
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = link.doubt.notified(), if is_well => tokio::time::sleep(DOUBT).await,
        }
    }
}

/// Why etcd takes no writes now.
async fn look(link: &Link, thorough: bool) -> Option<Trouble> {
    let told = |error: LookError| {
        let foreign = matches!(error, LookError::Foreign(_) | LookError::Newer(_) | LookError::Older);
        Trouble { why: wire::told(&error).into(), full: false, foreign }
    };
    if let Err(error) = link.verify(thorough).await {
        return Some(told(error));
    }
    let status: StatusResponse = match link.wire.call(wire::STATUS, &StatusRequest {}, LOOK_WAIT).await {
        Ok(status) => status,
        // Whoever may not ask is not told of alarms, and hears of them from the commits they refuse.
        Err(WireError::Refused { .. }) => return None,
        Err(error) => return Some(told(error.into())),
    };
    let alarm = status.errors.iter().find(|error| error.contains("NOSPACE") || error.contains("CORRUPT"))?;
    let full = alarm.contains("NOSPACE");
    let why = if full {
        "no space is left for etcd: compact and defragment it, then disarm its alarm".to_owned()
    } else {
        format!("etcd has an alarm: {alarm}")
    };
    Some(Trouble { why: why.into(), full, foreign: false })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remedies(lag: &mut Lag, looks: impl IntoIterator<Item = (u64, u64)>) -> Vec<Remedy> {
        let looked = looks.into_iter().map(|(told, newest)| lag.looked(Revision(told), Revision(newest)));
        looked.filter(|remedy| *remedy != Remedy::Nothing).collect()
    }

    #[test]
    fn a_watch_that_does_not_even_tell_the_mark_is_begun_again() {
        let mut lag = Lag::default();
        let many = LOOKS_BEHIND_MAX as usize + 1;
        assert_eq!(remedies(&mut lag, [(5, 9); 6]), [Remedy::Mark]);
        lag.marked_at = Some(Revision(5));
        // As others write: it is behind, but has told.
        assert_eq!(remedies(&mut lag, (10..20).map(|newest| (newest, newest + 1))), []);
        assert_eq!(remedies(&mut lag, vec![(20, 30); many]), [Remedy::Mark]);
        lag.marked_at = Some(Revision(20));
        assert_eq!(remedies(&mut lag, (21..21 + many as u64).map(|told| (told, 90))), [Remedy::Mark]);
        lag.marked_at = Some(Revision(26));
        assert_eq!(remedies(&mut lag, vec![(26, 90); many]), [Remedy::Begin]);
        // And not each time from then on.
        assert_eq!(remedies(&mut lag, vec![(26, 90); many]), [Remedy::Mark]);
    }
}
