//! What the program costs the kernel's verifier: recorded, and bounded well below what the kernel
//! allows, so that another compiler or kernel does not tip it over.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use lb_user::plane::{LoadOptions, Plane};
use pointsman_tests::bench::bpf;
use serde::Deserialize;

/// `BPF_COMPLEXITY_LIMIT_INSNS` of the kernel (since 5.2).
const KERNEL_LIMIT: u32 = 1_000_000;

/// `tests/fixtures/verifier.json`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    /// The count when it was last looked at. Depends on the kernel a little.
    recorded: u32,
    /// What it must stay under.
    bound: u32,
}

#[test]
fn the_program_stays_well_inside_the_verifiers_patience() -> Result<()> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/verifier.json");
    let record: Record = serde_json::from_str(&fs::read_to_string(path)?)?;
    let plane = Plane::load(&LoadOptions::default())?;
    let program = plane.steering_fd().context("the program is not loaded")?;
    let facts = bpf::program_facts(program)?;
    println!(
        "{} instructions verified of {KERNEL_LIMIT} ({} when recorded, {} allowed here); \
         {} bytes of bytecode, {} of machine code",
        facts.verified_instructions,
        record.recorded,
        record.bound,
        facts.translated_len,
        facts.machine_len
    );
    ensure!(facts.verified_instructions > 0, "the kernel does not tell");
    ensure!(record.bound < KERNEL_LIMIT);
    ensure!(
        facts.verified_instructions < record.bound,
        "{} instructions verified; if that is meant, raise the bound in tests/fixtures/verifier.json",
        facts.verified_instructions
    );
    // A jump that nobody notices is what the record is for.
    ensure!(
        facts.verified_instructions.abs_diff(record.recorded) <= record.recorded / 4,
        "{} instructions verified, {} when recorded: record it anew in tests/fixtures/verifier.json",
        facts.verified_instructions,
        record.recorded
    );
    Ok(())
}
