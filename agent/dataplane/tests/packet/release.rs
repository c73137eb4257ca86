//! What the running kernel can do, by its release.

/// Whether this kernel can take IPv6 out of IPv4: since 6.3.
pub(crate) fn takes_six_out() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").expect("the kernel's release");
    let mut numbers = release.split(['.', '-']).map(|number| number.parse().unwrap_or(0));
    (numbers.next(), numbers.next()) >= (Some(6), Some(3))
}
