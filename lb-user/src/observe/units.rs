//! Numbers as people read them. JSON and metrics have the exact ones.

use std::time::Duration;

/// A count in at most seven characters.
pub(crate) fn count(number: u64) -> String {
    const UNITS: [&str; 6] = ["k", "M", "G", "T", "P", "E"];
    if number < 1_000_000 {
        return number.to_string();
    }
    let mut scaled = number as f64;
    let mut unit = "";
    for next in UNITS {
        if scaled < 999.95 {
            break;
        }
        scaled /= 1_000.0;
        unit = next;
    }
    let digits = if scaled < 9.995 { 2 } else { 1 };
    format!("{scaled:.digits$}{unit}")
}

/// How often in a second.
pub(crate) fn rate(events: u64, interval: Duration) -> f64 {
    events as f64 / interval.as_secs_f64().max(0.001)
}

/// A rate in at most seven characters.
pub(crate) fn rate_text(rate: f64) -> String {
    match rate {
        0.0 => "0".to_owned(),
        0.0..10.0 => format!("{rate:.2}"),
        10.0..100.0 => format!("{rate:.1}"),
        _ => count(rate.round() as u64),
    }
}

/// A duration in its largest unit that fits.
pub(crate) fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    match duration.as_secs() {
        0 => format!("{} ms", duration.as_millis()),
        1..=9 => format!("{seconds:.1} s"),
        10..=119 => format!("{seconds:.0} s"),
        120..=7_199 => format!("{:.0} min", seconds / 60.0),
        7_200..=172_799 => format!("{:.0} h", seconds / 3_600.0),
        _ => format!("{:.0} d", seconds / 86_400.0),
    }
}

/// A part of a whole, in percent with one place; a hyphen for a part of nothing.
pub(crate) fn share(part: u64, whole: u64) -> String {
    match whole {
        0 => "-".to_owned(),
        whole => format!("{:.1}", part as f64 * 100.0 / whole as f64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stay_short() {
        for (number, text) in [
            (0, "0"),
            (999_999, "999999"),
            (1_000_000, "1.00M"),
            (9_995_000, "10.0M"),
            (123_456_789, "123.5M"),
            (999_950_000, "1.00G"),
            (u64::MAX, "18.4E"),
        ] {
            assert_eq!(count(number), text);
        }
        for (rate, text) in [(0.0, "0"), (0.5, "0.50"), (12.34, "12.3"), (4321.5, "4322")] {
            assert_eq!(rate_text(rate), text);
        }
        assert_eq!(rate(50, Duration::from_millis(500)), 100.0);
        assert_eq!(rate(0, Duration::ZERO), 0.0);
    }

    #[test]
    fn durations_have_the_unit_that_fits() {
        for (ms, text) in [
            (4, "4 ms"),
            (999, "999 ms"),
            (1_250, "1.2 s"),
            (64_000, "64 s"),
            (130_000, "2 min"),
            (14_400_000, "4 h"),
            (864_000_000, "10 d"),
        ] {
            assert_eq!(duration(Duration::from_millis(ms)), text);
        }
        assert_eq!(share(1, 3), "33.3");
        assert_eq!(share(0, 0), "-");
    }
}
