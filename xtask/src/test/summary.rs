//! Counting test results from what libtest prints.

/// What the test programs have said so far.
#[derive(Default, Debug)]
pub(crate) struct Summary {
    passed: u32,
    failed: u32,
    /// Names of tests that failed.
    pub(crate) failures: Vec<String>,
    /// Names of tests marked `#[ignore]`, with the reason if one is given.
    pub(crate) ignored: Vec<String>,
    /// Tests that ended early because something is missing on this machine. libtest counts them as
    /// passed; they report themselves.
    pub(crate) skipped: Vec<String>,
    /// How many failures earlier programs account for.
    explained: u32,
}

impl Summary {
    /// Takes in one line of libtest's output.
    pub(crate) fn read(&mut self, line: &str) {
        let line = without_colours(line);
        if let Some(counts) = line.strip_prefix("test result: ") {
            self.passed += count(counts, "passed");
            self.failed += count(counts, "failed");
        } else if let Some((name, result)) = line
            .strip_prefix("test ")
            .and_then(|rest| rest.rsplit_once(" ... "))
        {
            match result {
                "FAILED" => self.failures.push(name.to_owned()),
                "ignored" => self.ignored.push(name.to_owned()),
                _ => {
                    if let Some(reason) = result.strip_prefix("ignored, ") {
                        self.ignored.push(format!("{name} ({reason})"));
                    }
                }
            }
        }
    }

    /// Takes in that a program failed. A test that says so is counted already; a crash is not.
    pub(crate) fn a_run_failed(&mut self, program: &str, status: &str) {
        if self.failed == self.explained {
            self.failed += 1;
            self.failures
                .push(format!("{program} ended early ({status})"));
        }
        self.explained = self.failed;
    }

    /// Whether all is well; else what is not. `strict` lets nothing be left out.
    pub(crate) fn verdict(&self, strict: bool) -> Result<(), &'static str> {
        if self.failed > 0 {
            Err("some tests failed")
        } else if strict && self.left_out() > 0 {
            Err("some tests were left out, which counts as failed in CI")
        } else if strict && self.passed == 0 {
            Err("no test ran, which counts as failed in CI")
        } else {
            Ok(())
        }
    }

    /// `12 passed, 0 failed, 1 skipped`.
    pub(crate) fn closing_line(&self) -> String {
        let skipped = u32::try_from(self.skipped.len()).unwrap_or(u32::MAX);
        format!(
            "{} passed, {} failed, {} skipped",
            self.passed.saturating_sub(skipped),
            self.failed,
            self.left_out()
        )
    }

    fn left_out(&self) -> usize {
        self.ignored.len() + self.skipped.len()
    }
}

/// The number before `what` in `ok. 5 passed; 0 failed; 1 ignored`.
fn count(counts: &str, what: &str) -> u32 {
    let words: Vec<&str> = counts
        .split([' ', ';', '.'])
        .filter(|word| !word.is_empty())
        .collect();
    words
        .windows(2)
        .find(|pair| pair[1] == what)
        .and_then(|pair| pair[0].parse().ok())
        .unwrap_or_default()
}

/// `line` without the escape codes that set colours.
fn without_colours(line: &str) -> String {
    let mut pieces = line.split('\x1b');
    let mut plain = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        // `[32m` and then text; `(B` is the other half of a terminal's reset.
        let text = piece
            .strip_prefix("(B")
            .or_else(|| Some(piece.split_once('m')?.1));
        plain.push_str(text.unwrap_or(piece));
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "\
running 4 tests
test home::moves_nothing ... ok
test pin::expires ... FAILED
test gue::decapsulates ... ignored, needs a kernel with FOU
test top::draws ... ignored

test result: FAILED. 1 passed; 1 failed; 2 ignored; 0 measured; 0 filtered out; finished in 0.00s
test result: ok. 20 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.50s";

    fn summary(output: &str) -> Summary {
        let mut summary = Summary::default();
        output.lines().for_each(|line| summary.read(line));
        summary
    }

    #[test]
    fn results_are_added_up_and_named() {
        let summary = summary(OUTPUT);
        assert_eq!(summary.closing_line(), "21 passed, 1 failed, 2 skipped");
        assert_eq!(summary.failures, ["pin::expires"]);
        assert_eq!(
            summary.ignored,
            ["gue::decapsulates (needs a kernel with FOU)", "top::draws"]
        );
        assert!(summary.verdict(false).is_err());
    }

    #[test]
    fn colours_do_not_hide_results() {
        let summary = summary(
            "test a ... \x1b[31mFAILED\x1b(B\x1b[m\n\
             test result: \x1b[31mFAILED\x1b[0m. 0 passed; 1 failed; 0 ignored",
        );
        assert_eq!(summary.closing_line(), "0 passed, 1 failed, 0 skipped");
        assert_eq!(summary.failures, ["a"]);
    }

    #[test]
    fn a_test_that_skipped_itself_did_not_pass() {
        let mut summary = summary("test result: ok. 3 passed; 0 failed; 0 ignored");
        summary.skipped.push("bridge: no permission".to_owned());
        assert_eq!(summary.closing_line(), "2 passed, 0 failed, 1 skipped");
        assert!(summary.verdict(false).is_ok());
        assert!(summary.verdict(true).is_err());
    }

    #[test]
    fn a_crash_without_a_count_is_a_failure() {
        let mut summary = summary(OUTPUT);
        summary.a_run_failed("honest", "exit status: 101");
        assert_eq!(summary.closing_line(), "21 passed, 1 failed, 2 skipped");
        summary.a_run_failed("crashed", "signal: 11");
        assert_eq!(summary.closing_line(), "21 passed, 2 failed, 2 skipped");
        assert!(
            summary
                .failures
                .iter()
                .any(|failure| failure.starts_with("crashed ended early"))
        );
    }

    #[test]
    fn nothing_at_all_is_no_success_in_ci() {
        assert!(Summary::default().verdict(false).is_ok());
        assert!(Summary::default().verdict(true).is_err());
    }
}
