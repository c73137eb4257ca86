//! What loops ask about a Pod: ready, available, whose it is. Also how names and conditions are made.

use jiff::Timestamp;
use weft_api::meta::{ObjectMeta, OwnerReference};
use weft_api::view::Pod;
use weft_api::view::node::Condition;

use crate::record::seconds;

/// Whether the Pod takes part in a workload's count: not ended, not on its way out.
pub(crate) fn is_active(pod: &Pod) -> bool {
    !pod.status.is_finished() && !pod.metadata.is_terminating()
}

/// Whether the Pod's `Ready` condition is true.
pub(crate) fn is_ready(pod: &Pod) -> bool {
    pod.status.has("Ready")
}

/// Milliseconds until a ready Pod counts as available, 0 when it does; none for one that is not ready.
pub(crate) fn available_in_ms(pod: &Pod, min_ready_seconds: u32, now: Timestamp) -> Option<u64> {
    let ready = pod.status.conditions.iter().find(|c| c.type_ == "Ready" && c.status == "True")?;
    if min_ready_seconds == 0 {
        return Some(0);
    }
    let since = time_of(ready.last_transition_time.as_deref()).unwrap_or(now);
    let ready_ms = now.as_millisecond().saturating_sub(since.as_millisecond());
    Some(u64::try_from(i64::from(min_ready_seconds) * 1000 - ready_ms).unwrap_or(0))
}

/// A time as the API has it.
pub(crate) fn time_of(text: Option<&str>) -> Option<Timestamp> {
    text?.parse().ok()
}

/// Whether the object of this UID manages the one with this metadata.
pub(crate) fn is_controlled_by(meta: &ObjectMeta, uid: &str) -> bool {
    meta.controller().is_some_and(|owner| owner.uid == uid)
}

/// The controller, when it is of this kind.
pub(crate) fn controller_of<'a>(
    meta: &'a ObjectMeta,
    kind: &weft_api::kind::Kind,
) -> Option<&'a OwnerReference> {
    meta.controller().filter(|owner| owner.kind == kind.kind && owner.api_version == kind.api_version())
}

/// A suffix of five letters as `generateName` makes them: no vowels, so no words.
pub(crate) fn suffix(random: u64) -> String {
    const LETTERS: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
    let mut rest = mix(random);
    (0..5)
        .map(|_| {
            let letter = usize::try_from(rest % 27).unwrap_or(0);
            rest /= 27;
            char::from(LETTERS[letter])
        })
        .collect()
}

/// Spreads a number over all 64 bits (the finalizer of splitmix64), so that neighbours give unlike names.
pub(crate) fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Sets a condition in a list; the transition time moves only with the status. Whether anything changed.
pub(crate) fn set_condition(conditions: &mut Vec<Condition>, new: Condition, now: Timestamp) -> bool {
    let transition = Some(seconds(now));
    match conditions.iter_mut().find(|c| c.type_ == new.type_) {
        Some(old) => {
            if old.status == new.status && old.reason == new.reason && old.message == new.message {
                return false;
            }
            if old.status != new.status {
                old.last_transition_time = transition;
            }
            old.status = new.status;
            old.reason = new.reason;
            old.message = new.message;
            if new.last_update_time.is_some() {
                old.last_update_time = new.last_update_time;
            }
        }
        None => conditions.push(Condition { last_transition_time: transition, ..new }),
    }
    true
}

/// A condition without times.
pub(crate) fn condition(type_: &str, status: &str, reason: &str, message: impl Into<String>) -> Condition {
    Condition {
        type_: type_.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message: message.into(),
        ..Condition::default()
    }
}
