//! Runs other programs: what they were, in words, when they fail.

use std::io::Write;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// Runs to the end with this terminal's input and output; fails unless it says 0.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("{} cannot be started", words(command)))?;
    if !status.success() {
        bail!("`{}` failed: {status}", words(command));
    }
    Ok(())
}

/// Runs to the end and gives what it printed; what it complains about is part of the error.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("{} cannot be started", words(command)))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        bail!("`{}` failed: {}: {}", words(command), output.status, stderr.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Like [`output`], with text on its standard input.
pub(crate) fn output_with_input(command: &mut Command, input: &str) -> Result<String> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("{} cannot be started", words(command)))?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes()).with_context(|| format!("{} takes no input", words(command)))?;
    }
    let output = child.wait_with_output().with_context(|| format!("{} is lost", words(command)))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        bail!("`{}` failed: {}: {}", words(command), output.status, stderr.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Whether it can be started and says 0; its output is thrown away.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// The command as one would type it.
pub(crate) fn words(command: &Command) -> String {
    let mut words = command.get_program().to_string_lossy().into_owned();
    for arg in command.get_args() {
        words.push(' ');
        words.push_str(&arg.to_string_lossy());
    }
    words
}

/// Asks again every `pause_ms` until there is an answer; after `limit` the last reason why not is the error.
pub(crate) fn wait_for<T>(
    what: &str,
    limit: Duration,
    pause_ms: u64,
    mut ask: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let began = Instant::now();
    loop {
        let why = match ask() {
            Ok(Some(answer)) => return Ok(answer),
            Ok(None) => None,
            Err(error) => Some(error),
        };
        if began.elapsed() >= limit {
            let waited = format!("waited {} s for {what}", limit.as_secs());
            return Err(match why {
                Some(error) => error.context(waited),
                None => anyhow::anyhow!(waited),
            });
        }
        thread::sleep(Duration::from_millis(pause_ms));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_the_command_and_its_complaint() {
        let error =
            output(Command::new("sh").args(["-c", "echo no luck >&2; exit 3"])).unwrap_err().to_string();
        assert!(error.contains("exit 3") && error.contains("no luck"), "{error}");
    }

    #[test]
    fn input_is_passed_on() {
        assert_eq!(output_with_input(&mut Command::new("cat"), "one\ntwo\n").unwrap(), "one\ntwo\n");
    }

    #[test]
    fn waiting_is_bounded_and_keeps_the_reason() {
        let error =
            wait_for::<()>("rain", Duration::from_millis(20), 5, || bail!("the sky is blue")).unwrap_err();
        assert_eq!(format!("{error:#}"), "waited 0 s for rain: the sky is blue");
        let mut left = 3;
        let answer = wait_for("zero", Duration::from_secs(5), 1, || {
            left -= 1;
            Ok((left == 0).then_some("zero"))
        });
        assert_eq!(answer.unwrap(), "zero");
    }
}
