//! The machine a benchmark ran on, in the words its reader needs: no names, no addresses.

use std::fs;

/// A line each for the processor, memory and kernel.
pub(crate) fn describe() -> String {
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    lines(&cpus, &memory, kernel.trim())
}

fn lines(cpus: &str, memory: &str, kernel: &str) -> String {
    let models: Vec<&str> = cpus.lines().filter_map(|line| value(line, "model name")).collect();
    let gigabytes = memory
        .lines()
        .find_map(|line| value(line, "MemTotal"))
        .and_then(|text| text.split_whitespace().next()?.parse::<u64>().ok())
        .map_or(0, |kilobytes| (kilobytes + (1 << 19)) >> 20);
    let model = models.first().copied().unwrap_or("a processor without a name");
    format!("- {} × {model}\n- {gigabytes} GiB of memory\n- Linux {kernel}\n", models.len().max(1))
}

fn value<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let (key, value) = line.split_once(':')?;
    (key.trim() == name).then_some(value.trim())
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_machine_is_read_from_proc() {
        let cpus = "processor\t: 0\nmodel name\t: Some CPU @ 2.0GHz\n\nprocessor\t: 1\nmodel name\t: Some CPU @ 2.0GHz\n";
        let text = super::lines(cpus, "MemTotal:       24689012 kB\n", "6.18.1");
        assert_eq!(text, "- 2 × Some CPU @ 2.0GHz\n- 24 GiB of memory\n- Linux 6.18.1\n");
    }
}
