//! Cuts DWARF out of a BPF object and leaves the rest alone.
//!
//! DWARF is five sixths of what bpf-linker writes, and no loader reads it. BTF stays: it describes
//! the maps, and the kernel shows it. `.BTF.ext` stays too: with it the verifier prints source lines
//! beside the instructions that it refuses. This is done here because the tools that could do it
//! (`llvm-strip`, `bpftool gen object`) differ between machines in what they write.

use anyhow::{Context, Result};
use object::build::elf::{Builder, SectionData};
use object::elf::SHT_STRTAB;
use object::read::{Object, ObjectSection};

/// `object` without its DWARF sections and their relocations and symbols.
pub(crate) fn without_dwarf(object: &[u8]) -> Result<Vec<u8>> {
    let mut builder = Builder::read(object).context("not an ELF object")?;
    for section in &mut builder.sections {
        section.delete = is_dwarf(&section.name);
    }
    builder.delete_orphans();
    name_sections_apart(&mut builder);
    let mut stripped = Vec::new();
    builder
        .write(&mut stripped)
        .context("the object cannot be written again")?;
    Ok(stripped)
}

/// LLVM keeps the names of symbols and of sections in one table; the builder wants two.
fn name_sections_apart(builder: &mut Builder<'_>) {
    let is_names = |data: &SectionData<'_>| matches!(data, SectionData::SectionString);
    if builder
        .sections
        .iter()
        .any(|section| is_names(&section.data))
    {
        return;
    }
    let names = builder.sections.add();
    names.name = b".shstrtab".as_slice().into();
    names.sh_type = SHT_STRTAB;
    names.sh_addralign = 1;
    names.data = SectionData::SectionString;
}

fn is_dwarf(name: &[u8]) -> bool {
    name.starts_with(b".debug_") || name.starts_with(b".rel.debug_")
}

/// Which sections differ between two objects, in words; for a person who must find out why.
pub(crate) fn differences(committed: &[u8], fresh: &[u8]) -> Result<Vec<String>> {
    let committed = object::File::parse(committed).context("the committed object")?;
    let fresh = object::File::parse(fresh).context("the fresh object")?;
    let mut differences = Vec::new();
    for section in committed.sections() {
        let name = section.name()?;
        match fresh.section_by_name(name) {
            None => differences.push(format!("{name} is only in the committed object")),
            Some(other) if section.data()? != other.data()? => differences.push(format!(
                "{name} differs: {} bytes committed, {} bytes fresh",
                section.size(),
                other.size()
            )),
            Some(_) => {}
        }
    }
    for section in fresh.sections() {
        let name = section.name()?;
        if committed.section_by_name(name).is_none() {
            differences.push(format!("{name} is only in the fresh object"));
        }
    }
    Ok(differences)
}
