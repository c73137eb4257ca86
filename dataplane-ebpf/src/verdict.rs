//! What a walk ends with, and the one place that turns it into the kernel's number.

use weft_dataplane_abi::reason::Reason;
use weft_dataplane_abi::station::Station;

const TCX_NEXT: i32 = -1;
const TCX_DROP: i32 = 2;
const TCX_REDIRECT: i32 = 7;

/// The end of a walk.
#[must_use]
#[derive(Clone, Copy)]
pub(crate) enum Verdict {
    /// Goes on to other owners' programs and the host's stack, or out of the device.
    Next,
    /// A redirect helper took it.
    Redirect,
    /// Ends here, for this reason.
    Drop(Station, Reason),
    /// Ends here, and what was the packet goes back as an answer that says so.
    Refused(Station, Reason),
}

impl Verdict {
    /// The kernel's number.
    #[inline(always)]
    pub(crate) const fn number(self) -> i32 {
        match self {
            Self::Next => TCX_NEXT,
            Self::Redirect | Self::Refused(..) => TCX_REDIRECT,
            Self::Drop(..) => TCX_DROP,
        }
    }

    /// What a redirect helper's answer means: it refuses flags and contexts only, never for want of a device.
    #[inline(always)]
    pub(crate) const fn redirected(answer: i64) -> Self {
        if answer == TCX_REDIRECT as i64 {
            Self::Redirect
        } else {
            Self::Drop(Station::Route, Reason::RewriteFailed)
        }
    }
}

/// A station lets the packet on with what it found, or ends the walk.
pub(crate) type Step<T> = Result<T, Verdict>;

/// Ends the walk with a drop.
#[inline(always)]
pub(crate) const fn drop<T>(station: Station, reason: Reason) -> Step<T> {
    Err(Verdict::Drop(station, reason))
}
