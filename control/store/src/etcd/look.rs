//! Looks at etcd from time to time: whether it is there, takes writes, and is still the history it was; and whether the watch
//! has come to where etcd is.

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
/// How many looks the watch may be behind before its revision is raised by a commit: at an etcd that others write, too, it
/// would stay behind for as long as nothing is written here, and what it is at would be compacted.
const LOOKS_BEHIND_MAX: u32 = 5;

/// Looks until the store closes.
pub(super) async fn run(link: Arc<Link>) {
    let mut wait = AGAIN;
    let (mut seen, mut behind) = (Revision(0), 0);
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
            behind = if link.hub.newest() < seen { behind + 1 } else { 0 };
            seen = link.etcd_newest();
            if behind >= LOOKS_BEHIND_MAX {
                behind = 0;
                if let Err(error) = link.mark().await {
                    tracing::debug!(%error, "the watch's revision could not be raised");
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
        let foreign = matches!(error, LookError::Foreign(_) | LookError::Newer(_));
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
