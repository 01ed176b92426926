//! What the kernel says about tasks that wait for a resource: pressure stall information.
//!
//! `/proc/pressure/cpu` and `/proc/pressure/memory` (Linux 4.20 and later, Documentation/accounting/
//! psi.rst) hold a line like `some avg10=1.53 avg60=0.87 avg300=0.20 total=8913465`: the share of the
//! last ten seconds in which at least one task waited. It is the sign of overload that does not
//! depend on what a call costs on this machine.

/// A share in hundredths of a per cent, as the kernel writes it: 0 to 10,000.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Share(u16);

impl Share {
    /// All of it.
    pub const WHOLE: Self = Self(10_000);

    /// So many per cent; 100 at most.
    pub const fn percent(percent: u8) -> Self {
        let percent = if percent > 100 { 100 } else { percent };
        Self(percent as u16 * 100)
    }

    /// In hundredths of a per cent.
    pub const fn hundredths(self) -> u16 {
        self.0
    }
}

/// Why a text does not tell the pressure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PressureError {
    /// No line `some` with a field `avg10`.
    #[error("no `some … avg10=` in it")]
    Missing,
    /// The number is none from 0.00 to 100.00.
    #[error("`avg10` is no number from 0.00 to 100.00")]
    Number,
}

/// Reads `some avg10` out of the contents of a file in `/proc/pressure`.
///
/// # Errors
/// [`PressureError`]; the contents of other files, too.
pub fn some_avg10(text: &str) -> Result<Share, PressureError> {
    let line = text.lines().find_map(|line| line.strip_prefix("some "));
    let mut fields = line.ok_or(PressureError::Missing)?.split_ascii_whitespace();
    let number = fields.find_map(|field| field.strip_prefix("avg10="));
    share(number.ok_or(PressureError::Missing)?).ok_or(PressureError::Number)
}

/// `12.34`, with two digits behind the point as the kernel has them.
fn share(number: &str) -> Option<Share> {
    let (whole, hundredths) = number.split_once('.')?;
    let is_number = |digits: &str| digits.bytes().all(|digit| digit.is_ascii_digit());
    if hundredths.len() != 2 || !is_number(whole) || !is_number(hundredths) {
        return None;
    }
    let whole: u16 = whole.parse().ok()?;
    let hundredths: u16 = hundredths.parse().ok()?;
    let share = Share(whole.checked_mul(100)?.checked_add(hundredths)?);
    (share <= Share::WHOLE).then_some(share)
}

/// When pressure counts as strain, and when it no longer does.
///
/// `low` lies below `high`, so that a node at the limit does not change its admission with every
/// reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Threshold {
    /// From here on the node is strained.
    pub high: Share,
    /// Below this it is no longer.
    pub low: Share,
}

impl Threshold {
    /// 60 % and 40 % of CPU. Chosen: a machine with all cores busy and a short queue reads about
    /// half of that.
    pub const CPU: Self = Self {
        high: Share::percent(60),
        low: Share::percent(40),
    };
    /// 20 % and 10 % of memory. Chosen: reclaim in the path of calls is heard as stutter long before
    /// the machine swaps.
    pub const MEMORY: Self = Self {
        high: Share::percent(20),
        low: Share::percent(10),
    };
    /// Never strained: for who does not want the pressure looked at.
    pub const NEVER: Self = Self {
        high: Share(u16::MAX),
        low: Share(u16::MAX),
    };
}

/// Whether one resource is strained.
#[derive(Clone, Copy, Debug)]
pub(super) struct Strain {
    threshold: Threshold,
    last: Share,
    is_high: bool,
}

impl Strain {
    pub(super) const fn new(threshold: Threshold) -> Self {
        Self {
            threshold,
            last: Share(0),
            is_high: false,
        }
    }

    pub(super) fn set_threshold(&mut self, threshold: Threshold) {
        self.threshold = threshold;
        self.read(self.last);
    }

    pub(super) fn read(&mut self, share: Share) {
        self.last = share;
        self.is_high = if self.is_high {
            share >= self.threshold.low
        } else {
            share >= self.threshold.high
        };
    }

    pub(super) const fn is_high(&self) -> bool {
        self.is_high
    }

    /// The share of new calls that the resource bears, in thousandths: all below the low threshold,
    /// none from the high one on, evenly less in between.
    pub(super) fn bears_permille(&self) -> u16 {
        let (low, high) = (self.threshold.low.0, self.threshold.high.0);
        if self.is_high || self.last.0 >= high {
            return 0;
        }
        let Some(above) = self.last.0.checked_sub(low) else {
            return 1000;
        };
        // last < high here, so the span is not zero and the quotient is below 1000.
        let span = u32::from(high.saturating_sub(low)).max(1);
        (1000 - u32::from(above) * 1000 / span) as u16
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CPU: &str = "some avg10=1.53 avg60=0.87 avg300=0.20 total=8913465\n\
                       full avg10=0.00 avg60=0.00 avg300=0.00 total=0\n";

    #[test]
    fn what_the_kernel_writes() {
        assert_eq!(some_avg10(CPU), Ok(Share(153)));
        let full_first = "full avg10=99.00 avg60=0.87\nsome avg60=3.00 avg10=100.00\n";
        assert_eq!(some_avg10(full_first), Ok(Share::WHOLE));
    }

    #[test]
    fn what_it_does_not_write() {
        let missing = ["", "full avg10=1.00", "some avg60=1.00", "someavg10=1.00"];
        for text in missing {
            assert_eq!(some_avg10(text), Err(PressureError::Missing), "{text:?}");
        }
        for number in [
            "", "1", "1.5", "-1.00", "+1.00", "100.01", "1.0x", "99999.00", ".", "nan",
        ] {
            let text = format!("some avg10={number} avg60=0.00");
            assert_eq!(some_avg10(&text), Err(PressureError::Number), "{text:?}");
        }
    }

    #[test]
    fn strain_holds_between_the_thresholds() {
        let mut strain = Strain::new(Threshold::CPU);
        let readings = [
            (39, false, 1000),
            (50, false, 500),
            (59, false, 50),
            (60, true, 0),
            (41, true, 0),
            (40, true, 0),
            (39, false, 1000),
            (59, false, 50),
        ];
        for (percent, is_high, bears) in readings {
            strain.read(Share::percent(percent));
            assert_eq!(strain.is_high(), is_high, "{percent}");
            assert_eq!(strain.bears_permille(), bears, "{percent}");
        }
        strain.set_threshold(Threshold::MEMORY);
        assert!(strain.is_high(), "59 % is much for memory");
        let mut never = Strain::new(Threshold::NEVER);
        never.read(Share::WHOLE);
        assert_eq!((never.is_high(), never.bears_permille()), (false, 1000));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "\\PC*|(some |avg10=|[0-9]{1,6}|\\.|\n){0,12}") {
            let _ = some_avg10(&text);
        }

        #[test]
        fn every_share_is_read(hundredths in 0u16..=10_000) {
            let text = format!("some avg10={}.{:02} avg60=0.00", hundredths / 100, hundredths % 100);
            prop_assert_eq!(some_avg10(&text), Ok(Share(hundredths)));
        }
    }
}
