//! What the bench is told: `WEFT_EBPF_OBJECT`, and flags.

use std::path::PathBuf;
use std::time::Duration;

/// How it is measured.
pub(crate) struct Options {
    /// The eBPF object.
    pub(crate) object: PathBuf,
    /// Rounds that count.
    pub(crate) rounds: usize,
    /// Time of one measurement.
    pub(crate) time: Duration,
    /// Numbers of Services.
    pub(crate) services: Vec<usize>,
}

impl Options {
    /// From the environment and the command line.
    ///
    /// # Errors
    /// What is missing or not understood, in words.
    pub(crate) fn read() -> Result<Self, String> {
        let mut options = Self {
            object: std::env::var_os("WEFT_EBPF_OBJECT")
                .map(PathBuf::from)
                .ok_or("WEFT_EBPF_OBJECT is not set")?,
            rounds: 9,
            time: Duration::from_millis(300),
            services: vec![1, 1_000, 10_000],
        };
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| format!("{word} wants a value"));
            let number = |text: String| text.parse().map_err(|_| format!("{text:?} is no number"));
            match word.as_str() {
                "--bench" => {}
                "--rounds" => options.rounds = number(value()?)?,
                "--milliseconds" => options.time = Duration::from_millis(number(value()?)? as u64),
                "--services" => {
                    options.services =
                        value()?.split(',').map(|n| number(n.to_owned())).collect::<Result<_, _>>()?;
                }
                other => return Err(format!("no option {other:?}")),
            }
        }
        if options.rounds == 0 || options.services.is_empty() || options.services.contains(&0) {
            return Err("at least one round, and at least one Service".to_owned());
        }
        Ok(options)
    }
}
