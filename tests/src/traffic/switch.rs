//! SIPp as the switch: calls at a rate, and what became of them.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::{following, sipp};
use crate::lab::{Lab, Process, Signal};

const SCENARIO: &str = include_str!("../../scenarios/switch.xml");

/// Calls to make.
#[derive(Clone, Copy, Debug)]
pub struct CallLoad {
    /// Where they go.
    pub target: SocketAddr,
    /// How many.
    pub calls: u32,
    /// How many a second.
    pub rate: u32,
    /// How long a call lasts once it is answered.
    pub talk: Duration,
}

/// What SIPp counts, over the whole run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CallStats {
    /// Calls begun.
    pub started: u32,
    /// Calls under way.
    pub current: u32,
    /// Calls that went through to the answer to their BYE.
    pub succeeded: u32,
    /// Calls that did not.
    pub failed: u32,
    /// Requests sent again because no answer had come.
    pub retransmissions: u32,
    /// Since SIPp started.
    pub elapsed: Duration,
}

/// SIPp, calling.
#[derive(Debug)]
pub struct Switch {
    process: Process,
    statistics: PathBuf,
    calls: u32,
}

impl Switch {
    /// Starts calling.
    ///
    /// # Errors
    /// SIPp is not installed.
    pub fn start(lab: &Lab, name: &str, load: &CallLoad) -> Result<Self> {
        Self::play(lab, name, load, SCENARIO)
    }

    /// Starts calling as a switch that follows 302. A call that is refused with 503 has succeeded, too.
    ///
    /// # Errors
    /// SIPp is not installed.
    pub fn start_following(lab: &Lab, name: &str, load: &CallLoad) -> Result<Self> {
        Self::play(lab, name, load, &following::scenario())
    }

    fn play(lab: &Lab, name: &str, load: &CallLoad, text: &str) -> Result<Self> {
        let scenario = lab.directory().join(format!("{name}.xml"));
        fs::write(&scenario, text).context("cannot write SIPp's scenario")?;
        let statistics = lab.directory().join(format!("{name}.csv"));
        let local = lab.switch.address(load.target.ip());
        let mut command = sipp::command(&lab.switch, &scenario, local);
        command.arg(load.target.to_string());
        command.args(["-s", "service"]);
        command.args(["-m", &load.calls.to_string(), "-r", &load.rate.to_string()]);
        command.args(["-d", &load.talk.as_millis().to_string()]);
        // Calls that hang must not keep new ones from coming: that would hide an outage.
        command.args(["-l", &load.calls.max(1000).to_string()]);
        command.args(["-recv_timeout", "8000"]);
        command
            .args(["-trace_stat", "-fd", "1", "-stf"])
            .arg(&statistics);
        command.args(["-trace_err", "-error_file"]);
        command.arg(lab.directory().join(format!("{name}-errors.log")));
        let process = Process::start(lab, name, command)?;
        Ok(Self {
            process,
            statistics,
            calls: load.calls,
        })
    }

    /// What it has counted up to the last full second.
    ///
    /// # Errors
    /// SIPp's statistics file is not as expected.
    pub fn stats(&self) -> Result<CallStats> {
        let Ok(text) = fs::read_to_string(&self.statistics) else {
            // SIPp writes it when the first second is over.
            return Ok(CallStats::default());
        };
        parse(&text).with_context(|| format!("in {}", self.statistics.display()))
    }

    /// Whether all calls are over.
    ///
    /// # Errors
    /// SIPp ended otherwise than after its calls.
    pub fn is_finished(&mut self) -> Result<bool> {
        let Some(exit) = self.process.poll()? else {
            return Ok(false);
        };
        // 0: all calls succeeded; 1: some failed.
        if !matches!(exit.code(), Some(0 | 1)) {
            bail!(
                "SIPp ended before its calls ({exit}){}",
                self.process.last_words()
            );
        }
        Ok(true)
    }

    /// Waits until all calls are over.
    ///
    /// # Errors
    /// They are not over in time, or SIPp ended otherwise.
    pub fn wait(&mut self, limit: Duration) -> Result<CallStats> {
        self.process.wait(limit)?;
        self.is_finished()?;
        let stats = self.stats()?;
        if stats.succeeded + stats.failed < self.calls {
            bail!(
                "SIPp reports on {} calls of {}",
                stats.succeeded + stats.failed,
                self.calls
            );
        }
        Ok(stats)
    }

    /// Makes no new calls: [`Self::wait`] then waits for those under way.
    ///
    /// # Errors
    /// SIPp has ended.
    pub fn stop(&mut self) -> Result<()> {
        self.calls = 0;
        self.process.signal(Signal::User1)
    }
}

/// Reads the last whole line of SIPp's statistics.
fn parse(text: &str) -> Result<CallStats> {
    let mut lines = text
        .split_inclusive('\n')
        .filter(|line| line.ends_with('\n'));
    let Some(header) = lines.next() else {
        return Ok(CallStats::default());
    };
    let Some(last) = lines.next_back() else {
        return Ok(CallStats::default());
    };
    let fields = header.trim_end().split(';').zip(last.trim_end().split(';'));
    let fields: std::collections::HashMap<_, _> = fields.collect();
    let field = |name: &str| {
        fields
            .get(name)
            .copied()
            .with_context(|| format!("no field {name}"))
    };
    let count = |name: &str| -> Result<u32> {
        let value = field(name)?;
        value
            .parse()
            .with_context(|| format!("field {name} says `{value}`"))
    };
    Ok(CallStats {
        started: count("TotalCallCreated")?,
        current: count("CurrentCall")?,
        succeeded: count("SuccessfulCall(C)")?,
        failed: count("FailedCall(C)")?,
        retransmissions: count("Retransmissions(C)")?,
        elapsed: duration(field("ElapsedTime(C)")?)?,
    })
}

/// Reads `00:01:02:345678` (or `.345678`): hours, minutes, seconds, microseconds.
fn duration(text: &str) -> Result<Duration> {
    let parts: Vec<u64> = text
        .split([':', '.'])
        .map(str::parse)
        .collect::<Result<_, _>>()
        .with_context(|| format!("`{text}` is no time"))?;
    let [hours, minutes, seconds, rest @ ..] = &parts[..] else {
        bail!("`{text}` is no time")
    };
    let micros = rest.first().copied().unwrap_or(0);
    Ok(Duration::from_secs(hours * 3600 + minutes * 60 + seconds) + Duration::from_micros(micros))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_whole_line_counts() -> Result<()> {
        let text = "StartTime;ElapsedTime(C);TotalCallCreated;CurrentCall;SuccessfulCall(C);\
                    FailedCall(C);Retransmissions(C);\n\
                    a;00:00:01:000000;10;2;8;0;1;\n\
                    a;00:01:02:500000;20;3;16;1;2;\n\
                    a;00:01:03";
        let stats = parse(text)?;
        assert_eq!(stats.started, 20);
        assert_eq!(stats.current, 3);
        assert_eq!(stats.succeeded, 16);
        assert_eq!(stats.failed, 1);
        assert_eq!(stats.retransmissions, 2);
        assert_eq!(stats.elapsed, Duration::from_millis(62_500));
        assert_eq!(parse("")?, CallStats::default());
        Ok(())
    }
}
