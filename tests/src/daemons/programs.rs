//! Where the programs under test are.

use std::env;
use std::path::PathBuf;

use anyhow::{Result, bail};

/// The path of a program: in `$POINTSMAN_BIN_DIR`, else beside this executable, else (for tests,
/// which cargo puts into `deps`) one directory up.
///
/// # Errors
/// It has not been built.
pub fn program(name: &str) -> Result<PathBuf> {
    let own = env::current_exe()?;
    let named = env::var_os("POINTSMAN_BIN_DIR").map(PathBuf::from);
    let places = named
        .into_iter()
        .chain(own.ancestors().skip(1).take(2).map(PathBuf::from));
    let mut looked_in = Vec::new();
    for place in places {
        let path = place.join(name);
        if path.is_file() {
            return Ok(path);
        }
        looked_in.push(place.display().to_string());
    }
    bail!(
        "no program {name} in {}: run `cargo xtask build`",
        looked_in.join(" or ")
    )
}
