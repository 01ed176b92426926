//! What the demo shows on the terminal.

use std::fmt::Display;
use std::io::{IsTerminal, stdout};

use super::Args;

const PICTURE: &str = r"
    switch                       LB                        access nodes
  ┌─────────┐  SIP      ┌──────────────────┐        ┌──────────────────────────┐
  │  SIPp   ├──────────►│ XDP: Call-ID     ├───────►│ 1  redirect ──► SIPp     │
  │ calls   │ to the VIP│  → node, in the  ├───────►│ 2  redirect ──► SIPp     │
  │ the VIP │           │  driver          ├───────►│ 3  redirect ──► Kamailio │
  └────▲────┘           └────────▲─────────┘        └──┬────────────────────┬──┘
       │                         └── beacons, 20 ms ───┘                    │
       └────────────────── answers, straight to the switch ─────────────────┘
";

/// Says what is there and what will happen.
pub(super) fn introduce(args: &Args) {
    println!(
        "{}: SIP steered by Call-ID in the kernel, by nodes' health as the data plane sees it",
        bold("Pointsman")
    );
    println!("{PICTURE}");
    println!("  1  How many calls a second does this machine carry with nothing in between?");
    println!(
        "  2  {} calls through the LB at that rate, every fifth with a re-INVITE",
        count(args.calls())
    );
    println!("  3  On the way: kill -9 of all of node 2's daemons; later they come back");
    println!("  4  And kill -9 of the LB's controller; later it comes back, too");
    println!("  5  A full node, whose calls are taken by the others, message by message");
    println!(
        "  6  At last two LBs: the main is lost with calls in progress, the stand-by takes over"
    );
    println!("     Recorders on every port tell which call went where, and what was lost");
}

/// Begins a part.
pub(super) fn step(title: &str) {
    println!("\n{}", bold(title));
}

/// A line of a part.
pub(super) fn line(text: impl Display) {
    println!("  {text}");
}

/// Something that the demo does to the lab.
pub(super) fn event(text: &str) {
    println!("  {} {text}", paint("33;1", "»"));
}

/// A number with thousands set apart.
pub(super) fn count(number: impl Into<u64>) -> String {
    let digits = number.into().to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Text that stands out.
pub(super) fn bold(text: &str) -> String {
    paint("1", text)
}

/// A verdict, in its colour.
pub(super) fn verdict(word: &str) -> String {
    let code = match word {
        "PASS" => "32;1",
        "FAIL" => "31;1",
        _ => "33;1",
    };
    paint(code, word)
}

fn paint(code: &str, text: &str) -> String {
    if stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none() {
        format!("\x1b[{code}m{text}\x1b[0m")
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_set_apart() {
        assert_eq!(count(0_u32), "0");
        assert_eq!(count(999_u32), "999");
        assert_eq!(count(1_000_u32), "1,000");
        assert_eq!(count(12_345_678_u32), "12,345,678");
    }
}
