//! The stations of a packet's walk, in their order.

use crate::numbered::numbered;

numbered! {
    /// A station. Numbers are stable for ever; 5 is kept for policy.
    Station {
        /// Headers are read.
        Parse = 1, "parse";
        /// Ports of later fragments are found.
        Fragment = 2, "fragment";
        /// The flow is found, or begun.
        Track = 3, "track";
        /// A Service address is given a backend.
        Balance = 4, "balance";
        /// Where the destination is.
        Route = 6, "route";
        /// Addresses and ports are replaced.
        Translate = 7, "translate";
        /// Balancing at connect, before there is a packet.
        Socket = 8, "socket";
    }
}

/// The order in which a packet meets its stations. Policy is not among them before there are rules to enforce.
pub const WALK: [Station; 6] =
    [Station::Parse, Station::Fragment, Station::Track, Station::Balance, Station::Route, Station::Translate];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_walk_goes_by_rising_numbers() {
        assert!(WALK.is_sorted());
        assert_eq!(Station::try_from(5), Err(5));
    }
}
