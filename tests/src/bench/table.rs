//! Rows: as a table for people, as a list for programs.

use serde::Serialize;

/// One row. `net_ns`, `frames_per_s` or `ratio` is the median once more, under the name of its unit.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// What was measured.
    pub name: String,
    /// Nanoseconds of CPU time a packet above the floor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub net_ns: Option<f64>,
    /// Nanoseconds of CPU time a packet, for the floors themselves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub floor_ns: Option<f64>,
    /// Frames or messages a second through one core.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frames_per_s: Option<f64>,
    /// How many times as many.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ratio: Option<f64>,
    /// The median of the runs.
    pub median: f64,
    /// The least.
    pub min: f64,
    /// The greatest.
    pub max: f64,
    /// How many.
    pub runs: usize,
}

/// What a row's numbers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Nanoseconds above the floor.
    NetNs,
    /// Nanoseconds of a floor.
    FloorNs,
    /// Frames or messages a second.
    FramesPerSecond,
    /// One rate over another.
    Ratio,
}

impl Row {
    /// The row of these runs.
    pub fn new(name: &str, unit: Unit, runs: &[f64]) -> Self {
        let mut sorted = runs.to_vec();
        sorted.sort_by(f64::total_cmp);
        let at = |place: usize| sorted.get(place).copied().unwrap_or(f64::NAN);
        let median = at(sorted.len() / 2);
        let in_unit = |wanted| (unit == wanted).then_some(median);
        Self {
            name: name.to_owned(),
            net_ns: in_unit(Unit::NetNs),
            floor_ns: in_unit(Unit::FloorNs),
            frames_per_s: in_unit(Unit::FramesPerSecond),
            ratio: in_unit(Unit::Ratio),
            median,
            min: at(0),
            max: at(sorted.len().saturating_sub(1)),
            runs: sorted.len(),
        }
    }
}

/// Prints the rows of one unit, under a heading.
pub fn print(heading: &str, rows: &[Row]) {
    println!("\n{heading}");
    println!(
        "  {:<36} {:>12} {:>12} {:>12} {:>5}",
        "", "median", "min", "max", "runs"
    );
    for row in rows {
        let digits = match (row.frames_per_s, row.ratio) {
            (Some(_), _) => 0,
            (_, Some(_)) => 2,
            _ => 1,
        };
        println!(
            "  {:<36} {:>12.digits$} {:>12.digits$} {:>12.digits$} {:>5}",
            row.name, row.median, row.min, row.max, row.runs
        );
    }
}
